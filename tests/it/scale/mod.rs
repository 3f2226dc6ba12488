//! Scale: full and large tables, concurrent writers, slow readers, and signals during a command.
//!
//! Needs root, and `conntrack`: `make setup` installs it. Nothing here measures time; deadlines only catch hangs.

mod interrupted;
mod large;
mod writers;

use std::sync::{Mutex, MutexGuard};

use flowgate_test_support::{Background, flowgate, words};

/// Makes tests run one at a time, because the limit on entries belongs to the whole host.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Returns the number before ` flow entries have been ...` on standard error.
fn reported_count(errors: &str) -> usize {
    let line =
        errors.lines().find(|line| line.contains("flow entries have been")).unwrap_or_else(|| panic!("{errors}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "flow").expect("the word");
    words[at - 1].parse().expect("a number")
}

/// Returns load-file lines for UDP flows from `10.GROUP.x.y`.
fn flows(group: u32, numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers
        .map(|number| {
            let (high, low) = (number >> 8, number & 0xff);
            format!(
                "-I -t 3600 -u ASSURED,SEEN_REPLY -p udp -s 10.{group}.{}.{low} -d 10.99.0.1 --sport {} --dport 53",
                high & 0xff,
                1024 + high / 256 * 7 + group
            )
        })
        .collect()
}

/// Starts flowgate; its output remains to be read.
fn running(line: &str) -> Background {
    Background::start_unread(&flowgate(), &words(line))
}
