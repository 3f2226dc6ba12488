//! Compilation in a separate process, one for each plugin. The process has the plugin, a file in memory for the
//! compiled code, and a channel, and nothing else ([`flowgate_privileges::sandbox`]). The kernel limits its memory and
//! its CPU time.
//!
//! The answer of the process and the code it has compiled are trusted no more than the plugin itself: an attacker who
//! takes over the process controls the code of this plugin, and nothing more.

mod jobs;
mod protocol;
mod serve;

use std::{
    fs::File,
    io,
    num::NonZeroUsize,
    os::fd::AsFd as _,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use flowgate_isolation::{Channel, Ending, Limits, Order, Role, Spawner, cgroup::GroupLimits};
use nix::sys::signal::Signal;

use super::{
    error::LoadError,
    execution::{Execution, address_space},
    memory_file::{empty, seal},
};
use jobs::{Jobs, Length};
pub use protocol::build;
use protocol::{Task, read_answer};
pub use serve::serve;

/// Address space of the process in bytes. A compiler reserves little memory that it does not use.
const ADDRESS_SPACE: u64 = 16 << 30;
/// Stack size in bytes, sufficient for any nesting within the bounds of an outline.
const STACK: u64 = 64 << 20;
/// Maximum size of compiled code in bytes. The Python interpreter needs a seventh of it.
const CODE: u64 = 256 << 20;
/// Wall-clock time that a process may take beyond twice its CPU time.
const GRACE: Duration = Duration::from_secs(2);
/// Nice value of compilation in a service, so that it yields to the service's other work (`nice(2)`).
const NICE: u8 = 10;
/// Memory of the control group beyond the limit of the process: page tables, sockets, and the code that is written.
const GROUP_MEMORY: u64 = 64 << 20;
/// Processes and threads of the control group: the process, and one in which it tries what a filter may kill it for.
const PROCESSES: u64 = 2;
/// Share of the processors in the control group, where others have 100.
const WEIGHT: u64 = 10;
/// CPU time within which plugins of a service are compiled at first: one in Rust or C takes 0.1 to 0.2 s, one in
/// JavaScript 2 s.
const SHORT: Duration = Duration::from_secs(3);
/// Exit status of a process that ran out of memory (`process/memory.rs` of the program).
const NO_MEMORY: i32 = 1;

/// Limits on compiling a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of memory.
    pub memory: u64,
    /// CPU time, in whole seconds.
    pub time: Duration,
}

impl Default for CompileLimits {
    fn default() -> Self {
        CompileLimits { memory: 1 << 30, time: Duration::from_secs(60) }
    }
}

/// Compiles plugins, each in a separate process.
#[derive(Debug)]
pub struct Compiler {
    /// The spawner of the processes, or why there is none.
    spawner: Result<Arc<Spawner>, String>,
    jobs: Jobs,
    /// True if plugins have several owners, none of which may delay the others. A plugin that does not compile within a
    /// short time limit is then started again after the quick ones are done, and the processes yield to others.
    shared: bool,
}

impl Compiler {
    /// Returns a compiler. Without a spawner, every compilation fails with the spawner's error. `shared`: plugins have
    /// several owners, none of which may delay the others for long, and compilation yields to the other work of the
    /// machine.
    #[must_use]
    pub fn new(spawner: io::Result<Arc<Spawner>>, shared: bool) -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let spawner = spawner.map_err(|error| error.to_string());
        Compiler { spawner, jobs: Jobs::new(processors), shared }
    }

    /// Returns the compiled code of a plugin in a sealed file; `path` is the plugin's name in errors. `content` returns
    /// the plugin in a sealed file, and is called when it is compiled at once: what waits for that takes no memory.
    ///
    /// # Errors
    /// [`LoadError`] if it is not a plugin for this host, or exceeds the limits on compilation; or that of `content`.
    pub(super) fn compile(
        &self,
        path: &Path,
        content: &dyn Fn() -> Result<Arc<File>, LoadError>,
        execution: Execution,
        limits: CompileLimits,
    ) -> Result<File, LoadError> {
        let mut length = Length::Short;
        if self.shared && limits.time > SHORT {
            let short = CompileLimits { time: SHORT, ..limits };
            match self.attempt(path, content, execution, short, length) {
                Err(LoadError::CompileTime { .. }) => length = Length::Long,
                result => return result,
            }
        }
        self.attempt(path, content, execution, limits, length)
    }

    fn attempt(
        &self,
        path: &Path,
        content: &dyn Fn() -> Result<Arc<File>, LoadError>,
        execution: Execution,
        limits: CompileLimits,
        length: Length,
    ) -> Result<File, LoadError> {
        let failed = |what: String| LoadError::Compiler { path: path.into(), what };
        let spawner = self.spawner.as_ref().map_err(|error| failed(format!("cannot be started: {error}")))?;
        let _job = self.jobs.begin(length);
        let cannot = |error: io::Error| failed(format!("cannot be started: {error}"));
        let (plugin, code) = (content()?, empty("code").map_err(cannot)?);
        let (channel, other) = Channel::pair().map_err(cannot)?;
        let task = Task {
            path: path.into(),
            length: plugin.metadata().map_err(cannot)?.len(),
            interpreted: execution.is_interpreted(),
            checked: execution.limit.is_some(),
        };
        let order = Order {
            role: Role::Compiler,
            limits: Limits {
                memory: limits.memory,
                address_space: ADDRESS_SPACE,
                stack: STACK,
                time: limits.time,
                file: CODE,
            },
            nice: if self.shared { NICE } else { 0 },
            group: GroupLimits {
                memory: limits.memory.saturating_add(GROUP_MEMORY),
                processes: PROCESSES,
                weight: WEIGHT,
            },
        };
        let task = task.write().map_err(|violation| failed(format!("cannot be given its task: {violation}")))?;
        let child = spawner.start(&order, other, &[plugin.as_fd(), code.as_fd()]).map_err(cannot)?;
        // If the process did not start, the error is reported below.
        let _ = channel.send(&task, &[]);
        let deadline = Instant::now() + limits.time.saturating_mul(2) + GRACE;
        let ending = child.wait(deadline).map_err(cannot)?;
        if child.was_out_of_group_memory() {
            return Err(no_memory(path, limits.memory));
        }
        ended(path, ending, limits)?;
        let mut buffer = Channel::buffer();
        let record = channel.receive(&mut buffer).ok().flatten().ok_or_else(|| failed("gave no answer".into()))?;
        let answer = read_answer(record, path, limits.memory)
            .map_err(|violation| failed(format!("gave an answer that makes no sense: {violation}")))?;
        let length = answer?;
        finish(&code, length).map_err(|error| failed(format!("gave code that cannot be read: {error}")))?;
        Ok(code)
    }

    /// Ends all processes that compile, and the spawner.
    pub fn end(&self) {
        if let Ok(spawner) = &self.spawner {
            spawner.end();
        }
    }
}

/// Checks how a process ended.
fn ended(path: &Path, ending: Option<Ending>, limits: CompileLimits) -> Result<(), LoadError> {
    let path = || path.to_path_buf();
    let time = || LoadError::CompileTime { path: path(), limit: limits.time };
    let Some(ending) = ending else { return Err(time()) };
    match ending.status {
        Ok(0) => Ok(()),
        Ok(NO_MEMORY) => Err(no_memory(&path(), limits.memory)),
        Ok(status) => Err(LoadError::Compiler { path: path(), what: format!("failed with exit status {status}") }),
        Err(libc::SIGXCPU) => Err(time()),
        Err(libc::SIGKILL) if ending.time >= limits.time => Err(time()),
        Err(signal) => {
            let name = Signal::try_from(signal).map_or("a signal", Signal::as_str);
            let reason = match signal {
                libc::SIGKILL => ": the kernel, or somebody else, has killed it",
                libc::SIGSYS => ": it has made a system call that compiling does not take",
                libc::SIGXFSZ => ": its code has more than 268435456 bytes",
                _ => "",
            };
            Err(LoadError::Compiler { path: path(), what: format!("was ended by {name}{reason}") })
        }
    }
}

/// Returns the error for a process that ran out of memory. If the limit of this process is the smaller one, that limit
/// is reported.
fn no_memory(path: &Path, limit: u64) -> LoadError {
    match address_space() {
        Some(own) if own <= limit => LoadError::Memory { path: path.into(), limit: Some(own) },
        _ => LoadError::CompileMemory { path: path.into(), limit },
    }
}

/// Seals a file that another process has written and no longer has access to, if it has this length.
fn finish(file: &File, said: u64) -> io::Result<()> {
    seal(file)?;
    let length = file.metadata()?.len();
    if length != said || length > CODE {
        return Err(io::Error::other(format!("it has {length} bytes, not {said}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn ending(status: Result<i32, i32>, seconds: u64) -> Option<Ending> {
        Some(Ending { status, time: Duration::from_secs(seconds), memory: 0 })
    }

    #[test]
    fn each_end_has_a_name() {
        let limits = CompileLimits { memory: 1 << 20, time: Duration::from_secs(5) };
        let said = |ending| ended(Path::new("p.wasm"), ending, limits).unwrap_err().to_string();
        assert!(ended(Path::new("p.wasm"), ending(Ok(0), 1), limits).is_ok());
        for late in [None, ending(Err(libc::SIGXCPU), 5), ending(Err(libc::SIGKILL), 6)] {
            assert!(said(late).contains("more than 5 s of CPU time (`compile-time`)"), "{late:?}: {}", said(late));
        }
        assert!(said(ending(Ok(1), 1)).contains("more than 1048576 bytes of memory (`compile-memory`)"));
        for (status, words) in [
            (Ok(101), "failed with exit status 101"),
            (Err(libc::SIGSYS), "SIGSYS: it has made a system call"),
            (Err(libc::SIGKILL), "SIGKILL: the kernel"),
            (Err(libc::SIGSEGV), "was ended by SIGSEGV"),
        ] {
            assert!(said(ending(status, 1)).contains(words), "{}", said(ending(status, 1)));
        }
    }

    #[test]
    fn code_is_sealed_if_it_is_as_long_as_it_is_said_to_be() {
        let mut code = empty("code").unwrap();
        code.write_all(b"abc").unwrap();
        assert!(finish(&code, 3).is_ok());
        assert!(code.write_all(b"d").is_err());
        assert!(finish(&empty("code").unwrap(), 3).is_err(), "a lie about the length");
    }

    #[test]
    fn without_a_spawner_nothing_is_compiled() {
        let compiler = Compiler::new(Err(io::Error::from_raw_os_error(libc::EAGAIN)), false);
        let execution = Execution { barrier: None, limit: None };
        let content = || -> Result<Arc<File>, LoadError> { panic!("it is not read") };
        let error = compiler.compile(Path::new("p.wasm"), &content, execution, CompileLimits::default()).unwrap_err();
        assert!(error.to_string().contains("cannot be started: Resource temporarily unavailable"), "{error}");
    }
}
