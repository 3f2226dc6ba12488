//! State that all plugins share: the engine of plugins from files, the cache of compiled code, and the clock for
//! deadlines. Stock plugins have an engine of their own (`stock`).

use std::{
    fs::File,
    num::NonZeroUsize,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::Duration,
};

use flowgate_base::{io_error::error_text, text::of_panic};
use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, component::Component};

use super::{
    cache::Cache,
    compiler::{CompileLimits, Compiler},
    component::checked,
    error::{self, LoadError},
    execution::Execution,
    file::PluginFile,
    memory_file::{self, sealed},
};

/// Interval at which running code checks the clock; deadlines are kept with about this precision.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// Longest interval while no call is seen. Where calls are short and few, waking a thread for each tick costs as much
/// as they do; a call that takes longer is noticed at most this much later.
const IDLE_TICK: Duration = Duration::from_millis(50);
/// Time without a call after which the clock stops until the next one, so that an idle process is not woken.
const IDLE: Duration = Duration::from_secs(1);
/// Maximum number of threads that compile a plugin.
const MAX_COMPILE_THREADS: usize = 4;
/// Stack size of each in bytes; only the used part takes memory.
const COMPILE_STACK: usize = 32 << 20;

/// The engine of plugins, created on first use. Cheap to clone.
#[derive(Clone)]
pub struct PluginEngine {
    engines: Arc<Engines>,
    /// Whose plugins are loaded.
    owner: Arc<str>,
}

struct Engines {
    /// The engine of plugins from files.
    user: OnceLock<UserEngine>,
    cache: Option<Cache>,
    /// What compiles them; `None` if this process does.
    compiler: Option<Arc<Compiler>>,
    /// How code runs, if that has been decided elsewhere.
    execution: Option<Execution>,
    ticking: AtomicBool,
    clock: Clock,
}

/// The thread that advances the clock, as calls see it.
#[derive(Default)]
struct Clock {
    /// Number of calls in progress.
    calls: AtomicUsize,
    /// True if the thread waits for the next call.
    parked: AtomicBool,
    thread: OnceLock<thread::Thread>,
}

/// A call in progress.
pub(super) struct CallInProgress(Arc<Engines>);

impl Drop for CallInProgress {
    fn drop(&mut self) {
        self.0.clock.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Compiled code of a plugin that has been loaded ([`PluginEngine::load_code`]).
#[derive(Clone)]
pub struct PluginCode(pub(super) Component);

struct UserEngine {
    engine: Engine,
    execution: Execution,
}

impl PluginEngine {
    /// Returns engines; compiled plugins from files are stored in `cache`, if there is one. They are compiled in this
    /// process.
    ///
    /// # Errors
    /// None at present: engines are created on first use.
    pub fn new(cache: Option<Cache>) -> Result<Self, LoadError> {
        Self::with(cache, None)
    }

    /// As [`PluginEngine::new`]; plugins from files are compiled by the `compiler`, if there is one.
    ///
    /// # Errors
    /// None at present.
    pub fn with(cache: Option<Cache>, compiler: Option<Arc<Compiler>>) -> Result<Self, LoadError> {
        let engines = Engines {
            user: OnceLock::new(),
            cache,
            compiler,
            execution: None,
            ticking: AtomicBool::new(false),
            clock: Clock::default(),
        };
        Ok(PluginEngine { engines: Arc::new(engines), owner: "".into() })
    }

    /// Returns engines for code that has been compiled for this execution ([`PluginEngine::code`]). They compile
    /// nothing.
    #[must_use]
    pub fn of_code(execution: Execution) -> Self {
        let engines = Engines {
            user: OnceLock::new(),
            cache: None,
            compiler: None,
            execution: Some(execution),
            ticking: AtomicBool::new(false),
            clock: Clock::default(),
        };
        PluginEngine { engines: Arc::new(engines), owner: "".into() }
    }

    /// Returns the compiled code of a plugin for [`PluginComponent::from_code`](crate::PluginComponent::from_code) in a
    /// sealed file in memory, from the cache or from a process that compiles it. Nothing of it is loaded here. Code in
    /// the cache is not used if it is not `trusted`, because it could not be loaded.
    ///
    /// # Errors
    /// [`LoadError`] if it is not a plugin for this host, takes too much to compile, or there is no compiler.
    pub fn code(&self, plugin: &PluginFile, limits: CompileLimits, trusted: bool) -> Result<File, LoadError> {
        let UserEngine { engine, execution } = self.user()?;
        let path = plugin.path();
        let cache = self.engines.cache.as_ref();
        let cache = cache.map(|cache| (cache, cache.key(engine, &self.owner, plugin.sha256())));
        if let Some(code) = cache.as_ref().filter(|_| trusted).and_then(|(cache, key)| cache.read(key)) {
            return Ok(code);
        }
        let missing = || LoadError::Compiler { path: path.into(), what: "is missing".into() };
        let compiler = self.engines.compiler.as_ref().ok_or_else(missing)?;
        let code = compiler.compile(path, &|| plugin.content(), *execution, limits)?;
        if let Some((cache, key)) = &cache {
            cache.store(key, &code);
        }
        Ok(code)
    }

    /// Returns the same engines for plugins of this owner: compiled code in the cache is loaded for the owner alone for
    /// whom it was compiled.
    #[must_use]
    pub fn of_owner(&self, owner: &str) -> Self {
        PluginEngine { engines: self.engines.clone(), owner: owner.into() }
    }

    /// Returns how the code of plugins from files runs here. Creates their engine.
    ///
    /// # Errors
    /// [`LoadError::Engine`] if wasmtime refuses its configuration or the machine.
    pub fn execution(&self) -> Result<Execution, LoadError> {
        self.user().map(|user| user.execution)
    }

    /// Starts the clock, once: from now on calls of plugins end at their deadlines. It stops when the last engine is
    /// dropped. The first plugin from a file starts it; commands that run only stock plugins start it themselves if
    /// they run for long or on much input.
    ///
    /// # Errors
    /// [`LoadError::Engine`] if no thread can be started, [`LoadError::Panicked`].
    pub fn start_clock(&self) -> Result<(), LoadError> {
        if self.engines.ticking.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.run_clock(|| {})
    }

    /// Starts the clock as [`PluginEngine::start_clock`] does. Its thread calls `begin` first, which has returned when
    /// this function does.
    ///
    /// # Errors
    /// As [`PluginEngine::start_clock`].
    pub fn start_clock_after(&self, begin: impl FnOnce() + Send + 'static) -> Result<(), LoadError> {
        match self.engines.ticking.swap(true, Ordering::AcqRel) {
            true => Ok(()),
            false => self.run_clock(begin),
        }
    }

    fn run_clock(&self, begin: impl FnOnce() + Send + 'static) -> Result<(), LoadError> {
        let engines = Arc::downgrade(&self.engines);
        let (started, begun) = sync_channel(1);
        let clock = thread::Builder::new()
            .name("clock".into())
            .spawn(move || {
                begin();
                let _ = started.send(());
                // Time for which no call has been seen.
                let mut idle = Duration::ZERO;
                loop {
                    let pause = (idle / 2).clamp(TICK, IDLE_TICK);
                    thread::sleep(pause);
                    let Some(engines) = engines.upgrade() else { break };
                    engines.tick();
                    let clock = &engines.clock;
                    idle = if clock.calls.load(Ordering::SeqCst) == 0 { idle + pause } else { Duration::ZERO };
                    if idle >= IDLE {
                        clock.parked.store(true, Ordering::SeqCst);
                        // A call that begins now sees `parked`, or is seen here.
                        let waits = clock.calls.load(Ordering::SeqCst) == 0;
                        drop(engines);
                        if waits {
                            thread::park();
                        }
                        idle = Duration::ZERO;
                    }
                }
            })
            .map_err(|error| LoadError::Engine(format!("no thread for the clock: {}", error_text(&error))))?;
        // The clock is started once.
        let _ = self.engines.clock.thread.set(clock.thread().clone());
        // The thread has ended without an answer if `begin` panicked.
        begun.recv().map_err(|_| LoadError::Engine("the thread of the clock has ended".into()))
    }

    /// Marks a call as begun until the result is dropped, and wakes the clock.
    pub(super) fn begin_call(&self) -> CallInProgress {
        let clock = &self.engines.clock;
        clock.calls.fetch_add(1, Ordering::SeqCst);
        if clock.parked.load(Ordering::SeqCst) {
            clock.wake();
        }
        CallInProgress(self.engines.clone())
    }

    /// Loads a stock plugin; returns `None` if there is none with this name.
    ///
    /// # Errors
    /// [`LoadError::Compile`] if the program was built incorrectly.
    pub(super) fn load_stock(&self, name: &str) -> Result<Option<Component>, LoadError> {
        flowgate_stock::load(name).map_err(|error| error::not_compiled(name.as_ref(), &error))
    }

    /// Runs `work` on the bytes of a file on dedicated threads: their stack is sufficient for any nesting within the
    /// bounds of an [`super::outline::Outline`], and there are few of them. (wasmtime's own pool would have as many
    /// threads as an environment variable says, and keep them.)
    ///
    /// # Errors
    /// [`LoadError::Engine`] if no thread can be started.
    pub(super) fn on_compile_thread<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, LoadError> {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        // Each thread takes address space for its stack and for its allocations.
        let threads = if self.user()?.execution.limit.is_some() { 1 } else { processors.min(MAX_COMPILE_THREADS) };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|number| format!("compile {number}"))
            .stack_size(COMPILE_STACK)
            .build()
            .map_err(|error| LoadError::Engine(format!("no threads to compile on: {error}")))?;
        // The state that it was working on is dropped.
        panic::catch_unwind(AssertUnwindSafe(|| pool.install(work)))
            .map_err(|payload| LoadError::Panicked(of_panic(payload.as_ref()).into()))
    }

    /// Compiles the plugin that a file contains, or loads its code from the cache.
    ///
    /// # Errors
    /// [`LoadError`] if it is no plugin for this host, takes too much to compile, or there is no memory for it.
    pub(super) fn compile(&self, path: &Path, content: &[u8], limits: CompileLimits) -> Result<Component, LoadError> {
        let UserEngine { engine, execution } = self.user()?;
        let cache = self.engines.cache.as_ref();
        let cache = cache.map(|cache| (cache, cache.key(engine, &self.owner, &Sha256::digest(content).into())));
        if let Some(component) = cache.as_ref().and_then(|(cache, key)| cache.load(engine, key)) {
            return Ok(component);
        }
        let Some(compiler) = &self.engines.compiler else {
            let component = self.on_compile_thread(|| {
                let bytes = checked(path, content)?;
                Component::from_binary(engine, &bytes).map_err(|error| error::not_compiled(path, &error))
            })??;
            if let (Some((cache, key)), Ok(code)) = (&cache, component.serialize())
                && let Ok(code) = sealed("code", &code)
            {
                cache.store(key, &code);
            }
            return Ok(component);
        };
        let failed = |source| LoadError::Read { path: path.into(), source };
        let content = || sealed("plugin", content).map(Arc::new).map_err(failed);
        let code = compiler.compile(path, &content, *execution, limits)?;
        let component = self.load_component(path, &memory_file::content(&code).map_err(failed)?)?;
        if let Some((cache, key)) = &cache {
            cache.store(key, &code);
        }
        Ok(component)
    }

    /// Loads compiled code ([`PluginEngine::code`]), in a process that runs this code alone; `path` is its name in
    /// errors. Nothing of it runs yet.
    ///
    /// # Errors
    /// [`LoadError::Compile`] if it is not code for this engine and processor; [`LoadError::Unconfined`] if the process
    /// has privileges that foreign code must not have.
    pub fn load_code(&self, path: &Path, code: &[u8]) -> Result<PluginCode, LoadError> {
        flowgate_privileges::may_run_foreign_code()
            .map_err(|reason| LoadError::Unconfined { path: path.into(), reason })?;
        self.load_component(path, code).map(PluginCode)
    }

    /// Loads compiled code.
    ///
    /// # Errors
    /// [`LoadError::Compile`] if it is not code for this engine and processor.
    fn load_component(&self, path: &Path, code: &[u8]) -> Result<Component, LoadError> {
        let engine = self.user_engine()?;
        // SAFETY: `deserialize` requires its bytes to be wasmtime's own output. A process that this program has started
        // produced them, has ended, and was given nothing but the plugin; nobody can have changed them since. If the
        // plugin has taken over the compiler, this is native code of the plugin's author, which is confined by the
        // privileges that this process has dropped before (`may_run_foreign_code`).
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize(engine, code) };
        component.map_err(|error| error::not_compiled(path, &error))
    }

    /// Returns true if the clock has been started.
    #[cfg(test)]
    pub(super) fn is_ticking(&self) -> bool {
        self.engines.ticking.load(Ordering::Acquire)
    }

    /// Returns the engine of plugins from files.
    pub(super) fn user_engine(&self) -> Result<&Engine, LoadError> {
        self.user().map(|user| &user.engine)
    }

    fn user(&self) -> Result<&UserEngine, LoadError> {
        if let Some(user) = self.engines.user.get() {
            return Ok(user);
        }
        let execution = self.engines.execution.unwrap_or_else(Execution::detect);
        let configured = execution.config().and_then(|mut config| {
            if self.engines.execution.is_some() {
                config.parallel_compilation(false);
            }
            Engine::new(&config)
        });
        let engine = configured.map_err(engine_error)?;
        Ok(self.engines.user.get_or_init(|| UserEngine { engine, execution }))
    }
}

impl Clock {
    #[cold]
    fn wake(&self) {
        self.parked.store(false, Ordering::SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        // The thread ends once it finds that there are no engines any more.
        self.clock.wake();
    }
}

impl Engines {
    /// Advances the clock.
    fn tick(&self) {
        flowgate_stock::tick();
        if let Some(user) = self.user.get() {
            user.engine.increment_epoch();
        }
    }
}

pub(super) fn engine_error(error: wasmtime::Error) -> LoadError {
    LoadError::Engine(error::one_line(&format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Instance, Limits, PluginComponent};

    #[test]
    fn engines_are_made_when_they_are_needed() {
        let engine = PluginEngine::new(None).unwrap();
        assert!(engine.load_stock("text").unwrap().is_some());
        assert!(engine.engines.user.get().is_none());
        assert!(engine.load_stock("teleport").unwrap().is_none());
        engine.execution().unwrap();
        assert!(engine.engines.user.get().is_some());
    }

    #[test]
    fn what_does_not_compile_is_an_error_and_no_panic() {
        let engine = PluginEngine::new(None).unwrap();
        let compile = |bytes: &[u8]| engine.compile(Path::new("some.wasm"), bytes, CompileLimits::default());
        assert!(matches!(compile(b"\0asm\x0d\0\x01\0garbage"), Err(LoadError::Compile { .. })));
        assert!(matches!(compile(b"\0asm\x0d\0\x01\0"), Err(LoadError::Mismatch { .. })));
    }

    #[test]
    fn a_panic_of_the_compiler_is_an_error_of_this_file() {
        let engine = PluginEngine::new(None).unwrap();
        let text = |work: &(dyn Fn() + Sync)| engine.on_compile_thread(work).unwrap_err().to_string();
        assert!(text(&|| panic!("index {} out of bounds", 7)).ends_with("nothing of it runs: index 7 out of bounds"));
        assert!(text(&|| panic!("a fault")).ends_with("a fault"));
        assert_eq!(engine.on_compile_thread(|| 1).unwrap(), 1);
    }

    #[test]
    fn a_stock_plugin_alone_takes_no_clock() {
        let engine = PluginEngine::new(None).unwrap();
        let component = PluginComponent::stock(&engine, "text").unwrap();
        Instance::new(&component, Limits::default()).unwrap().describe().unwrap();
        assert!(!engine.is_ticking());
        engine.start_clock().unwrap();
        assert!(engine.is_ticking());
    }
}
