//! Random sequences of commands that change the table, each in two fresh namespaces, once by each program.
//!
//! `FLOWGATE_SEED=N` repeats a run, `FLOWGATE_SEQUENCES=N` makes it longer.

use crate::conformance::commands::{LOAD, play};
use crate::conformance::compare::{Both, Report, Setting};
use flowgate_test_support::Random;

/// Addresses of both families, few enough for commands to hit entries created by others.
const V4: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.1.0.1"];
const V6: [&str; 2] = ["2001:db8::1", "2001:db8::2"];

/// Returns the original tuple of a flow: addresses and protocol, with the options of the protocol.
fn tuple(random: &mut Random, complete: bool) -> String {
    let v6 = random.chance(1, 4);
    let [source, destination] = if v6 {
        [random.pick(&V6), random.pick(&V6)].map(str::to_owned)
    } else {
        [random.pick(&V4), random.pick(&V4)].map(str::to_owned)
    };
    let ports = format!("--sport {} --dport {}", 1 + random.below(3), 53 + random.below(2));
    let (protocol, options) = match random.below(if v6 { 5 } else { 7 }) {
        0 => ("tcp", format!("{ports} --state {}", random.pick(&["SYN_SENT", "ESTABLISHED", "TIME_WAIT", "CLOSE"]))),
        1 => ("udp", ports),
        2 => ("udplite", ports),
        3 => ("sctp", format!("{ports} --state ESTABLISHED --orig-vtag 7 --reply-vtag 9")),
        4 => ("50", String::new()),
        // The keys are constant: conntrack does not compare them, and so would change other flows.
        5 => ("gre", "--srckey 1 --dstkey 0x20".to_owned()),
        _ => ("icmp", format!("--icmp-type 8 --icmp-code 0 --icmp-id {}", random.below(3))),
    };
    // Without its state a TCP flow can be looked up but not created.
    let options = if complete { options } else { options.split(" --state").next().unwrap_or_default().to_owned() };
    format!("-s {source} -d {destination} -p {protocol} {options}")
}

/// Returns a selector for a command on several entries. It always names the family, without which 1.4.7 cannot update.
fn selector(random: &mut Random) -> String {
    match random.below(6) {
        0 => format!("-s {}", random.pick(&V4)),
        1 => format!("-s {}", random.pick(&V6)),
        2 => format!("-f ipv4 -p {}", random.pick(&["tcp", "udp", "sctp", "icmp", "gre", "50"])),
        3 => format!("-d 10.0.0.0/16 -p {}", random.pick(&["tcp", "udp"])),
        4 => format!("-f ipv4 -m {}", random.below(3)),
        _ => format!("-s {} -p udp --dport 53", random.pick(&V4)),
    }
}

/// Returns one command line. It avoids timeouts that could expire during a pause of the machine, and what
/// `differences.rs` lists: no `-A` of an entry that may exist, and updates of single entries only, of which 1.4.7
/// prints all.
fn line(random: &mut Random) -> String {
    let mark = if random.chance(1, 2) { format!(" -m {}", random.below(3)) } else { String::new() };
    match random.below(16) {
        0..=7 => {
            // Flows in a zone have ports that no update names: conntrack only updates flows without a zone.
            if random.chance(1, 5) {
                let (port, zone) = (70 + random.below(3), random.below(3));
                return format!("-I -t 3000 -s 10.0.0.1 -d 10.1.0.1 -p udp --sport {port} --dport 53{mark} -w {zone}");
            }
            // A new address each time: where two flows would look the same the kernel picks a random port.
            let nat = format!(" -n 10.{}.{}.9", 20 + random.below(200), random.below(250));
            let tuple = tuple(random, true);
            let nat = if random.chance(1, 6) && !tuple.contains("2001:") { nat.as_str() } else { "" };
            format!("-I -t 3000 {tuple}{mark}{nat}")
        }
        8 | 9 => format!("-D {} {}", selector(random), if random.chance(1, 3) { "-o save" } else { "" }),
        10 | 11 => format!("-G {}", tuple(random, false)),
        12 => format!("-L {} -o extended", selector(random)),
        // XML is excluded because it contains the ids of entries, which differ between the two namespaces.
        13 => format!("-L -o {}", random.pick(&["save", "extended"])),
        14 => "-C".into(),
        _ => format!("-U {} -m {}", tuple(random, false), random.below(9)),
    }
}

/// Returns a file of some lines that conntrack accepts in a file. It has no updates, because conntrack applies the mark
/// of the last line to all of them.
fn load(random: &mut Random) -> String {
    let lines: Vec<String> = std::iter::repeat_with(|| line(random))
        .filter(|line| line.starts_with("-I ") || line.starts_with("-D ") && !line.contains("-o save"))
        .take(4)
        .collect();
    format!("{LOAD}{}", lines.join("; "))
}

#[test]
fn random_sequences() {
    let seed = Random::seed("FLOWGATE_SEED");
    let sequences = std::env::var("FLOWGATE_SEQUENCES").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let mut random = Random::new(seed);
    // Invoked as `conntrack`: under its own name flowgate also names the line of a file that failed.
    let both = Both::under(&Setting { called: Some("conntrack"), ..Setting::default() });
    let mut report = Report::new(format!("random sequences of FLOWGATE_SEED={seed}"));
    for number in 0..sequences {
        let lines: Vec<String> =
            (0..30).map(|_| if random.chance(1, 10) { load(&mut random) } else { line(&mut random) }).collect();
        let script: Vec<&str> = lines.iter().map(String::as_str).collect();
        let [theirs, ours] = [&both.theirs, &both.ours].map(|program| play(program, &script, false));
        for (index, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
            let text = script.get(index).copied().unwrap_or("the table that is left");
            report.outcomes(&format!("{text}   (sequence {number}, line {})", index + 1), theirs, ours);
        }
    }
    report.finish();
}
