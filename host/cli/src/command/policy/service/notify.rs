//! Tells systemd what becomes of the service, as sd_notify(3) says: a datagram to the socket that NOTIFY_SOCKET names.

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

/// How long a message may take: the service does not wait for a manager that does not read.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells systemd; nobody, where there is none.
#[derive(Debug)]
pub(super) struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often the watchdog is to hear something; none if it is not waiting for it.
    watchdog: Option<Duration>,
    told: Mutex<Told>,
}

/// What was told before.
#[derive(Debug, Default)]
struct Told {
    status: String,
    /// When the watchdog heard something last.
    barked: Option<Instant>,
}

impl Notifier {
    /// As the environment says.
    pub(super) fn of_environment() -> Self {
        Self::of(|name| env::var_os(name), std::process::id())
    }

    /// As these variables say, for the process of this number.
    fn of(variable: impl Fn(&str) -> Option<OsString>, process: u32) -> Self {
        let number = |name: &str| variable(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
        // Set for another process, it was merely inherited.
        let ours = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(process.into());
        let period = number("WATCHDOG_USEC").filter(|&time| ours && time > 0).map(Duration::from_micros);
        // Twice in each period, and some time to be late.
        Notifier {
            socket: variable("NOTIFY_SOCKET").as_deref().and_then(socket),
            watchdog: period.map(|period| period / 3),
            told: Mutex::default(),
        }
    }

    /// The service runs (`READY=1`): after its start, or after a reload, whatever that came to.
    pub(super) fn ready(&self, status: &str) {
        self.with_status("READY=1", status);
    }

    /// It is reloading the policy.
    pub(super) fn reloading(&self, status: &str) {
        // By this systemd tells the answer to its own reload from one to an earlier one.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.with_status(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()), status);
    }

    /// It is about to end.
    pub(super) fn stopping(&self, status: &str) {
        self.with_status("STOPPING=1", status);
    }

    /// What it does, if that is something else than before. It is asked only where there is somebody to be told.
    pub(super) fn status(&self, status: impl FnOnce() -> String) {
        if self.socket.is_none() {
            return;
        }
        let status = status();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.status != status {
            self.tell(&format!("STATUS={status}"));
            told.status = status;
        }
    }

    /// How long what feeds the watchdog may rest; none if there is no watchdog.
    pub(super) fn rest(&self) -> Option<Duration> {
        self.watchdog.map(|every| every / 2)
    }

    /// Feeds the watchdog, if it is time to and the service lives; whether it lives, if it was time to.
    pub(super) fn feed(&self, lives: impl FnOnce() -> bool) -> Option<bool> {
        let every = self.watchdog?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.barked.is_some_and(|before| before.elapsed() < every) {
            return None;
        }
        let lives = lives();
        if lives {
            told.barked = Some(Instant::now());
            self.tell("WATCHDOG=1");
        }
        Some(lives)
    }

    fn with_status(&self, state: &str, status: &str) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).status = status.into();
        self.tell(&format!("{state}\nSTATUS={status}"));
    }

    fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.socket {
            // Nobody there to hear it is no reason to do anything.
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }
}

/// A socket to tell by, and whom: a path, or a name in the abstract namespace behind `@`. Anything else is nobody.
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
