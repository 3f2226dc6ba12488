use std::{
    sync::{Mutex, atomic::AtomicBool, atomic::Ordering, mpsc},
    task::{Context, Poll, Wake, Waker},
};

use super::*;
use crate::spool::MIN_LIMIT;

/// Wakes a thread.
struct Thread(thread::Thread);

impl Wake for Thread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A peer: what was delivered to it, and whether it takes anything.
#[derive(Clone, Default)]
struct Peer(Arc<PeerState>);

#[derive(Default)]
struct PeerState {
    frozen: AtomicBool,
    taken: Mutex<Vec<Parcel>>,
    shippers: Mutex<Vec<thread::Thread>>,
}

impl Peer {
    fn frozen() -> Self {
        let peer = Peer::default();
        peer.0.frozen.store(true, Ordering::SeqCst);
        peer
    }

    fn thaw(&self) {
        self.0.frozen.store(false, Ordering::SeqCst);
        self.0.shippers.lock().unwrap().iter().for_each(thread::Thread::unpark);
    }

    fn taken(&self) -> Vec<Parcel> {
        self.0.taken.lock().unwrap().clone()
    }

    /// Returns all lines that were delivered, in their order.
    fn lines(&self) -> String {
        let taken = self.taken();
        let lines = taken.iter().filter_map(|parcel| match &parcel.content {
            Content::Lines(lines) => Some(lines.as_slice()),
            Content::Gap(_) => None,
        });
        String::from_utf8(lines.collect::<Vec<_>>().concat()).unwrap()
    }

    /// Returns the sum of lines that gaps tell.
    fn missing(&self) -> u64 {
        let gap = |parcel: &Parcel| if let Content::Gap(gap) = parcel.content { gap.lines } else { 0 };
        self.taken().iter().map(gap).sum()
    }
}

impl Shipper for Peer {
    fn name(&self) -> String {
        "nats test".into()
    }

    fn run(self: Box<Self>, mut outgoing: Outgoing, _: &Warnings) {
        self.0.shippers.lock().unwrap().push(thread::current());
        let waker = Waker::from(Arc::new(Thread(thread::current())));
        loop {
            let frozen = self.0.frozen.load(Ordering::SeqCst);
            match outgoing.poll_change(&mut Context::from_waker(&waker), !frozen) {
                Poll::Ready(Change::Over) => return,
                Poll::Ready(Change::More) => {
                    let Some(parcel) = outgoing.next_parcel().unwrap() else { continue };
                    let number = parcel.number;
                    self.0.taken.lock().unwrap().push(parcel);
                    outgoing.acknowledge(number).unwrap();
                }
                Poll::Pending => thread::park(),
            }
        }
    }
}

fn start(peer: &Peer, options: &SpoolOptions, when_full: WhenFull) -> Spooled {
    start_with(peer, options, when_full, Duration::from_secs(20), Warnings::ignored())
}

fn start_with(
    peer: &Peer,
    options: &SpoolOptions,
    when_full: WhenFull,
    linger: Duration,
    warnings: Warnings,
) -> Spooled {
    Spooled::start(Box::new(peer.clone()), options, (when_full, linger), &Stop::new().unwrap(), warnings).unwrap()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn numbered(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| format!("line {number} {}\n", "x".repeat(90))).collect()
}

#[test]
fn lines_become_batches_by_size_and_time_and_are_delivered_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let peer = Peer::default();
    let options = SpoolOptions {
        batch: 4096,
        batch_time: Duration::from_millis(20),
        ..SpoolOptions::new(directory.path().join("spool"))
    };
    let mut sink = start(&peer, &options, WhenFull::Drop);
    let all = numbered(0..1000);
    for line in all.split_inclusive('\n') {
        sink.write(line.as_bytes()).unwrap();
    }
    // The last ones fill no batch: their time ends it.
    until("all lines arrive while the sink is open", || peer.lines().len() == all.len());
    // A single long line is a batch; one that is longer than any batch is missing, and told.
    let long = format!("{}\n", "l".repeat(10_000));
    sink.write(long.as_bytes()).unwrap();
    sink.write(format!("{}\nlast\n", "m".repeat(MAX_BATCH)).as_bytes()).unwrap();
    sink.finish().unwrap();
    assert_eq!(peer.lines(), format!("{all}{long}last\n"));
    assert_eq!(peer.missing(), 1);
    for parcel in peer.taken() {
        let Content::Lines(lines) = &parcel.content else { continue };
        assert!(lines.ends_with(b"\n") && (lines.len() <= 4096 || lines.len() == long.len()), "{}", lines.len());
    }
    let taken = peer.taken();
    assert!(taken.windows(2).all(|pair| pair[0].number < pair[1].number && pair[0].epoch == pair[1].epoch));
}

#[test]
fn a_frozen_peer_holds_up_nothing_and_loses_nothing_over_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let options = SpoolOptions { batch: 4096, ..SpoolOptions::new(directory.path().join("spool")) };
    let peer = Peer::frozen();
    let mut expected = String::new();
    for run in 0..3 {
        let (told, said) = mpsc::channel();
        let warnings = Warnings::new(move |line| told.send(line.to_owned()).unwrap());
        let mut sink = start_with(&peer, &options, WhenFull::Drop, Duration::from_millis(1), warnings);
        let lines = numbered(run * 1000..(run + 1) * 1000);
        sink.write(lines.as_bytes()).unwrap();
        expected += &lines;
        if run < 2 {
            sink.finish().unwrap();
            let said = said.recv().unwrap();
            assert!(said.contains("wait in") && said.contains("are delivered when it is used again"), "{said}");
        }
        // Where a run fails before its end, what was gathered is kept as well.
        drop(sink);
        assert!(peer.taken().is_empty());
        // The threads of this run have let go of the spool.
        until("the spool is free", || crate::spool::Spool::open(&options.path, options.limit).is_ok());
    }
    peer.thaw();
    let mut sink = start(&peer, &options, WhenFull::Drop);
    sink.write(b"end\n").unwrap();
    sink.finish().unwrap();
    assert_eq!((peer.lines(), peer.missing()), (format!("{expected}end\n"), 0));
    let epochs: std::collections::BTreeSet<u64> = peer.taken().iter().map(|parcel| parcel.epoch).collect();
    assert_eq!(epochs.len(), 4, "one for each run");
}

#[test]
fn what_finds_no_room_is_dropped_as_whole_batches_and_told_with_its_number() {
    let directory = tempfile::tempdir().unwrap();
    let options = SpoolOptions { batch: 4096, limit: MIN_LIMIT, ..SpoolOptions::new(directory.path().join("spool")) };
    let peer = Peer::frozen();
    let (told, said) = mpsc::channel();
    let warnings = Warnings::new(move |line| told.send(line.to_owned()).unwrap());
    let mut sink = start_with(&peer, &options, WhenFull::Drop, Duration::from_secs(20), warnings);
    let total = 30_000;
    sink.write(numbered(0..total).as_bytes()).unwrap();
    let warned = said.recv().unwrap();
    assert!(warned.contains("is full; batches are being dropped"), "{warned}");
    peer.thaw();
    sink.finish().unwrap();
    let delivered = peer.lines().lines().count() as u64;
    assert!(delivered > 5000 && delivered < u64::from(total), "{delivered}");
    assert_eq!(delivered + peer.missing(), u64::from(total));
    let end = said.recv().unwrap();
    assert!(end.contains(&format!("{} lines have been dropped", peer.missing())), "{end}");
}

#[test]
fn a_source_that_can_wait_waits_for_room() {
    let directory = tempfile::tempdir().unwrap();
    let options = SpoolOptions { batch: 4096, limit: MIN_LIMIT, ..SpoolOptions::new(directory.path().join("spool")) };
    let peer = Peer::frozen();
    let mut sink = start(&peer, &options, WhenFull::Wait);
    let all = numbered(0..30_000);
    let expected = all.clone();
    let writing = thread::spawn(move || {
        sink.write(all.as_bytes()).unwrap();
        sink.finish().unwrap();
    });
    let full = || {
        let files = std::fs::read_dir(&options.path).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>() > MIN_LIMIT - 8192
    };
    until("the spool is full", full);
    assert!(!writing.is_finished());
    peer.thaw();
    writing.join().unwrap();
    assert_eq!((peer.lines() == expected, peer.missing()), (true, 0));
}

#[test]
fn a_spool_that_the_process_has_open_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let options = SpoolOptions::new(directory.path().join("spool"));
    let (old, new) = (Peer::frozen(), Peer::default());
    let mut before = start(&old, &options, WhenFull::Drop);
    before.write(b"one\n").unwrap();
    let mut after = start(&new, &options, WhenFull::Drop);
    before.write(b"two\n").unwrap();
    // The old generation ends later than the new one begins, and waits for nothing.
    after.write(b"three\n").unwrap();
    let began = Instant::now();
    before.finish().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    after.finish().unwrap();
    assert_eq!((new.lines(), old.taken()), ("one\ntwo\nthree\n".into(), Vec::new()));
}
