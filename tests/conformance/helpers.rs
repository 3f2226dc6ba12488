//! Expectations that real helpers make: seen, shown, looked up and deleted alike.

use crate::compare::{Both, Report, Setting, words};
use flowgate_test_support::traffic::{FTP, TFTP, Traffic, socket};
use flowgate_test_support::{Namespace, Outcome, Program};

/// The outcomes of listing, looking up, deleting and flushing what an FTP and a TFTP helper expect, by one program.
fn life(program: &Program) -> Vec<(String, Outcome)> {
    Namespace::run(|namespace| {
        namespace.keep_entries();
        let mut traffic = Traffic::prepare(namespace);
        traffic.ftp(&socket("10.9.0.1", FTP), &socket("10.9.0.1", FTP), false);
        traffic.tftp(&socket("10.9.0.1", TFTP));
        let listed = Program::new("conntrack").must(&["-L", "expect"]);
        assert_eq!(listed.lines().count(), 2, "{listed}");
        let port = |protocol: &str| {
            let line =
                listed.lines().find(|line| line.contains(&format!("proto={protocol} "))).expect("the expectation");
            line.split(" dport=").nth(1).and_then(|rest| rest.split(' ').next()).expect("its port").to_owned()
        };
        let (tcp, udp) = (port("6"), port("17"));
        let key = |protocol: &str, port: &str| {
            format!(
                "-p {protocol} -s 10.9.0.1 -d 10.9.0.1 --sport 0 --dport {port} --reply-port-src 0 --reply-port-dst 0"
            )
        };
        let script = [
            "-C expect".to_owned(),
            format!("-G expect {}", key("tcp", &tcp)),
            format!("-G expect {}", key("udp", &udp)),
            format!("-G expect {}", key("udp", "9")),
            format!("-D expect {}", key("tcp", &tcp)),
            format!("-D expect {}", key("tcp", &tcp)),
            "-C expect".into(),
            "-F expect".into(),
            "-C expect".into(),
            "-L expect".into(),
        ];
        // The ports differ between the two namespaces.
        let steady = |text: &str| text.replace(&tcp, "TCPPORT").replace(&udp, "UDPPORT");
        script
            .iter()
            .map(|line| {
                let outcome = program.run(&words(line));
                let stdout = hide_ephemeral(&steady(&outcome.text())).into_bytes();
                (steady(line), Outcome { stdout, ..outcome })
            })
            .collect()
    })
}

/// Takes out the remaining timeout and the master's ephemeral ports.
fn hide_ephemeral(text: &str) -> String {
    text.lines()
        .map(|line| {
            let words = line.split(' ').enumerate().map(|(index, word)| match word {
                number if index == 0 && number.parse::<u32>().is_ok() => "TIME".to_owned(),
                port if port.starts_with("sport=") || port.starts_with("dport=") => {
                    let number: u32 = port[6..].parse().unwrap_or_default();
                    if number >= 32768 && number != 65535 {
                        format!("{}EPHEMERAL", &port[..6])
                    } else {
                        port.to_owned()
                    }
                }
                other => other.to_owned(),
            });
            words.collect::<Vec<_>>().join(" ") + "\n"
        })
        .collect()
}

#[test]
fn expectations_of_real_helpers() {
    let both = Both::new();
    let mut report = Report::new("expectations of real helpers");
    for ((line, theirs), (_, ours)) in life(&both.theirs).iter().zip(life(&both.ours)) {
        report.outcomes(line, theirs, &ours);
    }
    report.finish();
}

/// One and the same table, listed in every way that expectations can be.
#[test]
fn listings() {
    Namespace::run(|namespace| {
        namespace.keep_entries();
        let mut traffic = Traffic::prepare(namespace);
        traffic.ftp(&socket("10.9.0.1", FTP), &socket("10.9.0.1", FTP), false);
        traffic.tftp(&socket("10.9.0.1", TFTP));
        let mut report = Report::new("listings of expectations");
        for line in [
            "-L expect",
            "-L expect -o xml",
            "-L expect -o id,extended",
            "-L expect -f ipv4",
            "-L expect -f ipv6",
            "-C expect",
            "-S expect",
        ] {
            report.words(namespace, &Setting::default(), line);
        }
        report.finish();
    });
}
