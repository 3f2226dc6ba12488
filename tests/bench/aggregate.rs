//! Groups of flows, compared with a script around `conntrack`, and with a plain listing.

use crate::{
    measure::{self, Sink},
    report::Row,
    settings::Settings,
};
use flowgate_test_support::{Namespace, entries};

/// The heaviest sources, by the usual script.
const SCRIPT: &str = "conntrack -L 2>/dev/null | awk '{ s = \"\"; b = 0; for (i = 1; i <= NF; i++) \
                      if ($i ~ /^bytes=/) b += substr($i, 7); else if (s == \"\" && $i ~ /^src=/) s = substr($i, 5); \
                      sum[s] += b } END { for (s in sum) print sum[s], s }' | sort -rn | head -20";
/// The same by flowgate.
const WORDS: [&str; 7] = ["-L", "--by", "src", "--sum", "bytes", "--top", "20"];

/// Names of the cases, and the goals as shares of the wall clock of what they are compared with.
pub(crate) const CASES: [(&str, f64); 2] =
    [("aggregate: --by src --sum bytes, by awk", 0.3), ("aggregate: --by src --sum bytes, by -L", 1.1)];

/// Runs the cases that are chosen, on a table with counters.
pub(crate) fn run(settings: &Settings, flows: u32, rounds: u32) -> Vec<Row> {
    if settings.before.is_some() || CASES.iter().all(|(name, _)| !settings.chooses(name)) {
        return Vec::new();
    }
    Namespace::run(|namespace| {
        namespace.account(true);
        entries::load(namespace, &entries::busy(flows));
        let ours = settings.program.as_str();
        let words = WORDS.map(str::to_owned);
        let script = ["-c".to_owned(), SCRIPT.to_owned()];
        let plain = ["-L".to_owned()];
        let others: [(&str, &[String]); 2] = [("sh", &script), (ours, &plain)];
        let cases = CASES.iter().zip(others).filter(|((name, _), _)| settings.chooses(name));
        cases
            .map(|((name, goal), other)| {
                let [theirs, ours] = measure::in_turn([other, (ours, &words)], rounds, Sink::Null);
                Row { name, lines: [0; 2], theirs, ours, wall: Some(*goal), cpu: None, wall_ms: None }
            })
            .collect()
    })
}
