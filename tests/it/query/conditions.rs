//! Conditions on a table with everything in it.

use std::{collections::BTreeSet, path::Path};

use flowgate_test_support::{Namespace, Random, flowgate, traffic::Traffic};
use serde_json::Value;

use super::{duckdb::DuckDb, generate::Generator};

/// Number of random conditions.
const CONDITIONS: usize = 1000;

/// Records the table into a file.
fn record(file: &Path) {
    flowgate().must(&["record", file.to_str().unwrap(), "--", "-L"]);
}

/// Returns the ids of the flows in a JSON output, ascending.
fn ids(json: &str) -> Vec<u64> {
    let flows = json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut ids: Vec<u64> = flows.map(|flow| flow["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

/// The same expression gives the same rows as SQL on the JSON output, from a recording and from the kernel, whose
/// filter is made of what the expression implies.
#[test]
fn a_thousand_random_conditions_agree_with_duckdb() {
    let seed = Random::seed("FLOWGATE_SEED");
    println!("FLOWGATE_SEED={seed}");
    Namespace::run(|namespace| {
        let _traffic = Traffic::in_a_full_table(namespace);
        let recording = namespace.directory().join("table.pcap");
        record(&recording);
        let recording = recording.to_str().unwrap();
        let file = namespace.directory().join("flows.json");
        let text = flowgate().must(&["replay", recording, "--", "-L", "-o", "json"]);
        std::fs::write(&file, &text).unwrap();
        let mut duckdb = DuckDb::with(&file);
        let all = duckdb.ids("TRUE");
        assert!(all.len() > 400, "{}", all.len());
        let missing = || {
            let live = ids(&flowgate().must(&["-L", "-o", "json"]));
            all.iter().filter(|id| live.binary_search(id).is_err()).copied().collect::<Vec<u64>>()
        };
        assert!(missing().is_empty(), "{:?}", missing());
        let mut random = Random::new(seed);
        let (mut some, mut narrowed) = (0, BTreeSet::new());
        for round in 0..CONDITIONS {
            let condition = Generator { random: &mut random }.condition(3);
            let expected = duckdb.ids(&condition.sql);
            let words = ["-L", "-o", "json", "--where", &condition.query];
            // The kernel's own messages may have made a flow in the meantime.
            let mut live = ids(&flowgate().must(&words));
            live.retain(|id| all.binary_search(id).is_ok());
            let same = |found: &[u64], of: &str| {
                let differs = |id: &&u64| found.binary_search(id).is_ok() != expected.binary_search(id).is_ok();
                let other = all.iter().find(differs);
                let flow = other.map(|id| text.lines().find(|line| line.contains(&format!("\"id\":{id},"))));
                assert!(
                    found == expected,
                    "{of}, missing {:?}, FLOWGATE_SEED={seed}\n{condition:#?}\n{flow:#?}",
                    missing()
                );
            };
            same(&live, "live");
            if round % 4 == 0 {
                let replayed = flowgate().must(&[&["replay", recording, "--"], &words[..]].concat());
                same(&ids(&replayed), "replayed");
                let explained = flowgate().must(&[&words[..], &["--explain"]].concat());
                let explained: Value = serde_json::from_str(&explained).unwrap();
                let conditions = explained["selector"].as_array().unwrap();
                let checked = conditions.iter().filter(|condition| condition["by"] == "kernel");
                narrowed.extend(checked.map(|condition| condition["condition"].to_string()));
            }
            some += usize::from(!expected.is_empty() && expected.len() < all.len());
        }
        assert!(narrowed.len() >= 3, "{narrowed:?}");
        assert!(some > CONDITIONS / 3, "{some} conditions told flows apart");
        println!("{some} of {CONDITIONS} conditions told flows apart; the kernel checked {narrowed:?}");
    });
}
