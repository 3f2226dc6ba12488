//! From a spec to a pipeline: its plugins are loaded, checked and configured, and joined.

mod execute;

pub use execute::SpecError;

use crate::{
    Pipeline, RunError, Spec,
    aggregate::{AggregationSpec, Aggregator, Grouper, GroupsWriter},
    consumer::Consumer,
    entries::Entries,
    executor::{Executor, Plan},
    flow_metrics::{FlowMetric, Meter, Metered},
    format::Format,
    loader::{LoadPluginError, LoadedPlugin, PluginLoader, PluginProblems, Purpose, Role},
    problems::Problems,
    sink::Sink,
    spec::{FormatSpec, OnRefusal, Source, StageSpec, StockInput, StockStage},
    stage::Stage,
};
use std::sync::Arc;

use flowgate_model::{Counts, OptionValue, Selection, field};
use flowgate_netlink::Namespace;

/// A part of a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecPart {
    /// The selection.
    Selection,
    /// A stage, by its index.
    Stage(usize),
    /// The aggregation, or one of a metric.
    Aggregation,
    /// The format.
    Format,
}

/// An error in a part of a spec.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct SpecProblem {
    /// The part.
    pub part: SpecPart,
    /// The error.
    #[source]
    pub error: LoadPluginError,
}

/// All that is wrong with a spec: at least one problem, in the order of the parts.
pub type SpecProblems = Problems<SpecProblem>;

/// A spec whose plugins have been loaded and configured.
pub struct LoadedSpec {
    spec: Spec,
    stages: Vec<Stage>,
    /// The plugin that groups flows.
    aggregator: Option<Grouper>,
    format: Option<Format>,
    /// What takes groups in place of the format.
    groups_writer: Option<Box<dyn GroupsWriter>>,
    /// The plugins of the stages, in order; the stage `match` of the selection, if there is one, is the first.
    pub stage_plugins: Vec<LoadedPlugin>,
    /// The plugin that groups flows.
    pub aggregator_plugin: Option<LoadedPlugin>,
    meters: Vec<Meter>,
    /// The plugins that group flows for metrics.
    pub metric_plugins: Vec<LoadedPlugin>,
    /// The plugin of the format.
    pub format_plugin: Option<LoadedPlugin>,
}

/// Returns the problems of the plugin of a part.
fn of_part(part: SpecPart, errors: PluginProblems) -> impl Iterator<Item = SpecProblem> {
    errors.into_all().into_iter().map(move |error| SpecProblem { part, error })
}

impl Spec {
    /// Loads the plugins, and checks and configures them.
    ///
    /// # Errors
    /// [`SpecProblems`]: all that is wrong with them.
    pub fn load(self, loader: &PluginLoader, purpose: Purpose) -> Result<LoadedSpec, SpecProblems> {
        let mut problems = Vec::new();
        let mut stages = Vec::new();
        let mut stage_plugins = Vec::new();
        let mut add = |part: SpecPart, result: Result<(Stage, LoadedPlugin), PluginProblems>| match result {
            Ok((stage, plugin)) => {
                stages.push(stage);
                stage_plugins.push(plugin);
            }
            Err(errors) => problems.extend(of_part(part, errors)),
        };
        if self.selects() {
            let matching = StockStage::matching(self.selection.clone(), self.query.clone());
            let result = loader.load_stock_stage(&matching, self.stage_role());
            add(SpecPart::Selection, result.map(|(stage, plugin)| (stage.selecting(), plugin)));
        }
        for (index, stage) in self.stages.iter().enumerate() {
            let result = match stage {
                StageSpec::Stock(stock) => loader.load_stock_stage(stock, self.stage_role()),
                StageSpec::Plugin(plugin) => loader.prepare(plugin, self.stage_role(), purpose).map(|prepared| {
                    let loaded = prepared.loaded(plugin);
                    (prepared.into_stage(), loaded)
                }),
            };
            add(SpecPart::Stage(index), result);
        }
        let aggregation = self.aggregation.as_ref().filter(|_| self.aggregates());
        let (aggregator, aggregator_plugin) =
            match aggregation.map(|aggregation| loader.load_aggregator(aggregation)).transpose() {
                Ok(loaded) => loaded.unzip(),
                Err(errors) => {
                    problems.extend(of_part(SpecPart::Aggregation, errors));
                    (None, None)
                }
            };
        let metrics = if self.has_groups() { &self.metrics[..] } else { &[] };
        let (mut meters, mut metric_plugins) = (Vec::new(), Vec::new());
        for metric in metrics {
            match loader.load_aggregator(&metric.aggregation) {
                Ok((grouper, plugin)) => {
                    meters.push(Meter { grouper, metric: Arc::new(FlowMetric::new(metric)) });
                    let text = plugin.text.as_ref().map(|text| format!("{}: {text}", metric.name));
                    metric_plugins.push(LoadedPlugin { text, ..plugin });
                }
                Err(errors) => problems.extend(of_part(SpecPart::Aggregation, errors)),
            }
        }
        // A dry run prints with formats of its own, but the format is checked nevertheless.
        let format = self.format.as_ref().map(|format| loader.load_format(format, self.format_role(), purpose));
        let (format, format_plugin) = match format.transpose() {
            Ok(loaded) => loaded.unzip(),
            Err(errors) => {
                problems.extend(of_part(SpecPart::Format, errors));
                (None, None)
            }
        };
        match Problems::collect(problems) {
            Some(problems) => Err(problems),
            None => Ok(LoadedSpec {
                spec: self,
                stages,
                aggregator,
                format,
                groups_writer: None,
                stage_plugins,
                aggregator_plugin,
                meters,
                metric_plugins,
                format_plugin,
            }),
        }
    }

    fn stage_role(&self) -> Role {
        if self.source.is_about_expectations() { Role::ExpectationStage } else { Role::FlowStage }
    }

    fn format_role(&self) -> Role {
        match &self.source {
            Source::Statistics(_) => Role::StatisticsFormat,
            source if source.is_about_expectations() => Role::ExpectationFormat,
            _ if self.aggregates() => Role::GroupsFormat,
            _ => Role::FlowFormat,
        }
    }
}

/// The fields that a selection can compare.
const COMPARED: u64 = field::TUPLES
    | field::ZONES
    | field::STATUS
    | field::TIMEOUT
    | field::MARK
    | field::SECMARK
    | field::ID
    | field::STATE
    | field::LABELS;

impl PluginLoader {
    /// Starts a stock stage.
    fn load_stock_stage(&self, stock: &StockStage, role: Role) -> Result<(Stage, LoadedPlugin), PluginProblems> {
        let StockStage { name, options, grants, input, text } = stock;
        let (mut instance, plugin) = self.start(name, role, options, true)?;
        let mut reads = plugin.description.reads;
        match input {
            StockInput::Selection(selection, query) => {
                instance.select(selection)?;
                let compared = if **selection == Selection::default() { 0 } else { COMPARED };
                reads &= compared | query.as_ref().map_or(0, |query| query.program.reads);
                if let Some(query) = query {
                    instance.query(&query.program)?;
                }
            }
            StockInput::Template(template) => instance.template(template)?,
            StockInput::None => {}
        }
        instance.end_start_up();
        let stage = Stage::new(instance, reads & field::ALL, grants.clone());
        let stage = if stock.acts() { stage.strict() } else { stage };
        Ok((stage, LoadedPlugin { grants: grants.clone(), text: text.clone(), ..plugin }))
    }

    /// Starts the plugin that groups flows.
    fn load_aggregator(&self, spec: &AggregationSpec) -> Result<(Grouper, LoadedPlugin), PluginProblems> {
        let options = AggregationSpec::options();
        let (mut instance, plugin) = self.start_within(spec.limits(), "aggregate", Role::Aggregator, &options, true)?;
        instance.aggregate(&spec.aggregation)?;
        instance.end_start_up();
        // The seed is nobody's business.
        let plugin = LoadedPlugin { options: Vec::new(), text: spec.text.clone(), ..plugin };
        Ok((Grouper::new(instance, spec.aggregation.reads() & field::ALL), plugin))
    }

    /// Returns the plugin that groups flows, for programs that show the groups in a form of their own.
    ///
    /// # Errors
    /// [`PluginProblems`] if the plugin cannot be started.
    pub fn grouper(&self, spec: &AggregationSpec) -> Result<Grouper, PluginProblems> {
        self.load_aggregator(spec).map(|(grouper, _)| grouper)
    }

    /// Starts a format.
    fn load_format(
        &self,
        format: &FormatSpec,
        role: Role,
        purpose: Purpose,
    ) -> Result<(Format, LoadedPlugin), PluginProblems> {
        match format {
            FormatSpec::Stock { name, options, labels } => {
                let (mut instance, plugin) = self.start(name, role, options, *labels)?;
                instance.end_start_up();
                Ok((Format::new(instance, plugin.description.reads & field::ALL), plugin))
            }
            FormatSpec::Plugin(plugin) => {
                let prepared = self.prepare(plugin, role, purpose)?;
                let loaded = prepared.loaded(plugin);
                Ok((prepared.into_format(), loaded))
            }
        }
    }
}

impl LoadedSpec {
    /// Returns the spec.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Returns the stages of plugins from files.
    pub fn user_stages(&self) -> impl Iterator<Item = &Stage> {
        let stages = self.stages.iter().zip(&self.stage_plugins);
        stages.filter(|(_, plugin)| plugin.file.is_some()).map(|(stage, _)| stage)
    }

    /// Returns the metrics of flows.
    pub fn flow_metrics(&self) -> impl Iterator<Item = Arc<FlowMetric>> {
        self.meters.iter().map(|meter| meter.metric.clone())
    }

    /// Sets the network namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: Option<Namespace>) -> Self {
        self.spec.namespace = namespace;
        self
    }

    /// Applies a function to each stage.
    #[must_use]
    pub fn map_stages(self, change: impl FnMut(Stage) -> Stage) -> Self {
        LoadedSpec { stages: self.stages.into_iter().map(change).collect(), ..self }
    }

    /// Has groups written by something else than the format.
    #[must_use]
    pub fn writing_groups(self, writer: impl GroupsWriter + 'static) -> Self {
        LoadedSpec { groups_writer: Some(Box::new(writer)), ..self }
    }

    /// Renders counters and writes them into a sink; nothing without a format.
    ///
    /// # Errors
    /// [`RunError`] if the format or the sink failed.
    pub fn write_statistics(&mut self, counts: &Counts, sink: &mut dyn Sink) -> Result<(), RunError> {
        match &mut self.format {
            Some(format) => Ok(sink.write(&format.instance().render_statistics(counts)?)?),
            None => Ok(()),
        }
    }

    /// Joins the parts to a pipeline that writes into `sink`. `T` is the type of the entries of the source.
    ///
    /// # Errors
    /// [`LoadPluginError`] if the formats of a dry run cannot be started.
    pub fn pipeline<'a, T: Entries + 'a>(
        self,
        loader: &PluginLoader,
        sink: &'a mut dyn Sink,
    ) -> Result<Pipeline<'a, T>, LoadPluginError> {
        let LoadedSpec { spec, stages, aggregator, meters, format, groups_writer, .. } = self;
        let format = format.filter(|_| !spec.dry_run);
        let shown = match (&format, &aggregator) {
            (format, Some(grouper)) if format.is_some() || groups_writer.is_some() => grouper.reads(),
            (format, _) => format.as_ref().map_or(0, Format::reads),
        };
        let shown = meters.iter().fold(shown, |shown, meter| shown | meter.grouper.reads());
        let every = spec.aggregation.as_ref().and_then(|aggregation| aggregation.every);
        let mut executor = Executor::new(spec.shows, T::decoder(shown)).within(spec.namespace.as_ref());
        if spec.has_acting_plugins() {
            executor = executor.guarded();
        }
        if spec.dry_run {
            executor = executor.dry(dry_run_formats(loader, T::FORMAT)?);
        }
        executor = match spec.on_refusal {
            OnRefusal::Stop => executor,
            OnRefusal::StopAtOnce => executor.one_by_one(),
            OnRefusal::Note => executor.keeping_refusals(),
        };
        if let Some(merge) = spec.merge {
            executor = executor.merging(merge.orphans);
        }
        let pipeline = Pipeline::new(spec, stages, executor, loader.engine().clone(), sink);
        let mut consumer: Option<Box<dyn Consumer<T>>> = match aggregator {
            Some(grouper) => {
                let writer = groups_writer.or_else(|| format.map(|format| Box::new(format) as Box<dyn GroupsWriter>));
                writer.map(|writer| Box::new(Aggregator::new(grouper, every, writer)) as Box<dyn Consumer<T>>)
            }
            None => format.map(|format| Box::new(format) as Box<dyn Consumer<T>>),
        };
        if !meters.is_empty() {
            consumer = Some(Box::new(Metered::new(meters, consumer)));
        }
        Ok(match consumer {
            Some(consumer) => pipeline.with_consumer(shown, consumer),
            None => pipeline,
        })
    }
}

/// Returns the formats with which a dry run prints actions.
///
/// # Errors
/// [`LoadPluginError`] if they cannot be started.
pub fn dry_run_formats<T: Entries>(loader: &PluginLoader, role: Role) -> Result<Plan<T>, LoadPluginError> {
    let format = |command: &str| {
        let options = [("command", command), ("complete", "true")].map(|(name, value)| OptionValue::new(name, value));
        loader.format("save", role, &options, true)
    };
    Ok(Plan::new([format("D")?, format("U")?, format("I")?, format("A")?]))
}
