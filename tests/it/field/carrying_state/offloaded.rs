//! Flows that a flow table forwards. For these the kernel reports neither timeout nor state, which the command line
//! requires.
//!
//! Not every kernel has flow tables (`CONFIG_NF_FLOW_TABLE`): real flows are recorded here, and the recording is
//! changed to what a kernel sends for offloaded flows.

use super::{conntrack, count, last_line, load, run};
use crate::field::flowgate;
use flowgate_test_support::{Namespace, Outcome, entries};
use std::path::{Path, PathBuf};

/// `CTA_STATUS`, and the attributes that the kernel leaves out of flows with IPS_OFFLOAD: `CTA_PROTOINFO`,
/// `CTA_TIMEOUT`.
const STATUS: u16 = 3;
const LEFT_OUT: [u16; 2] = [4, 7];
/// `IPS_OFFLOAD` and `IPS_HW_OFFLOAD`.
const OFFLOAD: u32 = 1 << 14;
const HARDWARE: u32 = 1 << 15;

/// Flows of the protocols that flow tables support, with all options that a line may have.
const FLOWS: [&str; 9] = [
    "-I -t 3000 -s 192.0.2.1 -d 198.51.100.1 -p tcp --sport 1 --dport 443 --state ESTABLISHED -m 7 --labels 0x9 -u SEEN_REPLY,ASSURED",
    "-I -t 3000 -s 192.0.2.1 -d 198.51.100.1 -p tcp --sport 2 --dport 443 --state ESTABLISHED -n 203.0.113.7:7000 -u SEEN_REPLY,ASSURED",
    "-I -t 3000 -s 192.0.2.1 -d 198.51.100.1 -p tcp --sport 3 --dport 443 --state ESTABLISHED -n 203.0.113.7:7001 -g 10.3.0.9:8443 -u SEEN_REPLY,ASSURED",
    "-I -t 3000 -s 192.0.2.1 -d 198.51.100.1 -p udp --sport 4 --dport 443 -w 5 -g 10.3.0.9:8443 -u SEEN_REPLY,ASSURED",
    "-I -t 3000 -s 192.0.2.1 -d 198.51.100.1 -p udp --sport 5 --dport 443 --orig-zone 6 -m 4294967295 -u SEEN_REPLY,ASSURED",
    "-I -t 3000 -s 192.0.2.1 -d 198.51.100.1 -p gre --srckey 5 --dstkey 6 -u SEEN_REPLY,ASSURED",
    "-I -t 3000 -s 2001:db8::1 -d 2001:db8::2 -p tcp --sport 6 --dport 443 --state ESTABLISHED -u SEEN_REPLY,ASSURED",
    "-I -t 3000 -s 2001:db8::1 -d 2001:db8::2 -p tcp --sport 7 --dport 443 --state ESTABLISHED -n [2001:db8::7]:4711 -g [2001:db8::9]:8443 -u SEEN_REPLY,ASSURED",
    "-I -t 3000 -s 2001:db8::1 -d 2001:db8::2 -p udp --sport 8 --dport 443 --reply-zone 7 -u SEEN_REPLY,ASSURED",
];

fn number(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize
}

/// Returns a netlink message about a flow as a kernel would send it for an offloaded flow.
fn offloaded(message: &[u8], bits: u32) -> Vec<u8> {
    // The headers of netlink and nfnetlink.
    let (head, mut attributes) = message.split_at(20);
    let mut made = head.to_vec();
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_le_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_le_bytes([attributes[2], attributes[3]]) & 0x3fff;
        let (attribute, rest) = attributes.split_at(length.next_multiple_of(4).min(attributes.len()));
        attributes = rest;
        if kind == STATUS {
            let status = u32::from_be_bytes(attribute[4..8].try_into().unwrap()) | bits;
            made.extend_from_slice(&attribute[..4]);
            made.extend(status.to_be_bytes());
        } else if !LEFT_OUT.contains(&kind) {
            made.extend_from_slice(attribute);
        }
    }
    let length = u32::try_from(made.len()).unwrap();
    made[..4].copy_from_slice(&length.to_le_bytes());
    made
}

/// Returns a recording in which flows are offloaded. `which` maps their index to the status bits to set.
fn with_offloaded(recording: &[u8], which: impl Fn(usize) -> u32) -> Vec<u8> {
    let (head, mut rest) = recording.split_at(24);
    let (mut made, mut flows) = (head.to_vec(), 0);
    while !rest.is_empty() {
        let (header, behind) = rest.split_at(16);
        let (packet, behind) = behind.split_at(number(&header[8..]));
        rest = behind;
        // The header of the link type, followed by messages.
        let (mut changed, mut messages) = (packet[..16].to_vec(), &packet[16..]);
        while messages.len() >= 16 {
            let (message, next) = messages.split_at(number(messages).next_multiple_of(4).min(messages.len()));
            messages = next;
            // IPCTNL_MSG_CT_NEW
            if message[4..6] == [0, 1] {
                changed.extend(match which(flows) {
                    0 => message.to_vec(),
                    bits => offloaded(message, bits),
                });
                flows += 1;
            } else {
                changed.extend_from_slice(message);
            }
        }
        let length = u32::try_from(changed.len()).unwrap().to_le_bytes();
        made.extend_from_slice(&header[..8]);
        made.extend([length, length].concat());
        made.extend(changed);
    }
    assert!(flows >= FLOWS.len(), "{flows} flows in the recording");
    made
}

/// Creates the flows, records them, and marks some of them as offloaded in the recording.
fn recorded(namespace: &Namespace, which: impl Fn(usize) -> u32) -> PathBuf {
    entries::allow_labels(namespace);
    let outcome = load(&flowgate(), &FLOWS.join("\n"), &[]);
    assert_eq!(outcome.status, 0, "{}", outcome.errors());
    let file = namespace.directory().join("flows.pcap");
    flowgate().must(&["record", file.to_str().unwrap(), "--", "-L"]);
    let recording = std::fs::read(&file).unwrap();
    std::fs::write(&file, with_offloaded(&recording, which)).unwrap();
    file
}

fn replay(file: &Path, words: &[&str]) -> Outcome {
    let outcome = flowgate().run(&[&["replay", file.to_str().unwrap(), "--"], words].concat());
    assert_eq!(outcome.status, 0, "{}", outcome.errors());
    outcome
}

/// Returns lines without the timeout, and without the details of a state that the kernel does not report.
fn steady(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words[1], "-t", "{line}");
            words[3..].join(" ").split(" --orig-tcp-flags ").next().unwrap().to_owned()
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn case_14_offloaded_flows_are_saved_in_lines_that_load() {
    let saved = Namespace::run(|namespace| {
        let before = flowgate().must(&["-L", "-o", "save,complete"]);
        assert_eq!(before, "");
        let file = recorded(namespace, |flow| if flow % 2 == 0 { OFFLOAD } else { OFFLOAD | HARDWARE });
        let shown = replay(&file, &["-L"]).text();
        assert_eq!(shown.matches("OFFLOAD] ").count(), FLOWS.len(), "{shown}");
        assert!(shown.contains(" [OFFLOAD] ") && shown.contains(" [HW_OFFLOAD] "), "{shown}");
        let saved = replay(&file, &["-L", "-o", "save,complete"]).text();
        // The flows before they were offloaded.
        let plain = flowgate().must(&["-L", "-o", "save,complete"]);
        assert_eq!(steady(&saved), steady(&plain));
        saved
    });
    assert_eq!(saved.matches(" --state ESTABLISHED").count(), saved.matches(" -p tcp ").count(), "{saved}");
    Namespace::run(|namespace| {
        entries::allow_labels(namespace);
        for round in ["once", "twice"] {
            let outcome = load(&flowgate(), &saved, &[]);
            assert_eq!((outcome.status, count(namespace)), (0, FLOWS.len()), "{round}: {}", outcome.errors());
            assert_eq!(steady(&flowgate().must(&["-L", "-o", "save,complete"])), steady(&saved), "{round}");
        }
        // Loaded onto existing flows, with another mark.
        let outcome = load(&flowgate(), &saved.replace(" -m 7", " -m 8"), &[]);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert_eq!(flowgate().must(&["-L", "-m", "8"]).lines().count(), 1);
    });
}

/// Classic lines of offloaded flows, without timeout and state, are rejected individually.
#[test]
fn case_14_classic_lines_of_offloaded_flows_lose_only_themselves() {
    let (saved, lost) = Namespace::run(|namespace| {
        let file = recorded(namespace, |flow| if flow % 3 == 0 { OFFLOAD } else { 0 });
        let saved = replay(&file, &["-L", "-o", "save"]).text();
        let lost = saved.lines().filter(|line| !line.contains(" -t ")).count();
        (saved, lost)
    });
    assert_eq!(lost, 3, "{saved}");
    Namespace::run(|namespace| {
        for program in [flowgate(), conntrack()] {
            let outcome = load(&program, &saved, &[]);
            assert_eq!((outcome.status, count(namespace)), (2, 0), "{}", outcome.errors());
            assert!(outcome.errors().contains("--timeout"), "{}", outcome.errors());
        }
        let outcome = load(&flowgate(), &saved, &["--keep-going"]);
        assert_eq!((outcome.status, count(namespace)), (1, FLOWS.len() - lost), "{}", outcome.errors());
        assert!(last_line(&outcome).ends_with(&format!("{} created, {lost} refused", FLOWS.len() - lost)));
        assert_eq!(outcome.errors().matches("in /dev/stdin, line ").count(), lost);
    });
}

/// Expectations have no complete form, and the message says so.
#[test]
fn case_18_there_is_no_complete_form_of_expectations() {
    Namespace::run(|_| {
        for line in ["-L expect -o save,complete", "-E expect -o save,complete"] {
            let outcome = run(&flowgate(), line);
            assert_eq!((outcome.status, outcome.stdout.len()), (2, 0), "{line}: {}", outcome.errors());
            assert!(outcome.errors().contains("-o json has all fields"), "{}", outcome.errors());
        }
        assert_eq!(run(&flowgate(), "-L expect -o save").status, 0);
    });
}
