//! A sink that is limited to a number of bytes per second; lines beyond it are dropped and counted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use flowgate_base::TokenBucket;
use flowgate_pipeline::sink::{Sink, SinkError};

/// A sink with a limit.
pub struct RateLimitedSink {
    sink: Box<dyn Sink>,
    meter: TokenBucket,
    /// Number of dropped lines.
    dropped: Arc<AtomicU64>,
}

impl RateLimitedSink {
    /// Returns a sink that writes at most this many bytes per second to `sink` and counts the other lines in `dropped`.
    #[must_use]
    pub fn new(sink: Box<dyn Sink>, rate: u64, dropped: Arc<AtomicU64>) -> Self {
        RateLimitedSink { sink, meter: TokenBucket::per_second(rate), dropped }
    }
}

impl Sink for RateLimitedSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        if bytes.is_empty() {
            return Ok(());
        }
        // All of it has room, so each line has.
        if self.meter.has(bytes.len() as u64) {
            self.meter.take(bytes.len() as u64);
            return self.sink.write(bytes);
        }
        let mut fitting = 0;
        let mut dropped = 0;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let length = line.len() as u64;
            if dropped == 0 && self.meter.has(length) {
                self.meter.take(length);
                fitting += line.len();
            } else {
                dropped += 1;
            }
        }
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
        match bytes.get(..fitting) {
            Some(lines) if !lines.is_empty() => self.sink.write(lines),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.sink.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn whole_lines_are_dropped() {
        let (kept, dropped) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let mut sink = RateLimitedSink::new(Box::new(kept.clone()), 10, dropped.clone());
        sink.write(b"12345\n123\nabcdef\nx\n").unwrap();
        assert_eq!(kept.lock().unwrap().as_slice(), b"12345\n123\n");
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    }
}
