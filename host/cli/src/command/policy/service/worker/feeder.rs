//! Passes the events of a tenant's queue to its worker.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
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
/// Maximum number of messages of a frame: the time of each takes 8 bytes.
const MESSAGES: usize = 1024;

/// Passes events to a worker.
pub(super) struct Feeder {
    pub events: Link,
    pub programs: Arc<Mutex<ProcessNames>>,
    /// Number of frames that have been sent.
    pub sent: Arc<AtomicU64>,
    /// True once all have been sent.
    pub ended: Arc<AtomicBool>,
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
        self.ended.store(true, Ordering::Release);
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
            let length = message.padded_length();
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

#[cfg(test)]
mod tests {
    use flowgate_isolation::Channel;
    use flowgate_netlink::wire::MESSAGE_HEADER as HEADER;

    use super::*;

    /// A frame of events.
    struct Events {
        times: Vec<u64>,
        names: Vec<(u32, Vec<u8>)>,
        bytes: Vec<u8>,
    }

    /// Returns a message with a body of this many bytes, of a process.
    fn message(length: usize, port: u32) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + length).unwrap().to_ne_bytes().to_vec();
        bytes.extend(0x0100u16.to_ne_bytes());
        bytes.extend([0; 6]);
        bytes.extend(port.to_ne_bytes());
        bytes.extend((0..length.next_multiple_of(4)).map(|at| at as u8));
        bytes
    }

    /// Passes these messages, received at 1, 2, 3 ..., and returns the frames.
    fn passed(messages: &[Vec<u8>], programs: ProcessNames) -> Vec<Events> {
        let (events, other) = Channel::pair().unwrap();
        let sent = Arc::<AtomicU64>::default();
        let programs = Arc::new(Mutex::new(programs));
        let mut feeder = Feeder { events: Link::new(events), programs, sent: sent.clone(), ended: Arc::default() };
        let mut datagram = Datagram::new();
        datagram.fill(&messages.concat());
        datagram.times = (1..=messages.len() as u64).collect();
        let frames = std::thread::scope(|scope| {
            let receiving = scope.spawn(|| {
                let (mut link, mut frames) = (Link::new(other), Vec::new());
                while let Ok(frame) = link.receive() {
                    assert_eq!(frame.kind, kind::EVENTS);
                    let mut body = frame.body;
                    let received = body.u64().unwrap();
                    let times: Vec<u64> = (0..body.u16().unwrap()).map(|_| body.u64().unwrap()).collect();
                    assert_eq!(times.first(), Some(&received));
                    let names = 0..body.u16().unwrap();
                    let names = names.map(|_| (body.u32().unwrap(), body.bytes(NAME).unwrap().to_vec())).collect();
                    frames.push(Events { times, names, bytes: body.rest().to_vec() });
                }
                frames
            });
            feeder.pass(&datagram).unwrap();
            drop(feeder);
            receiving.join().unwrap()
        });
        assert_eq!(sent.load(Ordering::Acquire), frames.len() as u64);
        frames
    }

    #[test]
    fn datagrams_are_split_between_messages() {
        // More bytes than a frame has room for, more messages than it may have, and both; lengths that need padding.
        for (count, length) in
            [(1, 0), (1, 50_000), (3000, 0), (3000, 4), (2000, 101), (40, 20_001), (1024, 40), (1025, 1)]
        {
            let messages: Vec<Vec<u8>> = (0..count).map(|number| message(length + number % 3, 0)).collect();
            let frames = passed(&messages, ProcessNames::fixed());
            let together: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.clone()).collect();
            assert!(together == messages.concat(), "{count} messages of {length} bytes");
            let times: Vec<u64> = frames.iter().flat_map(|frame| frame.times.clone()).collect();
            assert_eq!(times, (1..=count as u64).collect::<Vec<_>>());
            for frame in &frames {
                let whole = Messages::new(&frame.bytes).collect::<Result<Vec<_>, _>>().unwrap();
                assert_eq!(whole.len(), frame.times.len());
                assert!(whole.len() <= MESSAGES && frame.bytes.len() + 8 * whole.len() <= BYTES);
            }
            // No more frames than it takes.
            let least = messages.concat().len().div_ceil(BYTES).max(messages.len().div_ceil(MESSAGES));
            assert!(frames.len() <= 2 * least, "{} frames for {count} messages of {length} bytes", frames.len());
        }
    }

    #[test]
    fn each_process_is_named_once_in_a_frame() {
        let mut programs = ProcessNames::fixed();
        programs.insert(None, 5, b"ulogd".to_vec());
        programs.insert(None, 6, vec![b'x'; 100]);
        (100..130).for_each(|port| programs.insert(None, port, b"many".to_vec()));
        let messages = [message(4, 0), message(4, 5), message(4, 6), message(4, 5), message(4, 7)];
        let frames = passed(&messages, programs);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].names, [(5, b"ulogd".to_vec()), (6, vec![b'x'; NAME])]);
        let mut programs = ProcessNames::fixed();
        (100..130).for_each(|port| programs.insert(None, port, b"many".to_vec()));
        let messages: Vec<Vec<u8>> = (100..130).map(|port| message(4, port)).collect();
        assert_eq!(passed(&messages, programs)[0].names.len(), 16);
    }

    #[test]
    fn a_gap_has_its_time_and_its_number() {
        for lost in [None, Some(7)] {
            let (events, other) = Channel::pair().unwrap();
            let programs = Arc::new(Mutex::new(ProcessNames::fixed()));
            let mut feeder =
                Feeder { events: Link::new(events), programs, sent: Arc::default(), ended: Arc::default() };
            let mut datagram = Datagram::new();
            (datagram.gap, datagram.received, datagram.lost) = (true, 9, lost);
            feeder.pass(&datagram).unwrap();
            let mut link = Link::new(other);
            let mut body = link.receive().unwrap().body;
            assert_eq!((body.u64(), body.bool()), (Ok(9), Ok(lost.is_some())));
            assert_eq!(body.u32().ok(), lost);
        }
    }
}
