//! Tells systemd what becomes of the service, as sd_notify(3) says: a datagram to the socket that NOTIFY_SOCKET names.

use std::{
    env,
    ffi::OsString,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// Tells systemd; nobody, where there is none.
pub(super) struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often the watchdog wants to hear something.
    pub watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says.
    pub fn of_environment() -> Self {
        let watchdog = env::var("WATCHDOG_USEC").ok().and_then(|time| time.parse().ok()).map(Duration::from_micros);
        Notifier { socket: env::var_os("NOTIFY_SOCKET").and_then(address), watchdog: watchdog.map(|time| time / 3) }
    }

    /// Tells a state such as `READY=1`.
    pub fn tell(&self, state: &str) {
        let Some((socket, address)) = &self.socket else { return };
        let mut state = state.to_string();
        if state == "RELOADING=1" {
            let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
            let seconds: f64 = uptime.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default();
            state.push_str(&format!("\nMONOTONIC_USEC={}", Duration::from_secs_f64(seconds.max(0.0)).as_micros()));
        }
        // Nobody there to hear it is no reason to do anything.
        let _ = socket.send_to_addr(state.as_bytes(), address);
    }
}

fn address(name: OsString) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name).ok()?,
        None => SocketAddr::from_pathname(name).ok()?,
    };
    Some((UnixDatagram::unbound().ok()?, address))
}
