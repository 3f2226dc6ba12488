//! Misbehaves with its state in each call, as `do=WHAT` says, and in its description, which knows no options: as the
//! text behind `describe:` in its file says, which a test replaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "misbehaving is what it is for")]

use flowgate_sdk::{Outcome, prelude::*};

/// What the description does, padded with blanks.
static DESCRIBE: [u8; 24] = *b"describe:nothing        ";

struct Hoarder {
    what: String,
    calls: u64,
}

impl Plugin for Hoarder {
    fn describe() -> Description {
        let description = Description::new("hoarder", "1.0.0", "Hoards state").option(
            "do",
            "WHAT",
            "what to do with the state",
            Some("nothing"),
        );
        // Without it the compiler would compare the text that is not in the file any more.
        let what = std::hint::black_box(&DESCRIBE);
        match std::str::from_utf8(what).unwrap_or_default().trim_start_matches("describe:").trim_end() {
            "trap" => panic!("trapped in its description"),
            "loop" => loop {
                std::hint::black_box(());
            },
            "recurse" => {
                recurse(1);
                description
            }
            "memory" => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(vec![1u8; 1 << 20]);
                    std::hint::black_box(&hoard);
                }
            }
            "options" => {
                let name = |number: u32| format!("option-{number}");
                (0..100_000).fold(description, |all, number| all.option(&name(number), "N", "one of many", None))
            }
            _ => description,
        }
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        Ok(Hoarder { what: setup.text("do").unwrap_or("nothing").to_string(), calls: 0 })
    }
}

impl FlowStage for Hoarder {
    fn process(&mut self, _batch: &Flows) -> Outcome {
        self.calls += 1;
        // An error is the limit of the state, which is what is tried.
        match self.what.as_str() {
            "keys" => {
                for number in 0..100_000u64 {
                    let _ = services::set(&(self.calls << 32 | number).to_le_bytes(), b"");
                }
            }
            "values" => {
                let value = vec![b'x'; 10 << 20];
                for length in [1 << 16, (1 << 16) + 1, 1 << 20, 10 << 20] {
                    for number in 0..100u8 {
                        let _ = services::set(&[number], &value[..length]);
                    }
                }
            }
            "churn" => {
                for number in 0..100_000u64 {
                    let _ = services::set(b"key", &number.to_le_bytes());
                    services::remove(b"key");
                }
            }
            _ => {}
        }
        Outcome::default()
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    std::hint::black_box(recurse(depth + 1) + depth)
}

flowgate_sdk::stage!(Hoarder);
