//! Conditions of commands that change the table, of events, and of pipeline files.

use std::collections::BTreeSet;

use flowgate_test_support::{Background, Namespace, Program, entries, flowgate, until};
use nix::sys::signal::Signal;

/// Returns the source ports of the flows in a text.
fn ports(text: &str) -> BTreeSet<u16> {
    text.lines().filter_map(|line| line.split_once("sport=")?.1.split(' ').next()?.parse().ok()).collect()
}

fn table() -> BTreeSet<u16> {
    ports(&Program::new("conntrack").must(&["-L"]))
}

/// Creates flows with marks 0 to 99 and the source ports 1000 to 1099.
fn hundred(namespace: &Namespace) {
    let line = |number: u16| {
        format!("-I -t 3000 -m {number} -p udp -s 10.0.0.{number} -d 192.0.2.1 --sport {} --dport 53", 1000 + number)
    };
    entries::load(namespace, &(0..100).map(line).collect::<Vec<_>>());
}

/// What mwan3 needs: flows of which the mark has any bit of a mask.
#[test]
fn a_deletion_is_of_what_the_condition_selects_and_nothing_else() {
    Namespace::run(|namespace| {
        hundred(namespace);
        let condition = ["--where", "mark & 0x30 != 0 and src in 10.0.0.0..10.0.0.63"];
        let words = |command: &'static str| [&[command], &condition[..]].concat();
        let shown = ports(&flowgate().must(&words("-L")));
        let expected: BTreeSet<u16> = (0..64u16).filter(|mark| mark & 0x30 != 0).map(|mark| 1000 + mark).collect();
        assert_eq!(shown, expected);
        let dry = flowgate().must(&[&words("-D")[..], &["--dry-run"]].concat());
        assert_eq!(dry.lines().filter(|line| line.starts_with("-D ")).count(), expected.len(), "{dry}");
        assert_eq!(table().len(), 100);
        // The kernel cannot delete by itself what its filter does not describe exactly.
        let quiet = flowgate().run(&["-D", "--where", "mark & 0x40 == 0x40 and mark % 2 == 1", "--quiet"]);
        assert_eq!(quiet.status, 0, "{}", quiet.errors());
        let odd: BTreeSet<u16> = (64..100).filter(|mark| mark % 2 == 1).map(|mark| 1000 + mark).collect();
        let left: BTreeSet<u16> = (1000..1100).filter(|port| !odd.contains(port)).collect();
        assert_eq!(table(), left);
        assert_eq!(ports(&flowgate().must(&words("-D"))), expected);
        assert_eq!(table(), left.difference(&expected).copied().collect());
        let nothing = flowgate().run(&words("-D"));
        assert_eq!(nothing.status, 1, "nothing was left to delete: {}", nothing.errors());
    });
}

#[test]
fn an_update_is_of_what_the_condition_selects() {
    Namespace::run(|namespace| {
        hundred(namespace);
        flowgate().must(&["-U", "--where", "mark in {5, 10..12} or sport == 1099", "--mark", "0x1000/0xf000"]);
        let changed = ports(&Program::new("conntrack").must(&["-L", "--mark", "0x1000/0xf000"]));
        assert_eq!(changed, [1005, 1010, 1011, 1012, 1099].into());
        // Lines of a load file have conditions too.
        let file = namespace.directory().join("lines");
        std::fs::write(&file, "-D --where \"mark & 0x1000 != 0 and sport < 1012\"\n").unwrap();
        flowgate().must(&["-R", file.to_str().unwrap()]);
        assert_eq!((1000..1100).filter(|port| !table().contains(port)).collect::<Vec<_>>(), [1005, 1010, 1011]);
    });
}

#[test]
fn events_are_selected_by_their_kind_and_content() {
    Namespace::run(|namespace| {
        let condition = "event in {new, destroy} and sport >= 1050 and mark % 3 == 0";
        let program = flowgate();
        let mut running = Background::start(&program, &["-E", "--where", condition]);
        running.wait_until_listening();
        hundred(namespace);
        Program::new("conntrack").must(&["-U", "-p", "udp", "-s", "10.0.0.51", "-m", "300"]);
        Program::new("conntrack").must(&["-D", "-s", "10.0.0.60"]);
        Program::new("conntrack").must(&["-D", "-s", "10.0.0.99"]);
        let lines = || running.output().lines().map(str::to_owned).collect::<Vec<_>>();
        let expected: BTreeSet<u16> = (1050..1100).filter(|port| (port - 1000) % 3 == 0).collect();
        until("all are shown", || lines().len() == expected.len() + 2);
        let all = lines();
        let of = |kind: &str| all.iter().filter(|line| line.contains(kind)).cloned().collect::<Vec<_>>().join("\n");
        assert_eq!(ports(&of("[NEW]")), expected);
        assert_eq!(ports(&of("[DESTROY]")), [1060, 1099].into());
        assert_eq!(running.end_by(Signal::SIGINT).status, 0);
    });
}

/// A pipeline file, its stage `match`, a recording of the events and their replay select the same.
#[test]
fn the_same_condition_selects_the_same_everywhere() {
    Namespace::run(|namespace| {
        hundred(namespace);
        let condition = "mark in {1, 7..9, 42} or src in 10.0.0.90..10.0.0.91 and not dport == 54";
        let expected: BTreeSet<u16> = [1001, 1007, 1008, 1009, 1042, 1090, 1091].into();
        let listed = flowgate().must(&["-L", "--where", condition]);
        assert_eq!(ports(&listed), expected);
        let file = |name: &str, text: &str| {
            let path = namespace.directory().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let sink = "[[sink]]\nkind = 'stdout'\n";
        for text in [
            format!("[source]\nkind = 'dump'\nwhere = '{condition}'\n{sink}"),
            format!("[source]\nkind = 'dump'\n[[stage]]\nstock = 'match'\nwhere = '{condition}'\n{sink}"),
            format!("[source]\nkind = 'dump'\nselect = '''--where \"{condition}\"'''\n{sink}"),
        ] {
            let shown = flowgate().must(&["run", &file("pipeline.toml", &text)]);
            assert_eq!(ports(&shown), expected, "{text}");
        }
        let recording = namespace.directory().join("table.pcap");
        let recording = recording.to_str().unwrap();
        // What the kernel's filter lets through is recorded, and selected again from the recording.
        flowgate().must(&["record", recording, "--", "-L", "--where", condition]);
        let replayed = flowgate().must(&["replay", recording, "--", "-L", "--where", condition]);
        assert_eq!(ports(&replayed), expected);
        let top = flowgate().must(&["top", "--once", "--", "-L", "--where", condition]);
        assert_eq!(top.lines().filter(|line| line.contains("192.0.2.1:53")).count(), expected.len(), "{top}");
    });
}
