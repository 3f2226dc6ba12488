//! A source that records the datagrams that it passes on.

use std::{collections::HashSet, io::Write};

use super::{Note, PcapWriter, RecordingError, RecordingKind};
use flowgate_base::clock::now;
use flowgate_model::Table;
use flowgate_netlink::{
    Content, Messages, Stop,
    process_names::ProcessNames,
    source::{Datagram, Source, SourceError},
    wire::MESSAGE_HEADER,
};

/// Maximum number of ports without a known process that are remembered until the next pause.
const MAX_UNKNOWN_PORTS: usize = 1024;

/// Counts of what has been recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordingStats {
    /// Messages from the kernel.
    pub messages: u64,
    /// Datagrams.
    pub datagrams: u64,
    /// Gaps: places where the kernel lost events.
    pub gaps: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// True if it ended because the file has reached its maximum length.
    pub full: bool,
}

/// Passes on the datagrams of another source and records them. They have the times and names that the file has, so that
/// a pipeline has the same result from them and from the file.
pub struct Recorder<W> {
    source: Box<dyn Source>,
    writer: PcapWriter<W>,
    kind: RecordingKind,
    /// True if pauses are recorded.
    pauses: bool,
    limit: Option<u64>,
    stop: Stop,
    programs: ProcessNames,
    /// Ports whose process could not be found since the last pause.
    unknown: HashSet<(Option<u32>, u32)>,
    namespace: Option<u32>,
    namespace_name: Option<Vec<u8>>,
    count: RecordingStats,
    ended: bool,
}

impl<W: Write + Send> Recorder<W> {
    /// Records the datagrams of `source` in `file`.
    ///
    /// `shown`: a pipeline shows them at the same time, and the file records where it handed rows on. `max_length`:
    /// maximum length of the file in bytes.
    ///
    /// # Errors
    /// The beginning of the file cannot be written.
    pub fn new(
        source: Box<dyn Source>,
        table: Table,
        file: W,
        shown: bool,
        limit: Option<u64>,
        stop: &Stop,
    ) -> Result<Self, RecordingError> {
        let kind = if source.is_live() { RecordingKind::Events } else { RecordingKind::Dump };
        let pauses = shown && kind == RecordingKind::Events;
        let writer = PcapWriter::new(file, &Note::Title { kind, table, pauses }, now())?;
        let programs = ProcessNames::in_namespace(source.namespace().cloned());
        Ok(Self {
            source,
            writer,
            kind,
            pauses,
            limit,
            stop: stop.clone(),
            programs,
            unknown: HashSet::new(),
            namespace: None,
            namespace_name: None,
            count: RecordingStats::default(),
            ended: false,
        })
    }

    /// Returns the counts so far.
    #[must_use]
    pub fn count(&self) -> RecordingStats {
        RecordingStats { bytes: self.writer.length(), ..self.count }
    }

    /// Completes the file if the source has not been read to its end.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(&mut self) -> Result<(), RecordingError> {
        if self.ended { Ok(()) } else { self.end(None) }
    }

    /// Completes the file. `errno`: the error with which the source ended, 0 for none, `None` if it was stopped.
    fn end(&mut self, errno: Option<i32>) -> Result<(), RecordingError> {
        self.ended = true;
        match (self.kind, errno) {
            // Events have no end mark.
            (_, None) | (RecordingKind::Events, Some(0)) => {}
            (_, Some(errno)) => self.writer.end(errno, now())?,
        }
        self.writer.flush()
    }

    /// Writes a datagram; returns false if the file would exceed its maximum length.
    fn write(&mut self, datagram: &mut Datagram) -> Result<bool, RecordingError> {
        if datagram.received == 0 {
            datagram.received = now();
        }
        let time = datagram.received;
        if datagram.flush {
            self.unknown.clear();
            if self.pauses {
                if !self.fits(&[Note::Pause.message()], None) {
                    return Ok(false);
                }
                self.writer.note(&Note::Pause, time)?;
            }
            // A process that reads the file while it grows sees everything up to here.
            self.writer.flush()?;
            return Ok(true);
        }
        if datagram.gap {
            let fits = self.fits(&[], Some(MESSAGE_HEADER + if datagram.lost.is_some() { 4 } else { 0 }));
            if fits {
                self.count.gaps += 1;
                self.writer.gap(datagram.lost, time)?;
            }
            return Ok(fits);
        }
        let (mut messages, mut notes, mut programs) = (0, Vec::new(), Vec::new());
        let id = datagram.namespace;
        let name = id.and_then(|id| self.programs.namespaces.name(id)).map(<[u8]>::to_vec);
        if (id, &name) != (self.namespace, &self.namespace_name) {
            (self.namespace, self.namespace_name) = (id, name.clone());
            notes.push(Note::Namespace { id, name: name.clone() }.message());
        }
        datagram.namespace_name = name;
        for message in Messages::new(datagram.bytes()).map_while(Result::ok) {
            if !matches!(message.content(), Content::Netfilter(_)) {
                continue;
            }
            messages += 1;
            if self.kind == RecordingKind::Events
                && message.port != 0
                && let Some(name) = self.found(id, message.port)
            {
                notes.push(Note::Program { port: message.port, name: name.clone() }.message());
                programs.push((message.port, name));
            }
        }
        datagram.process_names = programs;
        let fits = self.fits(&notes, Some(datagram.length));
        if fits {
            for note in notes {
                self.writer.datagram(&note, time)?;
            }
            self.count.messages += messages;
            self.count.datagrams += 1;
            self.writer.datagram(datagram.bytes(), time)?;
        }
        Ok(fits)
    }

    /// Returns true if the file may grow by these messages; otherwise sets `full`.
    fn fits(&mut self, notes: &[Vec<u8>], datagram: Option<usize>) -> bool {
        let lengths = notes.iter().map(Vec::len).chain(datagram);
        let length = self.writer.length() + lengths.map(PcapWriter::<W>::packet).sum::<u64>();
        self.count.full |= self.limit.is_some_and(|limit| length > limit);
        !self.count.full
    }

    /// Returns the name of the process that owns a port, if it has just been found.
    fn found(&mut self, namespace: Option<u32>, port: u32) -> Option<Vec<u8>> {
        if self.programs.contains(namespace, port) || self.unknown.contains(&(namespace, port)) {
            return None;
        }
        let name = self.programs.name(namespace, port).map(<[u8]>::to_vec);
        // A search through all processes for each event of a process that has ended would delay the reading.
        if name.is_none() && self.unknown.len() < MAX_UNKNOWN_PORTS {
            self.unknown.insert((namespace, port));
        }
        name
    }
}

impl<W: Write + Send> Source for Recorder<W> {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        if self.ended {
            return Ok(false);
        }
        datagram.clear();
        match self.source.next(datagram) {
            Ok(true) => {}
            Ok(false) => {
                // A stopped dump has no end mark.
                self.end(if self.stop.is_stopped() { None } else { Some(0) })?;
                return Ok(false);
            }
            Err(error) => {
                self.end(Some(error.errno()))?;
                return Err(error);
            }
        }
        let fits = self.write(datagram)?;
        if !fits {
            self.end(None)?;
        }
        Ok(fits)
    }

    fn is_live(&self) -> bool {
        self.source.is_live()
    }

    fn is_replay(&self) -> bool {
        true
    }
}
