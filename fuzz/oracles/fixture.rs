//! Arbitrary text as a fixture: nothing panics, rows form a consistent table, errors have positions within the text,
//! and memory and time for reading are proportional to the text.

use flowgate_fixture::{expectations, flows};
use flowgate_model::{Label, check};

use super::{input::Input, linear::linear, text::text};

const EXAMPLES: &[&[u8]] = &[
    include_bytes!("../../examples/fixtures/events.txt"),
    include_bytes!("../../examples/fixtures/flows.txt"),
    include_bytes!("../../examples/heavy-tcp/flows.txt"),
    b"-A -t 100 -u SEEN_REPLY -s 10.0.0.1 -d 10.0.0.2 -r 10.0.0.2 -q 10.0.0.1 -p tcp --sport 1 --dport 80 --reply-port-src 80 --reply-port-dst 1 --state SYN_SENT -m 5\n",
    b"{\"family\":\"ipv4\",\"protocol\":\"tcp\",\"original\":{\"source\":\"10.0.0.1\",\"destination\":\"10.0.0.2\",\"source_port\":1,\"destination_port\":2},\
      \"reply\":{\"source\":\"10.0.0.2\",\"destination\":\"10.0.0.1\",\"source_port\":2,\"destination_port\":1},\"timeout\":5,\"labels\":[\"a\"],\"status\":[\"assured\"]}\n",
    b"297 proto=6 src=127.0.0.1 dst=127.0.0.1 sport=0 dport=41279 mask-src=255.255.255.255 mask-dst=255.255.255.255 sport=0 dport=65535 \
      master-src=127.0.0.1 master-dst=127.0.0.1 sport=46866 dport=21 class=0 helper=ftp\n",
    b"ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 packets=1 bytes=60 src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 \
      packets=1 bytes=60 [ASSURED] mark=0 secctx=system_u:object_r:unlabeled_t:s0 zone=5 delta-time=3 use=2\n",
];

const WORDS: &[&str] = &[
    "tcp 6 ",
    "src=",
    "dst=",
    "sport=",
    "dport=",
    "mark=",
    "use=",
    "zone-orig=",
    "id=",
    "packets=",
    "labels=a,b",
    "[UNREPLIED]",
    "[ASSURED]",
    "[NEW] ",
    "[DESTROY] ",
    "helper=",
    "secctx=",
    "[start=",
    "[1750000000.123456]\t",
    "delta-time=",
    "{\"",
    "\":",
    "\"original\":{",
    "\"labels\":[",
    "null",
    "-A ",
    "-I ",
    "--state ",
    "-u ",
    "class=",
    "mask-src=",
    "master-src=",
    "conntrack v1 have been shown.",
    "10.0.0.1",
    "::1",
    "icmp 1 ",
    "type=8 code=0 id=1 ",
];

/// Reads a text derived from the input.
///
/// # Panics
/// If one of these properties does not hold.
pub(crate) fn run(input: &[u8]) {
    let bytes = text(&mut Input(input), EXAMPLES, WORDS);
    let labels = [Label { bit: 0, name: "a".into() }, Label { bit: 127, name: "b".into() }];
    let of_flows = linear("flows", bytes.len(), || flows("f.txt", &bytes, &labels));
    let of_expectations = linear("expectations", bytes.len(), || expectations("f.txt", &bytes));
    if let Ok(rows) = &of_flows {
        check::flows(rows).expect("consistent columns of flows");
    }
    if let Ok(rows) = &of_expectations {
        check::expectations(rows).expect("consistent columns of expectations");
    }
    for error in [of_flows.err(), of_expectations.err()].into_iter().flatten() {
        let line = bytes.split(|&byte| byte == b'\n').nth(error.line - 1).expect("a line of the file");
        let columns = String::from_utf8_lossy(line).chars().count() + 1;
        assert!((1..=columns).contains(&error.column), "{error:?}: the line has {columns} columns");
        assert!(!error.wrong.is_empty() && !error.right.is_empty(), "{error:?}");
    }
}
