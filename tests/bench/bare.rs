//! A reader that receives a dump and does nothing else: the lower bound for any listing.

use flowgate_netlink::{Dump, DumpFilter, DumpKind, Request, Socket, SocketOptions};

/// First word of the command line that selects this reader.
pub(crate) const WORD: &str = "--bare-reader";

/// Receives the table of flows into one buffer.
pub(crate) fn receive() {
    let socket = Socket::open(&SocketOptions::default()).expect("a netlink socket");
    let mut dump = Dump::start(socket, &Request::dump(DumpKind::FLOWS, &DumpFilter::all())).expect("a dump");
    let mut buffer = vec![0; 1 << 16];
    while dump.next(&mut buffer, None).expect("the dump").is_some() {}
}
