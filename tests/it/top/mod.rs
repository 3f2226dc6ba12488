//! `flowgate top` on real flows: on a screen (that of tmux, in a network namespace of the test), as one frame of text,
//! and from recordings.
//!
//! Needs root, and `conntrack`, `nft`, `ip` and `tmux`: `make setup` installs them.

mod groups;
mod once;
mod screen;
pub(crate) mod terminal;

use flowgate_test_support::{
    Namespace, conntrack, flowgate,
    traffic::{SERVERS, Traffic, socket},
};

/// Creates three UDP flows by real traffic: from port 7001 with 60 datagrams each way, from 7003 with 20, from 7005
/// with 2.
fn three_flows(namespace: &Namespace, accounting: bool) -> Traffic {
    namespace.account(accounting);
    namespace.keep_entries();
    let mut traffic = Traffic::prepare(namespace);
    for (port, count) in [(7001, 60), (7003, 20), (7005, 2)] {
        exactly(&mut traffic, port, count);
    }
    traffic
}

/// Creates a flow from this port with this number of datagrams each way; repeated if the loopback interface has lost
/// one.
fn exactly(traffic: &mut Traffic, port: u16, count: usize) {
    let made = (0..10).any(|_| {
        let all = traffic.udp_exactly(&socket(SERVERS[0], port), &socket(SERVERS[0], port + 1), count);
        if !all {
            conntrack().run(&["-D", "-p", "udp", "--sport", &port.to_string()]);
        }
        all
    });
    assert!(made, "loopback loses datagrams again and again");
}

/// Returns the ports of those of the three flows that are in the kernel's table.
fn ports() -> Vec<u32> {
    let table = conntrack().must(&["-L", "-p", "udp"]);
    [7001, 7003, 7005].into_iter().filter(|port| table.contains(&format!("sport={port} "))).collect()
}
