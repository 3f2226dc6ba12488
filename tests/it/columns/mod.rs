//! Output with columns (`-o table`, `csv`, `tsv`), on terminals and in pipes, and the words for commands.
//!
//! Needs root, `conntrack`, `nft`, `ip`, `tmux` and `python3`.

mod terminals;
mod words;

use std::collections::BTreeMap;

use flowgate_test_support::{
    Background, Namespace, Program, entries, flowgate,
    traffic::{SERVERS, Traffic, socket},
    words as split,
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Fills a table with flows of every protocol and state, with NAT, marks, labels and zones.
fn fill(namespace: &Namespace) {
    namespace.account(true);
    namespace.keep_entries();
    entries::allow_labels(namespace);
    namespace.label_map(entries::LABEL_MAP);
    let all = [entries::every_protocol(), entries::nat(), entries::zones(), entries::marks()].concat();
    entries::load(namespace, &all);
    entries::labelled(namespace);
    let mut traffic = Traffic::prepare(namespace);
    // Loopback may lose a datagram.
    assert!((0..10).any(|_| traffic.udp_exactly(&socket(SERVERS[0], 7001), &socket(SERVERS[0], 7002), 3)));
}

/// Returns the objects of a command with `-o json`.
fn objects(line: &str) -> Vec<Value> {
    let text = flowgate().must(&split(line));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns a member of an object by its path.
fn member<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |object, name| &object[name])
}

/// Fields that a flow keeps while nothing happens, by their place in the JSON output.
const FIELDS: [&str; 30] = [
    "id",
    "family_name",
    "protocol",
    "protocol_name",
    "state",
    "state_name",
    "original.source",
    "original.destination",
    "original.source_port",
    "original.destination_port",
    "original.icmp_type",
    "original.icmp_code",
    "original.icmp_id",
    "original.source_key",
    "original.destination_key",
    "original.packets",
    "original.bytes",
    "reply.source",
    "reply.destination",
    "reply.source_port",
    "reply.destination_port",
    "reply.packets",
    "reply.bytes",
    "nat.source.address",
    "nat.source.port",
    "nat.destination.address",
    "nat.destination.port",
    "status",
    "mark",
    "original.vtag",
];

/// Reads CSV with Python's module, which knows all of RFC 4180, and prints it as JSON: the rows, as objects.
const READ_CSV: &str = "import csv, json, sys\n\
    text = sys.stdin.buffer.read().decode()\n\
    assert text.count('\\n') == text.count('\\r\\n')\n\
    print(json.dumps(list(csv.DictReader(text.splitlines(True)))))";

/// Reads a table with a line of headings into rows by column.
fn of_csv(text: &str) -> Vec<BTreeMap<String, String>> {
    let json = Program::new("python3").must_with(&["-c", READ_CSV], text.as_bytes());
    serde_json::from_str(&json).unwrap()
}

#[test]
fn csv_has_the_values_of_the_json_output() {
    Namespace::run(|namespace| {
        fill(namespace);
        let by_id = |object: &Value| object["id"].as_u64().unwrap();
        let mut expected = objects("-L -o json");
        expected.sort_by_key(by_id);
        let columns = FIELDS.join(",");
        let csv = flowgate().must(&["-L", "-o", "csv", "--columns", &columns]);
        let mut rows = of_csv(&csv);
        rows.sort_by_key(|row| row["id"].parse::<u64>().unwrap());
        assert!(rows.len() > 100 && rows.len() == expected.len(), "{} rows, {} objects", rows.len(), expected.len());
        for (row, object) in rows.iter().zip(&expected) {
            for field in FIELDS {
                let value = match member(object, field) {
                    Value::Null => String::new(),
                    Value::String(text) => text.clone(),
                    number => number.to_string(),
                };
                assert_eq!(row[field], value, "{field} of {object}");
            }
        }
        // TSV is the same with other separators: none of these values has one.
        let tsv = flowgate().must(&["-L", "-o", "tsv", "--columns", &columns]);
        let sorted = |text: String| {
            let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(tsv.replace('\t', ",")), sorted(csv));
        // Without --columns, too, every line has as many values as headings.
        assert_eq!(of_csv(&flowgate().must(&["-L", "-o", "csv"])).len(), expected.len());
    });
}

#[test]
fn a_table_has_a_line_for_every_flow() {
    Namespace::run(|namespace| {
        fill(namespace);
        let flows = objects("-L -o json");
        let table = flowgate().must(&["-L", "-o", "table", "--columns", "id,proto,from,to,nat,state_or_status"]);
        let mut lines = table.lines();
        assert!(lines.next().unwrap().starts_with("        ID  PROTO"), "{table}");
        let lines: BTreeMap<u64, &str> =
            lines.map(|line| (line.split_whitespace().next().unwrap().parse().unwrap(), line)).collect();
        assert_eq!(lines.len(), flows.len());
        for flow in &flows {
            let line = lines[&flow["id"].as_u64().unwrap()];
            let socket = |end: &str, port: &str| {
                let (address, port) = (flow["original"][end].as_str().unwrap(), &flow["original"][port]);
                match (port.as_u64(), address.contains(':')) {
                    (None, _) => address.to_owned(),
                    (Some(port), true) => format!("[{address}]:{port}"),
                    (Some(port), false) => format!("{address}:{port}"),
                }
            };
            for end in [socket("source", "source_port"), socket("destination", "destination_port")] {
                assert!(line.contains(&format!(" {end}")), "{end} is not in {line}");
            }
            for (of, word) in [("source", "snat "), ("destination", "dnat ")] {
                let translated = !flow["nat"][of].is_null();
                assert_eq!(line.contains(word), translated, "{line}\n{flow}");
                if let Some(address) = flow["nat"][of]["address"].as_str() {
                    assert!(line.contains(address), "{line}\n{flow}");
                }
            }
            if let Some(state) = flow["state_name"].as_str() {
                assert!(line.contains(state) || line.contains("OFFLOAD"), "{line}\n{flow}");
            }
        }
        // The usual table has headings for what there is.
        let usual = flowgate().must(&["-L", "-o", "table,labels"]);
        let headings = usual.lines().next().unwrap();
        for heading in ["PROTO", "STATE", "SOURCE", "DESTINATION", "NAT", "PACKETS", "BYTES", "MARK", "ZONE", "LABELS"]
        {
            assert!(headings.contains(heading), "{headings}");
        }
        assert!(usual.lines().all(|line| !line.ends_with(' ') && !line.contains('\x1b')));
    });
}

#[test]
fn nothing_is_a_line_of_headings_in_csv_and_nothing_in_a_table() {
    Namespace::run(|_| {
        let program = flowgate();
        assert_eq!(program.must(&["-L", "-o", "table"]), "");
        assert_eq!(program.must(&["-L", "-o", "csv", "--columns", "src,dst"]), "src,dst\r\n");
        assert_eq!(program.must(&["-L", "-o", "csv", "--columns", "src,dst", "--no-header"]), "");
        assert!(program.must(&["-L", "expect", "-o", "tsv"]).starts_with("event_name\tfamily_name\t"));
    });
}

#[test]
fn expectations_and_counters_have_columns() {
    Namespace::run(|namespace| {
        let mut traffic = Traffic::prepare(namespace);
        traffic.tftp(&socket(SERVERS[0], 6969));
        let expected = objects("-L expect -o json");
        assert!(!expected.is_empty());
        let table = flowgate().must(&["-L", "expect", "-o", "table"]);
        let headings = table.lines().next().unwrap();
        for heading in ["PROTO", "SOURCE", "DESTINATION", "MASTER SOURCE", "HELPER", "TIMEOUT"] {
            assert!(headings.contains(heading), "{table}");
        }
        assert!(table.lines().nth(1).unwrap().contains("tftp"), "{table}");
        let rows = of_csv(&flowgate().must(&["-L", "expect", "-o", "csv"]));
        assert_eq!(rows.len(), expected.len());
        for (row, object) in rows.iter().zip(&expected) {
            for field in ["protocol", "expected.source", "expected.destination_port", "master.source_port", "helper"] {
                let value = member(object, field);
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                assert_eq!(row[field], value, "{field} of {object}");
            }
        }

        let counters = objects("-S -o json");
        let rows = of_csv(&flowgate().must(&["-S", "-o", "csv"]));
        assert_eq!(rows.len(), counters.len());
        for (row, object) in rows.iter().zip(&counters) {
            assert_eq!(row["cpu"], object["cpu"].to_string());
            let names: Vec<&String> = object["counters"].as_object().unwrap().keys().collect();
            assert!(names.iter().all(|name| row.contains_key(*name)), "{names:?}");
        }
        let table = flowgate().must(&["-S", "-o", "table"]);
        assert!(table.starts_with("COUNTER") && table.contains("\ninsert_failed"), "{table}");
        let rows = of_csv(&flowgate().must(&["-C", "-o", "csv"]));
        assert_eq!(rows[0]["entries"], flowgate().must(&["-C"]).trim());
    });
}

#[test]
fn events_have_columns() {
    Namespace::run(|namespace| {
        namespace.keep_entries();
        for (line, new, destroy) in [
            ("-E -o table", "NEW ", "DESTROY "),
            ("-E -o csv --columns event_name,src,dport", "new,192.0.2.1,53", "destroy,192.0.2.1,53"),
            ("-E -o tsv --columns event,src,dport", "1\t192.0.2.1\t53", "3\t192.0.2.1\t53"),
        ] {
            let mut listener = Background::start(&flowgate(), &split(line));
            listener.wait_until_listening();
            entries::insert(namespace, "-t 600 -p udp -s 192.0.2.1 -d 198.51.100.1 --sport 4000 --dport 53");
            listener.wait_for_output(new);
            flowgate().must(&["-D", "-s", "192.0.2.1"]);
            listener.wait_for_output(destroy);
            let outcome = listener.end_by(Signal::SIGINT);
            let text = outcome.text();
            // A table has another line of headings when an event needs another column.
            let headings = text.lines().filter(|line| line.to_lowercase().starts_with("event")).count();
            assert!(headings == 1 || line == "-E -o table" && headings > 1, "{text}");
            assert_eq!(text.lines().count(), headings + 2, "{text}");
        }
    });
}

#[test]
fn what_makes_no_sense_is_an_error() {
    for (line, message) in [
        ("-L -o table,json", "cannot combine json output with table output, use one of them only"),
        ("-L -o csv,xml", "cannot combine csv output with xml output"),
        ("-L -o tsv -o save", "cannot combine tsv output with save output"),
        ("-L -o json --columns src", "--columns is for the output types table, csv and tsv"),
        ("-L -o xml --no-header", "--no-header is for the output types table, csv and tsv"),
        ("-L --columns src,desst", "unexpected value 'src,desst' with --columns option"),
        ("-L --columns dpor", "did you mean `dport`?"),
        ("-L expect --columns src", "columns"),
        ("-F -o table", "output"),
        ("-L --color sometimes", "it takes auto, always or never"),
        ("-C -o table,id", "output"),
    ] {
        let outcome = flowgate().run(&split(line));
        assert!(outcome.status != 0 && outcome.stdout.is_empty(), "{line}: {}", outcome.text());
        assert!(outcome.errors().contains(message), "{line}: {}", outcome.errors());
    }
    // Under the name of conntrack there are none of them.
    for line in ["-L -o table", "-L -o csv", "-L --columns src", "-L --no-header", "-L --color never"] {
        let outcome = flowgate().called("conntrack").run(&split(line));
        assert!(outcome.status != 0 && outcome.stdout.is_empty(), "{line}: {}", outcome.text());
    }
}
