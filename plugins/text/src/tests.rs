use flowgate_sdk::{
    Setup,
    bindings::flowgate::conntrack::setup::{Label, OptionValue},
    event, expectation_field, field, protocol, status,
    testing::{Expected, Row, Tuple, batch, expectations},
};

use super::*;

fn plain(options: &[&str]) -> Plain {
    let labels = [(0, "eth0-in"), (2, "one one"), (5, "two-2")];
    let with_labels = options.contains(&"labels");
    Plain::configure(&Setup {
        options: options.iter().map(|&name| OptionValue { name: name.into(), value: String::new() }).collect(),
        labels: if with_labels {
            labels.map(|(bit, name)| Label { bit, name: name.into() }).into()
        } else {
            Vec::new()
        },
        ..Setup::default()
    })
    .unwrap()
}

fn render(options: &[&str], rows: impl IntoIterator<Item = Row>) -> String {
    let mut plain = plain(options);
    let mut batch = batch(rows);
    batch.time = NOW;
    String::from_utf8(FlowFormat::render(&mut plain, &batch)).unwrap()
}

fn line(options: &[&str], row: Row) -> String {
    render(options, [row])
}

/// 2026-11-24 00:29:30.5 UTC.
const NOW: u64 = 1_795_480_170_500_000_000;

fn common(row: Row, timeout: u32, bits: u32) -> Row {
    row.set(field::TIMEOUT | field::STATUS | field::MARK | field::USE, |r| {
        r.timeout = timeout;
        r.status = bits;
        r.use_count = 1;
    })
}

fn established(row: Row) -> Row {
    row.set(field::STATE, |r| r.state = 3)
}

const BOTH: u32 = status::SEEN_REPLY | status::ASSURED | status::CONFIRMED;
const NEW: u32 = status::CONFIRMED;

fn key_value(key: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (key.into(), value.into())
}

#[test]
fn protocols() {
    let tcp = Row::ipv4(protocol::TCP).original("1.1.1.1", "2.2.2.2", 1000, 80);
    assert_eq!(
        line(&[], established(common(tcp, 599, BOTH))),
        "tcp      6 599 ESTABLISHED src=1.1.1.1 dst=2.2.2.2 sport=1000 dport=80 src=2.2.2.2 dst=1.1.1.1 sport=80 dport=1000 [ASSURED] mark=0 use=1\n"
    );
    let gre = Row::ipv4(protocol::GRE).original("1.1.1.1", "2.2.2.2", 0x10, 0x20);
    assert_eq!(
        line(&[], common(gre, 599, NEW)),
        "gre      47 599 src=1.1.1.1 dst=2.2.2.2 srckey=0x10 dstkey=0x20 [UNREPLIED] src=2.2.2.2 dst=1.1.1.1 srckey=0x20 dstkey=0x10 mark=0 use=1\n"
    );
    let icmpv6 = Row::ipv6(protocol::ICMPV6).original("fe80::1", "2001:db8::2", 78, 128 << 8).reply(
        "2001:db8::2",
        "fe80::1",
        78,
        129 << 8,
    );
    assert_eq!(
        line(&[], common(icmpv6, 599, NEW)),
        "icmpv6   58 599 src=fe80::1 dst=2001:db8::2 type=128 code=0 id=78 [UNREPLIED] src=2001:db8::2 dst=fe80::1 type=129 code=0 id=78 mark=0 use=1\n"
    );
    let udplite = Row::ipv4(protocol::UDPLITE).original("1.1.1.1", "2.2.2.2", 1001, 53);
    assert_eq!(
        line(&[], common(udplite, 599, NEW)),
        "udplite  136 599 src=1.1.1.1 dst=2.2.2.2 sport=1001 dport=53 [UNREPLIED] src=2.2.2.2 dst=1.1.1.1 sport=53 dport=1001 mark=0 use=1\n"
    );
    let other = Row::ipv4(99).original("1.1.1.1", "2.2.2.2", 0, 0).without(field::ORIGINAL_L4 | field::REPLY_L4);
    assert_eq!(
        line(&[], common(other, 599, NEW)),
        "unknown  99 599 src=1.1.1.1 dst=2.2.2.2 [UNREPLIED] src=2.2.2.2 dst=1.1.1.1 mark=0 use=1\n"
    );
    let icmp =
        Row::ipv4(protocol::ICMP).original("1.1.1.1", "2.2.2.2", 7, 8 << 8 | 3).reply("2.2.2.2", "1.1.1.1", 7, 3);
    assert_eq!(
        line(&[], common(icmp, 29, BOTH & !status::ASSURED)),
        "icmp     1 29 src=1.1.1.1 dst=2.2.2.2 type=8 code=3 id=7 src=2.2.2.2 dst=1.1.1.1 type=0 code=3 id=7 mark=0 use=1\n"
    );
    for (number, name) in [(protocol::SCTP, "sctp     132 9 COOKIE_ECHOED"), (protocol::DCCP, "dccp     33 9 PARTOPEN")]
    {
        let row = Row::ipv6(number).original("::1", "::2", 1, 2).set(field::STATE, |r| r.state = 3);
        assert_eq!(
            line(&[], common(row, 9, BOTH)),
            format!("{name} src=::1 dst=::2 sport=1 dport=2 src=::2 dst=::1 sport=2 dport=1 [ASSURED] mark=0 use=1\n")
        );
    }
    // Kernels that no longer track DCCP send neither ports nor state.
    let dccp =
        Row::ipv4(protocol::DCCP).original("1.1.1.1", "2.2.2.2", 0, 0).without(field::ORIGINAL_L4 | field::REPLY_L4);
    assert_eq!(
        line(&[], common(dccp, 5, NEW)),
        "dccp     33 5 src=1.1.1.1 dst=2.2.2.2 sport=0 dport=0 [UNREPLIED] src=2.2.2.2 dst=1.1.1.1 sport=0 dport=0 mark=0 use=1\n"
    );
}

#[test]
fn states() {
    for (number, names) in
        [(protocol::TCP, state_names(0)), (protocol::SCTP, state_names(1)), (protocol::DCCP, state_names(2))]
    {
        for (value, name) in names.iter().chain(["NONE", "NONE"].iter()).enumerate() {
            let row =
                Row::ipv4(number).original("1.1.1.1", "2.2.2.2", 1, 2).set(field::STATE, |r| r.state = value as u8);
            let text = line(&[], row);
            assert!(text.contains(&format!(" {name} src=1.1.1.1")), "{text}");
        }
    }
    let udp = Row::ipv4(protocol::UDP).original("1.1.1.1", "2.2.2.2", 1, 2).set(field::STATE, |r| r.state = 3);
    assert!(line(&[], udp).starts_with("udp      17 src=1.1.1.1"));
}

fn state_names(which: usize) -> [&'static str; 10] {
    use flowgate_sdk::state;
    [state::TCP, state::SCTP, state::DCCP][which]
}

fn zoned(set: u64, value: u16) -> Row {
    let row = Row::ipv4(protocol::UDP).original("10.0.0.1", "10.1.0.1", 1, 53);
    common(row, 299, NEW).set(set, |r| (r.zone, r.original_zone, r.reply_zone) = (value, value, value))
}

#[test]
fn zones() {
    assert_eq!(
        line(&[], zoned(field::ZONE, 5)),
        "udp      17 299 src=10.0.0.1 dst=10.1.0.1 sport=1 dport=53 [UNREPLIED] src=10.1.0.1 dst=10.0.0.1 sport=53 dport=1 mark=0 zone=5 use=1\n"
    );
    assert_eq!(
        line(&[], zoned(field::ORIGINAL_ZONE, 6)),
        "udp      17 299 src=10.0.0.1 dst=10.1.0.1 sport=1 dport=53 zone-orig=6 [UNREPLIED] src=10.1.0.1 dst=10.0.0.1 sport=53 dport=1 mark=0 use=1\n"
    );
    assert_eq!(
        line(&[], zoned(field::REPLY_ZONE, 7)),
        "udp      17 299 src=10.0.0.1 dst=10.1.0.1 sport=1 dport=53 [UNREPLIED] src=10.1.0.1 dst=10.0.0.1 sport=53 dport=1 zone-reply=7 mark=0 use=1\n"
    );
}

#[test]
fn translated_and_helped() {
    let nat = Row::ipv4(protocol::TCP).original("10.0.0.1", "10.0.0.2", 3, 4).reply("10.0.0.2", "8.8.8.8", 4, 5000);
    assert_eq!(
        line(&[], established(common(nat, 300, NEW))),
        "tcp      6 300 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=3 dport=4 [UNREPLIED] src=10.0.0.2 dst=8.8.8.8 sport=4 dport=5000 mark=0 use=1\n"
    );
    let helped = Row::ipv4(protocol::TCP)
        .original("127.0.0.1", "127.0.0.1", 39676, 2121)
        .set(field::HELPER, |r| r.helper = b"ftp".to_vec());
    assert_eq!(
        line(&[], established(common(helped, 431_999, BOTH))),
        "tcp      6 431999 ESTABLISHED src=127.0.0.1 dst=127.0.0.1 sport=39676 dport=2121 src=127.0.0.1 dst=127.0.0.1 sport=2121 dport=39676 [ASSURED] mark=0 helper=ftp use=1\n"
    );
}

fn counted() -> Row {
    Row::ipv4(protocol::UDP)
        .original("127.0.0.1", "127.0.0.1", 38961, 9999)
        .set(field::COUNTERS, |r| r.original_counters = (1, 31))
}

#[test]
fn accounting_and_times() {
    let row = common(counted(), 29, NEW).set(field::START, |r| r.start = 1_795_480_001_123_456_789);
    let mut flows = batch([row.clone()]);
    flows.time = 1_795_480_001_900_000_000;
    let text = FlowFormat::render(&mut plain(&["ktimestamp"]), &flows);
    assert_eq!(
        String::from_utf8(text).unwrap(),
        "udp      17 29 src=127.0.0.1 dst=127.0.0.1 sport=38961 dport=9999 packets=1 bytes=31 [UNREPLIED] src=127.0.0.1 dst=127.0.0.1 sport=9999 dport=38961 packets=0 bytes=0 mark=0 delta-time=0 [start=Tue Nov 24 00:26:41 2026] use=1\n"
    );
    assert_eq!(
        line(&[], row.clone()),
        "udp      17 29 src=127.0.0.1 dst=127.0.0.1 sport=38961 dport=9999 packets=1 bytes=31 [UNREPLIED] src=127.0.0.1 dst=127.0.0.1 sport=9999 dport=38961 packets=0 bytes=0 mark=0 delta-time=169 use=1\n"
    );
    // A clock that was set back.
    assert!(line(&[], row.set(0, |r| r.start = u64::MAX)).contains(" delta-time=0 "));
    let huge = counted().set(0, |r| r.original_counters = (u64::MAX, 10_000_000_000_000_000_000));
    assert!(line(&[], huge).contains("packets=18446744073709551615 bytes=10000000000000000000 "));
}

#[test]
fn local_time_follows_the_offsets() {
    use flowgate_sdk::bindings::flowgate::conntrack::setup::UtcOffset;
    let setup = Setup {
        options: vec![OptionValue { name: "ktimestamp".into(), value: "yes".into() }],
        offsets: vec![UtcOffset { since: 0, offset: 3600 }],
        ..Setup::default()
    };
    let row =
        Row::ipv4(protocol::UDP).set(field::START | field::STOP, |r| (r.start, r.stop) = (0, 5 * 86_400 * SECOND));
    let text = FlowFormat::render(&mut Plain::configure(&setup).unwrap(), &batch([row]));
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.ends_with("delta-time=432000 [start=Thu Jan  1 01:00:00 1970] [stop=Tue Jan  6 01:00:00 1970]\n"),
        "{text}"
    );
}

const SECOND: u64 = flowgate_sdk::time::SECOND;

#[test]
fn every_option_and_optional_field() {
    let udp = Row::ipv4(protocol::UDP).original("10.0.0.1", "10.1.0.1", 4, 53);
    let row = common(udp, 299, NEW).set(field::ID | field::LABELS, |r| {
        r.id = 2_974_187_671;
        r.labels = vec![0b10_0100, 0];
    });
    assert_eq!(
        line(&["extended", "id", "labels"], row.clone()),
        "ipv4     2 udp      17 299 src=10.0.0.1 dst=10.1.0.1 sport=4 dport=53 [UNREPLIED] src=10.1.0.1 dst=10.0.0.1 sport=53 dport=4 mark=0 use=1 id=2974187671 labels=one one,two-2\n"
    );
    // Without a label map, and without the options, neither is shown.
    assert!(line(&[], row.clone()).ends_with(" mark=0 use=1\n"));
    assert!(line(&["userspace"], row.clone()).ends_with(" mark=0 use=1\n"));
    // No label with a name, or no label at all.
    assert!(line(&["labels"], row.clone().set(0, |r| r.labels = vec![0x80])).ends_with(" use=1 labels\n"));
    assert!(line(&["labels"], row.without(field::LABELS)).ends_with(" use=1\n"));

    let all = Row::ipv6(protocol::TCP).original("2001:db8::1", "::ffff:1.2.3.4", 65535, 65534).set(
        field::ALL & !field::UNKNOWN,
        |r| {
            (r.zone, r.original_zone, r.reply_zone) = (65535, 1, 2);
            (r.status, r.timeout, r.mark, r.secmark, r.use_count, r.id) = (BOTH, 432_000, 4_294_967_295, 9, 2, 3);
            (r.original_counters, r.reply_counters) = ((1, 2), (3, 4));
            (r.start, r.stop) = (NOW - 5 * SECOND, NOW - 2 * SECOND);
            r.state = 8;
            r.helper = b"sip\x1b[31m".to_vec();
            r.labels = vec![1];
            r.security_context = b"system_u:object_r:unlabeled_t:s0".to_vec();
            r.annotations = vec![key_value("country", "DE"), key_value("as name", "A \"B\"\u{1b}")];
            (r.port_id, r.program) = (77, b"conntrack".to_vec());
            r.namespace_name = b"blue".to_vec();
        },
    );
    let plain_line = "tcp      6 432000 CLOSE src=2001:db8::1 dst=::ffff:1.2.3.4 sport=65535 dport=65534 zone-orig=1 packets=1 bytes=2 src=::ffff:1.2.3.4 dst=2001:db8::1 sport=65534 dport=65535 zone-reply=2 packets=3 bytes=4 [ASSURED] mark=4294967295 secmark=9 secctx=system_u:object_r:unlabeled_t:s0 zone=65535 delta-time=3 helper=sip\\x1b[31m use=2 country=DE \"as name\"=\"A \\\"B\\\"\\u001b\"\n";
    assert_eq!(line(&[], all.clone()), plain_line);
    let options = ["extended", "id", "ktimestamp", "timestamp", "labels", "userspace"];
    assert_eq!(
        line(&options, all.clone()),
        plain_line
            .replace("tcp ", "ipv6     10 tcp ")
            .replace("delta-time=3 ", "delta-time=3 [start=Tue Nov 24 00:29:25 2026] [stop=Tue Nov 24 00:29:28 2026] ")
            .replace("use=2 ", "use=2 id=3 labels=eth0-in ")
    );
    let event = all.event(event::NEW).set(field::EVENT_TIME, |r| r.event_time = NOW + 42_000);
    assert_eq!(
        line(&["timestamp"], event),
        format!("[1795480170.500042]\t    [NEW] {plain_line}")
            .replace(" country", " [USERSPACE] portid=77 progname=conntrack [SYNTHETIC] netns=blue country")
    );
}

#[test]
fn offload_flags_exclude_each_other() {
    for (bits, flag) in [
        (status::ASSURED, " [ASSURED]"),
        (status::ASSURED | status::OFFLOAD, " [OFFLOAD]"),
        (status::ASSURED | status::OFFLOAD | status::HW_OFFLOAD, " [HW_OFFLOAD]"),
        (status::HW_OFFLOAD, " [HW_OFFLOAD]"),
        (0, ""),
    ] {
        let row = Row::ipv4(protocol::UDP)
            .original("1.1.1.1", "2.2.2.2", 1, 2)
            .set(field::STATUS, |r| r.status = bits | status::SEEN_REPLY);
        assert_eq!(
            line(&[], row),
            format!(
                "udp      17 src=1.1.1.1 dst=2.2.2.2 sport=1 dport=2 src=2.2.2.2 dst=1.1.1.1 sport=2 dport=1{flag}\n"
            )
        );
    }
}

#[test]
fn events() {
    let udp = |source| Row::ipv4(protocol::UDP).original(source, "10.1.0.1", 1, 53);
    let new = udp("10.0.0.1")
        .event(event::NEW)
        .set(field::TIMEOUT | field::STATUS | field::MARK | field::PORT_ID | field::PROGRAM, |r| {
            (r.timeout, r.status, r.mark, r.port_id, r.program) = (300, NEW, 4, 8806, b"conntrack".to_vec())
        });
    let new_line = "    [NEW] udp      17 300 src=10.0.0.1 dst=10.1.0.1 sport=1 dport=53 [UNREPLIED] src=10.1.0.1 dst=10.0.0.1 sport=53 dport=1 mark=4 [USERSPACE] portid=8806 progname=conntrack\n";
    assert_eq!(line(&[], new.clone()), new_line);
    let gone = new.clone().without(field::PROGRAM);
    assert_eq!(line(&[], gone), new_line.replace(" progname=conntrack", ""));
    let synthetic = new.clone().without(field::PORT_ID | field::PROGRAM).set(field::SYNTHETIC, |_| {});
    let marked = new_line.replace("[USERSPACE] portid=8806 progname=conntrack", "[SYNTHETIC]");
    assert_eq!(line(&[], synthetic), marked);
    let packet = new.clone().set(0, |r| r.port_id = 0);
    assert_eq!(line(&[], packet), new_line.replace(" [USERSPACE] portid=8806 progname=conntrack", ""));

    let update = new.event(event::UPDATE).set(field::EVENT_TIME, |r| {
        (r.timeout, r.mark, r.port_id, r.event_time, r.received) =
            (299, 9, 3_031_608_271, 1_795_480_085_975_142_999, NOW);
    });
    assert_eq!(
        line(&["timestamp"], update.clone()),
        "[1795480085.975142]\t [UPDATE] udp      17 299 src=10.0.0.1 dst=10.1.0.1 sport=1 dport=53 [UNREPLIED] src=10.1.0.1 dst=10.0.0.1 sport=53 dport=1 mark=9 [USERSPACE] portid=3031608271 progname=conntrack\n"
    );
    // Without the kernel's time, that of reception; small numbers are padded with zeros.
    let untimed = update.without(field::EVENT_TIME).set(0, |r| r.received = 12 * SECOND + 34_000);
    assert!(line(&["timestamp"], untimed).starts_with("[00000012.000034]\t [UPDATE] udp "));

    let destroy = udp("10.0.0.2").event(event::DESTROY).set(field::STATUS, |r| r.status = NEW);
    assert_eq!(
        line(&[], destroy),
        "[DESTROY] udp      17 src=10.0.0.2 dst=10.1.0.1 sport=1 dport=53 [UNREPLIED] src=10.1.0.1 dst=10.0.0.2 sport=53 dport=1\n"
    );
    let counted = Row::ipv4(protocol::UDP).original("127.0.0.1", "127.0.0.1", 56943, 9999).event(event::DESTROY).set(
        field::TIMEOUT | field::STATUS | field::COUNTERS | field::START | field::STOP | field::PORT_ID | field::PROGRAM,
        |r| {
            (r.timeout, r.status, r.port_id, r.program) = (88, NEW, 3_212_901_202, b"conntrack".to_vec());
            (r.start, r.stop) = (1_795_480_168_900_000_000, 1_795_480_170_100_000_000);
        },
    );
    assert_eq!(
        line(&["ktimestamp"], counted),
        "[DESTROY] udp      17 88 src=127.0.0.1 dst=127.0.0.1 sport=56943 dport=9999 packets=0 bytes=0 [UNREPLIED] src=127.0.0.1 dst=127.0.0.1 sport=9999 dport=56943 packets=0 bytes=0 delta-time=2 [start=Tue Nov 24 00:29:28 2026] [stop=Tue Nov 24 00:29:30 2026] [USERSPACE] portid=3212901202 progname=conntrack\n"
    );
}

#[test]
fn gaps_and_batches() {
    let row = || common(Row::ipv4(protocol::UDP).original("1.1.1.1", "2.2.2.2", 1, 2), 5, NEW);
    let gap = Row::default().event(event::GAP);
    let text = render(&["timestamp"], [row().event(event::NEW), gap, row().event(event::DESTROY)]);
    assert_eq!(text.lines().count(), 2);
    assert!(text.lines().all(|line| line.ends_with("mark=0 use=1")));
    assert_eq!(render(&[], []), "");
    // The same plugin, batch after batch.
    let mut plain = plain(&[]);
    let one = FlowFormat::render(&mut plain, &batch([row()]));
    let many = FlowFormat::render(&mut plain, &batch((0..300).map(|_| row())));
    assert_eq!(many, one.repeat(300));
    assert_eq!(FlowFormat::render(&mut plain, &batch([])), b"");
    // Neither IPv4 nor IPv6.
    assert_eq!(line(&["extended"], Row::new(7, 99)), "unknown  7 unknown  99\n");
}

#[test]
fn bad_switches_are_named() {
    let setup = Setup { options: vec![OptionValue { name: "id".into(), value: "maybe".into() }], ..Setup::default() };
    assert!(Plain::configure(&setup).err().unwrap().contains("maybe"));
}

fn tftp() -> Expected {
    Expected::new(2, protocol::UDP).set(
        expectation_field::TIMEOUT | expectation_field::CLASS | expectation_field::HELPER,
        |r| {
            r.expected = Tuple::new("127.0.0.1", "127.0.0.1", 0, 43549);
            r.mask = Tuple::new("255.255.255.255", "255.255.255.255", 0, 65535);
            r.master = Tuple::new("127.0.0.1", "127.0.0.1", 43549, 6969);
            (r.timeout, r.helper) = (299, b"tftp".to_vec());
        },
    )
}

fn expectation_line(options: &[&str], now: u64, row: Expected) -> String {
    let mut batch = expectations([row]);
    batch.time = now;
    String::from_utf8(ExpectationFormat::render(&mut plain(options), &batch)).unwrap()
}

#[test]
fn expectation_lines() {
    let line = "299 proto=17 src=127.0.0.1 dst=127.0.0.1 sport=0 dport=43549 mask-src=255.255.255.255 mask-dst=255.255.255.255 sport=0 dport=65535 master-src=127.0.0.1 master-dst=127.0.0.1 sport=43549 dport=6969 class=0 helper=tftp\n";
    assert_eq!(expectation_line(&[], NOW, tftp()), line);
    assert_eq!(expectation_line(&["id", "extended", "ktimestamp", "labels", "userspace"], NOW, tftp()), line);
    assert_eq!(
        expectation_line(&["timestamp"], 1_795_480_090_415_790_000, tftp()),
        format!("[1795480090.415790]\t{line}")
    );
    assert_eq!(expectation_line(&["timestamp"], 12 * SECOND + 34_000, tftp()), format!("[12      .34    ]\t{line}"));
    for (flags, text) in [
        (1, "PERMANENT "),
        (2, "INACTIVE "),
        (4, "USERSPACE "),
        (7, "PERMANENT,INACTIVE,USERSPACE "),
        (0, ""),
        (8, " "),
    ] {
        let row = tftp().set(expectation_field::FLAGS, |r| r.flags = flags);
        assert_eq!(expectation_line(&[], NOW, row), line.replace("class=", &format!("{text}class=")));
    }
    let full = tftp().set(expectation_field::ZONE | expectation_field::ID | expectation_field::ANNOTATIONS, |r| {
        (r.zone, r.id, r.annotations) = (7, 9, vec![key_value("why", "a b")]);
    });
    assert_eq!(
        expectation_line(&[], NOW, full),
        line.replace("class=", "zone=7 class=").replace("=tftp\n", "=tftp why=\"a b\"\n")
    );

    let new = Expected::new(2, protocol::TCP).set(
        expectation_field::TIMEOUT | expectation_field::CLASS | expectation_field::HELPER,
        |r| {
            r.event = event::NEW;
            r.expected = Tuple::new("4.4.4.4", "5.5.5.5", 0, 5000);
            r.mask = Tuple::new("255.255.255.0", "255.255.255.255", 0, 65535);
            r.master = Tuple::new("127.0.0.1", "127.0.0.1", 39676, 2121);
            (r.timeout, r.helper) = (300, b"ftp".to_vec());
        },
    );
    let new_line = "    [NEW] 300 proto=6 src=4.4.4.4 dst=5.5.5.5 sport=0 dport=5000 mask-src=255.255.255.0 mask-dst=255.255.255.255 sport=0 dport=65535 master-src=127.0.0.1 master-dst=127.0.0.1 sport=39676 dport=2121 class=0 helper=ftp\n";
    assert_eq!(expectation_line(&[], NOW, new.clone()), new_line);
    let gone = new.clone().set(0, |r| r.event = event::DESTROY);
    assert_eq!(
        expectation_line(&["timestamp"], NOW, gone),
        format!("[1795480170.500000]\t[DESTROY]{}", &new_line[9..])
    );
    assert_eq!(expectation_line(&["timestamp"], NOW, new.set(0, |r| r.event = event::GAP)), "");

    let six = Expected::new(10, 99).set(0, |r| {
        r.expected = Tuple::new("2001:db8::1", "::1", 0, 0);
        r.mask = Tuple::new("ffff:ffff::", "::", 0, 0);
        (r.master, r.master_protocol) = (Tuple::new("::1", "::2", 16, 32), protocol::GRE);
    });
    assert_eq!(
        expectation_line(&[], NOW, six),
        "proto=99 src=2001:db8::1 dst=::1 mask-src=ffff:ffff:: mask-dst=:: master-src=::1 master-dst=::2 srckey=0x10 dstkey=0x20\n"
    );
}
