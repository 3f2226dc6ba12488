//! Checks a table from a plugin before the host reads it.

use super::columns::{with_dense, with_grouped, with_sparse, with_texts};
use crate::{Column, Expectations, Flows, RawAttributes, Texts, bounds, check, field};

/// Checks that all dense columns are as long as the batch or empty, that the rows of sparse columns exist and are in
/// order, and that no text is longer than its kind allows ([`bounds::max_value_text`]). The host reads a table from a
/// plugin only after this check.
///
/// # Errors
/// Returns the problem as the rest of a sentence that begins with "returned".
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
                let name = concat!(stringify!($group), ".", stringify!($column));
                check_texts(name, length, &group.$column.rows, &group.$column.texts)?;
                check_lengths(name, &group.$column.texts, bounds::max_value_text($bits))?;
            }
        };
    }
    with_texts!(texts);
    if let Some(events) = &flows.events {
        column("events.kind", events.kind.len())?;
        column("events.received", events.received.len())?;
        check_order("program", length, &events.program.rows, 1)?;
        check_order("namespace_name", length, &events.namespace_name.rows, 1)?;
    }
    more(&flows.more, length)?;
    sparse(flows, length)
}

/// Checks columns of later versions.
fn more(columns: &[Column], length: usize) -> Result<(), String> {
    if columns.len() > bounds::MAX_COLUMNS {
        return Err(format!(
            "a table with {} columns in `more`; at most {} are taken",
            columns.len(),
            bounds::MAX_COLUMNS
        ));
    }
    for column in columns {
        let items = if column.rows.is_empty() { length } else { column.rows.len() };
        check_order("more", length, &column.rows, 1)?;
        let lists =
            [column.bytes.len(), column.words.len(), column.numbers.len(), column.longs.len(), column.texts.ends.len()];
        if let Some(values) = lists.iter().find(|&&values| values != 0 && values != items) {
            return Err(format!("`more` with {items} rows but {values} values"));
        }
        check_ends("more", &column.texts)?;
        check_lengths("more", &column.texts, bounds::MAX_ATTRIBUTE)?;
    }
    Ok(())
}

/// Checks unknown attributes.
fn unknown(attributes: &RawAttributes, length: usize) -> Result<(), String> {
    check_texts("unknown", length, &attributes.rows, &attributes.payloads)?;
    check_items("unknown", length, &attributes.rows, usize::MAX, &[attributes.paths.len()])?;
    check_lengths("unknown", &attributes.payloads, bounds::MAX_ATTRIBUTE)
}

/// Checks that the rows of sparse columns are in order and that the columns of a group have equal lengths. Otherwise a
/// value that is judged and a value that is sent could differ.
fn sparse(flows: &Flows, length: usize) -> Result<(), String> {
    let Some(rare) = &flows.rare else { return Ok(()) };
    macro_rules! texts {
        ($bits:expr, rare, $column:ident) => {
            check_order(stringify!($column), length, &rare.$column.rows, 1)?;
        };
        ($bits:expr, $group:ident, $column:ident) => {};
    }
    with_texts!(texts);
    unknown(&rare.unknown, length)?;
    let notes = &rare.annotations;
    for texts in [&notes.keys, &notes.values] {
        check_texts("annotations", length, &notes.rows, texts)?;
    }
    macro_rules! sparse {
        ($group:ident, $most:expr, $($($field:ident).+),+) => {
            let columns = [$(rare.$group.$($field).+.len()),+];
            check_items(stringify!($group), length, &rare.$group.rows, $most, &columns)?;
        };
    }
    with_sparse!(sparse);
    Ok(())
}

/// Checks that the columns of a sparse group are as long as its list of rows, and that the rows are in order.
fn check_items(name: &str, length: usize, rows: &[u32], most: usize, columns: &[usize]) -> Result<(), String> {
    check_order(name, length, rows, most)?;
    match columns.iter().find(|&&column| column != rows.len()) {
        Some(column) => Err(format!("`{name}` with {} rows but {column} values", rows.len())),
        None => Ok(()),
    }
}

/// Checks that rows exist, are in ascending order, and are named at most `most` times.
fn check_order(name: &str, length: usize, rows: &[u32], most: usize) -> Result<(), String> {
    if let Some(row) = rows.iter().find(|&&row| row as usize >= length) {
        return Err(format!("`{name}` for row {row} of a batch of {length} rows"));
    }
    if !rows.is_sorted() {
        return Err(format!("`{name}` whose rows are not in ascending order"));
    }
    match rows.iter().zip(rows.iter().skip(most.min(rows.len()))).find(|(one, other)| one == other) {
        Some((row, _)) => Err(format!("`{name}` for row {row} more than {}", if most == 1 { "once" } else { "twice" })),
        None => Ok(()),
    }
}

/// Checks a sparse column of byte strings.
///
/// # Errors
/// See [`check()`].
pub fn check_texts(name: &str, length: usize, rows: &[u32], texts: &Texts) -> Result<(), String> {
    if let Some(row) = rows.iter().find(|&&row| row as usize >= length) {
        return Err(format!("`{name}` for row {row} of a batch of {length} rows"));
    }
    if rows.len() != texts.ends.len() {
        return Err(format!("`{name}` with {} rows but {} values", rows.len(), texts.ends.len()));
    }
    check_ends(name, texts)
}

/// Checks that byte strings are contiguous and within their bytes.
fn check_ends(name: &str, texts: &Texts) -> Result<(), String> {
    if !texts.ends.is_sorted() || texts.ends.last().is_some_and(|&end| end as usize > texts.bytes.len()) {
        return Err(format!("`{name}` whose values end outside their {} bytes", texts.bytes.len()));
    }
    Ok(())
}

/// Checks that no byte string is longer than its kind allows; their ends must have been checked.
pub(crate) fn check_lengths(name: &str, texts: &Texts, most: usize) -> Result<(), String> {
    // All of them together are often shorter than the maximum of one.
    if texts.bytes.len() <= most {
        return Ok(());
    }
    let mut start = 0;
    for &end in &texts.ends {
        let length = (end as usize).saturating_sub(start);
        if length > most {
            return Err(format!("`{name}` with a value of {length} bytes; such a value has at most {most}"));
        }
        start = end as usize;
    }
    Ok(())
}

/// Checks a table of expectations.
///
/// # Errors
/// See [`check()`].
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
        check_lengths(name, &column.texts, bounds::MAX_NAME)?;
    }
    if let Some(attributes) = &rows.unknown {
        unknown(attributes, length)?;
    }
    more(&rows.more, length)?;
    check::expectations(rows).map_err(|wrong| format!("an invalid table: {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rare, SparseTexts};

    #[test]
    fn texts_that_nobody_uses_have_a_limit_as_well() {
        let text = |length: usize| Texts { ends: vec![length as u32], bytes: vec![0; length] };
        let flows = |texts: Texts, count: usize| Flows {
            length: 1,
            has: vec![0],
            family: vec![2],
            more: vec![Column { rows: vec![0], texts, ..Column::default() }; count],
            ..Flows::default()
        };
        assert_eq!(check(&flows(text(bounds::MAX_ATTRIBUTE), bounds::MAX_COLUMNS)), Ok(()));
        assert!(
            check(&flows(text(bounds::MAX_ATTRIBUTE + 1), 1))
                .unwrap_err()
                .contains("`more` with a value of 65532 bytes")
        );
        assert!(check(&flows(text(1), bounds::MAX_COLUMNS + 1)).unwrap_err().contains("65 columns in `more`"));
        for name in ["helper", "function", "program"] {
            let of = |length: usize| {
                let mut rows = Expectations { length: 1, has: vec![0], family: vec![2], ..Expectations::default() };
                let column = SparseTexts { rows: vec![0], texts: text(length) };
                match name {
                    "helper" => rows.helper = column,
                    "function" => rows.function = column,
                    _ => rows.program = column,
                }
                check_expectations(&rows)
            };
            let error = of(bounds::MAX_NAME + 1).unwrap_err();
            assert!(error.contains(&format!("`{name}` with a value of 257 bytes")), "{error}");
        }
    }

    /// Changes a table of two rows and returns the error of its check.
    fn said(change: impl FnOnce(&mut Rare)) -> String {
        let mut flows = Flows { length: 2, has: vec![0; 2], family: vec![2; 2], ..Flows::default() };
        change(flows.rare.get_or_insert_default());
        check(&flows).err().unwrap_or_default()
    }

    #[test]
    fn sparse_columns_are_in_order_and_whole() {
        fn nat(rare: &mut Rare, rows: &[u32]) {
            let nat = &mut rare.nat;
            nat.rows = rows.to_vec();
            nat.destination = vec![0; rows.len()];
            for addresses in [&mut nat.first, &mut nat.last] {
                (addresses.hi, addresses.lo) = (vec![0; rows.len()], vec![0; rows.len()]);
            }
            (nat.first_port, nat.last_port) = (vec![0; rows.len()], vec![0; rows.len()]);
        }
        fn labels(rare: &mut Rare, rows: &[u32]) {
            rare.labels.rows = rows.to_vec();
            rare.labels.texts = Texts { ends: (1..=rows.len() as u32).collect(), bytes: vec![1; rows.len()] };
        }
        for rows in [&[][..], &[0], &[1], &[0, 1], &[0, 0], &[0, 0, 1, 1]] {
            assert_eq!(said(|rare| nat(rare, rows)), "", "{rows:?}");
        }
        for rows in [&[][..], &[0], &[1], &[0, 1]] {
            assert_eq!(said(|rare| labels(rare, rows)), "", "{rows:?}");
        }
        for (what, wrong) in [
            ("`nat` whose rows are not in ascending order", said(|rare| nat(rare, &[1, 0]))),
            ("`nat` for row 0 more than twice", said(|rare| nat(rare, &[0, 0, 0]))),
            ("`nat` for row 2 of a batch of 2 rows", said(|rare| nat(rare, &[2]))),
            ("`labels` for row 0 more than once", said(|rare| labels(rare, &[0, 0]))),
            ("`labels` whose rows are not in ascending order", said(|rare| labels(rare, &[1, 0]))),
            ("`master` for row 1 more than once", said(|rare| rare.master.rows = vec![1, 1])),
            ("`master` with 1 rows but 0 values", said(|rare| rare.master.rows = vec![1])),
            ("`sequence` with 1 rows but 0 values", said(|rare| rare.sequence.rows = vec![0])),
            ("`synproxy` with 0 rows but 1 values", said(|rare| rare.synproxy.its = vec![0])),
            ("`dccp` with 1 rows but 0 values", said(|rare| rare.dccp.rows = vec![0])),
            (
                "`nat` with 1 rows but 0 values",
                said(|rare| {
                    nat(rare, &[0]);
                    rare.nat.destination.clear();
                }),
            ),
        ] {
            assert_eq!(wrong, what);
        }
    }
}
