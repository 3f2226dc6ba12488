//! Runs the command lines of `host/syntax/src/testdata/command_lines.txt` through the installed `conntrack`. Its
//! messages must equal those of flowgate, which a test of the crate `syntax` compares with the same file. Each runs in
//! a network namespace of its own.

use std::process::{Command, Stdio};

use super::compare::Both;

const LINES: &str = include_str!("../../../host/syntax/src/testdata/command_lines.txt");
const HINT: &str = "Try `conntrack -h' or 'conntrack --help' for more information.";

/// Returns true for a line that is only written when a command is executed.
fn is_run_time(line: &str) -> bool {
    ["have been shown.", "have been created.", "have been added.", "have been updated.", "have been deleted."]
        .iter()
        .any(|end| line.ends_with(end))
        || line.ends_with("table has been emptied.")
        || line.starts_with("Operation failed: ")
        || line.starts_with("NOTICE: ")
}

/// Returns the status and the lines of standard error in the format of the file, without the banner.
fn outcome(line: &str, banner: &str) -> String {
    // The lines use shell syntax; `exec` keeps the program's name as it is.
    let quoted: Vec<String> = words(line).iter().map(|word| format!("'{word}'")).collect();
    let output = Command::new("timeout")
        .args(["1", "unshare", "-n", "bash", "-c", &format!("exec conntrack {}", quoted.join(" "))])
        .stdin(Stdio::null())
        .output()
        .expect("timeout, unshare and bash are there");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines = stderr.lines().filter(|line| *line != HINT).map(|line| line.strip_prefix(banner).unwrap_or(line));
    let mut parts = vec![output.status.code().map_or("killed".to_owned(), |code| code.to_string())];
    let all: Vec<&str> = lines.collect();
    if output.status.success() || output.status.code() == Some(124) || all.iter().any(|line| is_run_time(line)) {
        parts[0] = "-".to_owned();
    }
    parts.extend(all.iter().filter(|line| !is_run_time(line)).map(|line| (*line).to_owned()));
    parts.join(" | ")
}

/// Splits a line at spaces; single quotes group words.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let mut quoted = false;
        let end = rest.find(|byte| {
            quoted ^= byte == '\'';
            byte == ' ' && !quoted
        });
        let (first, more) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(first.replace('\'', ""));
        rest = more.trim_start();
    }
    words
}

#[test]
fn conntrack_says_the_same() {
    let version = Both::version();
    let banner = format!("conntrack v{version} (conntrack-tools): ");
    let mut wrong = Vec::new();
    let lines = LINES.lines().filter(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("~ "));
    for line in lines {
        let (left, expected) = line.split_once(" => ").expect("an arrow");
        let found = outcome(left, &banner);
        if found != expected {
            wrong.push(format!("{left}\n  flowgate  {expected}\n  conntrack {found}"));
        }
    }
    assert!(wrong.is_empty(), "conntrack {version}:\n{}", wrong.join("\n"));
}
