//! The system log as a sink: one message of RFC 5424 per line, by the local socket, UDP (RFC 5426), or TCP with octet
//! counting (RFC 6587).

use std::{
    fs,
    io::{self, Write},
    net::{Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;

use super::{
    first_line,
    outbox::{Connection, Transport},
    resolve,
    stream::{SEND, close_tcp, connect_tcp},
};

/// Facilities by name, as in `logger` (RFC 5424, table 1).
pub const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// Severities by name (RFC 5424, table 2).
pub const SEVERITIES: [(&str, u8); 8] =
    [("emerg", 0), ("alert", 1), ("crit", 2), ("err", 3), ("warning", 4), ("notice", 5), ("info", 6), ("debug", 7)];

/// The local daemon's socket.
pub const LOCAL: &str = "/dev/log";
/// Maximum length of a message that every receiver should accept (RFC 5424, section 6.1).
pub const MAX_MESSAGE: usize = 2048;
/// Maximum length of a program's name (RFC 5424, section 6.2.5).
pub const MAX_APP_NAME: usize = 48;

/// The log server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A datagram socket at a path.
    Local(PathBuf),
    /// UDP to `host:port`, one message per datagram.
    Udp(String),
    /// TCP to `host:port`, each message preceded by its length.
    Tcp(String),
}

/// The transport to the log, and the format of its messages.
#[derive(Clone, Debug)]
pub struct Syslog {
    target: Target,
    priority: u8,
    app_name: String,
    max_message: usize,
    /// Number of messages that were too long, and were cut.
    cut: Arc<AtomicU64>,
}

impl Syslog {
    /// Returns a transport for messages of this facility and severity, by number, from a program of this name, with a
    /// maximum length of `max_message` bytes.
    #[must_use]
    pub fn new(target: Target, facility: u8, severity: u8, app_name: &str, max_message: usize) -> Self {
        let priority = facility.min(23) * 8 + severity.min(7);
        Syslog { target, priority, app_name: app_name.into(), max_message, cut: Arc::default() }
    }

    /// Returns the message for a line.
    fn message(&self, host: &str, line: &[u8]) -> Vec<u8> {
        let now = Timestamp::now();
        let (priority, app, process) = (self.priority, &self.app_name, std::process::id());
        let mut message = format!("<{priority}>1 {now:.6} {host} {app} {process} - - ").into_bytes();
        message.extend_from_slice(line);
        if message.len() > self.max_message {
            self.cut.fetch_add(1, Ordering::Relaxed);
            let mut end = self.max_message;
            // Does not cut within a UTF-8 character.
            while end > 0 && message.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
                end -= 1;
            }
            message.truncate(end);
        }
        message
    }
}

/// Returns the host name as the header requires it, in printable ASCII (RFC 5424, section 6.2.4), or `-` if there is
/// none.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".into() } else { name }
}

/// A connection to the log.
pub struct Log {
    syslog: Syslog,
    host: String,
    socket: Socket,
}

enum Socket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp {
        stream: TcpStream,
        /// The unsent rest of the current message.
        pending: Vec<u8>,
    },
}

impl Transport for Syslog {
    type Connection = Log;

    fn name(&self) -> String {
        match &self.target {
            Target::Local(path) => format!("syslog {}", path.display()),
            Target::Udp(address) => format!("syslog udp://{address}"),
            Target::Tcp(address) => format!("syslog tcp://{address}"),
        }
    }

    fn connect(&mut self) -> io::Result<Log> {
        let socket = match &self.target {
            Target::Local(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(SEND))?;
                Socket::Unix(socket)
            }
            Target::Udp(address) => Socket::Udp(connect_udp(address)?),
            Target::Tcp(address) => Socket::Tcp { stream: connect_tcp(address)?, pending: Vec::new() },
        };
        Ok(Log { syslog: self.clone(), host: host_name(), socket })
    }

    fn remark(&self) -> Option<String> {
        let cut = self.cut.load(Ordering::Relaxed);
        (cut > 0).then(|| format!("{cut} lines were cut, because a message has at most {} bytes.", self.max_message))
    }
}

fn connect_udp(address: &str) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolve::addresses(address)? {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let connected = UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket));
        match connected {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Connection for Log {
    fn send(&mut self, lines: &[u8]) -> io::Result<usize> {
        let length = first_line(lines);
        let line = lines.get(..length).unwrap_or(lines);
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.is_empty() {
            return Ok(length);
        }
        let message = |log: &Syslog, host: &str| log.message(host, line);
        match &mut self.socket {
            Socket::Unix(socket) => socket.send(&message(&self.syslog, &self.host))?,
            Socket::Udp(socket) => socket.send(&message(&self.syslog, &self.host))?,
            Socket::Tcp { stream, pending } => {
                if pending.is_empty() {
                    let message = message(&self.syslog, &self.host);
                    *pending = format!("{} ", message.len()).into_bytes();
                    pending.extend_from_slice(&message);
                }
                while !pending.is_empty() {
                    match stream.write(pending)? {
                        0 => return Err(io::ErrorKind::WriteZero.into()),
                        count => pending.drain(..count),
                    };
                }
                length
            }
        };
        Ok(length)
    }

    fn close(&mut self) {
        if let Socket::Tcp { stream, .. } = &mut self.socket {
            close_tcp(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpListener, time::Duration};

    use super::{
        super::{
            Sink,
            outbox::{Outbox, OutboxOptions, WhenFull},
        },
        *,
    };
    use flowgate_netlink::Stop;

    const OPTIONS: OutboxOptions =
        OutboxOptions { capacity: 1 << 20, when_full: WhenFull::Drop, linger: Duration::from_secs(20) };

    fn start(syslog: Syslog) -> Outbox {
        Outbox::start(syslog, OPTIONS, &Stop::new().unwrap(), flowgate_base::Warnings::ignored()).unwrap()
    }

    /// Splits a message into its parts, and checks its time.
    fn parts(message: &[u8]) -> (String, String) {
        let text = String::from_utf8(message.to_vec()).unwrap();
        let mut words = text.splitn(8, ' ');
        let mut next = || words.next().unwrap().to_owned();
        let (start, time, host, app, process, id, data, rest) =
            (next(), next(), next(), next(), next(), next(), next(), next());
        assert!(time.parse::<Timestamp>().is_ok() && time.len() <= 27, "{time}");
        assert_eq!((host, process), (host_name(), std::process::id().to_string()));
        assert_eq!((id.as_str(), data.as_str()), ("-", "-"));
        (format!("{start} {app}"), rest)
    }

    #[test]
    fn the_local_socket_gets_a_message_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut sink = start(Syslog::new(Target::Local(path), 16, 5, "flows", MAX_MESSAGE));
        sink.write(b"[NEW] tcp\n\n[DESTROY] tcp\n").unwrap();
        sink.finish().unwrap();
        let mut buffer = [0; 4096];
        for expected in ["[NEW] tcp", "[DESTROY] tcp"] {
            let length = daemon.recv(&mut buffer).unwrap();
            assert_eq!(parts(&buffer[..length]), ("<133>1 flows".into(), expected.into()));
        }
    }

    #[test]
    fn udp_messages_are_cut_to_their_limit() {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        daemon.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let target = Target::Udp(daemon.local_addr().unwrap().to_string());
        let mut sink = start(Syslog::new(target, 3, 6, "flowgate", 480));
        let long = "é".repeat(1000);
        sink.write(format!("{long}\nx{long}\n").as_bytes()).unwrap();
        sink.finish().unwrap();
        let mut buffer = [0; 4096];
        for first in ["é", "xé"] {
            let length = daemon.recv(&mut buffer).unwrap();
            assert!((479..=480).contains(&length), "{length}");
            let (start, text) = parts(&buffer[..length]);
            assert_eq!(start, "<30>1 flowgate");
            assert!(text.starts_with(first) && text.ends_with('é'), "{text}");
        }
    }

    #[test]
    fn tcp_messages_have_their_length_before_them() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap().to_string());
        let mut sink = start(Syslog::new(target, 3, 6, "flowgate", MAX_MESSAGE));
        let (mut stream, _) = listener.accept().unwrap();
        sink.write(b"one\ntwo\n").unwrap();
        sink.finish().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let mut rest = bytes.as_slice();
        for expected in ["one", "two"] {
            let space = rest.iter().position(|&byte| byte == b' ').unwrap();
            let length: usize = String::from_utf8(rest[..space].to_vec()).unwrap().parse().unwrap();
            let (message, more) = rest[space + 1..].split_at(length);
            assert_eq!(parts(message), ("<30>1 flowgate".into(), expected.into()));
            rest = more;
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn too_long_lines_are_told_of_at_the_end() {
        let mut syslog = Syslog::new(Target::Local("/nowhere".into()), 3, 6, "x", 100);
        assert!(syslog.connect().is_err());
        assert_eq!(syslog.remark(), None);
        assert_eq!(syslog.message("host", &[b'x'; 200]).len(), 100);
        assert_eq!(syslog.remark().unwrap(), "1 lines were cut, because a message has at most 100 bytes.");
    }
}
