//! A program that runs in the background while a test does something else.

use crate::{
    Outcome, Program, netlink,
    program::{must_heed_signals, shell_status},
    wait::{PATIENCE, until, until_or_explain},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::Read,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::Instant,
};

/// A running program and what it has written so far. It is killed when this is dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
    output: Stream,
    errors: Stream,
    /// Standard output while it is not read.
    held: Option<ChildStdout>,
}

impl Background {
    /// Starts a program and reads what it writes.
    pub fn start(program: &Program, words: &[&str]) -> Self {
        let mut started = Self::start_unread(program, words);
        started.read_output();
        started
    }

    /// Starts a program whose standard output is not read until [`Self::read_output`] is called.
    pub fn start_unread(program: &Program, words: &[&str]) -> Self {
        let mut command = program.command(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::spawn_unread(command)
    }

    /// Starts a command, and reads what it writes into pipes.
    pub fn spawn(command: Command) -> Self {
        let mut started = Self::spawn_unread(command);
        started.read_output();
        started
    }

    fn spawn_unread(mut command: Command) -> Self {
        must_heed_signals();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let held = child.stdout.take();
        let errors = child.stderr.take().map(Stream::read).unwrap_or_default();
        Self { child, output: Stream::default(), errors, held }
    }

    /// Begins to read standard output.
    pub fn read_output(&mut self) {
        if let Some(pipe) = self.held.take() {
            self.output = Stream::read(pipe);
        }
    }

    /// Returns the unread standard output, for a test that reads it itself.
    pub fn take_output(&mut self) -> ChildStdout {
        self.held.take().expect("a program that was started with its output unread")
    }

    /// Returns its standard input, if that is a pipe.
    pub fn take_input(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("a program that was started with a pipe as its input")
    }

    /// Returns the process.
    pub fn process(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process"))
    }

    /// Returns what it has written to standard output so far.
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// Returns the whole lines that it has written to standard output so far.
    pub fn lines(&self) -> Vec<String> {
        let text = self.output();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    /// Returns what it has written to standard error so far.
    pub fn errors(&self) -> String {
        self.errors.text()
    }

    /// Waits for a line of standard output that contains these words, after the last one that was waited for.
    pub fn wait_for_output(&mut self, words: &str) -> String {
        self.output.wait(words).unwrap_or_else(|| panic!("no line with `{words}`: {}{}", self.output(), self.errors()))
    }

    /// Waits for a line of standard error that contains these words, after the last one that was waited for.
    pub fn wait_for_error(&mut self, words: &str) -> String {
        self.errors.wait(words).unwrap_or_else(|| panic!("no line with `{words}`: {}{}", self.output(), self.errors()))
    }

    /// Waits until a netlink socket of the program, in the network namespace of the calling thread, has joined groups.
    pub fn wait_until_listening(&self) {
        self.wait_until_listening_in(&[]);
    }

    /// The same as [`Self::wait_until_listening`]; the socket may also be in one of these named namespaces.
    pub fn wait_until_listening_in(&self, names: &[&str]) {
        let listens = || {
            let own = netlink::inodes_of(self.child.id());
            let tables = std::iter::once(netlink::table()).chain(names.iter().map(|name| netlink::table_of(name)));
            tables.flatten().any(|socket| socket.joined && own.contains(&socket.inode))
        };
        until_or_explain("it listens", listens, || format!("{}{}", self.output(), self.errors()));
    }

    /// Waits until the program has handled all events that were sent before this call: nothing is queued in its
    /// sockets, and all of its threads have slept from before the queues were read until after it.
    pub fn wait_until_idle(&self) {
        let is_idle = || {
            let before = self.sleeping();
            let own = netlink::inodes_of(self.child.id());
            let queued: u64 =
                netlink::table().iter().filter(|socket| own.contains(&socket.inode)).map(|socket| socket.queued).sum();
            before.is_some() && queued == 0 && self.sleeping() == before
        };
        until_or_explain("it waits for more", is_idle, || format!("{}{}", self.output(), self.errors()));
    }

    /// Waits until one of its threads waits for the reader of a pipe that is full.
    pub fn wait_until_pipe_is_full(&self) {
        until_or_explain(
            "its pipe is full",
            || {
                let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
                tasks
                    .filter_map(|task| fs::read_to_string(task.path().join("wchan")).ok())
                    .any(|place| place.contains("pipe_write"))
            },
            || self.errors(),
        );
    }

    /// Returns its threads and the number of context switches of each; `None` if one of them runs.
    fn sleeping(&self) -> Option<Vec<(String, String)>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let mut sleeping: Vec<(String, String)> = tasks
            .map(|task| {
                let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
                let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                value("State:")?.starts_with('S').then_some(())?;
                let switches =
                    format!("{} {}", value("voluntary_ctxt_switches:")?, value("nonvoluntary_ctxt_switches:")?);
                Some((value("Pid:")?.to_owned(), switches))
            })
            .collect::<Option<_>>()?;
        sleeping.sort();
        Some(sleeping)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.process(), signal).expect("it takes signals");
    }

    /// Stops the program, calls `happens`, and continues the program.
    pub fn while_stopped(&self, happens: impl FnOnce()) {
        self.signal(Signal::SIGSTOP);
        let path = format!("/proc/{}/stat", self.child.id());
        until("it is stopped", || {
            let stat = fs::read_to_string(&path).expect("its state");
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        });
        happens();
        self.signal(Signal::SIGCONT);
    }

    /// Returns its resident memory in KiB; `None` if it has ended.
    pub fn memory(&self) -> Option<u64> {
        self.kibibytes("VmRSS:")
    }

    /// Returns its peak resident memory in KiB; `None` if it has ended.
    pub fn peak(&self) -> Option<u64> {
        self.kibibytes("VmHWM:")
    }

    fn kibibytes(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    }

    /// Returns true if it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_none()
    }

    /// Waits for its end, and returns what it wrote, including output that has not been read before.
    pub fn end(&mut self) -> Outcome {
        self.read_output();
        let status = shell_status(self.child.wait().expect("its end"));
        Outcome { stdout: self.output.rest(), stderr: self.errors.rest(), status }
    }

    /// Waits for its end without reading its output; returns its exit status as a shell reports it.
    pub fn end_unread(&mut self) -> i32 {
        shell_status(self.child.wait().expect("its end"))
    }

    /// Ends it by a signal, and returns what it wrote.
    pub fn end_by(&mut self, signal: Signal) -> Outcome {
        self.signal(signal);
        self.end()
    }

    /// Ends it as a user does, by SIGINT, and returns what it wrote.
    ///
    /// # Panics
    /// If its exit status is not 0.
    pub fn finish(&mut self) -> Outcome {
        let outcome = self.end_by(Signal::SIGINT);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        outcome
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bytes read from a pipe.
#[derive(Debug, Default)]
struct Stream {
    so_far: Arc<(Mutex<SoFar>, Condvar)>,
    reader: Option<JoinHandle<()>>,
    /// Offset of the next line to be searched.
    next: usize,
}

#[derive(Debug, Default)]
struct SoFar {
    bytes: Vec<u8>,
    ended: bool,
}

impl Stream {
    fn read(mut pipe: impl Read + Send + 'static) -> Self {
        let so_far: Arc<(Mutex<SoFar>, Condvar)> = Arc::default();
        let to = so_far.clone();
        let reader = std::thread::spawn(move || {
            let mut part = vec![0; 1 << 16];
            loop {
                let length = pipe.read(&mut part).unwrap_or(0);
                let mut so_far = to.0.lock().unwrap_or_else(PoisonError::into_inner);
                so_far.bytes.extend_from_slice(&part[..length]);
                so_far.ended = length == 0;
                to.1.notify_all();
                if so_far.ended {
                    return;
                }
            }
        });
        Self { so_far, reader: Some(reader), next: 0 }
    }

    fn text(&self) -> String {
        let so_far = self.so_far.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&so_far.bytes).into_owned()
    }

    /// Waits for a line with these words; returns `None` if it does not come.
    fn wait(&mut self, words: &str) -> Option<String> {
        let end = Instant::now() + PATIENCE;
        let mut so_far = self.so_far.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while let Some(length) = so_far.bytes.get(self.next..)?.iter().position(|&byte| byte == b'\n') {
                let line = String::from_utf8_lossy(&so_far.bytes[self.next..self.next + length]).into_owned();
                self.next += length + 1;
                if line.contains(words) {
                    return Some(line);
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if so_far.ended || left.is_zero() {
                return None;
            }
            so_far = self.so_far.1.wait_timeout(so_far, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Reads to the end.
    fn rest(&mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("a reader");
        }
        self.so_far.0.lock().unwrap_or_else(PoisonError::into_inner).bytes.clone()
    }
}
