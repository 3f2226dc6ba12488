//! Runs the rows of the command table that read no entries: counters, and deletions by the kernel alone.

use std::{fs, io};

use super::{
    report::{self, CommandError, Exit},
    table::{Row, Source, Summary},
};
use flowgate_model::{Counts, Texts, batch::push_text, statistics};
use flowgate_netlink::{Deleted, Deletion, Namespace, Statistics, namespace, statistics::entry_count};
use flowgate_pipeline::{
    Spec,
    loader::{PluginLoader, Purpose},
    sink::Sink,
};

/// File with the number of entries, for use without netlink.
const COUNT_FILE: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// File with the counters of each CPU, for use without netlink.
const STATISTICS_FILE: &str = "/proc/thread-self/net/stat/nf_conntrack";

/// Has the kernel delete entries.
pub(super) fn delete(row: &Row, deletion: &Deletion, namespace: Option<&Namespace>) -> Result<Deleted, CommandError> {
    let result = deletion.carry_out(namespace);
    // This is printed in any case, because programs rely on it.
    if let (Source::Flush, Summary::Always(text)) = (row.source, row.summary) {
        report::banner(text);
    }
    result.map_err(|errno| CommandError::of_errno(row, errno))
}

/// Prints counters. If netlink is not available they come from procfs, and the command still fails.
pub(super) fn counts(
    row: &Row,
    (spec, statistics): (Spec, Statistics),
    loader: &PluginLoader,
    sink: &mut dyn Sink,
) -> Result<Exit, CommandError> {
    let namespace = spec.namespace.clone();
    let namespace = namespace.as_ref();
    let (counts, failure) = match statistics.read(namespace) {
        Ok(counts) => (counts, None),
        Err(error) => {
            let counts = match statistics {
                // There is no such file for expectations; the number is 0.
                Statistics::ExpectationCount => entry_count(0),
                Statistics::FlowCount => count_file(namespace)?,
                Statistics::FlowsPerCpu | Statistics::ExpectationsPerCpu => statistics_file(namespace)?,
            };
            (counts, Some(CommandError::of_errno(row, error.errno())))
        }
    };
    let mut loaded = spec.load(loader, Purpose::Run)?;
    loaded.write_statistics(&counts, sink).map_err(|error| CommandError::of_run(row, error))?;
    // The process is about to end, which frees its memory.
    std::mem::forget(loaded);
    failure.map_or(Ok(Exit::Success), Err)
}

/// Reads a file of procfs in a network namespace.
fn file(path: &str, namespace: Option<&Namespace>) -> io::Result<String> {
    namespace::run_in(namespace, || fs::read_to_string(path))
        .map_err(|error| io::Error::from_raw_os_error(error.errno()))?
}

fn count_file(namespace: Option<&Namespace>) -> Result<Counts, CommandError> {
    let text = file(COUNT_FILE, namespace).map_err(|_| CommandError::CannotOpen(COUNT_FILE.into()))?;
    text.trim().parse().map(entry_count).map_err(|_| CommandError::CannotRead(COUNT_FILE.into()))
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
