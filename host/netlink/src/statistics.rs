//! The kernel's counters: numbers of entries, and statistics of each CPU.

use crate::{
    Dump, DumpError, DumpFilter, DumpKind, Message, Namespace, RECEIVE_LENGTH, Request, Socket, SocketOptions,
    decode::push_counts, entries,
};
use flowgate_model::{Counts, family, statistics};

/// CTA_STATS_GLOBAL_ENTRIES.
const ENTRIES: u16 = 1;

/// Counters that the kernel keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// The number of flows (IPCTNL_MSG_CT_GET_STATS).
    FlowCount,
    /// The number of expectations of IPv4. The kernel has no counter of them, so that they are dumped.
    ExpectationCount,
    /// Counters of flows, of each CPU (IPCTNL_MSG_CT_GET_STATS_CPU).
    FlowsPerCpu,
    /// Counters of expectations, of each CPU (IPCTNL_MSG_EXP_GET_STATS_CPU).
    ExpectationsPerCpu,
}

impl Statistics {
    /// Returns the request that the kernel answers with the counters.
    #[must_use]
    pub fn request(self) -> Request {
        match self {
            Statistics::FlowCount => Request::global_statistics(),
            Statistics::ExpectationCount => {
                Request::dump(DumpKind::EXPECTATIONS, &DumpFilter::family_only(family::IPV4))
            }
            Statistics::FlowsPerCpu => Request::dump(DumpKind::CpuStatistics, &DumpFilter::all()),
            Statistics::ExpectationsPerCpu => Request::dump(DumpKind::ExpectationStatistics, &DumpFilter::all()),
        }
    }

    /// Reads the counters of a network namespace, or of the namespace of the process.
    ///
    /// # Errors
    /// [`DumpError`] if the kernel cannot be asked or refuses.
    pub fn read(self, namespace: Option<&Namespace>) -> Result<Counts, DumpError> {
        let request = self.request();
        if self == Statistics::ExpectationCount {
            let mut number = 0;
            for_each_message(&request, namespace, |_| number += 1)?;
            return Ok(entry_count(number));
        }
        let mut counts = Counts::default();
        for_each_message(&request, namespace, |message| {
            // A message that cannot be decoded counts nothing.
            let _ = push_counts(&mut counts, message);
        })?;
        Ok(counts)
    }
}

/// Returns the number of flows that the kernel counts in a namespace, including those that are being removed.
///
/// # Errors
/// As [`Statistics::read`].
pub fn flow_count(namespace: Option<&Namespace>) -> Result<u64, DumpError> {
    let counts = Statistics::FlowCount.read(namespace)?;
    let entries = counts.attributes.iter().zip(&counts.values).find(|(attribute, _)| **attribute == ENTRIES);
    // Without the counter there may be any number.
    Ok(entries.map_or(u64::MAX, |(_, count)| *count))
}

/// Returns counters that consist of a number of entries.
#[must_use]
pub fn entry_count(number: u64) -> Counts {
    Counts {
        subject: statistics::GLOBAL,
        rows: vec![0],
        attributes: vec![ENTRIES],
        values: vec![number],
        ..Counts::default()
    }
}

/// Calls `visit` with each message of the answer to a request.
fn for_each_message(
    request: &Request,
    namespace: Option<&Namespace>,
    mut visit: impl FnMut(&Message<'_>),
) -> Result<(), DumpError> {
    let mut dump = Dump::start(Socket::open(&SocketOptions::in_namespace(namespace))?, request)?;
    let sequence = dump.sequence();
    let mut buffer = vec![0; RECEIVE_LENGTH];
    while let Some(length) = dump.next(&mut buffer, None)? {
        entries(buffer.get(..length).unwrap_or_default(), sequence).for_each(|message| visit(&message));
    }
    Ok(())
}
