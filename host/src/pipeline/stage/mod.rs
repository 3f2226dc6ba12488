//! A stage: a plugin that looks at batches, what it says of them, and what becomes of that.
//!
//! `said` is what flows and expectations have in common here, `check` whether it makes sense, `times` are the calls that come
//! without live rows: ticks, look-backs, the end.

mod check;
mod said;
mod times;

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

pub use said::{Requests, Said, Seen, Staged};
pub use times::Reason;

use crate::{
    model::{Expectations, Flows, Results, event, field, verdict},
    pipeline::{
        batch,
        executor::{Acted, Actionable, Asker, Executor},
        grants::Grants,
        meter::Meter,
        stats::Shared,
        supervisor::{OnError, Policy, Recipe, Supervisor},
        tell::Tell,
    },
    wasm::{Capabilities, Failure, Instance, PluginError, Services, deadline::thread_time},
};
use times::Rhythm;

/// A configured plugin in the pipeline.
pub struct Stage {
    supervisor: Supervisor,
    reads: u64,
    grants: Grants,
    /// Whether an action of it that is refused ends the run: it is the command itself.
    strict: bool,
    /// Whether it is the command's selector.
    selects: bool,
    services: Services,
    hidden: Flows,
    rhythm: Option<Rhythm>,
    /// Whether it hears what became of its actions.
    learns: bool,
    pending: Results,
    looks_back: bool,
    /// Whether the instance is new and has not been offered the table.
    fresh: bool,
    stats: Shared,
    seen: Option<Rc<RefCell<Seen>>>,
    /// CPU time that it may still use; without any left it is not called.
    budget: Option<Arc<Mutex<Meter>>>,
}

impl Stage {
    /// A stage of a configured plugin that reads these fields and may do these things. It is not replaced when it fails.
    #[must_use]
    pub fn new(instance: Instance, reads: u64, grants: Grants) -> Self {
        let stats = Shared::default();
        stats.lock().plugin = instance.name().to_string();
        Stage {
            supervisor: Supervisor::new(instance),
            reads,
            grants,
            strict: false,
            selects: false,
            services: Services::default(),
            hidden: Flows::default(),
            rhythm: None,
            learns: false,
            pending: Results::default(),
            looks_back: false,
            fresh: false,
            stats,
            seen: None,
            budget: None,
        }
    }

    /// What the plugin says is also noted down, once it has been checked.
    #[must_use]
    pub fn watched(mut self, seen: Rc<RefCell<Seen>>) -> Self {
        self.seen = Some(seen);
        self
    }

    /// The time that its thread spends in its calls, in nanoseconds, comes out of this meter; when it is empty the plugin is not
    /// called.
    #[must_use]
    pub fn within(mut self, budget: Arc<Mutex<Meter>>) -> Self {
        self.budget = Some(budget);
        self
    }

    /// The command itself: an action of this stage that the kernel refuses ends the run.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// The command's selector, which also decides what other stages are offered of the table.
    #[must_use]
    pub fn selecting(mut self) -> Self {
        self.selects = true;
        self
    }

    /// Whether it is the command's selector.
    #[must_use]
    pub fn selects(&self) -> bool {
        self.selects
    }

    /// Failed instances are replaced by what `recipe` makes.
    #[must_use]
    pub fn supervised(mut self, recipe: Recipe, policy: Policy) -> Self {
        self.supervisor = self.supervisor.with(recipe, policy);
        self
    }

    /// The services that the plugin has been given.
    #[must_use]
    pub fn serving(mut self, services: Services) -> Self {
        self.services = services;
        self
    }

    /// Besides batches, the plugin gets the calls that it can take and that it was granted; `interval` is the one of its
    /// ticks, in milliseconds.
    #[must_use]
    pub fn called(mut self, can: Capabilities, interval: u32) -> Self {
        self.learns = can.action_results;
        self.looks_back = can.flow_look_back && self.grants.look_back;
        self.rhythm = (can.flow_tick && self.grants.tick && interval > 0).then(|| Rhythm::of(interval));
        self
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.supervisor.name()
    }

    /// The fields that the plugin reads.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// What the plugin may do.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// What is known of it.
    #[must_use]
    pub fn stats(&self) -> &Shared {
        &self.stats
    }

    /// Lets the plugin look at a batch of flows. See [`Stage::batch`].
    ///
    /// # Errors
    /// As [`Stage::batch`].
    pub fn flows(&mut self, flows: &mut Flows, executor: &mut Executor<Flows>) -> Result<(), PluginError> {
        self.batch(flows, executor)
    }

    /// Lets the plugin look at a batch of expectations. See [`Stage::batch`].
    ///
    /// # Errors
    /// As [`Stage::batch`].
    pub fn expectations(
        &mut self,
        rows: &mut Expectations,
        executor: &mut Executor<Expectations>,
    ) -> Result<(), PluginError> {
        self.batch(rows, executor)
    }

    /// Lets the plugin look at a batch. First its actions are performed, on the batch as the kernel said it is; then the
    /// changes of what is shown are made, and the rows that it dropped are removed.
    ///
    /// # Errors
    /// The plugin failed or returned what makes no sense, and that is to end the run. The batch is as it was then, and
    /// nothing was done.
    pub fn batch<T: Staged + Actionable>(
        &mut self,
        batch: &mut T,
        executor: &mut Executor<T>,
    ) -> Result<(), PluginError> {
        let rows = batch.rows() as u64;
        self.stats.lock().rows_in += rows;
        match self.look(batch) {
            Ok(Some(said)) => self.carry_out(batch, said, executor),
            Ok(None) => self.without(batch),
            Err(error) => {
                self.failed(&error, executor)?;
                self.without(batch);
            }
        }
        self.stats.lock().rows_out += batch.rows() as u64;
        Ok(())
    }

    /// What the plugin says of a batch; none if it does not run.
    fn look<T: Staged>(&mut self, batch: &mut T) -> Result<Option<Said<T>>, PluginError> {
        let reads = self.reads;
        let mut hidden = std::mem::take(&mut self.hidden);
        let said = self.call(|instance| T::process(batch, instance, reads, &mut hidden));
        self.hidden = hidden;
        let Some(said) = said? else { return Ok(None) };
        self.checked(said, batch.rows()).map(Some)
    }

    /// An outcome that makes sense.
    fn checked<T: Staged>(&mut self, said: Said<T>, rows: usize) -> Result<Said<T>, PluginError> {
        let bad = |reason| self.supervisor.error(Failure::BadValue(reason));
        said.requests.values.check().map_err(bad)?;
        check::outcome(&said, rows, said.requests.values.rows()).map_err(bad)?;
        let (asked, limit) = (said.requests.actions.kinds.len(), self.supervisor.last().limits().actions);
        if asked > limit {
            return Err(self.supervisor.error(Failure::Actions { asked, limit }));
        }
        if let Some(seen) = &self.seen {
            T::see(&said, &mut seen.borrow_mut());
        }
        Ok(said)
    }

    /// Calls the plugin, if it runs; after a failure a new instance, when its time has come. Before the call it hears what
    /// became of its actions.
    fn call<R>(
        &mut self,
        call: impl FnOnce(&mut Instance) -> Result<R, PluginError>,
    ) -> Result<Option<R>, PluginError> {
        let budget = |budget: &Mutex<Meter>, used: u64| {
            let mut meter = budget.lock().unwrap_or_else(PoisonError::into_inner);
            meter.charge(used);
            meter.is_empty()
        };
        if self.budget.as_deref().is_some_and(|meter| budget(meter, 0)) {
            return Ok(None);
        }
        let Some((instance, new)) = self.supervisor.instance()? else { return Ok(None) };
        if new {
            self.fresh = self.looks_back;
            self.pending = Results::default();
            self.stats.lock().restarts += 1;
        }
        let (before, used) = (Instant::now(), self.budget.as_ref().map(|_| thread_time()));
        if !self.pending.kinds.is_empty() {
            instance.learn(&std::mem::take(&mut self.pending))?;
        }
        let result = call(instance);
        let took = u64::try_from(before.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let memory = instance.memory() as u64;
        if let (Some(meter), Some(used)) = (self.budget.as_deref(), used) {
            let used = thread_time().saturating_sub(used);
            budget(meter, u64::try_from(used.as_nanos()).unwrap_or(u64::MAX));
        }
        self.count(|stats| {
            stats.calls += 1;
            stats.nanoseconds = stats.nanoseconds.saturating_add(took);
            stats.longest = stats.longest.max(took);
            stats.times.add(took);
            stats.memory = memory;
        });
        result.map(Some)
    }

    /// Brings what is known of the stage up to date.
    fn count(&mut self, change: impl FnOnce(&mut crate::pipeline::stats::StageStats)) {
        let mut stats = self.stats.lock();
        change(&mut stats);
        stats.health = self.supervisor.health();
        (stats.log_lines, stats.log_dropped) = self.services.log.counts();
        if let Some(state) = self.services.state() {
            stats.state_bytes = state.held() as u64;
        }
    }

    /// Does what the plugin asked for.
    fn carry_out<T: Staged + Actionable>(&mut self, batch: &mut T, said: Said<T>, executor: &mut Executor<T>) {
        let acted = self.act(batch, &said.requests, executor);
        // What a stage acts on must stay what the kernel said it is.
        let fixed = if executor.acts() { batch::IDENTITY } else { 0 };
        if let Some(changes) = &said.changes {
            batch.change(changes, &said.requests.values, fixed);
        }
        if let Some(annotations) = said.annotations.filter(|annotations| !annotations.rows.is_empty()) {
            batch.annotate(&annotations);
        }
        let dropped = said.verdicts.iter().filter(|&&verdict| verdict == verdict::DROP).count();
        if dropped > 0 {
            self.stats.lock().rows_dropped += dropped as u64;
        }
        if let Some(verdicts) = both(said.verdicts, acted.keep) {
            batch.retain(&verdicts);
        }
        if let Some(replacement) = acted.replacement {
            *batch = replacement;
        }
    }

    /// Has actions performed, and remembers what became of them.
    fn act<T: Actionable>(&mut self, batch: &T, requests: &Requests<T>, executor: &mut Executor<T>) -> Acted<T> {
        if requests.actions.kinds.is_empty() {
            return Acted::default();
        }
        let asker = Asker { plugin: self.supervisor.name(), grants: &self.grants, strict: self.strict };
        let mut acted = executor.perform(asker, batch, requests);
        let results = std::mem::take(&mut acted.results);
        let mut stats = self.stats.lock();
        for (&kind, &(result, errno)) in requests.actions.kinds.iter().zip(&results) {
            if let Some(count) = stats.actions.get_mut(usize::from(result)) {
                *count += 1;
            }
            if self.learns {
                self.pending.kinds.push(kind);
                self.pending.results.push(result);
                self.pending.errors.push(errno);
            }
        }
        acted
    }

    /// The batch goes on, or not, without the plugin.
    fn without<T: Staged>(&mut self, batch: &mut T) {
        self.stats.lock().rows_without += batch.rows() as u64;
        if self.supervisor.policy().on_error == OnError::Drop {
            batch.retain(&batch.gaps());
        }
    }

    /// Notes a failure.
    ///
    /// # Errors
    /// The same, if it is to end the run.
    fn failed<T: Actionable>(&mut self, error: &PluginError, executor: &mut Executor<T>) -> Result<(), PluginError> {
        self.supervisor.failed();
        self.pending = Results::default();
        let failure = error.failure.to_string();
        self.count(|stats| {
            stats.failures += 1;
            stats.last_error = Some(failure);
        });
        let policy = self.supervisor.policy();
        if policy.on_error == OnError::Stop {
            return Err(error.clone());
        }
        let what = if policy.on_error == OnError::Skip { "pass by it" } else { "are dropped" };
        executor.tell(&format!("WARNING: {error}; until it runs again flows {what}."));
        if self.supervisor.health() == crate::pipeline::stats::Health::Quarantined {
            executor.tell(&format!(
                "WARNING: plugin {} failed {} times within {} s and is not called any more.",
                error.plugin,
                policy.failures,
                policy.window.as_secs()
            ));
        }
        Ok(())
    }

    /// Writes what the plugin keeps to its file, if it is time or the `end`.
    pub fn save_state(&mut self, end: bool, tell: &Tell) {
        let Some(mut state) = self.services.state() else { return };
        if let Err(error) = if end { state.save() } else { state.save_now_and_then() } {
            tell.line(&format!("WARNING: plugin {}: {error}", self.supervisor.name()));
        }
    }

    /// How long until the stage wants to be called though there are no flows, or looked after; none if never.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        /// A state that changed is written after about this time.
        const CARE: Duration = Duration::from_secs(2);
        let tick = self.rhythm.as_ref().map(Rhythm::rest);
        let state = self.services.state.as_ref().map(|_| CARE);
        [tick, state].into_iter().flatten().min()
    }
}

/// The rows that both the stage and the executor keep; none if these are all.
fn both(verdicts: Vec<u8>, keep: Option<Vec<u8>>) -> Option<Vec<u8>> {
    match keep {
        None => (!verdicts.is_empty()).then_some(verdicts),
        Some(keep) if verdicts.is_empty() => Some(keep),
        Some(keep) => Some(verdicts.iter().zip(&keep).map(|(verdict, keep)| verdict & keep).collect()),
    }
}

/// The fields that all of these stages and a format that reads `format` need decoded.
#[must_use]
pub fn needed(stages: &[Stage], format: u64) -> u64 {
    let acting = if stages.iter().any(|stage| stage.grants.acts()) {
        // What names an entry, and what a status or labels that are set go with.
        field::TUPLES | field::ZONES | field::ID | field::LABELS | field::STATUS
    } else {
        0
    };
    stages.iter().fold(format | acting, |fields, stage| fields | stage.reads()) & field::ALL
}

/// Verdicts that keep the rows that are word of a gap, and no other.
fn gaps(flows: &Flows) -> Vec<u8> {
    let kinds = flows.events.as_ref().map(|events| events.kind.as_slice()).unwrap_or_default();
    (0..flows.length as usize)
        .map(|row| if kinds.get(row) == Some(&event::GAP) { verdict::KEEP } else { verdict::DROP })
        .collect()
}
