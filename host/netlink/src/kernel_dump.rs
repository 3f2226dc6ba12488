//! Dumps of the kernel, and the answers to lookups, as a source.

use std::collections::VecDeque;

use super::{
    Dump, DumpError, Listing, Namespace, Options, Request, Socket, SocketError, Stop,
    listing::is_unsupported,
    source::{Datagram, Source, SourceError},
};

/// Something that the kernel is asked for.
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
    /// The request.
    #[must_use]
    pub fn request(&self) -> Request {
        match self {
            Asked::Listing(listing) => listing.request(),
            Asked::Lookup(request) => request.clone(),
        }
    }
}

/// Dumps of the kernel, or the answer to a lookup.
pub struct KernelDump {
    /// The one that is under way, and what was asked for; none when all are over.
    dump: Option<(Dump, Asked)>,
    /// What is asked for when that is over, one after the other.
    rest: VecDeque<Asked>,
    /// Whether the one that is under way has yielded something.
    begun: bool,
    /// The error number with which the kernel refused what something else was asked for instead of.
    refused: Option<i32>,
    namespace: Option<Namespace>,
    stop: Stop,
    /// Whether it is an error (EINTR) that it is stopped before its end.
    whole: bool,
}

impl KernelDump {
    /// Asks for the first.
    ///
    /// # Errors
    /// The kernel cannot be asked.
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

    /// Takes it for an error (EINTR) that it is stopped before its end.
    #[must_use]
    pub fn whole(self) -> Self {
        KernelDump { whole: true, ..self }
    }

    /// Asks for the one that follows, if there is one.
    fn follow(&mut self) -> Result<(), SocketError> {
        self.begun = false;
        self.dump = None;
        if let Some(next) = self.rest.pop_front() {
            let socket = Socket::open(&Options::within(self.namespace.as_ref()))?;
            self.dump = Some((Dump::start(socket, &next.request())?, next));
        }
        Ok(())
    }

    /// After a refusal: asks in another way, if there is one.
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
