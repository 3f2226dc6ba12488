//! Whole command lines: what they mean, and what is wrong with them.

use super::environment::tests::FakeEnvironment;
use super::*;
use crate::model::{Masked, field};

/// Command lines and what comes of them; see the head of the file.
const LINES: &str = include_str!("testdata/command_lines.txt");

/// Splits a line at spaces; single quotes group.
fn words(line: &str) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let mut word = String::new();
        let mut quoted = false;
        let end = rest.find(|byte| {
            quoted ^= byte == '\'';
            byte == ' ' && !quoted
        });
        let (first, more) = rest.split_at(end.unwrap_or(rest.len()));
        word.extend(first.chars().filter(|byte| *byte != '\''));
        words.push(word.into());
        rest = more.trim_start();
    }
    words
}

fn parse_as(program: &str, line: &str, environment: &FakeEnvironment) -> Parsed {
    parse(OsStr::new(program), &words(line), environment)
}

fn settings_in(line: &str, environment: &FakeEnvironment) -> Settings {
    match parse_as("conntrack", line, environment).result {
        Ok(Invocation::Run(settings)) => *settings,
        other => panic!("{line}: {other:?}"),
    }
}

fn settings(line: &str) -> Settings {
    settings_in(line, &FakeEnvironment::default())
}

fn error_as(program: &str, line: &str) -> String {
    match parse_as(program, line, &FakeEnvironment::default()).result {
        Err(error) => error.to_string(),
        Ok(invocation) => panic!("{line}: {invocation:?}"),
    }
}

/// Status and lines on stderr, as in the file; status `-` where the command would be carried out.
fn outcome(line: &str) -> String {
    let parsed = parse_as("conntrack", line, &FakeEnvironment::default());
    let mut parts = vec!["-".to_owned()];
    parts.extend(parsed.warnings);
    if let Err(error) = parsed.result {
        parts[0] = error.status().to_string();
        parts.push(error.to_string());
    }
    parts.join(" | ")
}

#[test]
fn every_command_line_of_the_file_comes_out_as_it_says() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut blessed = String::new();
    let mut wrong = Vec::new();
    for line in LINES.lines() {
        if line.is_empty() || line.starts_with('#') {
            blessed += &format!("{line}\n");
            continue;
        }
        let (left, expected) = line.split_once(" => ").unwrap_or((line, ""));
        let found = outcome(left.strip_prefix("~ ").unwrap_or(left));
        blessed += &format!("{left} => {found}\n");
        if found != expected {
            wrong.push(format!("{left}\n  expected {expected}\n  found    {found}"));
        }
    }
    if bless {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/testdata/command_lines.txt");
        std::fs::write(path, blessed).expect("the file can be written");
    } else {
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
