//! `-D --quiet`: where the kernel's own filter means exactly what the command line means, the kernel deletes by itself, and no
//! entry is read. It tells neither what nor how many, so that this is for those who do not want to know.

use super::{
    report::CommandError,
    table::{Row, Source},
};
use crate::{
    cli::{Command, Settings, Table},
    netlink::{
        Batches, Dump, DumpFilter, Fate, Namespace, Options, Request, Socket, SocketError, Table as KernelTable,
        encode::flows, filter::ExactFilter,
    },
    pipeline::source::DATAGRAM,
};

/// What the kernel is asked for, one request after the other.
pub(super) struct Bulk {
    filters: Vec<ExactFilter>,
    requests: Vec<Request>,
}

impl Bulk {
    /// The requests.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }
}

/// The requests that do what the command line asks for; none if it is no such command, or if the kernel cannot tell exactly
/// what is meant.
pub(super) fn requests(row: &Row, settings: &Settings) -> Option<Bulk> {
    let plain = settings.quiet && !settings.dry_run && settings.plugins.is_empty();
    let deletes =
        (row.command, row.table, row.source) == (Command::Delete, Table::Conntrack, Source::Dump(KernelTable::Flows));
    if !plain || !deletes {
        return None;
    }
    let filters = DumpFilter::exact(&settings.selection)?;
    let requests = filters.iter().map(flows::delete_all_of).collect();
    Some(Bulk { filters, requests })
}

/// Has the kernel delete. False if this kernel does not take such requests, or would not heed all of them; nothing has been done
/// then.
pub(super) fn delete(row: &Row, bulk: &Bulk, namespace: Option<&Namespace>) -> Result<bool, CommandError> {
    let refused = |error: SocketError| CommandError::of_errno(row, error.errno());
    let socket = Socket::open(&Options::within(namespace)).map_err(refused)?;
    let mut batches = Batches::new(socket);
    let mut submit = |request: &Request| -> Result<Fate, CommandError> {
        let mut fates = Vec::new();
        batches.submit(std::slice::from_ref(request), &mut fates).map_err(refused)?;
        Ok(fates.pop().unwrap_or(Fate::Unknown))
    };
    // Kernels before such requests do not ignore the filter of this one, but refuse it.
    if submit(&flows::delete_all_of(&ExactFilter::nothing()))? != Fate::Done
        || bulk.filters.iter().any(ExactFilter::has_mark) && !heeds_marks(namespace)
    {
        return Ok(false);
    }
    for request in &bulk.requests {
        match submit(request)? {
            Fate::Done => {}
            Fate::Refused { errno, .. } => return Err(CommandError::of_errno(row, errno)),
            Fate::Unknown => return Err(CommandError::of_errno(row, libc::ENOBUFS)),
        }
    }
    Ok(true)
}

/// Whether the kernel compares marks: one that was built without them ignores what is said of them. It is asked for flows with
/// a mark that none can have; one that it shows is the answer.
fn heeds_marks(namespace: Option<&Namespace>) -> bool {
    let request = Request::dump(KernelTable::Flows, &DumpFilter::impossible_mark());
    let Ok(socket) = Socket::open(&Options::within(namespace)) else { return false };
    let Ok(mut dump) = Dump::start(socket, &request) else { return false };
    matches!(dump.next(&mut vec![0; DATAGRAM], None), Ok(None))
}
