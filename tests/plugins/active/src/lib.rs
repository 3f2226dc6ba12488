//! Uses everything that a plugin may use, on request: `do=WHAT` for each flow, `tick=WHAT` for each tick. The results
//! of its actions, and the entries it was offered, go into the log.

#![allow(clippy::panic, reason = "what the host makes of it is tested")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use flowgate_sdk::{
    ExpectationNotes, ExpectationOutcome, ExpectationStage, Expectations, NewExpectation, prelude::*, protocol,
};

struct Active {
    what: String,
    at_tick: String,
    interval: u32,
    seen: u64,
    offered: u64,
}

impl Plugin for Active {
    fn describe() -> Description {
        Description::new("active", "1.0.0", "Uses everything that a plugin may use")
            .option("do", "WHAT", "what to do with each flow", Some("nothing"))
            .option("tick", "WHAT", "what to do at each tick", Some("nothing"))
            .option("interval", "MS", "milliseconds between ticks", Some("100"))
            .wants("delete")
            .wants("create")
            .wants("update")
            .wants("state")
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let text = |name: &str| setup.text(name).unwrap_or_default().to_string();
        Ok(Active {
            what: text("do"),
            at_tick: text("tick"),
            interval: setup.option("interval")?.unwrap_or(100),
            seen: services::get(b"seen").map_or(0, number),
            offered: 0,
        })
    }
}

/// Stores this number of values of this size, as far as there is room.
fn fill(count: u32, bytes: usize) {
    for number in 0..count {
        // Fails once the capacity is reached, which is what this tests.
        let _ = services::set(&number.to_be_bytes(), &vec![1; bytes]);
    }
}

fn number(bytes: Vec<u8>) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}

impl Filter for Active {
    fn keep(&mut self, flow: &Flow<'_>, notes: &mut Notes) -> bool {
        self.seen += 1;
        for what in self.what.split('+') {
            match what {
                "drop" => return false,
                "annotate" => notes.annotate(flow, "seen", self.seen),
                "transform" => notes.change(flow, &Change::new().mark(77).clear(field::TIMEOUT)),
                "rename" => notes.change(flow, &Change::new().original(key(9))),
                "delete" => notes.delete(flow),
                "mark" => notes.update(flow, &Update::new().mark_bits(0x100, 0xff00)),
                "timeout" => notes.update(flow, &Update::new().timeout(77)),
                "status" => notes.update(flow, &Update::new().status(status::ASSURED | status::SEEN_REPLY)),
                "label" => notes.update(flow, &Update::new().add_label(3)),
                "helper" => notes.update(flow, &Update::new().helper("ftp")),
                "create" => notes.create(&NewFlow::new(key(1), 100)),
                "create-or-update" => notes.create_or_update(&NewFlow::new(key(1), 200)),
                "delete-other" => notes.delete_at(&key(1)),
                "mark-other" => notes.update_at(&key(1), &Update::new().mark(5)),
                "count" if services::set(b"seen", &self.seen.to_be_bytes()).is_err() => services::error("no room"),
                "state-flood" => fill(100_000, 100),
                "state-values" => fill(100_000, 65_536),
                "state-keys" => {
                    fill(10_000, 0);
                    loop {
                        std::hint::black_box(services::keys(b""));
                    }
                }
                "state-reads" => {
                    fill(1, 65_536);
                    loop {
                        std::hint::black_box(services::get(&0u32.to_be_bytes()));
                    }
                }
                // The third flow in total, including flows seen by an earlier instance.
                "trap" if self.seen == 3 => panic!("trapped on purpose"),
                "time" => services::info(format!("time {}", services::now())),
                "log" => services::warn(format!("flow {}", flow.protocol())),
                _ => {}
            }
        }
        true
    }

    fn finish(&mut self, notes: &mut Notes) {
        services::info(format!("finish {}", self.seen));
        if self.what.contains("at-end") {
            notes.delete_at(&key(1));
        }
    }
}

/// Returns the key of a UDP flow by number.
fn key(port: u16) -> Key {
    let address = |last: u8| IpAddr::V4(Ipv4Addr::new(10, 77, 0, last));
    Key::new(protocol::UDP, SocketAddr::new(address(1), port), SocketAddr::new(address(2), 53))
}

impl FlowTick for Active {
    fn interval(&self) -> Duration {
        Duration::from_millis(self.interval.into())
    }

    fn tick(&mut self, time: u64, notes: &mut Notes) {
        services::info(format!("tick {}", time > 1_000_000_000_000_000_000));
        match self.at_tick.as_str() {
            "create" => notes.create(&NewFlow::new(key(1), 100)),
            "delete" => notes.delete_at(&key(1)),
            _ => {}
        }
    }
}

impl ActionResults for Active {
    fn learn(&mut self, results: &Results) {
        let words: Vec<String> = results
            .kinds
            .iter()
            .zip(&results.results)
            .zip(&results.errors)
            .map(|((kind, result), errno)| format!("{kind}:{result}:{errno}"))
            .collect();
        services::info(format!("results {}", words.join(" ")));
    }
}

impl FlowLookBack for Active {
    fn begin(&mut self, reason: u8) {
        self.offered = 0;
        services::info(format!("look-back {reason}"));
    }

    fn entry(&mut self, flow: &Flow<'_>, notes: &mut Notes) {
        self.offered += 1;
        if self.what.contains("mark-table") {
            notes.update(flow, &Update::new().mark(9));
        }
    }

    fn end(&mut self, _notes: &mut Notes) {
        services::info(format!("offered {}", self.offered));
    }
}

impl ExpectationStage for Active {
    fn process(&mut self, batch: &Expectations) -> ExpectationOutcome {
        let mut notes = ExpectationNotes::default();
        let mut verdicts = Vec::new();
        for expectation in batch.expectations() {
            self.seen += 1;
            let mut keep = 1;
            for what in self.what.split('+') {
                match what {
                    "drop" => keep = 0,
                    "annotate" => notes.annotate(&expectation, "seen", self.seen),
                    "delete" => notes.delete(&expectation),
                    "create" => {
                        // An additional expectation of the same master, for another port.
                        let number = expectation.protocol();
                        let key = |direction: flowgate_sdk::Direction<'_>, port: Option<u16>| Key {
                            protocol: number,
                            source: direction.source(),
                            destination: direction.destination(),
                            source_l4: direction.source_l4(),
                            destination_l4: port.unwrap_or(direction.destination_l4()),
                            zone: 0,
                        };
                        let (master, expected) =
                            (key(expectation.master(), None), key(expectation.expected(), Some(5555)));
                        notes.create(&NewExpectation::new(master, expected, 120));
                    }
                    _ => {}
                }
            }
            verdicts.push(keep);
        }
        notes.outcome(verdicts)
    }
}

flowgate_sdk::full_stage!(Active, tick, results, look_back);
