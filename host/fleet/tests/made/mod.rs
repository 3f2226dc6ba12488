//! Agents with made-up flows on a bus in the process.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    collections::BTreeMap,
    io::Write,
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
    bus::{Bus, Memory, Streams as _},
    collector::{self, Member, Taken},
    journal::Journal,
    keys::{ConnectKey, Keyring, SigningKey},
    message::{Answer, Ask},
    names,
    plan::{Action, Plan, Share, SignedPlan, Terms},
    roll_call::RollCall,
    table::{Facts, Form, SetHash, Table, TableError, Touched},
};

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A table of made-up flows: `rows` of them, each of `width` bytes.
#[derive(Clone, Default)]
pub(crate) struct Made {
    pub(crate) rows: u64,
    pub(crate) width: usize,
    /// After how many rows the kernel fails.
    pub(crate) fails_after: Option<u64>,
    /// Counting waits for this.
    pub(crate) held: Option<Arc<Mutex<mpsc::Receiver<()>>>>,
    /// Bytes that have been written so far.
    pub(crate) written: Arc<AtomicU64>,
    /// How often flows were deleted.
    pub(crate) deletions: Arc<AtomicU64>,
    /// How often flows were updated.
    pub(crate) updates: Arc<AtomicU64>,
    /// Flows that have come since the plan.
    pub(crate) more: Arc<AtomicU64>,
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

    fn plan(&self, _: Action, words: &[String]) -> Result<Touched, TableError> {
        if words == ["nonsense"] {
            return Err(TableError::Refused("nonsense is no option".into()));
        }
        Ok(Touched { count: self.rows + self.more.load(Ordering::SeqCst), hash: SetHash::default().digits() })
    }

    fn act(&self, action: Action, _: &[String]) -> Result<u64, TableError> {
        match action {
            Action::Delete => self.deletions.fetch_add(1, Ordering::SeqCst),
            Action::Update => self.updates.fetch_add(1, Ordering::SeqCst),
        };
        Ok(self.rows)
    }
}

/// A fleet on a bus in the process.
pub(crate) struct Fleet {
    pub(crate) bus: Memory,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) signers: Vec<SigningKey>,
    pub(crate) need: usize,
    pub(crate) agents: BTreeMap<String, (names::AgentId, tokio::task::JoinHandle<()>)>,
}

impl Fleet {
    pub(crate) async fn new(need: usize) -> Self {
        let bus = Memory::default();
        bus.prepare(names::REGISTRY).await.unwrap();
        bus.prepare_stream(&audit::STREAM).await.unwrap();
        let signers = (0..3).map(|_| SigningKey::generate()).collect();
        Fleet { bus, directory: tempfile::tempdir().unwrap(), signers, need, agents: BTreeMap::new() }
    }

    pub(crate) fn path(&self, name: &str, file: &str) -> std::path::PathBuf {
        self.directory.path().join(format!("{name}.{file}"))
    }

    /// Starts an agent, and waits until it is in the registry.
    pub(crate) async fn start(&mut self, name: &str, labels: &[&str], table: Made) {
        let key = ConnectKey::generate();
        self.start_as(name, labels, table, key.id()).await;
    }

    pub(crate) async fn start_as(&mut self, name: &str, labels: &[&str], table: Made, id: names::AgentId) {
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
    pub(crate) async fn kill(&mut self, name: &str) {
        let (_, task) = self.agents.remove(name).unwrap();
        task.abort();
        let _ = task.await;
    }

    pub(crate) async fn members(&self) -> Vec<Member> {
        collector::members(&self.bus).await.unwrap()
    }

    /// Asks all, and returns the roll call with the answers by name.
    pub(crate) async fn ask(&self, ask: Ask, within: Duration) -> (RollCall, BTreeMap<String, Vec<Answer>>) {
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

    /// Has all agents plan an action.
    pub(crate) async fn plan_of(&self, action: Action, terms: Terms) -> Plan {
        let words = vec!["-p".to_owned(), "udp".to_owned()];
        let (_, answers) = self.ask(Ask::Plan { action, words: words.clone() }, SOON).await;
        let members = self.members().await;
        let share = |member: &Member| {
            let touched = answers[member.name.as_str()][0].head.touched.clone().unwrap();
            Share { id: member.id.clone(), name: member.name.clone(), touched }
        };
        Plan::new(action, words, members.iter().map(share).collect(), terms)
    }

    /// Has all agents plan a deletion.
    pub(crate) async fn plan(&self) -> Plan {
        self.plan_of(Action::Delete, Terms { life: 600, allowance: 10, absent_later: false }).await
    }

    pub(crate) fn signed(&self, plan: &Plan, by: &[usize]) -> SignedPlan {
        let mut signed = plan.unsigned().unwrap();
        by.iter().for_each(|&signer| signed.sign(&self.signers[signer]));
        signed
    }
}

pub(crate) fn fates(roll: &RollCall) -> Vec<(String, &'static str, String)> {
    let of = roll.agents().iter();
    of.map(|called| (called.name.to_string(), called.fate.word(), called.fate.reason().unwrap_or_default().to_owned()))
        .collect()
}
