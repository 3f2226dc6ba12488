//! A stage: a plugin that processes batches, and the handling of its outcomes.
//!
//! `checked` and `check` check the outcomes; `times` has the calls without live rows: ticks, look-backs and the end of
//! the stream.

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
    executor::{Executor, Requester},
    outcome::{ActionResults, RecordedOutcomes, Requests, StageOutcome},
    stats::SharedStageStats,
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
    /// True if the stage is the command itself: a refused action ends the run.
    strict: bool,
    /// True if the stage is the command's selector.
    selects: bool,
    services: Services,
    hidden: Flows,
    rhythm: Option<Rhythm>,
    /// True if the plugin receives the results of its actions.
    learns: bool,
    pending: Results,
    looks_back: bool,
    /// True if the instance is new and has not been offered the table.
    fresh: bool,
    stats: SharedStageStats,
    recorded: Option<Rc<RefCell<RecordedOutcomes>>>,
    /// CPU time left to the plugin; it is not called when nothing is left.
    budget: Option<Arc<Mutex<TokenBucket>>>,
}

impl Stage {
    /// Returns a stage of a configured plugin that reads these fields and has these grants. A failed instance is not
    /// replaced.
    #[must_use]
    pub fn new(instance: Instance, reads: u64, grants: Grants) -> Self {
        let stats = SharedStageStats::default();
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

    /// Charges the CPU time of the plugin's calls, in nanoseconds, to this budget. The plugin is not called while the
    /// budget is empty.
    #[must_use]
    pub fn within(mut self, budget: Arc<Mutex<TokenBucket>>) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Makes the stage the command itself: an action that the kernel refuses ends the run.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Makes the stage the command's selector, which also decides which entries of the table are offered to other
    /// stages.
    #[must_use]
    pub fn selecting(mut self) -> Self {
        self.selects = true;
        self
    }

    /// Returns true if the stage is the command's selector.
    #[must_use]
    pub fn selects(&self) -> bool {
        self.selects
    }

    /// Replaces failed instances by those that `recipe` makes.
    #[must_use]
    pub fn supervised(mut self, recipe: Recipe, policy: Policy) -> Self {
        self.supervisor = self.supervisor.with(recipe, policy);
        self
    }

    /// Sets the services that the plugin has been granted.
    #[must_use]
    pub fn serving(mut self, services: Services) -> Self {
        self.services = services;
        self
    }

    /// Enables the calls besides batches that the plugin exports and was granted. `interval` is the interval of its
    /// ticks in milliseconds.
    #[must_use]
    pub fn called(mut self, can: Capabilities, interval: u32) -> Self {
        self.learns = can.action_results;
        self.looks_back = can.flow_look_back && self.grants.look_back;
        self.rhythm = (can.flow_tick && self.grants.tick && interval > 0).then(|| Rhythm::of(interval));
        self
    }

    /// Returns the plugin's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.supervisor.name()
    }

    /// Returns the fields that the plugin reads.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// Returns the plugin's grants.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Returns the stage's statistics.
    #[must_use]
    pub fn stats(&self) -> &SharedStageStats {
        &self.stats
    }

    /// Passes a batch to the plugin. First the requested actions are performed, on the batch as the kernel described
    /// it; then the changes of the shown rows are made, and the rows that the plugin dropped are removed. All of this
    /// counts as the plugin's time.
    ///
    /// # Errors
    /// [`PluginError`] if the plugin failed, returned a malformed outcome, or used up its time, and its policy is to
    /// end the run. The batch is then unchanged, and nothing was done, except for actions that were performed before
    /// the time was over.
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

    /// Runs `work` and charges the time that the thread spends in it to the budget.
    fn charged<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let Some(budget) = self.budget.clone() else { return work(self) };
        let before = thread_time();
        let result = work(self);
        let used = thread_time().saturating_sub(before);
        let used = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        budget.lock().unwrap_or_else(PoisonError::into_inner).charge(used);
        result
    }

    /// Returns the checked outcome of a batch; `None` if the plugin does not run.
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

    /// Calls the plugin, if it runs; after a failure, a new instance once its pause is over. Before the call the plugin
    /// receives the results of its actions. Also returns the watch of the call, which continues to run.
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
        // Actions of the command itself have no time limit.
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

    /// Updates the stage's statistics.
    fn count(&mut self, change: impl FnOnce(&mut crate::stats::StageStats)) {
        let mut stats = self.stats.lock();
        change(&mut stats);
        stats.health = self.supervisor.health();
        (stats.log_lines, stats.log_dropped) = self.services.log.counts();
        if let Some(state) = self.services.state() {
            stats.state_bytes = state.held() as u64;
        }
    }

    /// Carries out a checked outcome.
    ///
    /// # Errors
    /// [`PluginError`] if the time is over. The batch is then unchanged; actions that were performed before that stay
    /// performed.
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

    /// Performs actions, and keeps their results.
    ///
    /// # Errors
    /// [`PluginError`] if there is not enough time for all actions.
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
        let requester = Requester { plugin: self.supervisor.name(), grants: &self.grants, strict: self.strict };
        let mut acted = executor.perform_within(watch, requester, batch, requests);
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

    /// Handles a batch without the plugin: depending on the policy it passes or is dropped.
    fn without<T: Entries>(&mut self, batch: &mut T) {
        self.stats.lock().rows_without += batch.rows() as u64;
        if self.supervisor.policy().on_error == OnError::Drop {
            batch.retain(&batch.gaps());
        }
    }

    /// Records a failure.
    ///
    /// # Errors
    /// The same error if it ends the run.
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

    /// Writes the plugin's state to its file if that is due, or at the `end`.
    pub fn save_state(&mut self, end: bool, warnings: &Warnings) {
        if self.services.state.is_none() {
            return;
        }
        self.charged(|stage| {
            let Some(mut state) = stage.services.state() else { return };
            if let Err(error) = if end { state.save() } else { state.save_if_due() } {
                warnings.line(&format!("WARNING: plugin {}: {error}", stage.supervisor.name()));
            }
        });
    }

    /// Returns the time until the stage must be called or its state written although there are no flows; `None` if
    /// never.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        /// A changed state is written after about this time.
        const CARE: Duration = Duration::from_secs(2);
        let tick = self.rhythm.as_ref().map(Rhythm::rest);
        let state = self.services.state.as_ref().map(|_| CARE);
        [tick, state].into_iter().flatten().min()
    }
}

/// Returns the fields that must be decoded for these stages and a format that reads `format`.
#[must_use]
pub fn needed(stages: &[Stage], format: u64) -> u64 {
    let acting = if stages.iter().any(|stage| stage.grants.acts()) {
        // The fields that identify an entry, and those that are sent along with a status or labels.
        field::TUPLES | field::ZONES | field::ID | field::LABELS | field::STATUS
    } else {
        0
    };
    stages.iter().fold(format | acting, |fields, stage| fields | stage.reads()) & field::ALL
}
