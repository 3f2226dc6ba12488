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
        let end = length + message.padded_length();
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

#[cfg(test)]
#[allow(clippy::panic, reason = "these tests ask the kernel for nothing")]
mod tests {
    use flowgate_netlink::wire::MESSAGE_HEADER as HEADER;

    use super::*;

    /// Returns a message with a body of this many bytes, and its padding.
    fn message(length: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + length).unwrap().to_ne_bytes().to_vec();
        bytes.extend([0; HEADER - 4]);
        bytes.extend((0..length.next_multiple_of(4)).map(|at| at as u8));
        bytes
    }

    /// A listing in these datagrams.
    struct Datagrams(std::vec::IntoIter<Vec<u8>>);

    impl Source for Datagrams {
        fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
            let next = self.0.next();
            next.iter().for_each(|bytes| datagram.fill(bytes));
            Ok(next.is_some())
        }
    }

    /// Returns the parts of a listing.
    fn parts(datagrams: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut table = Table::new(Box::new(|| panic!("it is not opened")));
        let source = Box::new(Datagrams(datagrams.into_iter()));
        table.listings[1] = Some(Listing { source, datagram: Datagram::new(), offset: 0 });
        assert!(table.next(0).unwrap().is_none() && table.next(LISTINGS).unwrap().is_none(), "it is not open");
        let mut parts = Vec::new();
        while let Some(part) = table.next(1).unwrap() {
            parts.push(part.to_vec());
        }
        assert!(table.next(1).unwrap().is_none() && table.listings[1].is_none(), "it is closed at its end");
        parts
    }

    #[test]
    fn whole_messages_are_taken() {
        let (one, two) = (message(5), message(8));
        let bytes = [one.clone(), two.clone()].concat();
        assert_eq!((one.len(), two.len()), (24, 24));
        for (most, length) in [(0, 0), (23, 0), (24, 24), (47, 24), (48, 48), (100, 48)] {
            assert_eq!(whole(&bytes, most), length, "{most}");
        }
        // The last one may lack its padding; what is cut is left out.
        assert_eq!(whole(&message(5)[..21], 24), 21);
        assert_eq!(whole(&bytes[..40], 100), 24);
        assert_eq!((whole(&[], 10), whole(&[0xff; 40], 100)), (0, 0));
    }

    #[test]
    fn the_parts_of_a_listing_are_the_listing() {
        let many =
            |count: usize, length: usize| (0..count).flat_map(|at| message(length + at % 5)).collect::<Vec<u8>>();
        let datagrams = vec![many(1, 0), many(4000, 40), many(3, 29_000), many(1, BYTES - HEADER), many(10, 100)];
        let parts = parts(datagrams.clone());
        assert!(parts.concat() == datagrams.concat());
        assert!(parts.len() > datagrams.len());
        for part in &parts {
            assert!(!part.is_empty() && part.len() <= BYTES);
            assert_eq!(whole(part, BYTES), part.len());
        }
    }

    #[test]
    fn what_is_no_message_is_passed_by() {
        let mut broken = message(8);
        broken.extend([0xff; 40]);
        let parts = parts(vec![broken, message(4)]);
        assert_eq!(parts.concat(), [message(8), message(4)].concat());
    }
}
