//! The kernel's table as a tenant sees it, for its worker.

use flowgate_model::Flows;
use flowgate_netlink::{
    Messages, Namespace, Stop,
    proposal::read_lookup,
    source::{Datagram, Source, SourceError},
};
use flowgate_pipeline::{
    kernel::KernelTable,
    resync::{Kernel as _, append},
};
use flowgate_policy::delivery::scope_filter::TenantTable;
use flowgate_worker::protocol::{BYTES, LISTINGS};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// Opens the table.
pub(super) type OpenTable = Box<dyn Fn() -> TenantTable<KernelTable>>;

/// The table, with the listings that the worker has open.
pub(super) struct Table {
    open: OpenTable,
    listings: [Option<Listing>; LISTINGS as usize],
}

/// A listing of which a part has been passed.
struct Listing {
    source: Box<dyn Source>,
    datagram: Datagram,
    /// Offset of the first byte that has not been passed.
    offset: usize,
}

impl Table {
    pub(super) fn new(open: OpenTable) -> Self {
        Table { open, listings: Default::default() }
    }

    /// Begins a listing. An earlier one with the same number ends.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(super) fn list(&mut self, number: u8) -> Result<(), SourceError> {
        let source = (self.open)().list()?;
        if let Some(place) = self.listings.get_mut(usize::from(number)) {
            *place = Some(Listing { source, datagram: Datagram::new(), offset: 0 });
        }
        Ok(())
    }

    /// Returns the next entries of a listing: whole messages of at most [`BYTES`]. Returns `None` at the end, and for a
    /// listing that is not open.
    ///
    /// # Errors
    /// The kernel ended it early.
    pub(super) fn next(&mut self, number: u8) -> Result<Option<&[u8]>, SourceError> {
        let Some(place) = self.listings.get_mut(usize::from(number)) else { return Ok(None) };
        // It is put back unless it has ended.
        let Some(mut listing) = place.take() else { return Ok(None) };
        while listing.offset >= listing.datagram.length {
            listing.offset = 0;
            if !listing.source.next(&mut listing.datagram)? {
                return Ok(None);
            }
        }
        let listing = place.insert(listing);
        let rest = listing.datagram.bytes().get(listing.offset..).unwrap_or_default();
        let length = whole(rest, BYTES);
        // Bytes that are no message are passed by.
        listing.offset = if length == 0 { listing.datagram.length } else { listing.offset + length };
        Ok(Some(rest.get(..length).unwrap_or_default()))
    }

    /// Looks up entries, and passes the messages about those that exist and are in the scope, in parts of at most
    /// [`BYTES`].
    ///
    /// # Errors
    /// A request is not one of a worker of this program (EINVAL), or the kernel refuses it.
    pub(super) fn look_up<'a>(
        &mut self,
        requests: impl Iterator<Item = &'a [u8]>,
        pass: &mut dyn FnMut(&[u8]),
    ) -> Result<(), SourceError> {
        let mut wanted = Flows::default();
        for request in requests {
            let flow = read_lookup(request).map_err(|_| SourceError::Kernel(libc::EINVAL))?;
            flowgate_model::batch::append(&mut wanted, &flow);
        }
        let mut found = Vec::new();
        (self.open)().look_up(&wanted, &mut |message| {
            let before = found.len();
            append(&mut found, message);
            if found.len() > BYTES {
                let last = found.split_off(before);
                pass(&found);
                found = last;
            }
        })?;
        if !found.is_empty() {
            pass(&found);
        }
        Ok(())
    }
}

/// Returns the length of the whole messages at the beginning of these bytes, at most this many bytes.
fn whole(bytes: &[u8], most: usize) -> usize {
    let mut length = 0;
    for message in Messages::new(bytes).map_while(Result::ok) {
        let end = length + (HEADER + message.body.len()).next_multiple_of(4);
        if end > most {
            break;
        }
        length = end.min(bytes.len());
    }
    length
}

/// Returns a function that opens the table of a tenant.
pub(super) fn open(
    namespace: Option<&Namespace>,
    stop: &Stop,
    scope: &flowgate_policy::Scope,
    together: Option<(std::sync::Arc<flowgate_policy::delivery::Listings>, usize)>,
) -> OpenTable {
    let (namespace, stop, scope) = (namespace.cloned(), stop.clone(), scope.clone());
    Box::new(move || TenantTable {
        kernel: KernelTable::new(namespace.as_ref(), &stop),
        scope: scope.clone(),
        together: together.clone(),
    })
}
