//! Finds sources that probe many ports or many hosts, and marks their flows, so that a rule can drop or slow them down
//! (nft `ct mark`).
//!
//! It counts the distinct destination ports and the distinct destination hosts of each source's unanswered flows. An
//! answered flow no longer counts, so that in an event stream (`-E -e NEW,UPDATES`), in which every flow begins
//! unanswered, ordinary sources are not taken for scanners. Flows that were seen before their source was detected are
//! marked then.

mod source;

use std::collections::HashMap;

use flowgate_sdk::{event, prelude::*, services};

use source::{Source, Target};

/// Maximum number of remembered targets, over all sources that are not detected. Beyond it all of them are forgotten.
const TARGETS: usize = 50_000;
/// Maximum number of remembered sources.
const SOURCES: usize = 20_000;

struct PortScan {
    ports: usize,
    hosts: usize,
    /// Nanoseconds after which the counts of a source start again.
    window: u64,
    mark: Option<(u32, u32)>,
    all: bool,
    sources: HashMap<u128, Source>,
    /// Number of targets of all sources.
    targets: usize,
}

/// Parses `VALUE/MASK` or `VALUE`, decimal or with 0x.
fn mark(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let (value, mask) = text.split_once('/').map_or((text, None), |(value, mask)| (value, Some(mask)));
    let wrong = |_| format!("option mark: {text:?} is no VALUE or VALUE/MASK of 32 bits, such as 0x100/0xff00");
    let value = number(value).map_err(wrong)?;
    let mask = mask.map_or(Ok(u32::MAX), |mask| number(mask).map_err(wrong))?;
    if value & !mask != 0 {
        return Err(format!("option mark: {value:#x} has bits outside of its mask {mask:#x}"));
    }
    Ok((value, mask))
}

impl Plugin for PortScan {
    fn describe() -> Description {
        Description::new("port-scan", "1.0.0", "Finds sources that probe many ports or hosts, and marks their flows")
            .option("ports", "N", "distinct destination ports of unanswered flows that make a scan", Some("20"))
            .option("hosts", "N", "distinct destination hosts of unanswered flows that make a scan", Some("20"))
            .option("window", "SECONDS", "how long a source is watched before its count starts again", Some("60"))
            .option("mark", "VALUE[/MASK]", "set these bits of the mark of a scanner's unanswered flows", None)
            .option("all", "true|false", "keep all flows, not only those of scanners", Some("false"))
            .reads(field::ORIGINAL | field::STATUS | field::STATE | field::MARK | field::ZONES)
            .wants("update.mark")
            .wants("log")
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let threshold = |name| {
            let number = setup.option::<usize>(name)?.unwrap_or(20);
            // More are not remembered for a source.
            if (1..=1000).contains(&number) {
                Ok(number)
            } else {
                Err(format!("option {name}: {number} is no number from 1 to 1000"))
            }
        };
        Ok(PortScan {
            ports: threshold("ports")?,
            hosts: threshold("hosts")?,
            window: setup.option::<u64>("window")?.unwrap_or(60).saturating_mul(1_000_000_000),
            mark: setup.text("mark").map(mark).transpose()?,
            all: setup.switch("all")?,
            sources: HashMap::new(),
            targets: 0,
        })
    }
}

impl PortScan {
    /// Returns the update with the mark, if one is to be set.
    fn update(&self) -> Option<Update> {
        self.mark.map(|(value, mask)| Update::new().mark_bits(value, mask))
    }

    /// Makes room by forgetting all sources that are not detected.
    fn bound(&mut self) {
        if self.targets <= TARGETS && self.sources.len() <= SOURCES {
            return;
        }
        services::warn(format_args!("too many sources to watch: {} are forgotten", self.sources.len()));
        self.sources.retain(|_, source| source.found.is_some());
        if self.sources.len() > SOURCES / 2 {
            self.sources.clear();
        }
        self.targets = 0;
    }

    /// Counts an unanswered flow; returns a description of the scan if its source is a scanner.
    fn unanswered(&mut self, flow: &Flow<'_>, notes: &mut Notes) -> Option<String> {
        let (time, window) = (flow.batch().time, self.window);
        let host = flow.original().source_bits();
        let source = self.sources.entry(host).or_insert_with(|| Source::new(time));
        if time.saturating_sub(source.since) > window {
            self.targets -= source.forget(time);
        }
        if source.found.is_none() {
            self.targets += usize::from(source.add(Target::of(flow), flow.key()));
            if let Some(found) = source.judge(self.ports, self.hosts) {
                services::warn(format_args!("{}: {found}", flow.original().source()));
                let earlier = source.take();
                self.targets -= earlier.len();
                if let Some(update) = self.update() {
                    let own = flow.key();
                    earlier.iter().filter(|key| **key != own).for_each(|key| notes.update_at(key, &update));
                }
            }
        }
        let found = self.sources.get(&host)?.found.clone();
        self.bound();
        found
    }

    /// Counts an answered flow.
    fn answered(&mut self, flow: &Flow<'_>) {
        if let Some(source) = self.sources.get_mut(&flow.original().source_bits()) {
            self.targets -= usize::from(source.remove(Target::of(flow)));
        }
    }
}

impl Filter for PortScan {
    fn keep(&mut self, flow: &Flow<'_>, notes: &mut Notes) -> bool {
        if !flow.has(field::ORIGINAL_ADDRESSES | field::PROTOCOL) {
            return self.all;
        }
        let half_open = flow.protocol() == protocol::TCP && flow.state() == Some(state_of("SYN_SENT"));
        if flow.seen_reply() && !half_open {
            self.answered(flow);
            return self.all;
        }
        let Some(found) = self.unanswered(flow, notes) else { return self.all };
        notes.annotate(flow, "scan", found);
        let marked = |(value, mask): (u32, u32)| flow.mark().unwrap_or(0) & mask == value;
        if flow.event() != event::DESTROY
            && !self.mark.is_some_and(marked)
            && let Some(update) = self.update()
        {
            notes.update(flow, &update);
        }
        true
    }
}

/// Returns the number of a TCP state.
fn state_of(name: &str) -> u8 {
    state::TCP.iter().position(|known| *known == name).map_or(0, |number| number as u8)
}

flowgate_sdk::filter!(PortScan);

#[cfg(test)]
mod tests {
    use flowgate_sdk::{
        FlowStage, action,
        testing::{Row, batch, setup},
    };

    use super::*;

    fn probe(source: &str, destination: &str, port: u16) -> Row {
        Row::ipv4(protocol::TCP)
            .original(source, destination, 4000 + port, port)
            .set(field::STATUS, |row| row.status = status::CONFIRMED)
            .set(field::STATE, |row| row.state = 1)
            .set(field::MARK, |row| row.mark = 0)
    }

    fn answered(row: Row) -> Row {
        row.set(field::STATUS, |row| row.status |= status::SEEN_REPLY).set(field::STATE, |row| row.state = 3)
    }

    fn plugin(options: &[(&str, &str)]) -> PortScan {
        PortScan::configure(&setup(options)).unwrap()
    }

    #[test]
    fn many_ports_make_a_scan_and_its_earlier_flows_are_marked() {
        let mut plugin = plugin(&[("ports", "3"), ("mark", "0x100/0xff00")]);
        let rows = [
            probe("10.0.0.1", "192.0.2.1", 1),
            probe("10.0.0.2", "192.0.2.1", 1),
            answered(probe("10.0.0.1", "192.0.2.1", 80)),
            probe("10.0.0.1", "192.0.2.1", 2),
            probe("10.0.0.1", "192.0.2.1", 2),
            probe("10.0.0.1", "192.0.2.1", 3),
            probe("10.0.0.1", "192.0.2.1", 4),
            probe("10.0.0.1", "192.0.2.1", 5).set(field::MARK, |row| row.mark = 0x177),
        ];
        let outcome = plugin.process(&batch(rows));
        assert_eq!(outcome.verdicts, [0, 0, 0, 0, 0, 1, 1, 1]);
        let actions = outcome.actions.unwrap();
        assert_eq!(actions.kinds, [action::UPDATE; 4]);
        // Two earlier flows, identified by their tuples, and two of the batch; the last one has the mark already.
        assert_eq!(actions.rows, [action::NO_ROW, action::NO_ROW, 5, 6]);
        let notes = outcome.annotations.unwrap();
        assert_eq!(notes.values.get(0), Some(&b"3 ports on 1 host"[..]));
        assert_eq!(services::native::take_lines()[0].1, "10.0.0.1: 3 ports on 1 host");
    }

    #[test]
    fn many_hosts_make_a_scan() {
        let mut plugin = plugin(&[("hosts", "2")]);
        let outcome = plugin.process(&batch([
            Row::ipv6(protocol::ICMPV6).original("2001:db8::1", "2001:db8::2", 7, 0x8000),
            Row::ipv6(protocol::ICMPV6).original("2001:db8::1", "2001:db8::3", 7, 0x8000),
        ]));
        assert_eq!(outcome.verdicts, [0, 1]);
        assert!(outcome.actions.is_none());
    }

    #[test]
    fn answers_and_time_clear() {
        let mut plugin = plugin(&[("ports", "2"), ("window", "10")]);
        let at = |seconds: u64, row: Row| Flows { time: seconds * 1_000_000_000, ..batch([row]) };
        let first = probe("10.0.0.1", "192.0.2.1", 1);
        assert_eq!(plugin.process(&at(1, first.clone().event(event::NEW))).verdicts, [0]);
        plugin.process(&at(1, answered(first).event(event::UPDATE)));
        assert_eq!(plugin.targets, 0);
        assert_eq!(plugin.process(&at(2, probe("10.0.0.1", "192.0.2.1", 2))).verdicts, [0]);
        assert_eq!(plugin.process(&at(13, probe("10.0.0.1", "192.0.2.1", 3))).verdicts, [0]);
        assert!(plugin.process(&at(14, probe("10.0.0.1", "192.0.2.1", 4))).verdicts.is_empty());
        assert_eq!(plugin.targets, 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut plugin = plugin(&[]);
        for part in 0..3u32 {
            let host = |number: u32| std::net::Ipv4Addr::from_bits(part << 16 | number).to_string();
            plugin.process(&batch((0..15_000).map(|number| probe(&host(number), "192.0.2.1", 1))));
            assert!(plugin.sources.len() <= SOURCES && plugin.targets <= TARGETS);
        }
    }

    #[test]
    fn rows_without_a_flow_pass_by() {
        let gap = Row::new(0, 0).without(field::PROTOCOL).event(event::GAP);
        assert_eq!(plugin(&[]).process(&batch([gap])).verdicts, [0]);
    }

    #[test]
    fn wrong_options_are_named() {
        for (name, value) in [("ports", "0"), ("hosts", "1001"), ("mark", "x"), ("mark", "1/2"), ("window", "-1")] {
            let error = PortScan::configure(&setup(&[(name, value)])).err().unwrap();
            assert!(error.contains(&format!("option {name}")), "{error}");
        }
    }
}
