//! An hour of flows, replayed through the kernel at full speed: in the end the events of each tenant add up to its part
//! of the table, whatever was lost in between, and the service has not grown since the first quarter of the hour.

use std::{cell::RefCell, collections::HashMap, fmt::Write as _, fs::File, io::Read as _};

use flowgate_test_support::Random;

use super::*;

const MINUTES: usize = 60;
/// Number of flows that begin in a minute.
const BEGIN: usize = 1500;
/// Maximum lifetime of a flow in minutes.
const LONGEST: usize = 5;
/// Number of zones, in addition to no zone.
const ZONES: usize = 4;
/// Allowed growth of the service: memory that the allocator keeps from queues that were full for a while.
const SLACK: u64 = 8 << 20;

/// Returns the commands of each minute as load files. A flow's source has the minute of its end, its destination the
/// updates that change it.
fn schedule(random: &mut Random) -> Vec<String> {
    let mut next = 0u32;
    (0..MINUTES)
        .map(|minute| {
            let mut text = String::new();
            for _ in 0..BEGIN {
                next += 1;
                begin(&mut text, next, minute + 1 + random.below(LONGEST), random);
            }
            for _ in 0..3 {
                let (mark, part) = (random.below(1 << 16), random.below(16));
                if random.chance(1, 4) {
                    let _ = writeln!(text, "-U -f ipv6 -d 2001:db8:ff:{part:x}::/64 -m {mark}");
                } else {
                    let _ = writeln!(text, "-U -f ipv4 -d 198.51.{part}.0/24 -m {mark}");
                }
            }
            // Some flows of one protocol end early, then all flows of the minute.
            let (protocol, part) = (["tcp", "udp", "sctp", "icmp"][random.below(4)], random.below(16));
            let _ = writeln!(text, "-D -f ipv4 -p {protocol} -d 198.51.{part}.0/24");
            let _ = writeln!(text, "-D -f ipv4 -s 10.{minute}.0.0/16");
            let _ = writeln!(text, "-D -f ipv6 -s 2001:db8:{minute:x}::/48");
            text
        })
        .collect()
}

/// Returns the line that creates a flow.
fn begin(text: &mut String, number: u32, ends: usize, random: &mut Random) {
    let (high, low) = (number >> 8 & 0xff, number & 0xff);
    let (zone, part, port) = (random.below(ZONES + 1), random.below(16), 1 + number % 60_000);
    text.push_str("-I -t 432000");
    if zone > 0 {
        let _ = write!(text, " -w {zone}");
    }
    if random.chance(1, 3) {
        let _ = write!(text, " -m {}", random.below(1 << 16));
    }
    let six = random.chance(1, 4);
    let _ = match six {
        true => {
            write!(text, " -s 2001:db8:{ends:x}::{:x}:{:x} -d 2001:db8:ff:{part:x}::1", number >> 16, number & 0xffff)
        }
        false => write!(text, " -s 10.{ends}.{high}.{low} -d 198.51.{part}.1"),
    };
    let _ = match random.below(10) {
        0..4 => writeln!(text, " -p tcp --sport {port} --dport 443 --state ESTABLISHED -u ASSURED,SEEN_REPLY"),
        4..8 => writeln!(text, " -p udp --sport {port} --dport 53"),
        8 if six => writeln!(text, " -p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id {}", number & 0xffff),
        8 => writeln!(text, " -p icmp --icmp-type 8 --icmp-code 0 --icmp-id {}", number & 0xffff),
        _ => {
            writeln!(text, " -p sctp --sport {port} --dport 9 --state ESTABLISHED --orig-vtag {number} --reply-vtag 9")
        }
    };
}

/// Returns the flow of a line of a listing or event, and its mark. Events leave out values of 0.
fn flow_of(line: &str) -> (String, u32) {
    let mut name = String::new();
    let mut mark = 0;
    for word in line.split_whitespace() {
        match word.split_once('=') {
            Some(("mark", number)) => mark = number.parse().unwrap(),
            Some(("src" | "dst" | "sport" | "dport" | "type" | "code" | "id" | "zone", _)) => {
                name.push_str(word);
                name.push(' ');
            }
            // The protocol comes first; states, numbers and flags do not identify the flow.
            None if name.is_empty() && word.starts_with(|c: char| c.is_ascii_lowercase()) => {
                name.push_str(word);
                name.push(' ');
            }
            _ => {}
        }
    }
    (name, mark)
}

/// The table according to a tenant's events.
struct View {
    name: &'static str,
    file: Option<File>,
    path: PathBuf,
    /// The beginning of an incomplete line.
    rest: Vec<u8>,
    flows: HashMap<String, u32>,
    events: usize,
}

impl View {
    fn of(serving: &Serving, name: &'static str) -> Self {
        let path = serving.directory.join(format!("{name}.log"));
        View { name, file: None, path, rest: Vec::new(), flows: HashMap::new(), events: 0 }
    }

    /// Applies the lines that were written since the last call.
    fn read_on(&mut self) {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else { return };
        file.read_to_end(&mut self.rest).unwrap();
        let whole = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.rest.split_off(whole);
        let text = String::from_utf8(std::mem::replace(&mut self.rest, rest)).unwrap();
        for line in text.lines() {
            let Some((kind, line)) = line.trim_start().split_once(']') else { panic!("{}: {line}", self.name) };
            let (name, mark) = flow_of(line);
            self.events += 1;
            match kind {
                "[NEW" | "[UPDATE" => {
                    self.flows.insert(name, mark);
                }
                "[DESTROY" => {
                    self.flows.remove(&name);
                }
                _ => panic!("{}: {line}", self.name),
            }
        }
    }
}

/// Returns the part of the table that is in a scope.
fn part(table: &[(String, u32)], is_in: fn(&str) -> bool) -> HashMap<String, u32> {
    table.iter().filter(|(name, _)| is_in(name)).cloned().collect()
}

/// Returns the kernel's table.
fn all() -> Vec<(String, u32)> {
    ["ipv4", "ipv6"]
        .iter()
        .flat_map(|family| {
            let text = flowgate().must(&["-L", "-f", family]);
            text.lines().map(flow_of).collect::<Vec<_>>()
        })
        .collect()
}

/// Returns the resident memory of the service in bytes.
fn resident(serving: &Serving) -> u64 {
    let text = fs::read_to_string(serving.proc().join("status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

/// A tenant: its name, its scope in the policy, whether a flow is in the scope, and further keys.
type Tenancy = (&'static str, &'static str, fn(&str) -> bool, &'static str);

const TENANTS: [Tenancy; 6] = [
    ("all", "everything = true", |_| true, ""),
    ("one", "zones = 1", |name| name.contains("zone=1 "), ""),
    ("rest", "zones = [0, \"3-9\"]", |name| !name.contains("zone=1 ") && !name.contains("zone=2 "), ""),
    ("six", "family = \"ipv6\"\nsource = \"2001:db8::/32\"", |name| name.contains("src=2001:db8:"), ""),
    ("udp", "protocols = [\"udp\"]\nzones = 2", |name| name.starts_with("udp ") && name.contains("zone=2 "), ""),
    // Its queue is too small for a burst.
    (
        "small",
        "destination = \"198.51.0.0/17\"\nprotocols = [\"tcp\", \"icmp\"]",
        |name| (name.starts_with("tcp ") || name.starts_with("icmp ")) && name.contains(" dst=198.51."),
        ", queue = \"64KiB\"",
    ),
];

fn policies() -> String {
    let path = plugins::built("flowgate-plugin-pass");
    let digest = plugins::digest(&path);
    let tenants = TENANTS.iter().map(|(name, scope, _, limits)| {
        format!(
            "[[tenant]]\nname = \"{name}\"\nlimits = {{ output-per-second = \"1GiB\", time-per-second = \"1s\"{limits} }}\n\
             [[tenant.scope]]\n{scope}\n[[tenant.plugin]]\nfile = \"{}\"\nsha256 = \"{digest}\"\n\
             [[tenant.sink]]\nkind = \"file\"\npath = \"DIR/{name}.log\"\n",
            path.display()
        )
    });
    tenants.collect()
}

/// Waits until the table of each tenant equals its part of the kernel's.
fn settle(serving: &Serving, views: &mut [View]) {
    let table = all();
    let parts: Vec<HashMap<String, u32>> = TENANTS.iter().map(|(_, _, is_in, _)| part(&table, *is_in)).collect();
    let views = RefCell::new(views);
    let add_up = || {
        let mut views = views.borrow_mut();
        views.iter_mut().for_each(View::read_on);
        views.iter().zip(&parts).all(|(view, part)| view.flows == *part)
    };
    let explain = || {
        let views = views.borrow();
        let lines = views.iter().zip(&parts).map(|(view, part)| {
            let (seen, flows) = (&view.flows, &view.name);
            let missing: Vec<_> = part.iter().filter(|(name, mark)| seen.get(*name) != Some(mark)).take(3).collect();
            let foreign: Vec<_> = seen.iter().filter(|(name, _)| !part.contains_key(*name)).take(3).collect();
            format!("{flows}: {} of {}, missing {missing:?}, left {foreign:?}\n", seen.len(), part.len())
        });
        lines.collect::<String>() + &serving.ask(&["status"]).text()
    };
    until_or_explain("what tenants received adds up to the table", add_up, explain);
    assert!(parts.iter().all(|part| !part.is_empty()), "a tenant has no flows, so that nothing is tested");
}

#[test]
fn an_hour_of_events_adds_up_to_the_table() {
    let seed = Random::seed("REPLAY_SEED");
    eprintln!("REPLAY_SEED={seed}");
    let minutes = schedule(&mut Random::new(seed));
    let replay = |minutes: &[String]| {
        flowgate().must_with(&["-R", "-"], minutes.concat().as_bytes());
    };
    Namespace::run(|namespace| {
        let serving = Serving::start(namespace, &policies());
        let mut views: Vec<View> = TENANTS.iter().map(|(name, ..)| View::of(&serving, name)).collect();
        let (quarter, half) = (MINUTES / 4, MINUTES / 2);
        replay(&minutes[..quarter]);
        settle(&serving, &mut views);
        let before = resident(&serving);
        // Events during a pause are certainly lost.
        assert_eq!(serving.ask(&["pause", "udp"]).status, 0);
        replay(&minutes[quarter..half]);
        assert_eq!(serving.ask(&["resume", "udp"]).status, 0);
        replay(&minutes[half..]);
        settle(&serving, &mut views);
        let after = resident(&serving);
        let answer: Value = serde_json::from_str(&serving.ask(&["status", "-o", "json"]).text()).unwrap();
        let of = |name: &str, what: &str| {
            answer["tenants"].as_array().unwrap().iter().find(|tenant| tenant["tenant"] == name).unwrap()[what]
                .as_u64()
                .unwrap()
        };
        for view in &views {
            let [gaps, lost] = ["gaps", "lost"].map(|what| of(view.name, what));
            eprintln!("{}: {} lines, {} flows, {gaps} gaps, {lost} lost", view.name, view.events, view.flows.len());
        }
        eprintln!("resident: {} KiB after a quarter, {} KiB at the end", before >> 10, after >> 10);
        assert!(of("udp", "gaps") > 0, "nothing was lost on the way, so that nothing was made up for: {answer}");
        assert!(of("all", "events") > 200_000, "{answer}");
        assert!(after <= before + SLACK, "it has grown from {before} to {after} bytes");
        serving.end();
    });
}
