//! A stage: a plugin that looks at batches, what it says of them, and what becomes of that.
//!
//! `checked` and `check` check what it returned; `times` has the calls without live rows: ticks, look-backs and the end of the stream.

mod check;
mod checked;
mod times;

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use checked::CheckedOutcome;
pub use times::Reason;

use crate::{
    entries::Entries,
    executor::{Asker, Executor},
    outcome::{ActionResults, RecordedOutcomes, Requests, StageOutcome},
    stats::Shared,
    supervisor::{Policy, Recipe, Supervisor},
};
use flowgate_base::clock::thread_time;
use flowgate_base::{TokenBucket, Warnings};
use flowgate_model::{Flows, OnError, Results, field, grants::Grants};
use flowgate_runtime::{Capabilities, Instance, PluginError, Services, deadline::Watch};
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
    recorded: Option<Rc<RefCell<RecordedOutcomes>>>,
    /// CPU time that it may still use; without any left it is not called.
    budget: Option<Arc<Mutex<TokenBucket>>>,
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
            recorded: None,
            budget: None,
        }
    }

    /// Records the outcomes that pass their checks.
    #[must_use]
    pub fn recording(mut self, outcomes: Rc<RefCell<RecordedOutcomes>>) -> Self {
        self.recorded = Some(outcomes);
        self
    }

    /// The time that its thread spends in its calls, in nanoseconds, comes out of this meter; when it is empty the plugin is not
    /// called.
    #[must_use]
    pub fn within(mut self, budget: Arc<Mutex<TokenBucket>>) -> Self {
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

    /// Lets the plugin look at a batch. First its actions are performed, on the batch as the kernel described it; then the
    /// changes of what is shown are made, and the rows that it dropped are removed. The time of all that is the plugin's.
    ///
    /// # Errors
    /// The plugin failed, returned what makes no sense, or used up its time, and that is to end the run. The batch is as it was
    /// then; nothing was done, unless it was its actions that took too long.
    pub fn batch<T: Entries>(&mut self, batch: &mut T, executor: &mut Executor<T>) -> Result<(), PluginError> {
        let rows = batch.rows() as u64;
        self.stats.lock().rows_in += rows;
        self.charged(|stage| {
            let done = stage.look(batch, executor.fixed()).and_then(|looked| match looked {
                Some((checked, watch)) => stage.carry_out(batch, checked, executor, watch).map(|()| true),
                None => Ok(false),
            });
            match done {
                Ok(true) => {}
                Ok(false) => stage.without(batch),
                Err(error) => {
                    stage.failed(&error, executor)?;
                    stage.without(batch);
                }
            }
            Ok(())
        })?;
        self.stats.lock().rows_out += batch.rows() as u64;
        Ok(())
    }

    /// Does something in the plugin's time: what the thread spends in it comes out of the budget.
    fn charged<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let Some(budget) = self.budget.clone() else { return work(self) };
        let before = thread_time();
        let result = work(self);
        let used = thread_time().saturating_sub(before);
        let used = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        budget.lock().unwrap_or_else(PoisonError::into_inner).charge(used);
        result
    }

    /// What the plugin says of a batch, checked; none if it does not run.
    fn look<T: Entries>(
        &mut self,
        batch: &mut T,
        fixed: u64,
    ) -> Result<Option<(CheckedOutcome<T>, Watch)>, PluginError> {
        let reads = self.reads;
        let mut hidden = std::mem::take(&mut self.hidden);
        let outcome = self.call(|instance| T::process(batch, instance, reads, &mut hidden));
        self.hidden = hidden;
        let Some((outcome, mut watch)) = outcome? else { return Ok(None) };
        let checked = self.checked(outcome, batch, fixed, &mut watch)?;
        Ok(Some((checked, watch)))
    }

    /// Checks an outcome.
    fn checked<T: Entries>(
        &mut self,
        outcome: StageOutcome<T>,
        batch: &T,
        fixed: u64,
        watch: &mut Watch,
    ) -> Result<CheckedOutcome<T>, PluginError> {
        let limit = self.supervisor.last().limits().actions;
        let copy = self.recorded.is_some().then(|| outcome.clone());
        let checked = outcome.checked(batch, limit, fixed, watch);
        if let (Ok(_), Some(recorded), Some(copy)) = (&checked, &self.recorded, copy) {
            T::recorded(&mut recorded.borrow_mut()).push(copy);
        }
        checked.map_err(|failure| self.supervisor.error(failure))
    }

    /// Calls the plugin, if it runs; after a failure a new instance, when its time has come. Before the call it hears what
    /// became of its actions. Second: the time of the call, to be counted on.
    fn call<R>(
        &mut self,
        call: impl FnOnce(&mut Instance) -> Result<R, PluginError>,
    ) -> Result<Option<(R, Watch)>, PluginError> {
        if let Some(budget) = &self.budget
            && budget.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
        {
            return Ok(None);
        }
        let strict = self.strict;
        let Some((instance, new)) = self.supervisor.instance()? else { return Ok(None) };
        if new {
            self.fresh = self.looks_back;
            self.pending = Results::default();
            self.stats.lock().restarts += 1;
        }
        if !self.pending.kinds.is_empty() {
            instance.learn(&std::mem::take(&mut self.pending))?;
        }
        // What the command itself asks of the kernel takes as long as it takes.
        let mut watch = if strict { Watch::unlimited() } else { Watch::begin(instance.limits().call, None) };
        let result = call(instance);
        watch.since(instance.counted_since());
        let took = u64::try_from(watch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let memory = instance.memory() as u64;
        self.count(|stats| {
            stats.calls += 1;
            stats.nanoseconds = stats.nanoseconds.saturating_add(took);
            stats.longest = stats.longest.max(took);
            stats.times.add(took);
            stats.memory = memory;
        });
        result.map(|result| Some((result, watch)))
    }

    /// Brings what is known of the stage up to date.
    fn count(&mut self, change: impl FnOnce(&mut crate::stats::StageStats)) {
        let mut stats = self.stats.lock();
        change(&mut stats);
        stats.health = self.supervisor.health();
        (stats.log_lines, stats.log_dropped) = self.services.log.counts();
        if let Some(state) = self.services.state() {
            stats.state_bytes = state.held() as u64;
        }
    }

    /// Does what the plugin asked for.
    ///
    /// # Errors
    /// There was no time left; the batch is as it was, and the actions that were done by then are done.
    fn carry_out<T: Entries>(
        &mut self,
        batch: &mut T,
        checked: CheckedOutcome<T>,
        executor: &mut Executor<T>,
        mut watch: Watch,
    ) -> Result<(), PluginError> {
        let acted = self.act(batch, &checked.requests, executor, &mut watch)?;
        let dropped = checked.apply(batch, acted);
        if dropped > 0 {
            self.stats.lock().rows_dropped += dropped as u64;
        }
        Ok(())
    }

    /// Has actions performed, and remembers what became of them.
    ///
    /// # Errors
    /// There was no time left for all of them.
    fn act<T: Entries>(
        &mut self,
        batch: &T,
        requests: &Requests<T>,
        executor: &mut Executor<T>,
        watch: &mut Watch,
    ) -> Result<ActionResults<T>, PluginError> {
        if requests.actions.kinds.is_empty() {
            return Ok(ActionResults::default());
        }
        let asker = Asker { plugin: self.supervisor.name(), grants: &self.grants, strict: self.strict };
        let mut acted = executor.perform_within(watch, asker, batch, requests);
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
        drop(stats);
        watch.check().map_err(|failure| self.supervisor.error(failure))?;
        Ok(acted)
    }

    /// The batch goes on, or not, without the plugin.
    fn without<T: Entries>(&mut self, batch: &mut T) {
        self.stats.lock().rows_without += batch.rows() as u64;
        if self.supervisor.policy().on_error == OnError::Drop {
            batch.retain(&batch.gaps());
        }
    }

    /// Notes a failure.
    ///
    /// # Errors
    /// The same, if it is to end the run.
    fn failed<T: Entries>(&mut self, error: &PluginError, executor: &mut Executor<T>) -> Result<(), PluginError> {
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
        executor.warn(&format!("WARNING: {error}; until it runs again flows {what}."));
        if self.supervisor.health() == crate::stats::Health::Quarantined {
            executor.warn(&format!(
                "WARNING: plugin {} failed {} times within {} s and is not called any more.",
                error.plugin,
                policy.failures,
                policy.window.as_secs()
            ));
        }
        Ok(())
    }

    /// Writes what the plugin keeps to its file, if it is time or the `end`.
    pub fn save_state(&mut self, end: bool, warnings: &Warnings) {
        if self.services.state.is_none() {
            return;
        }
        self.charged(|stage| {
            let Some(mut state) = stage.services.state() else { return };
            if let Err(error) = if end { state.save() } else { state.save_now_and_then() } {
                warnings.line(&format!("WARNING: plugin {}: {error}", stage.supervisor.name()));
            }
        });
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
