//! Keys, measures and orders of aggregations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

use flowgate_model::Aggregation;
use flowgate_names::query::kind;
use flowgate_query::{
    Context,
    aggregation::{AggregationArguments, function, parse_by},
    canonical,
};

fn parse(arguments: AggregationArguments<'_>) -> Aggregation {
    arguments.parse(&Context::NAMES).unwrap_or_else(|error| panic!("{error}"))
}

fn wrong(arguments: AggregationArguments<'_>) -> String {
    arguments.parse(&Context::NAMES).expect_err("an error").to_string()
}

const NONE: AggregationArguments<'static> = AggregationArguments {
    by: None,
    count: false,
    sum: &[],
    min: &[],
    max: &[],
    avg: &[],
    distinct: &[],
    sort: None,
    top: None,
    max_groups: 1000,
    approximate: false,
};

#[test]
fn keys_are_expressions_with_prefix_lengths() {
    let keys = parse_by("src/24,dport, reply.src/24/64 ,dst/56, mark & 0xff, annotations.country,src", &Context::NAMES);
    let keys = keys.unwrap_or_else(|error| panic!("{error}"));
    let summary: Vec<_> = keys
        .iter()
        .map(|key| (key.name.as_str(), key.kind, canonical(&key.program), key.ipv4_prefix, key.ipv6_prefix))
        .collect();
    let text = str::to_owned;
    assert_eq!(
        summary,
        [
            ("src/24", kind::NETWORK, text("original.source"), 24, 128),
            ("dport", kind::PORT, text("original.destination_port"), 32, 128),
            ("reply.src/24/64", kind::NETWORK, text("reply.source"), 24, 64),
            ("dst/56", kind::NETWORK, text("original.destination"), 32, 56),
            ("mark & 0xff", kind::BITS, text("mark & 0xff"), 32, 128),
            ("annotations.country", kind::TEXT, text("annotations.country"), 32, 128),
            ("src", kind::ADDRESS, text("original.source"), 32, 128),
        ]
    );
    for (text, message) in [
        (
            "src/33/64",
            "the prefix length of IPv4 is at most 32\n  src/33/64\n      ^^\nhint: the first one is of IPv4, the second one of IPv6: src/24/64",
        ),
        (
            "src/129",
            "`129` is not a prefix length\n  src/129\n      ^^^\nhint: src/24 for IPv4, src/64 for IPv6, src/24/64 for both",
        ),
        (
            "src/a",
            "`a` is not a prefix length\n  src/a\n      ^\nhint: src/24 for IPv4, src/64 for IPv6, src/24/64 for both",
        ),
        (
            "src*24",
            "`24` is not a prefix length\n  src*24\n      ^^\nhint: src/24 for IPv4, src/64 for IPv6, src/24/64 for both",
        ),
        ("src/24/64/5", "there are prefix lengths of IPv4 and of IPv6 only\n  src/24/64/5\n            ^"),
        ("dport,dport", "`dport` is a key already\n  dport,dport\n        ^^^^^"),
        ("5", "a constant is the same for all flows\n  5\n  ^\nhint: name a field"),
        (
            "assured",
            "`assured` is a truth value\n  assured\n  ^^^^^^^\nhint: truth values are joined by `and`, `or` and `not`, and not compared",
        ),
        ("sorce", "there is no field `sorce`\n  sorce\n  ^^^^^\nhint: did you mean `source`?"),
    ] {
        assert_eq!(parse_by(text, &Context::NAMES).expect_err(text).to_string(), message);
    }
}

#[test]
fn measures_are_functions_of_expressions() {
    let found = parse(AggregationArguments {
        count: true,
        sum: &["bytes,original.bytes  +  reply.bytes", "packets"],
        min: &["start"],
        max: &["age"],
        avg: &["bytes,packets"],
        distinct: &["dst,helper"],
        ..NONE
    });
    let summary: Vec<_> = found
        .measures
        .iter()
        .map(|measure| (measure.name.as_str(), measure.function, measure.kind, measure.program.as_ref().map(canonical)))
        .collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        summary,
        [
            ("count", function::COUNT, kind::PLAIN, None),
            ("sum(bytes)", function::SUM, kind::BYTES, text("bytes")),
            ("sum(original.bytes + reply.bytes)", function::SUM, kind::BYTES, text("original.bytes + reply.bytes")),
            ("sum(packets)", function::SUM, kind::PLAIN, text("packets")),
            ("min(start)", function::MIN, kind::TIME, text("start")),
            ("max(age)", function::MAX, kind::SECONDS, text("age")),
            ("avg(bytes)", function::AVG, kind::MEAN_BYTES, text("bytes")),
            ("avg(packets)", function::AVG, kind::MEAN, text("packets")),
            ("distinct(dst)", function::DISTINCT, kind::PLAIN, text("original.destination")),
            ("distinct(helper)", function::DISTINCT, kind::PLAIN, text("helper")),
        ]
    );
    assert_eq!(parse(NONE).measures.iter().map(|measure| measure.function).collect::<Vec<_>>(), [function::COUNT]);
    assert!(
        wrong(AggregationArguments { sum: &["src"], ..NONE }).starts_with("`src` is an address; sum is of numbers")
    );
    assert!(
        wrong(AggregationArguments { max: &["helper"], ..NONE }).starts_with("`helper` is a text; max is of numbers")
    );
    assert!(wrong(AggregationArguments { sum: &["dport"], ..NONE }).starts_with("a sum of `dport` has no meaning"));
    assert!(
        wrong(AggregationArguments { sum: &["bytes", "bytes"], ..NONE })
            .starts_with("`sum(bytes)` is a measure already")
    );
}

#[test]
fn the_order_names_keys_and_measures() {
    let with = |sort| AggregationArguments {
        by: Some("src/24,dport,mark & 0xff"),
        sum: &["bytes", "packets"],
        avg: &["packets"],
        sort,
        ..NONE
    };
    let sorts = |sort| -> Vec<(u32, bool)> {
        parse(with(sort)).sorts.iter().map(|sort| (sort.column, sort.descending)).collect()
    };
    // The first measure, descending, unless something is named.
    assert_eq!(sorts(None), [(3, true)]);
    for (text, expected) in [
        ("bytes", vec![(3, true)]),
        ("sum(bytes)", vec![(3, true)]),
        ("-bytes", vec![(3, true)]),
        ("+bytes", vec![(3, false)]),
        ("dport", vec![(1, false)]),
        ("original.destination_port", vec![(1, false)]),
        ("-dport , sum(packets),src/24", vec![(1, true), (4, true), (0, false)]),
        ("avg(packets)", vec![(5, true)]),
        ("mark & 255", vec![(2, false)]),
    ] {
        assert_eq!(sorts(Some(text)), expected, "{text}");
    }
    for (text, message) in [
        (
            "packets",
            "`packets` may be sum(packets) or avg(packets)\n  packets\n  ^^^^^^^\nhint: write it as it is called there",
        ),
        (
            "sum(byte)",
            "`sum(byte)` is neither a key nor a measure\n  sum(byte)\n  ^^^^^^^^^\nhint: did you mean `sum(bytes)`?",
        ),
        (
            "age",
            "`age` is neither a key nor a measure\n  age\n  ^^^\nhint: add it as a measure: --sum age; there are src/24, dport, mark & 0xff, sum(bytes), sum(packets), avg(packets)",
        ),
        ("dport,dport", "`dport` is in the order already\n  dport,dport\n        ^^^^^"),
        ("dport,", "the name of a key or of a measure is missing\n  dport,\n        ^\nhint: bytes, or -src"),
        ("-", "the name of a key or of a measure is missing\n  -\n  ^\nhint: bytes, or -src"),
    ] {
        assert_eq!(wrong(with(Some(text))), message);
    }
}

#[test]
fn numbers_of_groups_are_not_zero_and_approximations_are_of_sums() {
    let found = parse(AggregationArguments { by: Some("src"), top: Some(5), approximate: true, ..NONE });
    assert_eq!((found.top, found.max_groups, found.approximate), (Some(5), 1000, true));
    assert!(
        wrong(AggregationArguments { top: Some(0), ..NONE })
            .starts_with("the number of groups that are shown is at least 1")
    );
    assert!(
        wrong(AggregationArguments { max_groups: 0, ..NONE })
            .starts_with("the number of groups that are kept is at least 1")
    );
    let approximate = AggregationArguments { by: Some("src"), max: &["bytes"], approximate: true, ..NONE };
    for sort in [None, Some("bytes"), Some("src"), Some("-src"), Some("max(bytes),count")] {
        let approximate = AggregationArguments { count: sort == Some("max(bytes),count"), ..approximate };
        let error = wrong(AggregationArguments { sort, ..approximate });
        assert!(error.starts_with("an approximation finds the groups with the largest number"), "{error}");
    }
    let ascending = AggregationArguments { sum: &["bytes"], max: &[], sort: Some("+bytes"), ..approximate };
    assert!(wrong(ascending).starts_with("an approximation finds"));
    parse(AggregationArguments { count: true, sort: Some("src,count,max(bytes)"), ..approximate });
}
