//! One tenant beside others whose plugins do all the harm that they can: what its calls take, compared with being
//! alone.

use crate::tenants::{middle, pass, plugin, serve, status};
use flowgate_test_support::{Namespace, Program, bombs, entries, until};
use serde_json::Value;
use std::time::Duration;

/// Bursts of events for the tenant, and events in each of them: enough that a hundredth of the calls are several.
const BURSTS: u16 = 500;
const BURST: u16 = 20;
/// Goal: the 99th percentile beside the bombs as a multiple of that alone.
const GOAL: f64 = 2.0;

/// What was seen of the tenant: the 50th and the 99th percentile of the time of its calls in microseconds, the number
/// of calls, and of lost events; and the peak of the service's memory in MiB.
type Figures = [f64; 5];

/// Creates flows with these ports in these zones.
fn load(namespace: &Namespace, zones: impl Iterator<Item = u16> + Clone, ports: std::ops::Range<u16>) {
    let line = |zone: u16, port: u16| {
        format!("-I -t 3000 -w {zone} -p udp -s 10.1.0.1 -d 192.0.2.1 --sport {port} --dport 53")
    };
    let lines: Vec<String> = ports.flat_map(|port| zones.clone().map(move |zone| line(zone, port))).collect();
    entries::load(namespace, &lines);
}

/// Runs the service, with the bombs or without.
fn measure(ours: &str, with: bool) -> (Figures, usize) {
    Namespace::run(|namespace| {
        let directory = namespace.directory();
        let mut tenants = vec![("1".to_owned(), plugin(&pass(), ""))];
        let bombs = if with { bombs::bombs(directory) } else { Vec::new() };
        tenants.extend((2..).zip(&bombs).map(|(zone, bomb): (u16, _)| {
            let keys = format!(
                "[[tenant.plugin]]\nfile = \"{}\"\nsha256 = \"{}\"\noptions = {{ {} }}\ngrants = [{}]\nlimits = {{ {} }}\n",
                bomb.file.display(),
                bomb.digest(),
                bomb.options,
                bomb.grants,
                bomb.limits
            );
            (zone.to_string(), keys)
        }));
        let last = 1 + u16::try_from(bombs.len()).expect("few bombs");
        let service = serve(ours, directory, &tenants);
        for burst in 0..BURSTS {
            load(namespace, 1..=1, 1 + burst * BURST..1 + (burst + 1) * BURST);
            if burst % 10 == 0 {
                load(namespace, 2..=last, 1 + burst..2 + burst);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut reported = Value::Null;
        // A worker reports its statistics at intervals.
        until("its plugin has been given all that is its own", || {
            reported = status(ours, directory).into_iter().next().unwrap_or_default();
            reported["plugins"][0]["rows_in"] == u64::from(BURSTS) * u64::from(BURST)
        });
        let number = |value: &Value| value.as_u64().unwrap_or_default() as f64;
        let calls = &reported["plugins"][0];
        let peak = service.program.peak().unwrap_or_default() as f64 / 1024.0;
        let figures = [
            number(&calls["p50"]) / 1e3,
            number(&calls["p99"]) / 1e3,
            number(&calls["calls"]),
            number(&reported["lost"]),
            peak,
        ];
        service.end();
        (figures, bombs.len())
    })
}

/// Measures, and prints the results.
pub(crate) fn run(ours: &str, rounds: u32) {
    let version = Program::new(ours).must(&["-V"]);
    let mut figures = [Vec::new(), Vec::new()];
    let mut count = 0;
    for _ in 0..rounds {
        for (at, with) in [false, true].into_iter().enumerate() {
            let (run, bombs) = measure(ours, with);
            figures[at].push(run);
            count = count.max(bombs);
        }
    }
    println!("\nThe calls of a tenant's plugin, {} events, {}\n", BURSTS * BURST, version.trim());
    println!("{:28} {:>10} {:>10} {:>8} {:>8} {:>12}", "", "p50, us", "p99, us", "calls", "lost", "memory, MiB");
    let medians = [0, 1].map(|at: usize| {
        [0, 1, 2, 3, 4].map(|of: usize| {
            let mut values: Vec<f64> = figures[at].iter().map(|run| run[of]).collect();
            values.sort_by(f64::total_cmp);
            middle(&values)
        })
    });
    for (name, [half, most, calls, lost, memory]) in
        ["alone".to_owned(), format!("beside {count} bombs")].into_iter().zip(medians)
    {
        println!("{name:28} {half:10.1} {most:10.1} {calls:8.0} {lost:8.0} {memory:12.1}");
    }
    let [alone, beside] = medians;
    let (half, most) = (beside[0] / alone[0], beside[1] / alone[1]);
    println!("{:28} {half:10.2} {most:10.2}   goal {GOAL}: {}", "ratio", if most <= GOAL { "held" } else { "missed" });
}
