//! Whether what a plugin returned makes sense: counts, row numbers, lengths, text ends. All of it is checked before any of it is
//! used.

use super::Said;
use flowgate_model::{Actions, Annotations, action, batch, bounds, verdict};

/// Whether an outcome makes sense for a batch of so many rows, with values of so many rows.
pub(super) fn outcome<T>(said: &Said<T>, rows: usize, values: usize) -> Result<(), String> {
    check_verdicts(&said.verdicts, rows)?;
    if let Some(changes) = &said.changes {
        let lists = [changes.rows.len(), changes.values.len(), changes.clear.len()];
        if lists.iter().any(|&length| length != changes.rows.len()) {
            return Err(format!("changes in lists of different lengths: {lists:?}"));
        }
        check_rows("a change", &changes.rows, rows, false)?;
        check_rows("a change by values", &changes.values, values, false)?;
        let (length, most) = (changes.rows.len(), bounds::ROW_CHANGES);
        if length > rows.saturating_mul(most) {
            return Err(format!("{length} changes of a batch of {rows} rows; there can be {most} for each row"));
        }
    }
    if let Some(annotations) = &said.annotations {
        check_annotations(annotations, rows)?;
    }
    check_actions(&said.requests.actions, rows, values)
}

/// Whether an outcome says nothing about the rows of a batch, where there is none or where they are not to be shown.
pub(super) fn late<T>(said: &Said<T>) -> Result<(), String> {
    let annotated = said.annotations.as_ref().is_some_and(|annotations| !annotations.rows.is_empty());
    let changed = said.changes.as_ref().is_some_and(|changes| !changes.rows.is_empty());
    if said.verdicts.is_empty() && !changed && !annotated {
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

/// Whether all of these rows exist.
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
