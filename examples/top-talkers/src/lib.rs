//! Keeps the flows of the hosts that move the most, and annotates them with rank and total.
//!
//! Flows pass in batches, so a host's rank is that among everything seen so far, including the batch. In a listing with
//! `--batch 65536`, a table of that size is one batch, and the ranks are exact; in an event stream (`-E -e DESTROY`)
//! they are a running chart. The final chart is written to the host's log if the plugin has the grant `log`.

use std::{cmp::Reverse, collections::HashMap};

use flowgate_sdk::{FlowStage, address::MAPPED, event, prelude::*, services, verdict};

/// Maximum number of hosts that are counted. Beyond it the smaller half is forgotten; hosts that matter are far above.
const HOSTS: usize = 1 << 16;

struct TopTalkers {
    count: usize,
    of: End,
    by: Measure,
    totals: HashMap<u128, u64>,
}

/// The end of a flow that counts as the host.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// The measure that is summed up.
#[derive(Clone, Copy)]
enum Measure {
    Bytes,
    Packets,
    Flows,
}

impl TopTalkers {
    fn host(&self, flow: &Flow<'_>) -> Option<u128> {
        match self.of {
            End::Source => flow.has(field::SOURCE).then(|| flow.original().source_bits()),
            End::Destination => flow.has(field::DESTINATION).then(|| flow.original().destination_bits()),
        }
    }

    fn amount(&self, flow: &Flow<'_>) -> u64 {
        // A flow counts once: when it is listed or when it ends, which is when its counters are complete.
        if !matches!(flow.event(), event::NONE | event::DESTROY) {
            return 0;
        }
        match self.by {
            Measure::Bytes => flow.bytes().unwrap_or(0),
            Measure::Packets => flow.packets().unwrap_or(0),
            Measure::Flows => 1,
        }
    }

    fn add(&mut self, batch: &Flows) {
        for flow in batch.flows() {
            let Some(host) = self.host(&flow) else { continue };
            let amount = self.amount(&flow);
            let total = self.totals.entry(host).or_default();
            *total = total.saturating_add(amount);
        }
        if self.totals.len() > HOSTS {
            let mut all: Vec<u64> = self.totals.values().copied().collect();
            let middle = all.len() / 2;
            let median = *all.select_nth_unstable(middle).1;
            self.totals.retain(|_, total| *total > median);
        }
    }

    /// Returns the hosts in descending order; of equal ones the lower address comes first.
    fn chart(&self) -> Vec<(u128, u64)> {
        let mut chart: Vec<(u128, u64)> =
            self.totals.iter().map(|(host, total)| (*host, *total)).filter(|(_, total)| *total > 0).collect();
        let order = |(host, total): &(u128, u64)| (Reverse(*total), *host);
        if chart.len() > self.count {
            chart.select_nth_unstable_by_key(self.count, order);
            chart.truncate(self.count);
        }
        chart.sort_unstable_by_key(order);
        chart
    }
}

/// Formats an address.
fn written(host: u128) -> String {
    let address = std::net::Ipv6Addr::from_bits(host);
    if host >> 32 == MAPPED >> 32 { address.to_canonical().to_string() } else { address.to_string() }
}

impl Plugin for TopTalkers {
    fn describe() -> Description {
        Description::new("top-talkers", "1.0.0", "Keeps the flows of the hosts that move the most")
            .option("n", "N", "how many hosts", Some("10"))
            .option("of", "source|destination", "which end is the host", Some("source"))
            .option("by", "bytes|packets|flows", "what is added up", Some("bytes"))
            .reads(field::ORIGINAL_ADDRESSES | field::COUNTERS)
            .wants("log")
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let count: usize = setup.option("n")?.unwrap_or(10);
        if count == 0 || count > HOSTS / 2 {
            return Err(format!("option n: {count} is no number of hosts from 1 to {}", HOSTS / 2));
        }
        let of = match setup.text("of").unwrap_or("source") {
            "source" => End::Source,
            "destination" => End::Destination,
            other => return Err(format!("option of: {other:?} is neither `source` nor `destination`")),
        };
        let by = match setup.text("by").unwrap_or("bytes") {
            "bytes" => Measure::Bytes,
            "packets" => Measure::Packets,
            "flows" => Measure::Flows,
            other => return Err(format!("option by: {other:?} is none of `bytes`, `packets` and `flows`")),
        };
        Ok(TopTalkers { count, of, by, totals: HashMap::new() })
    }
}

impl FlowStage for TopTalkers {
    fn process(&mut self, batch: &Flows) -> Outcome {
        self.add(batch);
        let ranks: HashMap<u128, (usize, u64)> =
            (1..).zip(self.chart()).map(|(rank, (host, total))| (host, (rank, total))).collect();
        let mut notes = Notes::default();
        let mut verdicts = Vec::with_capacity(batch.length as usize);
        for flow in batch.flows() {
            let rank = self.host(&flow).and_then(|host| ranks.get(&host));
            if let Some((rank, total)) = rank {
                notes.annotate(&flow, "rank", rank);
                notes.annotate(&flow, "total", total);
            }
            verdicts.push(if rank.is_some() { verdict::KEEP } else { verdict::DROP });
        }
        notes.outcome(verdicts)
    }

    fn finish(&mut self) -> Outcome {
        let unit = match self.by {
            Measure::Bytes => "bytes",
            Measure::Packets => "packets",
            Measure::Flows => "flows",
        };
        for (rank, (host, total)) in (1..).zip(self.chart()) {
            services::info(format_args!("{rank}. {}: {total} {unit}", written(host)));
        }
        Outcome::default()
    }
}

flowgate_sdk::stage!(TopTalkers);

#[cfg(test)]
mod tests {
    use flowgate_sdk::testing::{Row, batch, setup};

    use super::*;

    fn flow(source: &str, bytes: u64) -> Row {
        Row::ipv4(protocol::UDP).original(source, "192.0.2.1", 4000, 53).set(field::COUNTERS, |row| {
            row.original_counters = (1, bytes);
            row.reply_counters = (1, 0);
        })
    }

    #[test]
    fn the_hosts_with_the_most_stay() {
        let mut plugin = TopTalkers::configure(&setup(&[("n", "2")])).unwrap();
        let rows = [flow("10.0.0.1", 10), flow("10.0.0.2", 7), flow("10.0.0.1", 5), flow("10.0.0.3", 9)];
        let outcome = plugin.process(&batch(rows));
        assert_eq!(outcome.verdicts, [1, 0, 1, 1]);
        let values = outcome.annotations.unwrap().values;
        let values: Vec<&[u8]> = (0..6).map(|index| values.get(index).unwrap()).collect();
        assert_eq!(values, [&b"1"[..], b"15", b"1", b"15", b"2", b"9"]);

        // The next batch is judged by everything seen so far.
        let outcome = plugin.process(&batch([flow("10.0.0.2", 100), flow("10.0.0.3", 1)]));
        assert_eq!(outcome.verdicts, [1, 0]);
        FlowStage::finish(&mut plugin);
        let lines: Vec<String> = services::native::take_lines().into_iter().map(|(_, line)| line).collect();
        assert_eq!(lines, ["1. 10.0.0.2: 107 bytes", "2. 10.0.0.1: 15 bytes"]);
    }

    #[test]
    fn only_what_has_ended_counts_in_events() {
        let mut plugin = TopTalkers::configure(&setup(&[("by", "flows"), ("of", "destination")])).unwrap();
        let outcome =
            plugin.process(&batch([flow("10.0.0.1", 1).event(event::NEW), flow("10.0.0.1", 1).event(event::DESTROY)]));
        assert_eq!(outcome.annotations.unwrap().values.get(1), Some(&b"1"[..]));
    }

    #[test]
    fn memory_is_bounded() {
        let mut plugin = TopTalkers::configure(&setup(&[])).unwrap();
        for part in 0..3u32 {
            let host = |number: u32| std::net::Ipv4Addr::from_bits(part << 16 | number).to_string();
            plugin.process(&batch((0..30_000).map(|number| flow(&host(number), u64::from(number)))));
        }
        assert!(plugin.totals.len() <= HOSTS);
        assert_eq!(plugin.chart().len(), 10);
        assert_eq!(plugin.chart()[0].1, 29_999);
    }

    #[test]
    fn wrong_options_are_named() {
        for (name, value) in [("n", "0"), ("n", "x"), ("of", "both"), ("by", "time")] {
            let error = TopTalkers::configure(&setup(&[(name, value)])).err().unwrap();
            assert!(error.contains(&format!("option {name}")) && error.contains(value), "{error}");
        }
    }
}
