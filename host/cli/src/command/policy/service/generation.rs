//! Generations: the tenants of a loaded policy start together, and take over from those before them.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use super::{super::PolicyError, START, Service, tenant::RunningTenant};
use crate::command::report;
use flowgate_base::{
    files,
    io_error::error_text,
    text::{clean, path_text},
};
use flowgate_config::Diagnostic;
use flowgate_netlink::namespace;
use flowgate_pipeline::loader::offsets;
use flowgate_policy::{Policy, control::WorkerState, neighbours};

/// Time for which each tenant may hold up the others at the start.
const START_OF_EACH: Duration = Duration::from_millis(500);

/// A generation that may take over: its tenants, the errors of those that have not started, and its policy.
type Loaded = (Vec<RunningTenant>, Vec<String>, Arc<Policy>);

impl Service {
    /// Starts all tenants of a policy. If a tenant does not start, it has ended and the others continue without it,
    /// unless it is required or no tenant of the first generation starts. Tenants in `without`, which the operator
    /// leaves out, have ended as well. `meanwhile` is called repeatedly.
    ///
    /// # Errors
    /// The reasons why no tenant was started.
    pub(super) fn start(
        &self,
        policy: &Arc<Policy>,
        generation: u64,
        without: &[String],
        meanwhile: &dyn Fn(),
    ) -> Result<(Vec<RunningTenant>, Vec<Diagnostic>), Vec<Diagnostic>> {
        let plugins = policy.tenants.iter().flat_map(|tenant| &tenant.plugins);
        let compiling = plugins.map(|plugin| plugin.plugin.limits.compile.time).max().unwrap_or_default();
        // Each may have to be compiled, and they share the processors.
        let tenants = u32::try_from(policy.tenants.len()).unwrap_or(u32::MAX);
        let end = Instant::now() + START + compiling + START_OF_EACH.saturating_mul(tenants);
        let offsets = offsets().into();
        let mut identities = Vec::new();
        let mut started = Vec::new();
        for tenant in &policy.tenants {
            let event_source = self.event_source(tenant.namespace.as_ref());
            identities.push(event_source.as_ref().ok().map(|event_source| event_source.identity));
            started.push(match event_source {
                Ok(_) if without.contains(&tenant.name) => {
                    RunningTenant::absent(policy, tenant, generation, "the operator has left it out")
                }
                Ok(event_source) => RunningTenant::start(self, &event_source, policy, tenant, (generation, &offsets)),
                Err(error) => RunningTenant::absent(policy, tenant, generation, &error),
            });
        }
        let _coming = self.coming(&started);
        // Since the file was read, two names may have come to refer to the same namespace.
        let mut mistakes = neighbours::flows(policy, &identities).diagnostics;
        let (mut fatal, mut failed) = (!mistakes.is_empty(), Vec::new());
        for (tenant, running) in policy.tenants.iter().zip(&started) {
            if let Err(why) = running.ready(end, meanwhile) {
                let left_out = without.contains(&tenant.name);
                fatal |= tenant.required && !left_out;
                failed.push((running, why));
            }
        }
        // The tenants have nothing to do with that; those that run go on.
        fatal |= !failed.is_empty() && crate::command::compiling::has_ended();
        // A later generation takes over even then: whether permissions are withdrawn from a tenant must not depend on
        // whether it starts.
        fatal |= generation == 1 && failed.len() == started.len();
        for (running, why) in failed {
            running.abandon();
            if !fatal {
                let reason = why.first().map(|mistake| mistake.message.clone()).unwrap_or_default();
                self.audit.service(generation, &running.name, "ended", Some(reason.clone()));
                running.end(reason);
            }
            mistakes.extend(why);
        }
        if fatal {
            started.iter().for_each(RunningTenant::abandon);
            return Err(mistakes);
        }
        self.audit.shares().divide(started.len());
        Ok((started, mistakes))
    }

    /// Shows the workers of these tenants as starting, until the returned value is dropped.
    fn coming(&self, started: &[RunningTenant]) -> Coming<'_> {
        self.lock().coming = started.iter().map(RunningTenant::observer).collect();
        Coming(self)
    }

    /// Delivers events to these tenants from now on.
    pub(super) fn deliver_to(&self, tenants: &[RunningTenant]) {
        let event_sources = self.event_sources.lock().unwrap_or_else(PoisonError::into_inner);
        for event_source in event_sources.values() {
            let own = tenants.iter().filter(|running| running.is_at(event_source));
            event_source.dispatcher.replace(own.map(RunningTenant::recipient).collect());
        }
        drop(event_sources);
        tenants.iter().for_each(RunningTenant::begin);
    }

    /// Restarts a tenant of the current generation that has ended or whose plugin has failed too often. The new
    /// instance takes over when its plugins have started, and receives the table as it is then.
    ///
    /// # Errors
    /// The reasons why the old instance stays.
    pub(super) fn restart(&self, name: &str, meanwhile: &dyn Fn()) -> Result<(), Vec<String>> {
        let (policy, generation) = {
            let inner = self.lock();
            (inner.policy.clone(), inner.generation)
        };
        let gone = || vec![format!("there is no tenant `{name}`")];
        let tenant = policy.tenants.iter().find(|tenant| tenant.name == name).ok_or_else(gone)?;
        let event_source = self.event_source(tenant.namespace.as_ref()).map_err(|error| vec![error])?;
        // Since the last start, the name may have come to refer to the namespace of another tenant.
        let identities: Vec<Option<namespace::Identity>> = {
            let inner = self.lock();
            let other = |name: &str| inner.tenants.iter().find(|running| running.name == name)?.event_source();
            let identity = |of: &str| if of == name { Some(event_source.identity) } else { other(of) };
            policy.tenants.iter().map(|tenant| identity(&tenant.name)).collect()
        };
        let mistakes = neighbours::flows(&policy, &identities).diagnostics;
        if !mistakes.is_empty() {
            return Err(mistakes.iter().map(ToString::to_string).collect());
        }
        let running = RunningTenant::start(self, &event_source, &policy, tenant, (generation, &offsets().into()));
        let coming = self.coming(std::slice::from_ref(&running));
        let ready = running.ready(Instant::now() + START, meanwhile);
        drop(coming);
        if let Err(mistakes) = ready {
            running.abandon();
            return Err(mistakes.iter().map(ToString::to_string).collect());
        }
        let mut inner = self.lock();
        let Some(place) = inner.tenants.iter_mut().find(|running| running.name == name) else {
            running.abandon();
            return Err(gone());
        };
        place.leave(policy.service.drain);
        place.record_state(WorkerState::Revoked, &self.audit);
        event_source.dispatcher.exchange(&place.recipient(), running.recipient());
        running.begin();
        let title = running.title();
        let old = std::mem::replace(place, running);
        inner.leave([old]);
        report::line(&format!("{title}: it has been restarted"));
        Ok(())
    }

    /// True if the file is reloaded when it changes.
    pub(super) fn follows_changes(&self) -> bool {
        !self.once && self.lock().policy.service.reload_on_change
    }

    /// True if the content of the file has been neither loaded nor refused.
    pub(super) fn has_news(&self) -> bool {
        let content = files::read(&self.file, files::MAX_CONFIGURATION_FILE).ok();
        let mut inner = self.lock();
        if content == inner.tried {
            return false;
        }
        let same = content.as_deref() == Some(inner.policy.text.text.as_bytes());
        if same {
            (inner.tried, inner.refused) = (content, false);
            report::line(&format!(
                "policy: the file is again that of generation {}, which stays in force",
                inner.generation
            ));
        }
        !same
    }

    /// Reads the file.
    ///
    /// # Errors
    /// The reason why it cannot be read, in a list of one.
    fn content(&self) -> Result<Vec<u8>, Vec<String>> {
        if self.once {
            return Err(vec![PolicyError::Once { path: self.file.clone() }.to_string()]);
        }
        let failed = |error| vec![format!("cannot read {}: {}", path_text(&self.file), error_text(&error))];
        files::read(&self.file, files::MAX_CONFIGURATION_FILE).map_err(failed)
    }

    /// Reloads the file, and lets its tenants take over once they have started. `meanwhile` is called repeatedly until
    /// then. Returns the errors of the tenants that have not started.
    ///
    /// # Errors
    /// The reasons why the old tenants continue.
    pub(super) fn reload(&self, without: &[String], meanwhile: &dyn Fn()) -> Result<Vec<String>, Vec<String>> {
        let reported = |list: &[flowgate_config::Diagnostic]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        self.notifier.reloading(&format!("{}; reloading the file", self.state()));
        // The lock is released while the file is being loaded: other threads only read this state.
        let generation = self.lock().generation + 1;
        let content = self.content();
        self.lock().tried = content.as_ref().ok().cloned();
        self.orders().clear();
        let result = content.and_then(|content| {
            let (policy, mistakes, _) = Policy::of_bytes(&self.file, content);
            if !mistakes.is_empty() {
                return Err(reported(&mistakes));
            }
            let unknown = |name: &&String| policy.tenants.iter().all(|tenant| tenant.name != **name);
            if let Some(name) = without.iter().find(unknown) {
                return Err(vec![format!("there is no tenant `{}` that could be left out", clean(name))]);
            }
            let policy = Arc::new(policy);
            let started = self.start(&policy, generation, without, meanwhile);
            let (tenants, failed) = started.map_err(|mistakes| reported(&mistakes))?;
            Ok((tenants, reported(&failed), policy))
        });
        let result = self.take_over(generation, result);
        self.notifier.ready(&self.state());
        result
    }

    /// Lets the tenants of a generation take over, or prints the reasons why there are none.
    fn take_over(&self, generation: u64, loaded: Result<Loaded, Vec<String>>) -> Result<Vec<String>, Vec<String>> {
        let mut inner = self.lock();
        inner.refused = loaded.is_err();
        let [done, failed] = &mut inner.reloads;
        *if loaded.is_ok() { done } else { failed } += 1;
        match loaded {
            Ok((tenants, failed, policy)) => {
                inner.generation = generation;
                let drain = policy.service.drain;
                self.board.end_within(drain + Duration::from_secs(1));
                if inner.policy.needs_restart(&policy) {
                    report::line(
                        "NOTE: `socket`, `buffer`, `cache`, `worker-uids` and `[audit]` keep their values until the service is restarted.",
                    );
                }
                inner.policy = policy;
                let orders = std::mem::take(&mut *self.orders());
                for running in &tenants {
                    if let Some(desired) = orders.get(&running.name) {
                        running.recipient().set(*desired);
                    }
                }
                // The old tenants lose their permissions before the new ones act.
                inner.tenants.iter().for_each(|old| old.leave(drain));
                inner.tenants.iter().for_each(|old| old.record_state(WorkerState::Revoked, &self.audit));
                self.deliver_to(&tenants);
                let old = std::mem::replace(&mut inner.tenants, tenants);
                inner.leave(old);
                inner.forget(&self.audit);
                self.audit.service(generation, "", "reload", None);
                failed.iter().for_each(|reason| report::line(reason));
                report::line(&format!("policy: generation {generation} runs{}", without(&failed)));
                Ok(failed)
            }
            Err(reasons) => {
                self.audit.service(inner.generation, "", "reload-failed", reasons.first().cloned());
                reasons.iter().for_each(|reason| report::line(reason));
                report::line(&format!(
                    "policy: generation {} stays in force; the new file has mistakes",
                    inner.generation
                ));
                Err(reasons)
            }
        }
    }
}

/// Workers are shown as starting while this exists.
struct Coming<'a>(&'a Service);

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.0.lock().coming.clear();
    }
}

/// Returns the suffix of a message if tenants have not started.
pub(super) fn without<T>(failed: &[T]) -> &'static str {
    if failed.is_empty() { "" } else { ", without tenants that have not started" }
}
