//! Fixed command lines, valid and invalid: output, error text, exit status.
//!
//! None of them changes the table. Allowed differences are listed in `differences.rs`.

use crate::conformance::compare::{Both, Report, Setting, words};
use flowgate_test_support::entries;
use flowgate_test_support::traffic::Traffic;
use flowgate_test_support::{Namespace, Program, Random};

/// Creates a table with entries of all kinds.
fn fill(namespace: &Namespace) -> Traffic {
    namespace.account(true);
    namespace.keep_entries();
    entries::allow_labels(namespace);
    namespace.label_map(entries::LABEL_MAP);
    let traffic = Traffic::everything(namespace);
    entries::labelled(namespace);
    for lines in [entries::every_protocol(), entries::nat(), entries::zones(), entries::marks()] {
        entries::load(namespace, &lines);
    }
    // conntrack treats the numbers of ICMP as ports, and so detects NAT where there is none: see `differences.rs`.
    for (protocol, source) in [("icmp", "10.9.0.1"), ("icmp", "10.1.0.1"), ("icmpv6", "2001:db8:9::1")] {
        Program::new("conntrack").must(&["-D", "-p", protocol, "-s", source]);
    }
    traffic
}

/// Runs every command line of a list, with one setting.
fn check(namespace: &Namespace, about: &str, list: &str, setting: &Setting) {
    let mut report = Report::new(about);
    for line in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        report.words(namespace, setting, line);
    }
    report.finish();
}

#[test]
fn selections() {
    Namespace::run(|namespace| {
        let _held = fill(namespace);
        let list = include_str!("selections.txt");
        check(namespace, "fixed command lines", &list.replace("~ ", ""), &Setting::default());
        let (strict, both): (Vec<&str>, Vec<&str>) = list.lines().partition(|line| line.starts_with("~ "));
        let own = Setting { called: Some("flowgate"), ..Setting::default() };
        check(namespace, "fixed command lines, under the own name", &both.join("\n"), &own);
        for line in strict.iter().filter_map(|line| line.strip_prefix("~ ")) {
            let outcome = Both::own().run(&words(line));
            let warned = outcome.errors().starts_with("WARNING: the mark ");
            assert!(warned || outcome.status == 2 && outcome.stdout.is_empty(), "{line}: {outcome:?}");
        }
    });
}

#[test]
fn mistakes() {
    Namespace::run(|namespace| {
        let _held = fill(namespace);
        // Some of them print the name by which the program was invoked.
        check(
            namespace,
            "wrong command lines",
            include_str!("mistakes.txt"),
            &Setting { called: Some("conntrack"), ..Setting::default() },
        );
    });
}

#[test]
fn posixly_correct() {
    let setting =
        Setting { environment: vec![("POSIXLY_CORRECT", "1")], called: Some("conntrack"), ..Setting::default() };
    let list = "-L -p tcp\n-L expect foo -o xml\n-L -o xml foo -p tcp\n-L -- -p tcp";
    Namespace::run(|namespace| {
        let _held = fill(namespace);
        check(namespace, "POSIXLY_CORRECT", list, &setting);
    });
}

#[test]
fn time_zones() {
    Namespace::run(|namespace| {
        let _held = fill(namespace);
        for zone in [
            "",
            "UTC",
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "NPT-5:45",
            "EST5EDT",
            "America/St_Johns",
            "No/Such",
            ":bad",
            "<+1130>-11:30",
        ] {
            let setting = Setting { environment: vec![("TZ", zone)], ..Setting::default() };
            check(
                namespace,
                &format!("TZ={zone}"),
                "-L -o ktimestamp\n-L -o ktimestamp,extended,id -p tcp\n-L -o xml,ktimestamp",
                &setting,
            );
        }
    });
}

#[test]
fn other_locales_change_nothing() {
    Namespace::run(|namespace| {
        let _held = fill(namespace);
        for locale in ["C", "C.UTF-8", "de_DE.UTF-8"] {
            let setting = Setting { environment: vec![("LC_ALL", locale)], ..Setting::default() };
            check(
                namespace,
                &format!("LC_ALL={locale}"),
                "-L -o ktimestamp\n-L -x\n-L -u UNSET\n-G -p tcp -s 192.0.2.1 -d 198.51.100.2 --sport 1 --dport 2",
                &setting,
            );
        }
    });
}

/// Random errors: two options of any kind combined with any command, to test the order in which errors are detected.
#[test]
fn random_mistakes() {
    /// Commands that change nothing, or nothing here: the addresses below are not in any table.
    const COMMANDS: [&str; 12] = [
        "-L",
        "-L expect",
        "-L dying",
        "-L unconfirmed",
        "-G",
        "-G expect",
        "-D expect",
        "-C",
        "-C expect",
        "-S",
        "-F -p udp",
        "-I expect",
    ];
    const OPTIONS: [&str; 36] = [
        "-s 192.88.99.1",
        "-d 192.88.99.2",
        "-r 192.88.99.3",
        "-q 192.88.99.4",
        "-p tcp",
        "-p udp --sport 5",
        "-p icmp",
        "-p 50",
        "-t 5",
        "-u ASSURED",
        "-z",
        "-e NEW",
        "--tuple-src 192.88.99.5",
        "--tuple-dst 192.88.99.6",
        "--mask-src 255.0.0.0",
        "--mask-dst 255.255.255.255",
        "-m 5",
        "-f ipv4",
        "-f ipv6",
        "-n",
        "-g 192.88.99.7",
        "-o xml",
        "-o save",
        "-c 5",
        "-b 5",
        "-j",
        "-w 5",
        "-l first",
        "--label-add first",
        "--label-del",
        "--orig-zone 5",
        "--reply-zone 5",
        "-s 192.88.0.0/16",
        "-s ::1",
        "-p tcp --state CLOSE",
        "-p gre --srckey 5",
    ];
    let seed = Random::seed("FLOWGATE_SEED");
    println!("FLOWGATE_SEED={seed}");
    Namespace::run(|namespace| {
        namespace.label_map(entries::LABEL_MAP);
        let mut random = Random::new(seed);
        let mut report = Report::new(format!("random mistakes of FLOWGATE_SEED={seed}"));
        for _ in 0..400 {
            let mut line = random.pick(&COMMANDS).to_owned();
            for _ in 0..=random.below(4) {
                let option = random.pick(&OPTIONS);
                // Known differences: options of a protocol that a later `-p` revokes, and masks that conntrack does not
                // check.
                let again = option.starts_with("-p") && line.contains(" -p ");
                let unchecked =
                    option.starts_with("--mask") && (line.contains("dying") || line.contains("unconfirmed"));
                if !again && !unchecked {
                    line += " ";
                    line += option;
                }
            }
            report.words(namespace, &Setting::default(), &line);
        }
        report.finish();
    });
}
