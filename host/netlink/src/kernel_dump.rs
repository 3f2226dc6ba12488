//! Kernel dumps and answers to lookups as a source.

use std::collections::VecDeque;

use super::{
    Dump, DumpError, Listing, Namespace, Request, Socket, SocketError, SocketOptions, Stop,
    listing::is_unsupported,
    source::{Datagram, Source, SourceError},
};

/// A query that the kernel answers with entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// A dump.
    Listing(Listing),
    /// One entry.
    Lookup(Request),
}

impl From<Listing> for Query {
    fn from(listing: Listing) -> Self {
        Query::Listing(listing)
    }
}

impl Query {
    /// Returns the encoded request.
    #[must_use]
    pub fn request(&self) -> Request {
        match self {
            Query::Listing(listing) => listing.request(),
            Query::Lookup(request) => request.clone(),
        }
    }
}

/// A source that yields the answers to a sequence of queries.
pub struct KernelDump {
    /// The dump in progress and its query; `None` after the last one.
    dump: Option<(Dump, Query)>,
    /// The queries that follow.
    rest: VecDeque<Query>,
    /// True if the dump in progress has yielded something.
    has_yielded: bool,
    /// The error number with which the kernel refused a query that was replaced by fallbacks.
    first_refusal: Option<i32>,
    namespace: Option<Namespace>,
    stop: Stop,
    /// True if a stop before the end is an error (EINTR).
    fails_if_stopped: bool,
}

impl KernelDump {
    /// Sends the first query.
    ///
    /// # Errors
    /// The query cannot be sent.
    pub fn start(
        socket: Socket,
        queries: Vec<Query>,
        namespace: Option<&Namespace>,
        stop: &Stop,
    ) -> Result<Self, SocketError> {
        let mut rest = VecDeque::from(queries);
        let dump = match rest.pop_front() {
            Some(first) => Some((Dump::start(socket, &first.request())?, first)),
            None => None,
        };
        let (namespace, stop) = (namespace.cloned(), stop.clone());
        Ok(KernelDump { dump, rest, has_yielded: false, first_refusal: None, namespace, stop, fails_if_stopped: false })
    }

    /// Makes a stop before the end an error (EINTR).
    #[must_use]
    pub fn fail_if_stopped(self) -> Self {
        KernelDump { fails_if_stopped: true, ..self }
    }

    /// Sends the next query, if there is one.
    fn start_next(&mut self) -> Result<(), SocketError> {
        self.has_yielded = false;
        self.dump = None;
        if let Some(next) = self.rest.pop_front() {
            let socket = Socket::open(&SocketOptions::in_namespace(self.namespace.as_ref()))?;
            self.dump = Some((Dump::start(socket, &next.request())?, next));
        }
        Ok(())
    }

    /// After a refusal: replaces the query by its fallbacks, if it has any.
    fn fall_back(&mut self, errno: i32) -> Result<(), SourceError> {
        let listing = match &self.dump {
            Some((_, Query::Listing(listing))) if !self.has_yielded => Some(listing),
            _ => None,
        };
        if listing.is_some_and(|listing| listing.means_empty(errno)) {
            return Ok(self.start_next()?);
        }
        let fallbacks = listing.map(|listing| listing.fallbacks(errno)).unwrap_or_default();
        let first = *self.first_refusal.get_or_insert(errno);
        if fallbacks.is_empty() {
            self.dump = None;
            self.rest.clear();
            return Err(SourceError::Kernel(if is_unsupported(errno) { first } else { errno }));
        }
        for fallback in fallbacks.into_iter().rev() {
            self.rest.push_front(fallback.into());
        }
        Ok(self.start_next()?)
    }
}

impl Source for KernelDump {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        while let Some((dump, _)) = &mut self.dump {
            match dump.next(&mut datagram.buffer, Some(&self.stop)) {
                Ok(Some(length)) => {
                    self.has_yielded = true;
                    datagram.length = length;
                    return Ok(true);
                }
                Ok(None) => self.start_next()?,
                Err(DumpError::Stopped) if !self.fails_if_stopped => return Ok(false),
                Err(DumpError::Socket(error)) => return Err(error.into()),
                Err(DumpError::Refused { errno, .. }) => self.fall_back(errno)?,
                Err(error) => return Err(SourceError::Kernel(error.errno())),
            }
        }
        Ok(false)
    }
}
