//! Makes up for lost events: after a gap the table is listed, and where it differs from what the stream has said, events are made
//! that say it.
//!
//! A listing and a stream of events race with each other: what a listing says of a flow may be newer or older than the next
//! event about it. So the table is read in parts. Behind each part a mark is put into the stream; when it comes out again,
//! every event that the kernel had sent when the part was read has gone by, and a difference that no event has touched
//! meanwhile is one that no event will tell. Flows that are known and were not listed are looked up one by one, for a
//! listing during which the kernel resizes its hash table may skip some.
//!
//! Another gap begins it all again.

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
use known::{Difference, Key, Known};

/// How many entries of the table are read before events are looked after again: some 20 ms of the kernel's work.
const PART: usize = 8192;
/// How long to wait after the table could not be read.
const AGAIN: Duration = Duration::from_secs(1);

/// The table as the kernel has it.
pub trait Kernel {
    /// Begins a listing of all of it.
    ///
    /// # Errors
    /// The kernel refused. A source that ends before the listing did must say so by an error.
    fn list(&mut self) -> Result<Box<dyn Source>, SourceError>;

    /// Looks up the flows of a batch by original tuple and zone, and hands on what is found.
    ///
    /// # Errors
    /// Some could not be looked up; that a flow is not there is no error.
    fn look_up(&mut self, flows: &Flows, found: &mut dyn FnMut(&Message<'_>)) -> Result<(), SourceError>;
}

/// How often what was made up for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Healed {
    /// How often the table was listed to its end after a gap.
    pub resyncs: u64,
    /// Flows that the stream had never spoken of.
    pub new: u64,
    /// Flows of which it had said something else.
    pub update: u64,
    /// Flows whose end it had not told.
    pub destroy: u64,
}

/// What of the table has not been compared yet.
enum Rest {
    /// What a listing still has. Once some of it has been read, the kernel has the next datagram ready.
    Listing { listing: Box<dyn Source>, begun: bool },
    /// The listing is over; what it did not have is known when the mark behind it has come by.
    Listed,
    /// Flows that it did not have.
    Unlisted(Vec<Key>),
}

/// A part of the table that was read, until its mark comes by.
struct Part {
    barrier: u32,
    rest: Rest,
    /// Messages about flows that are other than the stream has said: where in `Resync::raw`, and the kind of event.
    differing: Vec<(Key, u8, usize, usize)>,
    /// Flows that are not there any more.
    gone: Vec<Key>,
}

/// Follows a stream of events, and makes up for what it lost. All kinds of event must be in the stream; those that nobody asked
/// for are taken out here.
pub struct Resync<'a> {
    kernel: Box<dyn Kernel + 'a>,
    kinds: EventGroups,
    barriers: Option<Box<dyn Barriers>>,
    known: Known,
    /// The number of the present resync.
    number: u32,
    /// Whether the present resync takes the table as it is, without telling.
    silent: bool,
    /// Whether the table as it is at the start is told, too.
    tells: bool,
    part: Option<Part>,
    /// What is to be told: from a part whose mark has come by.
    telling: Option<Part>,
    raw: Vec<u8>,
    /// Flows that differ, as long as no event has spoken of them.
    untouched: HashSet<Key>,
    again: Option<Instant>,
    decoder: FlowDecoder,
    rows: Flows,
    datagram: Datagram,
    healed: Healed,
}

/// The fields that must be decoded of each event.
pub const READS: u64 = known::READS;

impl<'a> Resync<'a> {
    /// Follows a stream of which these kinds are shown.
    #[must_use]
    pub fn new(kernel: Box<dyn Kernel + 'a>, kinds: EventGroups) -> Self {
        Resync {
            kernel,
            kinds,
            barriers: None,
            known: Known::default(),
            number: 0,
            silent: false,
            tells: false,
            part: None,
            telling: None,
            raw: Vec::new(),
            untouched: HashSet::new(),
            again: None,
            decoder: FlowDecoder::new(READS),
            rows: Flows::default(),
            datagram: Datagram::new(),
            healed: Healed::default(),
        }
    }

    /// At the start the flows of the table are told, as new ones.
    #[must_use]
    pub fn telling(mut self) -> Self {
        self.tells = true;
        self
    }

    /// Puts marks into the stream by this. Without it nothing is made up for.
    pub fn set_barriers(&mut self, barriers: Option<Box<dyn Barriers>>) {
        self.barriers = barriers;
    }

    /// How often what was made up for.
    #[must_use]
    pub fn healed(&self) -> Healed {
        self.healed
    }

    /// Whether the present resync takes the table as it is, without telling.
    #[must_use]
    pub fn was_silent(&self) -> bool {
        self.silent
    }

    /// Flows that are known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// Begins: at the start of the stream (`silent`: the table as it is becomes what is known), or after a gap. What was under
    /// way is given up.
    ///
    /// # Errors
    /// The table cannot be read; it is tried again later.
    pub fn begin(&mut self, silent: bool) -> Result<(), SourceError> {
        self.silent = silent && !self.tells;
        self.number = self.number.checked_add(1).unwrap_or(1);
        (self.part, self.telling, self.again) = (None, None, None);
        self.untouched.clear();
        if self.barriers.is_none() {
            return Ok(());
        }
        let listing = self.kernel.list().inspect_err(|_| self.again = Some(Instant::now() + AGAIN))?;
        self.read(Rest::Listing { listing, begun: false }).map(|_| ())
    }

    /// Begins again if it is time to.
    ///
    /// # Errors
    /// As [`Resync::begin`].
    pub fn retry(&mut self) -> Result<(), SourceError> {
        match self.again {
            Some(again) if Instant::now() >= again => self.begin(self.silent),
            _ => Ok(()),
        }
    }

    /// How long until [`Resync::retry`] is due, if it will be.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        self.again.map(|again| again.saturating_duration_since(Instant::now()))
    }

    /// Whether this message of the stream is the mark that is waited for. What was found out by the time it was put there can
    /// then be told ([`Resync::tell`]), and after that the next part be read ([`Resync::advance`]).
    pub fn reached(&mut self, sequence: u32) -> bool {
        if self.part.as_ref().is_none_or(|part| part.barrier != sequence) {
            return false;
        }
        self.telling = self.part.take();
        true
    }

    /// Fills an empty batch with events that make up for lost ones; `false` if there are no more for now.
    pub fn tell(&mut self, decoder: &mut FlowDecoder, flows: &mut Flows, most: usize) -> bool {
        let Some(part) = &mut self.telling else { return false };
        let received = now();
        while (flows.length as usize) < most
            && let Some((key, kind, start, end)) = part.differing.pop()
        {
            if !self.untouched.remove(&key) {
                continue;
            }
            let bytes = self.raw.get(start..end).unwrap_or_default();
            let Some(Ok(message)) = Messages::new(bytes).next() else { continue };
            // It could be read when it was compared, with fewer fields.
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
            *(if kind == event::NEW { &mut self.healed.new } else { &mut self.healed.update }) += 1;
        }
        if flows.length > 0 {
            return true;
        }
        while (flows.length as usize) < most
            && let Some(key) = part.gone.pop()
        {
            // An event may have told meanwhile that it ended, or that it lives.
            if self.known.is_unseen(&key, self.number) {
                self.known.push_destroyed(flows, &key, received);
                self.healed.destroy += 1;
            }
        }
        flows.length > 0
    }

    /// Reads the next part; `true` if there is none, and the stream has said all that there is to say.
    ///
    /// # Errors
    /// The table cannot be read; it is begun again later.
    pub fn advance(&mut self) -> Result<bool, SourceError> {
        match self.telling.take() {
            Some(part) => self.read(part.rest),
            None => Ok(false),
        }
    }

    /// Takes in what a batch of events says, and takes out what nobody asked for.
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
                // What the listing had of it may be older than this, which may not say all: it is looked up at the end.
                self.known.doubt(&key);
            }
        }
        if !verdicts.is_empty() {
            batch::retain(flows, &verdicts);
        }
    }

    /// Reads a part of what is left, and puts a mark behind it; `true` if nothing is left.
    fn read(&mut self, rest: Rest) -> Result<bool, SourceError> {
        let part = self.next_part(rest).inspect_err(|_| self.again = Some(Instant::now() + AGAIN))?;
        self.part = part;
        if self.part.is_some() {
            return Ok(false);
        }
        if self.silent {
            self.known.settle();
        }
        self.healed.resyncs += u64::from(!self.silent);
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

    /// Reads a part of a listing; `true` at its end.
    ///
    /// The kernel fills a datagram when the one before it is taken. So the first one of a part that is not the first was filled
    /// before the events that have gone by since then, and may be older than what they said: its flows are looked up instead.
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

    /// Compares what the kernel says now of the flows that messages are about; how many there were.
    fn compare_anew(
        &mut self,
        bytes: &[u8],
        differing: &mut Vec<(Key, u8, usize, usize)>,
    ) -> Result<usize, SourceError> {
        let mut asked = Flows::default();
        self.decoder.clear(&mut asked);
        for message in Messages::new(bytes).map_while(Result::ok) {
            if message.kind() == MessageKind::Flow {
                // One that makes no sense is passed over, as in `compare`.
                let _ = self.decoder.push(&mut asked, &message, Arrival::Entry);
            }
        }
        let mut found = Vec::new();
        self.kernel.look_up(&asked, &mut |message| append(&mut found, message))?;
        self.compare(&found, differing);
        Ok(asked.length as usize)
    }

    /// Compares what messages say with what is known; how many flows there were. A message that makes no sense is passed over: the
    /// flow is then looked up.
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

/// Appends a message as it stood in its datagram.
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
