//! Questions to many agents on a bus in the process: groups that are merged, events that are followed, and how much of
//! an answer waits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use flowgate_base::Warnings;
use flowgate_fleet::{
    agent::{Agent, Identity, Records},
    audit::Audit,
    bus::{Bus, Memory},
    collector::{self, Member, Taken},
    event_queue::{EventWriter, ROOM},
    groups::{self, Merger},
    journal::Journal,
    keys::{ConnectKey, Keyring},
    lines,
    message::{self, Answer, Ask, CHUNK, Question, State},
    names::{self, AgentId},
    plan::Action,
    roll_call::RollCall,
    table::{Facts, Form, Table, TableError, Touched, Watching},
    watch::{self, Following, Seen, WatchOptions},
};
use flowgate_model::{
    Aggregation, Groups, at,
    query::kind,
    wit::query::{Cells, Key, Measure, Program, Sort},
};

const SOON: Duration = Duration::from_secs(20);

/// A made-up host: flows as ports and bytes, and events that the test writes.
#[derive(Clone, Default)]
struct Host {
    flows: Vec<(u16, u64)>,
    /// The number of made-up rows of a listing.
    rows: u64,
    /// Where events are written, one for each watch.
    writers: Arc<Mutex<Vec<EventWriter>>>,
    /// Watches that have ended.
    ended: Arc<AtomicUsize>,
}

impl Host {
    /// Writes an event to all who watch.
    fn event(&self, line: &str) {
        for writer in self.writers.lock().unwrap().iter_mut() {
            // Whoever has gone gets nothing.
            let _ = writeln!(writer, "{line}");
        }
    }
}

fn numbers(kind: u8, values: impl Iterator<Item = u64>) -> Cells {
    Cells { kind, lo: values.collect(), ..Cells::default() }
}

impl Table for Host {
    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn count(&self, _: &[String]) -> Result<u64, TableError> {
        Ok(self.flows.len() as u64)
    }

    fn list(&self, _: &[String], _: Form, out: &mut dyn Write) -> Result<u64, TableError> {
        for row in 0..self.rows {
            out.write_all(format!("{{\"row\":\"{row:04}\"}}\n").as_bytes()).map_err(|_| TableError::Gone)?;
        }
        Ok(self.rows)
    }

    /// By port: the number of flows; the sum, the smallest and the largest of bytes; sum and number for the mean.
    fn group(&self, _: &[String], out: &mut dyn Write) -> Result<u64, TableError> {
        let mut found: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        self.flows.iter().for_each(|(port, bytes)| found.entry(*port).or_default().push(*bytes));
        let of = |function: fn(&[u64]) -> u64| numbers(kind::PLAIN, found.values().map(move |of| function(of)));
        let sum = |of: &[u64]| of.iter().sum();
        let count = |of: &[u64]| of.len() as u64;
        let groups = Groups {
            length: found.len() as u32,
            keys: 1,
            columns: vec![
                numbers(kind::PORT, found.keys().map(|port| u64::from(*port))),
                of(count),
                of(sum),
                of(|of| *of.iter().min().unwrap()),
                of(|of| *of.iter().max().unwrap()),
                of(sum),
                of(count),
            ],
            ..Groups::default()
        };
        groups::write(&groups, out).map_err(|_| TableError::Gone)?;
        Ok(self.flows.len() as u64)
    }

    fn watch(&self, words: &[String], out: EventWriter) -> Result<Watching, TableError> {
        if words == ["nonsense"] {
            return Err(TableError::Refused("nonsense is no option".into()));
        }
        self.writers.lock().unwrap().push(out);
        let ended = self.ended.clone();
        Ok(Watching::new(move || {
            ended.fetch_add(1, Ordering::SeqCst);
        }))
    }

    fn stats(&self, form: Form, out: &mut dyn Write) -> Result<u64, TableError> {
        self.list(&[], form, out)
    }

    fn plan(&self, _: Action, _: &[String]) -> Result<Touched, TableError> {
        Err(TableError::Refused("nothing is deleted here".into()))
    }

    fn act(&self, _: Action, _: &[String]) -> Result<u64, TableError> {
        Err(TableError::Refused("nothing is deleted here".into()))
    }
}

/// A fleet on a bus in the process.
struct Fleet {
    bus: Memory,
    directory: tempfile::TempDir,
    agents: BTreeMap<String, (AgentId, tokio::task::JoinHandle<()>)>,
}

impl Fleet {
    async fn new() -> Self {
        let bus = Memory::default();
        bus.prepare(names::REGISTRY).await.unwrap();
        Fleet { bus, directory: tempfile::tempdir().unwrap(), agents: BTreeMap::new() }
    }

    async fn start(&mut self, name: &str, host: Host) {
        self.start_as(name, host, ConnectKey::generate().id()).await;
    }

    async fn start_as(&mut self, name: &str, host: Host, id: AgentId) {
        let identity = Identity {
            id: id.clone(),
            name: name.parse().unwrap(),
            labels: Vec::new(),
            ring: Keyring::new(&[], 1).unwrap(),
        };
        let records = Records {
            journal: Journal::open(&self.directory.path().join(format!("{name}.journal"))).unwrap(),
            audit: Audit::open(&self.directory.path().join(format!("{name}.audit"))).unwrap(),
        };
        let agent = Agent::new(self.bus.clone(), host, identity, records, Warnings::ignored());
        let task = tokio::spawn(async { drop(agent.run(std::future::pending()).await) });
        while self.bus.get(names::REGISTRY, id.as_str()).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        self.agents.insert(name.to_owned(), (id, task));
    }

    /// Ends an agent as a kill does.
    async fn kill(&mut self, name: &str) -> AgentId {
        let (id, task) = self.agents.remove(name).unwrap();
        task.abort();
        let _ = task.await;
        id
    }

    async fn members(&self) -> Vec<Member> {
        collector::members(&self.bus).await.unwrap()
    }
}

fn fates(roll: &RollCall) -> Vec<(&str, &str, &str)> {
    let of = roll.agents().iter();
    of.map(|called| (called.name.as_str(), called.fate.word(), called.fate.reason().unwrap_or_default())).collect()
}

fn aggregation() -> Aggregation {
    let measure =
        |name: &str, function, kind| Measure { name: name.into(), function, kind, program: Some(Program::default()) };
    Aggregation {
        keys: vec![Key { name: "dport".into(), kind: kind::PORT, ..Key::default() }],
        measures: vec![
            measure("count", 0, kind::PLAIN),
            measure("sum(bytes)", 1, kind::BYTES),
            measure("min(bytes)", 2, kind::BYTES),
            measure("max(bytes)", 3, kind::BYTES),
            measure("avg(bytes)", 4, kind::MEAN_BYTES),
        ],
        sorts: vec![Sort { column: 2, descending: true }],
        top: Some(1000),
        max_groups: 100_000,
        approximate: false,
    }
}

/// Asks all for their groups, and merges them.
async fn grouped(fleet: &Fleet, aggregation: Aggregation) -> (RollCall, Result<Groups, groups::GroupsError>) {
    let members = fleet.members().await;
    let mut merger = Merger::new(aggregation, None).unwrap();
    let (mut flows, mut failed) = (0, None);
    let take = |index: usize, answer: &Answer| {
        flows += answer.head.flows.unwrap_or_default();
        match merger.add(members[index].name.as_str(), &answer.rows) {
            Ok(()) => Taken::Used,
            Err(groups::GroupsError::Bad(reason)) => Taken::Bad(reason),
            Err(error) => {
                failed = Some(error);
                Taken::Enough
            }
        }
    };
    let ask = Ask::Group { words: Vec::new(), first: collector::first(members.len()) };
    let roll = collector::ask(&fleet.bus, &members, ask, SOON, take).await.unwrap();
    (roll, failed.map_or_else(|| Ok(merger.take(flows)), Err))
}

#[tokio::test]
async fn groups_of_all_agents_are_those_of_all_their_flows() {
    let mut fleet = Fleet::new().await;
    let mut all: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    let mut word = 7_u64;
    let mut random = |below: u64| {
        // Knuth's MMIX.
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (word >> 33) % below
    };
    let mut flows = 0;
    for (name, count, ports) in [("a", 60_000, 20_000), ("b", 10, 3), ("c", 0, 1), ("d", 9000, 65_536), ("e", 500, 50)]
    {
        let of: Vec<(u16, u64)> = (0..count).map(|_| (random(ports) as u16, random(1 << 31))).collect();
        of.iter().for_each(|(port, bytes)| all.entry(*port).or_default().push(*bytes));
        flows += count;
        fleet.start(name, Host { flows: of, ..Host::default() }).await;
    }
    let (roll, groups) = grouped(&fleet, aggregation()).await;
    let groups = groups.unwrap();
    assert_eq!(roll.missing(), 0, "{roll}");
    assert_eq!((groups.length, groups.total, groups.flows), (1000, all.len() as u64, flows));
    let mut expected: Vec<(u64, u16)> = all.iter().map(|(port, bytes)| (bytes.iter().sum(), *port)).collect();
    expected.sort_by_key(|(sum, port)| (std::cmp::Reverse(*sum), *port));
    for (row, (sum, port)) in expected.into_iter().take(1000).enumerate() {
        let value = |column: usize| at(&groups.columns[column].lo, row);
        let bytes = &all[&port];
        let (least, most) = (*bytes.iter().min().unwrap(), *bytes.iter().max().unwrap());
        assert_eq!(
            (value(0), value(1), value(2), value(3), value(4)),
            (u64::from(port), bytes.len() as u64, sum, least, most)
        );
        assert_eq!(groups.columns[5].reals[row], sum as f64 / bytes.len() as f64);
    }
}

#[tokio::test]
async fn more_groups_than_are_kept_end_the_question() {
    let mut fleet = Fleet::new().await;
    for (name, from) in [("a", 0), ("b", 60)] {
        let flows = (from..from + 80).map(|port| (port, 1)).collect();
        fleet.start(name, Host { flows, ..Host::default() }).await;
    }
    let (_, groups) = grouped(&fleet, Aggregation { max_groups: 139, ..aggregation() }).await;
    assert!(groups.unwrap_err().to_string().contains("more than 139 groups"));
    let (_, groups) = grouped(&fleet, Aggregation { max_groups: 140, ..aggregation() }).await;
    assert_eq!(groups.unwrap().total, 140);
}

/// What was seen, as text, with the name of the agent; and what tells the follower to stop.
#[derive(Clone, Default)]
struct Log {
    seen: Arc<Mutex<Vec<String>>>,
    stop: Arc<tokio::sync::Notify>,
}

impl Log {
    fn add(&self, name: &str, seen: Seen<'_>) -> Following {
        let text = match seen {
            Seen::Joined => "joined".into(),
            Seen::Lost(None) => "lost".into(),
            Seen::Lost(Some(count)) => format!("lost {count}"),
            Seen::Rows(rows) => {
                let mut seen = self.seen.lock().unwrap();
                seen.extend(String::from_utf8(rows.to_vec()).unwrap().lines().map(|line| format!("{name} {line}")));
                return Following::On;
            }
            Seen::Away(reason) => format!("away {reason}"),
            Seen::Back => "back".into(),
        };
        self.seen.lock().unwrap().push(format!("{name} {text}"));
        Following::On
    }

    fn all(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until this was seen.
    async fn until(&self, what: &str) {
        let began = Instant::now();
        while !self.all().iter().any(|line| line.starts_with(what)) {
            assert!(began.elapsed() < SOON, "no {what:?} in {:?}", self.all());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Follows all agents of a fleet, until the log says stop.
async fn follow(fleet: &Fleet, log: &Log, within: Duration) -> tokio::task::JoinHandle<RollCall> {
    let (bus, members, log) = (fleet.bus.clone(), fleet.members().await, log.clone());
    let options = WatchOptions { within, wait: Duration::from_millis(50), again: Duration::from_millis(5) };
    tokio::spawn(async move {
        let names: Vec<String> = members.iter().map(|member| member.name.to_string()).collect();
        let stop = log.stop.clone();
        let take = |index: usize, seen: Seen<'_>| log.add(&names[index], seen);
        watch::watch(&bus, &members, &[], options, stop.notified(), take).await.unwrap()
    })
}

#[tokio::test]
async fn events_of_all_agents_come_as_they_happen_and_a_lost_agent_is_told() {
    let mut fleet = Fleet::new().await;
    let (a, b) = (Host::default(), Host::default());
    fleet.start("a", a.clone()).await;
    fleet.start("b", b.clone()).await;
    fleet.start("c", Host::default()).await;
    fleet.kill("c").await;
    let log = Log::default();
    let watching = follow(&fleet, &log, SOON).await;
    log.until("a joined").await;
    log.until("b joined").await;
    for number in 0..100 {
        a.event(&format!("event {number}"));
        b.event(&format!("event {number}"));
        tokio::task::yield_now().await;
    }
    log.until("a event 99").await;
    log.until("b event 99").await;
    for name in ["a", "b"] {
        let of: Vec<String> = log.all().into_iter().filter(|line| line.starts_with(&format!("{name} event"))).collect();
        assert_eq!(of, (0..100).map(|number| format!("{name} event {number}")).collect::<Vec<_>>());
    }
    // One is killed, and starts again: what it did in between is missing, and that is said.
    let id = fleet.kill("b").await;
    log.until("b away nobody is connected").await;
    b.event("unseen");
    a.event("meanwhile");
    log.until("a meanwhile").await;
    let again = Host::default();
    fleet.start_as("b", again.clone(), id).await;
    log.until("b back").await;
    again.event("event of another start");
    log.until("b event of another start").await;
    log.stop.notify_one();
    let roll = watching.await.unwrap();
    let seen = log.all();
    let place = |what: &str| seen.iter().position(|line| line == what).unwrap_or_else(|| panic!("no {what}: {seen:?}"));
    assert!(place("b lost") < place("b back") && place("b back") < place("b event of another start"));
    assert!(!seen.contains(&"b unseen".to_owned()));
    let found = fates(&roll);
    assert_eq!(found[0], ("a", "answered", ""));
    assert_eq!(found[1], ("b", "partial", "events of it were lost while it was away"));
    assert_eq!(found[2].1, "absent");
    // The agents do not write events for nobody.
    assert_eq!((a.ended.load(Ordering::SeqCst), again.ended.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn what_is_not_fetched_in_time_is_a_gap_with_its_number() {
    let mut fleet = Fleet::new().await;
    let (slow, quick) = (Host::default(), Host::default());
    fleet.start("slow", slow.clone()).await;
    fleet.start("quick", quick.clone()).await;
    let log = Log::default();
    let watching = follow(&fleet, &log, SOON).await;
    log.until("slow joined").await;
    log.until("quick joined").await;
    // Nobody fetches anything while this goes on, and whoever writes does not wait.
    let width = 100;
    let count = 2 * ROOM / width;
    for number in 0..count {
        slow.event(&format!("event {number:0width$}", width = width - 7));
    }
    quick.event("event 0");
    log.until("quick event 0").await;
    log.until("slow lost").await;
    slow.event("last");
    log.until("slow last").await;
    log.stop.notify_one();
    let roll = watching.await.unwrap();
    let of_slow: Vec<String> =
        log.all().iter().filter_map(|line| line.strip_prefix("slow ")).map(str::to_owned).collect();
    let gap = of_slow.iter().position(|line| line.starts_with("lost")).unwrap();
    let lost: usize = of_slow[gap].trim_start_matches("lost ").parse().unwrap();
    let number = |line: &String| line.strip_prefix("event ").unwrap().parse::<usize>().unwrap();
    let before: Vec<usize> = of_slow[1..gap].iter().map(number).collect();
    assert_eq!(before, (0..before.len()).collect::<Vec<_>>());
    assert_eq!((before.len() + lost, of_slow[gap + 1..].to_vec()), (count, vec!["last".to_owned()]));
    assert!(before.len() * width > ROOM - 2 * width && before.len() * width <= ROOM, "{}", before.len());
    assert_eq!(fates(&roll)[0], ("quick", "answered", ""));
    let reason = format!("{lost} events of it were lost, since they were not fetched in time");
    assert_eq!(fates(&roll)[1], ("slow", "partial", reason.as_str()));
}

#[tokio::test]
async fn whoever_is_only_disconnected_for_a_while_loses_nothing() {
    let mut fleet = Fleet::new().await;
    let host = Host::default();
    fleet.start("a", host.clone()).await;
    let log = Log::default();
    let watching = follow(&fleet, &log, Duration::from_millis(100)).await;
    log.until("a joined").await;
    let subject = names::question(&fleet.agents["a"].0);
    fleet.bus.freeze(&subject, true);
    log.until("a away no answer").await;
    host.event("event 1");
    fleet.bus.freeze(&subject, false);
    log.until("a event 1").await;
    log.stop.notify_one();
    let roll = watching.await.unwrap();
    assert_eq!(fates(&roll), [("a", "answered", "")], "{:?}", log.all());
    assert!(!log.all().contains(&"a lost".to_owned()), "{:?}", log.all());
}

#[tokio::test]
async fn a_gap_of_the_kernel_is_a_row_and_the_answer_is_partial() {
    let mut fleet = Fleet::new().await;
    let host = Host::default();
    fleet.start("a", host.clone()).await;
    let log = Log::default();
    let watching = follow(&fleet, &log, SOON).await;
    log.until("a joined").await;
    host.event(r#"{"type":"flow","event":"gap","event_kind":4,"lost":3}"#);
    log.until("a {").await;
    log.stop.notify_one();
    let roll = watching.await.unwrap();
    assert_eq!(fates(&roll), [("a", "partial", "its kernel could not deliver all events")], "{:?}", log.all());
}

#[tokio::test]
async fn an_answer_that_was_lost_is_given_again_and_watches_are_few() {
    let mut fleet = Fleet::new().await;
    let host = Host::default();
    fleet.start("a", host.clone()).await;
    let subject = names::question(&fleet.agents["a"].0);
    let ask = async |ask: Ask| {
        let question = message::write(&Question::new(ask));
        Answer::read(&fleet.bus.request(subject.clone(), question, SOON).await.unwrap()).unwrap()
    };
    let open = |words: &[&str]| Ask::Watch {
        words: words.iter().map(|&word| word.to_owned()).collect(),
        most: 1 << 30,
        wait: 20,
    };
    let refused = ask(open(&["nonsense"])).await;
    assert_eq!((refused.head.state, refused.head.reason.as_deref()), (State::Refused, Some("nonsense is no option")));
    let cursor = ask(open(&[])).await.head.cursor.unwrap();
    let pull = |chunk| Ask::Pull { cursor: cursor.clone(), chunk };
    assert_eq!(ask(pull(0)).await.rows, b"", "an answer without events says that it is there");
    host.event("one");
    let first = ask(pull(1)).await;
    assert_eq!((first.rows.as_slice(), first.head.lost), (&b"one\n"[..], 0));
    host.event("two");
    assert_eq!(ask(pull(1)).await.rows, b"one\n");
    assert_eq!(ask(pull(2)).await.rows, b"two\n");
    for wrong in [0, 1, 4, u64::MAX] {
        let answer = ask(pull(wrong)).await;
        assert_eq!((answer.head.state, answer.rows.as_slice()), (State::Partial, &b""[..]), "{wrong}");
    }
    // A flood comes in answers that are no longer than a first one.
    (0..10_000).for_each(|number| host.event(&format!("flood {number}")));
    let flood = ask(pull(3)).await;
    assert!(flood.rows.len() <= message::MAX_FIRST && flood.rows.ends_with(b"\n"), "{}", flood.rows.len());
    let mut open_ones = vec![cursor.clone()];
    let last = loop {
        let answer = ask(open(&[])).await;
        match answer.head.cursor {
            Some(cursor) => open_ones.push(cursor),
            None => break answer,
        }
        assert!(open_ones.len() < 100);
    };
    assert!(last.head.state == State::Refused && open_ones.len() == 8, "{last:?}");
    for cursor in open_ones {
        ask(Ask::Close { cursor }).await;
    }
    assert_eq!(host.ended.load(Ordering::SeqCst), 8);
    let gone = ask(pull(4)).await;
    assert_eq!(gone.head.state, State::Partial);
}

/// What waits for who asks depends on neither the number of agents nor that of their rows.
#[test]
fn little_of_the_answers_of_a_thousand_agents_waits_for_who_asks() {
    const AGENTS: usize = 1000;
    const ROWS: u64 = 10_000;
    // Each listing that waits to be pulled has a thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(AGENTS + 64)
        .thread_stack_size(256 << 10)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut fleet = Fleet::new().await;
        for number in 0..AGENTS {
            fleet.start(&format!("agent-{number:04}"), Host { rows: ROWS, ..Host::default() }).await;
        }
        let members = fleet.members().await;
        let (mut rows, mut longest) = (0, 0);
        let mut out = Vec::new();
        let take = |index: usize, answer: &Answer| {
            out.clear();
            lines::append(&mut out, members[index].name.as_str(), 10, Form::Json, &answer.rows).unwrap();
            rows += out.iter().filter(|&&byte| byte == b'\n').count() as u64;
            longest = longest.max(out.capacity() + answer.rows.len());
            Taken::Used
        };
        let list = Ask::List { words: Vec::new(), form: Form::Json, first: collector::first(AGENTS) };
        let roll = collector::ask(&fleet.bus, &members, list, Duration::from_secs(600), take).await.unwrap();
        assert_eq!((roll.missing(), rows), (0, ROWS * AGENTS as u64), "{roll}");
        // First answers of 32 MiB together, eight further ones, and what is around them.
        let most = (32 << 20) + 8 * CHUNK + AGENTS * 1024;
        assert!(fleet.bus.peak() <= most, "{} of {most}", fleet.bus.peak());
        assert!(longest < 4 << 20, "{longest}");
    });
}
