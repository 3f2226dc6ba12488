//! Runs the rows of the command table that are about a table as a whole: counting, statistics, emptying.

use std::{fs, io};

use super::{
    report::{self, CommandError, Exit},
    subject::Subject,
    table::{Row, Source, Summary},
};
use flowgate_model::{Counts, Expectations, Flows, Texts, batch::push_text, family, statistics};
use flowgate_netlink::{
    BatchSender, Dump, DumpError, DumpFilter, DumpKind, Message, Namespace, RECEIVE_LENGTH, Request, RequestResult,
    Socket, SocketError, SocketOptions, decode::push_counts, encode::flows, entries, filter::ExactFilter,
    listing::is_unsupported, namespace,
};
use flowgate_pipeline::{
    loader::{PluginLoader, Role},
    sink::Sink,
};
use flowgate_syntax::{Output, Settings, Table};

/// Where the number of entries is when netlink is out of reach.
const COUNT_FILE: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// Where the counters of each CPU are then.
const STATISTICS_FILE: &str = "/proc/thread-self/net/stat/nf_conntrack";
/// CTA_STATS_GLOBAL_ENTRIES.
const ENTRIES: u16 = 1;

/// What became of the order to empty a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// It is empty.
    Done,
    /// This kernel cannot empty the table of one family, and has done nothing: the flows are to be listed and deleted.
    NotByKernel,
}

/// The request that empties the table that a command is about, or of a family of it.
pub(super) fn flush_request(row: &Row, settings: &Settings) -> Request {
    match (row.table, settings.family) {
        (Table::Expect, _) => Expectations::flush(0),
        (_, None) => Flows::flush(0),
        // Kernels before 5.3 ignore the family of a flush; those before 6.12 refuse this.
        (_, Some(family)) => flows::delete_matching(&ExactFilter::for_family(family)),
    }
}

/// Empties the table.
pub(super) fn flush(row: &Row, settings: &Settings, namespace: Option<&Namespace>) -> Result<Flushed, CommandError> {
    let flush = match row.table {
        Table::Expect => Expectations::flush,
        _ => Flows::flush,
    };
    let one = row.table != Table::Expect && settings.family.is_some();
    let result = Socket::open(&SocketOptions::in_namespace(namespace)).and_then(|socket| {
        let mut batches = BatchSender::new(socket);
        let mut first = one_fate(&mut batches, flush_request(row, settings))?;
        if let RequestResult::Refused { errno, .. } = first
            && is_unsupported(errno)
            && !one
        {
            let halves = [family::IPV4, family::IPV6].map(|family| one_fate(&mut batches, flush(family)));
            first = in_halves(first, halves)?;
        }
        Ok(first)
    });
    // Said in any case, as programs have learnt to expect.
    if let Summary::Always(text) = row.summary {
        report::banner(text);
    }
    match result {
        Ok(RequestResult::Done) => Ok(Flushed::Done),
        Ok(RequestResult::Refused { errno, .. }) if one && (is_unsupported(errno) || errno == libc::ENOENT) => {
            Ok(Flushed::NotByKernel)
        }
        Ok(RequestResult::Refused { errno, .. }) => Err(CommandError::of_errno(row, errno)),
        Ok(RequestResult::Unknown) => Err(CommandError::of_errno(row, libc::ENOBUFS)),
        Err(error) => Err(CommandError::of_errno(row, error.errno())),
    }
}

/// What the kernel answers to a request.
fn one_fate(batches: &mut BatchSender, request: Request) -> Result<RequestResult, SocketError> {
    let mut results = Vec::new();
    batches.submit(&[request], &mut results)?;
    Ok(results.pop().unwrap_or(RequestResult::Unknown))
}

/// What became of both families together, which `whole` was the refusal of. A kernel without IPv6 has nothing of it to delete.
fn in_halves(
    whole: RequestResult,
    halves: [Result<RequestResult, SocketError>; 2],
) -> Result<RequestResult, SocketError> {
    let [first, second] = halves;
    Ok(match (first?, second?) {
        (RequestResult::Done, RequestResult::Done | RequestResult::Refused { errno: libc::EAFNOSUPPORT, .. }) => {
            RequestResult::Done
        }
        (RequestResult::Unknown, _) | (_, RequestResult::Unknown) => RequestResult::Unknown,
        (RequestResult::Refused { .. }, RequestResult::Refused { .. }) => whole,
        (refused @ RequestResult::Refused { .. }, _) | (_, refused) => refused,
    })
}

/// Prints counters. Where netlink is out of reach they come from procfs, and the command fails all the same.
pub(super) fn counts(
    row: &Row,
    settings: &Settings,
    loader: &PluginLoader,
    namespace: Option<&Namespace>,
    sink: &mut dyn Sink,
) -> Result<Exit, CommandError> {
    let (counts, failure) = match read(row, namespace) {
        Ok(counts) => (counts, None),
        Err(error) => {
            let counts = match (row.source, row.table) {
                // There is no such file for expectations; none were counted.
                (Source::Count, Table::Expect) => one(0),
                (Source::Count, _) => count_file(namespace)?,
                _ => statistics_file(namespace)?,
            };
            (counts, Some(CommandError::of_errno(row, error.errno())))
        }
    };
    let name = if settings.output.contains(Output::JSON) { "json" } else { "counters" };
    let mut format = loader.format(name, Role::StatisticsFormat, &[], false)?;
    sink.write(&format.instance().render_statistics(&counts)?)?;
    // The process ends, and its memory with it.
    std::mem::forget(format);
    failure.map_or(Ok(Exit::Success), Err)
}

/// How many flows the kernel counts in a namespace, those that are being removed included.
pub(super) fn flow_count(namespace: Option<&Namespace>) -> Result<u64, DumpError> {
    let counts = kernel_counts(&Request::global_statistics(), namespace)?;
    let entries = counts.attributes.iter().zip(&counts.values).find(|(attribute, _)| **attribute == ENTRIES);
    // Without the counter there may be any number.
    Ok(entries.map_or(u64::MAX, |(_, count)| *count))
}

/// The counters that a request is answered with.
pub(super) fn kernel_counts(request: &Request, namespace: Option<&Namespace>) -> Result<Counts, DumpError> {
    let mut counts = Counts::default();
    each_message(request, namespace, |message| {
        // A message that cannot be read counts nothing.
        let _ = push_counts(&mut counts, message);
    })?;
    Ok(counts)
}

/// Visits the messages that a request is answered with.
fn each_message(
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

/// The counters of a row from the kernel.
fn read(row: &Row, namespace: Option<&Namespace>) -> Result<Counts, DumpError> {
    match (row.source, row.table) {
        (Source::Count, Table::Expect) => {
            let mut number = 0;
            let request = Request::dump(DumpKind::EXPECTATIONS, &DumpFilter::family_only(family::IPV4));
            each_message(&request, namespace, |_| number += 1)?;
            Ok(one(number))
        }
        (Source::Statistics(table), _) => kernel_counts(&Request::dump(table, &DumpFilter::all()), namespace),
        _ => kernel_counts(&Request::global_statistics(), namespace),
    }
}

/// A number of entries.
fn one(number: u64) -> Counts {
    Counts {
        subject: statistics::GLOBAL,
        rows: vec![0],
        attributes: vec![ENTRIES],
        values: vec![number],
        ..Counts::default()
    }
}

/// A file of procfs as it is in a namespace.
fn file(path: &str, namespace: Option<&Namespace>) -> io::Result<String> {
    namespace::run_in(namespace, || fs::read_to_string(path))
        .map_err(|error| io::Error::from_raw_os_error(error.errno()))?
}

fn count_file(namespace: Option<&Namespace>) -> Result<Counts, CommandError> {
    let text = file(COUNT_FILE, namespace).map_err(|_| CommandError::CannotOpen(COUNT_FILE.into()))?;
    text.trim().parse().map(one).map_err(|_| CommandError::CannotRead(COUNT_FILE.into()))
}

fn statistics_file(namespace: Option<&Namespace>) -> Result<Counts, CommandError> {
    let text = file(STATISTICS_FILE, namespace).map_err(|_| CommandError::CannotOpen("/proc interface".into()))?;
    let mut lines = text.lines();
    let mut names = Texts::default();
    for name in lines.next().unwrap_or_default().split_ascii_whitespace() {
        push_text(&mut names, name.as_bytes());
    }
    let mut counts = Counts { subject: statistics::PROC, names, ..Counts::default() };
    for (cpu, line) in lines.enumerate() {
        counts.cpus.push(cpu as u32);
        for (attribute, word) in line.split_ascii_whitespace().enumerate().take(counts.names.ends.len()) {
            counts.rows.push(cpu as u32);
            counts.attributes.push(attribute as u16);
            counts.values.push(u64::from_str_radix(word, 16).unwrap_or_default());
        }
    }
    Ok(counts)
}
