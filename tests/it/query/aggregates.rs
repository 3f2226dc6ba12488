//! Groups of flows, compared with DuckDB on the JSON output of the same table.

use std::collections::BTreeMap;

use flowgate_test_support::{Background, Limit, Namespace, Program, Random, entries, flowgate, traffic::Traffic};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::duckdb::DuckDb;

/// Number of random aggregations.
const AGGREGATES: usize = 300;

/// Keys: the expression, the column, and whether it is an address.
const KEYS: &[(&str, &str, bool)] = &[
    ("proto", "protocol", false),
    ("family", "family", false),
    ("state", "state", false),
    ("mark", "mark", false),
    ("dport", "\"original.destination_port\"", false),
    ("reply.sport", "\"reply.source_port\"", false),
    ("icmp_type", "\"original.icmp_type\"", false),
    ("zone", "COALESCE(zone, 0)", false),
    ("helper", "helper", false),
    ("protocol_name", "protocol_name", false),
    ("state_name", "state_name", false),
    ("original.packets % 3", "\"original.packets\" % 3", false),
    ("src", "\"original.source\"", true),
    ("dst", "\"original.destination\"", true),
    ("reply.dst", "\"reply.destination\"", true),
    ("snat", "\"nat.source.address\"", true),
];

/// Numbers: the expression, and the column.
const NUMBERS: &[(&str, &str)] = &[
    ("original.bytes", "\"original.bytes\""),
    ("reply.packets", "\"reply.packets\""),
    ("timeout", "timeout"),
    ("original.bytes * 3 - timeout", "\"original.bytes\" * 3 - timeout"),
    ("original.bytes * reply.bytes", "\"original.bytes\" * \"reply.bytes\""),
];

/// The result of one group: measures by their name.
type Measures = BTreeMap<String, String>;

/// An aggregation in both languages.
#[derive(Debug)]
struct Aggregate {
    words: Vec<String>,
    keys: Vec<String>,
    measures: Vec<String>,
    sql: String,
}

/// Returns the network of an address in SQL: numbers up to 2^48 are IPv4 in its mapped form.
fn network(column: &str, ipv4: u32, ipv6: u32) -> String {
    let host = |bits: u32| format!("{column} % '{}'::UHUGEINT", 1u128 << bits);
    format!(
        "{column} - CASE WHEN {column} < '281474976710656'::UHUGEINT THEN {} ELSE {} END",
        host(32 - ipv4),
        host(128 - ipv6)
    )
}

fn random_aggregate(random: &mut Random) -> Aggregate {
    let mut words = Vec::new();
    let (mut keys, mut columns) = (Vec::new(), Vec::new());
    for _ in 0..random.below(4) {
        let (name, column, address) = KEYS[random.below(KEYS.len())];
        let (name, column) = match random.below(3) {
            1 if address => {
                let ipv4 = random.below(33) as u32;
                (format!("{name}/{ipv4}"), network(column, ipv4, 128))
            }
            2 if address => {
                let (ipv4, ipv6) = (random.below(33) as u32, 33 + random.below(96) as u32);
                (format!("{name}/{ipv4}/{ipv6}"), network(column, ipv4, ipv6))
            }
            _ => (name.to_owned(), column.to_owned()),
        };
        if !keys.contains(&name) {
            keys.push(name);
            columns.push(format!("CAST({column} AS VARCHAR)"));
        }
    }
    if !keys.is_empty() {
        words.extend(["--by".to_owned(), keys.join(",")]);
    }
    let mut measures = Vec::new();
    let mut selected = columns.clone();
    for _ in 0..1 + random.below(4) {
        let function = ["count", "sum", "min", "max", "avg", "distinct"][random.below(6)];
        let (name, word, sql) = match function {
            "count" => ("count".to_owned(), None, "CAST(count(*) AS VARCHAR)".to_owned()),
            "distinct" => {
                let (name, column, _) = KEYS[random.below(KEYS.len())];
                (format!("distinct({name})"), Some(name), format!("CAST(count(DISTINCT {column}) AS VARCHAR)"))
            }
            function => {
                let (name, column) = NUMBERS[random.below(NUMBERS.len())];
                let sql = match function {
                    "sum" => format!("CAST(COALESCE(sum({column}), 0) AS VARCHAR)"),
                    _ => format!("CAST({function}({column}) AS VARCHAR)"),
                };
                (format!("{function}({name})"), Some(name), sql)
            }
        };
        if !measures.contains(&name) {
            words.push(format!("--{function}"));
            words.extend(word.map(str::to_owned));
            measures.push(name);
            selected.push(sql);
        }
    }
    let mut sql = format!("SELECT {} FROM flows", selected.join(", "));
    if !columns.is_empty() {
        sql.push_str(&format!(" GROUP BY {}", columns.join(", ")));
    }
    Aggregate { words, keys, measures, sql }
}

/// Returns a value as DuckDB has it: addresses and networks as numbers.
fn text(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let address = text.split('/').next().unwrap_or_default();
    match address.parse() {
        Ok(std::net::IpAddr::V4(address)) => (0xffff_0000_0000u64 | u64::from(u32::from(address))).to_string(),
        Ok(std::net::IpAddr::V6(address)) => u128::from(address).to_string(),
        Err(_) => text.clone(),
    }
}

/// Returns the groups of a JSON output.
fn groups(json: &str, keys: &[String], measures: &[String]) -> BTreeMap<Vec<Option<String>>, Measures> {
    let mut groups = BTreeMap::new();
    for line in json.lines() {
        let group: Value = serde_json::from_str(line).unwrap();
        assert_eq!(group["type"], "group");
        let key = keys.iter().map(|key| group.get(key).map(text)).collect();
        let measures = measures.iter().filter_map(|name| Some((name.clone(), text(group.get(name)?)))).collect();
        assert_eq!(groups.insert(key, measures), None, "{line}");
    }
    groups
}

/// Returns true if two measures are the same: means as far as six digits after the point say so.
fn same(one: &Measures, two: &Measures) -> bool {
    one.len() == two.len()
        && one.iter().zip(two).all(|((name, one), (other, two))| {
            let close = || {
                let (one, two): (f64, f64) = (one.parse().unwrap(), two.parse().unwrap());
                (one - two).abs() <= 1e-6 + two.abs() * 1e-12
            };
            name == other && (one == two || name.starts_with("avg(") && close())
        })
}

/// Returns the groups of a command with an output in JSON.
fn grouped(command: &[&str], aggregate: &Aggregate) -> BTreeMap<Vec<Option<String>>, Measures> {
    let words: Vec<&str> = aggregate.words.iter().map(String::as_str).collect();
    let json = flowgate().must(&[command, &["-o", "json"], &words].concat());
    groups(&json, &aggregate.keys, &aggregate.measures)
}

#[test]
fn random_aggregates_agree_with_duckdb() {
    let seed = Random::seed("FLOWGATE_SEED");
    println!("FLOWGATE_SEED={seed}");
    Namespace::run(|namespace| {
        // Without the open sockets nothing is sent any more: the counters stay as they are.
        drop(Traffic::in_a_full_table(namespace));
        let recording = namespace.directory().join("table.pcap");
        let recording = recording.to_str().unwrap();
        flowgate().must(&["record", recording, "--", "-L"]);
        let file = namespace.directory().join("flows.json");
        std::fs::write(&file, flowgate().must(&["replay", recording, "--", "-L", "-o", "json"])).unwrap();
        let mut duckdb = DuckDb::with(&file);
        let ids: Vec<String> = duckdb.ids("TRUE").iter().map(u64::to_string).collect();
        // The kernel's own messages may have made a flow in the meantime.
        let recorded = format!("id in {{{}}}", ids.join(", "));
        let mut random = Random::new(seed);
        let (mut several, mut live) = (0, 0);
        for round in 0..AGGREGATES {
            let aggregate = random_aggregate(&mut random);
            let mut expected = BTreeMap::new();
            for row in duckdb.rows(&aggregate.sql) {
                let cells: Vec<Option<String>> =
                    row.iter().map(|cell| (!cell.is_null()).then(|| cell.as_str().unwrap().to_owned())).collect();
                let (key, values) = cells.split_at(aggregate.keys.len());
                let named = aggregate.measures.iter().cloned().zip(values.iter().cloned());
                expected.insert(key.to_vec(), named.filter_map(|(name, value)| Some((name, value?))).collect());
            }
            let check = |found: BTreeMap<Vec<Option<String>>, Measures>, of: &str| {
                let context = || format!("{of}, FLOWGATE_SEED={seed}\n{aggregate:#?}");
                assert!(found.keys().eq(expected.keys()), "{}\n{found:#?}\n{expected:#?}", context());
                for (key, measures) in &found {
                    assert!(
                        same(measures, &expected[key]),
                        "{}\n{key:?}\n{measures:?}\n{:?}",
                        context(),
                        expected[key]
                    );
                }
            };
            // The remaining times change from one listing to the next.
            let timed = aggregate.words.iter().any(|word| word.contains("timeout"));
            if !timed {
                check(grouped(&["-L", "--where", &recorded], &aggregate), "live");
                live += 1;
            }
            if timed || round % 4 == 0 {
                check(grouped(&["replay", recording, "--", "-L"], &aggregate), "replayed");
            }
            several += usize::from(expected.len() > 5);
        }
        assert!(several > AGGREGATES / 4 && live > AGGREGATES / 3, "{several} {live}");
        println!("{several} of {AGGREGATES} aggregations had more than 5 groups, {live} were of the live table");
    });
}

#[test]
fn a_dump_its_recording_and_events_with_a_gap_agree() {
    Namespace::run(|namespace| {
        let queries: [&[&str]; 3] = [
            &["--by", "proto,family,zone", "--count", "--distinct", "dport,src"],
            &["--by", "src/24/64,dport", "--distinct", "dst", "--max", "mark", "--sort", "dport", "--top", "10"],
            &["--by", "mark & 1,state", "--min", "sport", "--avg", "mark & 0xff"],
        ];
        let words =
            |query: &[&'static str]| [&["-E", "-e", "NEW", "-b", "20000", "--resync", "-o", "json"], query].concat();
        let mut listeners: Vec<Background> =
            queries.iter().map(|query| Background::start(&flowgate(), &words(query))).collect();
        listeners.iter().for_each(Background::wait_until_listening);
        let load = || {
            for lines in [entries::every_protocol(), entries::nat(), entries::marks(), entries::zones()] {
                entries::load(namespace, &lines);
            }
            entries::load(namespace, &entries::busy(1000));
        };
        // More than fits into their buffers.
        let stopped = |load: &dyn Fn()| {
            listeners[0].while_stopped(|| listeners[1].while_stopped(|| listeners[2].while_stopped(load)))
        };
        stopped(&load);
        let recording = namespace.directory().join("table.pcap");
        let recording = recording.to_str().unwrap();
        flowgate().must(&["record", recording, "--", "-L"]);
        for (query, listener) in queries.iter().zip(&mut listeners) {
            let live = flowgate().must(&[&["-L", "-o", "json"], *query].concat());
            assert!(live.lines().count() > 5, "{live}");
            assert_eq!(live, flowgate().must(&[&["replay", recording, "--", "-L", "-o", "json"], *query].concat()));
            listener.wait_until_idle();
            let outcome = listener.end_by(Signal::SIGINT);
            assert!(outcome.errors().contains("We are losing events"), "{}", outcome.errors());
            assert_eq!(live, outcome.text(), "{query:?}: {}", outcome.errors());
        }
    });
}

#[test]
fn a_recording_gives_what_the_dump_gave() {
    Namespace::run(|namespace| {
        namespace.account(true);
        entries::load(namespace, &entries::busy(3000));
        let recording = namespace.directory().join("table.pcap");
        let recording = recording.to_str().unwrap();
        flowgate().must(&["record", recording, "--", "-L"]);
        for words in [
            &["--by", "proto", "--count"][..],
            &["--by", "src/24,dport", "--distinct", "dst", "--sort", "dport", "--top", "10"],
            &["--by", "src", "--count", "--approximate", "--max-groups", "50", "--top", "5"],
        ] {
            let live = flowgate().must(&[&["-L", "-o", "json"], words].concat());
            let replayed = flowgate().must(&[&["replay", recording, "--", "-L", "-o", "json"], words].concat());
            assert_eq!(live, replayed);
            assert!(!live.is_empty());
        }
    });
}

/// Returns the statuses of a pipeline of the shell, and what it printed on standard error.
fn piped(script: &str) -> (String, String) {
    let path = flowgate().path.display().to_string();
    let script = format!("{} ; echo \"${{PIPESTATUS[@]}}\"", script.replace("flowgate", &path));
    let outcome = Program::new("bash").run(&["-c", &script]);
    (outcome.text().lines().last().unwrap_or_default().to_owned(), outcome.errors())
}

#[test]
fn a_reader_that_stops_ends_the_listing() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(20_000));
        let plain = piped("flowgate -L -o json | head -n 1 > /dev/null");
        let groups = piped("flowgate -L -o json --by id | head -n 1 > /dev/null");
        assert_eq!(groups.0, plain.0);
        assert_eq!(groups.1, "");
        // All of a result has been computed, of which nothing is read.
        let none = piped("flowgate -L -o json --by id,src,dst | true");
        assert_eq!((none.0, none.1), (plain.0, String::new()));
    });
}

#[test]
fn more_than_a_million_groups() {
    let _alone = crate::scale::alone();
    let _limit = Limit::of(1_100_000);
    Namespace::run(|namespace| {
        const FLOWS: u32 = 1_000_001;
        const HEAVY: u64 = 5000;
        entries::load(namespace, &entries::busy(FLOWS));
        let outcome = flowgate().run(&["-L", "-o", "json", "--by", "src"]);
        assert_ne!(outcome.status, 0);
        assert_eq!(outcome.text(), "");
        let errors = outcome.errors();
        assert!(errors.contains("more than 1000000 groups; raise max-groups, or group by less"), "{errors}");
        assert_eq!(outcome.errors().lines().count(), 1, "{errors}");
        let one_more = ["-L", "-o", "json", "--by", "src", "--max-groups", "1000001"];
        assert_eq!(flowgate().must(&one_more).lines().count(), FLOWS as usize);
        // Three sources among as many others as there are flows.
        for source in 0..3 {
            let line =
                |port: u64| format!("-I -t 600 -p udp -s 192.0.2.{source} -d 10.99.0.1 --sport {port} --dport 9");
            entries::load(namespace, &(1..=HEAVY).map(line).collect::<Vec<_>>());
        }
        let kept = 10_000;
        let words = ["--by", "src", "--approximate", "--max-groups", "10000", "--top", "3"];
        let text = flowgate().must(&[&["-L", "-o", "json"], &words[..]].concat());
        let mut sources = Vec::new();
        for line in text.lines() {
            let group: Value = serde_json::from_str(line).unwrap();
            let (count, error) = (group["count"].as_u64().unwrap(), group["errors"].as_u64().unwrap());
            assert!(count >= HEAVY && count - error <= HEAVY, "{line}");
            assert!(error <= (u64::from(FLOWS) + 3 * HEAVY) / kept, "{line}");
            sources.push(group["src"].as_str().unwrap().to_owned());
        }
        sources.sort();
        assert_eq!(sources, ["192.0.2.0", "192.0.2.1", "192.0.2.2"], "{text}");
    });
}

#[test]
fn groups_come_in_the_order_that_is_asked_for() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(500));
        let marks = |words: &[&str]| -> Vec<u64> {
            let json = flowgate().must(&[&["-L", "-o", "json", "--by", "sport"], words].concat());
            json.lines().filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["sport"].as_u64()).collect()
        };
        let ascending = marks(&["--sort", "sport"]);
        assert!(ascending.len() > 10 && ascending.is_sorted(), "{ascending:?}");
        let mut descending = marks(&["--sort", "-sport", "--top", "7"]);
        descending.reverse();
        assert_eq!(descending, ascending[ascending.len() - 7..]);
    });
}

#[test]
fn groups_are_shown_in_a_table_or_as_csv() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(330));
        let table = flowgate().must(&["-L", "--by", "proto", "--top", "2"]);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..2], ["PROTO", "COUNT"], "{table}");
        assert_eq!(
            (lines[1][..2].to_vec(), lines[2][..2].to_vec()),
            (vec!["tcp", "200"], vec!["udp", "100"]),
            "{table}"
        );
        assert_eq!(table.lines().last(), Some("330 flows in 6 groups, 2 shown"), "{table}");
        let csv = flowgate().must(&["-L", "--by", "proto", "--top", "2", "-o", "csv"]);
        assert_eq!(csv.lines().collect::<Vec<_>>(), ["proto,count", "6,200", "17,100"]);
    });
}

#[test]
fn more_groups_than_are_kept_are_an_error_that_says_what_would_be_right() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(500));
        let outcome = flowgate().run(&["-L", "-o", "json", "--by", "id", "--max-groups", "499"]);
        assert_ne!(outcome.status, 0);
        assert_eq!(outcome.text(), "");
        assert!(outcome.errors().contains("more than 499 groups; raise max-groups"), "{}", outcome.errors());
        let all = flowgate().must(&["-L", "-o", "json", "--by", "id", "--max-groups", "500"]);
        assert_eq!(all.lines().count(), 500);
        let heaviest = flowgate().must(&["-L", "-o", "json", "--by", "id", "--max-groups", "100", "--approximate"]);
        assert_eq!(heaviest.lines().count(), 100);
        assert!(heaviest.lines().all(|line| line.contains("\"errors\":")), "{heaviest}");
    });
}

#[test]
fn mistakes_have_their_place() {
    for (words, message) in [
        (&["-L", "--by", "nosuch"][..], "--by: there is no field `nosuch`"),
        (&["-L", "--sum", "bytes", "--sort", "packets"], "--sort: "),
        (&["-L", "--by", "src", "--avg", "bytes", "--approximate"], "--approximate: an approximation finds"),
        (&["-L", "--by", "src", "-o", "xml"], "groups of flows have no output `xml'"),
        (&["-L", "--by", "src", "--columns", "src"], "--columns is of flows"),
        (&["-L", "--every", "1s"], "Illegal option `--every'"),
        (&["-D", "--by", "src"], "Illegal option `--by'"),
        (&["-L", "expect", "--by", "src"], "Illegal option `--by'"),
        (&["-E", "--every", "1ms"], "--every"),
        (&["-L", "--by", "src", "--by", "dst"], "--by is given twice"),
    ] {
        let outcome = flowgate().run(words);
        assert_eq!(outcome.status, 2, "{words:?}");
        assert!(outcome.errors().contains(message), "{words:?}: {}", outcome.errors());
    }
}

/// Returns the sum of a member of the groups in a JSON output.
fn total(lines: &[String], member: &str) -> u64 {
    let number = |line: &String| serde_json::from_str::<Value>(line).unwrap()[member].as_u64().unwrap();
    lines.iter().map(number).sum()
}

#[test]
fn windows_end_by_the_clock_and_by_a_signal() {
    Namespace::run(|namespace| {
        let recording = namespace.directory().join("events.pcap");
        let recording = recording.to_str().unwrap();
        let recorder = Background::start(&flowgate(), &["record", recording, "--", "-E"]);
        recorder.wait_until_listening();
        let words = ["-E", "-e", "NEW", "-o", "json", "--by", "proto", "--count", "--every", "200ms"];
        let mut listener = Background::start(&flowgate(), &words);
        listener.wait_until_listening();
        entries::load(namespace, &entries::busy(300));
        // The window ends although nothing comes any more.
        listener.wait_for_output("\"count/s\":");
        flowgate_test_support::until("all events are in windows that have ended", || {
            total(&listener.lines(), "count") == 300
        });
        entries::load(namespace, &entries::marks());
        let more = entries::count(namespace) as u64;
        listener.wait_until_idle();
        let outcome = listener.end_by(Signal::SIGINT);
        let lines: Vec<String> = outcome.text().lines().map(str::to_owned).collect();
        assert_eq!(total(&lines, "count"), more);
        // Windows are aligned to the start, and the last one is shorter.
        let of = |line: &String, member: &str| serde_json::from_str::<Value>(line).unwrap()[member].as_u64().unwrap();
        let first = of(&lines[0], "since");
        for line in &lines {
            let (since, until) = (of(line, "since"), of(line, "until"));
            assert_eq!((since - first) % 200_000_000, 0, "{line}");
            assert!(until > since && until - since <= 200_000_000, "{line}");
            let rate = serde_json::from_str::<Value>(line).unwrap()["count/s"].as_f64().unwrap();
            let expected = of(line, "count") as f64 / ((until - since) as f64 / 1e9);
            assert!((rate - expected).abs() <= 1e-5 * expected + 1e-6, "{line}");
        }
        let mut recorder = recorder;
        recorder.wait_until_idle();
        recorder.end_by(Signal::SIGINT);
        let replayed = flowgate()
            .must(&[&["replay", recording, "--"], &words[..]].concat())
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        assert_eq!(total(&replayed, "count"), more);
    });
}

#[test]
fn a_pipeline_file_groups_flows() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(200));
        let file = namespace.directory().join("groups.toml");
        let run = |aggregate: &str| {
            let text = format!("[source]\nkind = \"dump\"\n[aggregate]\n{aggregate}\n[[sink]]\nkind = \"stdout\"\n");
            std::fs::write(&file, text).unwrap();
            flowgate().run(&["run", file.to_str().unwrap()])
        };
        let expected =
            flowgate().must(&["-L", "-o", "json", "--by", "proto,sport", "--count", "--sort", "sport", "--top", "5"]);
        let outcome = run("by = \"proto,sport\"\ncount = true\nsort = \"sport\"\ntop = 5");
        assert_eq!((outcome.status, outcome.text()), (0, expected), "{}", outcome.errors());
        for (keys, message) in [
            ("by = \"nosuch\"", "4:6: `by`: there is no field `nosuch`"),
            ("every = \"1s\"", "`every` is for events"),
            ("top = 0", "top"),
            ("bye = \"src\"", "bye"),
        ] {
            let outcome = run(keys);
            assert_ne!(outcome.status, 0);
            assert!(outcome.errors().contains(message), "{keys}: {}", outcome.errors());
        }
    });
}
