//! Lookups of the guard in the kernel.

use std::time::{Duration, Instant};

use flowgate_model::{Counts, Flows, field};
use flowgate_netlink::{
    BatchSender, MessageKind, Namespace, Request, RequestResult, Socket, SocketError, SocketOptions,
    decode::{Arrival, FlowDecoder, push_counts},
    message::Content,
};
use flowgate_pipeline::entries::Entries as _;
use flowgate_runtime::deadline::Watch;

/// Number of entries that are requested between two checks of the time.
const AT_ONCE: usize = 512;

/// Time for which the capacity of the table is cached.
const FRESH: Duration = Duration::from_secs(1);
/// Assumed capacity of the table if the kernel does not report it (before Linux 4.18, if /proc cannot be read): the
/// default of a machine with 1 to 4 GiB.
const DEFAULT_MAX_ENTRIES: u64 = 65_536;
/// CTA_STATS_GLOBAL_MAX_ENTRIES.
const MAX_ENTRIES: u16 = 2;
/// File of the capacity in /proc.
const MAX_FILE: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// Looks up entries in the kernel. The socket is opened when it is first needed.
pub(super) struct Kernel {
    /// The network namespace of the table; none for that of the process.
    namespace: Option<Namespace>,
    batches: Option<BatchSender>,
    decoder: FlowDecoder,
    most: Option<(Instant, u64)>,
}

/// For each request the row of the entry, `None` if there is no such entry, or an error number.
pub(super) type Places = Vec<Result<Option<usize>, i32>>;

impl Kernel {
    /// Returns a lookup in the table of this network namespace.
    #[must_use]
    pub(super) fn new(namespace: Option<Namespace>) -> Self {
        Kernel { namespace, batches: None, decoder: FlowDecoder::new(field::ALL), most: None }
    }

    /// Looks up entries as long as there is time; the remaining ones have ETIME.
    pub(super) fn find(&mut self, watch: &mut Watch, lookups: &[Request]) -> (Flows, Places) {
        let mut found = Flows::default();
        let mut places = Vec::with_capacity(lookups.len());
        for some in lookups.chunks(AT_ONCE) {
            if watch.check().is_err() {
                break;
            }
            self.find_some(some, &mut found, &mut places);
        }
        places.resize(lookups.len(), Err(libc::ETIME));
        (found, places)
    }

    /// Looks up entries in one exchange.
    fn find_some(&mut self, lookups: &[Request], found: &mut Flows, places: &mut Places) {
        let mut rows: Vec<Option<usize>> = vec![None; lookups.len()];
        let mut decoder = std::mem::take(&mut self.decoder);
        let (kernel_results, sent) = self.exchange(lookups, &mut |index, message| {
            let row = found.length as usize;
            if found.push(&mut decoder, message, Arrival::Entry).is_ok()
                && found.length as usize > row
                && let Some(place) = rows.get_mut(index)
            {
                *place = Some(row);
            }
        });
        self.decoder = decoder;
        let place = |index: usize| match (kernel_results.get(index), rows.get(index).copied().flatten()) {
            (Some(RequestResult::Done), Some(row)) => Ok(Some(row)),
            (Some(RequestResult::Refused { errno: libc::ENOENT, .. }), _) => Ok(None),
            (Some(RequestResult::Refused { errno, .. }), _) => Err(*errno),
            _ => Err(sent.err().unwrap_or(libc::ENOBUFS)),
        };
        places.extend((0..lookups.len()).map(place));
    }

    /// Returns the capacity of the table, nf_conntrack_max; [`u64::MAX`] if it is unlimited.
    pub(super) fn most(&mut self) -> u64 {
        if let Some((read, most)) = self.most
            && read.elapsed() < FRESH
        {
            return most;
        }
        let mut counts = Counts::default();
        let (_, _) = self.exchange(&[Request::global_statistics()], &mut |_, message| {
            if message.kind() == MessageKind::GlobalStatistics {
                // A malformed answer counts as none.
                let _ = push_counts(&mut counts, message);
            }
        });
        let counter = counts.attributes.iter().zip(&counts.values).find(|(kind, _)| **kind == MAX_ENTRIES);
        let most = counter.map(|(_, most)| *most).or_else(|| self.read_most()).unwrap_or(DEFAULT_MAX_ENTRIES);
        let most = if most == 0 { u64::MAX } else { most };
        self.most = Some((Instant::now(), most));
        most
    }

    fn read_most(&self) -> Option<u64> {
        let read = || std::fs::read_to_string(MAX_FILE);
        flowgate_netlink::namespace::run_in(self.namespace.as_ref(), read).ok()?.ok()?.trim().parse().ok()
    }

    /// Sends requests; returns their results, and the error number if the socket failed.
    fn exchange(
        &mut self,
        requests: &[Request],
        answer: &mut dyn FnMut(usize, &flowgate_netlink::Message<'_>),
    ) -> (Vec<RequestResult>, Result<(), i32>) {
        let mut kernel_results = Vec::new();
        if requests.is_empty() {
            return (kernel_results, Ok(()));
        }
        let opened = match self.batches.take() {
            Some(batches) => Ok(batches),
            None => open(self.namespace.as_ref()),
        };
        let mut batches = match opened {
            Ok(batches) => batches,
            Err(error) => return (kernel_results, Err(error.errno())),
        };
        let sent = batches.exchange(requests, &mut kernel_results, &mut |index, message| {
            if matches!(message.content(), Content::Netfilter(_)) {
                answer(index, message);
            }
        });
        if sent.is_ok() {
            self.batches = Some(batches);
        }
        (kernel_results, sent.map_err(|error| error.errno()))
    }
}

/// Opens a socket for lookups.
fn open(namespace: Option<&Namespace>) -> Result<BatchSender, SocketError> {
    let options = SocketOptions { receive_buffer: Some(2 << 20), ..SocketOptions::in_namespace(namespace) };
    Ok(BatchSender::new(Socket::open(&options)?))
}
