//! A pipeline as a value: source, selection, stages, format, sinks and mode.
//!
//! Command lines, pipeline files, tenants of a policy and programs that embed this crate all lower into a [`Spec`]. It
//! is explained ([`explain`](crate::explain)) and run from here on, and nothing below knows where it came from.
//!
//! * [`source`] has the sources and what they ask the kernel for.
//! * [`load`](crate::load) loads the plugins of a spec and makes a [`Pipeline`](crate::Pipeline) of it; [`Spec::run`]
//!   does all of that for programs that need nothing else.

pub mod source;

pub use source::{Dump, Events, KernelPlan, RecordingSpec, Source};

use crate::{
    aggregate::AggregationSpec, executor::Shows, flow_metrics::MetricSpec, loader::PluginSpec, sink::SinkSpec,
};
use flowgate_model::{Flows, OptionValue, Selection, grants::Grants};
use flowgate_netlink::Namespace;
use flowgate_query::Query;

/// Default maximum number of rows that a plugin gets at once.
pub const DEFAULT_BATCH_ROWS: usize = 1024;

/// A pipeline as a value.
///
/// ```
/// use flowgate_model::{Selection, protocol};
/// use flowgate_pipeline::{FormatSpec, Spec, sink::SinkSpec};
///
/// // The UDP flows of the table, as JSON on standard output.
/// let udp = Selection { protocol: Some(protocol::UDP), ..Selection::default() };
/// let spec = Spec::flows().select(udp).format(FormatSpec::stock("json")).sink(SinkSpec::stdout());
///
/// // The kernel checks the protocol itself, in one dump for each family.
/// let plan = spec.kernel_plan()?;
/// assert_eq!(plan.queries.len(), 2);
/// assert!(plan.conditions.iter().all(|condition| condition.unchecked.is_none()));
/// # Ok::<(), flowgate_netlink::EncodeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Spec {
    /// Where entries come from.
    pub source: Source,
    /// The network namespace; `None` for the namespace of the process.
    pub namespace: Option<Namespace>,
    /// The flows that are selected; the default selects all. The stock stage `match` checks all of it, and the kernel
    /// what it can check. Expectations are not selected.
    pub selection: Selection,
    /// The condition that flows must satisfy in addition. The stock stage `match` checks it, and the kernel what it
    /// implies.
    pub query: Option<Query>,
    /// The stages, in order.
    pub stages: Vec<StageSpec>,
    /// Which rows are shown after actions of stock stages.
    pub shows: Shows,
    /// The groups that are shown in place of flows; `None` if flows are shown. Expectations are not grouped.
    pub aggregation: Option<AggregationSpec>,
    /// Metrics of the rows that come out of the last stage. Only flows have them.
    pub metrics: Vec<MetricSpec>,
    /// How rows are shown; `None` if they are not.
    pub format: Option<FormatSpec>,
    /// Where the bytes go.
    pub sinks: Vec<SinkSpec>,
    /// Maximum number of rows of a batch, 1 to 65536.
    pub batch: usize,
    /// True if nothing is done to the table: what would be done is printed as command lines.
    pub dry_run: bool,
    /// The handling of actions of stock stages that the kernel refuses.
    pub on_refusal: OnRefusal,
    /// How actions of stock stages that create entries deal with entries that exist; `None`: the kernel decides.
    pub merge: Option<Merge>,
}

/// The handling of actions of stock stages that the kernel refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRefusal {
    /// The run ends with the batch of requests.
    #[default]
    Stop,
    /// The run ends; requests are sent one at a time, so that none is sent after it.
    StopAtOnce,
    /// It is noted ([`Pipeline::take_refusals`](crate::Pipeline::take_refusals)), and the others are done.
    Note,
}

/// How creations deal with entries that exist: they get what can still be changed of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merge {
    /// True if flows are also created without the master that they name, if that does not exist.
    pub orphans: bool,
}

/// A stage.
#[derive(Clone, Debug)]
pub enum StageSpec {
    /// A stock stage.
    Stock(StockStage),
    /// A plugin from a file.
    Plugin(PluginSpec),
}

impl From<PluginSpec> for StageSpec {
    fn from(plugin: PluginSpec) -> Self {
        StageSpec::Plugin(plugin)
    }
}

impl From<StockStage> for StageSpec {
    fn from(stock: StockStage) -> Self {
        StageSpec::Stock(stock)
    }
}

/// A stock stage with its input.
#[derive(Clone, Debug)]
pub struct StockStage {
    /// `match`, `update`, `delete` or `create`.
    pub name: &'static str,
    /// Its options.
    pub options: Vec<OptionValue>,
    /// Its grants.
    pub grants: Grants,
    /// Its input.
    pub input: StockInput,
    /// The input as it was written, for explanations.
    pub text: Option<String>,
}

/// The input of a stock stage, which it gets before it starts.
#[derive(Clone, Debug)]
pub enum StockInput {
    /// Nothing.
    None,
    /// The flows that it keeps: those of the selection that satisfy the condition.
    Selection(Box<Selection>, Option<Box<Query>>),
    /// The values that it sets, as a batch of rows.
    Template(Box<Flows>),
}

impl StockStage {
    /// Returns the stage `match`, which keeps the selected flows that satisfy a condition.
    #[must_use]
    pub fn matching(selection: Selection, query: Option<Query>) -> Self {
        let input = StockInput::Selection(Box::new(selection), query.map(Box::new));
        StockStage { name: "match", options: Vec::new(), grants: Grants::NONE, input, text: None }
    }

    /// Returns a stage that acts on each entry, by its name: `delete`, `update` or `create`. It may do everything that
    /// it asks for.
    #[must_use]
    pub fn acting(name: &'static str) -> Self {
        StockStage { name, options: Vec::new(), grants: Grants::ALL, input: StockInput::None, text: None }
    }

    /// Sets the values that the stage sets.
    #[must_use]
    pub fn template(self, template: Flows) -> Self {
        StockStage { input: StockInput::Template(Box::new(template)), ..self }
    }

    /// Returns true if the stage acts on entries.
    #[must_use]
    pub fn acts(&self) -> bool {
        self.name != "match"
    }
}

/// A format.
#[derive(Clone, Debug)]
pub enum FormatSpec {
    /// A stock format.
    Stock {
        /// `text`, `xml`, `save`, `json`; of statistics `counters` or `json`.
        name: &'static str,
        /// Its options.
        options: Vec<OptionValue>,
        /// True if it gets the names of labels, and prints them.
        labels: bool,
    },
    /// A plugin from a file.
    Plugin(Box<PluginSpec>),
}

impl FormatSpec {
    /// Returns a stock format without options, which prints the names of labels.
    #[must_use]
    pub fn stock(name: &'static str) -> Self {
        FormatSpec::Stock { name, options: Vec::new(), labels: true }
    }
}

impl Spec {
    /// Returns a pipeline on a source, which selects and shows all of it and writes nothing.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Spec {
            source,
            namespace: None,
            selection: Selection::default(),
            query: None,
            stages: Vec::new(),
            shows: Shows::Entries,
            aggregation: None,
            metrics: Vec::new(),
            format: None,
            sinks: Vec::new(),
            batch: DEFAULT_BATCH_ROWS,
            dry_run: false,
            on_refusal: OnRefusal::Stop,
            merge: None,
        }
    }

    /// Returns a pipeline on the table of flows.
    #[must_use]
    pub fn flows() -> Self {
        Spec::new(Source::Dump(Dump::flows()))
    }

    /// Returns a pipeline on all events of flows. Lost events are made up for.
    #[must_use]
    pub fn events() -> Self {
        Spec::new(Source::Events(Events { resync: true, ..Events::default() }))
    }

    /// Sets which flows are selected.
    #[must_use]
    pub fn select(self, selection: Selection) -> Self {
        Spec { selection, ..self }
    }

    /// Sets the condition that flows must satisfy.
    #[must_use]
    pub fn satisfying(self, query: Query) -> Self {
        Spec { query: Some(query), ..self }
    }

    /// Sets the network namespace.
    #[must_use]
    pub fn within(self, namespace: Namespace) -> Self {
        Spec { namespace: Some(namespace), ..self }
    }

    /// Adds a stage.
    #[must_use]
    pub fn stage(mut self, stage: impl Into<StageSpec>) -> Self {
        self.stages.push(stage.into());
        self
    }

    /// Has groups shown in place of flows.
    #[must_use]
    pub fn aggregating(self, aggregation: AggregationSpec) -> Self {
        Spec { aggregation: Some(aggregation), ..self }
    }

    /// Returns true if groups are shown in place of flows. A dry run shows actions.
    #[must_use]
    pub fn aggregates(&self) -> bool {
        self.aggregation.is_some() && self.has_groups()
    }

    /// Returns true if flows can be grouped.
    pub(crate) fn has_groups(&self) -> bool {
        !self.dry_run && !self.source.is_about_expectations()
    }

    /// Sets the format.
    #[must_use]
    pub fn format(self, format: FormatSpec) -> Self {
        Spec { format: Some(format), ..self }
    }

    /// Adds a sink.
    #[must_use]
    pub fn sink(mut self, sink: impl Into<SinkSpec>) -> Self {
        self.sinks.push(sink.into());
        self
    }

    /// Returns true if the stock stage `match` is put before the other stages.
    #[must_use]
    pub fn selects(&self) -> bool {
        let yields_flows = match &self.source {
            Source::Given(_) | Source::Statistics(_) | Source::Deletion(_) => false,
            source => !source.is_about_expectations(),
        };
        yields_flows && (self.selection != Selection::default() || self.query.is_some())
    }

    /// Returns true if plugins from files may act on entries.
    #[must_use]
    pub fn has_acting_plugins(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage, StageSpec::Plugin(plugin) if plugin.grants.acts()))
    }

    /// Returns true if a stage may act on entries.
    #[must_use]
    pub fn acts(&self) -> bool {
        let stock = |stage: &StageSpec| matches!(stage, StageSpec::Stock(stock) if stock.acts());
        self.has_acting_plugins() || self.stages.iter().any(stock)
    }

    /// Returns true if a plugin from a file is part of it.
    #[must_use]
    pub fn has_plugins(&self) -> bool {
        matches!(self.format, Some(FormatSpec::Plugin(_)))
            || self.stages.iter().any(|stage| matches!(stage, StageSpec::Plugin(_)))
    }

    /// Returns true if the source is live: events, which do not wait for their reader.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.source, Source::Events(_))
    }
}
