//! Checks of the outcome that a plugin returned: counts, row numbers, lengths and the ends of texts.

use crate::outcome::StageOutcome;
use flowgate_model::{Actions, Annotations, action, batch, bounds, verdict};

/// Checks an outcome for a batch of `rows` rows with `values` rows of values.
pub(super) fn check_outcome<T>(outcome: &StageOutcome<T>, rows: usize, values: usize) -> Result<(), String> {
    check_verdicts(&outcome.verdicts, rows)?;
    if let Some(changes) = &outcome.changes {
        let lists = [changes.rows.len(), changes.values.len(), changes.clear.len()];
        if lists.iter().any(|&length| length != changes.rows.len()) {
            return Err(format!("changes in lists of different lengths: {lists:?}"));
        }
        check_rows("a change", &changes.rows, rows, false)?;
        check_rows("a change by values", &changes.values, values, false)?;
        let (length, most) = (changes.rows.len(), bounds::CHANGES_PER_ROW);
        if length > rows.saturating_mul(most) {
            return Err(format!("{length} changes of a batch of {rows} rows; there can be {most} for each row"));
        }
    }
    if let Some(annotations) = &outcome.annotations {
        check_annotations(annotations, rows)?;
    }
    check_actions(&outcome.requests.actions, rows, values)
}

/// Checks that an outcome contains only actions, for calls without a batch that is shown.
pub(super) fn late<T>(outcome: &StageOutcome<T>) -> Result<(), String> {
    let annotated = outcome.annotations.as_ref().is_some_and(|annotations| !annotations.rows.is_empty());
    let changed = outcome.changes.as_ref().is_some_and(|changes| !changes.rows.is_empty());
    if outcome.verdicts.is_empty() && !changed && !annotated {
        return Ok(());
    }
    Err("verdicts, changes or annotations where only actions make sense".into())
}

fn check_verdicts(verdicts: &[u8], rows: usize) -> Result<(), String> {
    if !verdicts.is_empty() && verdicts.len() != rows {
        return Err(format!(
            "{} verdicts for a batch of {rows} rows; it must be one for each row, or none to keep all",
            verdicts.len()
        ));
    }
    match verdicts.iter().position(|&byte| byte != verdict::KEEP && byte != verdict::DROP) {
        Some(row) => Err(format!(
            "the verdict {} for row {row}; known are 0 (drop) and 1 (keep)",
            verdicts.get(row).copied().unwrap_or_default()
        )),
        None => Ok(()),
    }
}

/// Checks that all of these row numbers exist.
fn check_rows(what: &str, rows: &[u32], length: usize, may_be_none: bool) -> Result<(), String> {
    match rows.iter().find(|&&row| row as usize >= length && !(may_be_none && row == action::NO_ROW)) {
        Some(row) => Err(format!("{what} for row {row} of a batch of {length} rows")),
        None => Ok(()),
    }
}

fn check_annotations(annotations: &Annotations, length: usize) -> Result<(), String> {
    batch::check_texts("an annotation", length, &annotations.rows, &annotations.keys)?;
    batch::check_texts("an annotation", length, &annotations.rows, &annotations.values)
}

fn check_actions(actions: &Actions, rows: usize, values: usize) -> Result<(), String> {
    let lists = [actions.kinds.len(), actions.rows.len(), actions.values.len()];
    if lists.iter().any(|&length| length != actions.kinds.len()) {
        return Err(format!("actions in lists of different lengths: {lists:?}"));
    }
    check_rows("an action", &actions.rows, rows, true)?;
    check_rows("an action by values", &actions.values, values, true)
}
