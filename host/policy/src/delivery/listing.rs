//! A single listing of the table for all tenants that need one. At the start and after a gap of the kernel that is all
//! of them, and each would read the whole table for its own flows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ScopeFilter;
use crate::Scope;
use flowgate_netlink::{
    Messages,
    source::{Datagram, Source, SourceError},
};

/// Starts a listing of the whole table.
type OpenListing = Box<dyn Fn() -> Result<Box<dyn Source>, SourceError> + Send + Sync>;

/// A tenant's part of a listing; `None` if it exceeds the tenant's queue.
type TenantPart = Option<Vec<u8>>;

/// Lists the table for several tenants at once.
pub struct Listings {
    open: OpenListing,
    /// Held by the tenant that lists for all waiting ones.
    turn: Mutex<()>,
    waiting: Mutex<Vec<Arc<ListingRequest>>>,
}

/// A waiting tenant's request.
struct ListingRequest {
    scope: Scope,
    most: usize,
    /// The result: the tenant's part, or an error number.
    done: Mutex<Option<Result<TenantPart, i32>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listings {
    /// Returns shared listings of the table; `open` starts one.
    #[must_use]
    pub fn new(open: OpenListing) -> Self {
        Listings { open, turn: Mutex::default(), waiting: Mutex::default() }
    }

    /// Returns the messages about the flows of a scope, or `None` if these exceed `most` bytes. The listing starts
    /// after the call and is complete when it returns: none of it is older than what the caller knows.
    ///
    /// # Errors
    /// The kernel refused or aborted the listing.
    pub fn list(&self, scope: &Scope, most: usize) -> Result<TenantPart, SourceError> {
        let request = Arc::new(ListingRequest { scope: scope.clone(), most, done: Mutex::default() });
        lock(&self.waiting).push(request.clone());
        // While one tenant lists, others wait here; the first of these then lists for all.
        let turn = lock(&self.turn);
        if lock(&request.done).is_none() {
            self.serve(std::mem::take(&mut *lock(&self.waiting)));
        }
        drop(turn);
        let own = lock(&request.done).take();
        own.unwrap_or(Err(libc::EINTR)).map_err(SourceError::Kernel)
    }

    fn serve(&self, orders: Vec<Arc<ListingRequest>>) {
        let mut parts: Vec<TenantPart> = orders.iter().map(|_| Some(Vec::new())).collect();
        let result = self.read(&orders, &mut parts).map_err(|error| error.errno());
        for (request, part) in orders.iter().zip(parts) {
            *lock(&request.done) = Some(result.map(|()| part));
        }
    }

    fn read(&self, orders: &[Arc<ListingRequest>], parts: &mut [TenantPart]) -> Result<(), SourceError> {
        let mut listing = (self.open)()?;
        let (mut scope_filter, mut datagram) = (ScopeFilter::default(), Datagram::new());
        while parts.iter().any(Option::is_some) && listing.next(&mut datagram)? {
            for message in Messages::new(datagram.bytes()).map_while(Result::ok) {
                let Some(view) = scope_filter.view(&message) else { continue };
                for (request, part) in orders.iter().zip(parts.iter_mut()) {
                    if let Some(bytes) = part
                        && request.scope.contains(&view)
                    {
                        scope_filter.append(bytes, &message, &request.scope, &view);
                        if bytes.len() > request.most {
                            *part = None;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// A complete listing as a source. It is delivered at once, since it ages.
pub(super) struct Listed(pub Vec<u8>);

impl Source for Listed {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        datagram.clear();
        if self.0.is_empty() {
            return Ok(false);
        }
        datagram.fill(&std::mem::take(&mut self.0));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::Rule;
    use flowgate_netlink_testing::{attribute, message, tuple};
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    /// Returns an entry of a listing.
    fn flow(id: u8, mark: u32) -> Vec<u8> {
        let [source, destination] = [[10, 0, 0, id], [10, 1, 0, 1]];
        let attributes = [
            tuple(1, [&source, &destination], 17, [1000, 53]),
            tuple(2, [&destination, &source], 17, [53, 1000]),
            attribute(3, &8u32.to_be_bytes()),
            attribute(8, &mark.to_be_bytes()),
        ];
        message(0x0100, 2, 0, 0, 2, &attributes)
    }

    struct Table(Vec<Vec<u8>>, Option<i32>);

    impl Source for Table {
        fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
            let Some(bytes) = self.0.pop() else {
                return self.1.map_or(Ok(false), |errno| Err(SourceError::Kernel(errno)));
            };
            datagram.buffer[..bytes.len()].copy_from_slice(&bytes);
            datagram.length = bytes.len();
            Ok(true)
        }
    }

    /// A table of 64 flows with marks 0 to 7, the number of its listings, and how they end.
    fn listings(error: Option<i32>) -> (Arc<Listings>, Arc<AtomicUsize>) {
        let listed = Arc::new(AtomicUsize::new(0));
        let count = listed.clone();
        let open = move || -> Result<Box<dyn Source>, SourceError> {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(Table((0..64).map(|id| flow(id, u32::from(id) % 8)).collect(), error)))
        };
        (Arc::new(Listings::new(Box::new(open))), listed)
    }

    fn marked(value: u32) -> Scope {
        Scope::new(vec![Rule { marks: vec![(value, u32::MAX)], ..Rule::default() }])
    }

    #[test]
    fn all_who_wait_share_a_listing_and_get_their_own() {
        let (listings, listed) = listings(None);
        let turn = lock(&listings.turn);
        let waiting: Vec<_> = (0..8)
            .map(|mark| {
                let listings = listings.clone();
                thread::spawn(move || listings.list(&marked(mark), 1 << 20).unwrap().unwrap())
            })
            .collect();
        while lock(&listings.waiting).len() < 8 {
            thread::yield_now();
        }
        drop(turn);
        for (mark, own) in waiting.into_iter().enumerate() {
            let own = own.join().unwrap();
            let mut scope_filter = ScopeFilter::default();
            let of_it = |message| scope_filter.view(&message).is_some_and(|view| marked(mark as u32).contains(&view));
            assert_eq!(Messages::new(&own).map(Result::unwrap).map(of_it).collect::<Vec<_>>(), [true; 8]);
        }
        assert_eq!(listed.load(Ordering::Relaxed), 1);
        // A later request is not answered by an earlier listing.
        assert!(listings.list(&marked(0), 1 << 20).unwrap().is_some());
        assert_eq!(listed.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn who_has_too_many_flows_gets_none_and_nobody_else_suffers() {
        let (listings, _) = listings(None);
        let one = flow(0, 0).len();
        assert!(listings.list(&marked(3), 8 * one).unwrap().is_some());
        assert!(listings.list(&marked(3), 8 * one - 1).unwrap().is_none());
        assert_eq!(listings.list(&marked(99), 0).unwrap(), Some(Vec::new()));
    }

    #[test]
    fn a_listing_that_breaks_off_is_an_error() {
        let (listings, _) = listings(Some(libc::ENOBUFS));
        assert_eq!(listings.list(&marked(3), 1 << 20).unwrap_err().errno(), libc::ENOBUFS);
    }

    #[test]
    fn a_buffer_stays_long_enough_for_the_kernel() {
        let mut datagram = Datagram::new();
        let mut listed = Listed(flow(1, 1));
        assert!(listed.next(&mut datagram).unwrap() && datagram.bytes() == flow(1, 1));
        assert!(datagram.buffer.len() >= Datagram::new().buffer.len());
        assert!(!listed.next(&mut datagram).unwrap());
        let many = vec![7; 1 << 20];
        assert!(Listed(many.clone()).next(&mut datagram).unwrap() && datagram.bytes() == many);
    }
}
