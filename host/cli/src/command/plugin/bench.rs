//! `plugin bench`: the time that a plugin takes for each flow, compared with a stock plugin that does nothing with the
//! same columns (`pass`).
//!
//! Both plugins alternate batch by batch, so that other load of the machine affects both. The time of a call is that
//! of the whole stage: lowering of the columns, the plugin, validation of its result, and its application to the batch.

use std::{
    fmt::Write as _,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    super::{CommandError, Exit, lower},
    error::ToolError,
    generator,
};
use crate::args::Report;
use flowgate_base::{files, text::clean};
use flowgate_model::{
    Flows, batch,
    grants::{Grants, StateStorage},
};
use flowgate_netlink::decode::FlowDecoder;
use flowgate_pipeline::{
    executor::{Executor, Shows},
    loader::{PluginLoader, PluginSpec, Purpose, Role},
    sink::Sink,
    stage::Stage,
};
use flowgate_runtime::{Cache, PluginComponent};
use flowgate_syntax::PluginArgument;

/// Number of different batches, which are used repeatedly.
const DIFFERENT: usize = 64;
/// Number of calls before the measured ones. They grow the memory and fill the caches.
const WARM_UP: usize = 8;

/// Options of the subcommand.
pub(super) struct BenchOptions<'a> {
    /// The plugin and its options.
    pub plugin: &'a PluginArgument,
    /// Grants of the plugin; only those for services matter here.
    pub grants: Option<&'a Grants>,
    /// Number of flows that the plugin processes.
    pub flows: u32,
    /// Fixture with the flows; `None` for generated flows.
    pub from: Option<&'a Path>,
    /// Rows of a batch.
    pub batch: u32,
}

/// Measurements of a stage.
struct Measured {
    name: String,
    /// Time of each call in nanoseconds for each flow, ascending.
    times: Vec<f64>,
    memory: usize,
    kept: u64,
}

impl Measured {
    /// Returns the time that this percentage of the calls does not exceed.
    fn percentile(&self, hundredths: usize) -> f64 {
        let last = self.times.len().saturating_sub(1);
        self.times.get((self.times.len() * hundredths / 100).min(last)).copied().unwrap_or_default()
    }
}

/// Runs the subcommand.
pub(super) fn run(options: &BenchOptions<'_>, output: Report, sink: &mut dyn Sink) -> Result<Exit, CommandError> {
    let engine = super::super::compiling::engine(Cache::of_environment())?;
    let loader = PluginLoader::in_utc(Vec::new())?.on_engine(engine);
    super::super::report_execution(loader.engine())?;
    let file = &options.plugin.file;
    let component = PluginComponent::open(loader.engine(), file)?;
    if !component.capabilities.flow_stage {
        let problem = "it is no stage for flows (it does not export flow-stage)".to_string();
        return Err(ToolError::Bench { path: file.clone(), problem }.into());
    }
    let batches = batches(options)?;
    let mut grants = options.grants.cloned().unwrap_or_default();
    // The state of the plugin is not kept on disk.
    grants.state = grants.state.map(|_| StateStorage::Memory);
    let spec = lower::plugin(options.plugin).grants(grants);
    let prepared = loader.prepare_component(Rc::new(component), &spec, Role::FlowStage, Purpose::Run)?;
    let (reads, description) = (prepared.reads(), prepared.description.clone());
    let mut plugin = Stage::new(prepared.into_instance(), reads, Grants::NONE);
    // Without a selector, `match` keeps everything and looks at nothing.
    let pass =
        loader.prepare_component(loader.stock("match")?, &PluginSpec::default(), Role::FlowStage, Purpose::Run)?;
    // It gets the columns that the plugin reads, so that the difference is the plugin's own work.
    let mut pass = Stage::new(pass.into_instance(), reads, Grants::NONE);

    let rows = batches.first().map_or(1, |batch| batch.length.max(1));
    let calls = (options.flows.div_ceil(rows) as usize).max(1);
    let mut measured = [
        Measured { name: clean(&description.name), times: Vec::with_capacity(calls), memory: 0, kept: 0 },
        Measured { name: "pass".into(), times: Vec::with_capacity(calls), memory: 0, kept: 0 },
    ];
    for call in 0..WARM_UP + calls {
        let Some(batch) = batches.get(call % batches.len().max(1)) else { break };
        for (stage, measured) in [&mut plugin, &mut pass].into_iter().zip(&mut measured) {
            let (time, kept) = once(stage, batch)?;
            if call >= WARM_UP {
                measured.times.push(time.as_nanos() as f64 / f64::from(batch.length.max(1)));
                measured.kept += kept;
            }
        }
    }
    for (stage, measured) in [&plugin, &pass].into_iter().zip(&mut measured) {
        measured.memory = usize::try_from(stage.stats().lock().memory).unwrap_or(usize::MAX);
        measured.times.sort_by(f64::total_cmp);
    }
    let [plugin, pass] = &measured;
    let flows = calls as u64 * u64::from(rows);
    let text = match output {
        Report::Text => text(file, [plugin, pass], flows, rows, calls),
        Report::Json => {
            let figures = |of: &Measured| {
                json!({
                    "name": of.name,
                    "ns_per_flow_p50": tenths(of.percentile(50)),
                    "ns_per_flow_p99": tenths(of.percentile(99)),
                    "memory": of.memory,
                    "kept": of.kept,
                })
            };
            let object = json!({
                "type": "bench",
                "file": file.display().to_string(),
                "flows": flows,
                "batch": rows,
                "calls": calls,
                "plugin": figures(plugin),
                "pass": figures(pass),
            });
            format!("{object}\n")
        }
    };
    sink.write(text.as_bytes())?;
    Ok(Exit::Success)
}

/// Rounds to tenths, which is the precision of the measurement.
fn tenths(time: f64) -> f64 {
    (time * 10.0).round() / 10.0
}

/// Calls a stage once. Returns the time and the number of flows that were kept.
fn once(stage: &mut Stage, batch: &Flows) -> Result<(Duration, u64), CommandError> {
    let mut rows = batch.clone();
    let mut executor = Executor::new(Shows::Entries, FlowDecoder::new(0));
    let begun = Instant::now();
    stage.batch(&mut rows, &mut executor)?;
    Ok((begun.elapsed(), rows.length.into()))
}

/// Returns the batches to be processed.
fn batches(options: &BenchOptions<'_>) -> Result<Vec<Flows>, CommandError> {
    let rows = options.batch.min(options.flows) as usize;
    let Some(path) = options.from else {
        let different = DIFFERENT.min((options.flows as usize).div_ceil(rows.max(1)));
        return Ok((0..different as u64).map(|number| generator::batch(number, rows)).collect());
    };
    let mut content =
        files::read(path, files::MAX_FIXTURE_FILE).map_err(|source| ToolError::Read { path: path.into(), source })?;
    content.push(b'\n');
    let name = path.display().to_string();
    let once = flowgate_fixture::flows(&name, &content, &[]).map_err(ToolError::from)?;
    if once.length == 0 {
        return Err(ToolError::Bench { path: path.into(), problem: "there are no flows in it".into() }.into());
    }
    // A short file is repeated until it fills a batch; a longer one is split into batches.
    let all = flowgate_fixture::flows(&name, &content.repeat(rows.div_ceil(once.length as usize).max(1)), &[])
        .map_err(ToolError::from)?;
    let length = all.length as usize;
    let parts = (0..length).step_by(rows).take(DIFFERENT).map(|start| {
        let mut part = all.clone();
        let mask: Vec<u8> = (0..length).map(|row| u8::from(row >= start && row < start + rows)).collect();
        batch::retain(&mut part, &mask);
        part
    });
    // A shorter last part is left out, as its time would count like that of the others.
    let parts: Vec<Flows> = parts.collect();
    let longest = parts.iter().map(|part| part.length).max().unwrap_or_default();
    Ok(parts.into_iter().filter(|part| part.length == longest).collect())
}

/// Returns the figures for people.
fn text(file: &Path, measured: [&Measured; 2], flows: u64, rows: u32, calls: usize) -> String {
    let mut page = String::new();
    let _ = writeln!(page, "{}: {flows} flows in {calls} calls of {rows}", clean(&file.display().to_string()));
    let _ = writeln!(page, "{:<24}{:>12}{:>12}{:>14}{:>12}", "", "ns/flow p50", "ns/flow p99", "memory KiB", "kept");
    for of in measured {
        let (p50, p99) = (of.percentile(50), of.percentile(99));
        let _ = writeln!(page, "{:<24}{p50:>12.1}{p99:>12.1}{:>14}{:>12}", of.name, of.memory >> 10, of.kept);
    }
    let [plugin, pass] = measured;
    let own = plugin.percentile(50) - pass.percentile(50);
    let _ =
        writeln!(page, "The plugin's own share: {own:.1} ns a flow. The kernel takes 2,000 to 2,600 ns to dump one.");
    page
}
