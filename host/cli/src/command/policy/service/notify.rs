//! Notifications to systemd as in sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

/// Timeout of a message, so that the service does not wait for a manager that does not read.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends notifications to systemd; does nothing if there is no socket.
#[derive(Debug)]
pub(super) struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// Interval at which the watchdog is fed; `None` if there is no watchdog.
    watchdog: Option<Duration>,
    sent: Mutex<Sent>,
}

/// The state of earlier notifications.
#[derive(Debug, Default)]
struct Sent {
    status: String,
    /// Time at which the watchdog was last fed.
    fed: Option<Instant>,
}

impl Notifier {
    /// Returns the notifier that the environment describes.
    pub(super) fn of_environment() -> Self {
        Self::of(|name| env::var_os(name), std::process::id())
    }

    /// Returns the notifier that these variables describe, for the process with this ID.
    fn of(variable: impl Fn(&str) -> Option<OsString>, process: u32) -> Self {
        let number = |name: &str| variable(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
        // If it is set for another process, it was only inherited.
        let ours = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(process.into());
        let period = number("WATCHDOG_USEC").filter(|&time| ours && time > 0).map(Duration::from_micros);
        // A third of the period: the watchdog is fed twice in each period, with some time to spare.
        Notifier {
            socket: variable("NOTIFY_SOCKET").as_deref().and_then(socket),
            watchdog: period.map(|period| period / 3),
            sent: Mutex::default(),
        }
    }

    /// Reports that the service runs (`READY=1`), after its start or after a reload, successful or not.
    pub(super) fn ready(&self, status: &str) {
        self.with_status("READY=1", status);
    }

    /// Reports that the policy is being reloaded.
    pub(super) fn reloading(&self, status: &str) {
        // The time lets systemd distinguish the answer to its own reload from that to an earlier one.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.with_status(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()), status);
    }

    /// Reports that the service is about to end.
    pub(super) fn stopping(&self, status: &str) {
        self.with_status("STOPPING=1", status);
    }

    /// Reports the status of the service if it has changed. `status` is called only if there is a socket.
    pub(super) fn status(&self, status: impl FnOnce() -> String) {
        if self.socket.is_none() {
            return;
        }
        let status = status();
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.status != status {
            self.send(&format!("STATUS={status}"));
            sent.status = status;
        }
    }

    /// Returns the maximum time between two calls of [`Notifier::feed`]; `None` if there is no watchdog.
    pub(super) fn rest(&self) -> Option<Duration> {
        self.watchdog.map(|every| every / 2)
    }

    /// Feeds the watchdog if it is due and `lives` returns true. Returns the result of `lives`, or `None` if the
    /// watchdog is not due.
    pub(super) fn feed(&self, lives: impl FnOnce() -> bool) -> Option<bool> {
        let every = self.watchdog?;
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.fed.is_some_and(|before| before.elapsed() < every) {
            return None;
        }
        let lives = lives();
        if lives {
            sent.fed = Some(Instant::now());
            self.send("WATCHDOG=1");
        }
        Some(lives)
    }

    fn with_status(&self, state: &str, status: &str) {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).status = status.into();
        self.send(&format!("{state}\nSTATUS={status}"));
    }

    fn send(&self, state: &str) {
        if let Some((socket, address)) = &self.socket {
            // Errors are ignored: the service runs without a manager as well.
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }
}

/// Returns a socket and the address of the manager: a path, or an abstract name after `@`. Other addresses are not
/// supported.
fn socket(name: &OsStr) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name).ok()?,
        [b'/', ..] => SocketAddr::from_pathname(name).ok()?,
        _ => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_write_timeout(Some(PATIENCE)).ok()?;
    Some((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier(variables: &[(&str, &str)]) -> Notifier {
        Notifier::of(
            |name| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value)),
            42,
        )
    }

    #[test]
    fn the_watchdog_is_fed_where_it_waits_for_this_process() {
        let second = ("WATCHDOG_USEC", "1000000");
        for (variables, every) in [
            (&[][..], None),
            (&[second], Some(333_333)),
            (&[second, ("WATCHDOG_PID", "42")], Some(333_333)),
            (&[second, ("WATCHDOG_PID", "43")], None),
            (&[second, ("WATCHDOG_PID", "x")], None),
            (&[("WATCHDOG_USEC", "0")], None),
            (&[("WATCHDOG_USEC", "-1")], None),
        ] {
            let watchdog = notifier(variables).watchdog;
            assert_eq!(watchdog.map(|every| every.as_micros()), every, "{variables:?}");
        }
    }

    #[test]
    fn whoever_does_not_live_does_not_feed_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        heard.set_nonblocking(true).unwrap();
        let notifier = notifier(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "3600000000")]);
        let message = || {
            let mut buffer = [0; 512];
            let length = heard.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        assert_eq!((notifier.feed(|| false), message()), (Some(false), None));
        assert_eq!((notifier.feed(|| true), message().as_deref()), (Some(true), Some("WATCHDOG=1")));
        assert_eq!((notifier.feed(|| true), message()), (None, None), "it is not time to");
        notifier.ready("two");
        notifier.status(|| "two".into());
        notifier.status(|| "three".into());
        assert_eq!(message().as_deref(), Some("READY=1\nSTATUS=two"));
        assert_eq!((message().as_deref(), message()), (Some("STATUS=three"), None));
        notifier.stopping("three");
        assert_eq!(message().as_deref(), Some("STOPPING=1\nSTATUS=three"));
    }

    #[test]
    fn nobody_is_told_where_there_is_nobody() {
        for name in ["", "@", "relative", "vsock:2:1234", "/nowhere/at/all"] {
            let notifier = notifier(&[("NOTIFY_SOCKET", name)]);
            notifier.ready("nobody hears it");
            assert_eq!(notifier.feed(|| true), None);
        }
    }
}
