use flowgate_sdk::{
    Setup,
    bindings::flowgate::conntrack::setup::{Label, OptionValue},
    event, expectation_field, protocol, status,
    testing::{Expected, Row, Tuple, batch, expectations},
};

use super::*;

/// 2026-11-24 00:28:05.5 UTC.
const NOW: u64 = 1_795_480_085_500_000_000;

fn xml(options: &[&str]) -> Xml {
    let labels = [(0, "eth0-in"), (2, "a<b&c")];
    let with_labels = options.contains(&"labels");
    Xml::configure(&Setup {
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

fn line(options: &[&str], row: Row) -> String {
    let mut batch = batch([row]);
    batch.time = NOW;
    String::from_utf8(FlowFormat::render(&mut xml(options), &batch)).unwrap()
}

fn udp(source: &str, destination: &str) -> Row {
    Row::ipv4(protocol::UDP)
        .original(source, destination, 1, 53)
        .set(field::TIMEOUT | field::MARK | field::USE | field::ID | field::STATUS, |r| {
            (r.timeout, r.use_count, r.id, r.status) = (299, 1, 1_184_013_940, status::CONFIRMED)
        })
}

const UDP: &str = r#"<flow><meta direction="original"><layer3 protonum="2" protoname="ipv4"><src>10.0.0.1</src><dst>10.1.0.1</dst></layer3><layer4 protonum="17" protoname="udp"><sport>1</sport><dport>53</dport></layer4><zone>6</zone></meta><meta direction="reply"><layer3 protonum="2" protoname="ipv4"><src>10.1.0.1</src><dst>10.0.0.1</dst></layer3><layer4 protonum="17" protoname="udp"><sport>53</sport><dport>1</dport></layer4></meta><meta direction="independent"><timeout>299</timeout><mark>0</mark><use>1</use><id>1184013940</id><unreplied/></meta></flow>
"#;

#[test]
fn dumped_flow() {
    let row = udp("10.0.0.1", "10.1.0.1").set(field::ORIGINAL_ZONE, |r| r.original_zone = 6);
    assert_eq!(line(&[], row.clone()), UDP);
    let reply = row.without(field::ORIGINAL_ZONE).set(field::REPLY_ZONE, |r| r.reply_zone = 7);
    assert_eq!(
        line(&["timestamp", "ktimestamp", "labels"], reply),
        UDP.replace("<zone>6</zone>", "")
            .replace("<dport>1</dport></layer4>", "<dport>1</dport></layer4><zone>7</zone>")
    );
}

#[test]
fn event_of_a_flow() {
    let row = udp("10.0.0.1", "10.1.0.1")
        .without(field::USE)
        .set(field::EVENT_TIME, |r| (r.timeout, r.mark, r.id, r.event_time) = (300, 4, 1_384_995_534, NOW));
    let independent =
        r#"<meta direction="independent"><timeout>300</timeout><mark>4</mark><id>1384995534</id><unreplied/></meta>"#;
    let when = "<when><hour>0</hour><min>28</min><sec>05</sec><wday>3</wday><day>24</day><month>11</month><year>2026</year></when></flow>\n";
    for (kind, name) in [(event::NEW, "new"), (event::UPDATE, "update"), (event::DESTROY, "destroy")] {
        let text = line(&["timestamp"], row.clone().event(kind));
        assert!(text.starts_with(&format!("<flow type=\"{name}\"><meta direction=\"original\"><layer3")), "{text}");
        assert!(text.ends_with(&format!("{independent}{when}")), "{text}");
        assert!(line(&[], row.clone().event(kind)).ends_with(&format!("{independent}</flow>\n")));
    }
    let synthetic = line(&[], row.clone().event(event::DESTROY).set(field::SYNTHETIC, |_| {}));
    assert!(synthetic.starts_with("<flow type=\"destroy\" synthetic=\"true\"><meta direction"), "{synthetic}");
    // Without an event there is no time.
    assert!(line(&["timestamp"], row).ends_with(&format!("{independent}</flow>\n")));
    let gap = Row::default().event(event::GAP);
    assert_eq!(line(&["header"], gap), "");
}

#[test]
fn protocols() {
    let layer4 = |row: Row| {
        let text = line(&[], row);
        let start = text.find("<layer4").unwrap();
        text[start..text.find("</meta>").unwrap()].to_string()
    };
    for number in [protocol::TCP, protocol::UDP, protocol::UDPLITE, protocol::SCTP, protocol::DCCP] {
        let name = protocol::name(number).unwrap();
        assert_eq!(
            layer4(Row::ipv6(number).original("::1", "::2", 7, 8)),
            format!("<layer4 protonum=\"{number}\" protoname=\"{name}\"><sport>7</sport><dport>8</dport></layer4>")
        );
    }
    assert_eq!(
        layer4(Row::ipv4(protocol::GRE).original("1.1.1.1", "2.2.2.2", 0x1f, 0)),
        "<layer4 protonum=\"47\" protoname=\"gre\"><srckey>0x1f</srckey><dstkey>0x0</dstkey></layer4>"
    );
    for (number, name) in [(protocol::ICMP, "icmp"), (protocol::ICMPV6, "icmpv6"), (99, "unknown")] {
        assert_eq!(
            layer4(Row::ipv4(number).original("1.1.1.1", "2.2.2.2", 1, 2)),
            format!("<layer4 protonum=\"{number}\" protoname=\"{name}\"></layer4>")
        );
    }
    let six = line(&[], Row::ipv6(99).original("fe80::1", "2001:db8::2", 0, 0));
    assert!(
        six.contains(r#"<layer3 protonum="10" protoname="ipv6"><src>fe80::1</src><dst>2001:db8::2</dst></layer3>"#)
    );
    // Only the tuples: no block for both directions.
    assert!(six.ends_with("</layer4></meta></flow>\n"), "{six}");
    assert!(line(&[], Row::new(7, 99)).contains(r#"<layer3 protonum="7" protoname="unknown"></layer3>"#));
}

#[test]
fn every_optional_field() {
    let row = Row::ipv4(protocol::SCTP).original("1.1.1.1", "2.2.2.2", 1, 2).set(
        field::ALL & !field::UNKNOWN & !field::STOP,
        |r| {
            (r.zone, r.original_zone, r.reply_zone) = (5, 6, 7);
            (r.status, r.timeout, r.mark, r.secmark, r.use_count, r.id) = (0x4006, 8, 9, 10, 11, 12);
            (r.original_counters, r.reply_counters) = ((1, 2), (3, 4));
            (r.start, r.state) = (NOW - 5_600_000_000, 4);
            (r.labels, r.helper) = (vec![0b1101], b"ft<p\x01".to_vec());
            r.security_context = b"a & b".to_vec();
            r.annotations = vec![(b"country".to_vec(), b"DE".to_vec()), (b"a\"b".to_vec(), b"<x>\n\x1b\xff'".to_vec())];
        },
    );
    let tuple = |a, b, c, d, zone, packets, bytes| {
        format!(
            r#"<layer3 protonum="2" protoname="ipv4"><src>{a}</src><dst>{b}</dst></layer3><layer4 protonum="132" protoname="sctp"><sport>{c}</sport><dport>{d}</dport></layer4><zone>{zone}</zone><counters><packets>{packets}</packets><bytes>{bytes}</bytes></counters>"#
        )
    };
    let tuples = format!(
        r#"<meta direction="original">{}</meta><meta direction="reply">{}</meta>"#,
        tuple("1.1.1.1", "2.2.2.2", 1, 2, 6, 1, 2),
        tuple("2.2.2.2", "1.1.1.1", 2, 1, 7, 3, 4)
    );
    let tail = "</meta><helper>ft&lt;p\u{fffd}</helper><annotations><annotation key=\"country\">DE</annotation><annotation key=\"a&quot;b\">&lt;x&gt;&#10;\u{fffd}\u{fffd}&apos;</annotation></annotations></flow>\n";
    // The names of states are those of TCP, whatever the protocol.
    let head = format!(
        "<flow>{tuples}<meta direction=\"independent\"><state>FIN_WAIT</state><timeout>8</timeout><mark>9</mark>"
    );
    let middle = "<secmark>10</secmark><secctx>a &amp; b</secctx><zone>5</zone><use>11</use><id>12</id><assured/>";
    assert_eq!(line(&[], row.clone()), format!("{head}{middle}<deltatime>6</deltatime>{tail}"));
    assert_eq!(
        line(&["ktimestamp", "labels"], row.clone()),
        format!(
            "{head}<labels><label>eth0-in</label><label>a&lt;b&amp;c</label></labels>{middle}<timestamp><start>{}</start></timestamp><deltatime>6</deltatime>{tail}",
            NOW - 5_600_000_000
        )
    );
    let stopped = row.clone().set(field::STOP, |r| r.stop = NOW);
    assert_eq!(
        line(&["ktimestamp"], stopped),
        format!(
            "{head}{middle}<timestamp><start>{}</start><stop>{NOW}</stop></timestamp><deltatime>5</deltatime>{tail}",
            NOW - 5_600_000_000
        )
    );
    // Counters of both directions are shown if the original one has them.
    assert!(!line(&[], row.clone().without(field::ORIGINAL_COUNTERS)).contains("<counters>"));
    assert_eq!(line(&[], row.clone().without(field::REPLY_COUNTERS)).matches("<counters>").count(), 2);
    // Labels without a name.
    let nameless = row.set(0, |r| r.labels = vec![0x80]);
    assert!(line(&["labels"], nameless).contains("<labels></labels>"));
}

#[test]
fn header_and_footer() {
    const HEADER: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<conntrack>\n";
    let row = || udp("10.0.0.1", "10.1.0.1");
    for (options, header, footer) in [
        (&["header", "footer"][..], HEADER, "</conntrack>\n"),
        (&["header"], HEADER, ""),
        (&["footer"], "", ""),
        (&[], "", ""),
    ] {
        let mut plugin = xml(options);
        assert_eq!(FlowFormat::begin(&mut plugin), b"");
        assert_eq!(FlowFormat::render(&mut plugin, &batch([])), b"");
        let first = String::from_utf8(FlowFormat::render(&mut plugin, &batch([row(), row()]))).unwrap();
        assert!(first.starts_with(&format!("{header}<flow>")));
        assert_eq!(first.lines().count(), 2 + header.lines().count());
        assert!(FlowFormat::render(&mut plugin, &batch([row()])).starts_with(b"<flow>"));
        assert_eq!(FlowFormat::finish(&mut plugin), footer.as_bytes());
        // Nothing shown, nothing to close.
        assert_eq!(FlowFormat::finish(&mut xml(options)), b"");
    }
}

#[test]
fn expectation_elements() {
    let row = Expected::new(2, protocol::UDP).set(
        expectation_field::TIMEOUT | expectation_field::CLASS | expectation_field::HELPER,
        |r| {
            r.expected = Tuple::new("127.0.0.1", "127.0.0.1", 0, 43549);
            r.mask = Tuple::new("255.255.255.255", "255.255.255.255", 0, 65535);
            r.master = Tuple::new("127.0.0.1", "127.0.0.1", 43549, 6969);
            (r.timeout, r.helper) = (299, b"tftp".to_vec());
        },
    );
    let text = r#"<flow><layer3 protonum="2" protoname="ipv4"><expected><src>127.0.0.1</src><dst>127.0.0.1</dst></expected><mask><src>255.255.255.255</src><dst>255.255.255.255</dst></mask><master><src>127.0.0.1</src><dst>127.0.0.1</dst></master></layer3><layer4 protonum="17" protoname="udp"><expected><sport>0</sport><dport>43549</dport></expected><mask><sport>0</sport><dport>65535</dport></mask><master><sport>43549</sport><dport>6969</dport></master></layer4><meta><helper-name>tftp</helper-name><timeout>299</timeout><class>0</class></meta></flow>
"#;
    let mut plugin = xml(&["header", "footer"]);
    let bytes = ExpectationFormat::render(&mut plugin, &expectations([row.clone()]));
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<expect>\n{text}")
    );
    assert_eq!(ExpectationFormat::finish(&mut plugin), b"</expect>\n");

    let full = row.set(expectation_field::ZONE | expectation_field::FLAGS | expectation_field::ANNOTATIONS, |r| {
        (r.event, r.zone, r.flags) = (event::DESTROY, 3, 7);
        r.annotations = vec![(b"k".to_vec(), b"v".to_vec())];
    });
    let mut batch = expectations([full]);
    batch.time = NOW;
    let bytes = ExpectationFormat::render(&mut xml(&["timestamp"]), &batch);
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        text.replace("<flow>", "<flow type=\"destroy\">").replace(
            "</class></meta>",
            "</class><zone>3</zone><when><hour>0</hour><min>28</min><sec>05</sec><wday>3</wday><day>24</day><month>11</month><year>2026</year></when><permanent/><inactive/><userspace/></meta><annotations><annotation key=\"k\">v</annotation></annotations>"
        )
    );
}
