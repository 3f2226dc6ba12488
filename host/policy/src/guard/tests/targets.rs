//! Which flows a plugin may act on, and how it names them.

use super::*;

#[test]
fn actions_are_limited_to_flows_in_scope() {
    for family in &FAMILIES {
        let flow = |from: &str, to: &str, more: &str| kernel(&filled(&udp(from, to, more), family));
        let whole = |line: &str| kernel(&filled(line, family));
        let delete = |flow: Row| Attempt::shown(action::DELETE, flow, None);
        let zones = |words: [&str; 2]| {
            whole(&format!(
                "udp 17 100 src=OWN dst=PEER sport=1 dport=2 {} src=PEER dst=OWN sport=2 dport=1 {} use=1",
                words[0], words[1]
            ))
        };
        let snat =
            whole("udp 17 100 src=OWN dst=PEER sport=1 dport=2 src=PEER dst=PUBLIC sport=2 dport=9 zone=7 use=1");
        let dnat = whole("udp 17 100 src=OWN dst=PEER sport=1 dport=2 src=INNER dst=OWN sport=2 dport=1 zone=7 use=1");
        let both =
            whole("udp 17 100 src=OWN dst=PEER sport=1 dport=2 src=INNER dst=PUBLIC sport=2 dport=9 zone=7 use=1");
        let ports =
            whole("udp 17 100 src=OWN dst=PEER sport=1 dport=2 src=PEER dst=OWN sport=77 dport=78 zone=7 use=1");
        let act = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\ntranslated = \"act\"";
        let see = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\ntranslated = \"see\"";
        let public = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nreply-destination = \"PUBNET\"";
        let inner = "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nreply-source = \"INNER\"";
        let ends =
            "[[tenant.scope]]\nzones = 7\nsource = \"NET\"\nreply-source = \"INNER\"\nreply-destination = \"PUBNET\"";
        let zone = "[[tenant.scope]]\nzones = 7";
        let one_way = "[[tenant.scope]]\noriginal-zones = 7";
        let other_way = "[[tenant.scope]]\nreply-zones = 7";
        let two = "[[tenant.scope]]\nzones = 8\n[[tenant.scope]]\nzones = 7\nsource = \"NET\"";
        run(
            vec![
                ("in scope", "", SCOPE, delete(flow("OWN", "PEER", "zone=7"))),
                ("covered by the second rule", "", two, delete(flow("OWN", "PEER", "zone=7"))),
                ("the first address", "", SCOPE, delete(flow("FIRST", "PEER", "zone=7"))),
                ("the address after the last", "out-of-scope", SCOPE, delete(flow("BEYOND", "PEER", "zone=7"))),
                ("another network", "out-of-scope", SCOPE, delete(flow("FOREIGN", "PEER", "zone=7"))),
                ("the other direction", "out-of-scope", SCOPE, delete(flow("PEER", "OWN", "zone=7"))),
                ("another zone", "out-of-scope", SCOPE, delete(flow("OWN", "PEER", "zone=8"))),
                ("no zone", "out-of-scope", SCOPE, delete(flow("OWN", "PEER", ""))),
                ("the same zone in both directions", "", SCOPE, delete(zones(["zone-orig=7", "zone-reply=7"]))),
                ("original zone only", "out-of-scope", SCOPE, delete(zones(["zone-orig=7", ""]))),
                ("reply zone only", "out-of-scope", SCOPE, delete(zones(["", "zone-reply=7"]))),
                ("two zones", "out-of-scope", SCOPE, delete(zones(["zone-orig=7", "zone-reply=8"]))),
                ("the original zone", "", one_way, delete(zones(["zone-orig=7", ""]))),
                ("not the reply zone", "out-of-scope", one_way, delete(zones(["", "zone-reply=7"]))),
                ("the reply zone", "", other_way, delete(zones(["zone-orig=8", "zone-reply=7"]))),
                ("not the original zone", "out-of-scope", other_way, delete(zones(["zone-orig=7", ""]))),
                ("source translated", "translated-peer", SCOPE, delete(snat.clone())),
                ("destination translated", "translated-peer", SCOPE, delete(dnat.clone())),
                ("translated, with `translated = see`", "translated-peer", see, delete(dnat.clone())),
                ("both translated", "translated-peer", SCOPE, delete(both.clone())),
                ("only ports translated", "", SCOPE, delete(ports)),
                ("translated, with `translated = act`", "", act, delete(both.clone())),
                ("source covered", "", public, delete(snat.clone())),
                ("source covered, destination not", "translated-peer", public, delete(both.clone())),
                ("destination covered", "", inner, delete(dnat.clone())),
                ("destination covered, source not", "translated-peer", inner, delete(both.clone())),
                ("both covered", "", ends, delete(both.clone())),
                ("a rule for a whole zone covers both", "", zone, delete(both.clone())),
                (
                    "a rule for the zone of one direction does not",
                    "translated-peer",
                    one_way,
                    delete(zones(["zone-orig=7", ""]).nated()),
                ),
            ],
            family,
        );
    }
}

#[test]
fn actions_apply_to_the_entry_that_the_kernel_has() {
    for family in &FAMILIES {
        let line = |words: &str| filled(&udp("OWN", "PEER", words), family);
        let reversed = |words: &str| {
            filled(&udp("PEER", "OWN", words).replace("sport=4000 dport=53 ", "sport=53 dport=4000 "), family)
        };
        let (own, foreign) =
            (kernel(&line("zone=7 id=5")), kernel(&filled(&udp("FOREIGN", "PEER", "zone=7 id=5"), family)));
        let delete = |name: Row, found: Option<Row>| Attempt::named(action::DELETE, name, found);
        let shown = |row: Row, found: Option<Row>| Attempt {
            found: [Ok(found), Ok(None)],
            ..Attempt::shown(action::DELETE, row, None)
        };
        let mark = |row: Row| row.mark(0x100, Some(0xff00));
        let bare = original(&line("zone=7"));
        run(
            vec![
                ("by its original tuple", "", SCOPE, delete(bare.clone(), Some(own.clone()))),
                (
                    "by its reply tuple, given as the original",
                    "",
                    SCOPE,
                    delete(original(&reversed("zone=7")), Some(own.clone())),
                ),
                (
                    "a row of the batch, found by its reply",
                    "named-by-reply",
                    SCOPE,
                    shown(kernel(&reversed("zone=7")), Some(own.clone())),
                ),
                ("an entry of another network", "out-of-scope", SCOPE, delete(bare.clone(), Some(foreign.clone()))),
                ("with its id", "", SCOPE, delete(original(&line("zone=7 id=5")), Some(own.clone()))),
                ("with another id", "replaced", SCOPE, delete(original(&line("zone=7 id=6")), Some(own.clone()))),
                ("replaced since the batch", "replaced", SCOPE, shown(kernel(&line("zone=7 id=6")), Some(own.clone()))),
                ("gone", "gone", SCOPE, delete(bare.clone(), None)),
                ("gone since the batch", "gone", SCOPE, shown(own.clone(), None)),
                ("updated and gone", "gone", SCOPE, Attempt::named(action::UPDATE, mark(bare.clone()), None)),
                (
                    "the query fails",
                    "unknown",
                    SCOPE,
                    Attempt { found: [Err(22), Ok(None)], ..delete(bare.clone(), None) },
                ),
                ("no values", "nameless", SCOPE, Attempt { values: None, ..delete(bare.clone(), None) }),
                ("no source", "nameless", SCOPE, delete(bare.clone().lacks(field::SOURCE), Some(own.clone()))),
                (
                    "no destination",
                    "nameless",
                    SCOPE,
                    delete(bare.clone().lacks(field::DESTINATION), Some(own.clone())),
                ),
                ("no protocol", "nameless", SCOPE, delete(bare.clone().lacks(field::PROTOCOL), Some(own.clone()))),
                ("no source port", "nameless", SCOPE, delete(bare.clone().lacks(field::SOURCE_L4), Some(own.clone()))),
                (
                    "no destination port",
                    "nameless",
                    SCOPE,
                    delete(bare.clone().lacks(field::DESTINATION_L4), Some(own.clone())),
                ),
                (
                    "the reply tuple only",
                    "nameless",
                    SCOPE,
                    delete(named(&line("zone=7")).lacks(field::SOURCE), Some(own.clone())),
                ),
                ("an update by name", "", SCOPE, Attempt::named(action::UPDATE, mark(bare.clone()), Some(own.clone()))),
                (
                    "an update that sets nothing",
                    "not-granted",
                    SCOPE,
                    Attempt::shown(action::UPDATE, own.clone(), None),
                ),
                (
                    "an update out of scope",
                    "out-of-scope",
                    SCOPE,
                    Attempt::named(action::UPDATE, mark(bare.clone()), Some(foreign.clone())),
                ),
                (
                    "create-or-update in scope",
                    "",
                    SCOPE,
                    Attempt::named(action::CREATE_OR_UPDATE, mark(named(&line("zone=7"))), Some(own.clone())),
                ),
                (
                    "create-or-update out of scope",
                    "out-of-scope",
                    SCOPE,
                    Attempt::named(action::CREATE_OR_UPDATE, mark(named(&line("zone=7"))), Some(foreign.clone())),
                ),
                (
                    "create-or-update, replaced",
                    "replaced",
                    SCOPE,
                    Attempt::named(action::CREATE_OR_UPDATE, mark(named(&line("zone=7 id=9"))), Some(own.clone())),
                ),
                ("no such action", "not-granted", SCOPE, Attempt::shown(99, own.clone(), None)),
            ],
            family,
        );
    }
    // An unknown address family.
    let mut strange = original(&udp("10.1.0.5", "192.0.2.1", "zone=7"));
    strange.0.family[0] = 7;
    let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), KEYS, GRANTS);
    assert_eq!(Attempt::named(action::DELETE, strange, None).word(&tenant), "invalid");
}

#[test]
fn protocols_without_ports_are_identified_by_addresses() {
    let tenant = tenant("[[tenant.scope]]\nzones = 0", KEYS, GRANTS);
    for (line, words) in [
        (
            "icmp 1 20 src=10.1.0.5 dst=192.0.2.1 type=8 code=0 id=7 src=192.0.2.1 dst=10.1.0.5 type=0 code=0 id=7 use=1",
            true,
        ),
        (
            "icmpv6 58 20 src=2001:db8::5 dst=2001:db8::6 type=128 code=0 id=7 src=2001:db8::6 dst=2001:db8::5 type=129 code=0 id=7 use=1",
            true,
        ),
        (
            "sctp 132 20 ESTABLISHED src=10.1.0.5 dst=192.0.2.1 sport=1 dport=2 src=192.0.2.1 dst=10.1.0.5 sport=2 dport=1 use=1",
            true,
        ),
        (
            "gre 47 20 src=10.1.0.5 dst=192.0.2.1 srckey=0x1 dstkey=0x2 src=192.0.2.1 dst=10.1.0.5 srckey=0x2 dstkey=0x1 use=1",
            false,
        ),
        ("unknown 50 20 src=10.1.0.5 dst=192.0.2.1 src=192.0.2.1 dst=10.1.0.5 use=1", false),
    ] {
        let flow = kernel(line);
        assert_eq!(Attempt::named(action::DELETE, original(line), Some(flow.clone())).word(&tenant), "", "{line}");
        let bare = original(line).lacks(field::SOURCE_L4 | field::DESTINATION_L4);
        // Without them the kernel finds an entry only of protocols that have none.
        let word = if words { "nameless" } else { "" };
        assert_eq!(Attempt::named(action::DELETE, bare, Some(flow)).word(&tenant), word, "{line}");
        assert_eq!(Attempt::create(named(line).timeout(60)).word(&tenant), "", "{line}");
    }
}

/// Actions on flows that a plugin may not see have the same result as those on flows that do not exist.
#[test]
fn flows_out_of_scope_are_reported_as_gone() {
    let tenant = tenant(&filled(SCOPE, &FAMILIES[0]), KEYS, GRANTS);
    let line = udp("10.2.0.9", "192.0.2.1", "zone=7");
    let answer = |attempt: Attempt| {
        let refusal = attempt.ruling(&tenant, None).unwrap_err();
        (refusal.result, refusal.errno)
    };
    let none = answer(Attempt::named(action::DELETE, original(&line), None));
    assert_eq!(none, (result::GONE, libc::ENOENT as u32));
    for kind in [action::DELETE, action::UPDATE, action::CREATE_OR_UPDATE] {
        assert_eq!(answer(Attempt::named(kind, named(&line), Some(kernel(&line)))), none);
    }
    // A flow that was in the batch has left the scope since.
    assert_eq!(answer(Attempt::shown(action::DELETE, kernel(&line), None)), (result::OUTSIDE, 0));
    let unknown = Attempt { found: [Err(105), Ok(None)], ..Attempt::named(action::DELETE, original(&line), None) };
    assert_eq!(answer(unknown), (result::REFUSED, 105));
}
