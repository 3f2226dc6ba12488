//! A full table, a large table, and output that is read slowly.

use crate::scale::{alone, flowgate, flows, reported_count, running};
use flowgate_test_support::{Limit, Namespace, entries};
use std::io::Read;

/// Flows that do not fit are refused line by line; all others are created.
#[test]
fn a_full_table_loses_only_what_does_not_fit() {
    let _alone = alone();
    let limit = Limit::kept();
    let max = limit.now();
    assert!(max > 1000, "nf_conntrack_max is {max}: this test fills a table to its limit");
    Namespace::run(|namespace| {
        let room = 20;
        let max = u32::try_from(max).expect("a limit of this size can be reached");
        entries::load(namespace, &flows(1, 0..max - room));
        assert_eq!(entries::count(namespace), (max - room) as usize);
        let lines = flows(2, 0..100);
        let outcome = flowgate().run_with(&["-R", "-"], lines.join("\n").as_bytes());
        assert_eq!(outcome.status, 1, "{}", outcome.errors());
        let errors = outcome.errors();
        assert_eq!(entries::count(namespace), max as usize, "{errors}");
        // The first ten refused lines are named, the others counted.
        let refused: Vec<&str> = errors.lines().filter(|line| line.starts_with("in /dev/stdin, line ")).collect();
        assert_eq!(refused.first(), Some(&format!("in /dev/stdin, line {}", room + 1).as_str()), "{errors}");
        assert_eq!(refused.len(), 10, "{errors}");
        assert!(errors.contains("not enough memory"), "{errors}");
        assert!(errors.contains(&format!("{} more lines were refused.", 100 - room - 10)), "{errors}");
        // A deletion makes room for a following line.
        let exchange =
            "-D -p udp -s 10.1.0.0 -d 10.99.0.1 --sport 1025 --dport 53\n".to_owned() + &flows(3, 0..1).join("\n");
        let outcome = flowgate().run_with(&["-R", "-"], exchange.as_bytes());
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert_eq!(flowgate().must(&["-L", "-s", "10.3.0.0"]).lines().count(), 1);
        // A single refused creation has conntrack's message.
        let one = flowgate().run(&crate::scale::words("-I -t 60 -p udp -s 10.4.0.1 -d 10.99.0.1 --sport 1 --dport 2"));
        let fits = entries::count(namespace) < max as usize;
        assert_eq!((one.status, one.errors().contains("not enough memory")), (i32::from(!fits), !fits));
    });
}

/// Reads the output to the end while watching memory; returns the number of lines, the peak memory in KiB, and standard
/// error.
fn watched(line: &str) -> (usize, u64, String) {
    let mut running = running(line);
    let mut pipe = running.take_output();
    let (mut lines, mut peak, mut unseen) = (0, 0, usize::MAX / 2);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = pipe.read(&mut buffer).expect("its output");
        lines += buffer[..length].iter().filter(|byte| **byte == b'\n').count();
        unseen += length;
        if unseen > 1 << 20 {
            unseen = 0;
            peak = running.peak().unwrap_or(peak);
        }
        if length == 0 {
            break;
        }
    }
    let (status, errors) = (running.end_unread(), running.end().errors());
    assert_eq!(status, 0, "{line}: {errors}");
    (lines, peak, errors)
}

/// Memory does not depend on the number of flows.
#[test]
fn a_million_flows_in_constant_memory() {
    const MANY: u32 = 1_000_000;
    let _alone = alone();
    let _limit = Limit::of(u64::from(MANY));
    Namespace::run(|namespace| {
        // Ranges that do not overlap in their low bits come from different groups.
        for group in 0..20 {
            entries::load(namespace, &flows(group, 0..MANY / 20));
        }
        assert_eq!(entries::count(namespace), MANY as usize);
        for line in ["-L", "-L -o extended,id", "-L -o json", "-U -s 10.1.0.0/16 -m 7 --dry-run"] {
            let (lines, peak, errors) = watched(line);
            let expected = if line.starts_with("-U") { MANY / 20 } else { MANY };
            assert_eq!(lines, expected as usize, "{line}: {errors}");
            assert!(peak > 1000 && peak < 48 << 10, "{line}: {peak} KiB");
        }
        let (lines, peak, errors) = watched("-D -p udp");
        assert_eq!((lines, reported_count(&errors), entries::count(namespace)), (MANY as usize, MANY as usize, 0));
        assert!(peak > 1000 && peak < 48 << 10, "{peak} KiB");
    });
}

/// A dump with a slow reader is complete.
#[test]
fn a_slow_consumer_gets_everything() {
    let _alone = alone();
    Namespace::run(|namespace| {
        const MANY: usize = 30_000;
        entries::load(namespace, &entries::busy(MANY as u32));
        for line in ["-L", "-L -o xml", "-D -m 0x0/0xff00"] {
            let mut running = running(line);
            let mut pipe = running.take_output();
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            for _ in 0..20 {
                running.wait_until_pipe_is_full();
                let length = pipe.read(&mut buffer).expect("its output");
                bytes.extend_from_slice(&buffer[..length]);
            }
            assert!(running.peak().is_some_and(|peak| peak < 48 << 10), "{line}: {:?}", running.peak());
            pipe.read_to_end(&mut bytes).expect("its output");
            assert_eq!(running.end().status, 0);
            let text = String::from_utf8_lossy(&bytes);
            let flows = if line.contains("xml") { text.matches("</flow>").count() } else { text.lines().count() };
            assert_eq!(flows, MANY, "{line}");
        }
        assert_eq!(entries::count(namespace), 0);
    });
}
