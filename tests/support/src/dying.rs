//! Entries on the dying list: their DESTROY event could not be delivered to a reliable listener.

use crate::{Namespace, Program, entries};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// Multicast group of destroy events (`NFNLGRP_CONNTRACK_DESTROY` in `linux/netfilter/nfnetlink.h`).
const GROUP_DESTROY: u32 = 3;

/// A listener to DESTROY events that never reads: entries that end after its buffer is full stay listed.
#[derive(Debug)]
pub struct Dying {
    /// Held open, never read.
    _socket: Socket,
}

impl Dying {
    /// Creates `count` entries and ends them, so that most of them stay on the dying list.
    pub fn fill(namespace: &Namespace, count: u32) -> Self {
        let mut socket = Socket::new(NETLINK_NETFILTER).expect("a netlink socket");
        socket.bind(&SocketAddr::new(0, 0)).expect("binding it");
        socket.set_rx_buf_sz(1).expect("the smallest receive buffer");
        // Without this the kernel would drop the event and forget the entry.
        socket.set_broadcast_error(true).expect("insisting on events");
        socket.add_membership(GROUP_DESTROY).expect("joining the group of destroy events");
        entries::load(namespace, &entries::busy(count));
        Program::new("conntrack").must(&["-F"]);
        Self { _socket: socket }
    }
}
