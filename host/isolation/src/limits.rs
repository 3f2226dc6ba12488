//! Resource limits of a process, enforced by the kernel.

use std::{io, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::frame::{Body, Record, Violation};

/// Resource limits of a process (`getrlimit(2)`). None is raised above the spawner's own limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Private writable memory in bytes (RLIMIT_DATA).
    pub memory: u64,
    /// Address space in bytes (RLIMIT_AS). This also bounds the memory used by page tables.
    pub address_space: u64,
    /// Stack size of the first thread in bytes (RLIMIT_STACK).
    pub stack: u64,
    /// CPU time (RLIMIT_CPU), in whole seconds.
    pub time: Duration,
    /// Maximum file size in bytes (RLIMIT_FSIZE). It applies to files in memory as well.
    pub file: u64,
}

impl Limits {
    /// Returns the CPU time in seconds, rounded up, and at least 1.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        let fraction = u64::from(self.time.subsec_nanos() != 0);
        self.time.as_secs().saturating_add(fraction).max(1)
    }

    pub(super) fn write(&self, record: Record) -> Record {
        record.u64(self.memory).u64(self.address_space).u64(self.stack).u64(self.seconds()).u64(self.file)
    }

    pub(super) fn read(body: &mut Body<'_>) -> Result<Self, Violation> {
        let (memory, address_space, stack) = (body.u64()?, body.u64()?, body.u64()?);
        let (time, file) = (Duration::from_secs(body.u64()?), body.u64()?);
        Ok(Limits { memory, address_space, stack, time, file })
    }

    /// Applies the limits to the calling process.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn apply(&self) -> io::Result<()> {
        let seconds = self.seconds();
        for (resource, soft, hard) in [
            (Resource::RLIMIT_CORE, 0, 0),
            (Resource::RLIMIT_MEMLOCK, 0, 0),
            (Resource::RLIMIT_DATA, self.memory, self.memory),
            (Resource::RLIMIT_AS, self.address_space, self.address_space),
            (Resource::RLIMIT_STACK, self.stack, self.stack),
            // The soft limit raises SIGXCPU, which identifies the cause, one second before the hard limit raises
            // SIGKILL.
            (Resource::RLIMIT_CPU, seconds, seconds.saturating_add(1)),
            (Resource::RLIMIT_FSIZE, self.file, self.file),
        ] {
            let (_, most) = getrlimit(resource)?;
            setrlimit(resource, soft.min(most), hard.min(most))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fraction_of_a_second_is_lost() {
        for (time, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (60_000, 60)] {
            let limits = Limits { memory: 1, address_space: 2, stack: 3, time: Duration::from_millis(time), file: 5 };
            assert_eq!(limits.seconds(), seconds, "{time} ms");
            let record = limits.write(Record::new(1, 0)).finish().unwrap();
            let mut body = super::super::Frame::read(&record, 0).unwrap().body;
            let read = Limits::read(&mut body).unwrap();
            assert_eq!(read, Limits { time: Duration::from_secs(seconds), ..limits });
        }
    }
}
