//! Resyncs against a simulated table, with deterministic races.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use super::*;
use flowgate_netlink_testing::{attribute, message, tuple};

const ALL: EventGroups = EventGroups::ALL;
const CREATED: u16 = 0x600;

/// Returns the message of a flow: an entry of a listing, or an event of this type with these flags.
fn flow(id: u32, mark: u32, kind: u16, flags: u16) -> Vec<u8> {
    let [source, destination] = [[10, 0, 0, id as u8], [10, 1, 0, 1]];
    let attributes = [
        tuple(1, [&source, &destination], 17, [1000, 53]),
        tuple(2, [&destination, &source], 17, [53, 1000]),
        attribute(3, &8u32.to_be_bytes()),
        attribute(8, &mark.to_be_bytes()),
        attribute(12, &id.to_be_bytes()),
    ];
    message(kind, flags, 0, 0, 2, &attributes)
}

/// Marks of flows by id.
type Table = Rc<RefCell<Vec<(u32, u32)>>>;

/// A table whose listing may skip flows or fail.
#[derive(Clone, Default)]
struct Fake {
    table: Table,
    skip: Rc<Cell<Option<u32>>>,
    breaks: Rc<Cell<bool>>,
    marks: Rc<Cell<u32>>,
}

/// Datagrams, and true if an error follows them.
struct Listing(Vec<Vec<u8>>, bool);

impl Source for Listing {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        match self.0.pop() {
            Some(bytes) => {
                datagram.buffer[..bytes.len()].copy_from_slice(&bytes);
                datagram.length = bytes.len();
                Ok(true)
            }
            None if self.1 => Err(SourceError::Kernel(libc::EINTR)),
            None => Ok(false),
        }
    }
}

impl Kernel for Fake {
    fn list(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let table = self.table.borrow();
        let listed = table.iter().filter(|(id, _)| self.skip.get() != Some(*id));
        Ok(Box::new(Listing(listed.map(|&(id, mark)| flow(id, mark, 0x0100, 2)).collect(), self.breaks.get())))
    }

    fn look_up(&mut self, flows: &Flows, found: &mut dyn FnMut(&Message<'_>)) -> Result<(), SourceError> {
        for id in &flows.id {
            if let Some((id, mark)) = self.table.borrow().iter().find(|(known, _)| known == id) {
                found(&Messages::new(&flow(*id, *mark, 0x0100, 0)).next().unwrap().unwrap());
            }
        }
        Ok(())
    }
}

impl Barriers for Fake {
    fn insert(&mut self) -> Result<u32, SourceError> {
        self.marks.set(self.marks.get() + 1);
        Ok(self.marks.get())
    }
}

impl Fake {
    /// Returns a resync that follows this table.
    fn follow(&self, kinds: EventGroups) -> Resync<'static> {
        let mut resync = Resync::new(Box::new(self.clone()), kinds);
        resync.set_barriers(Some(Box::new(self.clone())));
        resync
    }

    /// Passes the last barrier to the resync. Returns the generated events as kind, id and mark, and true if these were
    /// all.
    fn mark_comes(&self, resync: &mut Resync<'_>) -> (Vec<(u8, u32, u32)>, bool) {
        let mut decoder = FlowDecoder::new(field::ALL);
        let mut events = Vec::new();
        assert!(!resync.reached(self.marks.get() + 1) && resync.reached(self.marks.get()));
        loop {
            let mut flows = Flows::default();
            if !resync.push_synthetic(&mut decoder, &mut flows, 2) {
                break;
            }
            flowgate_model::batch::check(&flows).unwrap();
            resync.follow(&mut flows);
            for (row, kind) in flows.events.iter().flat_map(|events| events.kind.iter().enumerate()) {
                assert!(flows.has[row] & field::SYNTHETIC != 0 && flows.has[row] & field::PORT_ID == 0);
                assert_eq!(flows.original.source.lo[row] & 0xff, u64::from(flows.id[row]));
                assert_eq!(flows.reply.destination.lo[row], flows.original.source.lo[row]);
                events.push((*kind, flows.id[row], flows.mark[row]));
            }
        }
        events.sort_unstable();
        (events, resync.advance().unwrap())
    }

    /// Returns all events until the resync is complete.
    fn all(&self, resync: &mut Resync<'_>) -> Vec<(u8, u32, u32)> {
        let mut all = Vec::new();
        loop {
            let (events, over) = self.mark_comes(resync);
            all.extend(events);
            if over {
                all.sort_unstable();
                return all;
            }
        }
    }

    fn set(&self, table: &[(u32, u32)]) {
        *self.table.borrow_mut() = table.to_vec();
    }
}

/// Passes an event to the resync; returns true if it is shown.
fn event(resync: &mut Resync<'_>, kind: u8, id: u32, mark: u32) -> bool {
    let (of, flags) = match kind {
        event::NEW => (0x0100, CREATED),
        event::UPDATE => (0x0100, 0),
        _ => (0x0102, 0),
    };
    let bytes = flow(id, mark, of, flags);
    let message = Messages::new(&bytes).next().unwrap().unwrap();
    let mut flows = Flows::default();
    FlowDecoder::new(READS).push(&mut flows, &message, Arrival::Event { received: 1, namespace: None }).unwrap();
    resync.follow(&mut flows);
    flows.length == 1
}

/// Returns a table of the flows 1, 2 and 3 that has been taken over.
fn begun() -> (Fake, Resync<'static>) {
    let fake = Fake::default();
    fake.set(&[(1, 0), (2, 0), (3, 0)]);
    let mut resync = fake.follow(ALL);
    resync.begin(true).unwrap();
    assert_eq!(fake.all(&mut resync), []);
    assert_eq!(resync.known(), 3);
    (fake, resync)
}

#[test]
fn differences_are_told_once() {
    let (fake, mut resync) = begun();
    fake.set(&[(2, 7), (3, 0), (4, 5)]);
    resync.begin(false).unwrap();
    let events = [(event::NEW, 4, 5), (event::UPDATE, 2, 7), (event::DESTROY, 1, 0)];
    assert_eq!(fake.all(&mut resync), events);
    assert_eq!(resync.counts(), ResyncCounts { resyncs: 1, new: 1, update: 1, destroy: 1 });
    resync.begin(false).unwrap();
    assert_eq!(fake.all(&mut resync), []);
}

#[test]
fn what_an_event_tells_meanwhile_is_not_told_again() {
    let (fake, mut resync) = begun();
    fake.set(&[(2, 7), (3, 0), (4, 5)]);
    resync.begin(false).unwrap();
    // These events were in flight when the table was listed.
    assert!(event(&mut resync, event::DESTROY, 1, 0));
    assert!(event(&mut resync, event::UPDATE, 2, 7));
    assert!(event(&mut resync, event::NEW, 4, 5));
    assert_eq!(fake.all(&mut resync), []);

    // Such an event may be older than the listing, and the event after it lost: the difference is then found at the
    // end.
    fake.set(&[(2, 9), (3, 0), (4, 5)]);
    resync.begin(false).unwrap();
    assert!(event(&mut resync, event::UPDATE, 2, 8));
    assert_eq!(fake.all(&mut resync), [(event::UPDATE, 2, 9)]);
}

#[test]
fn flows_that_end_or_begin_after_they_were_looked_at() {
    let (fake, mut resync) = begun();
    fake.set(&[(1, 0), (2, 0)]);
    resync.begin(false).unwrap();
    assert_eq!(fake.mark_comes(&mut resync), (vec![], false));
    // Flow 3 was not found; its DESTROY event is in flight. Another flow is created.
    assert!(event(&mut resync, event::DESTROY, 3, 0));
    assert!(event(&mut resync, event::NEW, 5, 0));
    assert_eq!(fake.all(&mut resync), []);
    assert_eq!(resync.known(), 3);
}

#[test]
fn a_flow_that_the_listing_skips_is_not_told_to_be_gone() {
    let (fake, mut resync) = begun();
    fake.skip.set(Some(2));
    fake.set(&[(1, 0), (2, 6), (3, 0)]);
    resync.begin(false).unwrap();
    assert_eq!(fake.all(&mut resync), [(event::UPDATE, 2, 6)]);
}

#[test]
fn another_gap_begins_again() {
    let (fake, mut resync) = begun();
    fake.set(&[(1, 1)]);
    resync.begin(false).unwrap();
    let lost = fake.marks.get();
    fake.set(&[(1, 2), (2, 0)]);
    resync.begin(false).unwrap();
    assert!(!resync.reached(lost));
    assert_eq!(fake.all(&mut resync), [(event::UPDATE, 1, 2), (event::DESTROY, 3, 0)]);
}

#[test]
fn a_gap_before_the_table_was_taken_in_has_all_of_it_reported() {
    let fake = Fake::default();
    fake.set(&[(1, 0), (2, 0)]);
    let mut resync = fake.follow(ALL);
    resync.begin(true).unwrap();
    fake.set(&[(1, 0), (3, 0)]);
    resync.begin(false).unwrap();
    assert_eq!(fake.all(&mut resync), [(event::NEW, 1, 0), (event::NEW, 3, 0), (event::DESTROY, 2, 0)]);
}

#[test]
fn a_listing_that_breaks_off_tells_nothing() {
    let (fake, mut resync) = begun();
    fake.set(&[(1, 1)]);
    fake.breaks.set(true);
    assert!(resync.begin(false).is_err());
    assert!(resync.patience().is_some() && !resync.reached(fake.marks.get()));
    resync.again = Some(Instant::now());
    fake.breaks.set(false);
    resync.retry().unwrap();
    let events = [(event::UPDATE, 1, 1), (event::DESTROY, 2, 0), (event::DESTROY, 3, 0)];
    assert_eq!(fake.all(&mut resync), events);
    assert_eq!(resync.patience(), None);
}

#[test]
fn kinds_that_nobody_asked_for_are_followed_and_not_shown() {
    let fake = Fake::default();
    let mut resync = fake.follow(EventGroups { update: false, ..ALL });
    resync.begin(true).unwrap();
    assert_eq!(fake.all(&mut resync), []);
    assert!(event(&mut resync, event::NEW, 1, 0));
    assert!(!event(&mut resync, event::UPDATE, 1, 3));
    fake.set(&[(1, 3)]);
    resync.begin(false).unwrap();
    assert_eq!(fake.all(&mut resync), []);
    assert!(event(&mut resync, event::DESTROY, 1, 3));
    assert_eq!(resync.known(), 0);
}

#[test]
fn what_the_kernel_had_ready_before_an_event_is_not_believed() {
    let fake = Fake::default();
    let many: Vec<(u32, u32)> = (1..=PART as u32 + 1).map(|id| (id, 0)).collect();
    fake.set(&many);
    let mut resync = fake.follow(ALL);
    resync.begin(true).unwrap();
    assert_eq!(fake.all(&mut resync), []);
    // The flow in the second part changes after the first part has been read.
    resync.begin(false).unwrap();
    let last = 1;
    fake.set(&many.iter().map(|&(id, mark)| (id, if id == last { 5 } else { mark })).collect::<Vec<_>>());
    assert!(event(&mut resync, event::UPDATE, last, 5));
    assert_eq!(fake.all(&mut resync), []);
    assert_eq!(resync.known(), PART + 1);
}
