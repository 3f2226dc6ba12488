//! A table with every sparse column in use, read in batches of several sizes.

use crate::conformance::compare::{Report, Setting};
use flowgate_test_support::entries;
use flowgate_test_support::traffic::{SERVERS, TFTP, Traffic, socket};
use flowgate_test_support::{Namespace, Program};

/// Fills the table with labels, helpers, masters, all kinds of zones, sequence adjustments, NAT, counters and
/// timestamps, each on some rows.
fn fill(namespace: &Namespace) -> Traffic {
    namespace.account(true);
    namespace.keep_entries();
    entries::allow_labels(namespace);
    namespace.label_map(entries::LABEL_MAP);
    namespace.nft("table inet some {\n chain output {\n  type filter hook output priority 10;\n  ip daddr 10.9.0.1 udp dport 6969 ct label set 5\n }\n}\n");
    entries::load(namespace, &entries::busy(6000));
    let mut traffic = Traffic::everything(namespace);
    entries::labelled(namespace);
    for (server, count) in SERVERS.iter().zip([700, 300]) {
        traffic.tftp_more(&socket(server, TFTP), count);
    }
    for lines in [entries::every_protocol(), entries::nat(), entries::zones(), entries::marks()] {
        entries::load(namespace, &lines);
    }
    traffic
}

#[test]
fn of_every_size() {
    Namespace::run(|namespace| {
        let _held = fill(namespace);
        let listed = Program::new("conntrack").must(&["-L", "-o", "labels"]);
        for (what, least) in [
            ("helper=", 500),
            ("labels=five", 400),
            ("zone=", 10),
            ("zone-orig=", 5),
            ("zone-reply=", 5),
            ("packets=", 6000),
        ] {
            let found = listed.lines().filter(|line| line.contains(what)).count();
            assert!(found >= least, "the table was to have {least} rows with {what}, and has {found}");
        }
        let mut report = Report::new("batches");
        for batch in ["1", "2", "255", "256", "4096", "65536"] {
            // A program tested in place of flowgate does not have the batch option.
            let ours_only =
                if std::env::var_os("FLOWGATE_UNDER_TEST").is_some() { vec![] } else { vec!["--batch", batch] };
            let setting = Setting { called: Some("flowgate"), ours_only, ..Setting::default() };
            for words in [
                "-L -o extended,id,ktimestamp,labels",
                "-L -o xml,ktimestamp,labels",
                "-L -o save",
                "-L -p udp --dport 6969 -l five",
                "-L expect",
                "-L -s 10.99.0.1",
            ] {
                report.words(namespace, &setting, words);
            }
        }
        report.finish();
    });
}
