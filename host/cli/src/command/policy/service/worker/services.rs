//! What this process keeps for the plugins of a worker: their logs, states and statistics, across restarts of the
//! worker.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::Job;
use flowgate_base::{TokenBucket, Warnings, files::Trust, text::clean};
use flowgate_config::Diagnostic;
use flowgate_model::grants::Grants;
use flowgate_pipeline::{
    loader::StateStores,
    stats::{SharedStageStats, StageStats},
};
use flowgate_policy::{Policy, Tenant};
use flowgate_runtime::{
    Limits,
    services::{
        log::Log,
        state::{MAX_VALUE, State},
    },
};
use flowgate_worker::{
    Link,
    protocol::{Report, kind, parts},
    setup::Setup,
};

/// Warnings of a worker in ten seconds that are passed on.
const WARNINGS: u64 = 100;
/// Minimum interval between two reports of a worker whose events are gathered and that has no pause, as a multiple of
/// the time for which they are: each wakes this process, and costs as much as some ten events.
const REPORTS: u32 = 3;
const REPORTS_MAX: std::time::Duration = std::time::Duration::from_millis(100);

/// A plugin, as far as this process keeps something for it.
pub(super) struct Plugin {
    /// Its full name.
    pub title: String,
    pub grants: Grants,
    pub limits: Limits,
    log: Log,
    state: Option<Arc<Mutex<State>>>,
    /// Entries of the state that the worker was set up with.
    reported: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The beginning of a value that arrives in parts.
    part: Vec<u8>,
    /// Its statistics, and the sum of those of earlier workers.
    stats: SharedStageStats,
    before: StageStats,
}

/// The plugins of a tenant.
pub(super) struct Services {
    plugins: Vec<Plugin>,
    warnings: TokenBucket,
    /// Number of warnings that have been dropped since one was passed on.
    silent: u64,
}

impl Services {
    /// Opens logs and states.
    ///
    /// # Errors
    /// Files of states that cannot be used, with their places in the policy.
    pub(super) fn open(
        policy: &Policy,
        tenant: &Tenant,
        states: &StateStores,
        generation: u64,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut problems = Vec::new();
        let mut plugins = Vec::new();
        for plugin in &tenant.plugins {
            let (title, grants) = (tenant.title(plugin), plugin.plugin.grants.value.clone());
            let state = match states.open(&title, &grants, plugin.plugin.limits.state, Trust::Exclusive) {
                Ok(state) => state,
                Err(error) => {
                    problems.push(plugin.plugin.diagnostic(&policy.text, &plugin.options, None, &error));
                    continue;
                }
            };
            let log = Log::of(&clean(&format!("{title} (generation {generation})")));
            let stats = SharedStageStats::default();
            stats.lock().plugin.clone_from(&title);
            plugins.push(Plugin {
                log: if grants.log { log } else { Log::default() },
                limits: plugin.plugin.limits.instance,
                title,
                grants,
                state,
                reported: BTreeMap::new(),
                part: Vec::new(),
                stats,
                before: StageStats::default(),
            });
        }
        let warnings = TokenBucket::new(WARNINGS, std::time::Duration::from_secs(10));
        if problems.is_empty() { Ok(Services { plugins, warnings, silent: 0 }) } else { Err(problems) }
    }

    /// Returns the number of plugins.
    pub(super) fn count(&self) -> u16 {
        u16::try_from(self.plugins.len()).unwrap_or(u16::MAX)
    }

    /// Returns a plugin by its index.
    pub(super) fn plugin(&self, index: u16) -> Option<&Plugin> {
        self.plugins.get(usize::from(index))
    }

    /// Returns the statistics of all plugins.
    pub(super) fn stats(&self) -> Vec<SharedStageStats> {
        self.plugins.iter().map(|plugin| plugin.stats.clone()).collect()
    }

    /// Returns the file of the setup of a worker, and notes what it contains.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(super) fn setup(&mut self, job: &Job, code: &[File]) -> io::Result<File> {
        let mut setup = Setup::of(&job.tenant.spec(), &job.policy.labels.labels(), &job.offsets);
        (setup.interpreted, setup.checked) = (job.execution.is_interpreted(), job.execution.limit.is_some());
        setup.time = u64::try_from(job.tenant.limits.time.as_nanos()).unwrap_or(u64::MAX);
        setup.actions = usize::try_from(job.tenant.limits.in_flight).unwrap_or(usize::MAX);
        let interval = job.gathering.time.saturating_mul(REPORTS).min(REPORTS_MAX);
        setup.interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        for (plugin, setup) in self.plugins.iter_mut().zip(&mut setup.plugins) {
            plugin.before = plugin.stats.lock().clone();
            plugin.part.clear();
            plugin.reported = plugin.entries();
            setup.state.clone_from(&plugin.reported);
        }
        setup.to_file(code)
    }

    /// Tells a worker what has changed in the states since it was set up, and that it may begin. Returns false if it
    /// does not receive that before the deadline.
    ///
    /// # Errors
    /// The worker has ended.
    pub(super) fn begin(&mut self, calls: &mut Link, deadline: Instant) -> io::Result<bool> {
        for (index, plugin) in self.plugins.iter_mut().enumerate() {
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            let (reported, now) = (std::mem::take(&mut plugin.reported), plugin.entries());
            for key in reported.keys().filter(|key| !now.contains_key(*key)) {
                let frame = calls.frame(kind::STATE).u16(index).bytes(key).bool(false);
                if !calls.send_within(frame, deadline)? {
                    return Ok(false);
                }
            }
            for (key, value) in now.iter().filter(|(key, value)| reported.get(*key) != Some(*value)) {
                for (part, more) in parts(value) {
                    let frame = calls.frame(kind::STATE).u16(index).bytes(key).bool(true).bytes(part);
                    if !calls.send_within(if more { frame.more() } else { frame }, deadline)? {
                        return Ok(false);
                    }
                }
            }
        }
        calls.send_within(calls.frame(kind::BEGIN), deadline)
    }

    /// Does what a report asks of the services, and returns any other report.
    pub(super) fn take<'a>(&mut self, job: &Job, report: Report<'a>) -> Option<Report<'a>> {
        match report {
            Report::Warning(text) => self.warn(job, text),
            Report::Log { plugin, level, message } => self.log(plugin, level, message),
            Report::State { plugin, key, value, more } => self.change(job, plugin, key, value, more),
            other => return Some(other),
        }
        None
    }

    /// Passes a warning on, unless there are too many.
    fn warn(&mut self, job: &Job, text: &str) {
        if self.warnings.take(1) == 0 {
            self.silent += 1;
            return;
        }
        let warnings: Warnings = job.warnings();
        match std::mem::take(&mut self.silent) {
            0 => {}
            silent => warnings.line(&format!("WARNING: {silent} warnings of its worker were dropped")),
        }
        warnings.line(text);
    }

    /// Writes a line of a plugin's log.
    fn log(&self, plugin: u16, level: u8, message: &str) {
        if let Some(plugin) = self.plugin(plugin) {
            plugin.log.write(level, message);
        }
    }

    /// Applies a change to a plugin's state, unless another generation has taken over.
    fn change(&mut self, job: &Job, plugin: u16, key: &[u8], value: Option<&[u8]>, more: bool) {
        let Some(plugin) = self.plugins.get_mut(usize::from(plugin)) else { return };
        if job.recipient.is_superseded() {
            return;
        }
        let Some(state) = &plugin.state else { return };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        match value {
            None => drop(state.remove(key)),
            Some(value) => {
                // A value that is too long is not kept, as within the worker.
                if plugin.part.len() <= MAX_VALUE {
                    plugin.part.extend_from_slice(value);
                }
                if !more {
                    let value = std::mem::take(&mut plugin.part);
                    let _ = state.set(key.to_vec(), value);
                }
            }
        }
    }

    /// Takes over statistics of a plugin.
    pub(super) fn statistics(&mut self, plugin: u16, stats: StageStats) {
        let Some(plugin) = self.plugins.get_mut(usize::from(plugin)) else { return };
        let mut stats = StageStats { plugin: plugin.title.clone(), ..stats };
        stats.last_error = stats.last_error.map(|error| clean(&error));
        stats.add(&plugin.before);
        *plugin.stats.lock() = stats;
    }

    /// Writes states to their files if that is due.
    pub(super) fn save(&self) {
        for state in self.plugins.iter().filter_map(|plugin| plugin.state.as_ref()) {
            // It is tried again; at the end the error is reported.
            let _ = state.lock().unwrap_or_else(PoisonError::into_inner).save_if_due();
        }
    }

    /// Writes all states to their files.
    pub(super) fn save_all(&self, warnings: &Warnings) {
        for plugin in &self.plugins {
            let Some(state) = &plugin.state else { continue };
            if let Err(error) = state.lock().unwrap_or_else(PoisonError::into_inner).save() {
                warnings.line(&format!("WARNING: plugin {}: {error}", plugin.title));
            }
        }
    }
}

impl Plugin {
    fn entries(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let state = self.state.as_ref().map(|state| state.lock().unwrap_or_else(PoisonError::into_inner));
        state.map(|state| state.entries().clone()).unwrap_or_default()
    }
}
