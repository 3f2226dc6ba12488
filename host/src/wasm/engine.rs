//! What all plugins share: the compiler, the cache of compiled code, and the clock behind the deadlines.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use wasmtime::Engine;

use super::{config, error::LoadError};

/// Between two looks of running code at the clock; a deadline is kept to about this.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct PluginEngine {
    engine: Engine,
    clock: Arc<Clock>,
}

/// Advances the engine's epoch for as long as it lives.
struct Clock {
    running: AtomicBool,
}

impl PluginEngine {
    /// An engine; compiled user plugins are kept in `cache`, if there is such a directory.
    ///
    /// # Errors
    /// [`LoadError::Engine`] if wasmtime refuses its configuration or the machine.
    pub fn new(cache: Option<&Path>) -> Result<Self, LoadError> {
        let config = config::config();
        let _ = cache;
        let engine = Engine::new(&config).map_err(|error| LoadError::Engine(format!("{error:#}")))?;
        Ok(PluginEngine { engine, clock: Arc::new(Clock { running: AtomicBool::new(false) }) })
    }

    /// Where compiled plugins of this user are kept: `$XDG_CACHE_HOME/flowgate`, or `~/.cache/flowgate`.
    #[must_use]
    pub fn cache_directory() -> Option<PathBuf> {
        let absolute = |path: PathBuf| path.is_absolute().then_some(path);
        std::env::var_os("XDG_CACHE_HOME")
            .and_then(|path| absolute(path.into()))
            .or_else(|| absolute(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
            .map(|path| path.join("flowgate"))
    }

    pub(super) fn wasmtime(&self) -> &Engine {
        &self.engine
    }

    /// Starts the clock, once. It stops by itself when the last engine is gone.
    ///
    /// # Errors
    /// [`LoadError::Engine`] if no thread can be had.
    pub(super) fn start_clock(&self) -> Result<(), LoadError> {
        if self.clock.running.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let alive: Weak<Clock> = Arc::downgrade(&self.clock);
        let engine = self.engine.weak();
        thread::Builder::new()
            .name("clock".into())
            .spawn(move || {
                while alive.strong_count() > 0 {
                    thread::sleep(TICK);
                    match engine.upgrade() {
                        Some(engine) => engine.increment_epoch(),
                        None => break,
                    }
                }
            })
            .map_err(|error| LoadError::Engine(format!("no thread for the clock: {error}")))?;
        Ok(())
    }
}
