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
    sparse(flows, length)
}

/// Whether the rows of the sparse columns are in order, and these columns are all as long: whoever judges a value and whoever
/// sends it must find the same one.
fn sparse(flows: &Flows, length: usize) -> Result<(), String> {
    let Some(rare) = &flows.rare else { return Ok(()) };
    macro_rules! texts {
        ($bits:expr, rare, $column:ident) => {
            check_order(stringify!($column), length, &rare.$column.rows, 1)?;
        };
        ($bits:expr, $group:ident, $column:ident) => {};
    }
    with_texts!(texts);
    let (master, sequence, proxy, dccp, nat) = (&rare.master, &rare.sequence, &rare.synproxy, &rare.dccp, &rare.nat);
    let tuple = &master.tuple;
    check_items(
        "master",
        length,
        &master.rows,
        1,
        &[
            master.protocol.len(),
            master.zone.len(),
            tuple.source.hi.len(),
            tuple.source.lo.len(),
            tuple.destination.hi.len(),
            tuple.destination.lo.len(),
            tuple.source_l4.len(),
            tuple.destination_l4.len(),
        ],
    )?;
    check_items(
        "sequence",
        length,
        &sequence.rows,
        2,
        &[sequence.reply.len(), sequence.position.len(), sequence.before.len(), sequence.after.len()],
    )?;
    check_items("synproxy", length, &proxy.rows, 1, &[proxy.isn.len(), proxy.its.len(), proxy.tsoff.len()])?;
    check_items("dccp", length, &dccp.rows, 1, &[dccp.role.len(), dccp.handshake.len()])?;
    check_items(
        "nat",
        length,
        &nat.rows,
        2,
        &[
            nat.destination.len(),
            nat.first.hi.len(),
            nat.first.lo.len(),
            nat.last.hi.len(),
            nat.last.lo.len(),
            nat.first_port.len(),
            nat.last_port.len(),
        ],
    )
}

/// Whether the columns of a sparse group are all as long as its list of rows, and these are in order.
fn check_items(name: &str, length: usize, rows: &[u32], most: usize, columns: &[usize]) -> Result<(), String> {
    check_order(name, length, rows, most)?;
    match columns.iter().find(|&&column| column != rows.len()) {
        Some(column) => Err(format!("`{name}` with {} rows but {column} values", rows.len())),
        None => Ok(()),
    }
}

/// Whether rows exist, are in ascending order, and each is there so often at most.
fn check_order(name: &str, length: usize, rows: &[u32], most: usize) -> Result<(), String> {
    if let Some(row) = rows.iter().find(|&&row| row as usize >= length) {
        return Err(format!("`{name}` for row {row} of a batch of {length} rows"));
    }
    if !rows.is_sorted() {
        return Err(format!("`{name}` whose rows are not in ascending order"));
    }
    match rows.iter().zip(rows.iter().skip(most)).find(|(one, other)| one == other) {
        Some((row, _)) => Err(format!("`{name}` for row {row} more than {}", if most == 1 { "once" } else { "twice" })),
        None => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Rare;

    /// A table of two rows, changed, and what is said of it.
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
