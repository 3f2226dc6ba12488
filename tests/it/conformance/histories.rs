//! Random histories: flows of every protocol, with labels, marks, NAT and zones, are created, looked up, changed and
//! deleted. Each history runs in two fresh namespaces, once by each program; in half of them no rule lets flows have
//! labels.
//!
//! Unlike those of `sequences.rs` these flows have distinct addresses, so that a command can address a single flow.
//! `FLOWGATE_SEED=N` repeats a run, `FLOWGATE_HISTORIES=N` makes it longer.

use crate::conformance::commands::{LOAD, play};
use crate::conformance::compare::{Both, Report, Setting};
use flowgate_test_support::Random;
use flowgate_test_support::entries::{SCTP_STATES, TCP_STATES};

/// A flow that a history has created.
#[derive(Clone, Copy, Debug)]
struct Flow {
    number: usize,
    v6: bool,
    protocol: &'static str,
    /// True if conntrack can update it. It cannot update flows in a zone, because it omits the zone, nor flows with a
    /// fixed timeout, because the kernel refuses that.
    changeable: bool,
}

impl Flow {
    /// Returns its original tuple as options. Without `keys`, the GRE keys are left out, which conntrack does not
    /// compare.
    fn tuple(&self, keys: bool) -> String {
        let number = self.number;
        let [high, low] = [number >> 8, number & 0xff];
        let numbers = match self.protocol {
            "tcp" | "udp" | "udplite" | "sctp" => format!(" --sport {} --dport {}", 1000 + number, 20_000 + number),
            "icmp" => format!(" --icmp-type 8 --icmp-code 0 --icmp-id {number}"),
            "icmpv6" => format!(" --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id {number}"),
            "gre" if keys => format!(" --srckey {number} --dstkey {}", number + 7),
            _ => String::new(),
        };
        let addresses = match self.v6 {
            true => format!("-s 2001:db8:1::{number:x} -d 2001:db8:2::{number:x}"),
            false => format!("-s 10.1.{high}.{low} -d 10.2.{high}.{low}"),
        };
        format!("{addresses} -p {}{numbers}", self.protocol)
    }

    /// Returns a random state for a protocol that has states.
    fn state(&self, random: &mut Random) -> String {
        match self.protocol {
            "tcp" => format!(" --state {}", random.pick(&TCP_STATES)),
            "sctp" => {
                let [one, other] = [self.number, 3 * self.number];
                format!(" --state {} --orig-vtag {one} --reply-vtag {other}", random.pick(&SCTP_STATES))
            }
            _ => String::new(),
        }
    }
}

/// A history under construction. It avoids what `differences.rs` and `acts.rs` list.
struct History {
    random: Random,
    flows: Vec<Flow>,
    /// True if flows can have labels.
    labels: bool,
    timeouts: usize,
}

impl History {
    /// Returns a timeout that no other command of the history uses, and that does not expire.
    fn timeout(&mut self) -> usize {
        self.timeouts += 1;
        100_000 + 50 * self.timeouts
    }

    /// Returns a random output format, or none. XML is excluded because it contains the ids of entries, which differ
    /// between the two namespaces.
    fn output(&mut self) -> &'static str {
        self.random.pick(&["", "", " -o extended", " -o save", " -o extended,labels", " -o labels,userspace"])
    }

    /// Returns `-I` or `-A` of a flow that does not exist.
    fn create(&mut self, command: &str, labels: bool) -> String {
        let random = &mut self.random;
        let v6 = random.chance(1, 2);
        let protocol = random.pick(&["tcp", "tcp", "udp", "udplite", "sctp", "icmp", "gre", "50", "253"]);
        let protocol = if v6 && protocol == "icmp" { "icmpv6" } else { protocol };
        // `pick` returns a reference with the lifetime of its argument, here static.
        let protocol: &'static str = protocol;
        let mut flow = Flow { number: self.flows.len() + 1, v6, protocol, changeable: true };
        let mut line = format!("{command} -t {}", self.timeout());
        let random = &mut self.random;
        if random.chance(1, 3) {
            let status = random.pick(&[
                "ASSURED",
                "SEEN_REPLY",
                "ASSURED,SEEN_REPLY",
                "FIXED_TIMEOUT",
                "UNSET",
                "SEEN_REPLY,FIXED_TIMEOUT",
            ]);
            flow.changeable &= !status.contains("FIXED");
            line += &format!(" -u {status}");
        }
        if random.chance(1, 3) {
            line += &format!(" -m {}", random.pick(&["0", "1", "5", "0xff", "0x80000000", "4294967295", "6/1"]));
        }
        if random.chance(1, 4) {
            let zone = random.pick(&["-w 1", "-w 5", "-w 65535", "--orig-zone 6", "--reply-zone 7", "-w 0"]);
            flow.changeable &= zone == "-w 0";
            line += &format!(" {zone}");
        }
        line += &format!(" {}", flow.tuple(true));
        if matches!(protocol, "tcp" | "udp" | "50") && random.chance(1, 3) {
            let (outside, inside, [open, close]) =
                if v6 { ("2001:db8:7::7", "2001:db8:3::9", ["[", "]"]) } else { ("203.0.113.7", "10.3.0.9", ["", ""]) };
            let number = flow.number;
            line += &match if protocol == "50" { 3 } else { random.below(4) } {
                0 => format!(" -n {open}{outside}{close}:{}", 30_000 + number),
                1 => format!(" -g {open}{inside}{close}:{}", 40_000 + number),
                2 => format!(" -n {outside} -g {inside}"),
                _ => format!(" -n {outside}"),
            };
        }
        line += &flow.state(random);
        if labels && random.chance(1, 4) {
            line += &format!(" --label-add {}", random.pick(&["first", "five", "sixty-four", "last"]));
        }
        self.flows.push(flow);
        line
    }

    /// Returns a flow of the history for which `wanted` holds, preferring recent ones, if there is one.
    fn known(&mut self, wanted: impl Fn(&Flow) -> bool) -> Option<Flow> {
        let mut flows: Vec<Flow> = self.flows.iter().copied().filter(wanted).collect();
        if self.random.chance(2, 3) {
            flows.drain(..flows.len().saturating_sub(12));
        }
        (!flows.is_empty()).then(|| flows[self.random.below(flows.len())])
    }

    /// Returns `-U` of one flow. `in_file`: in a file, conntrack applies the marks and labels of the last line.
    fn update(&mut self, in_file: bool) -> String {
        let Some(flow) = self.known(|flow| flow.changeable) else { return "-U -s 192.88.99.1 -m 5".into() };
        let mut line = format!("-U {}", flow.tuple(false));
        let random = &mut self.random;
        let mut parts = String::new();
        if random.chance(1, 3) {
            let status = random.pick(&["ASSURED", "SEEN_REPLY", "ASSURED,SEEN_REPLY", "UNSET"]);
            parts += &format!(" -u {status}");
        }
        if !in_file && random.chance(1, 2) {
            parts += " -m ";
            parts += random.pick(&["0", "3", "5", "2/3", "0xff00/0xff00", "0x80000000", "7/0"]);
        }
        if !in_file && random.chance(1, 3) {
            parts += random.pick(&[
                " --label-del",
                " --label-del first",
                " --label-del five --label-del first",
                " -l first",
                " -l last -t 777777",
                " -n -t 888888",
                " -g",
            ]);
            // Where flows cannot have labels, adding one is listed in `acts.rs`.
        } else if !in_file && self.labels && random.chance(1, 3) {
            parts +=
                random.pick(&[" --label-add first", " --label-add five --label-add thirty-two", " --label-add last"]);
        }
        let random = &mut self.random;
        if random.chance(1, 3) {
            line += &flow.state(random);
        }
        let nothing = parts.is_empty();
        line += &parts;
        if nothing || self.random.chance(1, 4) {
            line += &format!(" -t {}", self.timeout());
        }
        line
    }

    fn delete(&mut self) -> String {
        let random = &mut self.random;
        match random.below(12) {
            0 => format!("-D -p {}", random.pick(&["sctp", "icmp", "icmpv6", "gre", "253"])),
            1 => format!("-D -m {}", random.pick(&["1", "0xff", "1/1", "0x80000000/0x80000000"])),
            2 => format!("-D -w {}", random.pick(&["1", "5", "65535"])),
            3 => format!("-D -l {}", random.pick(&["first", "last", "five"])),
            4 => format!("-D -p {} {}", random.pick(&["tcp", "udp"]), random.pick(&["-n", "-g", "-n -g"])),
            5 => format!("-D -u {}", random.pick(&["ASSURED,SEEN_REPLY", "FIXED_TIMEOUT", "SEEN_REPLY"])),
            6 => random
                .pick(&["-D -f ipv6 -p udplite", "-D -s 10.1.0.0/29", "-D --orig-zone 6", "-D --reply-zone 7"])
                .into(),
            _ => self.known(|_| true).map_or("-D -p 99".into(), |flow| format!("-D {}", flow.tuple(false))),
        }
    }

    /// Returns lines for `-R`, without labels and with at most one update, since conntrack handles more of them
    /// differently. The update comes last: 1.4.7 leaves one of its acknowledgements unread, and a later deletion takes
    /// it for its own and fails if the clock's second has changed in between (`Protocol error`).
    fn file(&mut self) -> String {
        let mut lines = vec!["# a file".to_owned()];
        for _ in 0..1 + self.random.below(7) {
            let line = match self.random.below(5) {
                0..=2 => self.create("-A", false),
                3 => self.create("conntrack -I", false),
                _ => self.delete(),
            };
            if !line.contains(" -l ") {
                lines.push(line);
            }
        }
        if self.random.chance(1, 2) {
            let update = self.update(true);
            lines.push(update);
        }
        lines.push("-D -s 192.88.99.1 -p tcp".into());
        format!("{LOAD}{}", lines.join("; "))
    }

    fn line(&mut self) -> String {
        match self.random.below(20) {
            0..=5 => self.create("-I", true),
            6 | 7 => self.create("-A", true),
            8 => match self.known(|flow| flow.changeable) {
                Some(flow) => format!("-I -t 999 {}{}", flow.tuple(true), flow.state(&mut self.random)),
                None => "-C".into(),
            },
            9..=11 => self.update(false) + self.output(),
            12 | 13 => self.delete() + self.output(),
            14 | 15 => match self.known(|_| true) {
                Some(flow) => format!("-G {}{}", flow.tuple(true), self.output()),
                None => "-C".into(),
            },
            16 => self.file(),
            17 if self.random.chance(1, 6) => self.random.pick(&["-F", "-F conntrack", "-D"]).into(),
            17 => "-C".into(),
            _ => {
                let selector = self.random.pick(&[
                    "",
                    " -f ipv6",
                    " -p tcp",
                    " -p udp --sport 1001",
                    " -m 5",
                    " -w 0",
                    " -w 5",
                    " --reply-zone 7",
                    " -u ASSURED",
                    " -u UNREPLIED",
                    " -s 10.1.0.0/16",
                    " -l first",
                    " -n",
                    " -p tcp --state ESTABLISHED",
                ]);
                format!("-L{selector}{}", self.output())
            }
        }
    }
}

#[test]
fn random_histories() {
    let seed = Random::seed("FLOWGATE_SEED");
    println!("FLOWGATE_SEED={seed}");
    let histories = std::env::var("FLOWGATE_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    // Invoked as `conntrack`: under its own name flowgate also names the line of a file that failed.
    let both = Both::under(&Setting { called: Some("conntrack"), ..Setting::default() });
    let mut report = Report::new(format!("random histories of FLOWGATE_SEED={seed}"));
    for number in 0..histories {
        let labels = number % 2 == 0;
        // Each history has its own seed, so that an additional command in the first one does not change all others.
        let random = Random::new(seed.wrapping_mul(1000).wrapping_add(number));
        let mut history = History { random, flows: Vec::new(), labels, timeouts: 0 };
        let lines: Vec<String> = (0..150).map(|_| history.line()).collect();
        let script: Vec<&str> = lines.iter().map(String::as_str).collect();
        let [theirs, ours] = [&both.theirs, &both.ours].map(|program| play(program, &script, labels));
        for (index, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
            let text = script.get(index).copied().unwrap_or("the table that is left");
            report.outcomes(&format!("{text}   (history {number}, line {})", index + 1), theirs, ours);
        }
    }
    report.finish();
}
