//! The kernel as a source: dumps and events.

use super::{
    report::{self, CommandError},
    table::Row,
    tables,
};
use crate::{
    cli::Table,
    netlink::{Dump, DumpError, Options, Socket, SocketError, Stop, Woken},
    pipeline::{
        source::{Datagram, Source, SourceError},
        table::now,
    },
};

/// Receive buffer for events, in bytes, unless the user sets one: room for about 13,000 events (the kernel doubles it), where
/// the system's default has room for 166.
const EVENT_BUFFER: usize = 8 << 20;

/// Whether the kernel says that this namespace has no flows. A dump walks the hash table of the whole machine to find that
/// out, 0.14 us for every bucket; the counter is there at once. If it cannot be had, the dump says why.
pub(super) fn no_flows() -> bool {
    tables::flow_count().is_ok_and(|count| count == 0)
}

/// A dump of the kernel, or the answer to a lookup.
pub(super) struct KernelDump {
    dump: Dump,
    stop: Stop,
}

impl KernelDump {
    pub fn new(dump: Dump, stop: &Stop) -> Self {
        KernelDump { dump, stop: stop.clone() }
    }
}

impl Source for KernelDump {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        match self.dump.next(&mut datagram.buffer, Some(&self.stop)) {
            Ok(Some(length)) => {
                datagram.length = length;
                Ok(true)
            }
            Ok(None) | Err(DumpError::Stopped) => Ok(false),
            Err(DumpError::Socket(error)) => Err(error.into()),
            Err(error) => Err(SourceError::Kernel(error.errno())),
        }
    }
}

/// Events of the kernel, until the stop signal.
pub(super) struct KernelEvents {
    socket: Socket,
    stop: Stop,
}

impl KernelEvents {
    /// Joins the groups. `buffer`: what the user wants the receive buffer to be; he is told what it came to.
    pub fn open(row: &Row, groups: u32, buffer: Option<u32>, stop: &Stop) -> Result<Self, CommandError> {
        let wanted = buffer.map_or(EVENT_BUFFER, |bytes| bytes as usize);
        let options = Options { groups, receive_buffer: Some(wanted), ..Options::default() };
        let socket = Socket::open(&options).map_err(|error| {
            if row.table == Table::Expect {
                return CommandError::EventHandler;
            }
            let step = if matches!(error, SocketError::Bind { .. }) { "mnl_socket_bind" } else { "mnl_socket_open" };
            report::line(&format!("{step}: {}", report::strerror(error.errno())));
            CommandError::EventSocket
        })?;
        if buffer.is_some() {
            report::line(&format!(
                "NOTICE: Netlink socket buffer size has been set to {} bytes.",
                socket.receive_buffer()
            ));
        }
        Ok(KernelEvents { socket, stop: stop.clone() })
    }
}

impl Source for KernelEvents {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        datagram.gap = false;
        loop {
            // What is queued is taken without asking whether there is something.
            match self.socket.try_receive(&mut datagram.buffer) {
                Ok(Some(received)) => {
                    datagram.length = received.length;
                    datagram.namespace = received.namespace;
                    datagram.received = now();
                    return Ok(true);
                }
                Err(SocketError::Overrun) => {
                    datagram.length = 0;
                    datagram.gap = true;
                    datagram.received = now();
                    return Ok(true);
                }
                Err(error) => return Err(error.into()),
                Ok(None) => {}
            }
            if self.socket.wait(Some(&self.stop), None)? == Woken::Stopped {
                return Ok(false);
            }
        }
    }

    fn live(&self) -> bool {
        true
    }
}
