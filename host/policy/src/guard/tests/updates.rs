//! What an update may change.

use super::*;

/// Mark bits, timeouts, labels and status at their bounds, and fields that are not granted.
#[test]
fn updates_are_limited_to_grants_and_bounds() {
    for family in &FAMILIES {
        let own = kernel(&filled(&udp("OWN", "PEER", "zone=7 mark=305419896"), family));
        let created = || named(&filled(&udp("OWN", "PEER", "zone=7"), family)).timeout(60);
        let values = || named(&filled(&udp("OWN", "PEER", "zone=7"), family)).lacks(field::TUPLES | field::ZONES);
        let (owned, one) = ((1 << 3) | (1 << 127), 1 << 3);
        let cases: Vec<(&str, Row, &str, Option<&str>)> = vec![
            // The reason for an update, and for a creation if it is another one.
            ("all own bits of the mark", values().mark(0xff00, Some(0xff00)), "", None),
            ("the lowest own bit", values().mark(0x100, Some(0x100)), "", None),
            ("the highest own bit", values().mark(0x8000, Some(0x8000)), "", None),
            ("the bit below", values().mark(0x80, Some(0x80)), "not-granted", Some("bounds")),
            ("the bit above", values().mark(0x10000, Some(0x10000)), "not-granted", Some("bounds")),
            ("the highest bit of the mark", values().mark(1 << 31, Some(1 << 31)), "not-granted", Some("bounds")),
            ("no bit", values().mark(0, Some(0)), "", None),
            ("clearing own bits", values().mark(0, Some(0xff00)), "", None),
            ("inverting own bits", values().mark(0xff00, Some(0)), "", None),
            ("inverting others", values().mark(0x1ff00, Some(0)), "not-granted", Some("bounds")),
            ("clearing others", values().mark(0, Some(0xffff_ffff)), "not-granted", Some("")),
            ("the whole mark", values().mark(0x100, None), "not-granted", Some("")),
            ("the whole mark, 0", values().mark(0, None), "not-granted", Some("")),
            ("a mask without a mark", values().has(field::MARK_MASK), "", None),
            ("the minimum timeout", values().timeout(10), "", None),
            ("the maximum timeout", values().timeout(600), "", None),
            ("a shorter timeout", values().timeout(9), "not-granted", Some("bounds")),
            ("a longer timeout", values().timeout(601), "not-granted", Some("bounds")),
            ("no timeout", values().timeout(0), "not-granted", Some("bounds")),
            ("the longest possible timeout", values().timeout(u32::MAX), "not-granted", Some("bounds")),
            ("own labels", values().labels(owned, Some(owned), 16), "", None),
            ("clearing an own label", values().labels(0, Some(one), 16), "", None),
            ("no label", values().labels(0, Some(0), 16), "", None),
            ("another label", values().labels(one << 1, Some(one << 1), 16), "not-granted", Some("bounds")),
            ("clearing another label", values().labels(0, Some(one << 1), 16), "not-granted", Some("bounds")),
            ("inverting another label", values().labels(one << 1, Some(0), 16), "not-granted", Some("bounds")),
            ("all labels", values().labels(one, None, 16), "not-granted", Some("bounds")),
            ("a short set, which clears the rest", values().labels(one, Some(one), 4), "not-granted", Some("bounds")),
            ("a granted status bit", values().status(status::ASSURED), "", None),
            ("a status bit that the entry has", values().status(status::SEEN_REPLY), "", Some("bounds")),
            ("flags of TCP", values().has(field::ORIGINAL_TCP_FLAGS), "not-granted", Some("bounds")),
            ("window scales", values().has(field::REPLY_WINDOW_SCALE), "not-granted", Some("bounds")),
            ("tags of SCTP", values().has(field::ORIGINAL_VTAG), "not-granted", Some("bounds")),
            ("labels that are too long", values().labels(owned, Some(owned), 16).long_labels(), "invalid", None),
            ("another status bit", values().status(status::FIXED_TIMEOUT), "not-granted", Some("bounds")),
            ("a status bit of translation", values().status(status::SRC_NAT), "not-granted", Some("bounds")),
            ("a helper", values().helper("ftp"), "not-granted", Some("bounds")),
            ("a state, which UDP does not have", values().state(3), "not-granted", Some("")),
            ("sequence numbers", values().has(field::ORIGINAL_SEQUENCE), "not-granted", Some("bounds")),
            ("a SYN proxy", values().has(field::SYNPROXY), "not-granted", Some("bounds")),
        ];
        let tenant = tenant(&filled(SCOPE, family), KEYS, GRANTS);
        for (name, values, word, of_creation) in cases {
            let update = Attempt::shown(action::UPDATE, own.clone(), Some(values.clone()));
            assert_eq!(update.word(&tenant), word, "{name}");
            let mut made = values.clone();
            let base = created();
            let fields = base.0.has[0] & !(if made.0.has[0] & field::TIMEOUT != 0 { field::TIMEOUT } else { 0 });
            if fields & field::TIMEOUT != 0 {
                made = made.timeout(60);
            }
            let made = made.has(fields);
            let word = of_creation.unwrap_or(word);
            assert_eq!(Attempt::create(made.clone()).word(&tenant), word, "create: {name}");
            // Create-or-update is allowed only if both a creation and an update are.
            let both = Attempt::named(action::CREATE_OR_UPDATE, made, Some(own.clone())).word(&tenant);
            assert!(both.is_empty() == (word.is_empty() && update.word(&tenant).is_empty()), "{name}: {both}");
        }
        // Nothing is allowed without a grant.
        let none = super::tenant(&filled(SCOPE, family), KEYS, "");
        for attempt in [
            Attempt::shown(action::DELETE, own.clone(), None),
            Attempt::shown(action::UPDATE, own.clone(), Some(values().timeout(60))),
            Attempt::create(created()),
            Attempt::named(action::CREATE_OR_UPDATE, created(), Some(own.clone())),
        ] {
            assert_eq!(attempt.word(&none), "not-granted");
        }
    }
    // All bits of the mark.
    let all = tenant("[[tenant.scope]]\nzones = 0", "mark-mask = \"0xffffffff\"", r#""update.mark""#);
    let nothing = tenant("[[tenant.scope]]\nzones = 0", "", r#""update.timeout""#);
    let own = kernel(&udp("10.1.0.5", "192.0.2.1", "mark=1"));
    for (mark, mask) in [(u32::MAX, None), (0, None), (1 << 31, Some(1 << 31)), (1, Some(1)), (0, Some(0))] {
        let values = named(&udp("10.1.0.5", "192.0.2.1", "")).lacks(u64::MAX).mark(mark, mask);
        let attempt = Attempt::shown(action::UPDATE, own.clone(), Some(values));
        assert_eq!(attempt.word(&all), "");
        assert_eq!(attempt.word(&nothing), "not-granted", "{mark} {mask:?}");
    }
}

/// Setting status bits that an entry has already needs no grant. The entry counts, not the row that the plugin was
/// shown, nor another one that it identifies.
#[test]
fn status_is_compared_with_the_kernels_entry() {
    let line = udp("10.1.0.5", "192.0.2.1", "");
    let tenant = tenant("[[tenant.scope]]\nzones = 0", "", r#""create", "update.status=ASSURED""#);
    let (fixed, plain) = (kernel(&line).status(0x40e), kernel(&line).status(0xe));
    let update = |shown: &Row, found: &Row| Attempt {
        found: [Ok(Some(found.clone())), Ok(None)],
        ..Attempt::shown(action::UPDATE, shown.clone(), Some(named(&line).lacks(u64::MAX).status(0x40e)))
    };
    assert_eq!(update(&fixed, &fixed).word(&tenant), "");
    assert_eq!(update(&fixed, &plain).word(&tenant), "not-granted", "the entry differs from the row");
    // An action with two flows: the row of the batch has the bit, the flow that the values identify has not.
    let both = Attempt {
        shown: Some(fixed),
        ..Attempt::named(action::CREATE_OR_UPDATE, named(&line).status(0x40e), Some(plain))
    };
    let word = both.word(&tenant);
    assert!(matches!(word, "not-granted" | "bounds"), "{word}");
}

/// A change of the mark does not move a flow out of the scope, and moves it within the scope once a call at most.
#[test]
fn changes_of_marks_keep_flows_in_scope() {
    let scope = "[[tenant.scope]]\nmarks = [\"0x100/0x300\", \"0x200/0x300\"]";
    let tenant = tenant(scope, "mark-mask = \"0xf00\"", r#""update.mark", "delete""#);
    for family in &FAMILIES {
        let line = filled(&udp("OWN", "PEER", "mark=256 zone=7"), family);
        let own = kernel(&line);
        let ruling = |mark, mask| {
            let values = named(&line).lacks(u64::MAX).mark(mark, Some(mask));
            Attempt::shown(action::UPDATE, own.clone(), Some(values)).ruling(&tenant, None)
        };
        for (mark, mask, word) in [
            (0x200, 0x300, ""),
            (0x300, 0, ""),
            (0x800, 0x800, ""),
            (0, 0x100, "would-leave-scope"),
            (0x100, 0, "would-leave-scope"),
            (0x300, 0x300, "would-leave-scope"),
            (0x200, 0, "would-leave-scope"),
        ] {
            let word_of_ruling = ruling(mark, mask).map_or_else(|refusal| refusal.reason.word(), |_| "");
            assert_eq!(word_of_ruling, word, "{mark:#x}/{mask:#x}");
        }
        // Each change by itself stays in the scope, both in turn do not: 01 becomes 10, and then 11.
        let view = ScopeView::of(&own.0, 0);
        let mut moves = MarkChanges::default();
        moves.note(&tenant.scope, ruling(0x800, 0x800).unwrap(), &view).unwrap();
        moves.note(&tenant.scope, ruling(0x300, 0).unwrap(), &view).unwrap();
        let again = moves.note(&tenant.scope, ruling(0x100, 0x100).unwrap(), &view).unwrap_err();
        assert_eq!((again.reason.word(), again.result), ("mark-twice", result::OUTSIDE));
        // Other bits may change any number of times, and so may the mark of another flow.
        moves.note(&tenant.scope, ruling(0x400, 0x400).unwrap(), &view).unwrap();
        let other = ScopeView { ports: (1, 2), ..view };
        moves.note(&tenant.scope, ruling(0x300, 0).unwrap(), &other).unwrap();
        let gone = Attempt::shown(action::DELETE, own.clone(), None).ruling(&tenant, None).unwrap();
        moves.note(&tenant.scope, gone, &view).unwrap();
    }
}

/// Returns the mark and the timeout of an entry after a request, as the kernel would set them.
fn applied(entry: &Flows, request: &Request) -> (u32, u32) {
    let message = flowgate_netlink::Messages::new(request.as_bytes()).next().unwrap().unwrap();
    let mut requested = Flows::default();
    let mut decoder = FlowDecoder::new(field::ALL);
    requested.push(&mut decoder, &message, Arrival::Entry).unwrap();
    let (name, of) = (ScopeView::of(&requested, 0), ScopeView::of(entry, 0));
    assert_eq!(
        (name.family, name.protocol, name.source, name.destination, name.ports, name.zones.0),
        (of.family, of.protocol, of.source, of.destination, of.ports, of.zones.0),
        "the request is about another flow"
    );
    let has = requested.has[0];
    assert_eq!(has & (field::SOURCE_NAT | field::DESTINATION_NAT | field::MASTER), 0);
    let mask = if has & field::MARK_MASK != 0 { requested.rare.as_ref().unwrap().mark_mask[0] } else { u32::MAX };
    let mark = if has & field::MARK != 0 { (of.mark & !mask) ^ requested.mark[0] } else { of.mark };
    (mark, if has & field::TIMEOUT != 0 { requested.timeout[0] } else { 60 })
}

/// For random actions: an allowed update leaves the flow in the scope, and changes only what the tenant owns.
#[test]
fn random_updates_stay_within_scope_and_bounds() {
    let scopes = [
        "zones = 7",
        "zones = \"6-8\"\nsource = \"NET\"",
        "destination = \"NET\"\nprotocols = [\"udp\"]",
        "source = \"NET\"\nmarks = [\"0x100/0x300\", \"0x200/0x300\"]",
        "original-zones = 7\nmarks = \"0x80000000/0x80000000\"",
        "marks = [\"0/0xff\", \"5\"]\nports = \"53\"\nfamily = \"ipv4\"",
        "reply-destination = \"NET\"\ntranslated = \"act\"",
    ];
    let masks = [0u32, 0x300, 0xff00, 0x8000_0000, u32::MAX];
    let mut random = Random::new(20);
    let mut allowed = 0;
    for round in 0..6000 {
        let family = &FAMILIES[random.below(2)];
        let rule = filled(scopes[random.below(scopes.len())], family);
        let owned = masks[random.below(masks.len())];
        let grants = if owned == 0 { r#""update.timeout""# } else { r#""update.mark", "update.timeout""# };
        let keys = format!("mark-mask = \"{owned:#x}\"\ntimeouts = \"10..600\"");
        let tenant = tenant(&format!("[[tenant.scope]]\n{rule}"), &keys, grants);
        let any = |random: &mut Random| match random.below(5) {
            0 => 0,
            1 => 0x100,
            2 => masks[random.below(masks.len())] & (random.bits() as u32),
            3 => owned & (random.bits() as u32),
            _ => random.bits() as u32,
        };
        let ends = ["OWN", "FIRST", "BEYOND", "FOREIGN", "PEER"];
        let zone = ["zone=7", "zone=8", "", "zone=6"][random.below(4)];
        let words = format!("{zone} mark={} id=5", any(&mut random));
        let line = filled(&udp(random.pick(&ends), random.pick(&ends), &words), family);
        let entry = kernel(&line);
        let mut values = named(&line);
        if random.chance(1, 2) {
            values = values.lacks(REPLIES);
        }
        if random.chance(3, 4) {
            let mask = any(&mut random);
            values = values.mark(any(&mut random), random.chance(3, 4).then_some(mask));
        }
        if random.chance(1, 2) {
            values = values.timeout([0, 9, 10, 60, 600, 601, u32::MAX][random.below(7)]);
        }
        let attempt = if random.chance(1, 2) {
            Attempt::named(action::UPDATE, values, Some(entry.clone()))
        } else {
            Attempt::shown(action::UPDATE, entry.clone(), Some(values))
        };
        let Ok(ruling) = attempt.ruling(&tenant, None) else { continue };
        allowed += 1;
        let before = ScopeView::of(&entry.0, 0);
        let (mark, timeout) = applied(&entry.0, &ruling.request);
        assert!(tenant.scope.contains(&before), "round {round}: out of scope before: {line}");
        assert!(
            tenant.scope.contains(&ScopeView { mark, ..before }),
            "round {round}: out of scope after: {line} {mark:#x}"
        );
        assert_eq!((mark ^ before.mark) & !owned, 0, "round {round}: {line} {mark:#x}");
        assert!((10..=600).contains(&timeout), "round {round}: {timeout}");
        assert_eq!(ScopeView::of(ruling.after.as_ref().unwrap(), 0).mark, mark, "the record has the resulting mark");
    }
    assert!(allowed > 200, "only {allowed} were allowed");
}
