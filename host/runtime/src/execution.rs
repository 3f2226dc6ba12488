//! How the code of plugins from files runs in this process: decided once, by what the kernel permits.
//!
//! This does not apply to stock plugins, whose code is executable in the program (`stock`).

use std::fmt;

use flowgate_base::io_error::errno_text;
use nix::sys::resource::{Resource, getrlimit};
use wasmtime::Config;

use super::sys;

/// Below this limit of address space memories do not reserve 4 GiB each: a few plugins with a few memories would
/// exhaust it.
const AMPLE_ADDRESS_SPACE: u64 = 128 << 30;
/// Address space in bytes of a memory if address space is scarce. A memory that needs more is moved.
const MEMORY_RESERVATION: u64 = 64 << 20;
/// Bytes by which a moved memory may grow before it is moved again.
const MEMORY_GROWTH: u64 = 16 << 20;

/// How the code of plugins from files runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Why it is interpreted; `None` if it is compiled to machine code.
    pub barrier: Option<Barrier>,
    /// The limit of address space in bytes (RLIMIT_AS), if it is so low that memories reserve little of it and each
    /// access is checked.
    pub limit: Option<u64>,
}

/// Why machine code cannot be executed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// The process may not make memory executable (`PR_SET_MDWE`, `MemoryDenyWriteExecute=` of systemd).
    Denied,
    /// The kernel refused the attempt with this error number.
    Refused(i32),
}

impl Execution {
    /// Detects what the kernel permits.
    #[must_use]
    pub fn detect() -> Self {
        let barrier = if sys::denies_write_execute() {
            Some(Barrier::Denied)
        } else {
            // A lack of memory for one page causes worse problems, which have messages of their own.
            let refused = sys::make_executable().err().and_then(|error| error.raw_os_error());
            refused.filter(|&errno| errno != libc::ENOMEM).map(Barrier::Refused)
        };
        Execution { barrier, limit: address_space().filter(|&limit| limit < AMPLE_ADDRESS_SPACE) }
    }

    /// Returns the execution in another process, for which code is compiled here.
    #[must_use]
    pub fn elsewhere(interpreted: bool, checked: bool) -> Self {
        Execution { barrier: interpreted.then_some(Barrier::Denied), limit: checked.then_some(0) }
    }

    /// Returns true if the code is interpreted.
    #[must_use]
    pub fn is_interpreted(self) -> bool {
        self.barrier.is_some()
    }

    /// Returns true if plugins run slower than they could without restrictions.
    #[must_use]
    pub fn is_slowed(self) -> bool {
        self.barrier.is_some() || self.limit.is_some()
    }

    /// Returns the name in structured output: `native`, `checked` or `interpreted`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Execution { barrier: Some(_), .. } => "interpreted",
            Execution { limit: Some(_), .. } => "checked",
            _ => "native",
        }
    }

    /// Returns the engine settings for this execution.
    ///
    /// # Errors
    /// wasmtime was built without its interpreter.
    pub(super) fn config(self) -> wasmtime::Result<Config> {
        let mut config = flowgate_stock::config::common();
        // Threads take address space too: 64 MiB and more for each that allocates.
        config.parallel_compilation(self.limit.is_none());
        // Images of memories are files in memory, which a process that only computes does not have. Each is used once
        // or twice in a process, so that they save nothing.
        config.memory_init_cow(false);
        if self.is_interpreted() {
            config.target("pulley64")?;
        }
        if self.limit.is_some() {
            config.memory_reservation(MEMORY_RESERVATION);
            config.memory_reservation_for_growth(MEMORY_GROWTH);
            config.memory_guard_size(0);
        } else {
            config.memory_reservation(4 << 30);
            config.memory_guard_size(if self.is_interpreted() { 0 } else { 32 << 20 });
        }
        Ok(config)
    }
}

/// Formats the rest of the sentence "plugins from files run as ...".
impl fmt::Display for Execution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.barrier {
            Some(barrier) => {
                formatter.write_str("interpreted code, since ")?;
                match barrier {
                    Barrier::Denied => formatter.write_str(
                        "this process may not make memory executable (MemoryDenyWriteExecute=yes, PR_SET_MDWE)",
                    )?,
                    Barrier::Refused(errno) => write!(
                        formatter,
                        "the kernel does not let this process make memory executable ({})",
                        errno_text(errno)
                    )?,
                }
                formatter.write_str(": they take 10 to 25 times the time, a plugin in Rust 0.3 to 1 us a flow")
            }
            None => match self.limit {
                Some(limit) => write!(
                    formatter,
                    "machine code that checks each access to memory, since the address space of this process is limited \
                     to {limit} bytes (RLIMIT_AS, `ulimit -v`): they take a quarter to a half more time"
                ),
                None => formatter.write_str("machine code"),
            },
        }
    }
}

/// Returns the limit of this process's address space in bytes (RLIMIT_AS), if there is one.
#[must_use]
pub fn address_space() -> Option<u64> {
    let (limit, _) = getrlimit(Resource::RLIMIT_AS).ok()?;
    (limit != libc::RLIM_INFINITY).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_way_is_machine_code() {
        let free = Execution { barrier: None, limit: None };
        assert_eq!((free.name(), free.is_slowed(), free.to_string().as_str()), ("native", false, "machine code"));
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let denied = Execution { barrier: Some(Barrier::Denied), limit: Some(1 << 29) };
        assert_eq!(denied.name(), "interpreted");
        assert!(denied.to_string().contains("MemoryDenyWriteExecute"), "{denied}");
        let refused = Execution { barrier: Some(Barrier::Refused(libc::EPERM)), limit: None };
        assert!(refused.to_string().contains("Operation not permitted"), "{refused}");
        let tight = Execution { barrier: None, limit: Some(536_870_912) };
        assert_eq!(tight.name(), "checked");
        assert!(tight.to_string().contains("536870912 bytes (RLIMIT_AS"), "{tight}");
    }

    #[test]
    fn every_way_makes_an_engine_and_its_code_can_be_compiled_elsewhere() {
        for barrier in [None, Some(Barrier::Denied)] {
            for limit in [None, Some(1 << 29)] {
                let execution = Execution { barrier, limit };
                let engine = wasmtime::Engine::new(&execution.config().unwrap()).unwrap();
                let mut config = Execution::elsewhere(execution.is_interpreted(), limit.is_some()).config().unwrap();
                config.parallel_compilation(false);
                let other = wasmtime::Engine::new(&config).unwrap();
                let code = other.precompile_component(b"\0asm\x0d\0\x01\0").unwrap();
                // SAFETY: it has just been made by wasmtime.
                #[allow(unsafe_code)]
                let component = unsafe { wasmtime::component::Component::deserialize(&engine, code) };
                assert!(component.is_ok(), "{execution}");
            }
        }
    }
}
