//! The kernel as a source: dumps and events.

use super::{
    report::{self, CommandError},
    subject::Subject,
    table::{self, Row},
    tables,
};
use crate::{
    cli::{Settings, Table},
    netlink::{
        Dump, DumpError, Namespace, Options, Request, Socket, SocketError, Stop, Table as KernelTable, Woken, namespace,
    },
    pipeline::{
        source::{Datagram, Source, SourceError},
        table::now,
    },
    text::clean,
};

/// Receive buffer for events, in bytes, unless the user sets one: room for about 13,000 events (the kernel doubles it), where
/// the system's default has room for 166.
pub(super) const EVENT_BUFFER: usize = 8 << 20;

/// The kernel as the source of a row: of a dump, a lookup or events. `pauses`: it says where it found nothing more to receive.
pub(super) fn open<T: Subject>(
    row: &Row,
    settings: &Settings,
    namespace: Option<&Namespace>,
    stop: &Stop,
    pauses: bool,
) -> Result<Box<dyn Source>, CommandError> {
    if row.source == table::Source::Events {
        let events = KernelEvents::open(row, T::groups(settings), settings, namespace, stop)?;
        return Ok(Box::new(KernelEvents { pauses, ..events }));
    }
    let request = request::<T>(row, settings)?;
    let refused = |error: SocketError| CommandError::of_errno(row, error.errno());
    let socket = Socket::open(&Options::within(namespace)).map_err(refused)?;
    if row.source == table::Source::Dump(KernelTable::Flows) && no_flows(namespace) {
        return Ok(Box::new(Nothing));
    }
    let dump = Dump::start(socket, &request).map_err(refused)?;
    Ok(Box::new(KernelDump::new(dump, stop)))
}

/// A dump of a table beside what a pipeline runs on: what the command's selector leaves of it.
pub(super) fn table<T: Subject>(
    table: KernelTable,
    settings: &Settings,
    namespace: Option<&Namespace>,
    stop: &Stop,
) -> Result<Box<dyn Source>, SourceError> {
    let request = Request::dump(table, &T::filter(settings, table));
    let dump = Dump::start(Socket::open(&Options::within(namespace))?, &request)?;
    Ok(Box::new(KernelDump::new(dump, stop)))
}

/// What the kernel is asked for.
pub(super) fn request<T: Subject>(row: &Row, settings: &Settings) -> Result<Request, CommandError> {
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

/// Whether the kernel says that a namespace has no flows. A dump walks the hash table of the whole machine to find that
/// out, 0.14 us for every bucket; the counter is there at once. If it cannot be had, the dump says why.
fn no_flows(namespace: Option<&Namespace>) -> bool {
    tables::flow_count(namespace).is_ok_and(|count| count == 0)
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
    socket: Socket,
    stop: Stop,
    namespace: Option<Namespace>,
    /// Whether it says where it found nothing more.
    pauses: bool,
    /// Whether something was received since it said so.
    received: bool,
}

impl KernelEvents {
    /// Joins the groups. Whoever sets the receive buffer is told what it came to.
    fn open(
        row: &Row,
        groups: u32,
        settings: &Settings,
        namespace: Option<&Namespace>,
        stop: &Stop,
    ) -> Result<Self, CommandError> {
        let buffer = settings.buffer_size;
        let wanted = buffer.map_or(EVENT_BUFFER, |bytes| bytes as usize);
        let all_namespaces = settings.all_netns;
        let options = Options { groups, receive_buffer: Some(wanted), all_namespaces, ..Options::within(namespace) };
        let socket = Socket::open(&options).map_err(|error| {
            if row.table == Table::Expect {
                return CommandError::EventHandler { errno: error.errno() };
            }
            let step = if matches!(error, SocketError::Bind { .. }) { "mnl_socket_bind" } else { "mnl_socket_open" };
            report::line(&format!("{step}: {}", report::strerror(error.errno())));
            if matches!(error, SocketError::Option { option: "NETLINK_LISTEN_ALL_NSID", .. }) {
                report::line("--all-netns takes the capability CAP_NET_BROADCAST");
            }
            CommandError::EventSocket { errno: error.errno() }
        })?;
        if all_namespaces {
            tell_silent(namespace);
        }
        if buffer.is_some() {
            report::line(&format!(
                "NOTICE: Netlink socket buffer size has been set to {} bytes.",
                socket.receive_buffer()
            ));
        }
        Ok(KernelEvents { socket, stop: stop.clone(), namespace: namespace.cloned(), pauses: false, received: false })
    }
}

/// Names the namespaces whose events do not arrive: those without an id in the listener's.
fn tell_silent(home: Option<&Namespace>) {
    let neighbours = match namespace::neighbours(home) {
        Ok(neighbours) => neighbours,
        Err(error) => return report::line(&format!("WARNING: {error}.")),
    };
    for silent in neighbours.iter().filter(|neighbour| !neighbour.own && neighbour.id.is_none()) {
        let name = clean(silent.namespace.name());
        report::line(&format!(
            "WARNING: the network namespace {name} has no id here, so that its events do not arrive; \
             `ip netns set {name} auto` gives it one."
        ));
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

    fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }
}
