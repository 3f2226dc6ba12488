//! Deletions by the kernel alone: of a whole table, of a family, or of the flows that pass an exact filter. No entry is
//! read, and the kernel does not report which entries, or how many, it has deleted.

use crate::{
    BatchSender, Dump, DumpFilter, DumpKind, Namespace, RECEIVE_LENGTH, Request, RequestResult, Socket, SocketError,
    SocketOptions,
    encode::{expectations, flows},
    filter::ExactFilter,
    listing::is_unsupported,
};
use flowgate_model::family;

/// AF_UNSPEC, which stands for both families in a request.
const BOTH_FAMILIES: u8 = 0;

/// The entries that the kernel is requested to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// All flows.
    Flows,
    /// All flows of a family (AF_INET 2, AF_INET6 10). Kernels before 6.12 cannot do that.
    Family(u8),
    /// The flows that pass one of these filters. Kernels before 6.12 cannot do that.
    Matching(Vec<ExactFilter>),
    /// All expectations.
    Expectations,
}

/// The result of a deletion that the kernel did not refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The entries have been deleted.
    Done,
    /// This kernel does not support such a deletion and has deleted nothing: the entries have to be listed and
    /// deleted one by one.
    Unsupported,
}

impl Deletion {
    /// Returns the requests, in order. If the kernel refuses family 0 (AF_UNSPEC), [`Deletion::carry_out`] sends one
    /// request for each family instead.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        match self {
            Deletion::Flows => vec![flows::flush(BOTH_FAMILIES)],
            // Kernels before 5.3 ignore the family of a flush; those before 6.12 refuse this request.
            Deletion::Family(family) => vec![flows::delete_matching(&ExactFilter::for_family(*family))],
            Deletion::Matching(filters) => filters.iter().map(flows::delete_matching).collect(),
            Deletion::Expectations => vec![expectations::flush(BOTH_FAMILIES)],
        }
    }

    /// Has the kernel delete the entries of a network namespace, or of the namespace of the process.
    ///
    /// # Errors
    /// The error number, as in `errno(3)`, of the request that failed; ENOBUFS if its result is unknown.
    pub fn carry_out(&self, namespace: Option<&Namespace>) -> Result<Deleted, i32> {
        let socket = Socket::open(&SocketOptions::in_namespace(namespace)).map_err(|error| error.errno())?;
        let mut batches = BatchSender::new(socket);
        let result = match self {
            Deletion::Matching(filters) => return delete_matching(&mut batches, self, filters, namespace),
            Deletion::Family(_) => match self.submit_first(&mut batches)? {
                RequestResult::Refused { errno, .. } if is_unsupported(errno) || errno == libc::ENOENT => {
                    return Ok(Deleted::Unsupported);
                }
                result => result,
            },
            Deletion::Flows => {
                let both = self.submit_first(&mut batches)?;
                flush(&mut batches, both, flows::flush)?
            }
            Deletion::Expectations => {
                let both = self.submit_first(&mut batches)?;
                flush(&mut batches, both, expectations::flush)?
            }
        };
        done(result)
    }

    fn submit_first(&self, batches: &mut BatchSender) -> Result<RequestResult, i32> {
        match self.requests().into_iter().next() {
            Some(request) => submit(batches, request),
            None => Ok(RequestResult::Done),
        }
    }
}

fn done(result: RequestResult) -> Result<Deleted, i32> {
    match result {
        RequestResult::Done => Ok(Deleted::Done),
        RequestResult::Refused { errno, .. } => Err(errno),
        RequestResult::Unknown => Err(libc::ENOBUFS),
    }
}

/// Sends one request and returns its result.
fn submit(batches: &mut BatchSender, request: Request) -> Result<RequestResult, i32> {
    let mut results = Vec::new();
    batches.submit(&[request], &mut results).map_err(|error: SocketError| error.errno())?;
    Ok(results.pop().unwrap_or(RequestResult::Unknown))
}

/// Flushes each family separately if the kernel does not support the flush of both, of which `both` is the result.
fn flush(batches: &mut BatchSender, both: RequestResult, request: fn(u8) -> Request) -> Result<RequestResult, i32> {
    let RequestResult::Refused { errno, .. } = &both else { return Ok(both) };
    if !is_unsupported(*errno) {
        return Ok(both);
    }
    // The second is sent whatever became of the first.
    let halves = [family::IPV4, family::IPV6].map(|family| submit(batches, request(family)));
    let [ipv4, ipv6] = halves;
    Ok(match (ipv4?, ipv6?) {
        // A kernel without IPv6 has nothing of it to delete.
        (RequestResult::Done, RequestResult::Done | RequestResult::Refused { errno: libc::EAFNOSUPPORT, .. }) => {
            RequestResult::Done
        }
        (RequestResult::Unknown, _) | (_, RequestResult::Unknown) => RequestResult::Unknown,
        (RequestResult::Refused { .. }, RequestResult::Refused { .. }) => both,
        (refused @ RequestResult::Refused { .. }, _) | (_, refused) => refused,
    })
}

fn delete_matching(
    batches: &mut BatchSender,
    deletion: &Deletion,
    filters: &[ExactFilter],
    namespace: Option<&Namespace>,
) -> Result<Deleted, i32> {
    // Kernels before 6.12 do not ignore the filter of this request, which passes nothing, but refuse it.
    if submit(batches, flows::delete_matching(&ExactFilter::nothing()))? != RequestResult::Done
        || filters.iter().any(ExactFilter::has_mark) && !compares_marks(namespace)
    {
        return Ok(Deleted::Unsupported);
    }
    for request in deletion.requests() {
        done(submit(batches, request)?)?;
    }
    Ok(Deleted::Done)
}

/// Returns true if the kernel compares marks. One built without CONFIG_NF_CONNTRACK_MARK ignores the mark of a filter,
/// and lists flows for a mark that none can have.
fn compares_marks(namespace: Option<&Namespace>) -> bool {
    let request = Request::dump(DumpKind::FLOWS, &DumpFilter::impossible_mark());
    let Ok(socket) = Socket::open(&SocketOptions::in_namespace(namespace)) else { return false };
    let Ok(mut dump) = Dump::start(socket, &request) else { return false };
    matches!(dump.next(&mut vec![0; RECEIVE_LENGTH], None), Ok(None))
}
