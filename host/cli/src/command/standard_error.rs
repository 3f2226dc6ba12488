//! Standard error. Commands wait for a slow reader of it, as `conntrack` does; what must go on whether or not somebody reads does not:
//! lines that find the descriptor full wait in a bounded buffer, which a thread empties. What does not fit is dropped by whole
//! texts, and how many lines that were is said where they would have been.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use flowgate_base::files::{self, BlockingFile};

/// Bytes that wait at most.
const CAPACITY: usize = 256 << 10;
/// What a pipe that takes anything takes at once (PIPE_BUF).
const AT_ONCE: usize = 4096;
/// How long the end of the service waits for a reader that takes nothing.
const LINGER: Duration = Duration::from_millis(250);

/// Whether nobody waits for a reader, and whether not even the end does: a process has one standard error.
static LIVE: AtomicBool = AtomicBool::new(false);
static SERVICE: AtomicBool = AtomicBool::new(false);
static BUFFER: OnceLock<Option<Buffer>> = OnceLock::new();

/// From now on nobody waits for a reader, but for the end of the process, until which all is told: for events, which come whether
/// somebody reads or not.
pub(super) fn is_live() {
    LIVE.store(true, Ordering::Relaxed);
}

/// As [`is_live`], and the end does not wait for long either: for the service.
pub(super) fn is_of_service() {
    SERVICE.store(true, Ordering::Relaxed);
    is_live();
}

/// Writes whole lines as they are. It never fails: nobody to tell is no reason to stop.
pub(super) fn write(bytes: &[u8]) {
    if !LIVE.load(Ordering::Relaxed) {
        let _ = files::write_all(&mut io::stderr().lock(), bytes);
        return;
    }
    // As long as it is taken, it is there when this returns, and in order with standard output.
    if BUFFER.get().is_none() && bytes.len() <= AT_ONCE {
        let mut stderr = io::stderr().lock();
        if files::takes_bytes(&stderr) {
            let _ = files::write_all(&mut stderr, bytes);
            return;
        }
    }
    match BUFFER.get_or_init(|| start().ok()) {
        Some(buffer) => buffer.write(bytes),
        // Where no thread can be had it is as for all others.
        None => drop(files::write_all(&mut io::stderr().lock(), bytes)),
    }
}

/// Waits until what was written has been read; of a service, no longer than somebody reads.
pub(super) fn drain() {
    if let Some(Some(buffer)) = BUFFER.get() {
        buffer.drain(SERVICE.load(Ordering::Relaxed).then_some(LINGER));
    }
}

/// The buffer of standard error. Its thread has a descriptor of its own, so that it holds no lock while it waits.
fn start() -> io::Result<Buffer> {
    let own = io::stderr().as_fd().try_clone_to_owned()?;
    Buffer::start(BlockingFile::from(File::from(own)))
}

/// A bounded buffer before a writer that may block.
struct Buffer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    /// There is more in it, or less.
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    texts: VecDeque<Vec<u8>>,
    /// Bytes of these, and of the one that is being written.
    held: usize,
    /// Lines that were dropped since. Nothing is taken until all that was taken before has been written and this has been said.
    dropped: u64,
    /// Grows with each text that was written.
    progress: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written next, once there is something.
    fn next(&self) -> Vec<u8> {
        let mut inner = self.lock();
        loop {
            if let Some(text) = inner.texts.pop_front() {
                return text;
            }
            if inner.dropped > 0 {
                let text = format!(
                    "WARNING: {} lines were dropped here, because nobody read standard error.\n",
                    std::mem::take(&mut inner.dropped)
                );
                inner.held += text.len();
                return text.into_bytes();
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Buffer {
    /// Starts the thread that writes.
    fn start(mut writer: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let empty = move || {
            loop {
                let text = own.next();
                // Nobody to tell is no reason to stop.
                let _ = writer.write_all(&text);
                let mut inner = own.lock();
                inner.held -= text.len();
                inner.progress += 1;
                own.changed.notify_all();
            }
        };
        thread::Builder::new().name("stderr".into()).spawn(empty)?;
        Ok(Buffer(shared))
    }

    /// Takes whole lines, or counts them.
    fn write(&self, bytes: &[u8]) {
        let mut inner = self.0.lock();
        if inner.dropped > 0 || inner.held > 0 && inner.held + bytes.len() > CAPACITY {
            inner.dropped += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
            return;
        }
        inner.held += bytes.len();
        inner.texts.push_back(bytes.to_vec());
        self.0.changed.notify_all();
    }

    /// Waits until all is written; with `patience`, no longer than that without anything being written.
    fn drain(&self, patience: Option<Duration>) {
        let mut inner = self.0.lock();
        while inner.held > 0 || inner.dropped > 0 {
            let Some(patience) = patience else {
                inner = self.0.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let before = inner.progress;
            let unchanged = |inner: &mut Inner| inner.progress == before;
            let waited = self.0.changed.wait_timeout_while(inner, patience, unchanged);
            let (now, end) = waited.unwrap_or_else(PoisonError::into_inner);
            if end.timed_out() {
                return;
            }
            inner = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A writer that takes a text only when somebody receives it.
    struct Blocking(SyncSender<Vec<u8>>);

    impl Write for Blocking {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            self.0.send(bytes.to_vec()).map(|()| bytes.len()).map_err(gone)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn blocked() -> (Buffer, Receiver<Vec<u8>>) {
        let (send, receive) = sync_channel(0);
        (Buffer::start(Blocking(send)).unwrap(), receive)
    }

    #[test]
    fn what_does_not_fit_is_counted_and_said_where_it_would_have_been() {
        let (buffer, receive) = blocked();
        let line = [vec![b'x'; 999], vec![b'\n']].concat();
        for _ in 0..1000 {
            buffer.write(&line);
        }
        let fitting = CAPACITY / 1000;
        assert!(buffer.0.lock().held <= CAPACITY, "bounded");
        for _ in 0..fitting {
            assert_eq!(receive.recv().unwrap(), line);
        }
        let told = String::from_utf8(receive.recv().unwrap()).unwrap();
        let dropped = 1000 - fitting;
        assert_eq!(told, format!("WARNING: {dropped} lines were dropped here, because nobody read standard error.\n"));
        // From then on all is as before.
        buffer.write(b"next\n");
        assert_eq!(receive.recv().unwrap(), b"next\n");
        buffer.drain(None);
        // One that is longer than the buffer is taken if nothing else waits.
        let long = vec![b'\n'; CAPACITY * 2];
        buffer.write(&long);
        buffer.write(b"and\n");
        assert_eq!(receive.recv().unwrap(), long);
        assert!(receive.recv().unwrap().starts_with(b"WARNING: 1 lines were dropped"));
    }

    #[test]
    fn the_end_waits_for_who_reads_and_for_nobody_else() {
        let (buffer, receive) = blocked();
        for _ in 0..3 {
            buffer.write(b"line\n");
        }
        // Nobody reads.
        buffer.drain(Some(Duration::from_millis(1)));
        assert!(buffer.0.lock().held > 0);
        let reading = thread::spawn(move || receive.iter().take(3).count());
        buffer.drain(Some(Duration::from_secs(60)));
        assert_eq!(buffer.0.lock().held, 0);
        assert_eq!(reading.join().unwrap(), 3);
        // Nobody is there any more: nothing is held up by that either.
        buffer.write(b"line\n");
        buffer.drain(None);
    }
}
