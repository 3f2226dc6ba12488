//! Recovery from lost events: listeners that are stopped, that are not read, or that end at any time, while the table
//! changes. A consumer that applies the reported events must end up with the table that `conntrack` lists.
//!
//! Needs root, and `conntrack`: `make setup` installs it. Nothing here measures time; deadlines only catch hangs.

mod consumer;
mod endings;
mod gaps;
mod pressure;

use flowgate_test_support::{Background, Outcome, flowgate, words};

fn conntrack(line: &str) -> Outcome {
    flowgate_test_support::conntrack().run(&words(line))
}

/// Returns load-file lines for UDP flows from `10.GROUP.x.y`.
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

/// The same as [`listen`], without reading what it writes.
fn listen_unread(line: &str) -> Background {
    let listener = Background::start_unread(&flowgate(), &words(line));
    listener.wait_until_listening();
    listener
}
