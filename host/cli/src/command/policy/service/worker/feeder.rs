//! Passes the events of a tenant's queue to its worker.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use flowgate_netlink::{
    Messages,
    process_names::ProcessNames,
    source::{Datagram, Source as _},
};
use flowgate_policy::delivery::QueueSource;
use flowgate_worker::{
    Link,
    protocol::{BYTES, kind},
};

/// Longest name of a process, in bytes (`TASK_COMM_LEN` is 16).
const NAME: usize = 64;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Maximum number of messages of a frame: the time of each takes 8 bytes.
const MESSAGES: usize = 1024;

/// Passes events to a worker.
pub(super) struct Feeder {
    pub events: Link,
    pub programs: Arc<Mutex<ProcessNames>>,
    /// Number of frames that have been sent.
    pub sent: Arc<AtomicU64>,
}

impl Feeder {
    /// Passes events until the queue has ended or waiting for it is interrupted, or the worker has ended.
    pub(super) fn run(mut self, mut source: QueueSource) {
        let mut datagram = Datagram::new();
        while let Ok(true) = source.next(&mut datagram) {
            if self.pass(&datagram).is_err() {
                return;
            }
        }
        // The worker processes what it has, and ends.
        self.events.channel().finish();
    }

    fn send(&mut self, frame: flowgate_isolation::Record) -> io::Result<()> {
        // Counted before, so that the answer never comes first.
        self.sent.fetch_add(1, Ordering::AcqRel);
        self.events.send(frame)
    }

    /// Passes a datagram in as many frames as it takes.
    fn pass(&mut self, datagram: &Datagram) -> io::Result<()> {
        if datagram.gap {
            let frame = self.events.frame(kind::GAP).u64(datagram.received).bool(datagram.lost.is_some());
            return self.send(datagram.lost.into_iter().fold(frame, flowgate_isolation::Record::u32));
        }
        let bytes = datagram.bytes();
        let (mut start, mut end, mut first, mut count) = (0, 0, 0, 0);
        for message in Messages::new(bytes) {
            let Ok(message) = message else { break };
            let length = (HEADER + message.body.len()).next_multiple_of(4);
            if count > 0 && (end + length - start > BYTES - 8 * (count + 1) || count == MESSAGES) {
                self.pass_part(datagram, start..end, first..first + count)?;
                (start, first, count) = (end, first + count, 0);
            }
            (end, count) = ((end + length).min(bytes.len()), count + 1);
        }
        if count > 0 { self.pass_part(datagram, start..end, first..first + count) } else { Ok(()) }
    }

    fn pass_part(
        &mut self,
        datagram: &Datagram,
        part: std::ops::Range<usize>,
        messages: std::ops::Range<usize>,
    ) -> io::Result<()> {
        let bytes = datagram.bytes().get(part).unwrap_or_default();
        let times = datagram.times.get(messages).unwrap_or_default();
        let received = times.first().copied().unwrap_or(datagram.received);
        let frame = self.events.frame(kind::EVENTS).u64(received).u16(u16::try_from(times.len()).unwrap_or_default());
        let frame = times.iter().fold(frame, |frame, time| frame.u64(*time));
        let names = self.names(bytes);
        let frame = frame.u16(u16::try_from(names.len()).unwrap_or_default());
        let frame = names.iter().fold(frame, |frame, (port, name)| frame.u32(*port).bytes(name));
        self.send(frame.append(bytes))
    }

    /// Returns the names of the processes that have caused these events.
    fn names(&self, bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut names: Vec<(u32, Vec<u8>)> = Vec::new();
        for message in Messages::new(bytes).map_while(Result::ok) {
            if message.port == 0 || names.len() == 16 || names.iter().any(|(port, _)| *port == message.port) {
                continue;
            }
            let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(name) = programs.name(None, message.port) {
                names.push((message.port, name.iter().copied().take(NAME).collect()));
            }
        }
        names
    }
}
