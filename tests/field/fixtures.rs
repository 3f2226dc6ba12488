//! Lines that people paste from a terminal, a tracker or /proc/net/nf_conntrack, as fixtures.

use flowgate_fixture::flows;
use flowgate_model::{field, status};

/// Of /proc/net/nf_conntrack and of `conntrack -L`: a line of every protocol, of drivers, old kernels and SELinux.
const PASTED: &[&str] = &[
    "ipv4     2 gre      47 177 timeout=30, stream_timeout=180 src=192.0.2.1 dst=198.51.100.2 srckey=0x0 dstkey=0x4d2 src=198.51.100.2 dst=192.0.2.1 srckey=0x4d2 dstkey=0x0 [ASSURED] mark=0 zone=0 use=2",
    "ipv4     2 tcp      6 src=192.0.2.1 dst=198.51.100.2 sport=40000 dport=443 packets=17 bytes=3015 src=198.51.100.2 dst=203.0.113.9 sport=443 dport=40000 packets=16 bytes=9000 [HW_OFFLOAD] mark=0 zone=0 use=3",
    "ipv6     10 udp      17 src=2001:0db8:0000:0000:0000:0000:0000:0001 dst=2001:0db8:0000:0000:0000:0000:0000:0002 sport=5000 dport=443 src=2001:0db8:0000:0000:0000:0000:0000:0002 dst=2001:0db8:0000:0000:0000:0000:0000:0001 sport=443 dport=5000 [OFFLOAD] mark=16 secctx=system_u:object_r:unlabeled_t:s0:c1,c2 zone=3 use=3",
    "ipv4     2 tcp      6 431999 ESTABLISHED src=192.0.2.1 dst=198.51.100.2 sport=1 dport=2 src=198.51.100.2 dst=192.0.2.1 sport=2 dport=1 [ASSURED] mark=0 secmark=0 use=1",
    "ipv4     2 udp      17 29 src=192.0.2.1 dst=198.51.100.2 sport=1 dport=2 zone-orig=6 [UNREPLIED] src=198.51.100.2 dst=192.0.2.1 sport=2 dport=1 mark=0 use=2",
    "ipv4     2 udp      17 29 src=192.0.2.1 dst=198.51.100.2 sport=1 dport=2 [UNREPLIED] src=198.51.100.2 dst=192.0.2.1 sport=2 dport=1 zone-reply=7 mark=0 use=2",
    "ipv4     2 udplite  136 29 src=192.0.2.1 dst=198.51.100.2 sport=1 dport=2 [UNREPLIED] src=198.51.100.2 dst=192.0.2.1 sport=2 dport=1 mark=0 zone=0 use=2",
    "ipv4     2 sctp     132 29 COOKIE_WAIT src=192.0.2.1 dst=198.51.100.2 sport=1 dport=2 [UNREPLIED] src=198.51.100.2 dst=192.0.2.1 sport=2 dport=1 mark=0 zone=0 use=2",
    "ipv4     2 dccp     33 29 RESPOND src=192.0.2.1 dst=198.51.100.2 sport=1 dport=2 [UNREPLIED] src=198.51.100.2 dst=192.0.2.1 sport=2 dport=1 mark=0 zone=0 use=2",
    "ipv4     2 icmp     1 29 src=192.0.2.1 dst=198.51.100.2 type=8 code=0 id=4711 src=198.51.100.2 dst=192.0.2.1 type=0 code=0 id=4711 mark=0 zone=0 use=2",
    "ipv6     10 icmpv6   58 29 src=2001:0db8:0000:0000:0000:0000:0000:0001 dst=2001:0db8:0000:0000:0000:0000:0000:0002 type=128 code=0 id=5 [UNREPLIED] src=2001:0db8:0000:0000:0000:0000:0000:0002 dst=2001:0db8:0000:0000:0000:0000:0000:0001 type=129 code=0 id=5 mark=0 zone=0 use=2",
    "ipv4     2 unknown  2 599 src=192.0.2.1 dst=224.0.0.22 [UNREPLIED] src=224.0.0.22 dst=192.0.2.1 mark=0 zone=0 use=2",
    "ipv4     2 unknown  50 599 src=192.0.2.1 dst=198.51.100.2 [UNREPLIED] src=198.51.100.2 dst=192.0.2.1 mark=0 zone=0 use=2",
    "tcp      6 117 TIME_WAIT src=192.0.2.1 dst=198.51.100.2 sport=1 dport=2 packets=6 bytes=400 src=198.51.100.2 dst=192.0.2.1 sport=2 dport=1 packets=5 bytes=700 [ASSURED] mark=0 secmark=0 use=1",
];

/// Whatever a terminal, a mail or an editor makes of the blanks between words.
fn respaced(line: &str) -> [String; 6] {
    let words: Vec<&str> = line.split_whitespace().collect();
    [
        words.join(" "),
        words.join("\t"),
        words.join("   "),
        format!("  \t {line}"),
        format!("{line}  \t"),
        format!("{line}\r"),
    ]
}

#[test]
fn case_21_lines_of_all_protocols_are_read_with_whatever_blanks() {
    for line in PASTED {
        let read = flows("pasted", line.as_bytes(), &[]).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(read.length, 1, "{line}");
        for other in respaced(line) {
            let again = flows("pasted", other.as_bytes(), &[]).unwrap_or_else(|error| panic!("{other:?}: {error}"));
            assert_eq!(again, read, "{other:?}");
        }
    }
    let all = flows("pasted", PASTED.join("\n").as_bytes(), &[]).unwrap();
    assert_eq!(all.length as usize, PASTED.len());
    // Offloaded flows have no timeout; the zone 0 of the kernel is none.
    for row in [1, 2] {
        assert_eq!(all.has[row] & (field::TIMEOUT | field::STATE), 0);
        assert_ne!(all.status[row] & status::OFFLOAD, 0);
    }
    assert_ne!(all.status[1] & status::HW_OFFLOAD, 0);
    assert_eq!((all.has[0] & field::ZONE, all.timeout[0]), (0, 177));
    let zones = all.zones.as_ref().unwrap();
    assert_eq!((zones.zone[2], zones.original[4], zones.reply[5]), (3, 6, 7));
}

/// What is no line of a flow is told with its place, the word, and what would be right.
#[test]
fn case_21_what_is_no_flow_is_told_with_its_place() {
    let line = PASTED[0];
    for (from, to, wrong) in [
        ("timeout=30,", "timeout=x,", "timeout=x,"),
        ("stream_timeout=180", "stream_timeout=", "stream_timeout="),
        ("srckey=0x0", "srckey=0x10000", "0x10000"),
        ("[ASSURED]", "[ASURED]", "[ASURED]"),
        ("mark=0", "mark=-1", "-1"),
        ("mark=0", "mark=4294967296", "4294967296"),
        ("zone=0", "zone=65536", "65536"),
        (" 47 ", " 48 ", "48"),
        ("ipv4     2", "ipv4     10", "10"),
        ("dst=198.51.100.2", "dst=198.51.100.256", "198.51.100.256"),
        ("use=2", "use=2x", "2x"),
    ] {
        assert!(line.contains(from), "{from}");
        let text = format!("{}\n{}\n", PASTED[3], line.replacen(from, to, 1));
        let error = flows("pasted", text.as_bytes(), &[]).unwrap_err();
        assert_eq!((error.line, error.file.as_str()), (2, "pasted"), "{to}: {error}");
        assert!(error.wrong.contains(wrong) && !error.right.is_empty(), "{to}: {error}");
    }
}
