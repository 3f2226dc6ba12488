//! The folders of a crate do not depend on each other in a cycle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Returns the paths in a file that start with `crate` or `super`, with nested imports expanded.
fn paths(text: &str) -> Vec<Vec<String>> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    // Imports of tests do not count.
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    let mut paths = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|character| !character.is_alphanumeric() && !"_:$".contains(character)) {
                tree(&code[at..], &mut Vec::new(), &mut paths);
            }
        }
    }
    paths
}

/// Reads one path, or a nested import, that follows the prefix `before`; returns the length of the text read.
fn tree(text: &str, before: &mut Vec<String>, paths: &mut Vec<Vec<String>>) -> usize {
    let depth = before.len();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with('{') {
            at += 1;
            loop {
                at += text[at..].len() - text[at..].trim_start_matches([' ', '\n', ',']).len();
                if text[at..].starts_with('}') {
                    at += 1;
                    break;
                }
                match tree(&text[at..], before, paths) {
                    0 => break,
                    read => at += read,
                }
            }
            before.truncate(depth);
            return at;
        }
        let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        before.push(rest[..end].to_owned());
        at += end;
        if !text[at..].starts_with("::") {
            break;
        }
        at += 2;
    }
    if before.len() > depth {
        paths.push(before.clone());
    }
    before.truncate(depth);
    // `X as Y`
    if let Some(renamed) = text[at..].strip_prefix(" as ") {
        at += 4 + renamed.find([',', '}', ';']).unwrap_or(renamed.len());
    }
    at
}

/// Collects all Rust files below a directory, as module paths with their text.
fn modules(directory: &Path, name: &[String], found: &mut Vec<(Vec<String>, String)>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut inner = name.to_vec();
        if path.is_dir() {
            inner.push(stem);
            modules(&path, &inner, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && stem != "tests" {
            if !["mod", "lib", "main"].contains(&stem.as_str()) {
                inner.push(stem);
            }
            found.push((inner, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Returns which folders of a crate depend on which, with an example path for each dependency.
fn arrows(source: &Path) -> BTreeMap<(String, String), String> {
    let mut found = Vec::new();
    modules(source, &[], &mut found);
    let folders: BTreeSet<&String> = found.iter().filter_map(|(module, _)| module.first()).collect();
    let folders: BTreeSet<String> =
        folders.into_iter().filter(|folder| source.join(folder).is_dir()).cloned().collect();
    let mut arrows = BTreeMap::new();
    for (module, text) in &found {
        let Some(from) = module.first().filter(|folder| folders.contains(*folder)) else { continue };
        for path in paths(text) {
            let ups = path.iter().take_while(|word| *word == "super").count();
            let whole: Vec<&String> = match ups {
                0 => path.iter().skip(1).collect(),
                _ => module.iter().take(module.len().saturating_sub(ups)).chain(path.iter().skip(ups)).collect(),
            };
            if let Some(to) = whole.first().filter(|to| folders.contains(**to) && **to != from) {
                arrows
                    .entry((from.clone(), (*to).clone()))
                    .or_insert_with(|| format!("{} names {}", module.join("/"), path.join("::")));
            }
        }
    }
    arrows
}

#[test]
fn folders_of_a_crate_do_not_use_each_other_in_a_circle() {
    let mut seen = 0;
    for entry in fs::read_dir(super::root().join("host")).unwrap() {
        let source = entry.unwrap().path().join("src");
        let arrows = arrows(&source);
        seen += arrows.len();
        // Folders reachable from each folder.
        let mut reached: BTreeSet<(&str, &str)> =
            arrows.keys().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        loop {
            let further: Vec<(&str, &str)> = reached
                .iter()
                .flat_map(|&(from, over)| {
                    reached.iter().filter(move |(start, _)| *start == over).map(move |&(_, to)| (from, to))
                })
                .filter(|arrow| !reached.contains(arrow))
                .collect();
            if further.is_empty() {
                break;
            }
            reached.extend(further);
        }
        let circle: Vec<&str> = reached.iter().filter(|(from, to)| from == to).map(|(from, _)| *from).collect();
        let why: Vec<&String> = arrows
            .iter()
            .filter(|((from, to), _)| circle.contains(&from.as_str()) && circle.contains(&to.as_str()))
            .map(|(_, why)| why)
            .collect();
        assert!(circle.is_empty(), "{}: {circle:?} use each other: {why:#?}", source.display());
    }
    assert!(seen >= 5, "{seen} arrows between folders were found, which cannot be all");
}

#[test]
fn paths_are_found_in_trees_of_imports() {
    let text = "use crate::{a::{B, c::D as E}, f};\nuse super::g::{self, H};\n// crate::no\nfn i() { crate::j::k() }\nx::crate::l";
    let found: Vec<String> = paths(text).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["crate::a::B", "crate::a::c::D", "crate::f", "crate::j::k", "super::g::self", "super::g::H"]);
}
