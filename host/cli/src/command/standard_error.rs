//! Standard error. Commands wait for a slow reader of it, as `conntrack` does. Commands that must not be held up, those
//! for events and the service for tenants, do not: if standard error takes nothing, their lines go to a bounded buffer,
//! which a thread writes out. Texts that do not fit are dropped as a whole, and the number of dropped lines is printed
//! in their place.

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

/// Capacity of the buffer in bytes.
const CAPACITY: usize = 256 << 10;
/// Maximum number of bytes that a writable pipe takes without blocking (PIPE_BUF).
const AT_ONCE: usize = 4096;
/// At the end of the service, time without progress after which it stops waiting for the reader.
const LINGER: Duration = Duration::from_millis(250);

/// `LIVE` is true if writing does not wait for the reader, `SERVICE` if even the end of the process waits only for a
/// limited time. They are global because a process has one standard error.
static LIVE: AtomicBool = AtomicBool::new(false);
static SERVICE: AtomicBool = AtomicBool::new(false);
static BUFFER: OnceLock<Option<Buffer>> = OnceLock::new();

/// Makes writing not wait for the reader from now on, for commands that show events, which arrive in any case. Only the
/// end of the process waits, until everything has been written.
pub(super) fn is_live() {
    LIVE.store(true, Ordering::Relaxed);
}

/// Does the same as [`is_live`] for the service for tenants, whose end waits for a limited time only.
pub(super) fn is_of_service() {
    SERVICE.store(true, Ordering::Relaxed);
    is_live();
}

/// Writes whole lines as they are. Errors are ignored: a missing reader does not end a command.
pub(super) fn write(bytes: &[u8]) {
    if !LIVE.load(Ordering::Relaxed) {
        let _ = files::write_all(&mut io::stderr().lock(), bytes);
        return;
    }
    // As long as standard error takes the text, it is written directly and stays in order with standard output.
    if BUFFER.get().is_none() && bytes.len() <= AT_ONCE {
        let mut stderr = io::stderr().lock();
        if files::takes_bytes(&stderr) {
            let _ = files::write_all(&mut stderr, bytes);
            return;
        }
    }
    match BUFFER.get_or_init(|| start().ok()) {
        Some(buffer) => buffer.write(bytes),
        // Without a thread, writing waits for the reader as in other commands.
        None => drop(files::write_all(&mut io::stderr().lock(), bytes)),
    }
}

/// Waits until everything has been written; in the service, only as long as there is progress.
pub(super) fn drain() {
    if let Some(Some(buffer)) = BUFFER.get() {
        buffer.drain(SERVICE.load(Ordering::Relaxed).then_some(LINGER));
    }
}

/// Starts the buffer of standard error. Its thread uses a duplicate of the descriptor, so that it holds no lock while
/// it waits.
fn start() -> io::Result<Buffer> {
    let own = io::stderr().as_fd().try_clone_to_owned()?;
    Buffer::start(BlockingFile::from(File::from(own)))
}

/// A bounded buffer before a writer that may block.
struct Buffer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    /// Notified when the buffer has been filled or emptied.
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    texts: VecDeque<Vec<u8>>,
    /// Total bytes of `texts` and of the text that is being written.
    held: usize,
    /// Number of lines dropped since the buffer was full. New texts are refused until all earlier ones and the message
    /// with this number have been written.
    dropped: u64,
    /// Number of texts that have been written.
    progress: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next text to be written and returns it.
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
                // An error is ignored: a missing reader does not end a command.
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

    /// Appends whole lines, or counts them as dropped if there is no room.
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

    /// Waits until everything has been written, or until nothing has been written for the time `patience`.
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

    /// A writer that blocks until its text is received.
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
        let notice = String::from_utf8(receive.recv().unwrap()).unwrap();
        let dropped = 1000 - fitting;
        assert_eq!(
            notice,
            format!("WARNING: {dropped} lines were dropped here, because nobody read standard error.\n")
        );
        // From now on, texts are taken as before.
        buffer.write(b"next\n");
        assert_eq!(receive.recv().unwrap(), b"next\n");
        buffer.drain(None);
        // A text longer than the buffer is taken if the buffer is empty.
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
        // There is no reader.
        buffer.drain(Some(Duration::from_millis(1)));
        assert!(buffer.0.lock().held > 0);
        let reading = thread::spawn(move || receive.iter().take(3).count());
        buffer.drain(Some(Duration::from_secs(60)));
        assert_eq!(buffer.0.lock().held, 0);
        assert_eq!(reading.join().unwrap(), 3);
        // The reader is gone, which must not hold up anything either.
        buffer.write(b"line\n");
        buffer.drain(None);
    }
}
