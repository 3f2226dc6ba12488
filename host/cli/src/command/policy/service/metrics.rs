//! Metrics of the tenants. They include those of earlier generations, so that no counter decreases.

use super::{Inner, RunningTenant};
use flowgate_metrics::{PolicyMetrics, TenantMetrics};
use flowgate_policy::{audit::Audit, control::WorkerState};

impl Inner {
    /// Returns the current metrics.
    pub(super) fn metrics(&self, audit: &Audit) -> PolicyMetrics {
        let metrics = |running: &RunningTenant| {
            let mut metrics = running.metrics();
            let before = self.leaving.iter().filter(|other| other.name == running.name);
            for (finished, before) in before.map(|other| (other.finished(), other.metrics())) {
                metrics.add(&before);
                if !finished {
                    // Its worker is there beside the new one.
                    metrics.workers.iter_mut().zip(before.workers).for_each(|(sum, more)| *sum += more);
                }
            }
            for coming in self.coming.iter().filter(|coming| coming.name == running.name) {
                let state = coming.worker().state;
                metrics.workers.iter_mut().zip(WorkerState::ALL).for_each(|(sum, of)| *sum += u64::from(of == state));
            }
            if let Some(past) = self.past.get(&running.name) {
                metrics.add(past);
            }
            TenantMetrics { refusals: audit.refusals(&running.name), ..metrics }
        };
        PolicyMetrics {
            generation: self.generation,
            reloads: self.reloads,
            audit: audit.figures(),
            tenants: self.tenants.iter().map(metrics).collect(),
        }
    }

    /// Moves these tenants, which have been replaced, to `leaving`. Of earlier ones that have finished, only the
    /// numbers are kept.
    pub(super) fn leave(&mut self, old: impl IntoIterator<Item = RunningTenant>) {
        let (gone, left) = std::mem::take(&mut self.leaving).into_iter().partition(RunningTenant::finished);
        self.leaving = left;
        self.leaving.extend(old);
        for running in gone {
            let past = self.past.entry(running.name.clone()).or_default();
            let mut metrics = running.metrics();
            for plugin in std::mem::take(&mut past.plugins) {
                match metrics.plugins.iter_mut().find(|other| other.plugin == plugin.plugin) {
                    Some(same) => same.add(&plugin),
                    None => metrics.plugins.push(plugin),
                }
            }
            metrics.add(past);
            *past = metrics;
        }
    }

    /// Removes the metrics of tenants and plugins that no longer exist.
    pub(super) fn forget(&mut self, audit: &Audit) {
        let Inner { tenants, past, .. } = self;
        let running = |name: &str| tenants.iter().find(|running| running.name == name);
        past.retain(|name, _| running(name).is_some());
        for (name, metrics) in past.iter_mut() {
            let now = running(name).map(RunningTenant::metrics).unwrap_or_default();
            metrics.plugins.retain(|plugin| now.plugins.iter().any(|other| other.plugin == plugin.plugin));
        }
        audit.keep(|name| running(name).is_some());
    }
}
