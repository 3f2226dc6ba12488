//! Agents and who asks them on a bus in the process: the roll call, answers in many parts, and signed plans.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use flowgate_base::Warnings;
use flowgate_fleet::{
    agent::{Agent, Identity, Records},
    audit::{self, Audit},
    bus::{Bus, Memory, Subscription as _},
    collector::{self, Chosen, Member, Taken},
    journal::Journal,
    keys::{ConnectKey, Keyring, SigningKey},
    lines,
    message::{self, Answer, Ask, Entry, Question, State},
    names,
    plan::{self, Action, Plan, Share, SignedPlan},
    roll_call::RollCall,
    table::{Facts, Form, SetHash, Table, TableError, Touched},
};

const SOON: Duration = Duration::from_secs(20);

/// A table of made-up flows: `rows` of them, each of `width` bytes.
#[derive(Clone, Default)]
struct Made {
    rows: u64,
    width: usize,
    /// After how many rows the kernel fails.
    fails_after: Option<u64>,
    /// Counting waits for this.
    held: Option<Arc<Mutex<mpsc::Receiver<()>>>>,
    /// Bytes that have been written so far.
    written: Arc<AtomicU64>,
    /// How often flows were deleted.
    deletions: Arc<AtomicU64>,
    /// Flows that have come since the plan.
    more: Arc<AtomicU64>,
}

impl Table for Made {
    fn facts(&self) -> Facts {
        Facts { flowgate: "1".into(), kernel: "6".into(), flows: self.rows, flows_max: 100 }
    }

    fn count(&self, words: &[String]) -> Result<u64, TableError> {
        if words == ["nonsense"] {
            return Err(TableError::Refused("nonsense is no option".into()));
        }
        if let Some(held) = &self.held {
            let _ = held.lock().unwrap().recv();
        }
        Ok(self.rows)
    }

    fn list(&self, _: &[String], form: Form, out: &mut dyn Write) -> Result<u64, TableError> {
        for row in 0..self.rows {
            if self.fails_after == Some(row) {
                return Err(TableError::Failed("the kernel says no".into()));
            }
            let text = format!("{row:0width$}", width = self.width);
            let line = if form == Form::Json { format!("{{\"row\":\"{text}\"}}\n") } else { format!("{text}\n") };
            out.write_all(line.as_bytes()).map_err(|_| TableError::Gone)?;
            self.written.fetch_add(line.len() as u64, Ordering::SeqCst);
        }
        Ok(self.rows)
    }

    fn stats(&self, form: Form, out: &mut dyn Write) -> Result<u64, TableError> {
        self.list(&[], form, out)
    }

    fn plan_delete(&self, _: &[String]) -> Result<Touched, TableError> {
        Ok(Touched { count: self.rows + self.more.load(Ordering::SeqCst), hash: SetHash::default().digits() })
    }

    fn delete(&self, _: &[String]) -> Result<u64, TableError> {
        self.deletions.fetch_add(1, Ordering::SeqCst);
        Ok(self.rows)
    }
}

/// A fleet on a bus in the process.
struct Fleet {
    bus: Memory,
    directory: tempfile::TempDir,
    signers: Vec<SigningKey>,
    need: usize,
    agents: BTreeMap<String, (names::AgentId, tokio::task::JoinHandle<()>)>,
}

impl Fleet {
    async fn new(need: usize) -> Self {
        let bus = Memory::default();
        bus.prepare(names::REGISTRY).await.unwrap();
        let signers = (0..3).map(|_| SigningKey::generate()).collect();
        Fleet { bus, directory: tempfile::tempdir().unwrap(), signers, need, agents: BTreeMap::new() }
    }

    fn path(&self, name: &str, file: &str) -> std::path::PathBuf {
        self.directory.path().join(format!("{name}.{file}"))
    }

    /// Starts an agent, and waits until it is in the registry.
    async fn start(&mut self, name: &str, labels: &[&str], table: Made) {
        let key = ConnectKey::generate();
        self.start_as(name, labels, table, key.id()).await;
    }

    async fn start_as(&mut self, name: &str, labels: &[&str], table: Made, id: names::AgentId) {
        let public: Vec<String> = self.signers.iter().map(SigningKey::public).collect();
        let identity = Identity {
            id: id.clone(),
            name: name.parse().unwrap(),
            labels: labels.iter().map(|label| label.parse().unwrap()).collect(),
            ring: Keyring::new(&public, self.need).unwrap(),
        };
        let records = Records {
            journal: Journal::open(&self.path(name, "journal")).unwrap(),
            audit: Audit::open(&self.path(name, "audit")).unwrap(),
        };
        let agent = Agent::new(self.bus.clone(), table, identity, records, Warnings::ignored());
        let task = tokio::spawn(async { drop(agent.run(std::future::pending()).await) });
        while self.bus.get(names::REGISTRY, id.as_str()).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        self.agents.insert(name.to_owned(), (id, task));
    }

    /// Ends an agent as a kill does: the bus has nobody any more who takes its messages.
    async fn kill(&mut self, name: &str) {
        let (_, task) = self.agents.remove(name).unwrap();
        task.abort();
        let _ = task.await;
    }

    async fn members(&self) -> Vec<Member> {
        collector::members(&self.bus).await.unwrap()
    }

    /// Asks all, and returns the roll call with the answers by name.
    async fn ask(&self, ask: Ask, within: Duration) -> (RollCall, BTreeMap<String, Vec<Answer>>) {
        let members = self.members().await;
        let mut answers: BTreeMap<String, Vec<Answer>> = BTreeMap::new();
        let take = |index: usize, answer: &Answer| {
            answers.entry(members[index].name.to_string()).or_default().push(answer.clone());
            Taken::Used
        };
        let roll = collector::ask(&self.bus, &members, ask, within, take).await.unwrap();
        assert_eq!(roll.agents().len(), members.len(), "each is in the roll call");
        (roll, answers)
    }

    async fn plan(&self) -> Plan {
        let (_, answers) = self.ask(Ask::Plan { words: vec!["-p".into(), "udp".into()] }, SOON).await;
        let members = self.members().await;
        let share = |member: &Member| {
            let touched = answers[member.name.as_str()][0].head.touched.clone().unwrap();
            Share { id: member.id.clone(), name: member.name.clone(), touched }
        };
        Plan::new(Action::Delete, vec!["-p".into(), "udp".into()], members.iter().map(share).collect(), 600, 10)
    }

    fn signed(&self, plan: &Plan, by: &[usize]) -> SignedPlan {
        let mut signed = plan.unsigned().unwrap();
        by.iter().for_each(|&signer| signed.sign(&self.signers[signer]));
        signed
    }
}

fn fates(roll: &RollCall) -> Vec<(String, &'static str, String)> {
    let of = roll.agents().iter();
    of.map(|called| (called.name.to_string(), called.fate.word(), called.fate.reason().unwrap_or_default().to_owned()))
        .collect()
}

#[tokio::test]
async fn every_agent_ends_in_exactly_one_state() {
    let mut fleet = Fleet::new(1).await;
    let (release, held) = mpsc::channel();
    let ten = Made { rows: 10, width: 4, ..Made::default() };
    fleet.start("answers", &[], ten.clone()).await;
    fleet.start("slow", &[], Made { held: Some(Arc::new(Mutex::new(held))), ..ten.clone() }).await;
    fleet.start("killed", &[], ten.clone()).await;
    fleet.start("frozen", &[], ten.clone()).await;
    fleet.kill("killed").await;
    fleet.bus.freeze(&names::question(&fleet.agents["frozen"].0), true);
    // One that answers what is no answer.
    let broken = ConnectKey::generate().id();
    let entry = Entry {
        version: 1,
        name: "broken".parse().unwrap(),
        labels: vec![],
        boot: "b".into(),
        facts: Facts::default(),
        running: None,
    };
    fleet.bus.put(names::REGISTRY, broken.as_str(), message::write(&entry)).await.unwrap();
    let mut questions = fleet.bus.subscribe(names::question(&broken)).await.unwrap();
    let bus = fleet.bus.clone();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            bus.publish(question.reply.unwrap(), None, b"{\"state\":".to_vec()).await.unwrap();
        }
    });

    let (roll, answers) = fleet.ask(Ask::Count { words: Vec::new() }, Duration::from_millis(300)).await;
    let found = fates(&roll);
    let words: Vec<(&str, &str)> = found.iter().map(|(name, word, _)| (name.as_str(), *word)).collect();
    let expected =
        [("answers", "answered"), ("broken", "failed"), ("frozen", "absent"), ("killed", "absent"), ("slow", "late")];
    assert_eq!(words, expected, "{found:#?}");
    assert!(found[2].2.contains("nor to a ping") && found[3].2.contains("nobody is connected"), "{found:#?}");
    assert_eq!((roll.missing(), answers["answers"][0].head.flows), (4, Some(10)));
    drop(release);

    let (roll, _) = fleet.ask(Ask::Count { words: vec!["nonsense".into()] }, Duration::from_millis(300)).await;
    assert_eq!(fates(&roll)[0], ("answers".into(), "refused", "nonsense is no option".into()));
}

#[tokio::test]
async fn what_does_not_fit_is_pulled_and_nothing_is_lost_or_held() {
    let mut fleet = Fleet::new(1).await;
    for (name, rows) in [("a", 50_000_u64), ("b", 3), ("c", 20_000), ("d", 0)] {
        fleet.start(name, &[], Made { rows, width: 50, ..Made::default() }).await;
    }
    let fails = Made { rows: 50_000, width: 50, fails_after: Some(30_000), ..Made::default() };
    fleet.start("e", &[], fails).await;
    fleet.start("f", &[], Made { rows: 5, width: 5, fails_after: Some(0), ..Made::default() }).await;
    let list = Ask::List { words: Vec::new(), form: Form::Json, first: collector::first(6) };
    let (roll, answers) = fleet.ask(list, SOON).await;
    let words: Vec<&str> = fates(&roll).iter().map(|(_, word, _)| *word).collect();
    assert_eq!(words, ["answered", "answered", "answered", "answered", "partial", "failed"], "{roll}");
    for (name, rows, last) in [
        ("a", 50_000, Some(50_000)),
        ("b", 3, Some(3)),
        ("c", 20_000, Some(20_000)),
        ("d", 0, Some(0)),
        ("e", 30_000, None),
    ] {
        let parts = &answers[name];
        let mut all = Vec::new();
        for part in parts {
            assert!(part.rows.len() <= message::CHUNK, "{}", part.rows.len());
            lines::append(&mut all, name, 1, Form::Json, &part.rows).unwrap();
        }
        let text = String::from_utf8(all).unwrap();
        assert_eq!(text.lines().count(), rows, "{name}");
        for (index, line) in text.lines().enumerate() {
            assert_eq!(line, format!("{{\"agent\":\"{name}\",\"row\":\"{index:050}\"}}"));
        }
        assert_eq!(parts.last().unwrap().head.flows, last, "{name}");
    }
}

#[tokio::test]
async fn an_agent_holds_no_more_than_a_few_parts_and_only_so_many() {
    let mut fleet = Fleet::new(1).await;
    let table = Made { rows: 1_000_000, width: 100, ..Made::default() };
    let written = table.written.clone();
    fleet.start("a", &[], table).await;
    let subject = names::question(&fleet.agents["a"].0);
    let list = message::write(&Question::new(Ask::List { words: Vec::new(), form: Form::Text, first: 1 << 30 }));
    let first = Answer::read(&fleet.bus.request(subject.clone(), list.clone(), SOON).await.unwrap()).unwrap();
    assert!(first.rows.len() <= message::MAX_FIRST, "whoever asks for more");
    let cursor = first.head.cursor.clone().unwrap();
    // The first part is here, one waits in the channel, one to be sent, and one line.
    let limit = (message::MAX_FIRST + 3 * message::CHUNK) as u64;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(written.load(Ordering::SeqCst) <= limit, "{}", written.load(Ordering::SeqCst));
    }
    // Others get rows only in order, and only with the cursor.
    for (cursor, chunk) in [("0".repeat(32), 1), (cursor.clone(), 2)] {
        let pull = message::write(&Question::new(Ask::Pull { cursor, chunk }));
        let answer = Answer::read(&fleet.bus.request(subject.clone(), pull, SOON).await.unwrap()).unwrap();
        assert_eq!((answer.head.state, answer.rows.len()), (State::Partial, 0));
    }
    let mut open = Vec::new();
    let refused = loop {
        let answer = Answer::read(&fleet.bus.request(subject.clone(), list.clone(), SOON).await.unwrap()).unwrap();
        match answer.head.cursor {
            Some(cursor) => open.push(cursor),
            None => break answer,
        }
        assert!(open.len() < 100);
    };
    assert_eq!(refused.head.state, State::Refused);
    let close = message::write(&Question::new(Ask::Close { cursor: open.pop().unwrap() }));
    fleet.bus.request(subject.clone(), close, SOON).await.unwrap();
    let answer = Answer::read(&fleet.bus.request(subject, list, SOON).await.unwrap()).unwrap();
    assert!(answer.head.cursor.is_some(), "there is room again");
}

#[tokio::test]
async fn agents_are_chosen_by_labels_and_names() {
    let mut fleet = Fleet::new(1).await;
    fleet.start("web-1", &["role=web", "site=fra"], Made::default()).await;
    fleet.start("web-2", &["role=web"], Made::default()).await;
    fleet.start("db", &["role=db", "site=fra"], Made::default()).await;
    let chosen = |labels: &[&str], names: &[&str]| Chosen {
        labels: labels.iter().map(|label| label.parse().unwrap()).collect(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
    };
    let all = fleet.members().await;
    let of = |labels: &[&str], names: &[&str]| {
        let members = chosen(labels, names).of(all.clone());
        members.map(|members| members.into_iter().map(|member| member.name.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(of(&[], &[]).unwrap(), ["db", "web-1", "web-2"]);
    assert_eq!(of(&["role=web"], &[]).unwrap(), ["web-1", "web-2"]);
    assert_eq!(of(&["role=web", "site=fra"], &[]).unwrap(), ["web-1"]);
    assert_eq!(of(&[], &["db", "web-2"]).unwrap(), ["db", "web-2"]);
    assert_eq!(of(&[], &[all[0].id.as_str()]).unwrap(), ["db"]);
    assert_eq!(of(&[], &["db", "nobody"]).unwrap_err(), ["nobody"]);
    // Another agent with a name that is taken is told apart, and so is the one that had it.
    fleet.start("db", &[], Made::default()).await;
    let names: Vec<String> = fleet.members().await.iter().map(|member| member.name.to_string()).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("db.U")).count(), 2, "{names:?}");
}

#[tokio::test]
async fn a_plan_is_done_once_and_only_as_it_was_signed() {
    let mut fleet = Fleet::new(2).await;
    let table = Made { rows: 10, width: 1, ..Made::default() };
    let (deletions, more) = (table.deletions.clone(), table.more.clone());
    fleet.start("a", &[], table.clone()).await;
    let deleted = || deletions.load(Ordering::SeqCst);
    let plan = fleet.plan().await;
    let subject = names::command(&fleet.agents["a"].0);
    let apply = |plan: SignedPlan| {
        let (bus, subject) = (fleet.bus.clone(), subject.clone());
        async move {
            let question = message::write(&Question::new(Ask::Apply { plan }));
            Answer::read(&bus.request(subject, question, SOON).await.unwrap()).unwrap().head
        }
    };
    let refused = |head: message::Head, why: &str| {
        assert_eq!(head.state, State::Refused, "{head:?}");
        assert!(head.reason.as_deref().unwrap_or_default().contains(why), "{head:?} lacks {why:?}");
    };

    refused(apply(fleet.signed(&plan, &[])).await, "0 valid signatures");
    refused(apply(fleet.signed(&plan, &[0])).await, "1 valid signatures");
    let mut forged = fleet.signed(&plan, &[0, 1]);
    forged.plan = forged.plan.replace("udp", "tcp");
    refused(apply(forged).await, "0 valid signatures");
    let mut foreign = fleet.signed(&plan, &[0]);
    foreign.sign(&SigningKey::generate());
    refused(apply(foreign).await, "1 valid signatures");
    let expired = Plan { made: plan::now() - 100, expires: plan::now() - 1, ..plan.clone() };
    refused(apply(fleet.signed(&expired, &[0, 1])).await, "expired");
    let others = Plan { agents: Vec::new(), ..plan.clone() };
    refused(apply(fleet.signed(&others, &[0, 1])).await, "does not name this agent");
    more.store(2, Ordering::SeqCst);
    refused(apply(fleet.signed(&plan, &[0, 1])).await, "there are 12 such flows now, the plan has 10, and 11");
    assert_eq!(deleted(), 0);

    more.store(1, Ordering::SeqCst);
    let head = apply(fleet.signed(&plan, &[1, 2])).await;
    assert_eq!((head.state, head.flows, deleted()), (State::Answered, Some(10), 1));
    refused(apply(fleet.signed(&plan, &[0, 1, 2])).await, "was done already (10 flows deleted)");
    // A command is taken at its subject only, which others may publish to than to that of questions.
    let question = message::write(&Question::new(Ask::Apply { plan: fleet.signed(&fleet.plan().await, &[0, 1]) }));
    let as_question = fleet.bus.request(names::question(&fleet.agents["a"].0), question, SOON).await.unwrap();
    refused(Answer::read(&as_question).unwrap().head, "commands are not taken as questions");
    assert_eq!(deleted(), 1);

    // Killed and started again, it still knows.
    let id = fleet.agents["a"].0.clone();
    let signed = fleet.signed(&plan, &[0, 1]);
    fleet.kill("a").await;
    fleet.bus.remove(names::REGISTRY, id.as_str()).await.unwrap();
    fleet.start_as("a", &[], table, id).await;
    let question = message::write(&Question::new(Ask::Apply { plan: signed }));
    let again = fleet.bus.request(subject, question, SOON).await.unwrap();
    refused(Answer::read(&again).unwrap().head, "was done already");
    assert_eq!(deleted(), 1);
    let path = fleet.path("a", "audit");
    assert_eq!(audit::verify(&path).unwrap(), 7 + 2 + 2);
    let stages = |path: &Path| -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let line =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["stage"].as_str().unwrap().to_owned();
        text.lines().map(line).collect()
    };
    assert_eq!(stages(&path)[7..9], ["intent", "result"]);
}

#[tokio::test]
async fn whoever_floods_it_with_refused_plans_does_not_fill_the_disk() {
    let mut fleet = Fleet::new(1).await;
    fleet.start("a", &[], Made::default()).await;
    let subject = names::command(&fleet.agents["a"].0);
    let signed = SignedPlan { plan: "{}".into(), signatures: Vec::new() };
    let question = message::write(&Question::new(Ask::Apply { plan: signed }));
    for _ in 0..200 {
        fleet.bus.request(subject.clone(), question.clone(), SOON).await.unwrap();
    }
    let lines = audit::verify(&fleet.path("a", "audit")).unwrap();
    assert!((60..=63).contains(&lines), "{lines}");
}

#[tokio::test]
async fn garbage_is_refused_and_the_agent_goes_on() {
    let mut fleet = Fleet::new(1).await;
    fleet.start("a", &[], Made { rows: 3, ..Made::default() }).await;
    let (question, command) = (names::question(&fleet.agents["a"].0), names::command(&fleet.agents["a"].0));
    for bad in [&b""[..], b"{", b"\xff\xff", b"{\"version\":1}", b"{\"version\":7,\"ask\":\"count\"}", &[b'['; 100_000]]
    {
        for subject in [&question, &command] {
            let answer = fleet.bus.request(subject.clone(), bad.to_vec(), SOON).await.unwrap();
            assert_eq!(Answer::read(&answer).unwrap().head.state, State::Refused);
        }
    }
    // Nobody awaits an answer to this, and there is none.
    fleet.bus.publish(question.clone(), None, message::write(&Question::new(Ask::Ping))).await.unwrap();
    let (roll, _) = fleet.ask(Ask::Count { words: Vec::new() }, SOON).await;
    assert_eq!(roll.missing(), 0);
}
