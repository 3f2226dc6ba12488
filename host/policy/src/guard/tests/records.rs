//! What the audit has of an action.

use super::*;

/// Large values of a plugin neither prevent records nor enlarge them.
#[test]
fn large_values_neither_disable_nor_fill_the_audit() {
    let directory = tempfile::tempdir().unwrap();
    let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), "", r#""delete""#);
    let mut guard = guard(&tenant, directory.path(), false);
    let grants: Grants = "delete".parse().unwrap();
    let requester = Requester { plugin: "blue:a", grants: &grants, strict: false };
    for times in [1, 100] {
        let judgements = guard.review(&mut Watch::unlimited(), requester, &Flows::default(), &bulky(15_000_000, times));
        assert_eq!(judgements.len(), times);
    }
    drop(guard);
    let lines = lines(directory.path());
    assert!(lines.len() > 60, "{lines:#?}");
    for line in lines.iter().filter(|line| line["count"].is_null()) {
        assert!(line["after"]["original"].is_object() && line.to_string().len() < 2000, "{line}");
    }
}

/// The record of a refused action has only fields that a request can carry.
#[test]
fn records_have_only_fields_that_a_request_can_have() {
    let all = field::ALL | field::SECURITY_CONTEXT | field::HELPER;
    let row = named(&udp("10.1.0.5", "192.0.2.1", "zone=7")).has(all);
    let has = requested::recorded(&row.0, 0).has[0];
    assert_eq!(has & field::TUPLES, field::TUPLES);
    assert_eq!(has & (field::SECURITY_CONTEXT | field::ANNOTATIONS | field::MASTER), 0);
    assert_eq!(has & (field::HELPER | field::LABELS), 0, "there is no text to record");
}

/// An action whose line would exceed the maximum is refused and only counted.
#[test]
fn audit_lines_have_a_maximum_length() {
    flowgate_test_support::Namespace::run(|_| {
        let directory = tempfile::tempdir().unwrap();
        let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), "", r#""create""#);
        let grants: Grants = "create".parse().unwrap();
        for (length, sent) in [(10, true), (MAX_LINE, false)] {
            let mut guard = guard(&tenant, directory.path(), false);
            let plugin = "x".repeat(length);
            let requester = Requester { plugin: &plugin, grants: &grants, strict: false };
            let judgements = guard.review(&mut Watch::unlimited(), requester, &Flows::default(), &creation());
            assert!(matches!(judgements[..], [Judgement::Send(_)]) == sent, "{judgements:?}");
            if !sent {
                assert!(
                    matches!(judgements[..], [Judgement::Refuse(result::REFUSED, errno)] if errno == libc::EIO as u32)
                );
            }
            drop(guard);
            let lines = lines(directory.path());
            assert_eq!(lines.iter().any(|line| line["code"] == "unrendered"), !sent);
            let long = lines.into_iter().filter(|line| line.to_string().len() > MAX_LINE);
            assert!(
                long.into_iter().all(|line| line["count"] == 1),
                "only the line with the number of refusals may be longer"
            );
        }
    });
}

/// The record of an update has the labels that result from those of the entry and those of the request.
#[test]
fn labels_are_recorded_as_the_kernel_will_have_them() {
    let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), "labels = [0, 1, 2, 3, 64]", r#""update.labels""#);
    let line = udp("10.1.0.5", "192.0.2.1", "zone=7");
    let found = kernel(&line).labels(0b1010 | 1 << 100, None, 16);
    for (set, mask, result) in [
        (0b0001, 0b0001, 0b1011 | 1 << 100),
        (0b0000, 0b1000, 0b0010 | 1 << 100),
        (0b0010, 0b0000, 0b1000 | 1 << 100),
        (1 << 64, 1 << 64, 0b1010 | 1 << 64 | 1 << 100),
    ] {
        let values = named(&line).lacks(u64::MAX).labels(set, Some(mask), 16);
        let ruling = Attempt::shown(action::UPDATE, found.clone(), Some(values)).ruling(&tenant, None).unwrap();
        let after = ruling.after.unwrap();
        let labels = batch::text(&after.rare.as_ref().unwrap().labels.texts, 0).to_vec();
        assert_eq!(u128::from_le_bytes(labels.try_into().unwrap()), result, "{set:#x}/{mask:#x}");
    }
    // Without a mask, or with fewer words than the entry has, the rest is cleared.
    let all: Grants = "update.labels".parse().unwrap();
    for (set, mask, bytes, result) in [(0b1u128, None, 16, 0b1u128), (0b100, Some(0b110), 4, 0b1100)] {
        let values = named(&line).lacks(u64::MAX).labels(set, mask, bytes);
        let wide = super::tenant(&filled(SCOPE, &FAMILIES[0]), "", "");
        let attempt = Attempt::shown(action::UPDATE, found.clone(), Some(values));
        let after = attempt.ruling(&wide, Some(&all)).unwrap().after.unwrap();
        let labels = batch::text(&after.rare.as_ref().unwrap().labels.texts, 0).to_vec();
        assert_eq!(u128::from_le_bytes(labels.try_into().unwrap()), result, "{bytes}");
    }
}
