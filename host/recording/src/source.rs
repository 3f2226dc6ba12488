//! A recording as a source: the recorded datagrams with the times, names and pauses of the file.

use std::time::{Duration, Instant};

use super::{
    ARPHRD_NETLINK, COOKED_HEADER, Note, PACKET_KERNEL, Packet, PcapReader, RecordingError, RecordingInput,
    RecordingKind, Speed,
};
use flowgate_model::Table;
use flowgate_model::event;
use flowgate_netlink::{
    Content, Message, MessageKind, Messages, Stop,
    source::{Datagram, Source, SourceError},
    wire::{MESSAGE_HEADER, NETLINK_NETFILTER, NLMSG_NOOP, REQUEST, align},
};

/// Number of packets between checks of the stop signal, when nothing is waited for.
const STOP_CHECK_INTERVAL: u32 = 64;
/// In recordings without pauses, a datagram that is later than the previous one by this time begins a new batch.
const BATCH_GAP: Duration = Duration::from_millis(1);

/// Selects the messages of a recording, as the kernel does for live sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordingSelection {
    /// Entries of dumps, or events.
    pub kind: RecordingKind,
    /// Selects NEW events.
    pub new: bool,
    /// Selects UPDATE events.
    pub update: bool,
    /// Selects DESTROY events.
    pub destroy: bool,
    /// Selects dumped entries of a family (AF_INET 2, AF_INET6 10); 0 for all.
    pub family: u8,
}

/// An opened recording.
#[derive(Debug)]
pub struct Recording {
    packets: PcapReader,
    /// True if it has a title, as recordings of flowgate do.
    titled: bool,
    kind: RecordingKind,
    table: Table,
    pauses: bool,
    /// The packet that was read to identify the recording, and that is played first: time, cooked header and datagram.
    first: Option<(u64, Vec<u8>)>,
    /// The error that ended the identification.
    problem: Option<RecordingError>,
}

impl Recording {
    /// Reads up to the title or, without one, up to the first message about a flow or an expectation.
    ///
    /// # Errors
    /// [`RecordingError`] if it is not a netlink capture.
    pub fn open(input: RecordingInput) -> Result<Self, RecordingError> {
        let mut recording = Self {
            packets: PcapReader::new(input)?,
            titled: false,
            kind: RecordingKind::Events,
            table: Table::Conntrack,
            pauses: false,
            first: None,
            problem: None,
        };
        loop {
            let packet = match recording.packets.read() {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(error @ RecordingError::LinkType { .. }) => return Err(error),
                Err(error) => {
                    recording.problem = Some(error);
                    break;
                }
            };
            let Some(datagram) = from_kernel(packet.data) else { continue };
            let mut messages = Messages::new(datagram).map_while(Result::ok);
            if let Some(Note::Title { kind, table, pauses }) =
                messages.clone().next().and_then(|message| note(&message))
            {
                (recording.titled, recording.kind, recording.table, recording.pauses) = (true, kind, table, pauses);
                break;
            }
            if let Some((message, table)) = messages.find_map(|message| Some((message, table_of(&message)?))) {
                recording.kind = kind(&message);
                recording.table = table;
                recording.first = Some((packet.time, packet.data.to_vec()));
                break;
            }
        }
        Ok(recording)
    }

    /// Returns true if the recording has a title. Without one it may hold both dumps and events, and
    /// [`Recording::kind`] is that of the first message.
    #[must_use]
    pub fn is_titled(&self) -> bool {
        self.titled
    }

    /// Returns how its datagrams arrived.
    #[must_use]
    pub fn kind(&self) -> RecordingKind {
        self.kind
    }

    /// Returns the table that it is about.
    #[must_use]
    pub fn table(&self) -> Table {
        self.table
    }

    /// Returns a source that plays the recording.
    #[must_use]
    pub fn play(self, selection: RecordingSelection, speed: Speed, stop: &Stop) -> RecordingSource {
        let player = Player {
            selection,
            titled: self.titled,
            pauses: self.pauses,
            speed,
            stop: stop.clone(),
            begun: None,
            programs: Vec::new(),
            namespace: None,
            namespace_name: None,
            shown: false,
            last: 0,
            unchecked: 0,
        };
        RecordingSource { recording: self, player, ended: false }
    }
}

/// A source that plays a recording.
#[derive(Debug)]
pub struct RecordingSource {
    recording: Recording,
    player: Player,
    ended: bool,
}

/// State of the replay.
#[derive(Debug)]
struct Player {
    selection: RecordingSelection,
    titled: bool,
    /// True if the recording has pauses.
    pauses: bool,
    speed: Speed,
    stop: Stop,
    /// When the first datagram was played, and its time in the recording.
    begun: Option<(Instant, u64)>,
    /// Process names that go with the next datagram.
    programs: Vec<(u32, Vec<u8>)>,
    namespace: Option<u32>,
    namespace_name: Option<Vec<u8>>,
    /// True if a datagram was handed on since the last pause.
    shown: bool,
    /// Time of the last datagram.
    last: u64,
    /// PcapReader since the last check of the stop signal.
    unchecked: u32,
}

/// The result of a packet.
enum StepResult {
    /// A datagram, a gap or a flush to be handed on.
    Yield,
    /// Nothing to be handed on.
    Pass,
    /// The end of the recorded dump.
    End,
    /// The stop signal.
    Stopped,
}

impl Player {
    /// Decodes one packet into `datagram`, and waits until it is due.
    fn step(&mut self, packet: Packet<'_>, datagram: &mut Datagram) -> Result<StepResult, SourceError> {
        let Some(bytes) = from_kernel(packet.data) else { return Ok(StepResult::Pass) };
        // Notes are datagrams of their own; in other captures control messages belong to other requests.
        if self.titled
            && let Some(Ok(message)) = Messages::new(bytes).next()
        {
            match message.content() {
                Content::Noop => match note(&message) {
                    Some(Note::Pause) if self.selection.kind == RecordingKind::Events => {
                        datagram.flush = true;
                        return Ok(StepResult::Yield);
                    }
                    Some(Note::Program { port, name }) => self.programs.push((port, name)),
                    Some(Note::Namespace { id, name }) => (self.namespace, self.namespace_name) = (id, name),
                    _ => {}
                },
                Content::Overrun => {
                    datagram.gap = true;
                    datagram.lost = message.body.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
                }
                Content::Done(outcome) if message.sequence == 0 => {
                    return if outcome.errno == 0 {
                        Ok(StepResult::End)
                    } else {
                        Err(SourceError::Kernel(outcome.errno))
                    };
                }
                _ => {}
            }
        }
        if !datagram.gap {
            datagram.length = self.selection.select(bytes, self.titled, &mut datagram.buffer);
            if datagram.length == 0 {
                return Ok(StepResult::Pass);
            }
            datagram.namespace = self.namespace;
            datagram.namespace_name.clone_from(&self.namespace_name);
            datagram.process_names.append(&mut self.programs);
        }
        datagram.received = packet.time;
        (self.shown, self.last) = (true, packet.time);
        Ok(if self.wait(packet.time) { StepResult::Yield } else { StepResult::Stopped })
    }

    /// Waits until a datagram is due; returns false if the stop signal came first.
    fn wait(&mut self, time: u64) -> bool {
        let (start, first) = *self.begun.get_or_insert_with(|| (Instant::now(), time));
        match self.speed.due(time.saturating_sub(first)) {
            None => {
                self.unchecked += 1;
                if self.unchecked < STOP_CHECK_INTERVAL {
                    return true;
                }
                self.unchecked = 0;
                !self.stop.is_stopped()
            }
            Some(due) => !self.stop.wait(due.saturating_sub(start.elapsed())),
        }
    }

    /// Returns true if rows may have to be handed on at a place that the recording does not mark.
    fn may_pause(&self) -> bool {
        self.shown && !self.pauses && self.selection.kind == RecordingKind::Events
    }

    /// Returns true if rows must be handed on before a datagram with this time, because it is not close to the last
    /// one: a batch has a single time. This does not depend on the clock, so that every replay has the same batches.
    fn must_pause(&self, time: u64) -> bool {
        let later = time.saturating_sub(self.last);
        self.may_pause()
            && (later >= BATCH_GAP.as_nanos() as u64 || self.speed.due(later).is_some_and(|due| due >= BATCH_GAP))
    }

    fn pause(&mut self, datagram: &mut Datagram) -> StepResult {
        self.shown = false;
        datagram.flush = true;
        StepResult::Yield
    }
}

impl RecordingSource {
    /// Processes the next packet.
    fn step(&mut self, datagram: &mut Datagram) -> Result<StepResult, SourceError> {
        let Self { recording, player, .. } = self;
        if let Some((time, data)) = recording.first.take() {
            return player.step(Packet { time, offset: 0, data: &data }, datagram);
        }
        if let Some(problem) = recording.problem.take() {
            return Err(problem.into());
        }
        if recording.packets.would_wait() {
            if player.may_pause() {
                return Ok(player.pause(datagram));
            }
            if !recording.packets.wait(&player.stop) {
                return Ok(StepResult::Stopped);
            }
        }
        match recording.packets.read()? {
            Some(packet) if player.must_pause(packet.time) => {
                recording.first = Some((packet.time, packet.data.to_vec()));
                Ok(player.pause(datagram))
            }
            Some(packet) => player.step(packet, datagram),
            // Only a dump has an end mark.
            None if recording.titled && recording.kind == RecordingKind::Dump => Err(RecordingError::Unfinished.into()),
            None => Ok(StepResult::End),
        }
    }
}

impl Source for RecordingSource {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        while !self.ended {
            datagram.clear();
            match self.step(datagram) {
                Ok(StepResult::Yield) => return Ok(true),
                Ok(StepResult::Pass) => {}
                Ok(StepResult::End | StepResult::Stopped) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Err(error);
                }
            }
        }
        Ok(false)
    }

    fn is_live(&self) -> bool {
        self.player.selection.kind == RecordingKind::Events
    }

    fn is_replay(&self) -> bool {
        true
    }
}

impl RecordingSelection {
    /// Copies the selected messages of a datagram and returns their length. Unreadable messages are copied too: the
    /// decoder reports why they are malformed.
    fn select(&self, datagram: &[u8], titled: bool, buffer: &mut Vec<u8>) -> usize {
        if buffer.len() < datagram.len() {
            buffer.resize(datagram.len(), 0);
        }
        let (mut at, mut length) = (0, 0);
        for message in Messages::new(datagram) {
            let (end, selection) = match &message {
                Ok(message) => {
                    let end = at + align(MESSAGE_HEADER + message.body.len());
                    (end.min(datagram.len()), self.selects(message, titled))
                }
                Err(_) => (datagram.len(), true),
            };
            if selection {
                let bytes = datagram.get(at..end).unwrap_or_default();
                if let Some(place) = buffer.get_mut(length..length + bytes.len()) {
                    place.copy_from_slice(bytes);
                    length += bytes.len();
                }
            }
            at = end;
        }
        length
    }

    fn selects(&self, message: &Message<'_>, titled: bool) -> bool {
        if table_of(message).is_none() || !titled && kind(message) != self.kind {
            return false;
        }
        match self.kind {
            // A message without a family is malformed; the decoder reports it.
            RecordingKind::Dump => self.family == 0 || message.body.first().is_none_or(|&family| family == self.family),
            RecordingKind::Events => match message.event() {
                event::NEW => self.new,
                event::UPDATE => self.update,
                _ => self.destroy,
            },
        }
    }
}

/// Returns the datagram after a cooked header, if it came from the kernel's netfilter.
fn from_kernel(data: &[u8]) -> Option<&[u8]> {
    let (header, datagram) = data.split_first_chunk::<COOKED_HEADER>()?;
    let [t0, t1, h0, h1, .., f0, f1] = *header;
    let of = |high, low| u16::from_be_bytes([high, low]);
    let selection =
        of(t0, t1) != PACKET_KERNEL && of(h0, h1) == ARPHRD_NETLINK && of(f0, f1) == NETLINK_NETFILTER as u16;
    selection.then_some(datagram)
}

/// Parses a message as a note.
fn note(message: &Message<'_>) -> Option<Note> {
    if message.message_type == NLMSG_NOOP { Note::parse(message.body) } else { None }
}

/// Returns the table that a kernel message is about, if it is about a flow or an expectation.
fn table_of(message: &Message<'_>) -> Option<Table> {
    // Captures of nlmon include requests, and libpcap does not always record the direction.
    if message.flags & REQUEST != 0 {
        return None;
    }
    match message.kind() {
        MessageKind::Flow | MessageKind::FlowDestroyed => Some(Table::Conntrack),
        MessageKind::Expectation | MessageKind::ExpectationDestroyed => Some(Table::Expect),
        _ => None,
    }
}

/// Returns how a message arrived: answers have the sequence number of the request, events have 0.
fn kind(message: &Message<'_>) -> RecordingKind {
    if message.sequence == 0 { RecordingKind::Events } else { RecordingKind::Dump }
}
