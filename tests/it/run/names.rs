//! Sinks whose peers have names: the hosts file and the DNS, whatever name services the machine uses.

use std::{
    fs,
    io::Read as _,
    net::{TcpListener, UdpSocket},
    thread,
    time::Duration,
};

use flowgate_test_support::{Namespace, Program, entries};

use crate::run::{flowgate, must, plugins};

/// Returns true if the program has no dynamic loader.
fn linked_statically() -> bool {
    Program::new("ldd").run(&[flowgate().path.to_str().unwrap()]).text().contains("statically linked")
}

/// Replaces a file in /etc for the namespace.
fn replace(namespace: &Namespace, name: &str, text: &str) {
    let path = namespace.directory().join(name);
    fs::write(&path, text).unwrap();
    Program::new("mount").must(&["--bind", path.to_str().unwrap(), &format!("/etc/{name}")]);
}

/// Runs a DNS server on 127.0.0.1 that resolves `logs.example` to 127.0.0.1, and any other name to NXDOMAIN.
fn name_server() {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut query) {
            let question = &query[12..length.min(12 + 14 + 4)];
            let known = question.starts_with(b"\x04logs\x07example\x00");
            let asks_for_v4 = known && question[14..16] == [0, 1];
            let mut answer = query[..2].to_vec();
            answer.extend([0x84, if known { 0 } else { 3 }, 0, 1, 0, u8::from(asks_for_v4), 0, 0, 0, 0]);
            answer.extend(question);
            if asks_for_v4 {
                // The name of the question by reference; type A, class IN, a TTL of a minute, four bytes.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, peer);
        }
    });
}

#[test]
fn names_are_looked_up_in_the_hosts_file_and_in_the_dns() {
    // With a plugin of the user, so that only the listed system calls are available to the program.
    let plugin = plugins::built("hostile");
    for stage in [String::new(), format!("[[stage]]\nplugin = '{}'\n", plugin.display())] {
        Namespace::run(|namespace| {
            entries::load(namespace, &entries::every_protocol());
            replace(namespace, "hosts", "127.0.0.1 collector.test\n");
            replace(namespace, "resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:20\n");
            // A name service that does not exist. A statically linked program does not even look for it.
            let end = if linked_statically() { "[UNAVAIL=return]" } else { "" };
            replace(namespace, "nsswitch.conf", &format!("hosts: nowhere {end} files dns\n"));
            name_server();
            let collector = TcpListener::bind("127.0.0.1:0").unwrap();
            let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
            daemon.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let (tcp, udp) = (collector.local_addr().unwrap().port(), daemon.local_addr().unwrap().port());
            let reader = thread::spawn(move || {
                let mut text = String::new();
                collector.accept().unwrap().0.read_to_string(&mut text).map(|_| text)
            });
            let text = must(
                namespace,
                &format!(
                    "[source]\nkind = 'dump'\nselect = '-p tcp -f ipv4'\n{stage}\
                     [[sink]]\nkind = 'stdout'\n\
                     [[sink]]\nkind = 'tcp'\naddress = 'collector.test:{tcp}'\nlinger = '60s'\n\
                     [[sink]]\nkind = 'syslog'\naddress = 'udp://logs.example:{udp}'\nlinger = '60s'\n"
                ),
            );
            assert_eq!(reader.join().unwrap().unwrap(), text);
            for line in text.lines() {
                let mut message = [0; 4096];
                let length = daemon.recv(&mut message).unwrap();
                assert!(String::from_utf8_lossy(&message[..length]).ends_with(line), "{line}");
            }
            assert!(text.lines().count() > 5, "{text}");
        });
    }
}
