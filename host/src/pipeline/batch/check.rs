//! Checks a table that a plugin made, before the host reads it.

use super::columns::{with_dense, with_grouped, with_texts};
use crate::model::{Expectations, Flows, Texts};

/// Whether all dense columns are as long as the batch says, or empty, and all sparse rows within it: what must hold of a
/// table that a plugin made before the host reads it.
///
/// # Errors
/// What is wrong, as the rest of a sentence that begins with "returned".
pub fn check(flows: &Flows) -> Result<(), String> {
    let length = flows.length as usize;
    let column = |name: &str, elements: usize| {
        if elements == 0 || elements == length {
            Ok(())
        } else {
            Err(format!("a table of {length} rows whose column `{name}` has {elements} elements"))
        }
    };
    if flows.has.len() != length {
        return Err(format!("a table of {length} rows whose column `has` has {} elements", flows.has.len()));
    }
    column("family", flows.family.len())?;
    macro_rules! dense {
        ($bits:expr, $($path:ident).+) => { column(concat!($(".", stringify!($path)),+), flows.$($path).+.len())? };
    }
    with_dense!(dense);
    macro_rules! grouped {
        ($bits:expr, $group:ident, $column:ident) => {
            if let Some(group) = &flows.$group {
                column(concat!(stringify!($group), ".", stringify!($column)), group.$column.len())?;
            }
        };
    }
    with_grouped!(grouped);
    macro_rules! texts {
        ($bits:expr, $group:ident, $column:ident) => {
            if let Some(group) = &flows.$group {
                check_texts(
                    concat!(stringify!($group), ".", stringify!($column)),
                    length,
                    &group.$column.rows,
                    &group.$column.texts,
                )?;
            }
        };
    }
    with_texts!(texts);
    Ok(())
}

/// Whether a sparse column of byte strings is sound.
///
/// # Errors
/// As [`check`].
pub fn check_texts(name: &str, length: usize, rows: &[u32], texts: &Texts) -> Result<(), String> {
    if let Some(row) = rows.iter().find(|&&row| row as usize >= length) {
        return Err(format!("`{name}` for row {row} of a batch of {length} rows"));
    }
    if rows.len() != texts.ends.len() {
        return Err(format!("`{name}` with {} rows but {} values", rows.len(), texts.ends.len()));
    }
    if !texts.ends.is_sorted() || texts.ends.last().is_some_and(|&end| end as usize > texts.bytes.len()) {
        return Err(format!("`{name}` whose values end outside their {} bytes", texts.bytes.len()));
    }
    Ok(())
}

/// As [`check`], for expectations.
///
/// # Errors
/// As [`check`].
pub fn check_expectations(rows: &Expectations) -> Result<(), String> {
    let length = rows.length as usize;
    if rows.has.len() != length || rows.family.len() != length {
        return Err(format!(
            "a table of {length} rows whose columns `has` and `family` have {} and {} elements",
            rows.has.len(),
            rows.family.len()
        ));
    }
    for (name, column) in [("helper", &rows.helper), ("function", &rows.function), ("program", &rows.program)] {
        check_texts(name, length, &column.rows, &column.texts)?;
    }
    Ok(())
}
