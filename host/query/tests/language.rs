//! What texts mean: canonical texts and messages in `canonical.txt` and `errors.txt` (BLESS=1 writes them), and
//! programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

#[allow(dead_code, reason = "this needs only a part of it")]
mod reference;

use std::{fs, path::Path};

use flowgate_model::{
    Address, Masked, Network, Operation, Selection,
    wit::query::{AddressRange, Number, NumberRange},
};
use flowgate_names::{field, query};
use flowgate_query::{Context, Query, canonical, columns, protocols, services};

fn parse(text: &str) -> Query {
    Query::parse(text, &Context::NAMES).unwrap_or_else(|error| panic!("{error}"))
}

fn number(value: i64) -> Number {
    Number { hi: if value < 0 { -1 } else { 0 }, lo: value as u64 }
}

fn ipv4(a: u8, b: u8, c: u8, d: u8) -> Address {
    Address { hi: 0, lo: 0xffff << 32 | u64::from(u32::from_be_bytes([a, b, c, d])) }
}

/// Compares a file of blocks, each with a text behind `> ` and what follows from it, with what does follow.
fn compare(file: &str, follows: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
    let expected = fs::read_to_string(&path).expect("the file is there");
    let texts: Vec<&str> =
        expected.lines().filter_map(|line| line.strip_prefix('>')).map(|text| text.trim_start()).collect();
    assert!(texts.len() > 20, "{file} has {} texts", texts.len());
    let found: Vec<String> =
        texts.iter().map(|text| format!("{}\n{}\n", format!("> {text}").trim_end(), follows(text))).collect();
    let found = found.join("\n");
    if std::env::var_os("BLESS").is_some() {
        return fs::write(&path, &found).expect("the file can be written");
    }
    for (line, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "{file}:{}", line + 1);
    }
    assert_eq!(found, expected, "{file}");
}

#[test]
fn a_mistake_is_shown_with_its_place_and_what_would_be_right() {
    compare("errors.txt", |text| match Query::parse(text, &Context::NAMES) {
        Ok(query) => panic!("`{text}` is accepted as {query}"),
        Err(error) => error.to_string(),
    });
}

#[test]
fn a_text_has_a_canonical_form_which_is_the_same_program() {
    compare("canonical.txt", |text| {
        let query = parse(text);
        let again = parse(&query.to_string());
        assert_eq!(again.program, query.program, "{text}");
        assert_eq!(again.implied, query.implied, "{text}");
        assert_eq!(again.to_string(), query.to_string());
        query.to_string()
    });
}

#[test]
fn programs_are_in_postfix_order() {
    let is = |text: &str, expected: &[Operation]| assert_eq!(parse(text).program.operations, expected, "{text}");
    is(
        "mark & 0xf != 0",
        &[
            Operation::Field(query::MARK),
            Operation::Number(number(15)),
            Operation::Arithmetic(5),
            Operation::Number(number(0)),
            Operation::Compare(1),
        ],
    );
    // Constants are on the right side of comparisons.
    for (text, comparison) in
        [("5 == zone", 0), ("5 != zone", 1), ("5 > zone", 2), ("5 >= zone", 3), ("5 < zone", 4), ("5 <= zone", 5)]
    {
        is(text, &[Operation::Field(query::ZONE), Operation::Number(number(5)), Operation::Compare(comparison)]);
    }
    let words = ["eq", "ne", "lt", "le", "gt", "ge"];
    for (word, sign) in words.into_iter().zip(["==", "!=", "<", "<=", ">", ">="]) {
        assert_eq!(parse(&format!("zone {word} 5")).program, parse(&format!("zone {sign} 5")).program);
    }
    // `not in` is true only where there is a value; `not ... in` also where there is none.
    let network =
        || Operation::AddressIn(vec![AddressRange { first: ipv4(10, 0, 0, 0), last: ipv4(10, 255, 255, 255) }]);
    let source = || Operation::Field(query::ORIGINAL_SOURCE);
    is("src not in 10.0.0.0/8", &[source(), Operation::Has, source(), network(), Operation::Not, Operation::All(2)]);
    is("not src in 10.0.0.0/8", &[source(), network(), Operation::Not]);
    is("src not in {10.0.0.1}", &[source(), Operation::Address(ipv4(10, 0, 0, 1)), Operation::Compare(1)]);
    // Equalities of a field become a set: sorted, joined where members touch.
    let ranges =
        vec![NumberRange { first: number(20), last: number(23) }, NumberRange { first: number(80), last: number(80) }];
    is(
        "dport == 80 or dport in {22..23, ssh} or dport == 21 or dport == 20",
        &[Operation::Field(query::ORIGINAL_DESTINATION_PORT), Operation::NumberIn(ranges)],
    );
    is(
        "helper == \"b\" or helper in {'a', \"b\"}",
        &[Operation::Field(query::HELPER), Operation::TextIn(vec!["a".into(), "b".into()])],
    );
    is("not not true", &[Operation::Truth(true)]);
    is("dport == 5 and false", &[Operation::Truth(false)]);
    is("label(7)", &[Operation::Label(7)]);
    is(
        "bytes * 2 - 1 > 0",
        &[
            Operation::Field(query::BYTES),
            Operation::Number(number(2)),
            Operation::Arithmetic(2),
            Operation::Number(number(1)),
            Operation::Arithmetic(1),
            Operation::Number(number(0)),
            Operation::Compare(4),
        ],
    );
}

#[test]
fn programs_say_what_they_read() {
    let reads = |text: &str| parse(text).program.reads;
    assert_eq!(reads("dport == 5 or assured"), field::DESTINATION_L4 | field::PROTOCOL | field::STATUS);
    assert_eq!(reads("annotations.a == \"b\" and label(5)"), field::ANNOTATIONS | field::LABELS);
    assert_eq!(reads("event == new or family == ipv4"), 0);
    assert_eq!(reads("state == ESTABLISHED"), field::STATE | field::PROTOCOL);
    // What is folded away is not read.
    assert_eq!(reads("dport == 5 and false"), 0);
}

#[test]
fn operators_bind_as_they_are_documented() {
    for (text, same) in [
        ("mark & 0x3f00 != 0", "(mark & 0x3f00) != 0"),
        ("bytes | 1 ^ 2 & 3 << 1 + 1 * 2 == 5", "(bytes | (1 ^ (2 & (3 << (1 + (1 * 2)))))) == 5"),
        ("assured or dying and offload", "assured or (dying and offload)"),
        ("assured || dying && offload", "assured or (dying and offload)"),
        ("not assured and dying", "(not assured) and dying"),
        ("not dport == 5", "not (dport == 5)"),
        ("!dport == 5", "not (dport == 5)"),
        ("bytes - 1 - 2 == 5", "(bytes - 1) - 2 == 5"),
        ("-bytes + 5 == 1", "(-bytes) + 5 == 1"),
        ("bytes / 2 * 3 % 5 == 1", "((bytes / 2) * 3) % 5 == 1"),
    ] {
        assert_eq!(parse(text).program, parse(same).program, "{text}");
    }
    assert_ne!(parse("bytes - (1 - packets) == 5").program, parse("bytes - 1 - packets == 5").program);
}

#[test]
fn names_mean_numbers() {
    let services = services::of_file("# services\nhttp 8080/tcp www # web\nhttp 80/udp\nbroken\nodd x/tcp\nlast 7/tcp");
    let protocols = protocols::of_file("ip 0 IP\ntcp 99 TCP\nfoo 200 FOO\nbroken\nbad 300\n");
    let labels = |name: &str| (name == "blue").then_some(3);
    let context = Context {
        labels: &labels,
        services: &|name| services.get(name).copied(),
        protocols: &|name| protocols.get(name).copied(),
    };
    for (text, same) in [
        // The file comes before the names that are known; other known names remain.
        ("dport in {http, www, https, last}", "dport in {8080, 443, 7}"),
        ("nat.source.port == www", "snat.port == 8080"),
        // Protocols that are printed by name mean the same everywhere.
        ("proto in {tcp, foo, FOO}", "proto in {6, 200}"),
        ("proto == TCP", "proto == 6"),
        ("label(blue) and label(\"blue\") and labels contains \"blue\"", "label(3) and label(3) and label(3)"),
        ("family == IPv6", "family == 10"),
        ("event in {new, DESTROY, gap}", "event in {1, 3, 4}"),
        ("status & (SEEN_REPLY | assured) == 6", "status & 6 == 6"),
    ] {
        let parse = |text| Query::parse(text, &context).unwrap_or_else(|error| panic!("{error}")).program;
        assert_eq!(parse(text), parse(same), "{text}");
    }
}

#[test]
fn units_are_of_sizes_and_times() {
    for (text, same) in [
        ("bytes > 1.5MiB", "bytes > 1572864"),
        ("bytes > 1_000kB", "bytes > 1000000"),
        ("packets > 1k", "packets > 1024"),
        ("age > 1.5h", "age > 5400"),
        ("timeout in 1m..1h", "timeout in 60..3600"),
        ("age > 2 * 10m", "age > 1200"),
        ("age > 1h / 10m", "age > 6"),
        ("age + 10m > 1h", "age + 600 > 3600"),
        ("stop - start > 1ms", "stop - start > 1000000"),
        ("start + 1s < time", "start + 1_000_000_000 < time"),
        ("start == \"1970-01-01T00:00:01.5Z\"", "start == 1500000000"),
        ("start == \"1970-01-01T01:00:01+01:00\"", "start == 1000000000"),
        ("start in \"1970-01-02\"..\"1970-01-03\"", "start in 86400000000000..172800000000000"),
        ("start - \"1970-01-02\" > 1s", "start - 86400000000000 > 1000000000"),
        ("mark == 0xFF or mark == 0b101 or mark == 0o17", "mark in {255, 5, 15}"),
    ] {
        assert_eq!(parse(text).program.operations, parse(same).program.operations, "{text}");
    }
}

/// Returns an address as a number.
fn condition_bits(address: flowgate_model::Address) -> u128 {
    u128::from(address.hi) << 64 | u128::from(address.lo)
}

#[test]
fn addresses_of_both_families_are_told_apart() {
    // Those of IPv6 contain those of IPv4, in their mapped form.
    let sets = |text: &str| match parse(text).program.operations.pop() {
        Some(Operation::AddressIn(ranges)) => ranges
            .into_iter()
            .map(|range| (condition_bits(range.first), condition_bits(range.last)))
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let mapped = |bits: u128| 0xffff << 32 | bits;
    assert_eq!(sets("src in ::/0"), [(0, u128::MAX)]);
    assert_eq!(sets("src in {::/0, 0.0.0.0/0}"), [(mapped(0), mapped(0xffff_ffff)), (0, u128::MAX)]);
    assert_eq!(sets("src in {::1..::2:0:0:0, 10.0.0.0/8, ::5}").len(), 2);
    assert_eq!(parse("src == ::ffff:10.0.0.1").program, parse("src == 10.0.0.1").program);
    assert_eq!(parse("src in ::ffff:10.0.0.0/104").program, parse("src in 10.0.0.0/8").program);
}

#[test]
fn what_is_implied_is_what_the_kernel_can_compare() {
    let whole = |value: Address| Some(Network { value, mask: Address { hi: u64::MAX, lo: u64::MAX } });
    let port = |value| Some(Masked { value, mask: 0xffff });
    let is = |text: &str, change: &dyn Fn(&mut Selection)| {
        let mut expected = Selection::default();
        change(&mut expected);
        assert_eq!(parse(text).implied, expected, "{text}");
    };
    is("proto == tcp and dport == 443 and src == 10.0.0.1", &|all| {
        (all.family, all.protocol) = (Some(2), Some(6));
        all.original.source = whole(ipv4(10, 0, 0, 1));
        all.original.destination_l4 = port(443);
    });
    is("reply.dst in 10.0.0.1/32 and reply.sport == 5", &|all| {
        all.family = Some(2);
        all.reply.destination = whole(ipv4(10, 0, 0, 1));
        all.reply.source_l4 = port(5);
    });
    is("dst == 2001:db8::1", &|all| {
        all.family = Some(10);
        all.original.destination = whole(Address { hi: 0x2001_0db8 << 32, lo: 1 });
    });
    is("src in 10.0.0.0/8", &|all| all.family = Some(2));
    is("src in {10.0.0.0/8, ::1}", &|_| {});
    is("mark & 0xff == 3 and mark & 0x100 != 0", &|all| all.mark = Some(Masked { value: 0x103, mask: 0x1ff }));
    is("mark in {0x10, 0x11, 0x30}", &|all| all.mark = Some(Masked { value: 0x10, mask: 0xffff_ffde }));
    is("mark in 0x10..0x1f", &|all| all.mark = Some(Masked { value: 0x10, mask: 0xffff_fff0 }));
    is("assured and status & SEEN_REPLY != 0", &|all| all.status = Some(Masked { value: 6, mask: 6 }));
    // Each entry of the kernel has a status.
    is("not assured and not status & DYING == DYING and not status & SEEN_REPLY == 0", &|all| {
        all.status = Some(Masked { value: 0x2, mask: 0x206 });
    });
    is("not (assured or zone != 5)", &|all| (all.status, all.zone) = (Some(Masked { value: 0, mask: 4 }), Some(5)));
    is("not (assured and seen_reply)", &|_| {});
    // But not a mark, nor ports.
    is("not mark & 4 != 0 and not dport != 80", &|_| {});
    is("status & ASSURED == 0", &|all| all.status = Some(Masked { value: 0, mask: 4 }));
    is("zone == 5 and original.zone == 0 and reply.zone == 7", &|all| {
        (all.zone, all.original.zone, all.reply.zone) = (Some(5), Some(0), Some(7));
    });
    is("state == TIME_WAIT", &|all| all.protocol = Some(6));
    is("state == ESTABLISHED", &|_| {});
    is("proto == tcp and (dport == 80 or sport == 80)", &|all| all.protocol = Some(6));
    is("dport == 80 and mark == 1 or dport == 80 and mark == 3", &|all| {
        all.original.destination_l4 = port(80);
        all.mark = Some(Masked { value: 1, mask: !2 });
    });
    is("dport in {80, 81}", &|_| {});
    is("icmp_type == 8 and proto == icmp", &|all| {
        all.protocol = Some(1);
        all.original.destination_l4 = Some(Masked { value: 0x800, mask: 0xff00 });
    });
    is("icmp_type == 8", &|_| {});
    is("source_key == 5", &|all| {
        all.protocol = Some(47);
        all.original.source_l4 = port(5);
    });
    is("has(source_key)", &|all| all.protocol = Some(47));
    // De Morgan.
    is("not (not proto == tcp or not dport == 80)", &|all| {
        all.protocol = Some(6);
        all.original.destination_l4 = port(80);
    });
    is("not (proto == tcp and dport == 80)", &|_| {});
    is("not proto == tcp", &|_| {});
    is("proto != tcp", &|_| {});
    is("not proto != tcp", &|all| all.protocol = Some(6));
    is("not src == dst and not src != dst", &|_| {});
    is("proto > 5", &|_| {});
    is("protocol_name == \"udp\" and family_name == \"ipv6\"", &|all| {
        (all.protocol, all.family) = (Some(17), Some(10))
    });
    is("family == ipv4 or family == 2", &|all| all.family = Some(2));
    is("src == dst and bytes > 5 and helper == \"ftp\" and id == 5 and label(5)", &|_| {});
    is("true", &|_| {});
    is("false", &|_| {});
    is("proto == tcp or false", &|all| all.protocol = Some(6));
}

#[test]
fn columns_are_expressions() {
    use query::kind;
    let found = columns::parse("src, dport,bytes/1k , annotations.country", &Context::NAMES).unwrap();
    let summary: Vec<(&str, u8, String)> =
        found.iter().map(|(name, program, kind)| (name.as_str(), *kind, canonical(program))).collect();
    assert_eq!(
        summary,
        [
            ("src", kind::ADDRESS, "original.source".to_owned()),
            ("dport", kind::PORT, "original.destination_port".to_owned()),
            ("bytes/1k", kind::PLAIN, "bytes / 1024".to_owned()),
            ("annotations.country", kind::TEXT, "annotations.country".to_owned()),
        ]
    );
    for (text, kind) in [
        ("stop - start", kind::NANOSECONDS),
        ("time - 1h", kind::TIME),
        ("age + timeout", kind::SECONDS),
        ("original.bytes + reply.bytes", kind::BYTES),
        ("bytes / packets", kind::BYTES),
        ("mark & 0xff", kind::BITS),
        ("mark >> 8", kind::BITS),
        ("status & 6", kind::STATUS),
        ("dport + 1", kind::PLAIN),
        ("state", kind::STATE),
        ("labels", kind::TEXT),
    ] {
        let columns = columns::parse(text, &Context::NAMES).unwrap();
        assert_eq!(columns.first().map(|(_, _, kind)| *kind), Some(kind), "{text}");
    }
    for (wrong, message) in [
        ("", "the expression is empty"),
        ("src,", "the expression ends where a value is missing"),
        ("src dst", "unexpected `dst`"),
        ("5", "a constant is the same for all flows"),
        ("assured", "`assured` is a truth value"),
        ("dport == 5", "`dport == 5` is a truth value"),
    ] {
        let error = columns::parse(wrong, &Context::NAMES).unwrap_err();
        assert_eq!(error.message, message, "{wrong}");
    }
}

#[test]
fn the_page_of_the_language_is_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/QUERY.md");
    let page = fs::read_to_string(path).expect("the page");
    let labels = |name: &str| (name == "voice").then_some(1);
    let context = Context { labels: &labels, ..Context::NAMES };
    let examples = page.split("```query\n").nth(1).and_then(|rest| rest.split("```").next()).expect("examples");
    assert_eq!(examples.lines().count(), 6);
    for text in examples.lines() {
        Query::parse(text, &context).unwrap_or_else(|error| panic!("{error}"));
    }
    // The table has each field with its other names.
    for field in &query::ALL {
        let aliases: Vec<String> = field.aliases.iter().map(|alias| format!("`{alias}`")).collect();
        let row = format!("\n| `{}` | {}", field.name, aliases.join(", "));
        assert!(page.contains(row.trim_end()), "{row}");
    }
    // What the tables of expressions say.
    let rows: Vec<(&str, &str)> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | ")).collect();
    let find = |of: &str| rows.iter().find(|(text, _)| *text == of).map(|(_, means)| *means);
    let icmp = reference_of_icmp();
    for text in [
        "dport == 80",
        "dport != 80",
        "dport not in {80, 443}",
        "not dport == 80",
        "not dport in {80, 443}",
        "has(dport)",
    ] {
        let found = reference::run(&parse(text).program, &icmp).0;
        assert_eq!(find(text), Some(if found { "true" } else { "false" }), "{text}");
    }
    let kernel: Vec<_> = page.split("| the kernel checks |").nth(1).expect("a table").lines().skip(2).collect();
    let checked = kernel.iter().map_while(|line| line.strip_prefix("| `")).filter_map(|line| line.split_once("` | "));
    let mut count = 0;
    for (text, means) in checked {
        let Selection { family, protocol, original, mark, .. } = parse(text).implied;
        let ports = original.source_l4.is_some() || original.destination_l4.is_some();
        for (word, has) in [
            ("all of it", ports && original.source.is_some() && protocol.is_some()),
            ("protocol", protocol.is_some() && !ports),
            ("family", family.is_some() && !ports),
            ("mark", mark.is_some()),
        ] {
            assert_eq!(means.contains(word), has, "{text}: {word}");
        }
        count += 1;
    }
    assert_eq!(count, 6);
}

/// Returns a flow without ports.
fn reference_of_icmp() -> reference::Row {
    let mut row = reference::Row::default();
    row.fields.insert(query::PROTOCOL, reference::Value::Number(1));
    row
}

#[test]
fn long_and_foreign_texts_are_shown_in_part() {
    let long = format!("{}sauce == '\t\u{1b}[2J{}'", "dport == 1 or ".repeat(100), "x".repeat(500));
    let error = Query::parse(&long, &Context::NAMES).unwrap_err();
    let line = format!("  …{}sauce == '\\t\\u{{1b}}[2J{}…", &"dport == 1 or ".repeat(4)[6..], "x".repeat(35));
    let carets = format!("  {}^^^^^", " ".repeat(51));
    let expected = format!("there is no field `sauce`\n{line}\n{carets}\nhint: did you mean `source`?");
    assert_eq!(error.to_string(), expected);
    // So do hints.
    let error = Query::parse("1 < 'a\u{202e}' < \"b\"", &Context::NAMES).unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("'a\\u{202e}' > 1 and 'a\\u{202e}' < \"b\""));
    // Of several lines, the one with the place; columns are characters.
    let error = Query::parse("dport == 5 and\n'ä漢' == sauce and\n dport == 5", &Context::NAMES).unwrap_err();
    assert!(error.to_string().contains("\n  'ä漢' == sauce and\n          ^^^^^\n"), "{error}");
}

#[test]
fn the_documentation_has_the_grammar_and_all_fields() {
    let guide = include_str!("../../../docs/QUERY.md");
    assert!(guide.contains(&format!("```ebnf\n{}```", flowgate_query::GRAMMAR)), "docs/QUERY.md and src/grammar.ebnf");
    for field in &flowgate_names::query::ALL {
        assert!(guide.contains(&format!("| `{}` |", field.name)), "docs/QUERY.md has no row of `{}`", field.name);
    }
}
