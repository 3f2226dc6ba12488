//! Keeps the messages about flows of a scope, and takes out all others.

use std::sync::Arc;

use super::listing::{Listed, Listings};
use crate::{
    model::Flows,
    netlink::{
        Message, Messages, SocketError,
        decode::{Arrival, FlowDecoder},
        message::Subject,
    },
    pipeline::{
        resync::{Kernel, append},
        source::{Datagram, Source, SourceError},
        table::Table,
    },
    policy::{Scope, Sight, scope},
};

/// Looks at messages one by one.
pub struct Sieve {
    decoder: FlowDecoder,
    rows: Flows,
}

impl Default for Sieve {
    fn default() -> Self {
        Sieve { decoder: FlowDecoder::new(scope::READS), rows: Flows::default() }
    }
}

impl Sieve {
    /// What scopes see of a message; none if it is not about a flow, or cannot be read.
    pub fn sight(&mut self, message: &Message<'_>) -> Option<Sight> {
        if !matches!(message.subject(), Subject::Flow | Subject::FlowDestroyed) {
            return None;
        }
        self.rows.clear(&mut self.decoder);
        self.rows.push(&mut self.decoder, message, Arrival::Entry).ok()?;
        (self.rows.length == 1).then(|| Sight::of(&self.rows, 0))
    }
}

/// A listing of the table, of which the flows of a scope are kept.
struct Listing {
    inner: Box<dyn Source>,
    scope: Scope,
    sieve: Sieve,
}

impl Source for Listing {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        if !self.inner.next(datagram)? {
            return Ok(false);
        }
        let mut kept = Vec::with_capacity(datagram.length);
        for message in Messages::new(datagram.bytes()).map_while(Result::ok) {
            if self.sieve.sight(&message).is_some_and(|sight| self.scope.contains(&sight)) {
                append(&mut kept, &message);
            }
        }
        datagram.fill(&kept);
        Ok(true)
    }
}

/// The table as a tenant may see it.
pub struct OwnTable<K> {
    /// The whole table.
    pub kernel: K,
    /// What of it.
    pub scope: Scope,
    /// Lists it together with other tenants' parts, as long as this one is no longer than so many bytes; none if there are no
    /// others, or it is too long.
    pub together: Option<(Arc<Listings>, usize)>,
}

impl<K: Kernel> Kernel for OwnTable<K> {
    fn list(&mut self) -> Result<Box<dyn Source>, SourceError> {
        if let Some((listings, most)) = &self.together {
            if let Some(own) = listings.list(&self.scope, *most)? {
                return Ok(Box::new(Listed(own)));
            }
            self.together = None;
        }
        let inner = self.kernel.list()?;
        Ok(Box::new(Listing { inner, scope: self.scope.clone(), sieve: Sieve::default() }))
    }

    fn look_up(&mut self, flows: &Flows, found: &mut dyn FnMut(&Message<'_>)) -> Result<(), SourceError> {
        let mut sieve = Sieve::default();
        let scope = &self.scope;
        self.kernel.look_up(flows, &mut |message| {
            // A flow that is not the tenant's any more has ended for it.
            if sieve.sight(message).is_some_and(|sight| scope.contains(&sight)) {
                found(message);
            }
        })
    }
}

/// Puts a mark into a stream that is shared: everybody gets it, and knows his own by its number.
pub type Mark = Arc<dyn Fn() -> Result<u32, SocketError> + Send + Sync>;
