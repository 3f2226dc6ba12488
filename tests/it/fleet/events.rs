//! Events into a stream: each once, in their order, whoever is killed or frozen.

use std::{collections::BTreeSet, fs};

use flowgate_test_support::{
    Background, Namespace, entries, flowgate, plugins,
    wait::{until, until_or_explain},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    Fleet, objects,
    stream::{ADDRESS, SERVERS, Server},
};

/// A pipeline of new flows into the stream EV.
const PIPELINE: &str = "[source]\nkind = 'events'\nevents = ['new']\nbuffer = '32MiB'\n[format]\nkind = 'json'\n";

/// Returns a sink with these keys besides.
fn sink(namespace: &Namespace, keys: &str) -> String {
    let spool = namespace.directory().join("spool").display().to_string();
    format!(
        "[[sink]]\nkind = 'nats'\nserver = '{ADDRESS}'\ntls = false\nsubject = 'flows.test'\nstream = 'EV'\n\
         create-stream = true\nid = 'test'\nspool = '{spool}'\nbatch = '4KiB'\nbatch-time = '20ms'\n{keys}"
    )
}

/// Starts a pipeline, and waits until it listens.
fn start(namespace: &Namespace, keys: &str) -> Background {
    let path = namespace.directory().join("pipeline.toml");
    fs::write(&path, format!("{PIPELINE}{}", sink(namespace, keys))).unwrap();
    let running = Background::start(&flowgate(), &["run", &path.display().to_string()]);
    running.wait_until_listening();
    running
}

/// Returns lines of flows with these numbers.
fn flows(numbers: std::ops::Range<u32>) -> Vec<String> {
    let line = |number: u32| {
        let (high, middle, low) = (number >> 16, number >> 8 & 255, number & 255);
        format!("-I -t 600 -p udp -s 10.{high}.{middle}.{low} -d 192.0.2.1 --sport 4000 --dport 53")
    };
    numbers.map(line).collect()
}

/// Returns the number of a row's flow; `None` for a gap.
fn number(row: &Value) -> Option<u32> {
    let source = row["original"]["source"].as_str()?;
    let parts: Vec<u32> = source.split('.').map(|part| part.parse().unwrap()).collect();
    Some(parts[1] << 16 | parts[2] << 8 | parts[3])
}

fn numbers(rows: &[Value]) -> Vec<u32> {
    rows.iter().filter_map(number).collect()
}

/// Waits until the stream has rows of this many flows, and returns the numbers of all.
fn arrived(server: &Server, count: usize, running: &Background) -> Vec<u32> {
    let found = || numbers(&server.rows("EV"));
    until_or_explain(
        "all rows are in the stream",
        || found().len() >= count,
        || format!("{} of {count}: {}", found().len(), running.errors()),
    );
    found()
}

/// Returns the numbers of the flows that are in the segments of the spool, whether they were delivered or not.
fn spooled(namespace: &Namespace) -> BTreeSet<u32> {
    let Ok(files) = fs::read_dir(namespace.directory().join("spool")) else { return BTreeSet::new() };
    let segments = files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some());
    let text: Vec<u8> = segments.flat_map(|path| fs::read(path).unwrap_or_default()).collect();
    let text = String::from_utf8_lossy(&text).into_owned();
    let of_line = |line: &str| {
        let row = line.get(line.find("{\"type\"")?..)?;
        number(&serde_json::from_str(row).ok()?)
    };
    text.lines().filter_map(of_line).collect()
}

#[test]
fn events_arrive_all_in_their_order_and_once() {
    for program in SERVERS {
        Namespace::run(|namespace| {
            let server = Server::start(namespace, program);
            let mut running = start(namespace, "");
            entries::load(namespace, &flows(0..5000));
            let found = arrived(&server, 5000, &running);
            assert_eq!(found, (0..5000).collect::<Vec<u32>>(), "{program}");
            let messages = server.stream("EV");
            assert!(messages.len() > 100, "{program}: batches are small here: {}", messages.len());
            let ids: BTreeSet<&str> = messages.iter().map(|message| message.headers.as_str()).collect();
            assert_eq!(ids.len(), messages.len());
            assert!(ids.iter().all(|id| id.contains("Nats-Msg-Id: test-")), "{program}: {ids:?}");
            assert!(messages.iter().all(|message| message.text.ends_with("}\n")));
            // The end delivers what is on its way.
            entries::load(namespace, &flows(5000..5100));
            running.wait_until_idle();
            let outcome = running.finish();
            assert!(outcome.errors().contains("5100 flow events"), "{}", outcome.errors());
            let mut running = start(namespace, "");
            assert_eq!(arrived(&server, 5100, &running), (0..5100).collect::<Vec<u32>>(), "{program}");
            running.finish();
        });
    }
}

#[test]
fn a_killed_pipeline_loses_nothing_of_its_spool_and_sends_nothing_twice() {
    Namespace::run(|namespace| {
        let server = Server::start(namespace, SERVERS[0]);
        let mut kept = BTreeSet::new();
        let rounds = 5_u32;
        for round in 0..rounds {
            let mut running = start(namespace, "");
            let (from, to) = (round * 2000, (round + 1) * 2000);
            entries::load(namespace, &flows(from..from + 1000));
            // On their way, and not acknowledged; in the last round, not even sent.
            server.signal(Signal::SIGSTOP);
            entries::load(namespace, &flows(from + 1000..to));
            until("most are in the spool", || spooled(namespace).range(from + 1000..to).count() >= 500);
            running.end_by(Signal::SIGKILL);
            kept.extend(spooled(namespace));
            server.signal(Signal::SIGCONT);
        }
        let mut running = start(namespace, "");
        entries::load(namespace, &flows(rounds * 2000..rounds * 2000 + 1));
        kept.insert(rounds * 2000);
        until("the last one is there", || numbers(&server.rows("EV")).last() == Some(&(rounds * 2000)));
        let found = numbers(&server.rows("EV"));
        let once: BTreeSet<u32> = found.iter().copied().collect();
        assert_eq!(once.len(), found.len(), "nothing is there twice");
        assert!(found.is_sorted(), "in their order");
        let missing: Vec<&u32> = kept.difference(&once).collect();
        assert!(missing.is_empty(), "{} of {}: {missing:?}", missing.len(), kept.len());
        assert!(once.len() >= 1000 * rounds as usize, "{}", once.len());
        running.finish();
    });
}

#[test]
fn a_killed_server_has_what_it_acknowledged_and_gets_the_rest() {
    Namespace::run(|namespace| {
        let mut server = Server::start(namespace, SERVERS[0]);
        let mut running = start(namespace, "");
        for round in 0..4 {
            entries::load(namespace, &flows(round * 3000..(round + 1) * 3000));
            // While batches are on their way.
            until("some have arrived", || server.messages("EV") > u64::from(round) * 30);
            server.kill_and_start();
        }
        let found = arrived(&server, 12_000, &running);
        assert_eq!(found, (0..12_000).collect::<Vec<u32>>());
        let outcome = running.finish();
        assert!(outcome.errors().contains("connection broke"), "{}", outcome.errors());
    });
}

#[test]
fn a_frozen_server_holds_up_nobody_and_gets_everything_later() {
    Namespace::run(|namespace| {
        let server = Server::start(namespace, SERVERS[0]);
        let mut running = start(namespace, "");
        let mut shown = Background::start(&flowgate(), &["-E", "-e", "NEW", "-o", "json"]);
        shown.wait_until_listening();
        entries::load(namespace, &flows(0..100));
        arrived(&server, 100, &running);
        server.signal(Signal::SIGSTOP);
        // Far more than may be on its way, and than a connection holds.
        entries::load(namespace, &flows(100..30_000));
        until_or_explain(
            "all events are in the spool or were delivered",
            || spooled(namespace).range(1000..).count() == 29_000,
            || format!("{}: {}", spooled(namespace).len(), running.errors()),
        );
        until("-E has shown all", || shown.lines().len() == 30_000);
        server.signal(Signal::SIGCONT);
        assert_eq!(arrived(&server, 30_000, &running), (0..30_000).collect::<Vec<u32>>());
        let outcome = running.finish();
        assert!(!outcome.errors().contains("dropped"), "{}", outcome.errors());
        shown.finish();
    });
}

#[test]
fn what_a_small_spool_has_no_room_for_is_a_gap_with_its_number() {
    Namespace::run(|namespace| {
        let server = Server::start(namespace, SERVERS[0]);
        let mut running = start(namespace, "spool-size = '1MiB'\n");
        entries::load(namespace, &flows(0..100));
        arrived(&server, 100, &running);
        server.signal(Signal::SIGSTOP);
        entries::load(namespace, &flows(100..20_000));
        running.wait_for_error("is full; batches are being dropped");
        running.wait_until_idle();
        server.signal(Signal::SIGCONT);
        // What comes now finds room again, behind the gap.
        until("the spool has room", || server.messages("EV") > 100);
        entries::load(namespace, &flows(20_000..20_001));
        until("the last one is there", || numbers(&server.rows("EV")).last() == Some(&20_000));
        let rows = server.rows("EV");
        let found = numbers(&rows);
        let gaps: Vec<&Value> = rows.iter().filter(|row| row["event"] == "gap").collect();
        let lost: u64 = gaps.iter().map(|row| row["lost"].as_u64().unwrap()).sum();
        assert_eq!(found.len() as u64 + lost, 20_001, "{gaps:?}");
        assert!(found.is_sorted() && found.len() > 1000 && lost > 1000, "{} and {lost}", found.len());
        // The number is that of the flows that are missing in front of the last one.
        let at = rows.iter().position(|row| row["event"] == "gap").unwrap();
        assert!(number(&rows[at - 1]).unwrap() > 1000 && gaps[0]["batches"].as_u64() > Some(0), "{gaps:?}");
        let headers: Vec<String> = server.stream("EV").into_iter().map(|message| message.headers).collect();
        assert_eq!(headers.iter().filter(|headers| headers.contains("Flowgate-Gap: ")).count(), gaps.len());
        let outcome = running.finish();
        assert!(outcome.errors().contains(&format!("{lost} lines have been dropped")), "{}", outcome.errors());
    });
}

#[test]
fn without_a_stream_it_is_said_what_makes_one_and_nothing_is_lost() {
    Namespace::run(|namespace| {
        let server = Server::start(namespace, SERVERS[0]);
        let path = namespace.directory().join("pipeline.toml");
        let without = sink(namespace, "").replace("create-stream = true\n", "");
        fs::write(&path, format!("{PIPELINE}{without}")).unwrap();
        let mut running = Background::start(&flowgate(), &["run", &path.display().to_string()]);
        running.wait_until_listening();
        entries::load(namespace, &flows(0..10));
        let said = running.wait_for_error("no stream takes flows.test");
        assert!(said.contains("nats stream add EV --subjects flows.test"), "{said}");
        let outcome = running.finish();
        assert!(outcome.errors().contains("wait in"), "{}", outcome.errors());
        let mut running = start(namespace, "");
        assert_eq!(arrived(&server, 10, &running), (0..10).collect::<Vec<u32>>());
        running.finish();
    });
}

#[test]
fn a_dump_waits_for_its_end_or_keeps_it_for_later() {
    Namespace::run(|namespace| {
        entries::load(namespace, &flows(0..3000));
        let path = namespace.directory().join("dump.toml");
        let text = format!("[source]\nkind = 'dump'\n[format]\nkind = 'json'\n{}", sink(namespace, "linger = '1s'\n"));
        fs::write(&path, text).unwrap();
        let words = ["run", &path.display().to_string()];
        // Nobody is there: it stays in the spool, and the exit status is that of a delivered one.
        let outcome = flowgate().run(&words);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert!(outcome.errors().contains("are delivered when it is used again"), "{}", outcome.errors());
        let server = Server::start(namespace, SERVERS[0]);
        let outcome = flowgate().run(&words);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert!(!outcome.errors().contains("wait in"), "{}", outcome.errors());
        assert_eq!(numbers(&server.rows("EV")).len(), 6000);
    });
}

#[test]
fn a_tenant_writes_into_a_stream_and_keeps_on_over_a_reload() {
    Namespace::run(|namespace| {
        let server = Server::start(namespace, SERVERS[0]);
        let directory = namespace.directory().display().to_string();
        let plugin = plugins::built("attacker");
        let path = namespace.directory().join("policy.toml");
        let of_tenant = sink(namespace, "").replace("[[sink]]", "[[tenant.sink]]");
        let policy = format!(
            "[service]\nsocket = '{directory}/socket'\nreload-on-change = false\n\
             [audit]\npath = '{directory}/audit.jsonl'\n\
             [[tenant]]\nname = 'blue'\n[[tenant.scope]]\nprotocols = ['udp']\n\
             [[tenant.plugin]]\nfile = '{}'\nsha256 = '{}'\n[tenant.format]\nkind = 'json'\n{of_tenant}",
            plugin.display(),
            plugins::digest(&plugin)
        );
        fs::write(&path, policy).unwrap();
        let file = path.display().to_string();
        let mut running = Background::start(&flowgate(), &["run", &file]);
        running.wait_for_error("generation 1 runs");
        entries::load(namespace, &flows(0..1000));
        arrived(&server, 1000, &running);
        server.signal(Signal::SIGSTOP);
        entries::load(namespace, &flows(1000..2000));
        running.signal(Signal::SIGHUP);
        running.wait_for_error("generation 2 runs");
        server.signal(Signal::SIGCONT);
        entries::load(namespace, &flows(2000..3000));
        let all = || {
            let rows = server.rows("EV");
            let once: BTreeSet<u32> = numbers(&rows).into_iter().collect();
            (rows, once.len())
        };
        until_or_explain("all flows are there", || all().1 == 3000, || format!("{}: {}", all().1, running.errors()));
        // The new generation is shown the table, as events that say so; of the others, each is there once.
        let (rows, _) = all();
        let heard: Vec<Value> = rows.into_iter().filter(|row| row["synthetic"] != true).collect();
        let once: BTreeSet<u32> = numbers(&heard).into_iter().collect();
        assert_eq!(once.len(), heard.len(), "{}", running.errors());
        assert!(once.len() >= 2000, "{}", once.len());
        assert!(!running.errors().contains("INFO"), "{}", running.errors());
        let outcome = running.end_by(Signal::SIGTERM);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
    });
}

#[test]
fn an_agent_may_send_its_own_events_and_no_others() {
    Fleet::run(&["alpha", "beta"], "", |fleet| {
        let directory = fleet.namespace.directory().to_owned();
        let agent = fleet.place().join("agents/alpha/agent.toml").display().to_string();
        let start = |name: &str, keys: &str| {
            let path = directory.join(format!("{name}.toml"));
            let spool = directory.join(name).display().to_string();
            let text = format!(
                "{PIPELINE}[[sink]]\nkind = 'nats'\nagent = '{agent}'\nspool = '{spool}'\nbatch-time = '20ms'\n{keys}"
            );
            fs::write(&path, text).unwrap();
            let program = flowgate().path.display().to_string();
            let words = ["netns", "exec", "alpha", &program, "run", &path.display().to_string()];
            let running = Background::start(&flowgate_test_support::Program::new("ip"), &words);
            running.wait_until_listening_in(&["alpha"]);
            running
        };
        let doctor = fleet.ask("doctor");
        assert!(doctor.text().contains("ok        events: the stream FG_EVENTS takes them"), "{}", doctor.text());
        let left = |name: &str| {
            let file = fs::read_to_string(directory.join(name).join("acknowledged")).unwrap_or_default();
            file.trim().parse::<u64>().unwrap_or(0)
        };
        let mut own = start("flows", "");
        fleet.fill("alpha", 53, 10);
        until_or_explain("they are acknowledged", || left("flows") >= 1, || own.errors());
        own.finish();
        // In the name of another agent, it is denied.
        let other = fs::read_to_string(fleet.place().join("fleet.toml")).unwrap();
        let keys: Vec<&str> =
            other.lines().filter_map(|line| line.strip_prefix("key = \"")?.strip_suffix('"')).collect();
        let beta = keys.last().unwrap();
        let mut forged = start("forged", &format!("subject = 'fg.1.events.{beta}.flows'\n"));
        fleet.fill("alpha", 54, 10);
        forged.wait_for_error("ermissions");
        let outcome = forged.finish();
        assert!(outcome.errors().contains("wait in"), "{}", outcome.errors());
        assert_eq!(left("forged"), 0);
    });
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipeline.toml");
    let check = |sink: &str| {
        fs::write(&path, format!("[source]\nkind = 'events'\n[[sink]]\nkind = 'nats'\n{sink}")).unwrap();
        let outcome = flowgate().run(&["run", &path.display().to_string(), "--check"]);
        (outcome.status, outcome.errors())
    };
    let right = "server = 'nats.example.net'\nsubject = 'flows'\nspool = 'spool'\n";
    let (status, errors) = check(right);
    assert_eq!((status, errors.as_str()), (0, ""));
    for (sink, words) in [
        ("spool = 's'\n", "a sink of `nats` needs `server`, or the `agent` of a fleet"),
        ("server = 'a'\nsubject = 'b'\n", "a sink of `nats` needs `spool`"),
        ("server = 'a:x'\nsubject = 'b'\nspool = 's'\n", "`server` needs a host and a port"),
        ("server = 'a'\nsubject = 'b.*'\nspool = 's'\n", "`subject` takes words with dots between them"),
        ("server = 'a'\nsubject = 'b'\nspool = 's'\nspool-size = '1k'\n", "`spool-size` must be at least 1048576B"),
        ("server = 'a'\nsubject = 'b'\nspool = 's'\nbatch = '1MiB'\n", "`batch` must be 4KiB to 512KiB"),
        ("server = 'a'\nsubject = 'b'\nspool = 's'\nbatch-time = '1ms'\n", "`batch-time` must be 10ms to 1m"),
        ("server = 'a'\nsubject = 'b'\nspool = 's'\ncreate-stream = true\n", "needs the name of a `stream`"),
        ("server = 'a'\nsubject = 'b'\nspool = 's'\nca = 'x'\ntls = false\n", "`ca` is for encrypted connections"),
        ("server = 'a'\nsubject = 'b'\nspool = 's'\nkey = 'missing.nk'\n", "there is no file"),
        ("server = 'a'\nsubject = 'b'\nspool = 's'\nbuffer = '1MiB'\n", "`buffer` is no key of a sink of kind `nats`"),
    ] {
        let (status, errors) = check(sink);
        assert!(status == 1 && errors.contains(words), "{words}: {errors}");
    }
    fs::write(&path, format!("[source]\nkind = 'events'\n[[sink]]\nkind = 'nats'\n{right}")).unwrap();
    let explained = flowgate().must(&["run", &path.display().to_string(), "--explain"]);
    assert!(
        explained.contains("nats nats.example.net:4222") && explained.contains("subject flows; encrypted"),
        "{explained}"
    );
    let json = flowgate().must(&["run", &path.display().to_string(), "--explain", "-o", "json"]);
    assert_eq!(objects(&json)[0]["sinks"][0]["kind"], "nats");
}
