//! A child process as seen by its owner.

use std::{
    io,
    os::fd::AsFd as _,
    sync::atomic::{AtomicI32, Ordering},
    time::{Duration, Instant},
};

use super::{
    cgroup::Group,
    channel::Channel,
    frame::{Frame, Record, Violation},
    sys,
};

/// The process has ended.
const ENDED: u16 = 1;
/// The process could not be started.
const FAILED: u16 = 2;
/// The process has been started.
const STARTED: u16 = 3;
/// The process is to stand still.
const STOP: u16 = 4;
/// The process is to go on.
const CONTINUE: u16 = 5;
/// Maximum length of the text that names the failed step, or the reason.
const STEP: usize = 200;

/// A process started by the spawner. It is killed when this handle is dropped, and when the owner or the spawner ends.
#[derive(Debug)]
pub struct Child {
    lease: Channel,
    /// Its process ID as the owner sees it, once it has reported itself; 0 before.
    pid: AtomicI32,
    /// Its control group, if it has one of its own. It is removed after the process has ended.
    group: Option<Group>,
}

/// How a process ended, and the resources it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its exit status, or the signal that ended it.
    pub status: Result<i32, i32>,
    /// CPU time used.
    pub time: Duration,
    /// Peak memory use in bytes (`ru_maxrss`).
    pub memory: u64,
}

impl Child {
    /// Returns the handle of a process that is to be started, and what the spawner and the process report by.
    ///
    /// # Errors
    /// If the kernel cannot create the sockets.
    pub(super) fn pair(group: Option<Group>) -> io::Result<(Self, Channel)> {
        let (lease, other) = Channel::pair()?;
        // The spawner may have process IDs of its own.
        sys::ask_for_senders(&lease)?;
        Ok((Child { lease, pid: AtomicI32::new(0), group }, other))
    }

    /// Returns true if the process is in a control group of its own.
    #[must_use]
    pub fn has_group(&self) -> bool {
        self.group.is_some()
    }

    /// Returns true if the kernel has killed the process because its control group had too much memory.
    #[must_use]
    pub fn was_out_of_group_memory(&self) -> bool {
        self.group.as_ref().is_some_and(Group::was_out_of_memory)
    }

    /// Stops the process wherever it is, or lets it go on. It can be killed meanwhile.
    ///
    /// # Errors
    /// The kernel refuses, or the spawner has ended.
    pub fn stand_still(&self, still: bool) -> io::Result<()> {
        if let Some(group) = &self.group {
            return group.freeze(still);
        }
        let record = Record::new(if still { STOP } else { CONTINUE }, 0).finish();
        self.lease.send(&record.map_err(|violation| io::Error::new(io::ErrorKind::InvalidInput, violation))?, &[])
    }

    /// Returns the CPU time that the process has used since it was started; `None` if it has not been started yet, or
    /// has ended.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        match self.pid.load(Ordering::Relaxed) {
            0 => None,
            pid => sys::cpu_time(pid),
        }
    }

    /// Returns true if [`Child::wait`] would return at once.
    ///
    /// # Errors
    /// It did not start, or the spawner has ended.
    pub fn has_news(&self) -> io::Result<bool> {
        sys::readable(self.lease.as_fd(), Duration::ZERO)
    }

    /// Waits until the process has been started, or has ended, or until the deadline. Returns its process ID if it
    /// runs.
    ///
    /// # Errors
    /// It did not start, or the spawner has ended.
    pub fn started(&self, deadline: Instant) -> io::Result<Option<i32>> {
        loop {
            match self.pid.load(Ordering::Relaxed) {
                0 => {}
                pid => return Ok(Some(pid)),
            }
            let ended = self.receive(deadline)?.is_some();
            if self.pid.load(Ordering::Relaxed) == 0 && (ended || Instant::now() >= deadline) {
                return Ok(None);
            }
        }
    }

    /// Waits until the process has ended or the deadline has passed; returns `None` if it is still running then.
    ///
    /// # Errors
    /// If the process could not be started, or the spawner has ended.
    pub fn wait(&self, deadline: Instant) -> io::Result<Option<Ending>> {
        loop {
            if let Some(ending) = self.receive(deadline)? {
                return Ok(Some(ending));
            }
            if Instant::now() >= deadline && !self.has_news()? {
                return Ok(None);
            }
        }
    }

    /// Receives what the spawner says next: `None` that it has started the process, or nothing until the deadline.
    fn receive(&self, deadline: Instant) -> io::Result<Option<Ending>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if sys::readable(self.lease.as_fd(), left)? {
                break;
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
        let mut buffer = Channel::buffer();
        let (length, sender) = match sys::receive_from(&self.lease, &mut buffer) {
            // The other end was closed although it had not received everything.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => (0, None),
            received => received?,
        };
        if length == 0 {
            return Err(io::Error::other("the process that starts others has ended"));
        }
        match read(buffer.get(..length).unwrap_or_default())?? {
            News::Started => {
                self.pid.store(sender.unwrap_or_default(), Ordering::Relaxed);
                Ok(None)
            }
            News::Ended(ending) => Ok(Some(ending)),
        }
    }
}

/// A report about a process, of the spawner or of the process itself.
enum News {
    Started,
    Ended(Ending),
}

/// Parses a record from the spawner.
fn read(record: &[u8]) -> io::Result<io::Result<News>> {
    let invalid = |violation: Violation| io::Error::new(io::ErrorKind::InvalidData, violation);
    let frame = Frame::read(record, 0).map_err(invalid)?;
    let mut body = frame.body;
    match frame.kind {
        STARTED => body.end().map(|()| Ok(News::Started)).map_err(invalid),
        ENDED => {
            let ending = (|| {
                let (signalled, value) = (body.bool()?, body.u32()?);
                let value = i32::try_from(value).map_err(|_| Violation::Value(value.into()))?;
                let (time, memory) = (Duration::from_micros(body.u64()?), body.u64()?);
                body.end()?;
                Ok(Ending { status: if signalled { Err(value) } else { Ok(value) }, time, memory })
            })();
            ending.map(|ending| Ok(News::Ended(ending))).map_err(invalid)
        }
        FAILED => {
            let failed = (|| {
                let (errno, step) = (body.u32()?, body.text(STEP)?);
                body.end()?;
                Ok((errno, step))
            })();
            let (errno, step) = failed.map_err(invalid)?;
            let error = match i32::try_from(errno).unwrap_or_default() {
                0 => io::Error::other(step),
                errno => {
                    let error = io::Error::from_raw_os_error(errno);
                    io::Error::new(error.kind(), format!("{step}: {error}"))
                }
            };
            Ok(Err(error))
        }
        kind => Err(invalid(Violation::Kind(kind))),
    }
}

/// Reports that the calling process has been started. The kernel says which one that is. It is not an error if the
/// owner no longer listens.
pub(super) fn report_start(lease: &Channel) {
    let record = Record::new(STARTED, 0).finish();
    let _ = record.map(|record| lease.send(&record, &[]));
}

/// A request of an owner about its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// It is to stand still.
    Stop,
    /// It is to go on.
    Continue,
    /// It is to end: the owner has no handle on it any more, or says what makes no sense.
    End,
}

/// Returns the next request of the owner of a process, which has arrived.
pub(super) fn next_request(lease: &Channel) -> Request {
    let mut buffer = Channel::buffer();
    match lease.receive(&mut buffer) {
        Ok(Some(record)) => match Frame::read(record, 0).map(|frame| frame.kind) {
            Ok(STOP) => Request::Stop,
            Ok(CONTINUE) => Request::Continue,
            _ => Request::End,
        },
        _ => Request::End,
    }
}

/// Reports that a process has ended. It is not an error if the owner no longer listens.
pub(super) fn report_end(lease: &Channel, ending: &Ending) {
    let (signalled, value) = match ending.status {
        Ok(status) => (false, status),
        Err(signal) => (true, signal),
    };
    let value = u32::try_from(value).unwrap_or_default();
    let time = u64::try_from(ending.time.as_micros()).unwrap_or(u64::MAX);
    let record = Record::new(ENDED, 0).bool(signalled).u32(value).u64(time).u64(ending.memory).finish();
    let _ = record.map(|record| lease.send(&record, &[]));
}

/// Reports that a process could not be started. It is not an error if the owner no longer listens.
pub(super) fn report_failure(lease: &Channel, step: &str, error: &io::Error) {
    let errno = u32::try_from(error.raw_os_error().unwrap_or(libc::EIO)).unwrap_or_default();
    send_failure(lease, step, errno);
}

/// Reports that a process was not started, for this reason. It is not an error if the owner no longer listens.
pub(super) fn report_refusal(lease: &Channel, reason: &str) {
    send_failure(lease, reason, 0);
}

/// Sends the failed step and its error number, or the whole reason and 0.
fn send_failure(lease: &Channel, text: &str, errno: u32) {
    let record = Record::new(FAILED, 0).u32(errno).text(text, STEP).finish();
    let _ = record.map(|record| lease.send(&record, &[]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_failures_cross_the_lease() {
        for status in [Ok(0), Ok(101), Err(libc::SIGXCPU)] {
            let (child, other) = Child::pair(None).unwrap();
            let ending = Ending { status, time: Duration::from_micros(5), memory: 7 };
            report_end(&other, &ending);
            assert_eq!(child.wait(Instant::now()).unwrap(), Some(ending));
        }
        let (child, other) = Child::pair(None).unwrap();
        assert_eq!(child.wait(Instant::now()).unwrap(), None);
        assert_eq!((child.started(Instant::now()).unwrap(), child.cpu_time()), (None, None));
        let own = std::process::id().try_into().unwrap();
        report_start(&other);
        assert_eq!(child.started(Instant::now()).unwrap(), Some(own));
        assert_eq!(child.wait(Instant::now()).unwrap(), None);
        assert!(child.cpu_time().unwrap() > Duration::ZERO);
        for (still, wanted) in [(true, Request::Stop), (false, Request::Continue)] {
            child.stand_still(still).unwrap();
            assert_eq!(next_request(&other), wanted);
        }
        report_failure(&other, "cannot fork", &io::Error::from_raw_os_error(libc::EAGAIN));
        let error = child.wait(Instant::now()).unwrap_err();
        assert!(error.to_string().starts_with("cannot fork: Resource temporarily unavailable"), "{error}");
        report_refusal(&other, "nobody is left");
        assert_eq!(child.wait(Instant::now()).unwrap_err().to_string(), "nobody is left");
        drop(other);
        assert!(child.wait(Instant::now()).unwrap_err().to_string().contains("has ended"));
        let (child, other) = Child::pair(None).unwrap();
        drop(child);
        assert_eq!(next_request(&other), Request::End);
    }
}
