//! One tenant, and ninety-nine others, each of which is another kind of bomb.

use std::{collections::BTreeMap, fs};

use flowgate_test_support::{Namespace, PATIENCE, Program, bombs::bombs, entries};
use serde_json::Value;

use super::serving::{NEIGHBOUR, Serving, Start, Tenant, flow, load, neighbour, write};

/// Bombs of native code in the place of a worker: what it does (`hostile.rs`), what that is, and a part of what the
/// service says about its tenant afterwards. Where it says nothing, the worker is seen to have used CPU time.
const NATIVE: [(&str, &str, &str); 25] = [
    ("start-spin", "never becomes ready", "did not start within"),
    ("start-flood", "reports without pause instead of becoming ready", "did not start within"),
    ("early", "writes output before it is ready", "no worker makes at its start"),
    ("attack a socket of netlink", "opens a socket of netlink", "SIGSYS"),
    ("attack a program", "executes a shell", "SIGSYS"),
    ("exit", "ends as soon as it may begin", "exit status 0"),
    ("spin", "never receives an event", "did not process an event"),
    ("event-spin", "never processes its first event", "did not process an event"),
    ("deaf", "receives nothing, and uses no CPU time", ""),
    ("bomb", "takes all memory", "it had no more memory"),
    ("garbage random", "sends noise", "that claims to have"),
    ("garbage half", "sends half of a header", "shorter than a header"),
    ("garbage longer", "sends 150,000 bytes at once", "a record of 150000 bytes"),
    ("garbage huge", "names a length of 4 GiB", "a field of 4294967295 bytes"),
    ("garbage done", "claims to have processed more than there was", "cannot have processed"),
    ("garbage actions", "asks for 70,000 actions in one call", "more actions than a call may have"),
    ("flood output", "writes output without end", ""),
    ("flood little", "writes empty output without end", ""),
    ("flood warning", "warns without end", ""),
    ("flood log", "logs without end", ""),
    ("flood state", "sets state without end", ""),
    ("flood barrier", "asks for barriers without end", ""),
    ("flood list", "asks for listings without end", ""),
    ("forge", "forges requests of netlink", "\"stage\":\"refused\""),
    ("delete ZONE", "asks for deletions without end", "\"stage\":\"refused\""),
];

/// Zone of the first bomb.
const FIRST: u16 = 100;
/// Flows of the neighbour in each part of the test.
const FLOWS: u16 = 1000;
/// Maximum of the memory of the keeper, in KiB. It copies files of plugins in small parts, and holds none of them while
/// they wait to be compiled.
const MEMORY: u64 = 64 << 10;

/// What is needed to write a tenant that is a bomb.
struct Keys {
    name: String,
    what: &'static str,
    act: String,
    file: String,
    options: String,
    grants: String,
    plugin: String,
    sign: &'static str,
}

impl Keys {
    fn tenant(&self, zone: u16) -> Tenant<'_> {
        Tenant {
            name: &self.name,
            zone,
            share: "time-per-second = \"100ms\", output-per-second = \"10KiB\"",
            grants: &self.grants,
            act: &self.act,
            options: &self.options,
            plugin: &self.plugin,
            file: &self.file,
        }
    }
}

/// Returns all bombs: plugins, and native code that has taken over a worker.
fn all(namespace: &Namespace) -> Vec<Keys> {
    let mut all: Vec<Keys> = bombs(namespace.directory())
        .into_iter()
        .map(|bomb| Keys {
            file: format!("file = \"{}\"\nsha256 = \"{}\"", bomb.file.display(), bomb.digest()),
            grants: bomb.grants.into(),
            plugin: format!("limits = {{ {} }}", bomb.limits),
            act: String::new(),
            options: bomb.options,
            name: bomb.name,
            what: bomb.what,
            sign: bomb.sign,
        })
        .collect();
    all.extend((0..).zip(NATIVE).map(|(number, (act, what, sign))| Keys {
        name: format!("native-{}", act.replace(' ', "-").to_lowercase()),
        what,
        // It shares no zone with others.
        act: act.replace("ZONE", &(FIRST + 74 + number).to_string()),
        file: String::new(),
        options: String::new(),
        grants: "\"log\", \"state\", \"delete\"".into(),
        plugin: "limits = { start-up = \"500ms\", call = \"500ms\", restarts = 2, window = \"1h\" }".into(),
        sign,
    }));
    all
}

/// Starts the service. On a busy machine not all plugins are compiled in the time that a start has; what is compiled
/// then is there at the next start.
fn started(namespace: &Namespace, tenants: &[Tenant<'_>]) -> Serving {
    // A directory that is closed to other users on its whole path, unlike that of the test.
    Program::new("mount").must(&["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"]);
    for _ in 0..20 {
        let start = Start { keys: "cache = \"/run/code\"\n", ..Start::default() };
        let serving = Serving::launch(namespace, tenants, start);
        serving.runs_within(5 * PATIENCE);
        if !serving.errors().contains("it did not start in time") {
            return serving;
        }
        let audit = serving.directory.join("audit.jsonl");
        serving.end();
        fs::remove_file(audit).unwrap();
    }
    panic!("the plugins are not compiled, however often it is tried");
}

/// Shows the neighbour this part of its flows, and the bombs an event each.
fn events(namespace: &Namespace, part: u16, bombs: u16) {
    for step in 0..10 {
        let first = 1 + part * FLOWS + step * (FLOWS / 10);
        load(namespace, NEIGHBOUR, first..first + FLOWS / 10);
        if step == 3 {
            let lines: Vec<String> =
                (FIRST..FIRST + bombs).map(|zone| format!("-I {}", flow(zone, 80 + part))).collect();
            entries::load(namespace, &lines);
        }
    }
}

/// Returns all that the service has said about each tenant: its status, the audit, and standard error.
fn reported(serving: &Serving) -> BTreeMap<String, String> {
    let status: Value = serde_json::from_str(&serving.ask(&["status", "-o", "json"]).text()).unwrap();
    let mut reported = BTreeMap::new();
    for tenant in status["tenants"].as_array().unwrap() {
        reported.insert(tenant["tenant"].as_str().unwrap().to_owned(), tenant.to_string() + "\n");
    }
    let mut tell = |name: &str, line: &str| {
        if let Some(text) = reported.get_mut(name) {
            text.push_str(line);
            text.push('\n');
        }
    };
    serving.audit().iter().for_each(|line| tell(line["tenant"].as_str().unwrap_or_default(), &line.to_string()));
    for line in serving.errors().lines() {
        // `tenant NAME (generation 1): ...`, or `[warn NAME:plugin] ...` of a log.
        for name in line.split(|c: char| !c.is_alphanumeric() && c != '-').filter(|word| word.contains('-')) {
            tell(name, line);
        }
    }
    reported
}

/// Returns the CPU time of the worker of a tenant in nanoseconds.
fn worker_time(reported: &str) -> u64 {
    let status: Value = reported.lines().next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    status["worker"]["nanoseconds"].as_u64().unwrap_or_default()
}

/// Returns what has become of a tenant, in a line.
fn summary(reported: &str) -> String {
    let status: Value = reported.lines().next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    let (plugin, worker) = (&status["plugins"][0], &status["worker"]);
    format!(
        "{}, {}; plugin {}, {} failures, {}; worker {}, {} ms, {} restarts, {}",
        status["state"],
        status["reason"],
        plugin["health"],
        plugin["failures"],
        plugin["last_error"],
        worker["state"],
        worker_time(reported) / 1_000_000,
        worker["restarts"],
        worker["last-end"]["reason"]
    )
}

/// Checks that the neighbour has seen its flows, each once and in order.
fn neighbour_saw(serving: &Serving, last: u16) {
    serving.neighbour_sees(1..=last);
    let output = serving.output("neighbour");
    let new = output.lines().filter(|line| line.contains("[NEW]"));
    let ports: Vec<u16> = new.map(|line| *super::serving::ports(line).first().unwrap()).collect();
    assert!(ports.iter().copied().eq(1..=last), "not each of {last} once and in order: {ports:?}");
}

/// Returns the number of the neighbour's calls that it took to see this many flows, and the 50th and the 99th
/// percentile of their times in microseconds. Workers report statistics at intervals.
fn times(serving: &Serving, flows: u16) -> (u64, f64, f64) {
    let mut plugin = Value::Null;
    serving.until("the neighbour's statistics are complete", || {
        plugin = serving.status("neighbour")["plugins"][0].clone();
        plugin["rows_in"] == flows
    });
    let number = |name: &str| plugin[name].as_u64().unwrap();
    let calls = number("calls");
    assert!(calls > 0 && number("p50") > 0 && number("p50") <= number("p99"), "{plugin}");
    (calls, number("p50") as f64 / 1000.0, number("p99") as f64 / 1000.0)
}

// #[test], run by `main`: tests/it/architecture/promises.rs looks for this attribute.
pub(crate) fn ninety_nine_bombs_beside_one_tenant() {
    let alone = Namespace::run(|namespace| {
        let serving = Serving::start(namespace, &[neighbour()]);
        for part in 0..3 {
            events(namespace, part, 0);
        }
        neighbour_saw(&serving, 3 * FLOWS);
        let times = times(&serving, 3 * FLOWS);
        serving.end();
        times
    });
    Namespace::run(|namespace| {
        let bombs = all(namespace);
        assert_eq!(bombs.len(), 99, "{:#?}", bombs.iter().map(|bomb| &bomb.name).collect::<Vec<_>>());
        let count = u16::try_from(bombs.len()).unwrap();
        let tenants: Vec<Tenant<'_>> =
            bombs.iter().zip(FIRST..).map(|(bomb, zone)| bomb.tenant(zone)).chain([neighbour()]).collect();
        let serving = started(namespace, &tenants);
        for part in 0..2 {
            events(namespace, part, count);
        }
        let left = |when: &dyn Fn(&Keys) -> bool| {
            let reported = reported(&serving);
            let silent = |bomb: &&Keys| match bomb.sign {
                "" => worker_time(&reported[&bomb.name]) < 1_000_000,
                sign => !reported[&bomb.name].contains(sign),
            };
            bombs
                .iter()
                .filter(|bomb| when(bomb))
                .filter(silent)
                .map(|bomb| (bomb.name.clone(), bomb.what, bomb.sign, reported[&bomb.name].clone()))
                .collect::<Vec<_>>()
        };
        let at_end = |bomb: &Keys| bomb.name.starts_with("finish-");
        let mut waiting = Vec::new();
        flowgate_test_support::until_or_explain(
            "each of them has gone off",
            || {
                waiting = left(&|bomb| !at_end(bomb));
                waiting.is_empty()
            },
            || left(&|bomb| !at_end(bomb)).iter().map(|what| format!("{what:#?}\n")).collect(),
        );
        events(namespace, 2, count);
        neighbour_saw(&serving, 3 * FLOWS);
        // What follows from them is measured by `make bench CASE=bombs`: a machine that runs tests has other work too.
        for (when, (calls, half, most)) in [("alone", alone), ("beside the bombs", times(&serving, 3 * FLOWS))] {
            println!("the neighbour {when}: {calls} calls, p50 {half:.1} us, p99 {most:.1} us");
        }
        let reported = reported(&serving);
        for bomb in &bombs {
            println!("{} {}: {}", bomb.name, bomb.what, summary(&reported[&bomb.name]));
        }
        // The last ones go off when they end.
        write(namespace, &[neighbour()]);
        let outcome = serving.ask(&["reload"]);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        load(namespace, NEIGHBOUR, 1 + 3 * FLOWS..=4 * FLOWS);
        // The new generation is shown the table as well.
        serving.neighbour_sees(1..=4 * FLOWS);
        serving.until("one worker is left", || serving.workers().len() == 1);
        let peak = serving.background.peak().unwrap();
        println!("the keeper's memory: {peak} KiB");
        assert!(peak < MEMORY, "the keeper has had {peak} KiB");
        serving.end();
    });
}
