//! Events that are lost and made up for: listeners that are stopped, that are not read, that end at any moment, while
//! the table changes. A consumer that applies what it is told must end up with the table that `conntrack` lists.
//!
//! Needs root, and `conntrack`: `make setup` installs it. Nothing here measures time; deadlines are for what hangs.

mod consumer;
mod endings;
mod gaps;
mod pressure;

use flowgate_test_support::{Background, Outcome, flowgate, words};

fn conntrack(line: &str) -> Outcome {
    flowgate_test_support::conntrack().run(&words(line))
}

/// UDP flows from `10.GROUP.x.y`.
fn flows(group: u32, count: u32) -> Vec<String> {
    (0..count)
        .map(|number| {
            let (high, low) = (number >> 8, number & 0xff);
            format!("-I -t 3600 -p udp -s 10.{group}.{high}.{low} -d 10.99.0.1 --sport {} --dport 53", 1024 + number)
        })
        .collect()
}

/// Starts a flowgate, waits until it has joined its event groups, and reads what it writes.
fn listen(line: &str) -> Background {
    let mut listener = listen_unread(line);
    listener.read_output();
    listener
}

/// As [`listen`], without reading what it writes.
fn listen_unread(line: &str) -> Background {
    let listener = Background::start_unread(&flowgate(), &words(line));
    listener.wait_until_listening();
    listener
}
