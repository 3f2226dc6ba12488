//! Metrics of the tenants. They include those of earlier generations, so that no counter decreases.

use super::{Inner, Running};
use flowgate_metrics::{PolicyMetrics, TenantMetrics};
use flowgate_policy::audit::Audit;

impl Inner {
    /// Returns the current metrics.
    pub(super) fn figures(&self, audit: &Audit) -> PolicyMetrics {
        let figures = |running: &Running| {
            let mut figures = running.figures();
            let before = self.leaving.iter().filter(|other| other.name == running.name).map(Running::figures);
            before.for_each(|before| figures.add(&before));
            if let Some(past) = self.past.get(&running.name) {
                figures.add(past);
            }
            TenantMetrics { refusals: audit.refusals(&running.name), ..figures }
        };
        PolicyMetrics {
            generation: self.generation,
            reloads: self.reloads,
            audit: audit.figures(),
            tenants: self.tenants.iter().map(figures).collect(),
        }
    }

    /// Moves these tenants, which have been replaced, to `leaving`. Of earlier ones that have finished, only the
    /// numbers are kept.
    pub(super) fn leave(&mut self, old: impl IntoIterator<Item = Running>) {
        let (gone, left) = std::mem::take(&mut self.leaving).into_iter().partition(Running::finished);
        self.leaving = left;
        self.leaving.extend(old);
        for running in gone {
            let past = self.past.entry(running.name.clone()).or_default();
            let mut figures = running.figures();
            for plugin in std::mem::take(&mut past.plugins) {
                match figures.plugins.iter_mut().find(|other| other.plugin == plugin.plugin) {
                    Some(same) => same.add(&plugin),
                    None => figures.plugins.push(plugin),
                }
            }
            figures.add(past);
            *past = figures;
        }
    }

    /// Removes the metrics of tenants and plugins that no longer exist.
    pub(super) fn forget(&mut self, audit: &Audit) {
        let Inner { tenants, past, .. } = self;
        let running = |name: &str| tenants.iter().find(|running| running.name == name);
        past.retain(|name, _| running(name).is_some());
        for (name, figures) in past.iter_mut() {
            let now = running(name).map(Running::figures).unwrap_or_default();
            figures.plugins.retain(|plugin| now.plugins.iter().any(|other| other.plugin == plugin.plugin));
        }
        audit.keep(|name| running(name).is_some());
    }
}
