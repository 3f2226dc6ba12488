//! Users of started processes: a range of numbers that belong to nothing else, of which each process has one.

use std::{
    collections::BTreeSet,
    fmt,
    fs::File,
    io,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use flowgate_privileges::{sandbox, users};
use nix::sys::wait::{WaitStatus, waitpid};

use super::{
    child::{Child, report_failure},
    sys,
};

/// A range of user IDs, each of which is a group ID as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRange {
    first: u32,
    last: u32,
}

impl UserRange {
    /// The range of a service that names none. Distributions and systemd assign none of it to users or services.
    pub const DEFAULT: Self = UserRange { first: 524_288, last: 525_287 };
    /// The largest number of users in a range.
    pub const MOST: u32 = 65_536;

    /// Returns a range of at least one and at most [`UserRange::MOST`] users, none of whom is root; `None` if it is not
    /// one.
    #[must_use]
    pub fn new(first: u32, last: u32) -> Option<Self> {
        let count = last.checked_sub(first)?;
        (first > 0 && last < u32::MAX && count < Self::MOST).then_some(UserRange { first, last })
    }

    fn count(self) -> u32 {
        self.last - self.first + 1
    }

    /// Checks that a process can be started as users of this range, by doing all but starting it: as the first user,
    /// and as the last one. The calling process must be single-threaded.
    ///
    /// # Errors
    /// Why it cannot.
    pub(super) fn check(self, program: Option<&File>) -> io::Result<()> {
        if !users::can_be_changed() {
            let lacks = "it takes the capabilities CAP_SETUID, CAP_SETGID and CAP_KILL, which root has";
            return Err(io::Error::other(lacks));
        }
        for user in [self.first, self.last] {
            self.check_one(user, program).map_err(|error| io::Error::other(format!("user {user}: {error}")))?;
        }
        Ok(())
    }

    fn check_one(self, user: u32, program: Option<&File>) -> io::Result<()> {
        let (child, other) = Child::pair(None)?;
        let trial = || {
            users::become_user(user)?;
            program.map_or(Ok(()), |program| sys::is_executable(program.as_fd()))
        };
        match in_child(|| match trial() {
            Ok(()) => 0,
            Err((step, error)) => {
                report_failure(&other, step, &error);
                1
            }
        })? {
            Some(0) => Ok(()),
            Some(_) => {
                drop(other);
                match child.wait(Instant::now() + Duration::from_secs(1)) {
                    Err(error) => Err(error),
                    Ok(_) => Err(io::Error::other("the user cannot be changed")),
                }
            }
            None => Err(io::Error::other("the process that changed its user was killed")),
        }
    }
}

impl fmt::Display for UserRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

/// Runs `work` in a child process, and returns its exit status; `None` if a signal has ended it.
fn in_child(work: impl FnOnce() -> u8) -> io::Result<Option<u8>> {
    // SAFETY: only single-threaded processes call this.
    #[allow(unsafe_code)]
    match unsafe { sys::fork() }? {
        None => sys::exit(work()),
        Some(child) => match waitpid(child, None)? {
            WaitStatus::Exited(_, status) => Ok(u8::try_from(status).ok()),
            _ => Ok(None),
        },
    }
}

/// The users of processes that live.
#[derive(Debug)]
pub(super) struct Users {
    range: UserRange,
    used: BTreeSet<u32>,
    /// Distance from the first user of the range to the one that is tried next.
    next: u32,
}

impl Users {
    /// Returns a range of which nobody is used. `start` decides who is used first, so that services with the same range
    /// do not begin with the same users.
    pub(super) fn new(range: UserRange, start: u32) -> Self {
        Users { range, used: BTreeSet::new(), next: start % range.count() }
    }

    /// Returns a user who has no process.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn take(&mut self) -> Result<u32, String> {
        self.take_if(is_free)
    }

    fn take_if(&mut self, is_free: impl Fn(u32) -> bool) -> Result<u32, String> {
        let (range, count) = (self.range, self.range.count());
        for step in 0..count {
            let distance = (self.next + step) % count;
            let user = range.first + distance;
            if !self.used.contains(&user) && is_free(user) {
                self.next = (distance + 1) % count;
                self.used.insert(user);
                return Ok(user);
            }
        }
        Err(format!("each of its {count} users ({range}) has a process already, and a larger range is needed"))
    }

    /// Gives a user back whose process has ended.
    pub(super) fn give_back(&mut self, user: u32) {
        self.used.remove(&user);
    }
}

/// Returns true if a user has no process. If that cannot be found out, starting the process fails with the reason.
fn is_free(user: u32) -> bool {
    const USED: u8 = 1;
    const UNKNOWN: u8 = 2;
    let look = || match users::become_user(user).is_ok() && sandbox::drop_capabilities().is_ok() {
        true if users::has_another_process() => USED,
        true => 0,
        false => UNKNOWN,
    };
    !matches!(in_child(look), Ok(Some(USED)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_bounds() {
        for (first, last) in [(0, 5), (6, 5), (5, u32::MAX), (1, UserRange::MOST + 1), (u32::MAX, u32::MAX)] {
            assert_eq!(UserRange::new(first, last), None, "{first}-{last}");
        }
        for (first, last, text) in
            [(1, 1, "1-1"), (1, UserRange::MOST, "1-65536"), (u32::MAX - 1, u32::MAX - 1, "4294967294-4294967294")]
        {
            assert_eq!(UserRange::new(first, last).unwrap().to_string(), text);
        }
        assert_eq!(UserRange::new(524_288, 525_287), Some(UserRange::DEFAULT));
    }

    #[test]
    fn no_user_is_taken_twice() {
        let mut users = Users::new(UserRange::new(10, 13).unwrap(), 6);
        let free = |user| user != 11;
        assert_eq!([users.take_if(free), users.take_if(free), users.take_if(free)], [Ok(12), Ok(13), Ok(10)]);
        let none = users.take_if(free).unwrap_err();
        assert_eq!(none, "each of its 4 users (10-13) has a process already, and a larger range is needed");
        users.give_back(13);
        assert_eq!(users.take_if(free), Ok(13));
        users.give_back(13);
        users.give_back(12);
        // The one that was given back last is not the next one.
        assert_eq!(users.take_if(free), Ok(12));
    }
}
