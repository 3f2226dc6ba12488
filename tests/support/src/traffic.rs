//! Real traffic between addresses of loopback: TCP, UDP, ICMP, both kinds of NAT, helpers and their expectations.

use crate::{Namespace, Program, entries};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

/// Addresses of the servers, in both families.
pub const SERVERS: [&str; 2] = ["10.9.0.1", "2001:db8:9::1"];
/// Addresses whose traffic is translated to [`SERVERS`] by destination NAT, for TCP port 80 and UDP port 5353.
pub const DOORS: [&str; 2] = ["10.9.0.80", "2001:db8:9::80"];
/// Source addresses of UDP to port 5000 after source NAT.
pub const OUTSIDES: [&str; 2] = ["10.9.0.77", "2001:db8:9::77"];
/// Port of a server that implements as much of FTP as the helper needs.
pub const FTP: u16 = 2121;
/// Port of the TFTP helper.
pub const TFTP: u16 = 6969;

/// The rules: connection tracking, helpers, both kinds of NAT, and TCP port 81, which never answers.
const RULES: &str = r#"
table inet traffic {
    ct helper look-at-ftp { type "ftp" protocol tcp; }
    ct helper look-at-tftp { type "tftp" protocol udp; }
    chain output {
        type filter hook output priority filter;
        ct state new tcp dport 2121 ct helper set "look-at-ftp"
        ct state new udp dport 6969 ct helper set "look-at-tftp"
    }
    chain input {
        type filter hook input priority filter;
        tcp dport 81 drop
    }
    chain doors {
        type nat hook output priority -100;
        ip daddr 10.9.0.80 tcp dport 80 dnat ip to 10.9.0.1:8080
        ip daddr 10.9.0.80 tcp dport 2121 dnat ip to 10.9.0.1:2121
        ip daddr 10.9.0.80 udp dport 5353 dnat ip to 10.9.0.1:5300
        ip6 daddr 2001:db8:9::80 tcp dport 80 dnat ip6 to [2001:db8:9::1]:8080
        ip6 daddr 2001:db8:9::80 udp dport 5353 dnat ip6 to [2001:db8:9::1]:5300
    }
    chain outsides {
        type nat hook postrouting priority 100;
        ip daddr 10.9.0.1 udp dport 5000 snat ip to 10.9.0.77
        ip6 daddr 2001:db8:9::1 udp dport 5000 snat ip6 to 2001:db8:9::77
    }
}
"#;

/// Time after which a datagram counts as lost.
const ARRIVAL: Duration = Duration::from_secs(2);

/// Sends a datagram until it arrives; returns its content and source at the receiver. Even on loopback some are lost.
fn deliver(from: &UdpSocket, what: &[u8], to: &SocketAddr, at: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    at.set_read_timeout(Some(ARRIVAL)).expect("a limit");
    let mut buffer = [0; 128];
    for _ in 0..15 {
        from.send_to(what, to).expect("sending");
        if let Ok((length, source)) = at.recv_from(&mut buffer) {
            return (buffer[..length].to_vec(), source);
        }
    }
    panic!("no datagram arrives from {:?} at {to}", from.local_addr());
}

/// Open sockets, whose entries keep their state.
#[derive(Debug, Default)]
pub struct Traffic {
    streams: Vec<TcpStream>,
    listeners: Vec<TcpListener>,
    datagrams: Vec<UdpSocket>,
}

impl Traffic {
    /// Sets up addresses and rules, without traffic.
    pub fn prepare(namespace: &Namespace) -> Self {
        for address in ["10.9.0.1/32", "10.9.0.77/32", "10.9.0.80/32"] {
            namespace.ip(&format!("address add {address} dev lo"));
        }
        for address in ["2001:db8:9::1/128", "2001:db8:9::77/128", "2001:db8:9::80/128"] {
            namespace.ip(&format!("-6 address add {address} dev lo nodad"));
        }
        namespace.nft(RULES);
        Self::default()
    }

    /// Fills the table with everything it can hold: protocols, states, NAT, zones, marks, labels, both families, real
    /// traffic.
    pub fn in_a_full_table(namespace: &Namespace) -> Self {
        namespace.account(true);
        namespace.keep_entries();
        namespace.label_map(entries::LABEL_MAP);
        entries::allow_labels(namespace);
        for lines in [entries::every_protocol(), entries::nat(), entries::zones(), entries::marks()] {
            entries::load(namespace, &lines);
        }
        entries::labelled(namespace);
        Self::everything(namespace)
    }

    /// Generates all traffic of the other methods.
    pub fn everything(namespace: &Namespace) -> Self {
        let mut traffic = Self::prepare(namespace);
        for family in 0..2 {
            traffic.tcp_open(&socket(SERVERS[family], 8080), &socket(DOORS[family], 80));
            traffic.tcp_open(&socket(SERVERS[family], 8081), &socket(SERVERS[family], 8081));
            traffic.tcp_closed(&socket(SERVERS[family], 8082));
            traffic.tcp_refused(&socket(SERVERS[family], 8083));
            traffic.tcp_unanswered(&socket(SERVERS[family], 81));
            traffic.udp(&socket(SERVERS[family], 5300), &socket(DOORS[family], 5353), true);
            traffic.udp(&socket(SERVERS[family], 5000), &socket(SERVERS[family], 5000), true);
            traffic.udp(&socket(SERVERS[family], 5001), &socket(SERVERS[family], 5001), false);
            traffic.tftp(&socket(SERVERS[family], TFTP));
        }
        traffic.ftp(&socket(SERVERS[0], FTP), &socket(SERVERS[0], FTP), true);
        traffic.ftp(&socket(SERVERS[0], FTP), &socket(SERVERS[0], FTP), false);
        traffic.ftp(&socket(SERVERS[0], FTP), &socket(DOORS[0], FTP), true);
        ping(SERVERS[0]);
        ping(SERVERS[1]);
        traffic
    }

    /// Opens a TCP connection to `door` that stays open and has carried data both ways.
    pub fn tcp_open(&mut self, server: &SocketAddr, door: &SocketAddr) {
        let listener = listen(server);
        let mut client = connect(door);
        let (mut accepted, _) = listener.accept().expect("the connection");
        exchange(&mut client, &mut accepted);
        self.streams.extend([client, accepted]);
        self.listeners.push(listener);
    }

    /// Opens a TCP connection and closes it on both sides.
    pub fn tcp_closed(&mut self, server: &SocketAddr) {
        let listener = listen(server);
        let mut client = connect(server);
        let (mut accepted, _) = listener.accept().expect("the connection");
        exchange(&mut client, &mut accepted);
        drop(client);
        // The client closes first; otherwise the order would be random.
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut accepted, &mut rest).expect("the client's end");
    }

    /// Opens a TCP connection that is refused with a reset.
    pub fn tcp_refused(&mut self, server: &SocketAddr) {
        assert!(TcpStream::connect(server).is_err(), "nobody listens at {server}");
    }

    /// Opens a TCP connection whose first packet is never answered.
    pub fn tcp_unanswered(&mut self, server: &SocketAddr) {
        assert!(TcpStream::connect_timeout(server, Duration::from_millis(50)).is_err(), "a rule drops {server}");
    }

    /// Sends UDP from a new port to `door`, behind which `server` listens and answers, or not.
    pub fn udp(&mut self, server: &SocketAddr, door: &SocketAddr, answered: bool) {
        let at = UdpSocket::bind(server).unwrap_or_else(|error| panic!("binding UDP {server}: {error}"));
        let client = UdpSocket::bind(socket(SERVERS[usize::from(server.is_ipv6())], 0)).expect("a UDP socket");
        let (_, from) = deliver(&client, b"question", door, &at);
        if answered {
            deliver(&at, b"question", &from, &client);
        }
        self.datagrams.extend([at, client]);
    }

    /// Sends `count` datagrams of eight bytes from a fixed port to another, and as many answers; returns true if all
    /// arrived. Even on loopback some are lost.
    #[must_use]
    pub fn udp_exactly(&mut self, from: &SocketAddr, to: &SocketAddr, count: usize) -> bool {
        let (client, server) =
            (UdpSocket::bind(from).expect("a UDP socket"), UdpSocket::bind(to).expect("a UDP socket"));
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(ARRIVAL)).expect("a limit");
        }
        let mut buffer = [0; 64];
        (0..count).all(|_| {
            client.send_to(b"12345678", to).expect("sending");
            let asked = server.recv_from(&mut buffer).is_ok();
            server.send_to(b"12345678", from).expect("answering");
            asked && client.recv_from(&mut buffer).is_ok()
        })
    }

    /// Requests a file by TFTP, so that the helper expects the answer from another port.
    pub fn tftp(&mut self, server: &SocketAddr) {
        self.tftp_from(&socket(SERVERS[usize::from(server.is_ipv6())], 0), server);
    }

    /// The same from a given address and port.
    pub fn tftp_from(&mut self, client: &SocketAddr, server: &SocketAddr) {
        let at = UdpSocket::bind(server).expect("a UDP socket");
        let client = UdpSocket::bind(client).expect("a UDP socket");
        // Opcode 1 is a read request (RFC 1350, section 5).
        deliver(&client, b"\0\x01flows\0octet\0", server, &at);
        self.datagrams.extend([at, client]);
    }

    /// Sends more TFTP requests to a server that [`Traffic::tftp`] has set up, each from its own port: as many entries
    /// with a helper, and as many expectations.
    pub fn tftp_more(&mut self, server: &SocketAddr, count: usize) {
        for _ in 0..count {
            // The datagrams are not read: the server's queue overflows, which does not affect connection tracking.
            let client = UdpSocket::bind(socket(SERVERS[usize::from(server.is_ipv6())], 0)).expect("a UDP socket");
            client.send_to(b"\0\x01flows\0octet\0", server).expect("sending");
        }
    }

    /// Opens an FTP control connection in which the server announces a data port. If `fetched`, the client connects to
    /// it, so that the expected connection exists beside its master; otherwise the expectation stays. If `door` leads
    /// to the server by NAT, the helper rewrites the announcement, and the entry gets a sequence adjustment.
    pub fn ftp(&mut self, server: &SocketAddr, door: &SocketAddr, fetched: bool) {
        let control = listen(server);
        let data = listen(&SocketAddr::new(server.ip(), 0));
        let port = data.local_addr().expect("an address").port();
        let mut client = BufReader::new(connect(door));
        let (mut accepted, _) = control.accept().expect("the connection");
        let mut line = String::new();
        let host = server.ip().to_string().replace('.', ",");
        // Replies 220 and 227 of RFC 959, section 4.2.
        for reply in
            ["220 ready\r\n".into(), format!("227 Entering Passive Mode ({host},{},{})\r\n", port >> 8, port & 0xff)]
        {
            accepted.write_all(reply.as_bytes()).expect("replying");
            client.read_line(&mut line).expect("the reply");
            client.get_mut().write_all(b"NOOP\r\n").expect("a command");
            BufReader::new(&mut accepted).read_line(&mut String::new()).expect("the command");
        }
        if fetched {
            let client = TcpStream::connect((door.ip(), port)).expect("connecting to the announced port");
            self.streams.extend([client, data.accept().expect("the expected connection").0]);
        }
        self.streams.extend([client.into_inner(), accepted]);
        self.listeners.extend([data]);
    }
}

/// Sends an echo request of ICMP or ICMPv6, which is answered.
pub fn ping(address: &str) {
    Program::new("ping").must(&["-c", "1", "-W", "5", address]);
}

/// Returns the socket address of an address and a port.
pub fn socket(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

/// Listens, and retries while the address is in use: a program that another test is starting holds a copy of a listener
/// that has been closed here until it is executed.
fn listen(address: &SocketAddr) -> TcpListener {
    for _ in 0..100 {
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) if error.kind() == ErrorKind::AddrInUse => thread::sleep(Duration::from_millis(20)),
            Err(error) => panic!("listening at {address}: {error}"),
        }
    }
    panic!("listening at {address}: the address stays in use")
}

/// Connects, and retries while there is no route, as for a moment after an address was added on a loaded machine.
fn connect(address: &SocketAddr) -> TcpStream {
    for _ in 0..100 {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) if error.kind() == ErrorKind::NetworkUnreachable => thread::sleep(Duration::from_millis(20)),
            Err(error) => panic!("connecting to {address}: {error}"),
        }
    }
    panic!("connecting to {address}: the network stays unreachable")
}

/// Sends a line each way.
fn exchange(client: &mut TcpStream, server: &mut TcpStream) {
    let mut line = String::new();
    client.write_all(b"question\n").expect("sending");
    BufReader::new(&mut *server).read_line(&mut line).expect("receiving");
    server.write_all(b"answer\n").expect("sending");
    BufReader::new(client).read_line(&mut line).expect("receiving");
}
