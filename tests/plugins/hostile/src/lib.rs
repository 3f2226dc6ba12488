//! Misbehaves on request: `do=WHAT`, in the first batch, with `at=N` in the batch that contains the Nth flow, or with
//! `when=CALL` in another call: `configure`, `begin` and `finish` (of a format), `tick`, `look-back-begin`, `look-back`
//! and `look-back-end`. Multiplied values belong to `column=NAME` and have `bytes=N`. With `do=nothing` it passes
//! everything on, for measuring the cost of a crossing. It is both a stage and a format.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "misbehaving is what it is for")]

mod exports;
mod multiply;

use flowgate_sdk::{
    ExpectationOutcome, ExpectationStage, Expectations, Outcome, action,
    bindings::flowgate::conntrack::{
        action::{Actions, Changes},
        columns::{Annotations, Texts},
    },
    prelude::*,
};

use multiply::Multiplied;

struct Hostile {
    what: String,
    multiplied: Multiplied,
    at: u64,
    seen: u64,
    when: String,
}

impl Plugin for Hostile {
    fn describe() -> Description {
        Description::new("hostile", "1.0.0", "Misbehaves on request")
            .option("do", "WHAT", "what to do", Some("nothing"))
            .option("at", "N", "at which flow", Some("1"))
            .option(
                "when",
                "CALL",
                "in which call: `configure`, `batch`, `finish`, `tick`, `look-back` and so on",
                Some("batch"),
            )
            .option("column", "NAME", "what to multiply", Some("helper"))
            .option("bytes", "N", "bytes of what is multiplied", Some("0"))
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let what = setup.text("do").unwrap_or("nothing").to_string();
        if what == "refuse" {
            return Err("this plugin \x1b[31mrefuses\x1b[0m to start".into());
        }
        if setup.text("when") == Some("configure") {
            misbehave(&what, 0);
        }
        let when = setup.text("when").unwrap_or("batch").to_string();
        let column = setup.text("column").unwrap_or("helper").to_string();
        let multiplied = Multiplied { column, bytes: setup.option("bytes")?.unwrap_or(0) };
        Ok(Hostile { what, multiplied, at: setup.option("at")?.unwrap_or(1), seen: 0, when })
    }
}

impl FlowStage for Hostile {
    fn process(&mut self, batch: &Flows) -> Outcome {
        self.seen += u64::from(batch.length);
        if self.seen < self.at { Outcome::default() } else { self.on("batch", batch.length) }
    }

    fn finish(&mut self) -> Outcome {
        if self.what == "late-changes" {
            return Outcome {
                changes: Some(Changes { rows: vec![0], values: vec![0], clear: vec![0] }),
                ..Outcome::default()
            };
        }
        self.on("finish", 1)
    }
}

impl Hostile {
    /// Returns the outcome of a call with a batch of `rows` rows.
    fn on(&mut self, call: &str, rows: u32) -> Outcome {
        if self.when != call {
            return Outcome::default();
        }
        self.multiplied.outcome(&self.what, rows).unwrap_or_else(|| misbehave(&self.what, rows))
    }

    /// Returns the text that it writes as a format for `rows` rows.
    fn text(&mut self, call: &str, rows: u32) -> Vec<u8> {
        if self.when != call {
            return Vec::new();
        }
        let bytes = self.multiplied.bytes as usize;
        match self.what.as_str() {
            "long-text" => vec![b'x'; bytes],
            // Titles, colours, clearing the screen, and bytes that are not text.
            "strange-text" => b"\x1b]0;owned\x07\x1b[2J\xff\x9b31m\0\n".repeat(rows as usize),
            what => {
                misbehave(what, rows);
                b"row\n".repeat(rows as usize)
            }
        }
    }
}

impl ExpectationStage for Hostile {
    fn process(&mut self, batch: &Expectations) -> ExpectationOutcome {
        self.multiplied.expectations(&self.what, batch.length).unwrap_or_default()
    }

    fn finish(&mut self) -> ExpectationOutcome {
        ExpectationOutcome::default()
    }
}

/// Misbehaves in one way; if that does not end the plugin, the outcome contains it.
fn misbehave(what: &str, rows: u32) -> Outcome {
    let good = Outcome::default;
    match what {
        "trap" => panic!("trapped on purpose"),
        "loop" => loop {
            std::hint::black_box(());
        },
        "recurse" => {
            recurse(1);
            good()
        }
        "memory" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1u8; 1 << 20]);
                std::hint::black_box(&hoard);
            }
        }
        "output" => Outcome { verdicts: vec![1; 40 << 20], ..good() },
        // One megabyte that is referenced so often that the host would need many gigabytes to copy it.
        "amplify" => Outcome {
            annotations: Some(Annotations { rows: vec![0; 1 << 22], keys: texts(1 << 20), values: texts(1 << 20) }),
            ..good()
        },
        "short-verdicts" => Outcome { verdicts: vec![1; rows as usize - 1], ..good() },
        "long-verdicts" => Outcome { verdicts: vec![1; rows as usize + 1], ..good() },
        "strange-verdict" => Outcome { verdicts: vec![7; rows as usize], ..good() },
        "strange-row" => Outcome {
            annotations: Some(Annotations { rows: vec![rows], keys: text("key"), values: text("value") }),
            ..good()
        },
        "strange-texts" => Outcome {
            annotations: Some(Annotations {
                rows: vec![0],
                keys: Texts { ends: vec![1 << 30], bytes: b"key".to_vec() },
                values: text("value"),
            }),
            ..good()
        },
        "strange-change" => {
            Outcome { changes: Some(Changes { rows: vec![0], values: vec![5], clear: vec![0] }), ..good() }
        }
        "strange-table" => {
            Outcome { values: Some(Flows { length: 1 << 31, has: vec![1], ..Flows::default() }), ..good() }
        }
        "strange-action" => Outcome {
            actions: Some(Actions { kinds: vec![action::DELETE], rows: vec![rows + 7], values: vec![action::NO_ROW] }),
            ..good()
        },
        "ungranted" => Outcome {
            actions: Some(Actions {
                kinds: vec![action::DELETE; rows as usize],
                rows: (0..rows).collect(),
                values: vec![action::NO_ROW; rows as usize],
            }),
            ..good()
        },
        "log-flood" => {
            for line in 0..100_000 {
                services::info(format!("line {line} \x1b[31m"));
            }
            good()
        }
        // Long lines, which the host has to receive before it truncates them.
        "log-bytes" => {
            let line = "\x1b".repeat(1 << 20);
            for _ in 0..100 {
                services::info(&line);
            }
            good()
        }
        "action-flood" => Outcome {
            actions: Some(Actions {
                kinds: vec![action::DELETE; 100_000],
                rows: vec![if rows == 0 { action::NO_ROW } else { 0 }; 100_000],
                values: vec![action::NO_ROW; 100_000],
            }),
            ..good()
        },
        "escape" => Outcome {
            annotations: Some(Annotations {
                rows: vec![0],
                keys: text("key\x1b[2J"),
                values: Texts { ends: vec![9], bytes: b"\xff\x1b]0;x\x07\n\x9b\x00"[..9].to_vec() },
            }),
            ..good()
        },
        _ => good(),
    }
}

fn text(text: &str) -> Texts {
    Texts { ends: vec![text.len() as u32], bytes: text.as_bytes().to_vec() }
}

fn texts(length: u32) -> Texts {
    Texts { ends: vec![length], bytes: vec![b'x'; length as usize] }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    std::hint::black_box(recurse(depth + 1) + depth)
}
