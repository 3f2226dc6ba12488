//! Resource limits of a plugin, and their enforcement.

use std::time::Duration;

use wasmtime::ResourceLimiter;

use super::error::lacks_memory;

/// Limits of one plugin instance. All are on by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory and of tables, summed over the instance.
    pub memory: usize,
    /// Time of one call: CPU time of its thread ([`super::deadline`]), with a precision of about 10 ms.
    pub call: Duration,
    /// Time of instantiation and of all calls up to the end of `configure`, measured in the same way.
    pub start_up: Duration,
    /// Maximum number of bytes that one call returns.
    pub output: usize,
    /// Maximum number of actions that one call requests.
    pub actions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory: 64 << 20,
            call: Duration::from_secs(1),
            start_up: Duration::from_secs(10),
            output: 32 << 20,
            actions: 1 << 16,
        }
    }
}

/// Refuses growth beyond the limit, and remembers the refusal: the error's name must not depend on how the guest
/// handles it (most abort, some catch it).
#[derive(Debug)]
pub(super) struct MemoryLimiter {
    limit: usize,
    used: usize,
    /// The size of the last refused growth.
    pub refused: Option<usize>,
    /// True if the kernel provided no memory for growth within the limit.
    pub starved: bool,
}

impl MemoryLimiter {
    /// Size in bytes of a table element: a pointer.
    const ELEMENT: usize = size_of::<usize>();

    pub(crate) fn new(limit: usize) -> Self {
        MemoryLimiter { limit, used: 0, refused: None, starved: false }
    }

    /// Returns true if a memory or table may grow from `current` to `desired` bytes.
    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let total = self.used.saturating_sub(current).saturating_add(desired);
        if total > self.limit {
            self.refused = Some(total);
            return false;
        }
        self.used = total;
        true
    }

    /// Returns the bytes of linear memory and of tables in use.
    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.starved |= lacks_memory(&error);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current.saturating_mul(Self::ELEMENT), desired.saturating_mul(Self::ELEMENT)))
    }

    fn instances(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_counted_over_all_memories_and_refused_over_the_limit() {
        let mut guard = MemoryLimiter::new(100);
        assert!(guard.memory_growing(0, 40, None).unwrap());
        assert!(guard.memory_growing(0, 40, None).unwrap());
        assert!(guard.memory_growing(40, 60, None).unwrap());
        assert_eq!(guard.used(), 100);
        assert!(!guard.memory_growing(40, 41, None).unwrap());
        assert_eq!(guard.refused, Some(101));
        assert_eq!(guard.used(), 100);
    }

    #[test]
    fn growth_that_the_kernel_refuses_is_remembered() {
        let mut guard = MemoryLimiter::new(100);
        guard.memory_grow_failed(wasmtime::Error::msg("beyond the maximum")).unwrap();
        assert!(!guard.starved);
        guard.memory_grow_failed(std::io::Error::from_raw_os_error(libc::ENOMEM).into()).unwrap();
        assert!(guard.starved);
    }

    #[test]
    fn tables_count_by_the_size_of_their_elements() {
        let mut guard = MemoryLimiter::new(100);
        assert!(guard.table_growing(0, 5, None).unwrap());
        assert!(guard.memory_growing(0, 60, None).unwrap());
        assert_eq!(guard.used(), 100);
        assert!(!guard.table_growing(5, 6, None).unwrap());
        assert!(!guard.table_growing(0, usize::MAX, None).unwrap());
        assert_eq!(guard.used(), 100);
    }
}
