//! A case, run: the real component in a real stage, and a transcript of what it makes of each row.
//!
//! The transcript has a line for each row: whether it is kept or dropped, and how the format shows it, with the changes and notes
//! of the plugin if it is kept. Behind a row stands what is asked of the kernel for it, in conntrack's words: `->` what would be
//! done, `-x` what would be refused. The stage itself has no grants, so that nothing leads to the kernel.

use std::{cell::RefCell, rc::Rc};

use super::{
    super::{CommandError, outputs, subject::Subject, table::Look},
    error::ToolError,
    suite::Case,
};
use flowgate_model::{Expectations, Flows, Label, action, grants::Grants};
use flowgate_pipeline::{
    executor::{self, Executor, Plan, Requests, Shows},
    format::Format,
    loader::{PluginLoader, PluginSpec, Purpose, Role},
    stage::{Said, Seen, Stage, Staged},
};
use flowgate_runtime::PluginComponent;

/// How a row looks by itself.
const LOOK: Look =
    Look { header: false, footer: false, save: Some("event"), labels: true, kernel_times: true, time: true };

/// Runs a case; the transcript.
///
/// # Errors
/// The fixture is wrong, or the plugin does not start or fails.
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

/// A table that cases are about.
trait Tested: Subject + Staged + Clone {
    /// What the stage said last.
    fn said(seen: &mut Seen) -> Option<Said<Self>>;

    /// The rows that have a 1.
    fn only(&self, rows: &[u8]) -> Self {
        let mut picked = self.clone();
        picked.retain(rows);
        picked
    }
}

impl Tested for Flows {
    fn said(seen: &mut Seen) -> Option<Said<Self>> {
        seen.flows.pop()
    }
}

impl Tested for Expectations {
    fn said(seen: &mut Seen) -> Option<Said<Self>> {
        seen.expectations.pop()
    }
}

/// What is decided about the plugin of a case.
fn spec(case: &Case) -> PluginSpec {
    PluginSpec { options: case.options.clone(), grants: case.grants.clone(), ..PluginSpec::default() }
}

/// Batches of at most so many rows.
fn batches<T: Tested>(rows: &T, size: usize) -> impl Iterator<Item = T> + '_ {
    let length = rows.rows();
    (0..length).step_by(size.max(1)).map(move |start| {
        let mask: Vec<u8> = (0..length).map(|row| u8::from(row >= start && row < start + size)).collect();
        rows.only(&mask)
    })
}

fn transcript<T: Tested>(
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
    let seen = Rc::new(RefCell::new(Seen::default()));
    let reads = prepared.reads();
    let mut stage = Stage::new(prepared.into_instance(), reads, Grants::NONE).watched(seen.clone());
    // What is asked for is written down here; the executor refuses it all, and is not to say so.
    let mut executor = Executor::new(Shows::Entries, T::decoder(0), |_| {});
    let (name, options) = outputs::format(case.output, LOOK);
    let mut writer = Writer {
        format: loader.format(name, T::FORMAT, &options, true)?,
        plan: loader.plan(T::FORMAT)?,
        grants: &case.grants,
        text: String::new(),
    };
    for before in batches(&rows, case.batch) {
        let mut after = before.clone();
        stage.batch(&mut after, &mut executor)?;
        if let Some(said) = T::said(&mut seen.borrow_mut()) {
            writer.batch(&before, &after, &said)?;
        }
    }
    stage.finish(&mut executor)?;
    if let Some(said) = T::said(&mut seen.borrow_mut())
        && !said.requests.actions.kinds.is_empty()
    {
        writer.text.push_str("end\n");
        writer.actions(&T::default(), None, &said.requests)?;
    }
    Ok(writer.text)
}

/// What a format makes of the rows.
fn formatted<T: Tested>(
    loader: &PluginLoader,
    component: &Rc<PluginComponent>,
    case: &Case,
    rows: T,
) -> Result<String, CommandError> {
    let prepared = loader.prepare_component(component.clone(), &spec(case), T::FORMAT, Purpose::Run)?;
    let mut format = prepared.into_format();
    let mut bytes = T::begin(&mut format)?;
    for mut batch in batches(&rows, case.batch) {
        bytes.extend(batch.render(&mut format)?);
    }
    bytes.extend(T::end(&mut format)?);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes the transcript.
struct Writer<'a, T> {
    format: Format,
    /// Writes actions as command lines.
    plan: Plan<T>,
    grants: &'a Grants,
    text: String,
}

impl<T: Tested> Writer<'_, T> {
    /// The rows of a batch, as they came and as the kept ones are afterwards.
    fn batch(&mut self, before: &T, after: &T, said: &Said<T>) -> Result<(), CommandError> {
        let mut kept = 0;
        for row in 0..before.rows() {
            let keeps = said.verdicts.get(row).is_none_or(|verdict| *verdict != 0);
            let (word, from, at) = if keeps { ("keep", after, kept) } else { ("drop", before, row) };
            kept += usize::from(keeps);
            self.row(word, from, at)?;
            self.actions(before, Some(row), &said.requests)?;
        }
        self.actions(before, None, &said.requests)
    }

    /// A row as the format shows it.
    fn row(&mut self, word: &str, rows: &T, row: usize) -> Result<(), CommandError> {
        let mask: Vec<u8> = (0..rows.rows()).map(|of| u8::from(of == row)).collect();
        let bytes = rows.only(&mask).render(&mut self.format)?;
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

    /// What is asked for with this row, or with none.
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
            let refusal = if T::granted(self.grants, kind, target, values) {
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
