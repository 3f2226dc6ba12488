//! Measures what a tenant costs whose scope does not match: nanoseconds per flow and tenant, on decoded rows.
//!
//! `cargo bench -p flowgate --bench scope`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

use std::{hint::black_box, time::Instant};

use flowgate::{
    cli::LabelMap,
    config::Text,
    fixture,
    policy::{Policy, Sight},
};

/// Short measurements, of which the best counts: other work on the machine only adds.
const TRIES: usize = 200;
const ROUNDS: usize = 200;

fn scope(rules: &str) -> flowgate::policy::Scope {
    let plugin = format!("[[tenant.plugin]]\nfile = \"a\"\nsha256 = \"{}\"\n", "0".repeat(64));
    let text = format!("[[tenant]]\nname = \"a\"\n{rules}\n{plugin}");
    let (policy, mistakes, _) = Policy::parse(Text { path: "bench".into(), text }, LabelMap::default());
    assert!(mistakes.is_empty(), "{mistakes:?}");
    policy.tenants[0].scope.clone()
}

fn main() {
    let lines: Vec<String> = (0..256)
        .map(|number| {
            let (one, two) = (format!("10.{number}.0.1"), "192.0.2.1");
            format!("udp 17 9 src={one} dst={two} sport=4 dport=53 src={two} dst={one} sport=53 dport=4 zone=7")
        })
        .collect();
    let flows = fixture::flows("bench", lines.join("\n").as_bytes(), &[]).unwrap();
    let networks: Vec<String> = (0..64).map(|number| format!("\"172.16.{number}.0/24\"")).collect();
    for (name, rules) in [
        ("zone", "[[tenant.scope]]\nzones = 8".to_string()),
        ("network", "[[tenant.scope]]\nsource = \"172.16.0.0/12\"".to_string()),
        ("64 networks and ports", format!("[[tenant.scope]]\nports = 53\nsource = [{}]", networks.join(", "))),
        ("mark", "[[tenant.scope]]\nmarks = \"0x10/0xf0\"".to_string()),
        ("8 rules", "[[tenant.scope]]\nzones = 7\ndestination = \"2001:db8::/32\"\n".repeat(8)),
    ] {
        let scope = scope(&rules);
        let mut best = f64::MAX;
        for _ in 0..TRIES {
            let before = Instant::now();
            for _ in 0..ROUNDS {
                for row in 0..flows.length as usize {
                    black_box(scope.contains(&Sight::of(black_box(&flows), row)));
                }
            }
            let each = before.elapsed().as_nanos() as f64 / (ROUNDS * flows.length as usize) as f64;
            best = best.min(each);
        }
        println!("a scope that does not match, {name}: {best:.1} ns a flow");
    }
}
