use flowgate_sdk::{
    Setup,
    bindings::flowgate::conntrack::setup::OptionValue,
    event, protocol, status,
    testing::{Row, batch},
};

use super::*;

fn save(command: Option<&str>) -> Result<Save, String> {
    let options = command.map(|value| OptionValue { name: "command".into(), value: value.into() });
    Save::configure(&Setup { options: options.into_iter().collect(), ..Setup::default() })
}

fn line(command: &str, row: Row) -> String {
    String::from_utf8(FlowFormat::render(&mut save(Some(command)).unwrap(), &batch([row]))).unwrap()
}

fn timed(row: Row, timeout: u32, bits: u32) -> Row {
    row.set(field::TIMEOUT | field::STATUS, |r| (r.timeout, r.status) = (timeout, bits | status::CONFIRMED))
}

const DONE: u32 = status::SRC_NAT_DONE | status::DST_NAT_DONE;

#[test]
fn protocols() {
    let row = |number| Row::ipv4(number).original("1.1.1.1", "2.2.2.2", 1000, 80);
    let tcp = timed(row(protocol::TCP), 598, status::SEEN_REPLY | status::ASSURED).set(field::STATE, |r| r.state = 3);
    assert_eq!(
        line("A", tcp.clone()),
        "-A -t 598 -u SEEN_REPLY,ASSURED -s 1.1.1.1 -d 2.2.2.2 -r 2.2.2.2 -q 1.1.1.1 -p tcp --sport 1000 --dport 80 --reply-port-src 80 --reply-port-dst 1000 --state ESTABLISHED\n"
    );
    let tail = " -s 1.1.1.1 -d 2.2.2.2 -r 2.2.2.2 -q 1.1.1.1 -p";
    for (number, name) in [(protocol::UDP, "udp"), (protocol::UDPLITE, "udplite")] {
        assert_eq!(
            line("A", row(number).set(field::STATE, |r| r.state = 3)),
            format!("-A{tail} {name} --sport 1000 --dport 80 --reply-port-src 80 --reply-port-dst 1000\n")
        );
    }
    let sctp = Row::ipv4(protocol::SCTP)
        .original("1.1.1.1", "2.2.2.2", 1002, 54)
        .set(field::STATE | field::ORIGINAL_VTAG | field::REPLY_VTAG, |r| {
            (r.state, r.vtags) = (4, (12345u32.swap_bytes(), 67890u32.swap_bytes()))
        });
    assert_eq!(
        line("A", timed(sctp, 598, 0)),
        format!(
            "-A -t 598 -u UNSET{tail} sctp --sport 1002 --dport 54 --reply-port-src 54 --reply-port-dst 1002 --state ESTABLISHED --orig-vtag 12345 --reply-vtag 67890\n"
        )
    );
    for (role, name) in [(0, "client"), (1, "server")] {
        let dccp = row(protocol::DCCP).set(field::STATE | field::DCCP, |r| (r.state, r.dccp) = (4, (role, 9)));
        assert_eq!(
            line("A", dccp),
            format!(
                "-A{tail} dccp --sport 1000 --dport 80 --reply-port-src 80 --reply-port-dst 1000 --state OPEN --role {name}\n"
            )
        );
    }
    // DCCP on kernels that do not track it.
    assert_eq!(
        line("A", row(protocol::DCCP).without(field::ORIGINAL_L4 | field::REPLY_L4)),
        format!("-A{tail} dccp\n")
    );
    let icmpv6 = Row::ipv6(protocol::ICMPV6).original("fe80::1", "2001:db8::2", 78, 128 << 8).reply(
        "2001:db8::2",
        "fe80::1",
        78,
        129 << 8,
    );
    assert_eq!(
        line("A", timed(icmpv6, 599, 0)),
        "-A -t 599 -u UNSET -s fe80::1 -d 2001:db8::2 -r 2001:db8::2 -q fe80::1 -p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 78\n"
    );
    assert_eq!(
        line("A", Row::ipv4(protocol::ICMP).original("1.1.1.1", "2.2.2.2", 5, 0x0803)),
        format!("-A{tail} icmp --icmp-type 8 --icmp-code 3 --icmp-id 5\n")
    );
    let gre = Row::ipv4(protocol::GRE).original("1.1.1.1", "2.2.2.2", 16, 32);
    assert_eq!(
        line("A", timed(gre, 599, 0)),
        format!("-A -t 599 -u UNSET{tail} gre --srckey 16 --dstkey 32 --reply-key-src 32 --reply-key-dst 16\n")
    );
    let other = Row::ipv4(50).original("1.1.1.1", "2.2.2.2", 0, 0);
    assert_eq!(line("A", timed(other, 599, 0)), format!("-A -t 599 -u UNSET{tail} 50\n"));
    // A state without a name.
    assert!(line("A", tcp.set(0, |r| r.state = 77)).ends_with(" --state NONE\n"));
}

#[test]
fn translations() {
    let udp = Row::ipv4(protocol::UDP).original("10.0.0.1", "10.0.0.2", 7, 8).reply("9.9.9.9", "8.8.8.8", 6000, 7000);
    assert_eq!(
        line("A", timed(udp.clone(), 299, DONE)),
        "-A -t 299 -u UNSET -s 10.0.0.1 -d 10.0.0.2 -g 9.9.9.9 -n 8.8.8.8 -p udp --sport 7 --dport 8 --reply-port-src 6000 --reply-port-dst 7000\n"
    );
    assert!(line("A", timed(udp.clone(), 1, status::SRC_NAT_DONE)).contains(" -r 9.9.9.9 -n 8.8.8.8 "));
    assert!(line("A", timed(udp.clone(), 1, status::DST_NAT_DONE)).contains(" -g 9.9.9.9 -q 8.8.8.8 "));
    assert!(line("A", timed(udp.clone(), 1, 0)).contains(" -r 9.9.9.9 -q 8.8.8.8 "));
    assert!(line("A", udp).contains(" -g 9.9.9.9 -n 8.8.8.8 "));
    let tcp = Row::ipv4(protocol::TCP)
        .original("10.0.0.1", "10.0.0.2", 1, 2)
        .reply("10.0.0.2", "8.8.8.8", 2, 1)
        .set(field::STATE, |r| r.state = 3);
    assert_eq!(
        line("A", timed(tcp, 299, DONE)),
        "-A -t 299 -u UNSET -s 10.0.0.1 -d 10.0.0.2 -r 10.0.0.2 -n 8.8.8.8 -p tcp --sport 1 --dport 2 --reply-port-src 2 --reply-port-dst 1 --state ESTABLISHED\n"
    );
    let six =
        Row::ipv6(protocol::UDP).original("fe80::1", "2001:db8::2", 7, 8).reply("2001:db8::2", "2001:db8::9", 8, 7);
    assert_eq!(
        line("A", timed(six, 99, DONE)),
        "-A -t 99 -u UNSET -s fe80::1 -d 2001:db8::2 -r 2001:db8::2 -n 2001:db8::9 -p udp --sport 7 --dport 8 --reply-port-src 8 --reply-port-dst 7\n"
    );
}

fn udp(source: &str, port: u16, timeout: u32) -> Row {
    timed(Row::ipv4(protocol::UDP).original(source, "10.1.0.1", port, 53), timeout, 0)
}

#[test]
fn zones_status_and_secmark() {
    assert_eq!(
        line("A", udp("10.0.0.1", 1, 299).set(field::REPLY_ZONE, |r| r.reply_zone = 7)),
        "-A -t 299 -u UNSET --reply-zone 7 -s 10.0.0.1 -d 10.1.0.1 -r 10.1.0.1 -q 10.0.0.1 -p udp --sport 1 --dport 53 --reply-port-src 53 --reply-port-dst 1\n"
    );
    assert_eq!(
        line("D", udp("10.0.0.7", 7, 306).set(field::ZONE, |r| r.zone = 5)),
        "-D -t 306 -u UNSET -w 5 -s 10.0.0.7 -d 10.1.0.1 -r 10.1.0.1 -q 10.0.0.7 -p udp --sport 7 --dport 53 --reply-port-src 53 --reply-port-dst 7\n"
    );
    let all = udp("10.0.0.7", 7, 306).set(field::ZONES | field::SECMARK, |r| {
        (r.secmark, r.zone, r.original_zone, r.reply_zone, r.status) = (1, 2, 3, 4, 0xffff & !DONE);
    });
    assert!(line("A", all).starts_with(
        "-A -t 306 -u EXPECTED,SEEN_REPLY,ASSURED,FIXED_TIMEOUT -c 1 -w 2 --orig-zone 3 --reply-zone 4 -s 10.0.0.7 "
    ));
    assert!(line("A", udp("10.0.0.7", 7, 1).without(field::STATUS | field::TIMEOUT)).starts_with("-A -s 10.0.0.7 "));
}

#[test]
fn events_and_comments() {
    let row = udp("10.0.0.1", 1, 299).event(event::UPDATE).set(field::PORT_ID, |r| r.port_id = 3_031_608_271);
    let text = "-U -t 299 -u UNSET -s 10.0.0.1 -d 10.1.0.1 -r 10.1.0.1 -q 10.0.0.1 -p udp --sport 1 --dport 53 --reply-port-src 53 --reply-port-dst 1 [USERSPACE] portid=3031608271\n";
    assert_eq!(line("event", row.clone()), text);
    assert_eq!(line("event", row.clone().event(event::NEW)), text.replace("-U", "-A"));
    assert_eq!(line("event", row.clone().event(event::DESTROY)), text.replace("-U", "-D"));
    let named = row.clone().set(field::PROGRAM, |r| r.program = b"conntrack".to_vec());
    assert_eq!(line("event", named), text.replace("8271\n", "8271 progname=conntrack\n"));
    let packet = row.clone().set(0, |r| r.port_id = 0);
    assert_eq!(line("event", packet), text.replace(" [USERSPACE] portid=3031608271", ""));
    assert_eq!(line("event", Row::default().event(event::GAP)), "");
    assert_eq!(line("event", row.clone().event(event::NONE)), line("A", row.clone().event(event::NONE)));

    let noted = row.set(field::ANNOTATIONS, |r| {
        r.annotations = vec![(b"country".to_vec(), b"DE".to_vec()), (b"why".to_vec(), b"a\n-F".to_vec())];
    });
    assert_eq!(line("event", noted), format!("# country=DE why=\"a\\n-F\"\n{text}"));
}

#[test]
fn odd_input() {
    let mut plugin = save(None).unwrap();
    assert_eq!(FlowFormat::render(&mut plugin, &batch([])), b"");
    let other = Row::new(7, 6);
    let text = FlowFormat::render(&mut plugin, &batch([udp("10.0.0.1", 1, 1), other, udp("10.0.0.1", 1, 1)]));
    assert_eq!(String::from_utf8(text).unwrap().lines().count(), 2);
    assert!(save(Some("X")).err().unwrap().contains("\"X\""));
}

fn complete(command: &str, row: Row) -> String {
    let option = |name: &str, value: &str| OptionValue { name: name.into(), value: value.into() };
    let setup = Setup {
        options: vec![option("command", command), option("complete", "true")],
        labels: vec![flowgate_sdk::bindings::flowgate::conntrack::setup::Label { bit: 3, name: "web".into() }],
        ..Setup::default()
    };
    String::from_utf8(FlowFormat::render(&mut Save::configure(&setup).unwrap(), &batch([row]))).unwrap()
}

#[test]
fn actions_are_written_completely() {
    let row = || Row::ipv4(protocol::UDP).original("1.1.1.1", "2.2.2.2", 1000, 80);
    let tail = " -s 1.1.1.1 -d 2.2.2.2 -r 2.2.2.2 -q 1.1.1.1 -p udp --sport 1000 --dport 80 --reply-port-src 80 --reply-port-dst 1000";
    assert_eq!(complete("D", row()), format!("-D{tail}\n"));
    let marked = row().set(field::MARK | field::MARK_MASK, |r| (r.mark, r.mark_mask) = (0x100, 0xff00));
    assert_eq!(complete("U", marked), format!("-U{tail} -m 256/65280\n"));
    assert_eq!(complete("I", row().set(field::MARK, |r| r.mark = 7)), format!("-I{tail} -m 7\n"));
    let labelled = row().set(field::LABELS | field::LABELS_MASK, |r| {
        r.labels = vec![0x08, 0, 0, 0];
        r.labels_mask = vec![0x38, 0, 0, 0];
    });
    assert_eq!(complete("U", labelled), format!("-U{tail} --labels 0x8/0x38\n"));
    let added = row().set(field::LABELS | field::LABELS_MASK, |r| (r.labels, r.labels_mask) = (vec![8], vec![8]));
    assert_eq!(complete("U", added), format!("-U{tail} --label-add web\n"));
    let removed = row().set(field::LABELS | field::LABELS_MASK, |r| (r.labels, r.labels_mask) = (vec![0], vec![8]));
    assert_eq!(complete("U", removed), format!("-U{tail} --label-del web\n"));
    let none =
        row().set(field::LABELS | field::LABELS_MASK, |r| (r.labels, r.labels_mask) = (vec![0; 16], vec![255; 16]));
    assert_eq!(complete("U", none), format!("-U{tail} --label-del\n"));
    let tcp = Row::ipv4(protocol::TCP).original("1.1.1.1", "2.2.2.2", 1, 2);
    assert!(complete("A", tcp).ends_with(" --state NONE\n"));
}

#[test]
fn a_complete_line_has_all_that_can_be_loaded() {
    let both = status::SRC_NAT | status::DST_NAT | DONE;
    let udp = Row::ipv4(protocol::UDP).original("10.0.0.1", "10.0.0.2", 7, 8).reply("9.9.9.9", "8.8.8.8", 6000, 7000);
    assert_eq!(
        complete("A", timed(udp.clone(), 299, both)),
        "-A -t 299 -u UNSET -s 10.0.0.1 -d 10.0.0.2 -g 9.9.9.9:6000 -n 8.8.8.8:7000 -p udp --sport 7 --dport 8\n"
    );
    assert_eq!(
        complete("A", timed(udp.clone(), 299, status::SRC_NAT | DONE)),
        "-A -t 299 -u UNSET -s 10.0.0.1 -d 10.0.0.2 -r 9.9.9.9 -n 8.8.8.8:7000 -p udp --sport 7 --dport 8 --reply-port-src 6000 --reply-port-dst 7000\n"
    );
    // A reply that does not result from NAT, and a deletion, which only identifies the flow.
    let untranslated = timed(udp, 299, DONE);
    assert!(complete("A", untranslated.clone()).contains(" -r 9.9.9.9 -q 8.8.8.8 "));
    assert_eq!(
        complete("D", untranslated),
        "-D -s 10.0.0.1 -d 10.0.0.2 -r 9.9.9.9 -q 8.8.8.8 -p udp --sport 7 --dport 8 --reply-port-src 6000 --reply-port-dst 7000\n"
    );
    let six = Row::ipv6(protocol::ICMPV6).original("fe80::1", "2001:db8::2", 78, 128 << 8).reply(
        "2001:db8::2",
        "2001:db8::9",
        99,
        129 << 8,
    );
    assert_eq!(
        complete("A", timed(six, 99, status::SRC_NAT | DONE)),
        "-A -t 99 -u UNSET -s fe80::1 -d 2001:db8::2 -r 2001:db8::2 -n [2001:db8::9]:99 -p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 78\n"
    );
    let tcp = Row::ipv4(protocol::TCP).original("1.1.1.1", "2.2.2.2", 1, 2);
    let tail =
        "-s 1.1.1.1 -d 2.2.2.2 -r 2.2.2.2 -q 1.1.1.1 -p tcp --sport 1 --dport 2 --reply-port-src 2 --reply-port-dst 1";
    let offloaded =
        tcp.clone().set(field::STATUS, |r| r.status = status::OFFLOAD | status::ASSURED | status::SEEN_REPLY);
    assert_eq!(complete("A", offloaded), format!("-A -t 432000 -u SEEN_REPLY,ASSURED {tail} --state ESTABLISHED\n"));
    let rich = timed(tcp, 5, status::EXPECTED | status::SEEN_REPLY).set(
        field::STATE
            | field::MARK
            | field::LABELS
            | field::HELPER
            | field::ORIGINAL_TCP_FLAGS
            | field::REPLY_TCP_FLAGS
            | field::ORIGINAL_WINDOW_SCALE
            | field::REPLY_WINDOW_SCALE,
        |r| {
            (r.state, r.mark, r.labels, r.helper) = (3, 7, vec![5, 0, 0, 0x80], b"ftp".to_vec());
            (r.tcp_flags, r.window_scales) = ((0x2b00, 0x0a0a), (7, 8));
        },
    );
    assert_eq!(
        complete("A", rich),
        format!(
            "-A -t 5 -u SEEN_REPLY {tail} --state ESTABLISHED -m 7 --labels 0x80000005 --helper ftp --orig-tcp-flags 0x2b --orig-wscale 7 --reply-wscale 8\n"
        )
    );
    // Kernels that do not track a protocol have neither words nor a state of it, but the options require them.
    let dccp =
        Row::ipv4(protocol::DCCP).original("1.1.1.1", "2.2.2.2", 0, 0).without(field::ORIGINAL_L4 | field::REPLY_L4);
    assert!(
        complete("A", timed(dccp, 5, 0)).ends_with(
            " -p dccp --sport 0 --dport 0 --reply-port-src 0 --reply-port-dst 0 --state NONE --role client\n"
        )
    );
}
