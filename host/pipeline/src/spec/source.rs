//! Sources as values, and what they ask the kernel for.

use std::{borrow::Cow, path::PathBuf};

use super::Spec;
use crate::entries::Batch;
use flowgate_model::{EventGroups, Selection, Table};
use flowgate_netlink::{
    Deletion, DumpFilter, DumpKind, EncodeError, ExpectationEntry, FlowEntry, Listing, Statistics, Stop,
    encode::{expectations, flows},
    filter::Condition,
    group,
    kernel_dump::Query,
};
use flowgate_recording::{
    Recording, RecordingError, RecordingInput, RecordingKind, RecordingSelection, RecordingSource, Speed,
};

/// Where the entries of a pipeline come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A table of the kernel as it is.
    Dump(Dump),
    /// The one entry with the tuple of this batch of one row, from the kernel.
    Lookup(Batch),
    /// The rows of this batch; the kernel is not asked.
    Given(Batch),
    /// Events of the kernel.
    Events(Events),
    /// A recording.
    Recording(RecordingSpec),
    /// Counters of the kernel, for a format of statistics.
    Statistics(Statistics),
    /// None: the kernel deletes without entries being read.
    Deletion(Deletion),
}

/// A table that is dumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dump {
    /// The table.
    pub table: Table,
    /// The family (AF_INET 2, AF_INET6 10), of tables for which the kernel has no other filter; `None` for both.
    pub family: Option<u8>,
    /// True if the kernel zeroes the counters of the flows that it lists.
    pub zero: bool,
}

impl Dump {
    /// Returns a dump of the table of flows.
    #[must_use]
    pub fn flows() -> Self {
        Dump { table: Table::Conntrack, family: None, zero: false }
    }

    /// Returns what the kernel is asked to dump.
    #[must_use]
    pub fn kind(self) -> DumpKind {
        match self.table {
            Table::Conntrack if self.zero => DumpKind::FlowsAndZero,
            table => DumpKind::Table(table),
        }
    }
}

/// Events of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// True for events of expectations instead of flows.
    pub expectations: bool,
    /// The groups of flow events that are shown.
    pub groups: EventGroups,
    /// Initial receive buffer in bytes; `None` for
    /// [`EVENT_BUFFER`](flowgate_netlink::listener::EVENT_BUFFER).
    pub buffer: Option<usize>,
    /// Limit of the receive buffer in bytes; `None` for
    /// [`EVENT_BUFFER_MAX`](flowgate_netlink::listener::EVENT_BUFFER_MAX).
    pub buffer_max: Option<usize>,
    /// True if the kernel keeps entries until their DESTROY event has been delivered.
    pub reliable: bool,
    /// True if events of flows that were lost are made up for from the table.
    pub resync: bool,
    /// True for the events of all network namespaces that have an id in this one.
    pub all_namespaces: bool,
}

impl Events {
    /// Returns the groups that the socket joins, bits of [`group`].
    #[must_use]
    pub fn joined_groups(&self) -> u32 {
        if self.expectations {
            return group::EXPECTATIONS;
        }
        let EventGroups { new, update, destroy } = self.groups;
        // A resync follows all events; those of other groups are removed before they are shown.
        if self.resync {
            return group::FLOWS;
        }
        [(new, group::NEW), (update, group::UPDATE), (destroy, group::DESTROY)]
            .iter()
            .filter(|(wanted, _)| *wanted)
            .fold(0, |groups, (_, group)| groups | group)
    }
}

/// A recording that stands in for the kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingSpec {
    /// The file; `-` for standard input.
    pub file: PathBuf,
    /// How fast it is played.
    pub speed: Speed,
    /// The recorded table.
    pub table: Table,
    /// Whether a dump or events were recorded.
    pub kind: RecordingKind,
    /// The groups of flow events that are shown.
    pub groups: EventGroups,
    /// The family of the dumped entries that are shown; `None` for both.
    pub family: Option<u8>,
}

/// The requests to the kernel, and the conditions of the selection that it checks.
#[derive(Clone, Debug, Default)]
pub struct KernelPlan {
    /// The queries, one after the other; empty if the source is not a dump or a lookup.
    pub queries: Vec<Query>,
    /// The conditions of the selection. The kernel checks those without a reason in `unchecked`; the stage `match`
    /// checks all of them.
    pub conditions: Vec<Condition>,
}

impl RecordingSpec {
    /// Opens the recording, to be played until `stop`.
    ///
    /// # Errors
    /// [`RecordingError`] if it cannot be read.
    pub fn open(&self, stop: &Stop) -> Result<RecordingSource, RecordingError> {
        Ok(Recording::open(RecordingInput::open(&self.file)?)?.play(self.selected(), self.speed, stop))
    }

    /// Returns which messages of the recording are yielded: what the kernel leaves out for a live source is left out
    /// here too.
    #[must_use]
    pub fn selected(&self) -> RecordingSelection {
        let expect = self.table == Table::Expect;
        RecordingSelection {
            kind: self.kind,
            new: expect || self.groups.new,
            update: expect || self.groups.update,
            destroy: expect || self.groups.destroy,
            family: self.family.unwrap_or(0),
        }
    }
}

impl Source {
    /// Returns true if the entries are expectations, and not flows.
    #[must_use]
    pub fn is_about_expectations(&self) -> bool {
        match self {
            Source::Dump(dump) => dump.table == Table::Expect,
            Source::Lookup(batch) | Source::Given(batch) => matches!(batch, Batch::Expectations(_)),
            Source::Events(events) => events.expectations,
            Source::Recording(recording) => recording.table == Table::Expect,
            Source::Statistics(statistics) => {
                matches!(statistics, Statistics::ExpectationCount | Statistics::ExpectationsPerCpu)
            }
            Source::Deletion(deletion) => matches!(deletion, Deletion::Expectations),
        }
    }
}

impl Spec {
    /// Returns a selection that all flows satisfy which satisfy the selection and the query: what the kernel's filter
    /// is made of.
    #[must_use]
    pub fn kernel_selection(&self) -> Cow<'_, Selection> {
        match &self.query {
            Some(query) => Cow::Owned(query.narrowed(&self.selection)),
            None => Cow::Borrowed(&self.selection),
        }
    }

    /// Plans what the kernel is asked for. The queries are a superset of the selection.
    ///
    /// # Errors
    /// [`EncodeError`] if the entry of a lookup has no complete tuple.
    pub fn kernel_plan(&self) -> Result<KernelPlan, EncodeError> {
        let selection = &*self.kernel_selection();
        let unchecked = |why: &'static str| {
            let conditions = DumpFilter::plan_dumps(selection).1.into_iter();
            // A dump of any table takes a family.
            let checked = |name: &str| name == "family" && matches!(self.source, Source::Dump(_));
            let conditions = conditions.map(|condition| match checked(&condition.name) {
                true => Condition { unchecked: None, ..condition },
                false => Condition { unchecked: Some(why), ..condition },
            });
            if self.selects() { conditions.collect() } else { Vec::new() }
        };
        let mut plan = match &self.source {
            Source::Dump(dump) => {
                let kind = dump.kind();
                let (filters, conditions) = match kind {
                    DumpKind::FLOWS => DumpFilter::plan_dumps(selection),
                    DumpKind::FlowsAndZero => {
                        let plan = DumpFilter::plan(selection);
                        (vec![plan.filter], plan.conditions)
                    }
                    _ => {
                        let filter = DumpFilter::family_only(dump.family.unwrap_or(0));
                        (vec![filter], unchecked("the kernel has no filter for this table"))
                    }
                };
                let queries = filters.into_iter().map(|filter| Listing::new(kind, filter).into()).collect();
                KernelPlan { queries, conditions: if self.selects() { conditions } else { Vec::new() } }
            }
            Source::Lookup(batch) => {
                let request = match batch {
                    Batch::Flows(batch) => flows::get(FlowEntry::new(batch, 0)?)?,
                    Batch::Expectations(batch) => expectations::get(ExpectationEntry::new(batch, 0)?)?,
                };
                let conditions = unchecked("the kernel is asked for one entry");
                KernelPlan { queries: vec![Query::Lookup(request)], conditions }
            }
            Source::Events(_) => {
                KernelPlan { queries: Vec::new(), conditions: unchecked("the kernel has no filter for events") }
            }
            Source::Recording(_) => {
                KernelPlan { queries: Vec::new(), conditions: unchecked("the kernel is not asked") }
            }
            Source::Deletion(Deletion::Matching(_)) => {
                KernelPlan { queries: Vec::new(), conditions: DumpFilter::plan_dumps(&self.selection).1 }
            }
            Source::Given(_) | Source::Statistics(_) | Source::Deletion(_) => KernelPlan::default(),
        };
        if let Some(query) = self.query.as_ref().filter(|_| self.selects()) {
            let name = format!("query: {query}");
            plan.conditions.push(Condition { name, unchecked: Some("of it the kernel checks no more than the above") });
        }
        Ok(plan)
    }
}
