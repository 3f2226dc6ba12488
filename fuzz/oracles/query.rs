//! Arbitrary text as a condition, as columns and as keys and measures of an aggregation: nothing panics, the place of
//! an error is in the text, its message has nothing that a terminal interprets, what is accepted has a canonical text
//! that is parsed as the same, and memory and time are proportional to the text.

use std::sync::atomic::{AtomicUsize, Ordering};

use flowgate_base::text as clean;
use flowgate_query::{Context, Query, QueryError, aggregation::AggregationArguments, canonical, columns};

use super::{input::Input, linear::linear, text::text};

const EXAMPLES: &[&[u8]] = &[
    b"proto == tcp and dport in {80, 443, 8000..8999} and not src in 10.0.0.0/8 and bytes > 1M and age > 10m and mark & 0x3f00 != 0",
    b"state in {ESTABLISHED, TIME_WAIT} or state != OPEN && !assured || status & (ASSURED | SEEN_REPLY) == SEEN_REPLY",
    b"src in {2001:db8::/32, ::1, fe80::1..fe80::9} and dst == 10.0.0.1 or reply.src == dst",
    b"has(helper) and helper in {\"ftp\", 'tftp'} and not helper matches r\"^f\\w+$\" and annotations.country == \"DE\"",
    b"start > \"2026-11-30T12:00:00Z\" and stop - start > 1.5h and start > time - 10m and annotations[\"a key\"] contains \"\\u{e4}\"",
    b"(bytes + 1) * 2 - -3 / 4 % 5 << 6 >> 7 | ~8 ^ 9 >= 0x1f and label(5) and labels contains \"blue\"",
    b"src/24/64, dport, bytes / packets, mark & 0xff",
];

const WORDS: &[&str] = &[
    "(",
    ")",
    " and ",
    " or ",
    "not ",
    " in {",
    "..",
    " not in ",
    "has(",
    "label(blue)",
    "dport ",
    "src ",
    "mark & ",
    "state == ",
    "ESTABLISHED",
    "proto == ",
    "tcp",
    "https",
    "\"http-alt\"",
    "annotations.",
    "annotations[\"",
    "\"]",
    "status & ",
    "assured",
    "true",
    "== ",
    "!= ",
    "<< ",
    "-",
    "~",
    "!",
    "% 0",
    "10.0.0.0/8",
    "::/0",
    "::ffff:1.2.3.4/96",
    "fe80::1",
    "10m",
    "1.5GiB",
    "170141183460469231731687303715884105728",
    "\"2026-11-30\"",
    " matches \"",
    " contains '",
    "\\x7f",
    "\\u{202e}",
    "r\"",
];

/// Number of texts that were accepted and refused as a condition.
static ACCEPTED: AtomicUsize = AtomicUsize::new(0);
static REFUSED: AtomicUsize = AtomicUsize::new(0);

/// Returns the number of texts that were accepted and refused as a condition.
#[allow(dead_code, reason = "an engine for fuzzing has no use for it")]
pub(crate) fn read_so_far() -> (usize, usize) {
    (ACCEPTED.load(Ordering::Relaxed), REFUSED.load(Ordering::Relaxed))
}

fn check(error: &QueryError, text: &str) {
    assert_eq!(error.text, text);
    assert!(error.at.start <= error.at.end && error.at.end <= text.len(), "{:?} of {}", error.at, text.len());
    assert!(text.is_char_boundary(error.at.start) && text.is_char_boundary(error.at.end), "{:?} of {text:?}", error.at);
    let shown = error.to_string();
    assert_eq!(clean::message(shown.as_bytes()), shown, "not escaped");
    assert!(shown.len() <= 20_000 && (shown.contains('^') || text.is_empty()), "{shown}");
}

/// Parses a text derived from the input.
///
/// # Panics
/// If one of these properties does not hold.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let bytes = text(&mut input, EXAMPLES, WORDS);
    let text = String::from_utf8_lossy(&bytes);
    let labels = |name: &str| (name == "blue").then_some(3);
    let context = Context { labels: &labels, ..Context::NAMES };
    // A regular expression of any length may take 1 MiB.
    let size = text.len() + text.matches("matches").take(33).count() * 8192;

    match linear("condition", size, || Query::parse(&text, &context)) {
        Err(error) => {
            REFUSED.fetch_add(1, Ordering::Relaxed);
            check(&error, &text);
        }
        Ok(query) => {
            ACCEPTED.fetch_add(1, Ordering::Relaxed);
            let shown = linear("canonical text", size, || query.to_string());
            if shown.len() <= 1 << 20 {
                let again = Query::parse(&shown, &context).unwrap_or_else(|error| panic!("{text}\n{error}"));
                assert_eq!(again.program, query.program, "{text} is shown as {shown}");
                assert_eq!(again.implied, query.implied, "{text} is shown as {shown}");
            }
        }
    }
    match linear("columns", size, || columns::parse(&text, &context)) {
        Err(error) => check(&error, &text),
        Ok(columns) => {
            for (_, program, _) in columns {
                let shown = canonical(&program);
                let again = columns::parse(&shown, &context).unwrap_or_else(|error| panic!("{text}\n{error}"));
                // Not the kind: `bytes * 1K` is no size, and the canonical text `bytes * 1024` is one.
                assert_eq!(again.first().map(|(_, program, _)| program), Some(&program), "{shown}");
            }
        }
    }
    let (by, distinct) = (Some(text.as_ref()), [text.as_ref()]);
    let (measures, sort) = if input.one_in(2) { (&distinct[..], None) } else { (&[][..], by) };
    let arguments =
        AggregationArguments { by, distinct: measures, sort, max_groups: 1, ..AggregationArguments::default() };
    if let Err(error) = linear("aggregation", 3 * size, || arguments.parse(&context)) {
        check(&error, &text);
    }
}
