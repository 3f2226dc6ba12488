//! Kernel dumps and answers to lookups as a source.

use std::collections::VecDeque;

use super::{
    Dump, DumpError, Listing, Namespace, Options, Request, Socket, SocketError, Stop,
    listing::is_unsupported,
    source::{Datagram, Source, SourceError},
};

/// A query that the kernel answers with entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A dump.
    Listing(Listing),
    /// One entry.
    Lookup(Request),
}

impl From<Listing> for Asked {
    fn from(listing: Listing) -> Self {
        Asked::Listing(listing)
    }
}

impl Asked {
    /// Returns the encoded request.
    #[must_use]
    pub fn request(&self) -> Request {
        match self {
            Asked::Listing(listing) => listing.request(),
            Asked::Lookup(request) => request.clone(),
        }
    }
}

/// A source that yields the answers to a sequence of queries.
pub struct KernelDump {
    /// The dump in progress and its query; `None` after the last one.
    dump: Option<(Dump, Asked)>,
    /// The queries that follow.
    rest: VecDeque<Asked>,
    /// True if the dump in progress has yielded something.
    begun: bool,
    /// The error number with which the kernel refused a query that was replaced by fallbacks.
    refused: Option<i32>,
    namespace: Option<Namespace>,
    stop: Stop,
    /// True if a stop before the end is an error (EINTR).
    whole: bool,
}

impl KernelDump {
    /// Sends the first query.
    ///
    /// # Errors
    /// The query cannot be sent.
    pub fn start(
        socket: Socket,
        asked: Vec<Asked>,
        namespace: Option<&Namespace>,
        stop: &Stop,
    ) -> Result<Self, SocketError> {
        let mut rest = VecDeque::from(asked);
        let dump = match rest.pop_front() {
            Some(first) => Some((Dump::start(socket, &first.request())?, first)),
            None => None,
        };
        let (namespace, stop) = (namespace.cloned(), stop.clone());
        Ok(KernelDump { dump, rest, begun: false, refused: None, namespace, stop, whole: false })
    }

    /// Makes a stop before the end an error (EINTR).
    #[must_use]
    pub fn whole(self) -> Self {
        KernelDump { whole: true, ..self }
    }

    /// Sends the next query, if there is one.
    fn follow(&mut self) -> Result<(), SocketError> {
        self.begun = false;
        self.dump = None;
        if let Some(next) = self.rest.pop_front() {
            let socket = Socket::open(&Options::within(self.namespace.as_ref()))?;
            self.dump = Some((Dump::start(socket, &next.request())?, next));
        }
        Ok(())
    }

    /// After a refusal: replaces the query by its fallbacks, if it has any.
    fn ask_otherwise(&mut self, errno: i32) -> Result<(), SourceError> {
        let listing = match &self.dump {
            Some((_, Asked::Listing(listing))) if !self.begun => Some(listing),
            _ => None,
        };
        if listing.is_some_and(|listing| listing.is_nothing(errno)) {
            return Ok(self.follow()?);
        }
        let others = listing.map(|listing| listing.instead(errno)).unwrap_or_default();
        let first = *self.refused.get_or_insert(errno);
        if others.is_empty() {
            self.dump = None;
            self.rest.clear();
            return Err(SourceError::Kernel(if is_unsupported(errno) { first } else { errno }));
        }
        for other in others.into_iter().rev() {
            self.rest.push_front(other.into());
        }
        Ok(self.follow()?)
    }
}

impl Source for KernelDump {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        while let Some((dump, _)) = &mut self.dump {
            match dump.next(&mut datagram.buffer, Some(&self.stop)) {
                Ok(Some(length)) => {
                    self.begun = true;
                    datagram.length = length;
                    return Ok(true);
                }
                Ok(None) => self.follow()?,
                Err(DumpError::Stopped) if !self.whole => return Ok(false),
                Err(DumpError::Socket(error)) => return Err(error.into()),
                Err(DumpError::Refused { errno, .. }) => self.ask_otherwise(errno)?,
                Err(error) => return Err(SourceError::Kernel(error.errno())),
            }
        }
        Ok(false)
    }
}
