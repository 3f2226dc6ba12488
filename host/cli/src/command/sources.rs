//! The kernel as a source: dumps and events.

use super::{
    report::{self, CommandError},
    subject::Subject,
    table::{self, Row},
    tables,
};
use flowgate_base::text::clean;
use flowgate_model::Flows;
use flowgate_netlink::{
    BatchSender, DumpFilter, DumpKind, FlowEntry, Listing, Message, Namespace, Request, RequestResult, Socket,
    SocketError, SocketOptions, Stop, encode, group,
    kernel_dump::{KernelDump, Query},
    listener::{Listener, ListenerOptions},
    namespace,
    source::{Datagram, Source, SourceError},
};
use flowgate_pipeline::{counters::Counters, resync::Kernel};
use flowgate_syntax::{Settings, Table};

/// The kernel as the source of a row: of a dump, a lookup or events. `flush_when_idle`: it says where it found nothing more to receive.
pub(super) fn open<T: Subject>(
    row: &Row,
    settings: &Settings,
    namespace: Option<&Namespace>,
    stop: &Stop,
    counters: &Counters,
    flush_when_idle: bool,
) -> Result<Box<dyn Source>, CommandError> {
    if row.source == table::Source::Events {
        let events = events::<T>(row, settings, namespace, stop, flush_when_idle)?;
        counters.watch(events.socket());
        return Ok(Box::new(events));
    }
    let requests = requests::<T>(row, settings)?;
    let refused = |error: SocketError| CommandError::of_errno(row, error.errno());
    let socket = Socket::open(&SocketOptions::in_namespace(namespace)).map_err(refused)?;
    if row.source == table::Source::Dump(DumpKind::FLOWS) && no_flows(namespace) {
        return Ok(Box::new(Nothing));
    }
    Ok(Box::new(KernelDump::start(socket, requests, namespace, stop).map_err(refused)?))
}

/// The events that a row is about. The user is told what his wish for the receive buffer came to.
fn events<T: Subject>(
    row: &Row,
    settings: &Settings,
    namespace: Option<&Namespace>,
    stop: &Stop,
    flush_when_idle: bool,
) -> Result<Listener, CommandError> {
    let wanted = ListenerOptions {
        groups: if settings.resync { group::FLOWS } else { T::groups(settings) },
        buffer: settings.buffer_size.map(|bytes| bytes as usize),
        buffer_max: settings.buffer_max.map(|bytes| bytes as usize),
        reliable: settings.reliable,
        namespace: namespace.cloned(),
        all_namespaces: settings.all_netns,
        flush_when_idle,
    };
    let listener = Listener::open(&wanted, stop).map_err(|error| {
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
    if settings.all_netns {
        tell_silent(namespace);
    }
    if settings.buffer_size.is_some() {
        let bytes = listener.receive_buffer();
        report::line(&format!("NOTICE: Netlink socket buffer size has been set to {bytes} bytes."));
    }
    Ok(listener)
}

/// Names the namespaces whose events do not arrive: those without an id in the listener's.
fn tell_silent(home: Option<&Namespace>) {
    let neighbours = match namespace::peer_namespaces(home) {
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

/// A dump of a table beside what a pipeline runs on: what the command's selector leaves of it.
pub(super) fn table<T: Subject>(
    table: DumpKind,
    settings: &Settings,
    namespace: Option<&Namespace>,
    stop: &Stop,
) -> Result<Box<dyn Source>, SourceError> {
    let listings = T::filters(settings, table).into_iter().map(|filter| Listing::new(table, filter).into()).collect();
    let socket = Socket::open(&SocketOptions::in_namespace(namespace))?;
    Ok(Box::new(KernelDump::start(socket, listings, namespace, stop)?))
}

/// The whole table of flows, for a [`Resync`](flowgate_pipeline::resync::Resync).
pub(super) struct Flowtable {
    namespace: Option<Namespace>,
    stop: Stop,
    /// For lookups, once there was one.
    batches: Option<BatchSender>,
}

impl Flowtable {
    /// The table of a network namespace, or of that of the process.
    pub(super) fn new(namespace: Option<&Namespace>, stop: &Stop) -> Self {
        Flowtable { namespace: namespace.cloned(), stop: stop.clone(), batches: None }
    }
}

impl Kernel for Flowtable {
    fn list(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let namespace = self.namespace.as_ref();
        let socket = Socket::open(&SocketOptions::in_namespace(namespace))?;
        if no_flows(namespace) {
            return Ok(Box::new(Nothing));
        }
        let all = vec![Listing::new(DumpKind::FLOWS, DumpFilter::all()).into()];
        Ok(Box::new(KernelDump::start(socket, all, namespace, &self.stop)?.fail_if_stopped()))
    }

    fn look_up(&mut self, flows: &Flows, found: &mut dyn FnMut(&Message<'_>)) -> Result<(), SourceError> {
        let batches = match &mut self.batches {
            Some(batches) => batches,
            none => none.insert(BatchSender::new(Socket::open(&SocketOptions::in_namespace(self.namespace.as_ref()))?)),
        };
        let rows = 0..flows.length as usize;
        let requests: Vec<Request> =
            rows.filter_map(|row| encode::flows::get(FlowEntry::new(flows, row).ok()?).ok()).collect();
        let mut results = Vec::new();
        batches.exchange(&requests, &mut results, &mut |_, message| found(message))?;
        // A flow that may still be there must not be told to be gone.
        let unsure = results.iter().find_map(|result| match result {
            RequestResult::Done => None,
            RequestResult::Refused { errno, .. } => (*errno != libc::ENOENT).then_some(*errno),
            RequestResult::Unknown => Some(libc::ENOBUFS),
        });
        if requests.len() < flows.length as usize {
            return Err(SourceError::Kernel(libc::EINVAL));
        }
        unsure.map_or(Ok(()), |errno| Err(SourceError::Kernel(errno)))
    }
}

/// What the kernel is asked for, one after the other.
pub(super) fn requests<T: Subject>(row: &Row, settings: &Settings) -> Result<Vec<Query>, CommandError> {
    match row.source {
        table::Source::Dump(table) => {
            // A status filter that names no bit (`-L -u UNSET`): the kernel refuses it, and scripts know it as an error.
            let no_status = settings.selection.status.is_some_and(|status| status.mask == 0);
            if row.acts.is_none() && table == DumpKind::FLOWS && no_status {
                return Err(CommandError::of_errno(row, libc::EINVAL));
            }
            let table = if settings.zero { DumpKind::FlowsAndZero } else { table };
            Ok(T::filters(settings, table).into_iter().map(|filter| Listing::new(table, filter).into()).collect())
        }
        _ => T::lookup(settings)
            .map(|request| vec![Query::Lookup(request)])
            .map_err(|error| CommandError::of_errno(row, error.errno())),
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
