use flowgate_sdk::{
    Setup, address,
    bindings::flowgate::conntrack::setup::Label,
    event, protocol, status,
    testing::{Expected, Row, Tuple, batch, expectations},
};
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_795_480_170_500_000_000;

fn plugin() -> Json {
    let label = |bit, name: &str| Label { bit, name: name.into() };
    Json::configure(&Setup { labels: vec![label(0, "eth0-in"), label(9, "a \"b\"")], ..Setup::default() }).unwrap()
}

/// Parses the lines; each must be one object without repeated members.
fn parse(text: Vec<u8>) -> Vec<Value> {
    let text = String::from_utf8(text).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(value.to_string().len(), line.len(), "a member stands twice in {line}");
            value
        })
        .collect()
}

fn flow(row: Row) -> Value {
    let mut batch = batch([row]);
    batch.time = NOW;
    let mut all = parse(FlowFormat::render(&mut plugin(), &batch));
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn ordinary_flow() {
    let row = Row::ipv4(protocol::TCP)
        .original("10.0.0.1", "1.1.1.1", 40000, 443)
        .reply("1.1.1.1", "192.0.2.1", 443, 40001)
        .set(
            field::TIMEOUT | field::STATE | field::STATUS | field::MARK | field::USE | field::ID | field::COUNTERS,
            |r| {
                (r.timeout, r.state, r.mark, r.use_count, r.id) = (431_999, 3, 7, 1, 2_693_121_496);
                r.status = status::SEEN_REPLY | status::ASSURED | status::SRC_NAT | status::SRC_NAT_DONE;
                (r.original_counters, r.reply_counters) = ((10, 1200), (u64::MAX, 90_000_000_000));
            },
        );
    let mut flows = batch([row]);
    flows.time = NOW;
    let text = String::from_utf8(FlowFormat::render(&mut plugin(), &flows)).unwrap();
    // The order of the members is guaranteed.
    assert_eq!(
        text,
        "{\"type\":\"flow\",\"time\":1795480170500000000,\"family\":2,\"family_name\":\"ipv4\",\"protocol\":6,\"protocol_name\":\"tcp\",\"state\":3,\"state_name\":\"ESTABLISHED\",\"timeout\":431999,\"original\":{\"source\":\"10.0.0.1\",\"destination\":\"1.1.1.1\",\"source_port\":40000,\"destination_port\":443,\"packets\":10,\"bytes\":1200},\"reply\":{\"source\":\"1.1.1.1\",\"destination\":\"192.0.2.1\",\"source_port\":443,\"destination_port\":40001,\"packets\":18446744073709551615,\"bytes\":90000000000},\"nat\":{\"source\":{\"address\":\"192.0.2.1\",\"port\":40001}},\"status\":150,\"status_names\":[\"SEEN_REPLY\",\"ASSURED\",\"SRC_NAT\",\"SRC_NAT_DONE\"],\"mark\":7,\"use\":1,\"id\":2693121496}\n"
    );
}

#[test]
fn every_field() {
    let bits = |text: &str| address::bits(text.parse().unwrap());
    let row = Row::ipv6(protocol::TCP)
        .original("2001:db8::1", "2001:db8::2", 1000, 80)
        .reply("2001:db8::3", "2001:db8::4", 8080, 1001)
        .set(field::ALL, |r| {
            (r.zone, r.original_zone, r.reply_zone) = (1, 2, 3);
            (r.status, r.timeout, r.mark, r.secmark, r.use_count, r.id) = (0xffff_ffff, 4, 5, 6, 7, 8);
            (r.original_counters, r.reply_counters) = ((9, 10), (11, 12));
            (r.start, r.stop, r.event_time, r.received) = (13, 14, 15, 16);
            (r.event, r.state, r.window_scales, r.tcp_flags) = (event::DESTROY, 8, (7, 8), (0x0a0f, 0x2300));
            r.vtags = (17, 18);
            r.helper = b"ftp\xff\"".to_vec();
            r.helper_info = vec![0, 0xab];
            r.labels = vec![3, 2];
            r.labels_mask = vec![1];
            r.mark_mask = 0xff;
            r.security_context = b"system_u:object_r:unlabeled_t:s0".to_vec();
            r.master = (protocol::UDP, Tuple::new("::1", "::2", 19, 20), 21);
            r.original_sequence = (22, 5u32.wrapping_neg(), 23);
            r.reply_sequence = (24, 25, 26);
            r.synproxy = (27, 28, 29);
            r.dccp = (1, 1 << 47);
            r.source_nat = (bits("2001:db8::5"), bits("2001:db8::6"), 30, 31);
            r.destination_nat = (bits("2001:db8::7"), bits("2001:db8::7"), 0, 0);
            r.unknown = vec![(99, vec![1, 2]), (7 | 2 << 16 | 1 << 32, vec![])];
            let note = |key: &str, value: &str| (key.into(), value.into());
            r.annotations = vec![note("a", "old"), note("b\n", "1"), note("a", "new")];
            (r.port_id, r.program, r.namespace_id, r.namespace_name) =
                (32, b"conn\x1btrack".to_vec(), 33, b"blue".to_vec());
        });
    let names: Vec<&str> = status::NAMES.iter().map(|(_, name)| *name).collect();
    assert_eq!(
        flow(row),
        json!({
            "type": "flow", "time": NOW, "event": "destroy", "event_kind": 3, "synthetic": true,
            "event_time": 15, "received": 16, "port_id": 32, "program": "conn\u{1b}track",
            "namespace_id": 33, "namespace_name": "blue",
            "family": 10, "family_name": "ipv6", "protocol": 6, "protocol_name": "tcp", "state": 8, "state_name": "CLOSE",
            "timeout": 4,
            "original": {
                "source": "2001:db8::1", "destination": "2001:db8::2", "source_port": 1000, "destination_port": 80,
                "zone": 2, "packets": 9, "bytes": 10, "window_scale": 7, "tcp_flags": 10, "tcp_flags_mask": 15,
                "vtag": 17, "sequence": { "position": 22, "before": -5, "after": 23 },
            },
            "reply": {
                "source": "2001:db8::3", "destination": "2001:db8::4", "source_port": 8080, "destination_port": 1001,
                "zone": 3, "packets": 11, "bytes": 12, "window_scale": 8, "tcp_flags": 35, "tcp_flags_mask": 0,
                "vtag": 18, "sequence": { "position": 24, "before": 25, "after": 26 },
            },
            "nat": {
                "source": { "address": "2001:db8::4", "port": 1001 },
                "destination": { "address": "2001:db8::3", "port": 8080 },
            },
            "status": 0xffff_ffffu32, "status_names": names,
            "mark": 5, "zone": 1, "use": 7, "id": 8, "start": 13, "stop": 14, "mark_mask": 255, "secmark": 6,
            "security_context": "system_u:object_r:unlabeled_t:s0", "helper": "ftp\u{fffd}\"", "helper_info": "00ab",
            "labels": ["eth0-in", 1, "a \"b\""], "labels_mask": ["eth0-in"],
            "master": {
                "protocol": 17, "protocol_name": "udp", "source": "::1", "destination": "::2",
                "source_port": 19, "destination_port": 20, "zone": 21,
            },
            "synproxy": { "isn": 27, "its": 28, "tsoff": 29 },
            "dccp": { "role": 1, "role_name": "server", "handshake_sequence": 1u64 << 47 },
            "nat_request": {
                "source": { "first": "2001:db8::5", "last": "2001:db8::6", "first_port": 30, "last_port": 31 },
                "destination": { "first": "2001:db8::7", "last": "2001:db8::7", "first_port": 0, "last_port": 0 },
            },
            "unknown": [{ "path": [99], "payload": "0102" }, { "path": [1, 2, 7], "payload": "" }],
            "annotations": { "b\n": "1", "a": "new" },
        })
    );
}

/// Each presence bit alone adds exactly its own members.
#[test]
fn one_field_at_a_time() {
    let expected: &[(u64, Value)] = &[
        (field::SOURCE, json!({ "original": { "source": "1.1.1.1" } })),
        (field::DESTINATION, json!({ "original": { "destination": "2.2.2.2" } })),
        (field::REPLY_SOURCE, json!({ "reply": { "source": "2.2.2.2" } })),
        (field::REPLY_DESTINATION, json!({ "reply": { "destination": "1.1.1.1" } })),
        (field::PROTOCOL, json!({ "protocol": 6, "protocol_name": "tcp" })),
        (field::REPLY_PROTOCOL, json!({ "protocol": 6, "protocol_name": "tcp" })),
        (field::SOURCE_L4, json!({ "original": { "source_port": 1 } })),
        (field::DESTINATION_L4, json!({ "original": { "destination_port": 2 } })),
        (field::REPLY_SOURCE_L4, json!({ "reply": { "source_port": 2 } })),
        (field::REPLY_DESTINATION_L4, json!({ "reply": { "destination_port": 1 } })),
        (field::ORIGINAL_ZONE, json!({ "original": { "zone": 0 } })),
        (field::REPLY_ZONE, json!({ "reply": { "zone": 0 } })),
        (field::ZONE, json!({ "zone": 0 })),
        (field::STATUS, json!({ "status": 0, "status_names": [] })),
        (field::TIMEOUT, json!({ "timeout": 0 })),
        (field::MARK, json!({ "mark": 0 })),
        (field::SECMARK, json!({ "secmark": 0 })),
        (field::USE, json!({ "use": 0 })),
        (field::ID, json!({ "id": 0 })),
        (field::ORIGINAL_COUNTERS, json!({ "original": { "packets": 0, "bytes": 0 } })),
        (field::REPLY_COUNTERS, json!({ "reply": { "packets": 0, "bytes": 0 } })),
        (field::START, json!({ "start": 0 })),
        (field::STOP, json!({ "stop": 0 })),
        (field::STATE, json!({ "state": 0, "state_name": "NONE" })),
        (field::ORIGINAL_WINDOW_SCALE, json!({ "original": { "window_scale": 0 } })),
        (field::REPLY_WINDOW_SCALE, json!({ "reply": { "window_scale": 0 } })),
        (field::ORIGINAL_TCP_FLAGS, json!({ "original": { "tcp_flags": 0, "tcp_flags_mask": 0 } })),
        (field::REPLY_TCP_FLAGS, json!({ "reply": { "tcp_flags": 0, "tcp_flags_mask": 0 } })),
        (field::ORIGINAL_VTAG, json!({ "original": { "vtag": 0 } })),
        (field::REPLY_VTAG, json!({ "reply": { "vtag": 0 } })),
        (field::HELPER, json!({ "helper": "" })),
        (field::HELPER_INFO, json!({ "helper_info": "" })),
        (field::LABELS, json!({ "labels": [] })),
        (field::LABELS_MASK, json!({ "labels_mask": [] })),
        (field::MARK_MASK, json!({ "mark_mask": 0 })),
        (field::SECURITY_CONTEXT, json!({ "security_context": "" })),
        (field::MASTER, json!({ "master": { "protocol": 0, "source": "0.0.0.0", "destination": "0.0.0.0" } })),
        (field::ORIGINAL_SEQUENCE, json!({ "original": { "sequence": { "position": 0, "before": 0, "after": 0 } } })),
        (field::REPLY_SEQUENCE, json!({ "reply": { "sequence": { "position": 0, "before": 0, "after": 0 } } })),
        (field::SYNPROXY, json!({ "synproxy": { "isn": 0, "its": 0, "tsoff": 0 } })),
        (field::DCCP, json!({ "dccp": { "role": 0, "role_name": "client", "handshake_sequence": 0 } })),
        (
            field::SOURCE_NAT,
            json!({ "nat_request": { "source": { "first": "0.0.0.0", "last": "0.0.0.0", "first_port": 0, "last_port": 0 } } }),
        ),
        (
            field::DESTINATION_NAT,
            json!({ "nat_request": { "destination": { "first": "0.0.0.0", "last": "0.0.0.0", "first_port": 0, "last_port": 0 } } }),
        ),
        (field::UNKNOWN, json!({})),
        (field::ANNOTATIONS, json!({})),
    ];
    for (bit, members) in expected {
        let mut row = Row::ipv4(protocol::TCP).original("1.1.1.1", "2.2.2.2", 1, 2);
        row.has = *bit;
        let mut whole = json!({ "type": "flow", "time": NOW, "family": 2, "family_name": "ipv4" });
        whole.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        assert_eq!(flow(row), whole, "bit {}", bit.trailing_zeros());
    }
}

#[test]
fn protocols() {
    let original = |row: Row| flow(row)["original"].clone();
    for number in [protocol::TCP, protocol::UDP, protocol::UDPLITE, protocol::SCTP, protocol::DCCP] {
        let row = Row::ipv4(number).original("1.1.1.1", "2.2.2.2", 1, 2);
        assert_eq!(
            original(row),
            json!({ "source": "1.1.1.1", "destination": "2.2.2.2", "source_port": 1, "destination_port": 2 })
        );
    }
    for number in [protocol::ICMP, protocol::ICMPV6] {
        let row = Row::ipv6(number).original("::1", "::2", 78, 0x8001);
        assert_eq!(
            original(row),
            json!({ "source": "::1", "destination": "::2", "icmp_id": 78, "icmp_type": 128, "icmp_code": 1 })
        );
    }
    let gre = Row::ipv4(protocol::GRE).original("1.1.1.1", "2.2.2.2", 16, 32);
    assert_eq!(
        original(gre),
        json!({ "source": "1.1.1.1", "destination": "2.2.2.2", "source_key": 16, "destination_key": 32 })
    );
    let other = Row::ipv4(99).original("1.1.1.1", "2.2.2.2", 3, 4);
    assert_eq!(original(other.clone())["source_l4"], 3);
    assert_eq!(original(other.clone())["destination_l4"], 4);
    let bare = flow(other.without(field::ORIGINAL_L4 | field::REPLY_L4));
    assert_eq!(bare["original"], json!({ "source": "1.1.1.1", "destination": "2.2.2.2" }));
    assert_eq!(bare["protocol"], 99);
    assert!(bare.get("protocol_name").is_none());
    // A state without a name has no `state_name`.
    let state = flow(Row::ipv4(protocol::SCTP).set(field::STATE, |r| r.state = 200));
    assert_eq!((&state["state"], state.get("state_name")), (&json!(200), None));
    assert_eq!(flow(Row::new(7, 1))["family"], 7);
}

#[test]
fn translations() {
    let nat = |row: Row, bits: u32| flow(row.set(field::STATUS, |r| r.status = bits)).get("nat").cloned();
    let udp = || Row::ipv4(protocol::UDP).original("10.0.0.1", "10.1.0.1", 1, 2);
    let done = status::SRC_NAT_DONE | status::DST_NAT_DONE;
    assert_eq!(nat(udp(), done), None);
    assert_eq!(
        nat(udp().reply("9.9.9.9", "10.0.0.1", 2, 1), done),
        Some(json!({ "destination": { "address": "9.9.9.9" } }))
    );
    assert_eq!(nat(udp().reply("10.1.0.1", "10.0.0.1", 2, 7), done), Some(json!({ "source": { "port": 7 } })));
    assert_eq!(nat(udp().reply("10.1.0.1", "10.0.0.1", 2, 7), status::DST_NAT_DONE), None);
    let icmp =
        Row::ipv4(protocol::ICMP).original("10.0.0.1", "10.1.0.1", 78, 8 << 8).reply("10.1.0.1", "8.8.8.8", 79, 0);
    assert_eq!(nat(icmp, done), Some(json!({ "source": { "address": "8.8.8.8", "icmp_id": 79 } })));
}

#[test]
fn events() {
    for (kind, name) in [(1, "new"), (2, "update"), (3, "destroy"), (4, "gap"), (9, "unknown")] {
        let value = flow(Row::ipv4(protocol::UDP).event(kind).set(0, |r| r.received = 5));
        assert_eq!(
            (&value["event"], &value["event_kind"], &value["received"]),
            (&json!(name), &json!(kind), &json!(5))
        );
    }
    let gap = flow(Row::default().event(event::GAP).set(0, |r| r.received = 5));
    assert_eq!(gap, json!({ "type": "flow", "time": NOW, "event": "gap", "event_kind": 4, "received": 5 }));
    let notes = vec![("lost".into(), "272".into()), ("site".into(), "north".into())];
    let gap =
        flow(Row::default().event(event::GAP).set(field::ANNOTATIONS, |r| (r.received, r.annotations) = (5, notes)));
    assert_eq!(
        gap,
        json!({
            "type": "flow", "time": NOW, "event": "gap", "event_kind": 4, "lost": 272, "received": 5,
            "annotations": { "site": "north" },
        })
    );
    assert!(flow(Row::ipv4(protocol::UDP)).get("event").is_none());
}

#[test]
fn batches() {
    let mut plugin = plugin();
    assert_eq!(FlowFormat::render(&mut plugin, &batch([])), b"");
    // Statuses share slots of the cache.
    let rows = (0..2000u32).map(|i| Row::ipv4(protocol::UDP).set(field::STATUS, |r| r.status = i * 7));
    for (i, value) in parse(FlowFormat::render(&mut plugin, &batch(rows))).iter().enumerate() {
        let bits = i as u32 * 7;
        let names: Vec<&str> = status::NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
        assert_eq!((&value["status"], &value["status_names"]), (&json!(bits), &json!(names)));
    }
}

#[test]
fn whole_expectation() {
    let row = Expected::new(2, protocol::TCP).set((1 << 18) - 1, |r| {
        r.event = event::NEW;
        r.expected = Tuple::new("4.4.4.4", "5.5.5.5", 0, 5000);
        r.mask = Tuple::new("255.255.255.0", "255.255.255.255", 0, 65535);
        r.master = Tuple::new("127.0.0.1", "127.0.0.2", 39676, 2121);
        (r.timeout, r.id, r.zone, r.flags, r.class) = (300, 1, 2, 5, 3);
        (r.helper, r.function) = (b"ftp".to_vec(), b"nat-follow-master".to_vec());
        r.nat = (1, protocol::UDP, Tuple::new("1.1.1.1", "0.0.0.0", 9, 0));
        r.unknown = vec![(70, vec![0xff])];
        r.annotations = vec![(b"k".to_vec(), b"v".to_vec())];
        (r.port_id, r.program) = (8806, b"conntrack".to_vec());
    });
    let mut batch = expectations([row]);
    batch.time = NOW;
    assert_eq!(
        parse(ExpectationFormat::render(&mut plugin(), &batch)),
        [json!({
            "type": "expectation", "time": NOW, "event": "new", "event_kind": 1, "port_id": 8806, "program": "conntrack",
            "family": 2, "family_name": "ipv4", "protocol": 6, "protocol_name": "tcp", "timeout": 300,
            "expected": { "source": "4.4.4.4", "destination": "5.5.5.5", "source_port": 0, "destination_port": 5000 },
            "mask": {
                "protocol": 255, "source": "255.255.255.0", "destination": "255.255.255.255",
                "source_port": 0, "destination_port": 65535,
            },
            "master": {
                "protocol": 6, "protocol_name": "tcp", "source": "127.0.0.1", "destination": "127.0.0.2",
                "source_port": 39676, "destination_port": 2121,
            },
            "zone": 2, "flags": 5, "flag_names": ["PERMANENT", "USERSPACE"], "class": 3, "id": 1,
            "helper": "ftp", "function": "nat-follow-master",
            "nat": {
                "direction": 1, "direction_name": "reply", "protocol": 17, "protocol_name": "udp",
                "source": "1.1.1.1", "destination": "0.0.0.0", "source_port": 9, "destination_port": 0,
            },
            "unknown": [{ "path": [70], "payload": "ff" }],
            "annotations": { "k": "v" },
        })]
    );
    let mut bare = Expected::new(10, 99);
    bare.has = 0;
    assert_eq!(
        parse(ExpectationFormat::render(&mut plugin(), &expectations([bare]))),
        [json!({ "type": "expectation", "time": 0, "family": 10, "family_name": "ipv6" })]
    );
    assert_eq!(ExpectationFormat::render(&mut plugin(), &Expectations::default()), b"");
}

#[test]
fn counters() {
    let render = |counts| parse(StatisticsFormat::render(&mut plugin(), &counts));
    assert_eq!(
        render(Counts {
            subject: 0,
            cpus: vec![0, 5],
            rows: vec![0, 0, 1],
            attributes: vec![2, 25, 15],
            values: vec![7, 8, u64::MAX],
            ..Counts::default()
        }),
        [
            json!({ "type": "statistics", "subject": 0, "subject_name": "cpu", "cpu": 0, "counters": { "found": 7, "25": 8 } }),
            json!({ "type": "statistics", "subject": 0, "subject_name": "cpu", "cpu": 5, "counters": { "chaintoolong": u64::MAX } }),
        ]
    );
    assert_eq!(
        render(Counts {
            subject: 1,
            cpus: vec![1],
            rows: vec![0],
            attributes: vec![2],
            values: vec![3],
            ..Counts::default()
        }),
        [
            json!({ "type": "statistics", "subject": 1, "subject_name": "expectation_cpu", "cpu": 1, "counters": { "expect_create": 3 } })
        ]
    );
    assert_eq!(
        render(Counts {
            subject: 2,
            rows: vec![0, 0],
            attributes: vec![1, 2],
            values: vec![42, 262_144],
            ..Counts::default()
        }),
        [
            json!({ "type": "statistics", "subject": 2, "subject_name": "table", "counters": { "entries": 42, "max_entries": 262_144 } })
        ]
    );
    assert_eq!(
        render(Counts { subject: 9, cpus: vec![0], ..Counts::default() }),
        [json!({ "type": "statistics", "subject": 9, "cpu": 0, "counters": {} })]
    );
    assert!(render(Counts::default()).is_empty());
}
