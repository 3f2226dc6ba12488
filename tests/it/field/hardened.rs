//! The units, containers and shells that commands really run in: with few privileges, few system calls, little of everything. A
//! classic command does there what it does elsewhere, or says what is missing; it never panics, aborts, stands still, or is killed.

mod bare;
mod capabilities;
mod engine;
mod filtered;
mod scarce;
mod signals;

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use flowgate_test_support::{Outcome, Program, entries, flowgate, program::shell_status};

/// More flows than are listed before a second thread is asked for, which is at eight datagrams of 32 KiB at most.
const MANY: u32 = 3_000;

/// How commands are started: a program with words before theirs, or in any other way.
pub type Start<'a> = &'a dyn Fn(&[&str]) -> Command;

/// Runs a command, which must end within two minutes whatever else the machine does.
pub fn run(mut command: Command, input: &[u8]) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (mut stdin, mut stdout, mut stderr) =
        (child.stdin.take().unwrap(), child.stdout.take().unwrap(), child.stderr.take().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that does not read is its own business.
            let _ = stdin.write_all(input);
        });
        let collect = |pipe: &mut dyn Read| {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).unwrap();
            bytes
        };
        let stdout = scope.spawn(move || collect(&mut stdout));
        let stderr = scope.spawn(move || collect(&mut stderr));
        let end = Instant::now() + Duration::from_secs(120);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() > end {
                child.kill().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let outcome = Outcome {
            stdout: stdout.join().unwrap(),
            stderr: stderr.join().unwrap(),
            status: status.map_or(-1, shell_status),
        };
        assert!(status.is_some(), "{command:?} stands still: {}", outcome.errors());
        outcome
    })
}

/// A way to start the program: these words, and its own behind them.
pub fn behind(words: &[&str], program: &Path) -> impl Fn(&[&str]) -> Command + use<> {
    let mut words: Vec<String> = words.iter().map(ToString::to_string).collect();
    words.push(program.display().to_string());
    move |arguments| {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(arguments);
        command
    }
}

/// The program.
pub fn built() -> PathBuf {
    flowgate().path
}

/// Fails if it ended as programs do not that know what they do: by a panic, a signal, or not at all.
pub fn in_good_order(line: &str, outcome: &Outcome) {
    assert!((0..=2).contains(&outcome.status), "{line}: status {}: {}", outcome.status, outcome.errors());
    assert!(!outcome.errors().contains("panicked"), "{line}: {}", outcome.errors());
}

/// Every kind of classic command, each with what it must come to.
pub fn classic_commands_work(start: Start<'_>) {
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
    assert!(must("-h").text().contains("Usage: "));
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

/// `-E` shows what happens, and a signal ends it.
pub fn events_are_seen(namespace: &flowgate_test_support::Namespace, start: Start<'_>) {
    for line in ["-E", "-E -e NEW -o timestamp,id", "-E --resync"] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut child =
            start(&words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdout.take().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let (mut text, mut part) = (Vec::new(), [0; 4096]);
            while let Ok(length @ 1..) = pipe.read(&mut part) {
                text.extend_from_slice(&part[..length]);
                // Nobody listens once one event has been seen.
                let _ = tell.send(());
            }
            String::from_utf8(text).unwrap()
        });
        let end = Instant::now() + Duration::from_secs(120);
        for number in 0.. {
            let flow = format!("-A -p udp -s 192.0.2.7 -d 192.0.2.8 --sport {} --dport 9 -t 60", 1000 + number);
            entries::load(namespace, &[flow]);
            if told.recv_timeout(Duration::from_millis(100)).is_ok() {
                break;
            }
            assert!(Instant::now() < end && child.try_wait().unwrap().is_none(), "{line}: no event");
        }
        let process = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).unwrap();
        let outcome = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&outcome.stderr);
        assert_eq!(outcome.status.code(), Some(0), "{line}: {errors}");
        assert!(reader.join().unwrap().contains("[NEW]"), "{line}: {errors}");
        Program::new("conntrack").run(&["-F"]);
    }
}
