//! Stream sockets as sinks: Unix sockets and TCP.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    outbox::{Connection, Transport},
    resolve,
};

/// Timeout of a connection attempt to one address.
const CONNECT: Duration = Duration::from_secs(5);
/// Timeout of one attempt to send, so that the thread notices the end in time.
pub(super) const SEND: Duration = Duration::from_millis(100);
/// Time that a peer has to close its end of the connection.
const CLOSE: Duration = Duration::from_millis(150);

/// A server at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unix(pub PathBuf);

/// A server at `host:port`. The name is resolved again for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp(pub String);

impl Transport for Unix {
    type Connection = UnixStream;

    fn name(&self) -> String {
        format!("unix {}", self.0.display())
    }

    fn connect(&mut self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.0)?;
        stream.set_write_timeout(Some(SEND))?;
        Ok(stream)
    }
}

impl Transport for Tcp {
    type Connection = TcpStream;

    fn name(&self) -> String {
        format!("tcp {}", self.0)
    }

    fn connect(&mut self) -> io::Result<TcpStream> {
        connect_tcp(&self.0)
    }
}

/// Connects to the first address of a host that answers.
pub(super) fn connect_tcp(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolve::addresses(address)? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                stream.set_write_timeout(Some(SEND))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Connection for UnixStream {
    fn send(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.write(lines)
    }
}

impl Connection for TcpStream {
    fn send(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.write(lines)
    }

    fn close(&mut self) {
        close_tcp(self);
    }
}

/// Shuts down the sending direction, and waits briefly for the peer to read the rest: closing a socket with unread data
/// from the peer resets the connection, and data in flight is lost.
pub(super) fn close_tcp(stream: &mut TcpStream) {
    let until = Instant::now() + CLOSE;
    if stream.shutdown(Shutdown::Write).is_err() || stream.set_read_timeout(Some(CLOSE)).is_err() {
        return;
    }
    let mut nothing = [0; 4096];
    while Instant::now() < until && stream.read(&mut nothing).is_ok_and(|count| count > 0) {}
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        net::TcpListener,
        os::unix::net::UnixListener,
    };

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

    fn start<T: Transport>(transport: T, options: OutboxOptions) -> Outbox {
        Outbox::start(transport, options, &Stop::new().unwrap(), flowgate_base::Warnings::ignored()).unwrap()
    }

    #[test]
    fn tcp_peers_get_all_lines() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sink = start(Tcp(listener.local_addr().unwrap().to_string()), OPTIONS);
        sink.write(b"1\n2\n").unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        // Unread data of the peer at the end of the connection does no harm.
        stream.write_all(b"hello\n").unwrap();
        sink.write(b"3\n").unwrap();
        sink.finish().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "1\n2\n3\n");
    }

    #[test]
    fn a_server_that_comes_later_gets_what_was_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut sink = start(Unix(path.clone()), OPTIONS);
        sink.write(b"early\n").unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "early");
        // The server ends, and another one starts.
        drop((lines, listener));
        std::fs::remove_file(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        sink.write(b"late\n").unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        sink.finish().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "late\n");
    }

    #[test]
    fn a_peer_that_does_not_read_holds_up_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut sink = start(Unix(path), OutboxOptions { capacity: 1 << 16, ..OPTIONS });
        let (mut stream, _) = listener.accept().unwrap();
        let lines = 20_000;
        for number in 0..lines {
            sink.write(format!("{number:0>99}\n").as_bytes()).unwrap();
        }
        let dropped = sink.dropped();
        assert!(dropped > 0, "2 MB do not fit into a socket and a buffer of 64 KiB");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        });
        sink.finish().unwrap();
        drop(sink);
        let text = reader.join().unwrap().unwrap();
        assert!(text.lines().all(|line| line.len() == 99), "lines are whole");
        assert_eq!(text.lines().count() as u64 + dropped, lines);
    }
}
