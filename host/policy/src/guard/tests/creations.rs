//! What a plugin may create.

use super::*;

#[test]
fn creations_are_limited_to_the_scope_and_grants() {
    for family in &FAMILIES {
        let line = |from: &str, to: &str, more: &str| filled(&udp(from, to, more), family);
        let make = |from: &str, to: &str, more: &str| named(&line(from, to, more)).timeout(60);
        let line_of = |from: &str, to: &str, (sport, dport): (u16, u16), (reply_sport, reply_dport): (u16, u16)| {
            let text = format!(
                "udp 17 9 src={from} dst={to} sport={sport} dport={dport} \
                 src={to} dst={from} sport={reply_sport} dport={reply_dport} zone=7 use=1"
            );
            named(&filled(&text, family)).timeout(60)
        };
        let own = || make("OWN", "PEER", "zone=7");
        let to = |name: &str| filled(name, family);
        let nat = |destination: bool, first: &str, last: &str, ports: (u16, u16)| {
            own().nat(destination, [&to(first), &to(last)], ports)
        };
        let forged = named(&filled(
            "udp 17 9 src=OWN dst=PEER sport=1 dport=2 src=PEER dst=FOREIGN sport=2 dport=1 zone=7 use=1",
            family,
        ));
        let there = |row: Row, found: [Option<Row>; 2]| Attempt { found: found.map(Ok), ..Attempt::create(row) };
        let (own_entry, foreign) = (kernel(&line("OWN", "PEER", "zone=7")), kernel(&line("FOREIGN", "OWN", "zone=7")));
        let public = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nreply-destination = \"PUBNET\"";
        let none = "";
        run(
            vec![
                ("in scope", "", SCOPE, Attempt::create(own())),
                ("from another network", "would-be-out-of-scope", SCOPE, Attempt::create(make("FOREIGN", "PEER", "zone=7"))),
                ("from the address after the last", "would-be-out-of-scope", SCOPE, Attempt::create(make("BEYOND", "PEER", "zone=7"))),
                ("in another zone", "would-be-out-of-scope", SCOPE, Attempt::create(make("OWN", "PEER", "zone=8"))),
                ("in no zone", "would-be-out-of-scope", SCOPE, Attempt::create(make("OWN", "PEER", ""))),
                ("in a zone in one direction", "would-be-out-of-scope", SCOPE, Attempt::create(named(&filled(
                    "udp 17 9 src=OWN dst=PEER sport=1 dport=2 zone-orig=7 src=PEER dst=OWN sport=2 dport=1 use=1", family)).timeout(60))),
                ("with a forged reply", "translated-peer", SCOPE, Attempt::create(forged.clone().timeout(60))),
                ("without a reply", "nameless", SCOPE, Attempt::create(own().lacks(field::REPLY_SOURCE))),
                ("without the port of the reply", "nameless", SCOPE, Attempt::create(own().lacks(field::REPLY_SOURCE_L4))),
                ("without values", "nameless", SCOPE, Attempt { values: None, ..Attempt::create(own()) }),
                ("with a master", "master", SCOPE, Attempt::create(own().master())),
                ("exists in scope", "exists", SCOPE, there(own(), [Some(own_entry.clone()), None])),
                ("reply exists in scope", "exists", SCOPE, there(own(), [None, Some(own_entry.clone())])),
                ("exists out of scope", "collision", SCOPE, there(own(), [Some(foreign.clone()), None])),
                ("reply exists out of scope", "collision", SCOPE, there(own(), [None, Some(foreign.clone())])),
                ("query of the reply fails", "unknown", SCOPE, Attempt { found: [Ok(None), Err(105)], ..Attempt::create(own()) }),
                ("create-or-update with a helper", "not-granted", SCOPE, Attempt::named(action::CREATE_OR_UPDATE, own().helper("x"), None)),
                ("create-or-update of a new entry", "", SCOPE, Attempt::named(action::CREATE_OR_UPDATE, own(), None)),
                ("create-or-update whose reply exists out of scope", "collision", SCOPE, Attempt { found: [Ok(None), Ok(Some(foreign.clone()))], ..Attempt::named(action::CREATE_OR_UPDATE, own(), None) }),
                ("translated to itself, so that the kernel may choose a port", "translated-peer", SCOPE, Attempt::create(nat(false, "OWN", "OWN", (0, 0)))),
                ("source translated", "translated-peer", SCOPE, Attempt::create(nat(false, "FOREIGN", "FOREIGN", (0, 0)))),
                ("source translated, without a last address", "translated-peer", SCOPE, Attempt::create(nat(false, "FOREIGN", none, (0, 0)))),
                ("source translated to a covered address", "translated-peer", public, Attempt::create(nat(false, "PUBLIC", "PUBLIC", (0, 0)))),
                ("source not translated, which this rule requires", "would-be-out-of-scope", public, Attempt::create(own())),
                ("source port translated", "translated-peer", SCOPE, Attempt::create(nat(false, none, none, (9, 9)))),
                ("destination translated", "translated-peer", SCOPE, Attempt::create(nat(true, "FOREIGN", "FOREIGN", (0, 0)))),
                ("destination port translated", "translated-peer", SCOPE, Attempt::create(nat(true, none, none, (9, 9)))),
                ("with a reply from another port", "translated-peer", SCOPE, Attempt::create(line_of("OWN", "PEER", (1, 2), (3, 1)))),
                ("with a reply to another port", "translated-peer", SCOPE, Attempt::create(line_of("OWN", "PEER", (1, 2), (2, 3)))),
                ("replies in another zone", "would-be-out-of-scope", "[[tenant.scope]]\noriginal-zones = 7", Attempt::create(own().lacks(field::ZONE).zones(7, 8))),
                ("replies in the same zone", "", "[[tenant.scope]]\noriginal-zones = 7", Attempt::create(own())),
                ("replies in another zone, which the rule covers", "", "[[tenant.scope]]\noriginal-zones = 7\nreply-zones = 8", Attempt::create(own().lacks(field::ZONE).zones(7, 8))),
                ("a range of addresses", "translation-range", SCOPE, Attempt::create(nat(false, "OWN", "FOREIGN", (0, 0)))),
                ("a range without a first address", "translation-range", SCOPE, Attempt::create(nat(false, none, "FOREIGN", (0, 0)))),
                ("a range of ports", "translation-range", SCOPE, Attempt::create(nat(false, "OWN", "OWN", (1, 9)))),
                ("a range of ports that ends at 0", "translation-range", SCOPE, Attempt::create(nat(false, "OWN", "OWN", (9, 0)))),
                ("a range of ports from 0", "translation-range", SCOPE, Attempt::create(nat(true, "PEER", "PEER", (0, 9)))),
                // Of two translations of the same end the kernel uses only the last.
                ("translated twice", "translation-range", SCOPE, Attempt::create(
                    forged.clone().timeout(60).nat(false, [&to("OWN"), ""], (0, 0)).nat(false, ["", ""], (9, 9)))),
                ("translated at both ends", "translated-peer", SCOPE, Attempt::create(
                    nat(false, "OWN", "OWN", (0, 0)).nat(true, [&to("INNER"), ""], (0, 0)))),
                // A translation with a column that is shorter than its rows.
                ("translated, with a short column", "translated-peer", SCOPE, Attempt::create({
                    let mut row = nat(false, "FOREIGN", "FOREIGN", (0, 0));
                    row.0.rare.as_mut().unwrap().nat.destination.clear();
                    row
                })),
            ],
            family,
        );
        // Fields that no policy can grant are refused even with all grants.
        let tenant = tenant(&filled(SCOPE, family), KEYS, GRANTS);
        let all = |attempt: Attempt| {
            attempt.ruling(&tenant, Some(&Grants::ALL)).map_or_else(|refusal| refusal.reason.word(), |_| "")
        };
        let bare = own().lacks(field::TIMEOUT);
        let found = kernel(&line("OWN", "PEER", "zone=7"));
        for (word, row) in [
            ("translation", bare.clone().nat(false, [&to("OWN"), ""], (0, 0))),
            ("translation", bare.clone().nat(true, [&to("PEER"), ""], (0, 0))),
            ("master", bare.clone().master()),
            ("invalid", bare.clone().helper("a name that is longer than the kernel's")),
            ("", bare.helper("ftp")),
        ] {
            assert_eq!(all(Attempt::named(action::UPDATE, row.clone(), Some(found.clone()))), word);
            assert_eq!(all(Attempt::shown(action::UPDATE, found.clone(), Some(row))), word);
        }
        for bits in [status::SRC_NAT, status::DST_NAT, status::SRC_NAT_DONE, status::DST_NAT_DONE, status::SEQ_ADJUST] {
            assert_eq!(all(Attempt::create(own().status(0xe | bits))), "bounds");
        }
        assert_eq!(all(Attempt::create(own().status(0xe))), "");
    }
}

/// With the grant `create.translated` the scope must cover both ends as they are after the translation, including
/// their ports.
#[test]
fn translated_creations_need_a_grant_and_stay_in_scope() {
    let grants = r#""create", "create.translated""#;
    for family in &FAMILIES {
        let own = || named(&filled(&udp("OWN", "PEER", "zone=7"), family)).timeout(60);
        let to = |name: &str| filled(name, family);
        let port = |destination: bool, port: u16| own().nat(destination, ["", ""], (port, port));
        let plain = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"";
        let public = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nreply-destination = \"PUBNET\"";
        let service = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nports = [53, 5353]";
        let client = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nsource-ports = \"4000-4999\"";
        let act = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nports = 53\ntranslated = \"act\"";
        for (name, word, scope, row) in [
            ("to itself", "", plain, own().nat(false, [&to("OWN"), ""], (0, 0))),
            ("to another network", "translated-peer", plain, own().nat(false, [&to("FOREIGN"), ""], (0, 0))),
            ("to a covered address", "", public, own().nat(false, [&to("PUBLIC"), ""], (0, 0))),
            ("a port, with a rule without ports", "", plain, port(true, 22)),
            ("the destination port, to one of the rule", "", service, port(true, 5353)),
            ("the destination port, to another", "translated-peer", service, port(true, 22)),
            ("the source port, which the rule does not limit", "", service, port(false, 22)),
            ("the source port, to one of the rule", "", client, port(false, 4999)),
            ("the source port, to another", "translated-peer", client, port(false, 5000)),
            ("to any port with `translated = act`", "", act, port(true, 22)),
            ("to a range", "translation-range", plain, own().nat(true, ["", ""], (1, 9))),
        ] {
            let with = tenant(&filled(scope, family), KEYS, grants);
            assert_eq!(Attempt::create(row.clone()).word(&with), word, "{name}");
            let without = tenant(&filled(scope, family), KEYS, r#""create", "create.established""#);
            assert_ne!(Attempt::create(row).word(&without), "", "{name}");
        }
    }
}

/// An entry that a stateful filter considers established needs the grant `create.established`, or the grants of the
/// updates that have the same result.
#[test]
fn established_creations_need_a_grant() {
    let line = |protocol: &str, number: u8| {
        format!(
            "{protocol} {number} 60 src=10.1.0.5 dst=192.0.2.1 sport=1 dport=2 \
             src=192.0.2.1 dst=10.1.0.5 sport=2 dport=1 use=1"
        )
    };
    let rows = |protocol: &str, number: u8| {
        let row = || named(&line(protocol, number)).timeout(60);
        let bits = status::SEEN_REPLY | status::ASSURED;
        vec![
            row().status(status::SEEN_REPLY),
            row().status(status::ASSURED),
            row().status(status::CONFIRMED | bits),
            row().state(3),
            row().state(4),
            row().state(9),
            row().has(field::ORIGINAL_TCP_FLAGS),
            row().has(field::REPLY_TCP_FLAGS),
            row().has(field::ORIGINAL_WINDOW_SCALE),
            row().has(field::REPLY_WINDOW_SCALE),
            row().has(field::ORIGINAL_VTAG),
            row().has(field::REPLY_VTAG),
            row().has(field::DCCP),
        ]
    };
    let scope = "[[tenant.scope]]\nzones = 0";
    let with = |grants: &str| tenant(scope, "", grants);
    let plain = with(r#""create", "create.translated", "update.timeout""#);
    let established = with(r#""create.established""#);
    let by_updates = with(r#""create", "update.status=SEEN_REPLY|ASSURED", "update.state""#);
    for (protocol, number) in [("tcp", 6), ("sctp", 132), ("dccp", 33)] {
        for (index, row) in rows(protocol, number).into_iter().enumerate() {
            assert_eq!(Attempt::create(row.clone()).word(&plain), "bounds", "{protocol} {index}");
            assert_eq!(Attempt::create(row.clone()).word(&established), "", "{protocol} {index}");
            assert_eq!(Attempt::create(row.clone()).word(&by_updates), "", "{protocol} {index}");
            let both = Attempt::named(action::CREATE_OR_UPDATE, row, None).word(&plain);
            assert_eq!(both, "not-granted", "{protocol} {index}");
        }
        for state in 0..=1 {
            let row = named(&line(protocol, number)).timeout(60).state(state).status(status::CONFIRMED);
            assert_eq!(Attempt::create(row).word(&plain), "");
        }
    }
    // Bits that only the kernel sets are never granted.
    let all = with(r#""create.established", "update.status", "update.state""#);
    for bit in [status::SRC_NAT_DONE, status::DST_NAT] {
        assert_eq!(Attempt::create(named(&line("tcp", 6)).timeout(60).status(bit)).word(&all), "bounds");
    }
}

/// For random actions: without `create.translated` a created entry matches the rule in both directions, including
/// ports.
#[test]
fn random_creations_are_in_scope_in_both_directions() {
    let scopes = [
        "zones = 7",
        "zones = 7\nsource = \"NET\"\nports = [53]",
        "source = \"NET\"\nsource-ports = \"1-4000\"",
        "destination = \"NET\"\nports = [\"1-100\"]\nprotocols = [\"udp\", \"tcp\"]",
        "original-zones = 7\nports = 53",
        "reply-source = \"PEER\"\nreply-destination = \"NET\"",
        "everything = true",
        "source = \"NET\"\nports = 53\ntranslated = \"act\"",
    ];
    let mut random = Random::new(4);
    let (mut created, mut translated) = (0, 0);
    for round in 0..8000 {
        let family = &FAMILIES[random.below(2)];
        let rule = filled(scopes[random.below(scopes.len())], family);
        let granted = random.chance(1, 2);
        let grants = if granted { r#""create.translated""# } else { r#""create""# };
        let tenant = tenant(&format!("[[tenant.scope]]\n{rule}"), "", grants);
        let ends = ["OWN", "FIRST", "FOREIGN", "PEER"];
        let (from, to) = (random.pick(&ends), random.pick(&ends));
        let port = |random: &mut Random| [53, 22, 4000, 1, 0][random.below(5)];
        let (sport, dport) = (port(&mut random), port(&mut random));
        let plain = random.chance(1, 2);
        let reply = if plain {
            (to, from, dport, sport)
        } else {
            (random.pick(&ends), random.pick(&ends), port(&mut random), port(&mut random))
        };
        let (protocol, number) = [("udp", 17), ("tcp", 6), ("sctp", 132), ("udplite", 136)][random.below(4)];
        let zone = ["zone=7", "", "zone=8"][random.below(3)];
        let line = filled(
            &format!(
                "{protocol} {number} 9 src={from} dst={to} sport={sport} dport={dport} \
                 src={} dst={} sport={} dport={} {zone} use=1",
                reply.0, reply.1, reply.2, reply.3
            ),
            family,
        );
        let mut row = named(&line).timeout(60);
        for _ in 0..random.below(3) {
            let (address, port) = (filled(random.pick(&ends), family), port(&mut random));
            let address = if random.chance(1, 2) { address } else { String::new() };
            row = row.nat(random.chance(1, 2), [&address, &address], (port, port));
        }
        let Ok(ruling) = Attempt::create(row).ruling(&tenant, None) else { continue };
        let after = ScopeView::of(ruling.after.as_ref().unwrap(), 0);
        assert!(ruling.makes && tenant.scope.contains(&after), "round {round}: {line}");
        let reversed = after.reply_source == after.destination
            && after.reply_destination == after.source
            && after.reply_ports == (after.ports.1, after.ports.0);
        created += usize::from(!granted);
        translated += usize::from(!reversed);
        assert!(granted || reversed, "round {round}: {line} {after:x?}");
        if rule.contains("act") {
            continue;
        }
        let rule = &tenant.scope.rules()[0];
        let covers = |set: &Option<crate::sets::NumberSet>, port| set.as_ref().is_none_or(|set| set.contains(port));
        assert!(covers(&rule.ports, after.reply_ports.0), "round {round}: destination port of {line}");
        assert!(covers(&rule.source_ports, after.reply_ports.1), "round {round}: source port of {line}");
    }
    assert!(created > 200 && translated > 100, "{created} created, {translated} translated");
}
