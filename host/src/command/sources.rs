//! The kernel as a source: dumps and events.

use std::sync::Arc;

use super::{
    report::{self, CommandError},
    subject::Subject,
    table::{self, Row},
    tables,
};
use crate::{
    cli::{Settings, Table},
    netlink::{Dump, DumpError, Options, Request, Socket, SocketError, Stop, Table as KernelTable, Woken},
    pipeline::{
        counters::Counters,
        source::{Datagram, Source, SourceError},
        table::now,
    },
};

/// Receive buffer for events, in bytes, unless the user sets one: room for about 13,000 events (the kernel doubles it), where
/// the system's default has room for 166.
const EVENT_BUFFER: usize = 8 << 20;

/// The kernel as the source of a row: of a dump, a lookup or events. `pauses`: it says where it found nothing more to receive.
pub(super) fn open<T: Subject>(
    row: &Row,
    settings: &Settings,
    stop: &Stop,
    counters: &Counters,
    pauses: bool,
) -> Result<Box<dyn Source>, CommandError> {
    if row.source == table::Source::Events {
        let events = KernelEvents::open(row, T::groups(settings), settings.buffer_size, stop)?;
        counters.watch(&events.socket);
        return Ok(Box::new(KernelEvents { pauses, ..events }));
    }
    let request = request::<T>(row, settings)?;
    let refused = |error: SocketError| CommandError::of_errno(row, error.errno());
    let socket = Socket::open(&Options::default()).map_err(refused)?;
    if row.source == table::Source::Dump(KernelTable::Flows) && no_flows() {
        return Ok(Box::new(Nothing));
    }
    let dump = Dump::start(socket, &request).map_err(refused)?;
    Ok(Box::new(KernelDump::new(dump, stop)))
}

/// A dump of a table beside what a pipeline runs on: what the command's selector leaves of it.
pub(super) fn table<T: Subject>(
    table: KernelTable,
    settings: &Settings,
    stop: &Stop,
) -> Result<Box<dyn Source>, SourceError> {
    let request = Request::dump(table, &T::filter(settings, table));
    let dump = Dump::start(Socket::open(&Options::default())?, &request)?;
    Ok(Box::new(KernelDump::new(dump, stop)))
}

/// What the kernel is asked for.
fn request<T: Subject>(row: &Row, settings: &Settings) -> Result<Request, CommandError> {
    match row.source {
        table::Source::Dump(table) => {
            // A status filter that names no bit (`-L -u UNSET`): the kernel refuses it, and scripts know it as an error.
            let no_status = settings.selection.status.is_some_and(|status| status.mask == 0);
            if row.acts.is_none() && table == KernelTable::Flows && no_status {
                return Err(CommandError::of_errno(row, libc::EINVAL));
            }
            let table = if settings.zero { KernelTable::FlowsAndZero } else { table };
            Ok(Request::dump(table, &T::filter(settings, table)))
        }
        _ => T::lookup(settings).map_err(|error| CommandError::of_errno(row, error.errno())),
    }
}

/// A dump of an empty table.
struct Nothing;

impl Source for Nothing {
    fn next(&mut self, _: &mut Datagram) -> Result<bool, SourceError> {
        Ok(false)
    }
}

/// Whether the kernel says that this namespace has no flows. A dump walks the hash table of the whole machine to find that
/// out, 0.14 us for every bucket; the counter is there at once. If it cannot be had, the dump says why.
fn no_flows() -> bool {
    tables::flow_count().is_ok_and(|count| count == 0)
}

/// A dump of the kernel, or the answer to a lookup.
struct KernelDump {
    dump: Dump,
    stop: Stop,
}

impl KernelDump {
    fn new(dump: Dump, stop: &Stop) -> Self {
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
struct KernelEvents {
    socket: Arc<Socket>,
    stop: Stop,
    /// Whether it says where it found nothing more.
    pauses: bool,
    /// Whether something was received since it said so.
    received: bool,
}

impl KernelEvents {
    /// Joins the groups. `buffer`: what the user wants the receive buffer to be; he is told what it came to.
    fn open(row: &Row, groups: u32, buffer: Option<u32>, stop: &Stop) -> Result<Self, CommandError> {
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
        Ok(KernelEvents { socket: Arc::new(socket), stop: stop.clone(), pauses: false, received: false })
    }
}

impl Source for KernelEvents {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        datagram.begin();
        loop {
            // What is queued is taken without asking whether there is something.
            match self.socket.try_receive(&mut datagram.buffer) {
                Ok(Some(received)) => {
                    datagram.length = received.length;
                    datagram.namespace = received.namespace;
                    datagram.received = now();
                    self.received = true;
                    return Ok(true);
                }
                Err(SocketError::Overrun) => {
                    datagram.length = 0;
                    datagram.gap = true;
                    datagram.received = now();
                    self.received = true;
                    return Ok(true);
                }
                Err(error) => return Err(error.into()),
                Ok(None) => {}
            }
            if self.pauses && self.received {
                self.received = false;
                datagram.pause = true;
                return Ok(true);
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
