//! Tries to reach the outside through WASI, as Rust's standard library does on wasm32-wasip2: `do=WHAT` for each flow.
//! Annotates the flow with the result.

use std::{
    net::TcpStream,
    time::{Instant, SystemTime},
};

use flowgate_sdk::prelude::*;

struct Outside {
    what: String,
}

impl Plugin for Outside {
    fn describe() -> Description {
        Description::new("outside", "1.0.0", "Tries to reach the outside").option(
            "do",
            "WHAT",
            "what to reach for",
            Some("nothing"),
        )
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        Ok(Outside { what: setup.text("do").unwrap_or("nothing").to_string() })
    }
}

impl Filter for Outside {
    fn keep(&mut self, flow: &Flow<'_>, notes: &mut Notes) -> bool {
        let found = match self.what.as_str() {
            "file" => format!("{:?}", std::fs::read_to_string("/etc/passwd").map(|text| text.len())),
            "write" => format!("{:?}", std::fs::write("/tmp/flowgate-was-here", "x")),
            "network" => format!("{:?}", TcpStream::connect("127.0.0.1:80").map(|_| ())),
            "environment" => format!("{:?}", std::env::vars().collect::<Vec<_>>()),
            "arguments" => format!("{:?}", std::env::args().collect::<Vec<_>>()),
            "clock" => format!("{:?}", SystemTime::now()),
            "timer" => format!("{:?}", Instant::now()),
            "print" => {
                println!("printed");
                eprintln!("printed");
                "printed".into()
            }
            "exit" => std::process::exit(0),
            _ => "nothing".into(),
        };
        notes.annotate(flow, "found", found);
        true
    }
}

flowgate_sdk::filter!(Outside);
