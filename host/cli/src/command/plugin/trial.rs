//! Runs a case: the real component in a real stage, and a transcript of its results for each row.
//!
//! The transcript has a line for each row: whether it is kept or dropped, and its representation in the format, for
//! kept rows with the changes and notes of the plugin. Requests to the kernel follow their row, as command lines of
//! conntrack: after `->` those that would be carried out, after `-x` those that would be refused. The stage itself has
//! no grants, so that no request reaches the kernel.
//!
//! The plugin runs in a worker, which gets the case as its job and returns the transcript: code that nobody has
//! reviewed reaches no file of the person who tests it.

use std::{cell::RefCell, fs::File, path::Path, rc::Rc, slice, time::Duration};

use super::{
    super::{CommandError, compiling, report_execution, worker},
    error::ToolError,
    suite::Case,
};
use flowgate_config::{ColumnOptions, FormatContext};
use flowgate_isolation::Limits;
use flowgate_model::{Label, UtcOffset, action, grants::Grants};
use flowgate_pipeline::{
    FormatSpec, Spec,
    entries::Entries,
    executor::{self, Executor, Plan, Shows},
    format::Format,
    load::dry_run_formats,
    loader::{PluginLoader, PluginSpec, Purpose, Role},
    outcome::{RecordedOutcomes, Requests, StageOutcome},
    spec::StageSpec,
    stage::Stage,
};
use flowgate_runtime::{Cache, CompileLimits, Execution, PluginComponent, PluginFile, services::log::Log};
use flowgate_worker::{protocol::Report, setup::Setup};

/// Context for the representation of a single row.
const CONTEXT: FormatContext =
    FormatContext { header: false, footer: false, save: Some("event"), labels: true, kernel_times: true, time: true };
/// CPU time that a case may take.
const TIME: Duration = Duration::from_secs(300);
/// Memory of a case besides that of the plugin and of its rows, in bytes.
const MEMORY: u64 = 256 << 20;
/// Memory that a byte of a fixture may take: it is read into rows, which are copied.
const EXPANSION: u64 = 20;
/// Address space: more than the memories of a component reserve.
const SPACE: u64 = 256 << 30;
/// Maximum length of a transcript in bytes.
const TRANSCRIPT: usize = 256 << 20;

/// A plugin that is tested.
pub(super) struct TriedPlugin {
    /// Its name in messages, which is the path of its file.
    name: String,
    /// SHA-256 of its file.
    digest: String,
    /// Its compiled code.
    code: File,
    execution: Execution,
}

impl TriedPlugin {
    /// Compiles a plugin.
    ///
    /// # Errors
    /// The file cannot be read, or is no plugin that can be compiled.
    pub(super) fn compile(file: &Path) -> Result<Self, CommandError> {
        let engine = compiling::engine(Cache::of_environment())?;
        report_execution(&engine)?;
        let plugin = PluginFile::of_content(file, &PluginComponent::read(file)?)?;
        let code = engine.code(&plugin, CompileLimits::default(), true)?;
        let (name, digest) = (file.display().to_string(), plugin.digest());
        Ok(TriedPlugin { name, digest, code, execution: engine.execution()? })
    }

    /// Runs a case in a worker, and returns the transcript.
    ///
    /// # Errors
    /// The fixture is invalid, the plugin does not start or fails, or the worker has ended early.
    pub(super) fn run(&self, labels: &[Label], case: &Case) -> Result<String, String> {
        let plugin = PluginSpec {
            file: self.name.clone().into(),
            name: Some(self.name.clone()),
            digest: Some(self.digest.clone()),
            ..spec(case)
        };
        let memory = 3 * plugin.limits.instance.memory as u64 + plugin.limits.instance.output as u64;
        let limits = Limits {
            memory: MEMORY + memory + EXPANSION * case.fixture.1.len() as u64,
            address_space: SPACE,
            stack: 8 << 20,
            time: TIME,
            file: 0,
        };
        let spec = Spec {
            stages: vec![plugin.into()],
            format: Some(CONTEXT.format(case.output, &ColumnOptions::default())),
            batch: case.batch,
            ..Spec::events()
        };
        // Local time is UTC, so that the transcript is the same everywhere.
        let mut setup = Setup::of(&spec, labels, &[UtcOffset { since: 0, offset: 0 }]);
        (setup.interpreted, setup.checked) = (self.execution.is_interpreted(), self.execution.limit.is_some());
        setup.job = Some(job(case));
        let stem = Path::new(&self.name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let log = Log::of(&stem.unwrap_or_default());
        let mut answer = Vec::new();
        worker::run(&mut setup, slice::from_ref(&self.code), limits, TIME, &mut |report| {
            match report {
                Report::Output(bytes) if answer.len() + bytes.len() > TRANSCRIPT => {
                    return Err(format!("its transcript has more than {} MiB", TRANSCRIPT >> 20));
                }
                Report::Output(bytes) => answer.extend_from_slice(bytes),
                Report::Log { level, message, .. } => log.write(level, message),
                _ => {}
            }
            Ok(())
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match answer.split_first() {
            Some((&PASSED, transcript)) => Ok(text(transcript)),
            Some((_, error)) => Err(text(error)),
            None => Err("the worker has returned nothing".into()),
        }
    }
}

/// First byte of an answer: a transcript follows.
const PASSED: u8 = 0;
/// First byte of an answer: the text of an error follows.
const FAILED: u8 = 1;

/// Returns the job of a worker: whether the rows are expectations, the length of the name of the fixture, the name, and
/// its content.
fn job(case: &Case) -> Vec<u8> {
    let (name, content) = &case.fixture;
    let length = (name.len() as u64).to_ne_bytes();
    [&[u8::from(case.expectations)][..], &length, name.as_bytes(), content].concat()
}

/// Does the job of a worker: runs the case, and returns the answer.
pub(in super::super) fn do_job(loader: &PluginLoader, setup: &Setup, job: &[u8]) -> Vec<u8> {
    let (first, text) = match transcript_of(loader, setup, job) {
        Ok(transcript) => (PASSED, transcript),
        Err(error) => (FAILED, error.to_string()),
    };
    [&[first], text.as_bytes()].concat()
}

/// The parts of a case that a worker needs.
struct Task {
    plugin: PluginSpec,
    format: FormatSpec,
    batch: usize,
}

fn transcript_of(loader: &PluginLoader, setup: &Setup, job: &[u8]) -> Result<String, CommandError> {
    let none = || CommandError::Tenant("the worker has no job".into());
    let (&expectations, rest) = job.split_first().ok_or_else(none)?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(none)?;
    let length = usize::try_from(u64::from_ne_bytes(*length)).map_err(|_| none())?;
    let (name, content) = rest.split_at_checked(length).ok_or_else(none)?;
    let name = String::from_utf8_lossy(name);
    let Spec { stages, format, batch, .. } = setup.spec();
    let (Some(StageSpec::Plugin(plugin)), Some(format)) = (stages.into_iter().next(), format) else {
        return Err(none());
    };
    let code = loader.remote_host().and_then(|host| host.code.get(plugin.digest.as_ref()?)).ok_or_else(none)?;
    let component = Rc::new(PluginComponent::from_code(loader.engine(), &plugin.file, code)?);
    let task = Task { plugin, format, batch };
    if expectations == 0 {
        let rows = flowgate_fixture::flows(&name, content, &setup.labels()).map_err(ToolError::from)?;
        transcript(loader, &component, &task, rows)
    } else {
        let rows = flowgate_fixture::expectations(&name, content).map_err(ToolError::from)?;
        transcript(loader, &component, &task, rows)
    }
}

/// Returns the rows whose mask is 1.
fn only<T: Entries>(rows: &T, mask: &[u8]) -> T {
    let mut picked = rows.clone();
    picked.retain(mask);
    picked
}

/// Returns the spec of the plugin of a case.
fn spec(case: &Case) -> PluginSpec {
    PluginSpec { options: case.options.clone(), grants: case.grants.clone(), ..PluginSpec::default() }
}

/// Returns batches of at most `size` rows.
fn batches<T: Entries>(rows: &T, size: usize) -> impl Iterator<Item = T> + '_ {
    let length = rows.rows();
    (0..length).step_by(size.max(1)).map(move |start| {
        let mask: Vec<u8> = (0..length).map(|row| u8::from(row >= start && row < start + size)).collect();
        only(rows, &mask)
    })
}

fn transcript<T: Entries>(
    loader: &PluginLoader,
    component: &Rc<PluginComponent>,
    task: &Task,
    rows: T,
) -> Result<String, CommandError> {
    let is_format = match T::STAGE {
        Role::ExpectationStage => {
            component.capabilities.expectation_format && !component.capabilities.expectation_stage
        }
        _ => component.capabilities.flow_format && !component.capabilities.flow_stage,
    };
    if is_format {
        return formatted(loader, component, task, rows);
    }
    let prepared = loader.prepare_component(component.clone(), &task.plugin, T::STAGE, Purpose::Run)?;
    let recorded = Rc::new(RefCell::new(RecordedOutcomes::default()));
    let reads = prepared.reads();
    let mut stage = Stage::new(prepared.into_instance(), reads, Grants::NONE).recording(recorded.clone());
    // The requests go into the transcript; the executor refuses all of them without a message.
    let mut executor = Executor::new(Shows::Entries, T::decoder(0));
    let mut writer = Writer {
        format: format(loader, &task.format, T::FORMAT)?,
        plan: dry_run_formats(loader, T::FORMAT)?,
        grants: &task.plugin.grants,
        text: String::new(),
    };
    for before in batches(&rows, task.batch) {
        let mut after = before.clone();
        stage.batch(&mut after, &mut executor)?;
        if let Some(outcome) = T::recorded(&mut recorded.borrow_mut()).pop() {
            writer.batch(&before, &after, &outcome)?;
        }
    }
    stage.finish(&mut executor)?;
    if let Some(outcome) = T::recorded(&mut recorded.borrow_mut()).pop()
        && !outcome.requests.actions.kinds.is_empty()
    {
        writer.text.push_str("end\n");
        writer.actions(&T::default(), None, &outcome.requests)?;
    }
    Ok(writer.text)
}

/// Returns the output of a format for the rows.
fn formatted<T: Entries>(
    loader: &PluginLoader,
    component: &Rc<PluginComponent>,
    task: &Task,
    rows: T,
) -> Result<String, CommandError> {
    let prepared = loader.prepare_component(component.clone(), &task.plugin, T::FORMAT, Purpose::Run)?;
    let mut format = prepared.into_format();
    let mut bytes = format.begin::<T>()?;
    for mut batch in batches(&rows, task.batch) {
        bytes.extend(format.render(&mut batch)?);
    }
    bytes.extend(format.end::<T>()?);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the stock format of a case.
fn format(loader: &PluginLoader, format: &FormatSpec, role: Role) -> Result<Format, CommandError> {
    match format {
        FormatSpec::Stock { name, options, .. } => Ok(loader.format(name, role, options, true)?),
        FormatSpec::Plugin(plugin) => Ok(loader.prepare(plugin, role, Purpose::Run)?.into_format()),
    }
}

/// Writes the transcript.
struct Writer<'a, T> {
    format: Format,
    /// Formats actions as command lines.
    plan: Plan<T>,
    grants: &'a Grants,
    text: String,
}

impl<T: Entries> Writer<'_, T> {
    /// Appends the rows of a batch: dropped ones as in `before`, kept ones as in `after`.
    fn batch(&mut self, before: &T, after: &T, outcome: &StageOutcome<T>) -> Result<(), CommandError> {
        let mut kept = 0;
        for row in 0..before.rows() {
            let keeps = outcome.verdicts.get(row).is_none_or(|verdict| *verdict != 0);
            let (word, from, at) = if keeps { ("keep", after, kept) } else { ("drop", before, row) };
            kept += usize::from(keeps);
            self.row(word, from, at)?;
            self.actions(before, Some(row), &outcome.requests)?;
        }
        self.actions(before, None, &outcome.requests)
    }

    /// Appends a row in the format.
    fn row(&mut self, word: &str, rows: &T, row: usize) -> Result<(), CommandError> {
        let mask: Vec<u8> = (0..rows.rows()).map(|of| u8::from(of == row)).collect();
        let bytes = self.format.render(&mut only(rows, &mask))?;
        let shown = String::from_utf8_lossy(&bytes);
        let mut prefix = word;
        for line in shown.lines().chain(shown.is_empty().then_some("(not shown)")) {
            self.text.push_str(&format!("{prefix} {line}"));
            self.text.truncate(self.text.trim_end().len());
            self.text.push('\n');
            prefix = "    ";
        }
        Ok(())
    }

    /// Appends the requests for this row, or those for no row.
    fn actions(&mut self, batch: &T, row: Option<usize>, requests: &Requests<T>) -> Result<(), CommandError> {
        let actions = &requests.actions;
        for ((&kind, &of), &value) in actions.kinds.iter().zip(&actions.rows).zip(&actions.values) {
            let at = (of != action::NO_ROW).then_some(of as usize);
            if at != row {
                continue;
            }
            let value = (value != action::NO_ROW).then_some(value as usize);
            let (target, values) = (at.map(|at| (batch, at)), value.map(|value| (&requests.values, value)));
            self.plan.add(kind, target, values);
            let written = self.plan.take()?;
            let line = flowgate_base::text::clean(String::from_utf8_lossy(&written).trim_end());
            let refusal = if T::is_granted(self.grants, kind, target, values) {
                T::request(kind, target, values).err().map(|error| format!("cannot be asked for: {error}"))
            } else {
                Some(format!("not granted: {}", executor::name(kind)))
            };
            match refusal {
                None => self.text.push_str(&format!("  -> conntrack {line}\n")),
                Some(refusal) => self.text.push_str(&format!("  -x conntrack {line}  # {refusal}\n")),
            }
        }
        Ok(())
    }
}
