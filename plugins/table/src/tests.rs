use flowgate_sdk::{
    Cells, Counts, Expectations, Flows, Groups, Setup, address,
    bindings::flowgate::conntrack::setup::Label,
    event, expectation_field, field, protocol,
    query::{self as q, kind},
    statistics, status,
    testing::{Expected, Row, Tuple, batch, expectations, setup},
};

use super::*;
use crate::value::{Value, beginning, clean, duration, scaled, width};

const NOW: u64 = 1_795_480_170_500_000_000;

fn plugin(options: &[(&str, &str)]) -> Table {
    let label = |bit, name: &str| Label { bit, name: name.into() };
    Table::configure(&Setup { labels: vec![label(0, "eth0-in"), label(9, "a,b")], ..setup(options) }).unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn at_now(mut flows: Flows) -> Flows {
    flows.time = NOW;
    flows
}

fn rendered(options: &[(&str, &str)], rows: impl IntoIterator<Item = Row>) -> String {
    text(FlowFormat::render(&mut plugin(options), &at_now(batch(rows))))
}

fn tcp() -> Row {
    Row::ipv4(protocol::TCP).original("10.0.0.1", "1.1.1.1", 40000, 443).reply("1.1.1.1", "192.0.2.1", 443, 40001).set(
        field::TIMEOUT | field::STATE | field::STATUS | field::MARK | field::USE | field::ID | field::COUNTERS,
        |r| {
            (r.timeout, r.state, r.mark, r.use_count, r.id) = (431_999, 3, 7, 1, 2_693_121_496);
            r.status = status::SEEN_REPLY | status::ASSURED | status::SRC_NAT | status::SRC_NAT_DONE;
            (r.original_counters, r.reply_counters) = ((10, 1200), (3, 90_000_000_000));
        },
    )
}

fn udp() -> Row {
    Row::ipv6(protocol::UDP)
        .original("2001:db8::1", "2001:db8::53", 5353, 53)
        .reply("2001:db8::53", "2001:db8::1", 53, 5353)
        .set(field::TIMEOUT | field::STATUS, |r| (r.timeout, r.status) = (29, status::CONFIRMED))
}

fn icmp() -> Row {
    Row::ipv4(protocol::ICMP)
        .original("10.0.0.1", "10.0.0.2", 77, 0x0800)
        .reply("10.0.0.2", "10.0.0.1", 77, 0)
        .set(field::STATUS, |r| r.status = status::SEEN_REPLY)
}

fn gre() -> Row {
    Row::ipv4(protocol::GRE).original("10.0.0.1", "10.0.0.2", 0x10, 0x20).reply("10.0.0.2", "10.0.0.1", 0x20, 0x10)
}

#[test]
fn columns_are_aligned() {
    assert_eq!(
        rendered(&[], [tcp(), udp(), icmp(), gre()]),
        "\
PROTO  STATE        SOURCE              DESTINATION            NAT                   PACKETS  BYTES  MARK  TIMEOUT
tcp    ESTABLISHED  10.0.0.1:40000      1.1.1.1:443            snat 192.0.2.1:40001       13  90.0G   0x7    4d23h
udp    UNREPLIED    [2001:db8::1]:5353  [2001:db8::53]:53                                                      29s
icmp   SEEN_REPLY   10.0.0.1            10.0.0.2 type 8 id 77
gre                 10.0.0.1 key 0x10   10.0.0.2 key 0x20
"
    );
}

#[test]
fn columns_without_values_are_left_out_and_come_when_needed() {
    let mut plugin = plugin(&[]);
    let mut next = |row: Row| text(FlowFormat::render(&mut plugin, &at_now(batch([row]))));
    assert_eq!(
        next(icmp()),
        "PROTO  STATE       SOURCE    DESTINATION\nicmp   SEEN_REPLY  10.0.0.1  10.0.0.2 type 8 id 77\n"
    );
    assert_eq!(next(icmp()), "icmp   SEEN_REPLY  10.0.0.1  10.0.0.2 type 8 id 77\n");
    let marked = next(icmp().set(field::MARK, |row| row.mark = 255));
    assert_eq!(
        marked,
        "PROTO  STATE       SOURCE    DESTINATION            MARK\n\
         icmp   SEEN_REPLY  10.0.0.1  10.0.0.2 type 8 id 77  0xff\n"
    );
    // Widths grow, and stay.
    let wide = next(icmp().original("192.168.100.100", "10.0.0.2", 77, 0x0800));
    assert_eq!(wide, "icmp   SEEN_REPLY  192.168.100.100  10.0.0.2 type 8 id 77\n");
    assert_eq!(next(icmp()), "icmp   SEEN_REPLY  10.0.0.1         10.0.0.2 type 8 id 77\n");
}

#[test]
fn tables_are_fitted_to_the_terminal() {
    let helped = |row: Row| row.set(field::HELPER, |row| row.helper = b"a-very-long-helper".to_vec());
    let lines = |width: &str| rendered(&[("width", width)], [helped(tcp()), tcp()]);
    let header = |width: &str| lines(width).lines().next().unwrap().to_owned();
    assert!(header("0").contains("HELPER"));
    // HELPER is shortened, PACKETS, HELPER and TIMEOUT are left out, in this order; MARK comes back when NAT has gone.
    for (width, gone, stays) in [("105", "PACKETS", "BYTES"), ("90", "TIMEOUT", "BYTES"), ("60", "NAT", "MARK")] {
        let has = |title: &str| header(width).split_whitespace().any(|word| word == title);
        assert!(!has(gone) && has(stays), "{width}: {}", lines(width));
        for line in lines(width).lines() {
            assert!(line.chars().count() <= width.parse().unwrap(), "{width}: {line}");
        }
    }
    assert!(lines("10").contains("10.0.0.1:40000  1.1.1.1:443"), "{}", lines("10"));
    // What the user chose stays, and texts are shortened.
    let chosen = [("width", "20"), ("columns", "src,helper,dst")];
    assert_eq!(
        rendered(&chosen, [helped(tcp())]),
        "SRC       HELPER    DST    \n10.0.0.1  a-very-…  1.1.1.1\n".replace("DST    \n", "DST\n")
    );
}

#[test]
fn one_long_text_does_not_widen_every_line() {
    let long = "x".repeat(5000);
    let named = |helper: &str| tcp().set(field::HELPER, |row| row.helper = helper.into());
    let lines = rendered(&[("columns", "helper,dport")], [named(&long), named("ftp")]);
    assert_eq!(lines, format!("HELPER{}DPORT\n{long}    443\nftp{}443\n", " ".repeat(96), " ".repeat(101)),);
    // A terminal that is wider has the room.
    let lines = rendered(&[("columns", "helper,dport"), ("width", "200")], [named(&"x".repeat(150)), named("ftp")]);
    assert!(lines.lines().all(|line| line.chars().count() == 157) && !lines.contains('…'), "{lines}");
}

#[test]
fn headings_can_be_left_out() {
    assert_eq!(rendered(&[("header", "no"), ("columns", "proto,dport")], [tcp()]), "tcp  443\n");
    assert_eq!(rendered(&[("header", "no"), ("output", "csv"), ("columns", "proto,dport")], [tcp()]), "6,443\r\n");
}

#[test]
fn colours_follow_states() {
    let colored = rendered(&[("color", "yes"), ("columns", "state_or_status,dport")], [tcp(), udp()]);
    assert_eq!(
        colored,
        "\x1b[1mSTATE_OR_STATUS  DPORT\x1b[0m\n\x1b[32mESTABLISHED\x1b[0m        443\n\x1b[33mUNREPLIED\x1b[0m           53\n"
    );
    assert!(!rendered(&[("columns", "state_or_status")], [tcp()]).contains('\x1b'));
}

#[test]
fn events_begin_with_their_kind() {
    let rows = [tcp().event(event::NEW), udp().event(event::DESTROY)];
    let table = rendered(&[], rows.clone());
    let mut lines = table.lines();
    assert!(lines.next().unwrap().starts_with("EVENT    PROTO   STATE        SOURCE"), "{table}");
    assert!(
        lines.next().unwrap().starts_with("NEW      tcp     ESTABLISHED  10.0.0.1:40000         1.1.1.1:443"),
        "{table}"
    );
    let csv = rendered(&[("output", "csv")], rows);
    assert!(csv.starts_with("event_name,event_time,received,family_name,"), "{csv}");
    assert!(csv.lines().nth(1).unwrap().starts_with("new,,"), "{csv}");
}

#[test]
fn separated_values_are_those_of_the_json_output() {
    let columns = "protocol,state,status,mark,src,dport,bytes,timeout,icmp_id,zone,start";
    let csv = |form: &str| rendered(&[("output", form), ("columns", columns)], [tcp(), icmp()]);
    assert_eq!(
        csv("csv"),
        format!("{columns}\r\n6,3,134,7,10.0.0.1,443,90000001200,431999,,0,\r\n1,,2,,10.0.0.1,,,,77,0,\r\n").replace(
            "134",
            &(status::SEEN_REPLY | status::ASSURED | status::SRC_NAT | status::SRC_NAT_DONE).to_string()
        )
    );
    assert_eq!(csv("tsv"), csv("csv").replace(',', "\t").replace("\r\n", "\n"));
    // The columns do not depend on the flows, and are named even without any.
    let usual = rendered(&[("output", "csv")], [tcp()]);
    let mut empty = plugin(&[("output", "csv")]);
    assert_eq!(Some(text(FlowFormat::finish(&mut empty)).trim_end()), usual.lines().next());
    assert_eq!(FlowFormat::finish(&mut empty), b"");
}

#[test]
fn foreign_text_is_quoted_escaped_and_cleaned() {
    let named = |helper: &[u8]| tcp().set(field::HELPER, |row| row.helper = helper.to_vec());
    let cell = |form: &str, helper: &[u8]| {
        rendered(&[("output", form), ("header", "no"), ("columns", "helper")], [named(helper)])
    };
    for (helper, csv, tsv, table) in [
        (&b"ftp"[..], "ftp", "ftp", "ftp"),
        (b"a,b", "\"a,b\"", "a,b", "a,b"),
        (b"a\"b", "\"a\"\"b\"", "a\"b", "a\"b"),
        (b"=1+2", "'=1+2", "=1+2", "=1+2"),
        (b"-x,\"", "\"'-x,\"\"\"", "-x,\"", "-x,\""),
        (b"a\tb\nc", "a\\x09b\\x0ac", "a\\tb\\nc", "a\\x09b\\x0ac"),
        (b"a\\n", "a\\n", "a\\\\n", "a\\n"),
        (b"\x1b[2J\xff", "\\x1b[2J\\xff", "\\x1b[2J\\xff", "\\x1b[2J\\xff"),
        (
            "\u{202e}x\u{200b}é".as_bytes(),
            "\\xe2\\x80\\xaex\\xe2\\x80\\x8bé",
            "\\xe2\\x80\\xaex\\xe2\\x80\\x8bé",
            "\\xe2\\x80\\xaex\\xe2\\x80\\x8bé",
        ),
    ] {
        assert_eq!(cell("csv", helper), format!("{csv}\r\n"));
        assert_eq!(cell("tsv", helper), format!("{tsv}\n"));
        assert_eq!(cell("table", helper), format!("{table}\n"));
    }
}

#[test]
fn labels_annotations_and_joined_columns() {
    let row = tcp()
        .set(field::LABELS, |row| row.labels = vec![1, 2, 0x80])
        .set(field::ANNOTATIONS, |row| row.annotations = vec![(b"country".to_vec(), b"DE".to_vec())]);
    assert_eq!(
        rendered(
            &[("output", "csv"), ("columns", "labels,annotations.country,annotations.x,from,reply.to,nat")],
            [row.clone()]
        ),
        "labels,annotations.country,annotations.x,from,reply.to,nat\r\n\
         \"eth0-in,a,b,23\",DE,,10.0.0.1:40000,192.0.2.1:40001,snat 192.0.2.1:40001\r\n"
    );
    assert!(rendered(&[], [row]).contains("country=DE"));
    let Err(message) = Table::configure(&setup(&[("columns", "src,sourc")])) else { panic!("accepted") };
    assert_eq!(message, "there is no column `sourc`");
}

#[test]
fn every_field_is_a_column() {
    // Every bit, with values of which none is the default.
    let names: Vec<&str> = q::ALL.iter().map(|field| field.name).collect();
    let csv = rendered(&[("output", "csv"), ("columns", &names.join(","))], [tcp(), udp(), icmp(), gre()]);
    let commas = |line: &str| line.matches(',').count();
    assert!(csv.lines().all(|line| commas(line) == names.len() - 1), "{csv}");
}

#[test]
fn expectations_have_tables_too() {
    let rows = || -> Expectations {
        let row = Expected::new(2, protocol::TCP).set(
            expectation_field::EXPECTED
                | expectation_field::EXPECTED_L4
                | expectation_field::MASTER
                | expectation_field::MASTER_L4
                | expectation_field::TIMEOUT
                | expectation_field::HELPER,
            |row| {
                row.expected = Tuple::new("10.0.0.1", "10.0.0.2", 0, 2021);
                row.master = Tuple::new("10.0.0.1", "10.0.0.2", 40000, 21);
                row.master_protocol = protocol::TCP;
                row.timeout = 299;
                row.helper = b"ftp".to_vec();
            },
        );
        expectations([row])
    };
    assert_eq!(
        text(ExpectationFormat::render(&mut plugin(&[]), &rows())),
        "PROTO  SOURCE    DESTINATION    MASTER SOURCE   MASTER DESTINATION  HELPER  TIMEOUT\n\
         tcp    10.0.0.1  10.0.0.2:2021  10.0.0.1:40000  10.0.0.2:21         ftp       4m59s\n"
    );
    let csv = text(ExpectationFormat::render(&mut plugin(&[("output", "csv")]), &rows()));
    let mut lines = csv.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let values: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(names.len(), values.len());
    let of = |name: &str| values[names.iter().position(|of| *of == name).unwrap()];
    assert_eq!((of("expected.destination_port"), of("master.source"), of("helper")), ("2021", "10.0.0.1", "ftp"));
    assert_eq!((of("timeout"), of("mask.source"), of("event_name")), ("299", "0.0.0.0", ""));
}

#[test]
fn counters_have_a_row_each_with_their_sum() {
    let counts = || Counts {
        subject: statistics::CPU,
        cpus: vec![0, 1],
        rows: vec![0, 0, 1, 1],
        attributes: vec![2, 4, 2, 4],
        values: vec![5, 0, 1_000_000, 7],
        ..Counts::default()
    };
    let render = |options: &[(&str, &str)]| text(StatisticsFormat::render(&mut plugin(options), &counts()));
    assert_eq!(
        render(&[]),
        "COUNTER    TOTAL  CPU 0    CPU 1\nfound    1000005      5  1000000\ninvalid        7      0        7\n"
    );
    assert!(render(&[("width", "24")]).starts_with("COUNTER    TOTAL  CPU 0\n"), "{}", render(&[("width", "24")]));
    assert_eq!(render(&[("output", "csv")]), "cpu,found,invalid\r\n0,5,0\r\n1,1000000,7\r\n");
}

fn cells(name: &str, kind: u8, values: &[i128]) -> Cells {
    Cells {
        name: name.into(),
        kind,
        hi: values.iter().map(|value| (value.cast_unsigned() >> 64) as u64).collect(),
        lo: values.iter().map(|value| *value as u64).collect(),
        ..Cells::default()
    }
}

fn groups() -> Groups {
    let network = |text: &str| address::bits(text.parse().unwrap()).cast_signed();
    let mut source = cells("src/24", kind::NETWORK, &[network("10.0.0.0"), network("10.0.1.0"), 0]);
    source.reals = vec![24.0, 24.0, 0.0];
    source.has = vec![1, 1, 0];
    let mut mean = cells("avg(bytes)", kind::MEAN_BYTES, &[]);
    mean.reals = vec![0.5, 1500.0, 2.0];
    Groups {
        length: 3,
        columns: vec![
            source,
            cells("count", kind::PLAIN, &[3, 40, 1]),
            cells("sum(bytes)", kind::BYTES, &[2_000_000, 1_000_000, 9]),
            mean,
        ],
        keys: 1,
        flows: 44,
        total: 5,
        ..Groups::default()
    }
}

#[test]
fn groups_have_bars_behind_the_sorting_measure() {
    let render = |options: &[(&str, &str)], groups: &Groups| text(GroupsFormat::render(&mut plugin(options), groups));
    assert_eq!(
        render(&[], &groups()),
        "SRC/24       COUNT  SUM(BYTES)                        AVG(BYTES)\n\
         10.0.0.0/24      3        2.0M  ████████████████████           0\n\
         10.0.1.0/24     40        1.0M  ██████████                  1.5k\n\
         -                1           9  ▏                              2\n\
         44 flows in 5 groups, 3 shown\n"
    );
    let plain = render(&[("bars", "no")], &groups());
    assert!(!plain.contains('█') && plain.contains("10.0.0.0/24      3        2.0M           0\n"), "{plain}");
    let approximate = Groups { errors: vec![0, 5000, 1], ..groups() };
    assert!(render(&[], &approximate).contains(" 1.0M ±5.0k  "), "{}", render(&[], &approximate));
    assert_eq!(
        render(&[("output", "csv")], &approximate),
        "src/24,count,sum(bytes),avg(bytes),errors\r\n10.0.0.0/24,3,2000000,0.5,0\r\n10.0.1.0/24,40,1000000,1500,5000\r\n,1,9,2,1\r\n"
    );
    let window = Groups { since: NOW, until: NOW + 10_000_000_000, ..groups() };
    assert!(render(&[], &window).starts_with("2026-11-24 00:29:30.500 +10s\nSRC/24"), "{}", render(&[], &window));
    assert!(render(&[("output", "tsv")], &window).starts_with("since\tuntil\tsrc/24\t"));
    // Nothing at all.
    assert_eq!(render(&[], &Groups::default()).lines().last(), Some("0 flows in 0 groups"));
}

#[test]
fn numbers_have_units() {
    let written = |write: &dyn Fn(&mut Page)| {
        let mut page = Page::default();
        write(&mut page);
        text(page.into_bytes())
    };
    for (number, scale) in [
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (12_345, "12.3k"),
        (999_949, "999.9k"),
        (999_950, "1.0M"),
        (1_000_000_000, "1.0G"),
        (u64::MAX, "18.4E"),
    ] {
        assert_eq!(written(&|page| scaled(page, number)), scale);
    }
    for (seconds, time) in
        [(59, "59s"), (119, "1m59s"), (10_920, "3h02m"), (431_999, "4d23h"), (34_560_000, "400d"), (3600, "1h00m")]
    {
        assert_eq!(written(&|page| duration(page, seconds)), time);
    }
    for number in
        [0, 1, -1, i128::from(u64::MAX), i128::from(u64::MAX) + 1, i128::MAX, -10_i128.pow(38), 10_i128.pow(19)]
    {
        assert_eq!(written(&|page| page.integer(number)), number.to_string());
    }
    let style = Style { human: true, names: true, ..Style::default() };
    for (kind, value, expected) in [
        (kind::NANOSECONDS, Value::Number(1_500_000_000), "1.500s"),
        (kind::NANOSECONDS, Value::Number(90_000_000_000), "1m30s"),
        (kind::RATE, Value::Real(2.25), "2.3/s"),
        (kind::BYTE_RATE, Value::Real(1.5e6), "1.5M/s"),
        (kind::MEAN, Value::Real(1e15), "1000000000000000"),
        (kind::STATUS, Value::Number(10), "SEEN_REPLY,CONFIRMED"),
        (kind::STATE, Value::Number(7), "TIME_WAIT"),
        (kind::EVENT, Value::Number(3), "DESTROY"),
        (kind::FAMILY, Value::Number(99), "99"),
        (kind::PLAIN, Value::Number(-5), "-5"),
    ] {
        assert_eq!(written(&|page| style.write(page, kind, &value)), expected, "{value:?}");
    }
}

#[test]
fn wide_characters_count_twice() {
    assert_eq!(width("日本".as_bytes()), 4);
    assert_eq!(width("e\u{301}".as_bytes()), 1);
    assert_eq!(beginning("日本x".as_bytes(), 3), "日".as_bytes());
    assert_eq!(beginning(b"abc", 2), b"ab");
    let mut page = Page::default();
    clean(&mut page, "\u{feff}日".as_bytes());
    assert_eq!(text(page.into_bytes()), "\\xef\\xbb\\xbf日");
}

#[test]
fn the_agent_of_a_fleet_is_the_first_column() {
    let of = |row: Row, agent: &[u8], more: &[(&[u8], &[u8])]| {
        let notes = more.iter().map(|(key, value)| (key.to_vec(), value.to_vec()));
        let notes: Vec<_> = notes.chain([(b"agent".to_vec(), agent.to_vec())]).collect();
        row.set(field::ANNOTATIONS, |row| row.annotations = notes.clone())
    };
    assert_eq!(
        rendered(&[("agent", "yes")], [of(udp(), b"web-1", &[]), of(icmp(), b"db", &[(b"agent", b"forged")])]),
        "\
AGENT  PROTO  STATE       SOURCE              DESTINATION            TIMEOUT
web-1  udp    UNREPLIED   [2001:db8::1]:5353  [2001:db8::53]:53          29s
db     icmp   SEEN_REPLY  10.0.0.1            10.0.0.2 type 8 id 77
"
    );
    // Other notes have their column.
    let noted = rendered(&[("agent", "yes")], [of(udp(), b"web-1", &[(b"country", b"DE")])]);
    assert!(noted.contains("NOTES") && noted.contains("country=DE") && !noted.contains("agent="), "{noted}");
    let chosen = rendered(&[("agent", "yes"), ("columns", "dst")], [of(icmp(), b"db\x1b", &[])]);
    assert_eq!(chosen, "AGENT   DST\ndb\\x1b  10.0.0.2\n");
    let csv = rendered(&[("agent", "yes"), ("output", "csv"), ("columns", "src")], [of(icmp(), b"db", &[])]);
    assert_eq!(csv, "agent,src\r\ndb,10.0.0.1\r\n");
    let usual = rendered(&[("agent", "yes"), ("output", "tsv")], [of(icmp(), b"db", &[])]);
    assert!(usual.starts_with("agent\tfamily_name\t") && usual.contains("\ndb\tipv4\t"), "{usual}");
    assert!(rendered(&[], [of(icmp(), b"db", &[])]).contains("agent=db"), "without the option it is a note");
}
