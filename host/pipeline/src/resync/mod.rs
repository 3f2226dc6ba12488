//! Makes up for lost events: after a gap the table is listed, and events are generated for the differences between it
//! and the known state of the stream.
//!
//! A listing and a stream of events race with each other: a listed flow may be newer or older than the next event about
//! it. Therefore the table is read in parts. After each part a barrier is inserted into the stream; when the barrier
//! arrives, every event that the kernel had sent before the part was read has arrived too, and a difference that no
//! event has touched meanwhile will not be reported by any event. Flows that are known but were not listed are looked
//! up one by one, since a listing during which the kernel resizes its hash table may skip some.
//!
//! Another gap restarts the procedure.

mod known;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use flowgate_base::clock::now;
use flowgate_model::batch;
use flowgate_model::{EventGroups, Flows, event, field, verdict};
use flowgate_netlink::source::{Barriers, Datagram, Source, SourceError};
use flowgate_netlink::{
    Message, Messages,
    decode::{Arrival, FlowDecoder},
    message::MessageKind,
    wire::align,
};
use known::{Difference, Key, KnownFlows};

/// Number of entries of the table that are read before events are processed again: some 20 ms of the kernel's work.
const PART: usize = 8192;
/// Time until the next attempt after the table could not be read.
const AGAIN: Duration = Duration::from_secs(1);

/// Access to the kernel's table.
pub trait Kernel {
    /// Begins a listing of the whole table.
    ///
    /// # Errors
    /// [`SourceError`] if the kernel refuses it. A source that ends prematurely must return an error.
    fn list(&mut self) -> Result<Box<dyn Source>, SourceError>;

    /// Looks up the flows of a batch by original tuple and zone, and calls `found` for each that exists.
    ///
    /// # Errors
    /// [`SourceError`] if a lookup failed; a flow that does not exist is not an error.
    fn look_up(&mut self, flows: &Flows, found: &mut dyn FnMut(&Message<'_>)) -> Result<(), SourceError>;
}

/// The counts of lost events that were made up for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResyncCounts {
    /// Number of complete listings after a gap.
    pub resyncs: u64,
    /// Number of flows that were not known from the stream.
    pub new: u64,
    /// Number of flows with other values than known from the stream.
    pub update: u64,
    /// Number of flows whose end the stream did not report.
    pub destroy: u64,
}

/// The part of the table that has not been compared yet.
enum Rest {
    /// The rest of a listing. Once it has begun, the kernel has the next datagram ready.
    Listing { listing: Box<dyn Source>, begun: bool },
    /// The listing has ended; the flows that it did not contain are determined when its last barrier arrives.
    Listed,
    /// Flows that it did not contain.
    Unlisted(Vec<Key>),
}

/// A part of the table that was read and whose barrier has not arrived yet.
struct Part {
    barrier: u32,
    rest: Rest,
    /// Messages about flows with differences: their positions in `Resync::raw`, and the kind of event.
    differing: Vec<(Key, u8, usize, usize)>,
    /// Flows that no longer exist.
    gone: Vec<Key>,
}

/// Follows a stream of events, and makes up for lost ones. The stream must contain all kinds of events; those that are
/// not shown are removed here.
pub struct Resync<'a> {
    kernel: Box<dyn Kernel + 'a>,
    kinds: EventGroups,
    barriers: Option<Box<dyn Barriers>>,
    known: KnownFlows,
    /// The number of the current resync.
    number: u32,
    /// True if the current resync takes over the table without generating events.
    silent: bool,
    /// True if events are also generated for the table at the start.
    reports_start: bool,
    part: Option<Part>,
    /// The part from which events are generated, whose barrier has arrived.
    reporting: Option<Part>,
    raw: Vec<u8>,
    /// Flows with differences that no event has touched.
    untouched: HashSet<Key>,
    again: Option<Instant>,
    decoder: FlowDecoder,
    rows: Flows,
    datagram: Datagram,
    counts: ResyncCounts,
}

/// The fields that must be decoded of each event.
pub const READS: u64 = known::READS;

impl<'a> Resync<'a> {
    /// Returns a resync for a stream of which these kinds are shown.
    #[must_use]
    pub fn new(kernel: Box<dyn Kernel + 'a>, kinds: EventGroups) -> Self {
        Resync {
            kernel,
            kinds,
            barriers: None,
            known: KnownFlows::default(),
            number: 0,
            silent: false,
            reports_start: false,
            part: None,
            reporting: None,
            raw: Vec::new(),
            untouched: HashSet::new(),
            again: None,
            decoder: FlowDecoder::new(READS),
            rows: Flows::default(),
            datagram: Datagram::new(),
            counts: ResyncCounts::default(),
        }
    }

    /// Generates NEW events for the flows of the table at the start.
    #[must_use]
    pub fn reporting_start(mut self) -> Self {
        self.reports_start = true;
        self
    }

    /// Sets the means of inserting barriers into the stream. Without it, lost events are not made up for.
    pub fn set_barriers(&mut self, barriers: Option<Box<dyn Barriers>>) {
        self.barriers = barriers;
    }

    /// Returns the counts of lost events that were made up for.
    #[must_use]
    pub fn counts(&self) -> ResyncCounts {
        self.counts
    }

    /// Returns true if the current resync takes over the table without generating events.
    #[must_use]
    pub fn was_silent(&self) -> bool {
        self.silent
    }

    /// Returns the number of known flows.
    #[must_use]
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// Begins a resync, at the start of the stream (`silent`: the table is taken over without events) or after a gap. A
    /// resync in progress is abandoned.
    ///
    /// # Errors
    /// [`SourceError`] if the table cannot be read; the attempt is repeated later.
    pub fn begin(&mut self, silent: bool) -> Result<(), SourceError> {
        self.silent = silent && !self.reports_start;
        self.number = self.number.checked_add(1).unwrap_or(1);
        (self.part, self.reporting, self.again) = (None, None, None);
        self.untouched.clear();
        if self.barriers.is_none() {
            return Ok(());
        }
        let listing = self.kernel.list().inspect_err(|_| self.again = Some(Instant::now() + AGAIN))?;
        self.read(Rest::Listing { listing, begun: false }).map(|_| ())
    }

    /// Repeats a failed attempt if it is due.
    ///
    /// # Errors
    /// As [`Resync::begin`].
    pub fn retry(&mut self) -> Result<(), SourceError> {
        match self.again {
            Some(again) if Instant::now() >= again => self.begin(self.silent),
            _ => Ok(()),
        }
    }

    /// Returns the time until [`Resync::retry`] is due; `None` if it is not needed.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        self.again.map(|again| again.saturating_duration_since(Instant::now()))
    }

    /// Returns true if this message of the stream is the expected barrier. The differences found before it can then be
    /// reported ([`Resync::push_synthetic`]), and after that the next part can be read ([`Resync::advance`]).
    pub fn reached(&mut self, sequence: u32) -> bool {
        if self.part.as_ref().is_none_or(|part| part.barrier != sequence) {
            return false;
        }
        self.reporting = self.part.take();
        true
    }

    /// Fills an empty batch with events that make up for lost ones; returns `false` if there are no more for now.
    pub fn push_synthetic(&mut self, decoder: &mut FlowDecoder, flows: &mut Flows, most: usize) -> bool {
        let Some(part) = &mut self.reporting else { return false };
        let received = now();
        while (flows.length as usize) < most
            && let Some((key, kind, start, end)) = part.differing.pop()
        {
            if !self.untouched.remove(&key) {
                continue;
            }
            let bytes = self.raw.get(start..end).unwrap_or_default();
            let Some(Ok(message)) = Messages::new(bytes).next() else { continue };
            // Decoding succeeded when the message was compared, with fewer fields.
            if decoder.push(flows, &message, Arrival::Event { received, namespace: None }).is_err() {
                continue;
            }
            if let (Some(has), Some(events)) = (flows.has.last_mut(), &mut flows.events) {
                *has = *has & !field::PORT_ID | field::SYNTHETIC;
                if let Some(last) = events.kind.last_mut() {
                    *last = kind;
                }
                if let Some(port) = events.port_id.last_mut() {
                    *port = 0;
                }
            }
            *(if kind == event::NEW { &mut self.counts.new } else { &mut self.counts.update }) += 1;
        }
        if flows.length > 0 {
            return true;
        }
        while (flows.length as usize) < most
            && let Some(key) = part.gone.pop()
        {
            // An event may have reported meanwhile that the flow ended, or that it exists.
            if self.known.is_unseen(&key, self.number) {
                self.known.push_destroyed(flows, &key, received);
                self.counts.destroy += 1;
            }
        }
        flows.length > 0
    }

    /// Reads the next part; returns `true` if there is none, and the stream is complete again.
    ///
    /// # Errors
    /// [`SourceError`] if the table cannot be read; the resync is restarted later.
    pub fn advance(&mut self) -> Result<bool, SourceError> {
        match self.reporting.take() {
            Some(part) => self.read(part.rest),
            None => Ok(false),
        }
    }

    /// Applies a batch of events, and removes those that are not shown.
    pub fn follow(&mut self, flows: &mut Flows) {
        let Some(events) = &flows.events else { return };
        let mut verdicts = Vec::new();
        for (row, &kind) in events.kind.iter().enumerate() {
            let (shown, flow) = match kind {
                event::NEW => (self.kinds.new, true),
                event::UPDATE => (self.kinds.update, true),
                event::DESTROY => (self.kinds.destroy, true),
                _ => (true, false),
            };
            if !shown {
                verdicts.resize(flows.length as usize, verdict::KEEP);
                if let Some(verdict) = verdicts.get_mut(row) {
                    *verdict = verdict::DROP;
                }
            }
            let has = flows.has.get(row).copied().unwrap_or_default();
            // The table is that of the host's own namespace.
            if !flow || has & field::NAMESPACE != 0 {
                continue;
            }
            let key = Key::of(flows, row);
            self.known.event(flows, row, &key, kind, self.number);
            if self.untouched.remove(&key) {
                // The listed values may be older than this event, which may be incomplete: the flow is looked up at the
                // end.
                self.known.doubt(&key);
            }
        }
        if !verdicts.is_empty() {
            batch::retain(flows, &verdicts);
        }
    }

    /// Reads a part of the rest, and inserts a barrier after it; returns `true` if nothing is left.
    fn read(&mut self, rest: Rest) -> Result<bool, SourceError> {
        let part = self.next_part(rest).inspect_err(|_| self.again = Some(Instant::now() + AGAIN))?;
        self.part = part;
        if self.part.is_some() {
            return Ok(false);
        }
        if self.silent {
            self.known.settle();
        }
        self.counts.resyncs += u64::from(!self.silent);
        self.known.shrink();
        (self.raw, self.datagram) = (Vec::new(), Datagram::new());
        Ok(true)
    }

    fn next_part(&mut self, rest: Rest) -> Result<Option<Part>, SourceError> {
        self.raw.clear();
        self.untouched.clear();
        let rest = match rest {
            Rest::Listed if self.silent => Rest::Unlisted(Vec::new()),
            Rest::Listed => Rest::Unlisted(self.known.unseen(self.number)),
            rest => rest,
        };
        let mut part = Part { barrier: 0, rest, differing: Vec::new(), gone: Vec::new() };
        match &mut part.rest {
            Rest::Listed => {}
            Rest::Listing { listing, begun } => {
                let mut datagram = std::mem::take(&mut self.datagram);
                let result = self.list(listing.as_mut(), *begun, &mut datagram, &mut part.differing);
                self.datagram = datagram;
                *begun = true;
                if result? {
                    part.rest = Rest::Listed;
                }
            }
            Rest::Unlisted(keys) => {
                part.gone = keys.split_off(keys.len().saturating_sub(PART));
                if part.gone.is_empty() {
                    return Ok(None);
                }
                let mut asked = Flows::default();
                for key in &part.gone {
                    self.known.push_destroyed(&mut asked, key, 0);
                }
                let mut found = Vec::new();
                self.kernel.look_up(&asked, &mut |message| append(&mut found, message))?;
                self.compare(&found, &mut part.differing);
            }
        }
        let Some(barriers) = &mut self.barriers else { return Ok(None) };
        part.barrier = barriers.insert()?;
        Ok(Some(part))
    }

    /// Reads a part of a listing; returns `true` at its end.
    ///
    /// The kernel fills a datagram when the previous one is taken. So the first datagram of each part but the first was
    /// filled before the events that have arrived since then, and may be older than these: its flows are looked up
    /// instead.
    fn list(
        &mut self,
        listing: &mut dyn Source,
        mut stale: bool,
        datagram: &mut Datagram,
        differing: &mut Vec<(Key, u8, usize, usize)>,
    ) -> Result<bool, SourceError> {
        let mut read = 0;
        while read < PART {
            if !listing.next(datagram)? {
                return Ok(true);
            }
            read += if std::mem::take(&mut stale) {
                self.compare_anew(datagram.bytes(), differing)?
            } else {
                self.compare(datagram.bytes(), differing)
            };
        }
        Ok(false)
    }

    /// Compares the current values of the flows in these messages, which are looked up; returns their number.
    fn compare_anew(
        &mut self,
        bytes: &[u8],
        differing: &mut Vec<(Key, u8, usize, usize)>,
    ) -> Result<usize, SourceError> {
        let mut asked = Flows::default();
        self.decoder.clear(&mut asked);
        for message in Messages::new(bytes).map_while(Result::ok) {
            if message.kind() == MessageKind::Flow {
                // A malformed message is skipped, as in `compare`.
                let _ = self.decoder.push(&mut asked, &message, Arrival::Entry);
            }
        }
        let mut found = Vec::new();
        self.kernel.look_up(&asked, &mut |message| append(&mut found, message))?;
        self.compare(&found, differing);
        Ok(asked.length as usize)
    }

    /// Compares messages with the known values; returns the number of flows. A malformed message is skipped, and its
    /// flow is looked up later.
    fn compare(&mut self, bytes: &[u8], differing: &mut Vec<(Key, u8, usize, usize)>) -> usize {
        let mut rows = std::mem::take(&mut self.rows);
        let mut flows = 0;
        for message in Messages::new(bytes).map_while(Result::ok) {
            if message.kind() != MessageKind::Flow {
                continue;
            }
            flows += 1;
            self.decoder.clear(&mut rows);
            if self.decoder.push(&mut rows, &message, Arrival::Entry).is_err() {
                continue;
            }
            let key = Key::of(&rows, 0);
            if self.silent {
                self.known.assume(&rows, 0, &key, self.number);
                continue;
            }
            let kind = match self.known.compare(&rows, 0, &key, self.number) {
                Difference::None => continue,
                Difference::New => event::NEW,
                Difference::Changed => event::UPDATE,
            };
            if self.untouched.insert(key) {
                let start = self.raw.len();
                append(&mut self.raw, &message);
                differing.push((key, kind, start, self.raw.len()));
            }
        }
        self.decoder.clear(&mut rows);
        self.rows = rows;
        flows
    }
}

/// Appends a message as it was in its datagram.
pub fn append(bytes: &mut Vec<u8>, message: &Message<'_>) {
    let length = flowgate_netlink::wire::MESSAGE_HEADER + message.body.len();
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(message.message_type.to_ne_bytes());
    bytes.extend(message.flags.to_ne_bytes());
    bytes.extend(message.sequence.to_ne_bytes());
    bytes.extend(message.port.to_ne_bytes());
    bytes.extend_from_slice(message.body);
    bytes.resize(bytes.len() + align(length) - length, 0);
}
