use std::sync::mpsc::{Receiver, Sender as Channel, channel};

use super::*;

/// A small buffer that does not wait at the end.
pub(crate) const OPTIONS: OutboxOptions =
    OutboxOptions { capacity: 64, when_full: WhenFull::Drop, linger: Duration::from_millis(50) };

/// A transport that connects a limited number of times. Sent bytes arrive at a channel, and each connection breaks
/// after `breaks` bytes.
struct Fake {
    allowed: Receiver<usize>,
    sent: Channel<Vec<u8>>,
}

struct FakeConnection {
    left: usize,
    sent: Channel<Vec<u8>>,
}

impl Transport for Fake {
    type Connection = FakeConnection;

    fn name(&self) -> String {
        "fake".into()
    }

    fn connect(&mut self) -> io::Result<FakeConnection> {
        let left = self.allowed.try_recv().map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(FakeConnection { left, sent: self.sent.clone() })
    }
}

impl Connection for FakeConnection {
    fn send(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = self.left.min(lines.len()).min(3);
        self.left -= count;
        self.sent.send(lines[..count].to_vec()).unwrap();
        Ok(count)
    }
}

fn fake(options: OutboxOptions) -> (Outbox, Channel<usize>, Receiver<Vec<u8>>) {
    let (allow, allowed) = channel();
    let (sent, receive) = channel();
    let outbox =
        Outbox::start(Fake { allowed, sent }, options, &Stop::new().unwrap(), flowgate_base::Warnings::ignored())
            .unwrap();
    (outbox, allow, receive)
}

#[test]
fn a_broken_connection_goes_on_with_a_whole_line() {
    let (mut outbox, allow, sent) = fake(OutboxOptions { linger: Duration::from_secs(20), ..OPTIONS });
    outbox.write(b"11111\n22222\n33333\n").unwrap();
    allow.send(8).unwrap();
    allow.send(7).unwrap();
    allow.send(100).unwrap();
    outbox.finish().unwrap();
    let all: Vec<u8> = sent.try_iter().flatten().collect();
    assert_eq!(String::from_utf8(all).unwrap(), "11111\n2222222\n333333\n");
}

#[test]
fn what_does_not_fit_is_dropped_by_whole_lines_and_counted() {
    let (mut outbox, allow, sent) = fake(OutboxOptions { linger: Duration::from_secs(20), ..OPTIONS });
    for number in 0..10 {
        outbox.write(format!("line {number} of ten\n").repeat(2).as_bytes()).unwrap();
    }
    assert_eq!(outbox.dropped(), 16, "64 bytes hold four lines of 15");
    allow.send(1000).unwrap();
    outbox.finish().unwrap();
    let all: Vec<u8> = sent.try_iter().flatten().collect();
    assert_eq!(String::from_utf8(all).unwrap(), "line 0 of ten\nline 0 of ten\nline 1 of ten\nline 1 of ten\n");
}

#[test]
fn waiting_loses_nothing() {
    let options = OutboxOptions { when_full: WhenFull::Wait, linger: Duration::from_secs(20), ..OPTIONS };
    let (mut outbox, allow, sent) = fake(options);
    allow.send(usize::MAX).unwrap();
    let line = format!("{}\n", "x".repeat(200));
    for _ in 0..100 {
        outbox.write(b"12345\n12345\n12345\n").unwrap();
        outbox.write(line.as_bytes()).unwrap();
    }
    outbox.finish().unwrap();
    assert_eq!(outbox.dropped(), 0);
    assert_eq!(sent.try_iter().map(|part| part.len()).sum::<usize>(), 100 * (18 + 201));
}

#[test]
fn what_is_left_at_the_end_is_reported() {
    let (mut outbox, _allow, _sent) = fake(OPTIONS);
    outbox.write(b"1\n2\n3\n").unwrap();
    let error = outbox.finish().unwrap_err();
    assert_eq!(error.to_string(), "sink fake: 3 lines could not be delivered before the end");
}
