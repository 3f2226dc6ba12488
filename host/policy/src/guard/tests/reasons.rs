//! Each reason of refusal has a test.

use super::*;

/// Each reason has a test here or, if it needs a kernel or a full disk, in `tests/it/policy`.
#[test]
fn each_reason_has_a_distinct_word_and_a_test() {
    use crate::scope::Outside;
    let all = [
        Reason::NotGranted,
        Reason::Bounds,
        Reason::Nameless,
        Reason::Unspeakable(flowgate_netlink::EncodeError::Family { family: 7 }),
        Reason::Outside(Outside::Scope),
        Reason::Outside(Outside::Peer("source")),
        Reason::WouldLeave,
        Reason::WouldBeOutside,
        Reason::ByReply,
        Reason::Gone,
        Reason::Replaced,
        Reason::Exists,
        Reason::Collision,
        Reason::Master,
        Reason::Translation,
        Reason::Range,
        Reason::Again,
        Reason::InFlight,
        Reason::Rate,
        Reason::Entries(1),
        Reason::TableShare(1),
        Reason::Time,
        Reason::Paused,
        Reason::Superseded,
        Reason::Unrecorded,
        Reason::AuditShare,
        Reason::Unrendered,
        Reason::Unknown(22),
    ];
    // A translation that is not granted has the same word as one that the scope does not cover.
    assert_eq!(Reason::Reply("source").word(), Reason::Outside(Outside::Peer("source")).word());
    let words: std::collections::BTreeSet<&str> = all.iter().map(Reason::word).collect();
    assert_eq!(words.len(), all.len());
    let tests = concat!(
        include_str!("creations.rs"),
        include_str!("limits.rs"),
        include_str!("records.rs"),
        include_str!("targets.rs"),
        include_str!("updates.rs"),
        include_str!("../../../../../tests/it/policy/attacks.toml"),
        include_str!("../../../../../tests/it/policy/attacks.rs"),
        include_str!("../../../../../tests/it/policy/recording.rs"),
        include_str!("../../../../../tests/it/policy/revoking.rs"),
        include_str!("../../../../../tests/it/policy/shares.rs")
    );
    for word in words {
        assert!(tests.contains(&format!("\"{word}\"")), "no test has the reason `{word}`");
    }
}
