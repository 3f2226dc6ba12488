//! Addresses to serve metrics at: an IP address and a port, or a Unix socket.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use crate::text::path_text;

/// An address to serve metrics at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP. The address `::` stands for all addresses of both families.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// An invalid address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is no address to serve metrics at: {problem}; write 127.0.0.1:9465, [::1]:9465, :9465 for all addresses, or unix:PATH",
    crate::text::clean(.text)
)]
pub struct ListenAddressError {
    /// The text as given.
    text: String,
    /// The defect.
    problem: &'static str,
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    /// Parses `127.0.0.1:9465`, `[::1]:9465`, `:9465` for all addresses, or `unix:PATH`. With port 0 the system chooses
    /// the port.
    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        let wrong = |problem| ListenAddressError { text: text.to_owned(), problem };
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(wrong("no path follows unix:")) } else { Ok(Self::Unix(path.into())) };
        }
        if text.parse::<IpAddr>().is_ok() {
            return Err(wrong("the port is missing"));
        }
        if let Some(port) = text.strip_prefix(':') {
            let port =
                port.parse().map_err(|_| wrong("what follows the colon is no port, a number from 0 to 65535"))?;
            return Ok(Self::Tcp(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)));
        }
        text.parse().map(Self::Tcp).map_err(|_| wrong("it is not an IP address, a colon and a port"))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "http://{address}/metrics"),
            Self::Unix(path) => write!(formatter, "unix:{}", path_text(path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_in_four_ways() {
        let tcp = |text: &str| ListenAddress::Tcp(text.parse().unwrap());
        for (text, address) in [
            ("127.0.0.1:9465", tcp("127.0.0.1:9465")),
            ("[::1]:1", tcp("[::1]:1")),
            (":9465", tcp("[::]:9465")),
            ("unix:/run/x y", ListenAddress::Unix("/run/x y".into())),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap(), address, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        for (text, problem) in [
            ("", "not an IP address"),
            ("localhost:1", "not an IP address"),
            ("127.0.0.1", "port is missing"),
            ("::1", "port is missing"),
            (":99999", "no port"),
            (":", "no port"),
            ("unix:", "no path"),
            ("127.0.0.1:x\x1b[2J", "not an IP address"),
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains("unix:PATH"), "{text}: {error}");
            assert!(!error.contains('\x1b'));
        }
    }
}
