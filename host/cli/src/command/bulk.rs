//! `-D --quiet`: where the kernel's own filter means exactly what the command line means, the kernel deletes by itself, and no
//! entry is read. It tells neither what nor how many, so that this is for those who do not want to know.

use super::{
    report::CommandError,
    table::{Row, Source},
};
use flowgate_netlink::{
    BatchSender, Dump, DumpFilter, DumpKind, Namespace, RECEIVE_LENGTH, Request, RequestResult, Socket, SocketError,
    SocketOptions, encode::flows, filter::ExactFilter,
};
use flowgate_syntax::{Command, Settings, Table};

/// The filters of the requests, one after the other, that do what the command line asks for; none if it is no such command, or if
/// the kernel cannot tell exactly what is meant.
pub(super) fn filters(row: &Row, settings: &Settings) -> Option<Vec<ExactFilter>> {
    let plain = settings.quiet && !settings.dry_run && settings.plugins.is_empty();
    let deletes =
        (row.command, row.table, row.source) == (Command::Delete, Table::Conntrack, Source::Dump(DumpKind::FLOWS));
    if !plain || !deletes {
        return None;
    }
    DumpFilter::exact(&settings.selection)
}

/// Has the kernel delete. False if this kernel does not take such requests, or would not heed all of them; nothing has been done
/// then.
pub(super) fn delete(row: &Row, filters: &[ExactFilter], namespace: Option<&Namespace>) -> Result<bool, CommandError> {
    let refused = |error: SocketError| CommandError::of_errno(row, error.errno());
    let socket = Socket::open(&SocketOptions::in_namespace(namespace)).map_err(refused)?;
    let mut batches = BatchSender::new(socket);
    let mut submit = |filter: &ExactFilter| -> Result<RequestResult, CommandError> {
        let mut results = Vec::new();
        batches.submit(&[flows::delete_matching(filter)], &mut results).map_err(refused)?;
        Ok(results.pop().unwrap_or(RequestResult::Unknown))
    };
    // Kernels before such requests do not ignore the filter of this one, but refuse it.
    if submit(&ExactFilter::nothing())? != RequestResult::Done
        || filters.iter().any(ExactFilter::has_mark) && !heeds_marks(namespace)
    {
        return Ok(false);
    }
    for filter in filters {
        match submit(filter)? {
            RequestResult::Done => {}
            RequestResult::Refused { errno, .. } => return Err(CommandError::of_errno(row, errno)),
            RequestResult::Unknown => return Err(CommandError::of_errno(row, libc::ENOBUFS)),
        }
    }
    Ok(true)
}

/// Whether the kernel compares marks: one that was built without them ignores what is said of them. It is asked for flows with
/// a mark that none can have; one that it shows is the answer.
fn heeds_marks(namespace: Option<&Namespace>) -> bool {
    let request = Request::dump(DumpKind::FLOWS, &DumpFilter::impossible_mark());
    let Ok(socket) = Socket::open(&SocketOptions::in_namespace(namespace)) else { return false };
    let Ok(mut dump) = Dump::start(socket, &request) else { return false };
    matches!(dump.next(&mut vec![0; RECEIVE_LENGTH], None), Ok(None))
}
