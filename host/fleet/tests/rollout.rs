//! Releases and rollouts on a bus in the process, with services that are made up: what is bad stops at the first stage,
//! and everyone is back on what was there before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use flowgate_base::Warnings;
use flowgate_fleet::{
    agent::{Agent, Identity, Keeper, Records},
    audit::{self, Audit},
    bundle::{Bundle, Kind},
    bus::{Bus, Memory},
    collector::{self, Member},
    journal::Journal,
    keys::{ConnectKey, Keyring, SigningKey},
    message::{self, Answer, Ask, Question, State},
    names::{self, AgentId, Label},
    plan::Action,
    release::{Audience, BundleRef, Desired, Release, SignedRelease},
    rollout::{self, Gate, OnFailure, Pace, Phase, Progress, Rollout, RolloutError, Terms},
    running::{Health, Job, Runner, Running, Service, ServiceState},
    table::{Facts, Form, Table, TableError, Touched},
};

const SOON: Duration = Duration::from_secs(20);
/// How long a trial takes here.
const TRIAL: Duration = Duration::from_millis(200);
const PACE: Pace = Pace { look: Duration::from_millis(10), answer: Duration::from_secs(5) };

struct Empty;

impl Table for Empty {
    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn count(&self, _: &[String]) -> Result<u64, TableError> {
        Ok(0)
    }

    fn list(&self, _: &[String], _: Form, _: &mut dyn Write) -> Result<u64, TableError> {
        Ok(0)
    }

    fn stats(&self, _: Form, _: &mut dyn Write) -> Result<u64, TableError> {
        Ok(0)
    }

    fn plan(&self, _: Action, _: &[String]) -> Result<Touched, TableError> {
        Ok(Touched::default())
    }

    fn act(&self, _: Action, _: &[String]) -> Result<u64, TableError> {
        Ok(0)
    }
}

/// What runs on an agent: the content of the entry, or nothing.
type Now = Arc<Mutex<Vec<String>>>;

/// Runs what the first word of the entry says: `good`, `quarantines`, `ends`, `hangs`, `fails`, `cuts`.
struct Made {
    now: Now,
    bus: Memory,
}

struct Thing {
    now: Now,
    word: String,
    looks: u64,
}

impl Runner for Made {
    type Service = Thing;

    fn start(&mut self, job: &Job) -> Result<Thing, String> {
        let word = fs::read_to_string(&job.entry).unwrap();
        if word.starts_with("fails") {
            return Err("it cannot be started".into());
        }
        if word.starts_with("cuts") {
            self.bus.cut(true);
        }
        let mut now = self.now.lock().unwrap();
        assert!(now.is_empty(), "{now:?} runs beside {word}");
        now.push(word.clone());
        drop(now);
        Ok(Thing { now: self.now.clone(), word, looks: 0 })
    }
}

impl Service for Thing {
    fn health(&mut self) -> Health {
        self.looks += 1;
        let running = Health::of(ServiceState::Running);
        match self.word.split(' ').next().unwrap() {
            "quarantines" if self.looks > 2 => Health { quarantined: vec!["blue:p".into()], ..running },
            "ends" => Health::ended("exit status 1: no such key\x1b[2J"),
            "hangs" => Health::of(ServiceState::Starting),
            // After the trial.
            "degrades" if self.looks > 30 => Health { gaps: 5, ..running },
            _ => running,
        }
    }

    fn stop(self) {
        self.now.lock().unwrap().clear();
    }
}

struct Host {
    id: AgentId,
    bus: Memory,
    now: Now,
    keeper: Keeper,
    task: tokio::task::JoinHandle<()>,
    state: PathBuf,
}

struct Fleet {
    bus: Memory,
    directory: tempfile::TempDir,
    key: SigningKey,
    hosts: BTreeMap<String, Host>,
    trial: Duration,
}

impl Fleet {
    async fn new(hosts: usize) -> Self {
        let bus = Memory::default();
        for bucket in [names::REGISTRY, names::DESIRED, names::BUNDLES, names::ROLLOUTS] {
            bus.prepare(bucket).await.unwrap();
        }
        let mut fleet = Fleet {
            bus,
            directory: tempfile::tempdir().unwrap(),
            key: SigningKey::generate(),
            hosts: BTreeMap::new(),
            trial: TRIAL,
        };
        for number in 0..hosts {
            fleet.start(&format!("h{number:02}"), ConnectKey::generate().id()).await;
        }
        fleet
    }

    async fn start(&mut self, name: &str, id: AgentId) {
        let state = self.directory.path().join(name);
        fs::create_dir_all(&state).unwrap();
        self.start_from(name, id, state).await;
    }

    async fn start_from(&mut self, name: &str, id: AgentId, state: PathBuf) {
        let (bus, now) = (self.bus.connection(), Now::default());
        let keeper = Keeper::start(Made { now: now.clone(), bus: bus.clone() }, &state, self.trial).unwrap();
        let identity = Identity {
            id: id.clone(),
            name: name.parse().unwrap(),
            labels: vec!["role=web".parse().unwrap()],
            ring: Keyring::new(&[self.key.public()], 1).unwrap(),
        };
        let records = Records {
            journal: Journal::open(&state.join("journal")).unwrap(),
            audit: Audit::open(&state.join("audit")).unwrap(),
        };
        let agent = Agent::new(bus.clone(), Empty, identity, records, Warnings::ignored()).with_keeper(keeper.clone());
        self.bus.remove(names::REGISTRY, id.as_str()).await.unwrap();
        let task = tokio::spawn(async { drop(agent.run(std::future::pending()).await) });
        wait("the agent is registered", async || self.bus.get(names::REGISTRY, id.as_str()).await.unwrap().is_some())
            .await;
        self.hosts.insert(name.to_owned(), Host { id, bus, now, keeper, task, state });
    }

    /// Ends an agent; what it has on disk stays.
    async fn kill(&mut self, name: &str) -> (AgentId, PathBuf) {
        let host = self.hosts.remove(name).unwrap();
        host.task.abort();
        let _ = host.task.await;
        let keeper = host.keeper.clone();
        tokio::task::spawn_blocking(move || keeper.stop()).await.unwrap();
        (host.id, host.state)
    }

    fn bundle(&self, content: &str) -> Bundle {
        Bundle::make(Kind::Policy, "policy.toml", vec![("policy.toml".into(), content.as_bytes().to_vec())]).unwrap()
    }

    /// Uploads a bundle with this content, and signs a release of it.
    async fn signed(&self, generation: u64, content: &str) -> SignedRelease {
        let bundle = self.bundle(content);
        rollout::upload(&self.bus, &bundle).await.unwrap();
        self.sign(&Release::new(generation, Some(BundleRef::of(&bundle)), Audience::default(), 600))
    }

    fn sign(&self, release: &Release) -> SignedRelease {
        let mut signed = release.unsigned().unwrap();
        signed.sign(&self.key);
        signed
    }

    /// Gives an agent something to run, and returns what it says to that.
    async fn push(&self, name: &str, signed: SignedRelease, taken_back: Option<&str>) -> Answer {
        let host = &self.hosts[name];
        let desired = Desired { signed, taken_back: taken_back.map(str::to_owned) };
        self.bus.put(names::DESIRED, host.id.as_str(), message::write(&desired)).await.unwrap();
        let look = message::write(&Question::new(Ask::Look));
        Answer::read(&self.bus.request(names::question(&host.id), look, SOON).await.unwrap()).unwrap()
    }

    /// Returns what an agent reports.
    async fn reported(&self, name: &str) -> Running {
        let status = message::write(&Question::new(Ask::Status));
        let answer = self.bus.request(names::question(&self.hosts[name].id), status, SOON).await.unwrap();
        Answer::read(&answer).unwrap().head.entry.unwrap().running.unwrap()
    }

    fn runs(&self, name: &str) -> String {
        self.hosts[name].now.lock().unwrap().join(",")
    }

    async fn until(&self, name: &str, what: &str, holds: impl Fn(&Running) -> bool) -> Running {
        let mut running = self.hosts[name].keeper.running();
        let found = tokio::time::timeout(SOON, running.wait_for(|running| holds(running))).await;
        match found {
            Ok(found) => found.unwrap().clone(),
            Err(_) => panic!("{what}: {:#?}", self.hosts[name].keeper.running().borrow()),
        }
    }

    async fn applied(&self, name: &str, generation: u64) -> Running {
        let is = |running: &Running| running.applied.as_ref().is_some_and(|applied| applied.generation == generation);
        self.until(name, "it is applied", |running| is(running) && running.trial.is_none()).await
    }

    async fn failed(&self, name: &str, generation: u64) -> String {
        let is = |running: &Running| running.failed.as_ref().is_some_and(|failed| failed.generation == generation);
        self.until(name, "it has failed", is).await.failed.unwrap().reason
    }

    async fn members(&self) -> Vec<Member> {
        collector::members(&self.bus).await.unwrap()
    }

    fn terms(&self) -> Terms {
        Terms {
            stages: vec![5, 25, 100],
            bake: 50,
            within: 10_000,
            gate: Gate::default(),
            on_failure: OnFailure::Return,
            allow_missing: 0,
        }
    }

    async fn begin(&self, content: &str, terms: Terms) -> Result<(), RolloutError> {
        let members = self.members().await;
        let generation = rollout::next_generation(&self.bus, &members).await?;
        let signed = self.signed(generation, content).await;
        Rollout::new(signed, "admin".parse().unwrap(), terms, &members)?.begin(&self.bus).await
    }

    async fn drive(&self) -> Rollout {
        tokio::time::timeout(SOON, rollout::drive(&self.bus, PACE, |_| {})).await.unwrap().unwrap()
    }

    /// Returns how many agents run each content.
    fn census(&self) -> BTreeMap<String, usize> {
        let mut census = BTreeMap::new();
        self.hosts.keys().for_each(|name| *census.entry(self.runs(name)).or_default() += 1);
        census
    }

    fn audited(&self, name: &str) -> Vec<(String, String)> {
        let path = self.hosts[name].state.join("audit");
        assert!(audit::verify(&path).unwrap().1.is_empty());
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<audit::Line>(line).unwrap());
        let stage = |line: &audit::Line| format!("{:?}", line.record.stage).to_lowercase();
        lines.map(|line| (stage(&line), line.record.reason)).collect()
    }
}

async fn wait(what: &str, holds: impl AsyncFn() -> bool) {
    let began = std::time::Instant::now();
    while !holds().await {
        assert!(began.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => assert!(fs::copy(entry.path(), to).is_ok()),
        }
    }
}

#[tokio::test]
async fn what_passes_its_trial_stays_and_what_does_not_goes_back() {
    let fleet = Fleet::new(1).await;
    assert_eq!(fleet.push("h00", fleet.signed(1, "good 1").await, None).await.head.state, State::Answered);
    let running = fleet.applied("h00", 1).await;
    assert_eq!((fleet.runs("h00").as_str(), running.failed), ("good 1", None));
    for (generation, content, why) in [
        (2, "quarantines", "in quarantine: blue:p"),
        (3, "ends", "exit status 1: no such key\\u{1b}[2J"),
        (4, "hangs", "it was not ready within"),
        (5, "fails", "it cannot be started"),
    ] {
        fleet.push("h00", fleet.signed(generation, content).await, None).await;
        let reason = fleet.failed("h00", generation).await;
        assert!(reason.contains(why), "{content}: {reason}");
        let applied = fleet.applied("h00", 1).await;
        assert_eq!(applied.desired.unwrap().generation, generation);
        wait("it is back", async || fleet.runs("h00") == "good 1").await;
    }
    // Again, although it failed: no.
    let again = fleet.push("h00", fleet.signed(5, "fails").await, None).await;
    assert_eq!(again.head.state, State::Answered);
    fleet.push("h00", fleet.signed(6, "good 6").await, None).await;
    fleet.applied("h00", 6).await;
    assert_eq!(fleet.runs("h00"), "good 6");
    let nothing = fleet.sign(&Release::new(7, None, Audience::default(), 600));
    fleet.push("h00", nothing.clone(), None).await;
    fleet.applied("h00", 7).await;
    assert_eq!(fleet.runs("h00"), "");
    // Taken back: what was there before.
    fleet.push("h00", nothing, Some("it was a mistake")).await;
    fleet.applied("h00", 6).await;
    wait("it is back", async || fleet.runs("h00") == "good 6").await;
    assert_eq!(fleet.reported("h00").await.failed.unwrap().reason, "taken back: it was a mistake");
    wait("all is on record", async || fleet.audited("h00").len() == 15).await;
    let audited = fleet.audited("h00");
    let intents = audited.iter().filter(|(stage, _)| stage == "intent").count();
    assert_eq!(intents, 7, "{audited:#?}");
    assert!(audited.iter().any(|(_, text)| text.contains("generation 2 failed, back to generation 1: in quarantine")));
}

#[tokio::test]
async fn an_older_generation_is_refused_and_in_the_audit() {
    let mut fleet = Fleet::new(1).await;
    let old = fleet.signed(3, "good 3").await;
    fleet.push("h00", old.clone(), None).await;
    fleet.applied("h00", 3).await;
    fleet.push("h00", fleet.signed(4, "good 4").await, None).await;
    fleet.applied("h00", 4).await;
    for _ in 0..3 {
        let answer = fleet.push("h00", old.clone(), None).await;
        assert_eq!(answer.head.state, State::Refused);
        assert!(answer.head.reason.unwrap().contains("generation 3, and 4 was there before"));
    }
    let twice = fleet.push("h00", fleet.signed(4, "another 4").await, None).await;
    assert!(twice.head.reason.unwrap().contains("another release of generation 4"));
    let refusals = |fleet: &Fleet| fleet.audited("h00").iter().filter(|(stage, _)| stage == "refused").count();
    assert_eq!(refusals(&fleet), 2, "the same is recorded once");
    // Killed and started again, it still knows.
    let (id, state) = fleet.kill("h00").await;
    fleet.start_from("h00", id, state).await;
    assert_eq!(fleet.push("h00", old, None).await.head.state, State::Refused);
    wait("it runs what was applied", async || fleet.runs("h00") == "good 4").await;
}

#[tokio::test]
async fn a_forged_release_or_bundle_is_refused() {
    let fleet = Fleet::new(1).await;
    let good = fleet.signed(1, "good 1").await;
    let mut unsigned = good.clone();
    unsigned.signatures.clear();
    let mut foreign = unsigned.clone();
    foreign.sign(&SigningKey::generate());
    let mut changed = good.clone();
    changed.release = changed.release.replace("\"generation\":1", "\"generation\":2");
    assert_ne!(changed.release, good.release);
    for forged in [unsigned, foreign, changed] {
        let answer = fleet.push("h00", forged, None).await;
        assert!(answer.head.reason.unwrap().contains("0 valid signatures"), "{:?}", answer.head.state);
    }
    let label: Label = "role=db".parse().unwrap();
    let others = Release::new(1, None, Audience { labels: vec![label], agents: Vec::new() }, 600);
    assert!(fleet.push("h00", fleet.sign(&others), None).await.head.reason.unwrap().contains("not for this agent"));
    let named = Audience { labels: Vec::new(), agents: vec![ConnectKey::generate().id()] };
    let others = Release::new(1, None, named, 600);
    assert!(fleet.push("h00", fleet.sign(&others), None).await.head.reason.unwrap().contains("not for this agent"));
    let expired = Release { expires: 1, made: 0, ..Release::new(1, None, Audience::default(), 600) };
    assert!(fleet.push("h00", fleet.sign(&expired), None).await.head.reason.unwrap().contains("expired"));
    fleet.bus.put(names::DESIRED, fleet.hosts["h00"].id.as_str(), b"{".to_vec()).await.unwrap();
    let look = message::write(&Question::new(Ask::Look));
    let answer = fleet.bus.request(names::question(&fleet.hosts["h00"].id), look, SOON).await.unwrap();
    assert_eq!(Answer::read(&answer).unwrap().head.state, State::Refused);
    assert_eq!(fleet.audited("h00").len(), 7);

    // The release is right, and the server has another bundle under its digest, of the same size.
    let bundle = fleet.bundle("good 1");
    let mut bytes = bundle.bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    fleet.bus.put(names::BUNDLES, &rollout::part(&bundle.digest(), 0), bytes).await.unwrap();
    assert_eq!(fleet.push("h00", good.clone(), None).await.head.state, State::Answered);
    let waits = |running: &Running| running.waiting.as_ref().is_some_and(|why| why.contains("its digest is"));
    let running = fleet.until("h00", "it does not take it", waits).await;
    assert_eq!((running.applied, running.trial, fleet.runs("h00").as_str()), (None, None, ""));
    // When the server has the right one, the agent takes it by itself.
    rollout::upload(&fleet.bus, &bundle).await.unwrap();
    fleet.applied("h00", 1).await;
    assert_eq!(fleet.runs("h00"), "good 1");
}

#[tokio::test]
async fn an_agent_that_is_killed_in_its_trial_goes_back() {
    let mut fleet = Fleet::new(1).await;
    fleet.push("h00", fleet.signed(1, "good 1").await, None).await;
    fleet.applied("h00", 1).await;
    // From now on trials take long.
    let (id, state) = fleet.kill("h00").await;
    fleet.trial = Duration::from_secs(600);
    fleet.start_from("h00", id, state.clone()).await;
    fleet.push("h00", fleet.signed(2, "good 2").await, None).await;
    fleet.until("h00", "it is on trial", |running| running.trial.is_some()).await;
    wait("it runs", async || fleet.runs("h00") == "good 2").await;
    // What is on disk at this moment is what an agent finds that was killed now.
    let image = fleet.directory.path().join("image");
    copy(&state, &image);
    let (id, _) = fleet.kill("h00").await;
    fleet.start_from("h00", id.clone(), image.clone()).await;
    assert!(fleet.failed("h00", 2).await.contains("ended before the trial was over"));
    wait("it runs what was applied", async || fleet.runs("h00") == "good 1").await;
    wait("it is on record", async || {
        fleet.audited("h00").iter().any(|(_, text)| text.contains("generation 2 failed, back to generation 1"))
    })
    .await;
    // And it does not begin with it again.
    let look = message::write(&Question::new(Ask::Look));
    fleet.bus.request(names::question(&id), look, SOON).await.unwrap();
    let running = fleet.reported("h00").await;
    assert_eq!((running.trial, running.applied.unwrap().generation), (None, 1));
}

#[tokio::test]
async fn what_cuts_the_agent_off_goes_back() {
    let fleet = Fleet::new(1).await;
    fleet.push("h00", fleet.signed(1, "good 1").await, None).await;
    fleet.applied("h00", 1).await;
    fleet.push("h00", fleet.signed(2, "cuts").await, None).await;
    let reason = fleet.failed("h00", 2).await;
    assert!(reason.contains("the server could not be reached within"), "{reason}");
    wait("it is back", async || fleet.runs("h00") == "good 1").await;
    assert_eq!(fleet.applied("h00", 1).await.desired.unwrap().generation, 2);
    // Connected again, it says so.
    fleet.hosts["h00"].bus.cut(false);
    assert_eq!(fleet.reported("h00").await.failed.unwrap().generation, 2);
}

#[tokio::test]
async fn a_bad_bundle_stops_at_the_first_stage_and_everyone_is_back() {
    let fleet = Fleet::new(12).await;
    fleet.begin("good 1", Terms { stages: vec![100], ..fleet.terms() }).await.unwrap();
    let rollout = fleet.drive().await;
    assert_eq!((rollout.phase, fleet.census()), (Phase::Done, BTreeMap::from([("good 1".into(), 12)])));

    for (generation, bad) in (2..).zip(["quarantines", "ends", "fails", "cuts"]) {
        fleet.begin(bad, fleet.terms()).await.unwrap();
        let mut stages = Vec::new();
        let progress = |progress: Progress| {
            if let Progress::Entered(rollout) = progress {
                stages.push((rollout.phase, rollout.stage));
            }
        };
        // Who is cut off goes back by itself, and is connected again by that.
        let rescue = async {
            loop {
                for host in fleet.hosts.values() {
                    let running = host.keeper.running().borrow().clone();
                    if running.failed.is_some_and(|failed| failed.generation == generation) {
                        host.bus.cut(false);
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let driven = tokio::select! {
            rollout = rollout::drive(&fleet.bus, PACE, progress) => rollout.unwrap(),
            () = rescue => unreachable!(),
        };
        assert_eq!(driven.phase, Phase::Returned, "{bad}: {driven:#?}");
        assert!(stages.iter().all(|(_, stage)| *stage == 0), "{bad}: {stages:?}");
        assert_eq!(driven.problems.len(), 1, "{bad}: {:?}", driven.problems);
        assert_eq!(driven.problems[0].agent, driven.agents[0].name, "{bad}");
        wait("everyone is back", async || fleet.census() == BTreeMap::from([("good 1".into(), 12)])).await;
        let touched = fleet.hosts.values().filter(|host| {
            assert_eq!(driven.release().unwrap().generation, generation);
            host.keeper.running().borrow().desired.as_ref().is_some_and(|desired| desired.generation == generation)
        });
        assert_eq!(touched.count(), 1, "{bad}");
    }
    // A good one reaches all, in stages.
    fleet.begin("good 6", fleet.terms()).await.unwrap();
    let rollout = fleet.drive().await;
    assert_eq!((rollout.phase, rollout.stage), (Phase::Done, 2), "{:?}", rollout.problems);
    assert_eq!(fleet.census(), BTreeMap::from([("good 6".into(), 12)]));
    assert_eq!(rollout.release().unwrap().generation, 6);
    // And can be taken back when it is done.
    Rollout::abort(&fleet.bus, &"admin".parse().unwrap(), OnFailure::Return).await.unwrap();
    assert_eq!(fleet.drive().await.phase, Phase::Returned);
    assert_eq!(fleet.census(), BTreeMap::from([("good 1".into(), 12)]));
}

#[tokio::test]
async fn what_becomes_bad_while_it_bakes_is_taken_back_from_all_stages() {
    let fleet = Fleet::new(4).await;
    let gate = Gate::with(&["gaps=4".parse().unwrap()]);
    let terms = Terms { stages: vec![50, 100], bake: 5000, gate, ..fleet.terms() };
    fleet.begin("degrades", terms).await.unwrap();
    let rollout = fleet.drive().await;
    assert_eq!((rollout.phase, rollout.stage), (Phase::Returned, 0));
    assert!(rollout.problems[0].reason.contains("gaps is 5, and may be 4"), "{:?}", rollout.problems);
    wait("nothing runs", async || fleet.census() == BTreeMap::from([(String::new(), 4)])).await;
    // Halted instead, those that have it keep it.
    fleet.begin("ends", Terms { on_failure: OnFailure::Halt, ..fleet.terms() }).await.unwrap();
    assert_eq!(fleet.drive().await.phase, Phase::Halted);
}

#[tokio::test]
async fn a_controller_that_is_killed_is_continued_by_another() {
    let fleet = Fleet::new(8).await;
    fleet.begin("good 1", fleet.terms()).await.unwrap();
    assert!(matches!(
        fleet.begin("good 2", fleet.terms()).await,
        Err(RolloutError::Unfinished { phase: "starting", .. })
    ));
    // Killed at each change of phase, and once in between.
    let mut phases = Vec::new();
    for _ in 0..100 {
        let (sender, mut entered) = tokio::sync::mpsc::unbounded_channel();
        let mut first = true;
        let bus = fleet.bus.clone();
        let controller = tokio::spawn(async move {
            let tell = |progress: Progress| {
                if let Progress::Entered(rollout) = progress
                    && (!std::mem::take(&mut first) || rollout.phase.is_over())
                {
                    let _ = sender.send((rollout.phase, rollout.stage));
                }
            };
            rollout::drive(&bus, PACE, tell).await
        });
        let reached = tokio::time::timeout(SOON, entered.recv()).await.unwrap();
        controller.abort();
        phases.extend(reached);
        if reached.is_some_and(|(phase, _)| phase.is_over()) {
            break;
        }
    }
    assert_eq!(phases.last(), Some(&(Phase::Done, 2)), "{phases:?}");
    assert!(phases.len() > 5, "{phases:?}");
    assert_eq!(fleet.census(), BTreeMap::from([("good 1".into(), 8)]));
    // Nobody began twice.
    for name in fleet.hosts.keys() {
        let intents = fleet.audited(name).iter().filter(|(stage, _)| stage == "intent").count();
        assert_eq!(intents, 1, "{name}");
    }
    // Two at a time end with the same.
    fleet.begin("good 2", fleet.terms()).await.unwrap();
    let (one, other) = tokio::join!(fleet.drive(), fleet.drive());
    assert_eq!((one.phase, &one), (Phase::Done, &other));
    assert_eq!(fleet.census(), BTreeMap::from([("good 2".into(), 8)]));
}

#[tokio::test]
async fn the_absent_are_named_and_a_paused_rollout_waits() {
    let mut fleet = Fleet::new(4).await;
    fleet.begin("good 1", Terms { stages: vec![100], within: 1500, ..fleet.terms() }).await.unwrap();
    Rollout::pause(&fleet.bus, true).await.unwrap();
    let (sender, mut paused) = tokio::sync::mpsc::unbounded_channel();
    let bus = fleet.bus.clone();
    let controller = tokio::spawn(async move {
        let tell = |progress: Progress| {
            if progress == Progress::Paused {
                let _ = sender.send(());
            }
        };
        rollout::drive(&bus, PACE, tell).await
    });
    tokio::time::timeout(SOON, paused.recv()).await.unwrap().unwrap();
    assert_eq!(fleet.census(), BTreeMap::from([(String::new(), 4)]));
    let (id, state) = fleet.kill("h02").await;
    Rollout::pause(&fleet.bus, false).await.unwrap();
    let rollout = controller.await.unwrap().unwrap();
    assert_eq!(rollout.phase, Phase::Returned);
    assert_eq!(rollout.problems.len(), 1);
    assert!(rollout.problems[0].agent.as_str() == "h02" && rollout.problems[0].reason.contains("absent"));
    assert_eq!(rollout.missing[0].agent.as_str(), "h02");
    // It comes back, and does not begin with what was taken back meanwhile.
    fleet.start_from("h02", id.clone(), state.clone()).await;
    fleet.until("h02", "it has looked", |running| running.desired.is_some()).await;
    assert_eq!(fleet.runs("h02"), "");

    // Allowed to be missing, it does not hold the others up, and follows when it comes.
    fleet.kill("h02").await;
    fleet.begin("good 2", Terms { allow_missing: 1, ..fleet.terms() }).await.unwrap();
    let rollout = fleet.drive().await;
    assert_eq!((rollout.phase, rollout.missing.len()), (Phase::Done, 1), "{:?}", rollout.problems);
    assert_eq!(rollout.missing[0].agent.as_str(), "h02");
    assert_eq!(fleet.census(), BTreeMap::from([("good 2".into(), 3)]));
    fleet.start_from("h02", id, state).await;
    fleet.applied("h02", 2).await;
    assert_eq!(fleet.runs("h02"), "good 2");
}

#[tokio::test]
async fn bundles_that_nobody_wants_are_removed() {
    let fleet = Fleet::new(2).await;
    fleet.begin("good 1", Terms { stages: vec![100], ..fleet.terms() }).await.unwrap();
    fleet.drive().await;
    let digest = |content: &str| fleet.bundle(content).digest();
    fleet.signed(9, "unused").await;
    wait("the registry has it", async || {
        fleet.members().await.iter().all(|member| {
            let running = member.entry.as_ref().unwrap().running.as_ref().unwrap();
            running.applied.is_some()
        })
    })
    .await;
    let members = fleet.members().await;
    let keys = async || fleet.bus.keys(names::BUNDLES).await.unwrap();
    assert_eq!(keys().await.len(), 2);
    rollout::prune(&fleet.bus, &members, None).await.unwrap();
    assert_eq!(keys().await, [rollout::part(&digest("good 1"), 0)]);
}
