//! Measures what a tenant costs whose scope does not match: nanoseconds per flow and tenant, on decoded rows. First
//! with what the scope sees of a row taken again each time, as a listing has it; then without, as events have it, where
//! that is done once for all tenants.
//!
//! `cargo bench -p flowgate-policy --bench scope`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

use std::{hint::black_box, time::Instant};

use flowgate_config::SourceText;
use flowgate_policy::{Policy, ScopeView};
use flowgate_syntax::LabelMap;

/// Short measurements, of which the best counts: other work on the machine only adds.
const TRIES: usize = 200;
const ROUNDS: usize = 200;

fn scope(rules: &str) -> flowgate_policy::Scope {
    let plugin = format!("[[tenant.plugin]]\nfile = \"a\"\nsha256 = \"{}\"\n", "0".repeat(64));
    let text = format!("[[tenant]]\nname = \"a\"\n{rules}\n{plugin}");
    let (policy, diagnostics, _) = Policy::parse(SourceText { path: "bench".into(), text }, LabelMap::default());
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    policy.tenants[0].scope.clone()
}

/// The best of many short measurements, in nanoseconds for each of so many flows.
fn best(flows: usize, mut look: impl FnMut(usize)) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..TRIES {
        let before = Instant::now();
        for _ in 0..ROUNDS {
            (0..flows).for_each(&mut look);
        }
        best = best.min(before.elapsed().as_nanos() as f64 / (ROUNDS * flows) as f64);
    }
    best
}

fn main() {
    let lines: Vec<String> = (0..256)
        .map(|number| {
            let (one, two) = (format!("10.{number}.0.1"), "192.0.2.1");
            format!("udp 17 9 src={one} dst={two} sport=4 dport=53 src={two} dst={one} sport=53 dport=4 zone=7")
        })
        .collect();
    let flows = flowgate_fixture::flows("bench", lines.join("\n").as_bytes(), &[]).unwrap();
    let rows = flows.length as usize;
    let views: Vec<ScopeView> = (0..rows).map(|row| ScopeView::of(&flows, row)).collect();
    let networks: Vec<String> = (0..64).map(|number| format!("\"172.16.{number}.0/24\"")).collect();
    let neighbours: String = (0..8)
        .map(|number| format!("[[tenant.scope]]\nzones = 7\nports = 53\nsource = \"172.16.{number}.0/24\"\n"))
        .collect();
    for (name, rules) in [
        ("zone", "[[tenant.scope]]\nzones = 8".to_string()),
        ("network", "[[tenant.scope]]\nsource = \"172.16.0.0/12\"".to_string()),
        ("64 networks and ports", format!("[[tenant.scope]]\nports = 53\nsource = [{}]", networks.join(", "))),
        ("mark", "[[tenant.scope]]\nmarks = \"0x10/0xf0\"".to_string()),
        ("8 rules", "[[tenant.scope]]\nzones = 7\ndestination = \"2001:db8::/32\"\n".repeat(8)),
        ("8 rules about networks in its zone", neighbours),
        // Both networks are about, so that their bounds rule out nothing.
        (
            "8 rules with networks on both sides",
            "[[tenant.scope]]\nsource = [\"9.0.0.0/8\", \"11.0.0.0/8\"]\n".repeat(8),
        ),
    ] {
        let scope = scope(&rules);
        let both = best(rows, |row| {
            black_box(scope.contains(&ScopeView::of(black_box(&flows), row)));
        });
        let alone = best(rows, |row| {
            black_box(scope.contains(black_box(&views[row])));
        });
        println!("a scope that does not match, {name}: {both:.1} ns a flow, {alone:.1} ns without taking its view");
    }
}
