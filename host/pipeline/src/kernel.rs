//! The kernel as the source of a pipeline, and the table of flows beside it.

use crate::{
    counters::Counters,
    resync::Kernel,
    spec::{Events, Source as SourceSpec, Spec},
};
use flowgate_base::{Warnings, text::clean};
use flowgate_model::Flows;
use flowgate_netlink::{
    BatchSender, DumpFilter, DumpKind, EncodeError, FlowEntry, Listing, Message, Namespace, Request, RequestResult,
    Socket, SocketError, SocketOptions, Stop, encode,
    kernel_dump::{KernelDump, Query},
    listener::{Listener, ListenerOptions},
    namespace,
    source::{Datagram, Source, SourceError},
    statistics::flow_count,
};
use flowgate_recording::RecordingError;

/// Why the source of a spec cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The entry of a lookup has no complete tuple.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The kernel refuses a socket for requests, or a request.
    #[error(transparent)]
    Socket(SocketError),
    /// The kernel refuses a socket for events.
    #[error(transparent)]
    Events(SocketError),
    /// The recording cannot be read.
    #[error(transparent)]
    Recording(RecordingError),
    /// The source yields no entries of this type.
    #[error("the source yields no entries of this type")]
    NoEntries,
}

impl OpenError {
    /// Returns the error number, as in `errno(3)`.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            OpenError::Encode(error) => error.errno(),
            OpenError::Socket(error) | OpenError::Events(error) => error.errno(),
            OpenError::Recording(_) | OpenError::NoEntries => libc::EINVAL,
        }
    }
}

/// How a source is opened.
pub struct OpenOptions<'a> {
    /// Ends the source.
    pub stop: &'a Stop,
    /// Counts what the socket of events holds.
    pub counters: &'a Counters,
    /// Receives warnings and notices.
    pub warnings: &'a Warnings,
    /// True if a source of events yields a flush whenever there is nothing more to receive.
    pub flush_when_idle: bool,
}

impl Spec {
    /// Opens the source, which must be a dump, a lookup or events of the kernel.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_kernel(&self, options: &OpenOptions<'_>) -> Result<Box<dyn Source>, OpenError> {
        let namespace = self.namespace.as_ref();
        match &self.source {
            SourceSpec::Events(events) => {
                let listener = listen(events, namespace, options)?;
                options.counters.watch(listener.socket());
                Ok(Box::new(listener))
            }
            SourceSpec::Dump(dump) => {
                let queries = self.kernel_plan()?.queries;
                let socket = open(namespace)?;
                if dump.kind() == DumpKind::FLOWS && has_no_flows(namespace) {
                    return Ok(Box::new(Nothing));
                }
                start(socket, queries, namespace, options.stop)
            }
            SourceSpec::Lookup(_) => {
                let queries = self.kernel_plan()?.queries;
                start(open(namespace)?, queries, namespace, options.stop)
            }
            _ => Err(OpenError::NoEntries),
        }
    }

    /// Opens a dump of the selected flows, whatever the source is: for look-backs.
    ///
    /// # Errors
    /// [`SourceError`] if the kernel refuses it.
    pub fn open_table(&self, stop: &Stop) -> Result<Box<dyn Source>, SourceError> {
        open_flows(&self.kernel_selection(), self.namespace.as_ref(), stop)
    }
}

/// Opens a dump of selected flows.
///
/// # Errors
/// [`SourceError`] if the kernel refuses it.
pub fn open_flows(
    selection: &flowgate_model::Selection,
    namespace: Option<&Namespace>,
    stop: &Stop,
) -> Result<Box<dyn Source>, SourceError> {
    let filters = DumpFilter::plan_dumps(selection).0;
    let queries = filters.into_iter().map(|filter| Listing::new(DumpKind::FLOWS, filter).into()).collect();
    let socket = Socket::open(&SocketOptions::in_namespace(namespace))?;
    Ok(Box::new(KernelDump::start(socket, queries, namespace, stop)?))
}

fn open(namespace: Option<&Namespace>) -> Result<Socket, OpenError> {
    Socket::open(&SocketOptions::in_namespace(namespace)).map_err(OpenError::Socket)
}

fn start(
    socket: Socket,
    queries: Vec<Query>,
    namespace: Option<&Namespace>,
    stop: &Stop,
) -> Result<Box<dyn Source>, OpenError> {
    Ok(Box::new(KernelDump::start(socket, queries, namespace, stop).map_err(OpenError::Socket)?))
}

/// Subscribes to events. Warns of the size of the receive buffer if one was asked for, and of namespaces whose events
/// do not arrive.
fn listen(events: &Events, namespace: Option<&Namespace>, options: &OpenOptions<'_>) -> Result<Listener, OpenError> {
    let wanted = ListenerOptions {
        groups: events.joined_groups(),
        buffer: events.buffer,
        buffer_max: events.buffer_max,
        reliable: events.reliable,
        namespace: namespace.cloned(),
        all_namespaces: events.all_namespaces,
        flush_when_idle: options.flush_when_idle,
    };
    let listener = Listener::open(&wanted, options.stop).map_err(OpenError::Events)?;
    if events.all_namespaces {
        warn_of_silent_namespaces(namespace, options.warnings);
    }
    if events.buffer.is_some() {
        let bytes = listener.receive_buffer();
        options.warnings.line(&format!("NOTICE: Netlink socket buffer size has been set to {bytes} bytes."));
    }
    Ok(listener)
}

/// Warns of namespaces without an id in the listener's namespace, whose events do not arrive.
fn warn_of_silent_namespaces(home: Option<&Namespace>, warnings: &Warnings) {
    let peers = match namespace::peer_namespaces(home) {
        Ok(peers) => peers,
        Err(error) => return warnings.line(&format!("WARNING: {error}.")),
    };
    for peer in peers.iter().filter(|peer| !peer.own && peer.id.is_none()) {
        let name = clean(peer.namespace.name());
        warnings.line(&format!(
            "WARNING: the network namespace {name} has no id here, so that its events do not arrive; \
             `ip netns set {name} auto` gives it one."
        ));
    }
}

/// The table of flows of a network namespace, for a [`Resync`](crate::resync::Resync).
pub struct KernelTable {
    namespace: Option<Namespace>,
    stop: Stop,
    /// The socket for lookups, once there was one.
    batches: Option<BatchSender>,
}

impl KernelTable {
    /// Returns the table of a network namespace, or of the namespace of the process. Listings that `stop` ends fail.
    #[must_use]
    pub fn new(namespace: Option<&Namespace>, stop: &Stop) -> Self {
        KernelTable { namespace: namespace.cloned(), stop: stop.clone(), batches: None }
    }
}

impl Kernel for KernelTable {
    fn list(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let namespace = self.namespace.as_ref();
        let socket = Socket::open(&SocketOptions::in_namespace(namespace))?;
        if has_no_flows(namespace) {
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
        // A flow that may still exist must not be reported as ended.
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

/// A dump of an empty table.
struct Nothing;

impl Source for Nothing {
    fn next(&mut self, _: &mut Datagram) -> Result<bool, SourceError> {
        Ok(false)
    }
}

/// Returns true if the kernel counts no flow in a namespace. A dump would walk the hash table of the whole machine,
/// 0.14 us for every bucket; the counter is read at once. If it cannot be read, the dump reports why.
fn has_no_flows(namespace: Option<&Namespace>) -> bool {
    flow_count(namespace).is_ok_and(|count| count == 0)
}
