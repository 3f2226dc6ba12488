//! Expectations, created by real helpers and by commands: reported, listed, looked up and deleted alike.

use crate::conformance::compare::{Both, Report, Setting, words};
use flowgate_test_support::traffic::{FTP, TFTP, Traffic, socket};
use flowgate_test_support::{Namespace, Outcome, Program};

/// Returns the outcomes of listing, looking up, deleting and flushing the expectations of an FTP and a TFTP helper, by
/// one program.
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
        // The two namespaces use different ports.
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

/// Replaces the remaining timeout and the master's ephemeral ports.
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

/// The same table, listed in every way that expectations support.
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

/// Port of the client in [`by_hand`].
const CLIENT: u16 = 7001;

/// For each family: its name, an address, the full mask, a wider mask, the network of that mask, and a nearby address.
const FAMILIES: [[&str; 6]; 2] = [
    ["ipv4", "10.9.0.1", "255.255.255.255", "255.255.0.0", "10.9.0.0/16", "10.9.77.1"],
    [
        "ipv6",
        "2001:db8:9::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "ffff:ffff:ffff::",
        "2001:db8:9::/48",
        "2001:db8:9:77::1",
    ],
];

/// Valid commands on expectations of a TFTP connection from [`CLIENT`].
fn commands_by_hand([family, address, whole, wide, network, nearby]: [&str; 6]) -> Vec<String> {
    let ends = format!("-p udp -s {address} -d {address}");
    let create = |rest: String| format!("-I expect -t 300 {ends} --sport {CLIENT} --dport 6969 {rest}");
    let key = |port| format!("{ends} --sport 0 --dport {port} --reply-port-src 1 --reply-port-dst 2");
    let list = || format!("-L expect -f {family}");
    let exact = |port| {
        format!(
            "--tuple-src {address} --tuple-dst {address} --tuple-port-src 0 --tuple-port-dst {port} --mask-src {whole} --mask-dst {whole} --mask-port-src 0 --mask-port-dst 65535"
        )
    };
    vec![
        create(exact(5001)),
        create(exact(5001)),
        list(),
        list() + " -o xml",
        list() + " -o save",
        list() + " -o extended,id,labels,ktimestamp",
        "-C expect".into(),
        format!("-G expect {}", key(5001)),
        format!("-G expect {}", key(5002)),
        format!("-G expect {} -r {nearby} -q {nearby}", key(5001)),
        create(exact(5002) + " -u ASSURED"),
        list(),
        create(exact(5003) + &format!(" -r {nearby} -q {nearby} -u SEEN_REPLY,UNSET")),
        list(),
        // A network instead of an address and a mask.
        create(format!(
            "--tuple-src {network} --tuple-dst {network} --tuple-port-src 0 --tuple-port-dst 5004 --mask-port-src 0 --mask-port-dst 65535"
        )),
        list() + " -o xml",
        create(format!(
            "--tuple-src {nearby} --tuple-dst {address} --tuple-port-src 1234 --tuple-port-dst 5005 --mask-src {wide} --mask-dst {wide} --mask-port-src 65535 --mask-port-dst 255"
        )),
        list(),
        list() + " -o xml",
        create(format!(
            "--tuple-src {nearby} --tuple-dst {address} --tuple-port-src 0 --tuple-port-dst 4464 --mask-src {whole} --mask-dst {whole} --mask-port-src 0 --mask-port-dst 65535"
        )),
        list(),
        format!("-D expect {}", key(5999)),
        format!("-D expect {}", key(4464)),
        list(),
        create(exact(5006)),
        format!("-D expect {}", key(5006)),
        format!("-D expect {}", key(5006)),
        list(),
        // A master that does not exist, and one without a helper.
        format!("-I expect -t 300 {ends} --sport 9 --dport 6969 {}", exact(5007)),
        format!("-I -t 600 {ends} --sport 9 --dport 10"),
        format!("-I expect -t 300 {ends} --sport 9 --dport 10 {}", exact(5007)),
        format!(
            "-I -t 600 -s {address} -d {nearby} -p sctp --sport 1 --dport 2 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2"
        ),
        format!(
            "-I expect -t 300 -s {address} -d {nearby} -p sctp --sport 1 --dport 2 --orig-vtag 1 --reply-vtag 2 {}",
            exact(5007)
        ),
        format!("-I expect -t 300 -s {address} -d {nearby} -p dccp --sport 1 --dport 2 --role client {}", exact(5007)),
        format!("-I -t 600 -s {address} -d {nearby} -p gre --srckey 1 --dstkey 2"),
        format!(
            "-I expect -t 300 -s {address} -d {nearby} -p gre --srckey 1 --dstkey 2 --reply-key-src 2 --reply-key-dst 1 --tuple-src {address} --tuple-dst {address} --tuple-key-src 1 --tuple-key-dst 2 --mask-src {whole} --mask-dst {whole} --mask-key-src 0xffff --mask-key-dst 0xffff"
        ),
        format!("-I -t 600 -s {address} -d {nearby} -p 50"),
        format!(
            "-I expect -t 300 -s {address} -d {nearby} -p 50 --tuple-src {address} --tuple-dst {address} --mask-src {whole} --mask-dst {whole}"
        ),
        format!("-G expect -p gre -s {address} -d {address} --srckey 1 --dstkey 2 --reply-key-src 2 --reply-key-dst 1"),
        format!("-D expect -p 50 -s {address} -d {address}"),
        list(),
        create(exact(5008)),
        "-F expect".into(),
        list(),
        // Deleting an entry also deletes its expectations.
        create(exact(5009)),
        format!("-D {ends} --dport 6969"),
        list(),
    ]
}

/// Returns the outcomes of commands on expectations of both families that are created by commands, by one program.
fn by_hand(program: &Program) -> Vec<(String, Outcome)> {
    Namespace::run(|namespace| {
        namespace.keep_entries();
        let mut traffic = Traffic::prepare(namespace);
        let mut outcomes = Vec::new();
        for family in FAMILIES {
            traffic.tftp_from(&socket(family[1], CLIENT), &socket(family[1], TFTP));
            Program::new("conntrack").must(&["-F", "expect"]);
            for line in commands_by_hand(family) {
                let outcome = program.run(&words(&line));
                outcomes.push((line, outcome));
            }
        }
        outcomes
    })
}

#[test]
fn expectations_by_hand() {
    let both = Both::new();
    let mut report = Report::new("expectations by hand");
    let (theirs, ours) = (by_hand(&both.theirs), by_hand(&both.ours));
    let listed = theirs.iter().filter(|(line, outcome)| line.starts_with("-L") && !outcome.stdout.is_empty()).count();
    assert!(listed > 15, "in {listed} listings only there is anything to compare");
    for ((line, theirs), (_, ours)) in theirs.iter().zip(&ours) {
        report.outcomes(line, theirs, ours);
    }
    report.finish();
}

/// An intended difference from 1.4.7, which uses the upper half of the expected port as the expected protocol; and from
/// any version for SCTP and DCCP, which have no helper to test this with.
#[test]
fn the_expected_protocol_is_the_one_given() {
    let both = Both::new();
    let old = Both::version() == "1.4.7";
    for (program, protocol) in [(&both.theirs, if old { "proto=19 " } else { "proto=6 " }), (&both.ours, "proto=6 ")] {
        Namespace::run(|namespace| {
            let mut traffic = Traffic::prepare(namespace);
            traffic.ftp(&socket("10.9.0.1", FTP), &socket("10.9.0.1", FTP), false);
            let conntrack = Program::new("conntrack");
            conntrack.must(&["-F", "expect"]);
            let listed = conntrack.must(&["-L", "-p", "tcp", "--dport", "2121"]);
            let port =
                listed.split(" sport=").nth(1).and_then(|rest| rest.split(' ').next()).expect("the master's port");
            program.must(&words(&format!(
                "-I expect -t 300 -p tcp -s 10.9.0.1 -d 10.9.0.1 --sport {port} --dport 2121 --tuple-src 10.9.0.1 --tuple-dst 10.9.0.1 --tuple-port-src 0 --tuple-port-dst 5003 --mask-src 255.255.255.255 --mask-dst 255.255.255.255 --mask-port-src 0 --mask-port-dst 65535"
            )));
            let listed = conntrack.must(&["-L", "expect"]);
            assert!(listed.contains(protocol), "{}: {listed}", program.path.display());
        });
    }
}
