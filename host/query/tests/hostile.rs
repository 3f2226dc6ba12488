//! Texts that are long, deep, or made to cost: each is refused or parsed in bounded time, on a small stack.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

use std::{fmt::Write as _, time::Duration};

use flowgate_base::clock::thread_time;
use flowgate_model::Operation;
use flowgate_query::{Context, Query, QueryError, aggregation, columns};

const MIB: usize = 1 << 20;
/// Stack of the thread that parses.
const STACK: usize = 1 << 20;
/// Maximum CPU time for a text of 1 MiB.
const TIME: Duration = Duration::from_secs(4);

/// Parses a text on a thread with a small stack.
fn parse(text: String) -> Result<Query, QueryError> {
    let parse = move || {
        let started = thread_time();
        let result = Query::parse(&text, &Context::NAMES);
        let shown = match &result {
            Ok(query) => query.to_string(),
            Err(error) => error.to_string(),
        };
        let used = thread_time().saturating_sub(started);
        assert!(used < TIME, "{used:?} for {} bytes, which begin with {:.40}", text.len(), text);
        assert!(result.is_ok() || shown.len() < 2000, "{shown}");
        (result, shown)
    };
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(parse).unwrap();
    let (result, shown) = thread.join().unwrap();
    if let Ok(query) = &result
        && shown.len() <= MIB
    {
        let again = Query::parse(&shown, &Context::NAMES).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again.program, query.program);
    }
    result
}

fn message(text: String) -> String {
    match parse(text) {
        Ok(query) => panic!("accepted: {:.200}", query.to_string()),
        Err(error) => error.message,
    }
}

/// Returns the number of columns that a program needs at a time.
fn columns_of(query: &Query) -> usize {
    let (mut now, mut most) = (0usize, 0);
    for operation in &query.program.operations {
        match operation {
            Operation::Field(_)
            | Operation::Annotation(_)
            | Operation::Number(_)
            | Operation::Address(_)
            | Operation::Text(_)
            | Operation::Truth(_)
            | Operation::Label(_) => now += 1,
            Operation::Arithmetic(_) | Operation::Compare(_) => now -= 1,
            Operation::All(number) | Operation::Any(number) => now -= *number as usize - 1,
            _ => {}
        }
        most = most.max(now);
    }
    assert_eq!(now, 1);
    most
}

#[test]
fn nesting_ends_at_200_levels() {
    const DEEP: &str = "the expression is nested more than 200 levels deep";
    let closed = |open: &str, middle: &str, close: &str, times: usize| {
        format!("{}{middle}{}", open.repeat(times), close.repeat(times))
    };
    for times in [1, 100, 199, 200] {
        parse(closed("(", "dport == 5", ")", times)).unwrap_or_else(|error| panic!("{times}: {error}"));
    }
    for (open, middle, close, good) in [
        ("(", "dport == 5", ")", 200),
        ("not ", "dport == 5", "", 198),
        ("!", "dport == 5", "", 198),
        ("-", "bytes == 5", "", 198),
        ("~", "bytes == 5", "", 198),
        ("assured and (dying or (", "assured", "))", 98),
        ("bytes + (", "bytes == 1", ")", 0),
        ("bytes - (1 * (", "bytes", ")) ", 98),
    ] {
        let tail = if open.starts_with("bytes - ") { " == 5" } else { "" };
        let deep = |times| closed(open, middle, close, times) + tail;
        if good > 0 {
            let query = parse(deep(good)).unwrap_or_else(|error| panic!("{open}: {error}"));
            assert!(columns_of(&query) <= 256);
            assert_eq!(message(deep(good + 3)), DEEP, "{open}");
        }
        assert_eq!(message(deep((MIB - 20) / (open.len() + close.len()))), DEEP, "{open}");
    }
    // To the left: each level has all operators.
    let mut left = "bytes".to_owned();
    for _ in 0..30 {
        left = format!("({left} * 2 + 1 << 1 & 7 ^ 2 | 1)");
    }
    assert_eq!(parse(left.clone() + " == 5").map(|query| columns_of(&query)), Ok(2));
    for _ in 0..10 {
        left = format!("({left} * 2 + 1 << 1 & 7 ^ 2 | 1)");
    }
    assert_eq!(message(left + " == 5"), DEEP);
    assert_eq!(message("has(".repeat(MIB / 4)), DEEP);
    assert_eq!(message("x in {".repeat(MIB / 6)), "unexpected `in` in a set");
}

#[test]
fn long_texts_take_time_in_proportion() {
    let texts = [
        "(",
        ")",
        "{",
        "[",
        ",",
        "..",
        "1..",
        "1",
        ":",
        "a:",
        "::",
        "a",
        "a.",
        "-",
        "- ",
        "~",
        "!",
        "!=",
        "\"",
        "'\\",
        "\\",
        "1 < ",
        "1 + ",
        "1 - 1 ",
        "not",
        "and ",
        "\u{1b}",
        "ä",
        "\n",
        " ",
        "0x",
        "1.",
        "1.1.1.1",
        "1.1.1.1/",
        "in {",
        "r\"",
        "dport == 1 ",
        "annotations[",
        "annotations.",
        "1k",
        "\"a\" < ",
        "&",
        "|",
        "()",
        "has",
        "label(",
        "-1 ",
        "1d+",
        "{}",
        "src == ::1 or ",
        "dport == a-a or ",
        "mark == a and ",
        "dport in {1..2, ",
        "helper matches \"a\" or ",
    ];
    for text in texts {
        for (before, after) in [("", ""), ("dport in {", "}"), ("dport == ", " == 5"), ("helper == \"", "\"")] {
            let length = if before.is_empty() { MIB } else { MIB / 16 };
            let many = (length - before.len() - after.len()) / text.len();
            let _ = parse(format!("{before}{}{after}", text.repeat(many)));
        }
    }
    assert_eq!(
        message("dport == 5 or ".repeat(MIB)),
        format!("the expression has {} bytes; at most {MIB} are accepted", 14 * MIB)
    );
}

#[test]
fn sets_of_100_000_members_are_sorted_and_joined() {
    let mut text = "mark in {".to_owned();
    // Every second number from the largest down, and one range that joins some.
    for number in (0..100_000).rev() {
        let _ = write!(text, "{}, ", number * 2);
    }
    let query = parse(text + "100..199}").unwrap();
    let [Operation::Field(_), Operation::NumberIn(ranges)] = query.program.operations.as_slice() else {
        panic!("a set")
    };
    assert_eq!(ranges.len(), 100_000 - 50);
    let text: Vec<String> = (0..50_000).map(|number| format!("\"{}\"", number * 7919 % 50_000)).collect();
    let query = parse(format!("helper in {{{}}}", text.join(","))).unwrap();
    let [Operation::Field(_), Operation::TextIn(texts)] = query.program.operations.as_slice() else { panic!("a set") };
    assert!(texts.len() == 50_000 && texts.is_sorted());
    // Equalities, joined by `or`.
    let text: Vec<String> = (0..50_000).rev().map(|number| format!("dport == {number}")).collect();
    let query = parse(text.join(" or ")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(query.to_string(), "original.destination_port in {0..49999}");
}

#[test]
fn chains_of_100_000_terms_need_few_columns() {
    for word in ["or", "and", "||", "&&"] {
        let terms = ["id<1", "id!=2", "id>3", "not id<9"];
        let text: Vec<&str> = (0..80_000).map(|number| terms[number % 4]).collect();
        let query = parse(text.join(&format!(" {word} "))).unwrap();
        assert_eq!(columns_of(&query), 3);
        assert_eq!(query.program.operations.len(), 80_000 * 4 - 1 + 20_000);
    }
    let sum = parse(format!("{}1 > 5", "id+".repeat(300_000))).unwrap();
    assert_eq!((columns_of(&sum), sum.program.operations.len()), (2, 600_003));
    // Chains within chains.
    let mut text = "id>1".to_owned();
    for level in 0..95 {
        let (word, other) = if level % 2 == 0 { ("and", "or") } else { ("or", "and") };
        text = format!("{}({text}) {other} id>2", format!("id<1 {word} ").repeat(660));
    }
    assert!(text.len() > MIB / 2);
    let query = parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert!(columns_of(&query) <= 256);
}

#[test]
fn regular_expressions_are_bounded_in_size_and_number() {
    let error = message("helper matches \"((a{1000}){1000}){1000}\"".into());
    assert!(error.starts_with("the regular expression is not valid: "), "{error}");
    let deep = format!("helper matches \"{}a{}\"", "(".repeat(100_000), ")".repeat(100_000));
    assert!(message(deep).starts_with("the regular expression is not valid: "));
    let many = |number: usize| vec!["helper matches \"(a{100}){80}\""; number].join(" or ");
    assert!(parse(many(32)).is_ok());
    assert_eq!(message(many(33)), "there are more than 32 regular expressions");
    assert_eq!(message(many(30_000)), "there are more than 32 regular expressions");
}

#[test]
fn lists_are_bounded() {
    let many = |number: usize| vec!["dport"; number].join(",");
    let error = columns::parse(&many(300), &Context::NAMES).unwrap_err();
    assert_eq!(error.message, "there are more than 256 columns");
    let keys: Vec<String> = (0..70_000).map(|number| format!("dport + {number}")).collect();
    let error = aggregation::parse_by(&keys.join(","), &Context::NAMES).unwrap_err();
    assert_eq!(error.message, "there are more than 64 keys");
}

#[test]
fn constants_are_computed_within_128_bits() {
    let largest = i128::MAX;
    for (text, shown) in [
        (format!("bytes - {} == 1", i128::MIN), "bytes - -170141183460469231731687303715884105728 == 1".to_owned()),
        (format!("bytes * ({largest} - 1 + 1) == 1"), format!("bytes * {largest} == 1")),
        ("bytes + (1 << 126) == 1".into(), format!("bytes + {} == 1", 1i128 << 126)),
        ("bytes + (-1 << 127) == 1".into(), format!("bytes + {} == 1", i128::MIN)),
        ("bytes + -7 / 2 + -7 % 2 == 1".into(), "bytes + -3 + -1 == 1".into()),
        ("bytes + (-8 >> 1) + ~5 == 1".into(), "bytes + -4 + -6 == 1".into()),
    ] {
        assert_eq!(parse(text.clone()).unwrap_or_else(|error| panic!("{error}")).to_string(), shown, "{text}");
    }
    for text in [
        format!("{largest} + 1 == bytes"),
        format!("-{largest} - 2 == bytes"),
        format!("{largest} * 2 == bytes"),
        format!("-({}) == bytes", i128::MIN),
        format!("({}) / -1 == bytes", i128::MIN),
        format!("({}) % -1 == bytes", i128::MIN),
        "1 << 127 == bytes".into(),
        "3 << 126 == bytes".into(),
    ] {
        assert_eq!(message(text.clone()), "the result is beyond 128 bits", "{text}");
    }
    for text in ["1 / 0 == bytes", "bytes % 0 == 1", "bytes / (5 - 5) == 1"] {
        assert_eq!(message(text.into()), "division by 0", "{text}");
    }
    for (text, by) in [("bytes << 128 == 1", 128), ("bytes >> -1 == 1", -1), ("1 << 200 == bytes", 200)] {
        assert_eq!(message(text.into()), format!("a shift by {by}; it may be by 0 to 127"));
    }
}
