//! What is exported of the tenants of a policy. The number of series is bounded: beyond so many tenants the rest is summed up.

use std::{collections::BTreeMap, fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::export::{self, Labels, Shown, family, split, with};
use flowgate_base::text::clean;
use flowgate_model::result;
use flowgate_pipeline::{
    counters::Counters,
    stats::{RESULTS, StageStats},
};

/// Tenants with series of their own.
const OWN: usize = 256;
/// What the others are called together.
const OTHER: &str = "other";

/// States that a tenant may be in.
pub const STATES: [&str; 4] = ["running", "paused", "quarantined", "ended"];

/// What is known of a tenant. What only grows is counted from the start of the service on, over reloads and restarts.
#[derive(Clone, Debug, Default)]
pub struct TenantFigures {
    /// What it is called.
    pub name: String,
    /// Which generation of the policy it is of.
    pub generation: u64,
    /// Its state: one of [`STATES`].
    pub state: &'static str,
    /// Events in its scope.
    pub events: u64,
    /// Events that it was handed.
    pub handed: u64,
    /// Events that are known to be lost.
    pub lost: u64,
    /// Gaps.
    pub gaps: u64,
    /// Listings of the table that made up for gaps.
    pub resyncs: u64,
    /// Rows that came out of its last plugin.
    pub shown: u64,
    /// Bytes that wait for it.
    pub waiting: u64,
    /// Lines of its output that were dropped.
    pub output_dropped: u64,
    /// Actions that the guard refused, by its reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Its plugins, by their names within the tenant.
    pub plugins: Vec<StageStats>,
}

impl TenantFigures {
    /// Takes in what the same tenant did before: what only grows is summed up, what it is now stays. Plugins that it does not have
    /// any more are left out.
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
        ] {
            *sum = sum.saturating_add(more);
        }
        for (reason, more) in &other.refusals {
            let sum = self.refusals.entry(reason).or_default();
            *sum = sum.saturating_add(*more);
        }
    }

    /// What became of the actions of all its plugins, by [`result`].
    fn actions(&self) -> [u64; RESULTS] {
        let mut all = [0u64; RESULTS];
        for plugin in &self.plugins {
            all.iter_mut().zip(plugin.actions).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        }
        all
    }
}

/// What is known of a service.
#[derive(Clone, Debug, Default)]
pub struct PolicyFigures {
    /// The generation that runs.
    pub generation: u64,
    /// Reloads that were done, and that failed.
    pub reloads: [u64; 2],
    /// Lines of the audit that were written, and times that none could be.
    pub audit: [u64; 2],
    /// Its tenants, in the order of the file.
    pub tenants: Vec<TenantFigures>,
}

/// Looks at a service.
pub type Look = Arc<dyn Fn() -> PolicyFigures + Send + Sync>;

/// A metric with one value for the service: name without prefix and `_total`, help, whether it is a counter, value.
type PerService = (&'static str, &'static str, bool, fn(&PolicyFigures) -> u64);

const SERVICE: [PerService; 4] = [
    ("tenants", "Tenants of the policy that runs", false, |service| service.tenants.len() as u64),
    ("policy_generation", "The generation of the policy that runs", false, |service| service.generation),
    ("audit_lines", "Lines written into the audit", true, |service| service.audit[0]),
    ("audit_failures", "Times that the audit could not be written", true, |service| service.audit[1]),
];

const RELOADS: (&str, &str) = ("policy_reloads", "Reloads of the policy, by what became of them");
const RELOADED: [&str; 2] = ["done", "failed"];

/// A metric with one value for each tenant: as [`PerService`].
type PerTenant = (&'static str, &'static str, bool, fn(&TenantFigures) -> u64);

const TENANTS: [PerTenant; 9] = [
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
];

const STATE: (&str, &str) = ("tenant_state", "1 for the state that the tenant is in, 0 for the others");
const ACTIONS: (&str, &str) = ("tenant_actions", "Actions that the tenant's plugins asked for, by what became of them");
const REFUSALS: (&str, &str) = ("tenant_refusals", "Actions of the tenant that were refused, by the reason");

/// What of the whole is exported too: the rest is counted for each tenant.
fn is_of_the_service(name: &str) -> bool {
    matches!(name, "gaps" | "lost_events" | "malformed_messages" | "datagrams" | "received_bytes")
}

/// The names of all metrics that only a service with tenants has.
#[must_use]
pub fn tenant_names() -> Vec<String> {
    let service = SERVICE.iter().map(|&(name, _, counter, _)| (name, counter));
    let tenants = TENANTS.iter().map(|&(name, _, counter, _)| (name, counter));
    [(RELOADS.0, true), (STATE.0, false), (ACTIONS.0, true), (REFUSALS.0, true)]
        .into_iter()
        .chain(service)
        .chain(tenants)
        .map(|(name, counter)| format!("{}_{name}{}", export::PREFIX, if counter { "_total" } else { "" }))
        .collect()
}

/// Tenants and counters, as one collector.
struct Export {
    look: Look,
    counters: Counters,
}

impl fmt::Debug for Export {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Export").field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// A registry of nothing but this.
pub(super) fn registry(look: Look, counters: Counters) -> Registry {
    let mut registry = Registry::with_prefix(export::PREFIX);
    registry.register_collector(Box::new(Export { look, counters }));
    registry
}

/// What has series of its own: a tenant, or all that are beyond the bound.
struct Group {
    labels: Labels,
    figures: TenantFigures,
    /// How many tenants are in each state of [`STATES`].
    states: [u64; STATES.len()],
    actions: [u64; RESULTS],
    plugins: Vec<Shown>,
}

impl Group {
    fn of(figures: TenantFigures) -> Self {
        let labels = vec![("tenant", clean(&figures.name))];
        let plugins = figures.plugins.iter().enumerate().map(|(number, stats)| {
            let labels = with(&labels, ("plugin", clean(&stats.plugin)));
            Shown::new(with(&labels, ("stage", number.to_string())), stats.clone())
        });
        let plugins = plugins.collect();
        let states = STATES.map(|state| u64::from(state == figures.state));
        Group { states, actions: figures.actions(), plugins, labels, figures }
    }

    /// Takes in one more tenant, whose plugins become one with those that are here.
    fn take(&mut self, more: TenantFigures) {
        let Group { labels, figures, states, actions, plugins } = self;
        figures.sum(&more);
        figures.generation = figures.generation.max(more.generation);
        figures.waiting = figures.waiting.saturating_add(more.waiting);
        let more = Group::of(more);
        states.iter_mut().zip(more.states).for_each(|(sum, more)| *sum += more);
        actions.iter_mut().zip(more.actions).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        for plugin in more.plugins {
            match plugins.first_mut() {
                None => {
                    let labels = with(&with(labels, ("plugin", OTHER.into())), ("stage", "0".into()));
                    plugins.push(Shown { labels, ..plugin });
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

/// Tenants in groups. One that is itself called as the others are together is among these, if there are others.
fn groups(tenants: Vec<TenantFigures>) -> Vec<Group> {
    let crowded = tenants.len() > OWN;
    let mut groups = Vec::new();
    let mut others: Option<Group> = None;
    for tenant in tenants {
        if !crowded || groups.len() < OWN && tenant.name != OTHER {
            groups.push(Group::of(tenant));
        } else {
            let none = || Group::of(TenantFigures { name: OTHER.into(), ..TenantFigures::default() });
            others.get_or_insert_with(none).take(tenant);
        }
    }
    groups.extend(others);
    groups
}

impl Collector for Export {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut service = (self.look)();
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
        let states = |group: &Group| split(&group.labels, "state", STATES.into_iter().zip(group.states));
        family(&mut encoder, STATE.0, STATE.1, false, groups.iter().flat_map(states))?;
        let actions = |group: &Group| split(&group.labels, "result", result::NAMES.iter().copied().zip(group.actions));
        family(&mut encoder, ACTIONS.0, ACTIONS.1, true, groups.iter().flat_map(actions))?;
        if groups.iter().any(|group| !group.figures.refusals.is_empty()) {
            let refusals = |group: &Group| split(&group.labels, "reason", group.figures.refusals.clone());
            family(&mut encoder, REFUSALS.0, REFUSALS.1, true, groups.iter().flat_map(refusals))?;
        }
        let plugins: Vec<Shown> = groups.into_iter().flat_map(|group| group.plugins).collect();
        export::stages(&mut encoder, &plugins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantFigures {
        let mut actions = [0; RESULTS];
        actions[0] = 2;
        let plugin = StageStats { plugin: "p\n\"".into(), calls: 3, memory: 10, actions, ..StageStats::default() };
        TenantFigures {
            name: name.into(),
            generation: 4,
            state: "paused",
            events: 5,
            waiting: 6,
            refusals: BTreeMap::from([("gone", 7)]),
            plugins: vec![plugin.clone(), plugin],
            ..TenantFigures::default()
        }
    }

    fn text(tenants: Vec<TenantFigures>) -> String {
        let service = PolicyFigures { generation: 4, reloads: [3, 1], audit: [9, 0], tenants };
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
            "flowgate_stage_calls_total{tenant=\"blue\",plugin=\"p\\\\n\\\"\",stage=\"1\"} 3.0",
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn beyond_the_bound_tenants_are_one() {
        let mut tenants: Vec<TenantFigures> = (0..OWN + 40).map(|number| tenant(&format!("t{number}"))).collect();
        let few = text(tenants[..OWN].to_vec());
        assert!(few.contains("tenant=\"t255\"") && !few.contains("tenant=\"other\""));
        // One that is called as they are does not get in the way.
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
            "flowgate_stage_calls_total{tenant=\"other\",plugin=\"other\",stage=\"0\"} 240.0",
            "flowgate_stage_memory_bytes{tenant=\"other\",plugin=\"other\",stage=\"0\"} 800.0",
            "flowgate_stage_health{tenant=\"other\",plugin=\"other\",stage=\"0\",state=\"running\"} 80",
        ] {
            has(&text, line);
        }
        assert!(!text.contains("tenant=\"t257\"") && text.matches("flowgate_tenant_events_total{").count() == OWN + 1);
    }

    #[test]
    fn what_a_tenant_did_before_counts() {
        let mut now = TenantFigures { events: 1, waiting: 1, state: "running", ..tenant("blue") };
        now.plugins.truncate(1);
        let mut before = tenant("blue");
        before.plugins[1].plugin = "gone".into();
        now.add(&before);
        assert_eq!((now.events, now.waiting, now.state, now.refusals["gone"]), (6, 1, "running", 14));
        assert_eq!((now.plugins.len(), now.plugins[0].calls, now.plugins[0].memory), (1, 6, 10));
    }
}
