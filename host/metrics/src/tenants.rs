//! The metrics of the tenants of a policy. The number of series is bounded: tenants beyond the bound are summed up.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::export::{self, Labels, StageSeries, family, split, with};
use flowgate_base::text::clean;
use flowgate_model::result;
use flowgate_pipeline::{
    counters::Counters,
    stats::{RESULTS, StageStats},
};

/// Maximum number of tenants with series of their own.
const MAX_TENANT_SERIES: usize = 256;
/// Name of the sum of all other tenants.
const OTHER: &str = "other";

/// The states of a tenant.
pub const STATES: [&str; 4] = ["running", "paused", "quarantined", "ended"];

/// The states of a tenant's worker.
pub const WORKER_STATES: [&str; 8] =
    ["starting", "ready", "running", "draining", "revoked", "restarting", "killed", "ended"];

/// The metrics of a tenant. Values that only grow are counted from the start of the service, across reloads and
/// restarts.
#[derive(Clone, Debug, Default)]
pub struct TenantMetrics {
    /// Its name.
    pub name: String,
    /// The generation of the policy that it belongs to.
    pub generation: u64,
    /// Its state: one of [`STATES`].
    pub state: &'static str,
    /// Events in its scope.
    pub events: u64,
    /// Events passed to it.
    pub handed: u64,
    /// Events known to be lost.
    pub lost: u64,
    /// Gaps.
    pub gaps: u64,
    /// Listings of the table after gaps.
    pub resyncs: u64,
    /// Rows that its last plugin passed on.
    pub shown: u64,
    /// Bytes queued for it.
    pub waiting: u64,
    /// Dropped lines of its output.
    pub output_dropped: u64,
    /// Actions that the guard refused, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Its workers, by their states, in the order of [`WORKER_STATES`].
    pub workers: [u64; WORKER_STATES.len()],
    /// Number of workers that were started after another one.
    pub worker_restarts: u64,
    /// CPU time of its workers, in nanoseconds.
    pub worker_nanoseconds: u64,
    /// Number of workers that did not finish, by the reason.
    pub worker_ends: BTreeMap<&'static str, u64>,
    /// Its plugins, by their names within the tenant.
    pub plugins: Vec<StageStats>,
}

impl TenantMetrics {
    /// Adds the values of the same tenant's previous instance: values that only grow are summed up, others are kept.
    /// Plugins that it no longer has are left out.
    pub fn add(&mut self, before: &Self) {
        self.sum(before);
        for plugin in &mut self.plugins {
            if let Some(other) = before.plugins.iter().find(|other| other.plugin == plugin.plugin) {
                plugin.add(other);
            }
        }
    }

    fn sum(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.events, other.events),
            (&mut self.handed, other.handed),
            (&mut self.lost, other.lost),
            (&mut self.gaps, other.gaps),
            (&mut self.resyncs, other.resyncs),
            (&mut self.shown, other.shown),
            (&mut self.output_dropped, other.output_dropped),
            (&mut self.worker_restarts, other.worker_restarts),
            (&mut self.worker_nanoseconds, other.worker_nanoseconds),
        ] {
            *sum = sum.saturating_add(more);
        }
        for (sums, others) in [(&mut self.refusals, &other.refusals), (&mut self.worker_ends, &other.worker_ends)] {
            for (reason, more) in others {
                let sum = sums.entry(reason).or_default();
                *sum = sum.saturating_add(*more);
            }
        }
    }

    /// Returns the number of actions of all its plugins, by [`result`].
    fn actions(&self) -> [u64; RESULTS] {
        let mut all = [0u64; RESULTS];
        for plugin in &self.plugins {
            all.iter_mut().zip(plugin.actions).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        }
        all
    }
}

/// The metrics of a service.
#[derive(Clone, Debug, Default)]
pub struct PolicyMetrics {
    /// The current generation.
    pub generation: u64,
    /// Numbers of successful and of failed reloads.
    pub reloads: [u64; 2],
    /// Number of lines written to the audit, and number of failed writes.
    pub audit: [u64; 2],
    /// Its tenants, in the order of the file.
    pub tenants: Vec<TenantMetrics>,
}

/// Returns the metrics of a service.
pub type MetricsProvider = Arc<dyn Fn() -> PolicyMetrics + Send + Sync>;

/// A metric with one value for the service: name without prefix and `_total`, help, true for a counter, value.
type ServiceMetric = (&'static str, &'static str, bool, fn(&PolicyMetrics) -> u64);

const SERVICE: [ServiceMetric; 4] = [
    ("tenants", "Tenants of the policy that runs", false, |service| service.tenants.len() as u64),
    ("policy_generation", "The generation of the policy that runs", false, |service| service.generation),
    ("audit_lines", "Lines written into the audit", true, |service| service.audit[0]),
    ("audit_failures", "Times that the audit could not be written", true, |service| service.audit[1]),
];

const RELOADS: (&str, &str) = ("policy_reloads", "Reloads of the policy, by what became of them");
const RELOADED: [&str; 2] = ["done", "failed"];

/// A metric with one value for each tenant: see [`ServiceMetric`].
type TenantMetric = (&'static str, &'static str, bool, fn(&TenantMetrics) -> u64);

const TENANTS: [TenantMetric; 10] = [
    ("tenant_generation", "The generation of the policy that the tenant is of", false, |tenant| tenant.generation),
    ("tenant_events", "Events in the tenant's scope", true, |tenant| tenant.events),
    ("tenant_handed_events", "Events that the tenant was handed", true, |tenant| tenant.handed),
    ("tenant_lost_events", "Events of the tenant that are known to be lost", true, |tenant| tenant.lost),
    ("tenant_gaps", "Times that the tenant lost events", true, |tenant| tenant.gaps),
    ("tenant_resyncs", "Listings of the table that made up for that", true, |tenant| tenant.resyncs),
    ("tenant_rows_shown", "Rows that came out of the tenant's last plugin", true, |tenant| tenant.shown),
    ("tenant_waiting_bytes", "Bytes that wait for the tenant", false, |tenant| tenant.waiting),
    ("tenant_output_dropped_lines", "Lines of the tenant's output that were dropped", true, |tenant| {
        tenant.output_dropped
    }),
    ("tenant_worker_restarts", "Workers of the tenant that were started after another one", true, |tenant| {
        tenant.worker_restarts
    }),
];

const STATE: (&str, &str) = ("tenant_state", "1 for the state that the tenant is in, 0 for the others");
const ACTIONS: (&str, &str) = ("tenant_actions", "Actions that the tenant's plugins asked for, by what became of them");
const REFUSALS: (&str, &str) = ("tenant_refusals", "Actions of the tenant that were refused, by the reason");
const WORKERS: (&str, &str) = ("tenant_workers", "Processes that run the tenant's plugins, by their states");
const WORKER_ENDS: (&str, &str) = ("tenant_worker_ends", "Workers of the tenant that did not finish, by the reason");
const WORKER_TIME: (&str, &str) = ("tenant_worker_cpu_seconds", "CPU time of the tenant's workers");

/// Returns true for process metrics that a service exports too; the others are counted for each tenant.
fn is_of_the_service(name: &str) -> bool {
    matches!(name, "gaps" | "lost_events" | "malformed_messages" | "datagrams" | "received_bytes")
}

/// Returns the names of the metrics that only a service with tenants has.
#[must_use]
pub fn tenant_names() -> Vec<String> {
    let service = SERVICE.iter().map(|&(name, _, counter, _)| (name, counter));
    let tenants = TENANTS.iter().map(|&(name, _, counter, _)| (name, counter));
    [(RELOADS.0, true), (STATE.0, false), (ACTIONS.0, true), (REFUSALS.0, true)]
        .into_iter()
        .chain([(WORKERS.0, false), (WORKER_ENDS.0, true), (WORKER_TIME.0, true)])
        .chain(service)
        .chain(tenants)
        .map(|(name, counter)| format!("{}_{name}{}", export::PREFIX, if counter { "_total" } else { "" }))
        .collect()
}

/// Tenants and counters, as one collector.
struct TenantCollector {
    provider: MetricsProvider,
    counters: Counters,
}

impl fmt::Debug for TenantCollector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TenantCollector").field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// Returns a registry with this collector only.
pub(super) fn registry(provider: MetricsProvider, counters: Counters) -> Registry {
    let mut registry = Registry::with_prefix(export::PREFIX);
    registry.register_collector(Box::new(TenantCollector { provider, counters }));
    registry
}

/// A tenant with series of its own, or the sum of those beyond the bound.
struct SeriesGroup {
    labels: Labels,
    figures: TenantMetrics,
    /// The number of tenants in each state of [`STATES`].
    states: [u64; STATES.len()],
    actions: [u64; RESULTS],
    plugins: Vec<StageSeries>,
}

impl SeriesGroup {
    fn of(figures: TenantMetrics) -> Self {
        let labels = vec![("tenant", clean(&figures.name))];
        let plugins = figures.plugins.iter().enumerate().map(|(number, stats)| {
            let labels = with(&labels, ("plugin", clean(&stats.plugin)));
            StageSeries::new(with(&labels, ("stage", number.to_string())), stats.clone())
        });
        let plugins = plugins.collect();
        let states = STATES.map(|state| u64::from(state == figures.state));
        SeriesGroup { states, actions: figures.actions(), plugins, labels, figures }
    }

    /// Adds a tenant; its plugins are summed up with those of the group.
    fn take(&mut self, more: TenantMetrics) {
        let SeriesGroup { labels, figures, states, actions, plugins } = self;
        figures.sum(&more);
        figures.generation = figures.generation.max(more.generation);
        figures.waiting = figures.waiting.saturating_add(more.waiting);
        figures.workers.iter_mut().zip(more.workers).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        let more = SeriesGroup::of(more);
        states.iter_mut().zip(more.states).for_each(|(sum, more)| *sum += more);
        actions.iter_mut().zip(more.actions).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        for plugin in more.plugins {
            match plugins.first_mut() {
                None => {
                    let labels = with(&with(labels, ("plugin", OTHER.into())), ("stage", "0".into()));
                    plugins.push(StageSeries { labels, ..plugin });
                }
                Some(all) => {
                    all.stats.add(&plugin.stats);
                    all.stats.memory = all.stats.memory.saturating_add(plugin.stats.memory);
                    all.stats.state_bytes = all.stats.state_bytes.saturating_add(plugin.stats.state_bytes);
                    all.health.iter_mut().zip(plugin.health).for_each(|(sum, more)| *sum += more);
                }
            }
        }
    }
}

/// Groups tenants. A tenant with the name of the sum is part of the sum, if there is one.
fn groups(tenants: Vec<TenantMetrics>) -> Vec<SeriesGroup> {
    let crowded = tenants.len() > MAX_TENANT_SERIES;
    let mut groups = Vec::new();
    let mut others: Option<SeriesGroup> = None;
    for tenant in tenants {
        if !crowded || groups.len() < MAX_TENANT_SERIES && tenant.name != OTHER {
            groups.push(SeriesGroup::of(tenant));
        } else {
            let none = || SeriesGroup::of(TenantMetrics { name: OTHER.into(), ..TenantMetrics::default() });
            others.get_or_insert_with(none).take(tenant);
        }
    }
    groups.extend(others);
    groups
}

impl Collector for TenantCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut service = (self.provider)();
        export::build(&mut encoder)?;
        export::whole(&mut encoder, &self.counters, is_of_the_service)?;
        for (name, help, counter, value) in SERVICE {
            export::one(&mut encoder, name, help, counter, value(&service))?;
        }
        let reloads = split(&Labels::new(), "result", RELOADED.into_iter().zip(service.reloads));
        family(&mut encoder, RELOADS.0, RELOADS.1, true, reloads)?;
        let groups = groups(std::mem::take(&mut service.tenants));
        for (name, help, counter, value) in TENANTS {
            let values = groups.iter().map(|group| (&group.labels, value(&group.figures)));
            family(&mut encoder, name, help, counter, values)?;
        }
        let states = |group: &SeriesGroup| split(&group.labels, "state", STATES.into_iter().zip(group.states));
        family(&mut encoder, STATE.0, STATE.1, false, groups.iter().flat_map(states))?;
        let actions =
            |group: &SeriesGroup| split(&group.labels, "result", result::NAMES.iter().copied().zip(group.actions));
        family(&mut encoder, ACTIONS.0, ACTIONS.1, true, groups.iter().flat_map(actions))?;
        if groups.iter().any(|group| !group.figures.refusals.is_empty()) {
            let refusals = |group: &SeriesGroup| split(&group.labels, "reason", group.figures.refusals.clone());
            family(&mut encoder, REFUSALS.0, REFUSALS.1, true, groups.iter().flat_map(refusals))?;
        }
        let workers =
            |group: &SeriesGroup| split(&group.labels, "state", WORKER_STATES.into_iter().zip(group.figures.workers));
        family(&mut encoder, WORKERS.0, WORKERS.1, false, groups.iter().flat_map(workers))?;
        if groups.iter().any(|group| !group.figures.worker_ends.is_empty()) {
            let ends = |group: &SeriesGroup| split(&group.labels, "reason", group.figures.worker_ends.clone());
            family(&mut encoder, WORKER_ENDS.0, WORKER_ENDS.1, true, groups.iter().flat_map(ends))?;
        }
        let times = groups
            .iter()
            .map(|group| (&group.labels, Duration::from_nanos(group.figures.worker_nanoseconds).as_secs_f64()));
        family(&mut encoder, WORKER_TIME.0, WORKER_TIME.1, true, times)?;
        let plugins: Vec<StageSeries> = groups.into_iter().flat_map(|group| group.plugins).collect();
        export::stages(&mut encoder, &plugins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantMetrics {
        let mut actions = [0; RESULTS];
        actions[0] = 2;
        let plugin = StageStats { plugin: "p\n\"".into(), calls: 3, memory: 10, actions, ..StageStats::default() };
        TenantMetrics {
            name: name.into(),
            generation: 4,
            state: "paused",
            events: 5,
            waiting: 6,
            refusals: BTreeMap::from([("gone", 7)]),
            workers: [0, 0, 1, 0, 0, 0, 0, 0],
            worker_restarts: 2,
            worker_nanoseconds: 1_500_000_000,
            worker_ends: BTreeMap::from([("overuse", 3)]),
            plugins: vec![plugin.clone(), plugin],
            ..TenantMetrics::default()
        }
    }

    fn text(tenants: Vec<TenantMetrics>) -> String {
        let service = PolicyMetrics { generation: 4, reloads: [3, 1], audit: [9, 0], tenants };
        export::encode(&registry(Arc::new(move || service.clone()), Counters::default()))
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }

    #[test]
    fn every_name_is_exported() {
        let text = text(vec![tenant("blue")]);
        for name in tenant_names() {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name} is not in\n{text}");
        }
        for line in [
            "flowgate_tenants 1",
            "flowgate_policy_reloads_total{result=\"failed\"} 1",
            "flowgate_tenant_events_total{tenant=\"blue\"} 5",
            "flowgate_tenant_state{tenant=\"blue\",state=\"paused\"} 1",
            "flowgate_tenant_state{tenant=\"blue\",state=\"running\"} 0",
            "flowgate_tenant_actions_total{tenant=\"blue\",result=\"done\"} 4",
            "flowgate_tenant_refusals_total{tenant=\"blue\",reason=\"gone\"} 7",
            "flowgate_tenant_workers{tenant=\"blue\",state=\"running\"} 1",
            "flowgate_tenant_workers{tenant=\"blue\",state=\"restarting\"} 0",
            "flowgate_tenant_worker_restarts_total{tenant=\"blue\"} 2",
            "flowgate_tenant_worker_ends_total{tenant=\"blue\",reason=\"overuse\"} 3",
            "flowgate_tenant_worker_cpu_seconds_total{tenant=\"blue\"} 1.5",
            "flowgate_stage_calls_total{tenant=\"blue\",plugin=\"p\\\\n\\\"\",stage=\"1\"} 3.0",
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn beyond_the_bound_tenants_are_one() {
        let mut tenants: Vec<TenantMetrics> =
            (0..MAX_TENANT_SERIES + 40).map(|number| tenant(&format!("t{number}"))).collect();
        let few = text(tenants[..MAX_TENANT_SERIES].to_vec());
        assert!(few.contains("tenant=\"t255\"") && !few.contains("tenant=\"other\""));
        // A tenant with the name of the sum.
        tenants[0].name = OTHER.into();
        let text = text(tenants);
        for line in [
            "flowgate_tenants 296",
            "flowgate_tenant_events_total{tenant=\"t256\"} 5",
            "flowgate_tenant_events_total{tenant=\"other\"} 200",
            "flowgate_tenant_waiting_bytes{tenant=\"other\"} 240",
            "flowgate_tenant_generation{tenant=\"other\"} 4",
            "flowgate_tenant_state{tenant=\"other\",state=\"paused\"} 40",
            "flowgate_tenant_actions_total{tenant=\"other\",result=\"done\"} 160",
            "flowgate_tenant_refusals_total{tenant=\"other\",reason=\"gone\"} 280",
            "flowgate_tenant_workers{tenant=\"other\",state=\"running\"} 40",
            "flowgate_tenant_worker_restarts_total{tenant=\"other\"} 80",
            "flowgate_tenant_worker_ends_total{tenant=\"other\",reason=\"overuse\"} 120",
            "flowgate_tenant_worker_cpu_seconds_total{tenant=\"other\"} 60.0",
            "flowgate_stage_calls_total{tenant=\"other\",plugin=\"other\",stage=\"0\"} 240.0",
            "flowgate_stage_memory_bytes{tenant=\"other\",plugin=\"other\",stage=\"0\"} 800.0",
            "flowgate_stage_health{tenant=\"other\",plugin=\"other\",stage=\"0\",state=\"running\"} 80",
        ] {
            has(&text, line);
        }
        assert!(
            !text.contains("tenant=\"t257\"")
                && text.matches("flowgate_tenant_events_total{").count() == MAX_TENANT_SERIES + 1
        );
    }

    #[test]
    fn what_a_tenant_did_before_counts() {
        let mut now = TenantMetrics { events: 1, waiting: 1, state: "running", ..tenant("blue") };
        now.plugins.truncate(1);
        let mut before = tenant("blue");
        before.plugins[1].plugin = "gone".into();
        now.add(&before);
        assert_eq!((now.events, now.waiting, now.state, now.refusals["gone"]), (6, 1, "running", 14));
        assert_eq!((now.plugins.len(), now.plugins[0].calls, now.plugins[0].memory), (1, 6, 10));
    }
}
