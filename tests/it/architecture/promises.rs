//! The tests that docs/SECURITY.md names exist.

use std::{collections::BTreeSet, fs, path::PathBuf};

use flowgate_test_support::built::root;

/// Returns the names of all tests.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut left: Vec<PathBuf> = ["host", "tests"].iter().map(|directory| root().join(directory)).collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            for attribute in ["#[test]", "#[tokio::test]"] {
                let after = text.split(attribute).skip(1);
                let functions = after.filter_map(|rest| rest.split_once("fn ")?.1.split_once('('));
                names.extend(functions.map(|(name, _)| name.to_string()));
            }
        }
    }
    names
}

#[test]
fn each_attack_that_is_documented_has_its_tests() {
    let text = fs::read_to_string(root().join("docs/SECURITY.md")).unwrap();
    let (_, section) = text.split_once("\n## Attacks with tests\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ") && line.contains('`')).collect();
    assert!(rows.len() > 20, "{rows:#?}");
    let there = tests();
    for row in rows {
        let named: Vec<&str> = row.rsplit("| ").next().unwrap().split('`').skip(1).step_by(2).collect();
        let missing: Vec<&&str> = named.iter().filter(|name| !there.contains(**name)).collect();
        assert!(!named.is_empty() && missing.is_empty(), "there is no test {missing:?}, which this names: {row}");
    }
}
