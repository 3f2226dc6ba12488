//! Limits of rate, time, entries and the audit.

use super::*;

/// Actions over a limit are refused before the kernel is queried.
#[test]
fn actions_over_a_limit_are_refused_and_counted() {
    let grants: Grants = "delete".parse().unwrap();
    let shown = kernel(&udp("10.1.0.5", "192.0.2.1", "zone=7")).0;
    for (limits, halted, superseded, word) in [
        ("limits = { actions-in-flight = 0 }", false, false, "in-flight"),
        ("limits = { actions-per-second = 0 }", false, false, "rate"),
        ("", true, false, "paused"),
        ("", false, true, "superseded"),
        ("", true, true, "superseded"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), limits, r#""delete""#);
        let mut guard = guard(&tenant, directory.path(), halted).until(Arc::new(move || superseded));
        let times = MAX_REFUSAL_RECORDS + 10;
        let requests = Requests {
            actions: Actions {
                kinds: vec![action::DELETE; times],
                rows: vec![0; times],
                values: vec![action::NO_ROW; times],
            },
            values: Flows::default(),
        };
        let requester = Requester { plugin: "blue:a", grants: &grants, strict: false };
        let judgements = guard.review(&mut Watch::unlimited(), requester, &shown, &requests);
        assert_eq!(judgements.len(), times);
        for judgement in judgements {
            let Judgement::Refuse(result, 0) = judgement else { panic!("{word}: {judgement:?}") };
            assert_eq!(result, result::OVER_LIMIT, "{word}");
        }
        drop(guard);
        // All are counted; the first `MAX_REFUSAL_RECORDS` have a line each, the others only one in total.
        let text = std::fs::read_to_string(directory.path().join("audit")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let count: u64 = lines.iter().map(|line| line["count"].as_u64().unwrap_or(1)).sum();
        assert_eq!(count, times as u64, "{text}");
        assert!(lines.len() <= MAX_REFUSAL_RECORDS + 1 && lines.iter().all(|line| line["code"] == word), "{text}");
    }
}

/// If the time of a call is exceeded, all of its actions are refused and counted.
#[test]
fn calls_that_exceed_their_time_are_refused_as_a_whole() {
    let grants: Grants = "delete".parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let limits = "limits = { actions-per-second = 1000000, actions-in-flight = 60000 }";
    let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), limits, r#""delete""#);
    let mut guard = guard(&tenant, directory.path(), false);
    let requester = Requester { plugin: "blue:a", grants: &grants, strict: false };
    let times = 60_000;
    let requests = bulky(10, times);
    for limit in [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(50)] {
        let before = thread_time();
        let mut watch = Watch::begin(limit, Some(before));
        let judgements = guard.review(&mut watch, requester, &Flows::default(), &requests);
        let used = thread_time() - before;
        assert!(used < limit + limit / 2 + Duration::from_millis(20), "{used:?} of {limit:?}");
        assert_eq!(judgements.len(), times);
        assert!(judgements.iter().all(|judgement| matches!(judgement, Judgement::Refuse(result::OVER_LIMIT, 0))));
        assert!(watch.check().is_err());
    }
    drop(guard);
    let count: u64 = lines(directory.path())
        .iter()
        .map(|line| {
            assert_eq!((&line["code"], &line["stage"]), (&"time".into(), &"refused".into()), "{line}");
            line["count"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(count, 3 * times as u64);
}

/// If the time is exceeded after all actions have been judged, recording stops and all of them are refused.
#[test]
fn recording_ends_with_the_time_of_the_call() {
    flowgate_test_support::Namespace::run(|namespace| {
        let flow = "-t 600 -w 7 -p udp -s 10.1.0.5 -d 192.0.2.1 --sport 4000 --dport 53";
        flowgate_test_support::entries::insert(namespace, flow);
        let directory = tempfile::tempdir().unwrap();
        let limits = "limits = { actions-per-second = 1000000, actions-in-flight = 60000 }";
        let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), limits, r#""delete""#);
        let mut guard = guard(&tenant, directory.path(), false);
        let grants: Grants = "delete".parse().unwrap();
        // The name is in each record; escaped, it is so long that recording takes far longer than judging.
        let plugin = "\u{1}".repeat(MAX_LINE / 8);
        let requester = Requester { plugin: &plugin, grants: &grants, strict: false };
        let Row(values) = named(&udp("10.1.0.5", "192.0.2.1", "zone=7"));
        let times = 5000;
        let actions =
            Actions { kinds: vec![action::DELETE; times], rows: vec![action::NO_ROW; times], values: vec![0; times] };
        let requests = Requests { actions, values };
        let before = thread_time();
        let judgements = guard.review(&mut Watch::unlimited(), requester, &Flows::default(), &requests);
        let all = thread_time() - before;
        assert!(matches!(judgements[0], Judgement::Send(_)), "{:?}", judgements[0]);
        let (limit, before) = (all / 2, thread_time());
        let mut watch = Watch::begin(limit, Some(before));
        let judgements = guard.review(&mut watch, requester, &Flows::default(), &requests);
        let used = thread_time() - before;
        assert!(used < all * 3 / 4, "{used:?} of {limit:?}; {all:?} if there is no limit");
        assert!(judgements.iter().all(|judgement| matches!(judgement, Judgement::Refuse(result::OVER_LIMIT, 0))));
    });
}

/// An entry whose end was not reported counts until it is looked up, which is done when the limit is reached.
#[test]
fn entries_that_ended_unnoticed_make_room() {
    flowgate_test_support::Namespace::run(|_| {
        let directory = tempfile::tempdir().unwrap();
        let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), "limits = { entries = 1 }", r#""create""#);
        let grants: Grants = "create".parse().unwrap();
        let requester = Requester { plugin: "blue:a", grants: &grants, strict: false };
        let ledger = Arc::new(Ledger::default());
        let gone = named(&udp("10.1.0.6", "192.0.2.1", "zone=7"));
        let name = EntryKey::of(&ScopeView::of(&gone.0, 0));
        let entry = flowgate_netlink::FlowEntry::new(&gone.0, 0).unwrap();
        let lookup = flowgate_netlink::encode::flows::get(entry).unwrap();
        ledger.reserve("blue", name, &lookup, (1, 1)).unwrap();
        ledger.settle(&name, Some(7));
        let mut guard = guard(&tenant, directory.path(), false).counting(ledger.clone(), 100);
        let judgements = guard.review(&mut Watch::unlimited(), requester, &Flows::default(), &creation());
        assert!(matches!(judgements[..], [Judgement::Send(_)]), "{judgements:?}");
        assert_eq!(ledger.count("blue"), 1, "the one that is being created");
    });
}

/// A tenant that has used up its share of the audit performs no more actions; other tenants do.
#[test]
fn audit_shares_are_per_tenant() {
    let directory = tempfile::tempdir().unwrap();
    let audit = audit(directory.path(), 64 << 10);
    audit.shares().divide(2);
    let grants: Grants = "delete".parse().unwrap();
    let of = |name: &str| {
        let mut tenant = tenant(&filled(SCOPE, &FAMILIES[0]), "limits = { actions-per-second = 10000 }", r#""delete""#);
        tenant.name = name.into();
        TenantGuard::new(&tenant, 1, None, audit.clone(), &[], Arc::new(|| false))
    };
    let (mut blue, mut red) = (of("blue"), of("red"));
    let requester = |plugin| Requester { plugin, grants: &grants, strict: false };
    for _ in 0..50 {
        blue.review(&mut Watch::unlimited(), requester("blue:a"), &Flows::default(), &bulky(10, 64));
    }
    red.review(&mut Watch::unlimited(), requester("red:a"), &Flows::default(), &bulky(10, 1));
    let text = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap_or_default();
    let all = text("audit.1") + &text("audit");
    let written = |tenant: &str| all.lines().filter(|line| line.contains(&format!("\"tenant\":\"{tenant}\""))).count();
    assert!(written("blue") > 10 && written("red") == 1, "{} {}", written("blue"), written("red"));
    assert!(all.len() < 64 << 10, "refusals have filled the audit: {} bytes", all.len());
    // Intents of one tenant do not use up the share of the other.
    assert!(audit.shares().take("red", 1000, Use::Intent));
    while audit.shares().take("blue", 1000, Use::Intent) {}
    assert!(audit.shares().take("red", 1000, Use::Intent));
}
