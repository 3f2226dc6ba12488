//! The units, containers and shells in which commands run in the field: with few privileges, few system calls, and
//! little of every resource. A classic command behaves there as elsewhere or says what is missing; it never panics,
//! aborts, hangs, or is killed.

mod bare;
mod capabilities;
mod engine;
mod filtered;
mod scarce;
mod signals;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use flowgate_test_support::{Background, Outcome, Program, entries, flowgate, until};

/// More flows than are listed before a second thread is started, which happens after eight datagrams of at most 32 KiB.
const MANY: u32 = 3_000;

/// A way to start a command from its words.
pub(super) type Start<'a> = &'a dyn Fn(&[&str]) -> Command;

/// Runs a command, which must end within two minutes however loaded the machine is.
pub(super) fn run(mut command: Command, input: &[u8]) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let words = format!("{command:?}");
    std::thread::scope(|scope| {
        let mut running = Background::spawn(command);
        let mut stdin = running.take_input();
        scope.spawn(move || {
            // It is not an error if the program does not read its input.
            let _ = stdin.write_all(input);
        });
        until(&format!("{words} ends"), || !running.runs());
        running.end()
    })
}

/// Returns a way to start the program through a wrapper: `words`, then the program and its own words.
pub(super) fn behind(words: &[&str], program: &Path) -> impl Fn(&[&str]) -> Command + use<> {
    let mut words: Vec<String> = words.iter().map(ToString::to_string).collect();
    words.push(program.display().to_string());
    move |arguments| {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(arguments);
        command
    }
}

/// Returns the program under test.
pub(super) fn built() -> PathBuf {
    flowgate().path
}

/// Fails if the program did not end in an orderly way: if it panicked, was killed by a signal, or did not end.
pub(super) fn in_good_order(line: &str, outcome: &Outcome) {
    assert!((0..=2).contains(&outcome.status), "{line}: status {}: {}", outcome.status, outcome.errors());
    assert!(!outcome.errors().contains("panicked"), "{line}: {}", outcome.errors());
}

/// Runs every kind of classic command and checks its result.
pub(super) fn classic_commands_work(start: Start<'_>) {
    let with = |line: &str, input: &str, status: i32| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let outcome = run(start(&words), input.as_bytes());
        in_good_order(line, &outcome);
        assert_eq!(outcome.status, status, "{line}: {}", outcome.errors());
        outcome
    };
    let must = |line: &str| with(line, "", 0);
    let lines = |outcome: &Outcome| outcome.text().lines().count();
    let number = || must("-C").text().trim().parse::<u32>().unwrap();

    must("-F");
    assert!(must("-V").text().contains("conntrack v"));
    assert!(must("-h").text().contains("flowgate list -h"));
    with("-L --nonsense", "", 2);
    with("-D -s 192.0.2.99", "", 1);
    assert!(must("-L").stdout.is_empty());
    let flow = "-p tcp -s 192.0.2.1 -d 198.51.100.1 --sport 4000 --dport 443";
    must(&format!("-I {flow} -t 600 --state ESTABLISHED"));
    must("-I -p udp -s 2001:db8::1 -d 2001:db8::2 --sport 4001 --dport 53 -t 600");
    let same = with(&format!("-I {flow} -t 600 --state ESTABLISHED"), "", 1);
    assert!(same.errors().contains("Such conntrack exists"), "{}", same.errors());
    must(&format!("-A {flow} -t 600 --state ESTABLISHED -m 7"));
    assert!(must(&format!("-G {flow}")).text().contains("sport=4000"));
    assert_eq!(number(), 2);
    assert_eq!((lines(&must("-L")), lines(&must("-L -m 7"))), (2, 1));
    assert_eq!(lines(&must("-L -f ipv6 -o extended,id")), 1);
    assert!(must("-L -o xml").text().ends_with("</conntrack>\n"));
    assert_eq!(lines(&must("-L -o save")), 2);
    assert_eq!(lines(&must("-L -o json")), 2);
    assert!(must("-S").text().contains("insert_failed="));
    must("-L expect");
    must("-L dying");
    must("-C expect");
    must(&format!("-U {flow} -m 9"));
    assert_eq!(lines(&must("-L -m 9")), 1);
    let load: Vec<String> = (0..MANY)
        .map(|number| {
            format!("-A -p udp -s 10.{}.{}.1 -d 10.0.0.1 --sport 7 --dport 53 -t 600", number / 250, number % 250)
        })
        .collect();
    with("-R -", &load.join("\n"), 0);
    assert_eq!(number(), MANY + 2);
    assert_eq!(lines(&must("-L -p udp -f ipv4")), MANY as usize);
    assert_eq!(lines(&must("-U -p udp -f ipv4 -m 3")), MANY as usize);
    let some: Vec<String> = (0..10).map(|number| format!("-D -s 10.0.{number}.1")).collect();
    with("-R -", &some.join("\n"), 0);
    assert_eq!(lines(&must("-D -p udp -f ipv4")), MANY as usize - 10);
    assert_eq!(number(), 2);
    must("-D -f ipv6");
    must("-F");
    assert_eq!(number(), 0);
}

/// `-E` shows events, and a signal ends it.
pub(super) fn events_are_seen(namespace: &flowgate_test_support::Namespace, start: Start<'_>) {
    for line in ["-E", "-E -e NEW -o timestamp,id", "-E --resync"] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = start(&words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut listening = Background::spawn(command);
        listening.wait_until_listening();
        let mut port = 1000;
        until(&format!("{line} shows an event"), || {
            port += 1;
            let flow = format!("-A -p udp -s 192.0.2.7 -d 192.0.2.8 --sport {port} --dport 9 -t 60");
            entries::load(namespace, &[flow]);
            assert!(listening.runs(), "{line}: {}", listening.errors());
            !listening.lines().is_empty()
        });
        assert!(listening.finish().text().contains("[NEW]"), "{line}");
        Program::new("conntrack").run(&["-F"]);
    }
}
