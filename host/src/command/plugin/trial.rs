//! A case, run: the real component in a real stage, and a transcript of what it makes of each row.
//!
//! The transcript has a line for each row: whether it is kept or dropped, and how the format shows it, with the changes and notes
//! of the plugin if it is kept. Behind a row stands what is asked of the kernel for it, in conntrack's words: `->` what would be
//! done, `-x` what would be refused. The stage itself has no grants, so that nothing leads to the kernel.

use std::{cell::RefCell, rc::Rc};

use super::{
    super::{
        CommandError,
        assemble::{Assembly, Role},
        outputs,
        subject::Subject,
        table::Look,
    },
    allowance::Allowance,
    error::ToolError,
    suite::Case,
};
use crate::{
    fixture,
    model::{Actions, Expectations, Flows, Label, action},
    pipeline::{
        batch,
        executor::{Executor, Shows},
        format::Format,
        grants::Grants,
        phrase,
        stage::{Seen, Stage},
    },
    wasm::PluginComponent,
};

/// How a row looks by itself.
const LOOK: Look =
    Look { header: false, footer: false, save: Some("event"), labels: true, kernel_times: true, time: true };

/// Runs a case; the transcript.
///
/// # Errors
/// The fixture is wrong, or the plugin does not start or fails.
pub fn run(
    assembly: &Assembly,
    component: &PluginComponent,
    labels: &[Label],
    case: &Case,
) -> Result<String, CommandError> {
    let (name, content) = &case.fixture;
    if case.expectations {
        let rows = fixture::expectations(name, content).map_err(ToolError::from)?;
        transcript(assembly, component, case, rows)
    } else {
        let rows = fixture::flows(name, content, labels).map_err(ToolError::from)?;
        transcript(assembly, component, case, rows)
    }
}

/// What a stage returned: verdicts, actions, and the values that these refer to.
type Returned<T> = (Vec<u8>, Option<Actions>, T);

/// A table that cases are about.
trait Tested: Subject + Clone {
    /// The rows that have a 1.
    fn only(&self, rows: &[u8]) -> Self;
    /// What the stage returned last.
    fn returned(seen: &mut Seen) -> Option<Returned<Self>>;
    /// An action in words.
    fn phrase(kind: u8, target: Option<(&Self, usize)>, values: Option<(&Self, usize)>) -> String;
    /// The fields that a row of values sets.
    fn set_by(values: &Self, row: Option<usize>) -> u64;
}

impl Tested for Flows {
    fn only(&self, rows: &[u8]) -> Self {
        let mut picked = self.clone();
        batch::retain(&mut picked, rows);
        picked
    }

    fn returned(seen: &mut Seen) -> Option<Returned<Self>> {
        seen.flows.pop().map(|outcome| (outcome.verdicts, outcome.actions, outcome.values.unwrap_or_default()))
    }

    fn phrase(kind: u8, target: Option<(&Self, usize)>, values: Option<(&Self, usize)>) -> String {
        phrase::flow(kind, target, values)
    }

    fn set_by(values: &Self, row: Option<usize>) -> u64 {
        Allowance::set_by(values, row)
    }
}

impl Tested for Expectations {
    fn only(&self, rows: &[u8]) -> Self {
        let mut picked = self.clone();
        batch::retain_expectations(&mut picked, rows);
        picked
    }

    fn returned(seen: &mut Seen) -> Option<Returned<Self>> {
        seen.expectations.pop().map(|outcome| (outcome.verdicts, outcome.actions, outcome.values.unwrap_or_default()))
    }

    fn phrase(kind: u8, target: Option<(&Self, usize)>, values: Option<(&Self, usize)>) -> String {
        phrase::expectation(kind, target, values)
    }

    fn set_by(_values: &Self, _row: Option<usize>) -> u64 {
        0
    }
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
    assembly: &Assembly,
    component: &PluginComponent,
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
        return formatted(assembly, component, case, rows);
    }
    let (instance, description) = assembly.started(component, T::STAGE, &case.options)?;
    let seen = Rc::new(RefCell::new(Seen::default()));
    let mut stage = Stage::new(instance, description.reads, Grants::NONE).watched(seen.clone());
    // What is asked for is written down here; the executor refuses it all, and is not to say so.
    let mut executor = Executor::new(Shows::Entries, T::decoder(0), |_| {});
    let (name, options) = outputs::format(case.output, LOOK);
    let mut writer = Writer {
        format: assembly.format(name, T::FORMAT, &options, true)?,
        allowance: case.allowance,
        text: String::new(),
    };
    for before in batches(&rows, case.batch) {
        let mut after = before.clone();
        after.stage(&mut stage, &mut executor)?;
        let (verdicts, actions, values) = T::returned(&mut seen.borrow_mut()).unwrap_or_default();
        writer.batch(&before, &after, &verdicts, actions.as_ref(), &values)?;
    }
    T::finish(&mut stage, &mut executor)?;
    if let Some((_, Some(actions), values)) = T::returned(&mut seen.borrow_mut())
        && !actions.kinds.is_empty()
    {
        writer.text.push_str("end\n");
        writer.actions(&T::default(), None, &actions, &values);
    }
    Ok(writer.text)
}

/// What a format makes of the rows.
fn formatted<T: Tested>(
    assembly: &Assembly,
    component: &PluginComponent,
    case: &Case,
    rows: T,
) -> Result<String, CommandError> {
    let (instance, description) = assembly.started(component, T::FORMAT, &case.options)?;
    let mut format = Format::new(instance, description.reads);
    let mut bytes = T::begin(&mut format)?;
    for mut batch in batches(&rows, case.batch) {
        bytes.extend(batch.render(&mut format)?);
    }
    bytes.extend(T::end(&mut format)?);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes the transcript.
struct Writer {
    format: Format,
    allowance: Allowance,
    text: String,
}

impl Writer {
    /// The rows of a batch, as they came and as the kept ones are afterwards.
    fn batch<T: Tested>(
        &mut self,
        before: &T,
        after: &T,
        verdicts: &[u8],
        actions: Option<&Actions>,
        values: &T,
    ) -> Result<(), CommandError> {
        let mut kept = 0;
        for row in 0..before.rows() {
            let keeps = verdicts.get(row).is_none_or(|verdict| *verdict != 0);
            let (word, from, at) = if keeps { ("keep", after, kept) } else { ("drop", before, row) };
            kept += usize::from(keeps);
            self.row(word, from, at)?;
            if let Some(actions) = actions {
                self.actions(before, Some(row), actions, values);
            }
        }
        if let Some(actions) = actions {
            self.actions(before, None, actions, values);
        }
        Ok(())
    }

    /// A row as the format shows it.
    fn row<T: Tested>(&mut self, word: &str, rows: &T, row: usize) -> Result<(), CommandError> {
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
    fn actions<T: Tested>(&mut self, batch: &T, row: Option<usize>, actions: &Actions, values: &T) {
        for ((&kind, &of), &value) in actions.kinds.iter().zip(&actions.rows).zip(&actions.values) {
            let at = (of != action::NO_ROW).then_some(of as usize);
            if at != row {
                continue;
            }
            let value = (value != action::NO_ROW).then_some(value as usize);
            let (target, with) = (at.map(|at| (batch, at)), value.map(|value| (values, value)));
            let line = crate::text::clean(&T::phrase(kind, target, with));
            let refusal = match self.allowance.missing(kind, T::set_by(values, value)) {
                Some(missing) => Some(format!("not granted: {missing}")),
                None => T::request(kind, target, with).err().map(|error| format!("cannot be asked for: {error}")),
            };
            match refusal {
                None => self.text.push_str(&format!("  -> {line}\n")),
                Some(refusal) => self.text.push_str(&format!("  -x {line}  # {refusal}\n")),
            }
        }
    }
}
