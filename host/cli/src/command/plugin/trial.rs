//! Runs a case: the real component in a real stage, and a transcript of its results for each row.
//!
//! The transcript has a line for each row: whether it is kept or dropped, and its representation in the format, for
//! kept rows with the changes and notes of the plugin. Requests to the kernel follow their row, as command lines of
//! conntrack: after `->` those that would be carried out, after `-x` those that would be refused. The stage itself has
//! no grants, so that no request reaches the kernel.

use std::{cell::RefCell, rc::Rc};

use super::{super::CommandError, error::ToolError, suite::Case};
use flowgate_config::FormatContext;
use flowgate_model::{Label, action, grants::Grants};
use flowgate_pipeline::{
    FormatSpec,
    entries::Entries,
    executor::{self, Executor, Plan, Shows},
    format::Format,
    load::dry_run_formats,
    loader::{PluginLoader, PluginSpec, Purpose, Role},
    outcome::{RecordedOutcomes, Requests, StageOutcome},
    stage::Stage,
};
use flowgate_runtime::PluginComponent;

/// Context for the representation of a single row.
const CONTEXT: FormatContext =
    FormatContext { header: false, footer: false, save: Some("event"), labels: true, kernel_times: true, time: true };

/// Runs a case and returns the transcript.
///
/// # Errors
/// The fixture is invalid, or the plugin does not start or fails.
pub(super) fn run(
    loader: &PluginLoader,
    component: &Rc<PluginComponent>,
    labels: &[Label],
    case: &Case,
) -> Result<String, CommandError> {
    let (name, content) = &case.fixture;
    if case.expectations {
        let rows = flowgate_fixture::expectations(name, content).map_err(ToolError::from)?;
        transcript(loader, component, case, rows)
    } else {
        let rows = flowgate_fixture::flows(name, content, labels).map_err(ToolError::from)?;
        transcript(loader, component, case, rows)
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
    case: &Case,
    rows: T,
) -> Result<String, CommandError> {
    let is_format = match T::STAGE {
        Role::ExpectationStage => {
            component.capabilities.expectation_format && !component.capabilities.expectation_stage
        }
        _ => component.capabilities.flow_format && !component.capabilities.flow_stage,
    };
    if is_format {
        return formatted(loader, component, case, rows);
    }
    let prepared = loader.prepare_component(component.clone(), &spec(case), T::STAGE, Purpose::Run)?;
    let recorded = Rc::new(RefCell::new(RecordedOutcomes::default()));
    let reads = prepared.reads();
    let mut stage = Stage::new(prepared.into_instance(), reads, Grants::NONE).recording(recorded.clone());
    // The requests go into the transcript; the executor refuses all of them without a message.
    let mut executor = Executor::new(Shows::Entries, T::decoder(0));
    let mut writer = Writer {
        format: format(loader, case, T::FORMAT)?,
        plan: dry_run_formats(loader, T::FORMAT)?,
        grants: &case.grants,
        text: String::new(),
    };
    for before in batches(&rows, case.batch) {
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
    case: &Case,
    rows: T,
) -> Result<String, CommandError> {
    let prepared = loader.prepare_component(component.clone(), &spec(case), T::FORMAT, Purpose::Run)?;
    let mut format = prepared.into_format();
    let mut bytes = format.begin::<T>()?;
    for mut batch in batches(&rows, case.batch) {
        bytes.extend(format.render(&mut batch)?);
    }
    bytes.extend(format.end::<T>()?);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the stock format of a case.
fn format(loader: &PluginLoader, case: &Case, role: Role) -> Result<Format, CommandError> {
    match CONTEXT.format(case.output) {
        FormatSpec::Stock { name, options, .. } => Ok(loader.format(name, role, &options, true)?),
        FormatSpec::Plugin(plugin) => Ok(loader.prepare(&plugin, role, Purpose::Run)?.into_format()),
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
