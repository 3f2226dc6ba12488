//! SIGINT during a command: what was reported is what was done, and lines are complete.

use crate::scale::{alone, flows, running};
use flowgate_test_support::{Background, Namespace, Program, entries, flowgate, until};
use nix::sys::signal::Signal;
use std::{
    io::{Read, Write},
    process::Stdio,
};

const MANY: u32 = 60_000;

/// Starts a command, and sends SIGINT after this number of output bytes; returns the exit status and the number of
/// lines.
fn interrupted(line: &str, after: usize) -> (i32, usize) {
    let mut running = running(line);
    let mut pipe = running.take_output();
    let mut text = vec![0; after];
    pipe.read_exact(&mut text).expect("so much output");
    running.signal(Signal::SIGINT);
    pipe.read_to_end(&mut text).expect("the rest of its output");
    let outcome = running.end();
    assert!(text.is_empty() || text.ends_with(b"\n"), "{line}: the last line is cut");
    (outcome.status, text.iter().filter(|byte| **byte == b'\n').count())
}

#[test]
fn a_listing() {
    let _alone = alone();
    Namespace::run(|namespace| {
        entries::load(namespace, &flows(1, 0..MANY));
        for after in [0, 1, 5000, 1_000_000] {
            let (status, lines) = interrupted("-L", after);
            // The listing may have finished before the signal arrived.
            assert!(status == 130 || (status == 0 && lines == MANY as usize), "{status}, {lines} lines");
        }
    });
}

#[test]
fn a_deletion() {
    let _alone = alone();
    Namespace::run(|namespace| {
        entries::load(namespace, &flows(1, 0..MANY));
        let mut left = MANY as usize;
        for after in [0, 1, 5000, 1_000_000] {
            let (status, lines) = interrupted("-D -p udp", after);
            assert_eq!(entries::count(namespace), left - lines, "{status}");
            left -= lines;
            assert!(status == 130 || (status == 0 && left == 0), "{status}, {left} left");
            if left < MANY as usize / 2 {
                entries::load(namespace, &flows(2, 0..MANY));
                left += MANY as usize;
                assert_eq!(entries::count(namespace), left);
                // Restores the original flows for the next round.
                Program::new("conntrack").must(&["-F"]);
                entries::load(namespace, &flows(1, 0..MANY));
                left = MANY as usize;
            }
        }
    });
}

#[test]
fn an_update() {
    let _alone = alone();
    Namespace::run(|namespace| {
        entries::load(namespace, &flows(1, 0..MANY));
        let marked = || Program::new("conntrack").run(&["-L", "-m", "77"]).text().lines().count();
        for after in [0, 5000] {
            let before = marked();
            let (status, lines) = interrupted("-U -p udp -m 77", after);
            assert!(status == 130 || (status == 0 && marked() == MANY as usize), "{status}");
            // Entries that had the mark before are reported too, so there are never more marked entries than reported
            // ones.
            assert!(marked() <= before + lines, "{} > {before} + {lines}", marked());
            assert_eq!(entries::count(namespace), MANY as usize);
        }
    });
}

/// While the file is read, and while its lines are executed: the command ends, and each flow is either created or not.
#[test]
fn a_load() {
    let _alone = alone();
    Namespace::run(|namespace| {
        let (input, mut pipe) = std::io::pipe().expect("a pipe");
        let mut command = flowgate().command(&["-R", "-"]);
        command.stdin(input).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Background::spawn(command);
        pipe.write_all(flows(1, 0..1000).join("\n").as_bytes()).expect("it reads");
        let status = running.end_by(Signal::SIGINT).status;
        assert_eq!((status, entries::count(namespace)), (130, 0));
        drop(pipe);
        let file = std::env::temp_dir().join(format!("flowgate-scale-{}", std::process::id()));
        std::fs::write(&file, flows(1, 0..200_000).join("\n")).expect("a file");
        let mut running = crate::scale::running(&format!("-R {}", file.display()));
        until("some are there", || entries::count(namespace) > 0);
        let outcome = running.end_by(Signal::SIGINT);
        std::fs::remove_file(&file).expect("the file");
        let there = entries::count(namespace);
        assert!(outcome.status == 130 || (outcome.status == 0 && there == 200_000), "{}, {there}", outcome.status);
        assert!(there > 0);
    });
}
