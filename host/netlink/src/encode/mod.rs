//! Encoding: requests about single flows and expectations, out of rows of the model.

mod expectation;
mod flow;
#[cfg(test)]
mod tests;
pub(super) mod tuple;

use thiserror::Error;

use flowgate_model::{Expectations, Flows, SparseTexts};

/// The requests about one expectation, and those about all.
pub mod expectations {
    pub use super::expectation::{create, delete, delete_of_helper, flush, get, of_master};
}

/// The requests about one flow, and the one about all.
pub mod flows {
    pub use super::flow::{Existing, create, delete, delete_all_of, flush, get, update};
}

/// A row that cannot be put into words for the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The batch has no such row.
    #[error("there is no row {row} in a batch of {length}")]
    Row {
        /// The row.
        row: usize,
        /// How many there are.
        length: u32,
    },
    /// The row's family is neither IPv4 nor IPv6.
    #[error("address family {family} is neither 2 (IPv4) nor 10 (IPv6)")]
    Family {
        /// What it is.
        family: u8,
    },
    /// Neither tuple is complete. A deletion without a complete tuple is refused, since the kernel would take some
    /// such requests for an order to delete everything.
    #[error("a deletion needs a complete tuple: the original one lacks {}", missing_names(*missing))]
    IncompleteTuple {
        /// The fields that the original tuple lacks, as bits of `has`.
        missing: u64,
    },
    /// A text is longer than the kernel takes.
    #[error("{what} of {length} bytes is longer than {limit}")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// What the kernel takes.
        limit: usize,
    },
    /// A name contains a NUL byte, or is empty where it must not be.
    #[error("{what} is not a name that the kernel can take")]
    Name {
        /// Which name.
        what: &'static str,
    },
}

impl EncodeError {
    /// What conntrack makes of such a row before it asks the kernel: EINVAL.
    #[must_use]
    pub fn errno(&self) -> i32 {
        libc::EINVAL
    }
}

/// The names of some tuple fields.
fn missing_names(missing: u64) -> String {
    use flowgate_model::field;
    [
        (field::SOURCE, "the source address"),
        (field::DESTINATION, "the destination address"),
        (field::PROTOCOL, "the protocol"),
        (field::SOURCE_L4, "the source port, key or ICMP identifier"),
        (field::DESTINATION_L4, "the destination port, key or ICMP type and code"),
    ]
    .iter()
    .filter(|(bit, _)| missing & bit != 0)
    .map(|(_, name)| *name)
    .collect::<Vec<_>>()
    .join(", ")
}

/// A row of a batch of flows.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    flows: &'a Flows,
    row: usize,
    has: u64,
    family: u8,
}

impl<'a> Entry<'a> {
    /// The row `row` of `flows`. The columns are not trusted: what is missing in them counts as 0.
    ///
    /// # Errors
    /// When there is no such row.
    pub fn new(flows: &'a Flows, row: usize) -> Result<Self, EncodeError> {
        match (flows.has.get(row), flows.family.get(row)) {
            (Some(has), Some(family)) => Ok(Self { flows, row, has: *has, family: *family }),
            _ => Err(EncodeError::Row { row, length: flows.length }),
        }
    }

    /// The same row as if it lacked these fields.
    #[must_use]
    pub fn without(self, fields: u64) -> Self {
        Self { has: self.has & !fields, ..self }
    }

    /// Whether it has any of these fields.
    fn has(&self, fields: u64) -> bool {
        self.has & fields != 0
    }

    /// Its family, which must be one that the kernel takes.
    fn known_family(&self) -> Result<u8, EncodeError> {
        known_family(self.family)
    }
}

/// A family that connection tracking has.
fn known_family(family: u8) -> Result<u8, EncodeError> {
    use flowgate_model::family::{IPV4, IPV6};
    if matches!(family, IPV4 | IPV6) { Ok(family) } else { Err(EncodeError::Family { family }) }
}

/// A row of a batch of expectations.
#[derive(Debug, Clone, Copy)]
pub struct ExpectationEntry<'a> {
    batch: &'a Expectations,
    row: usize,
    has: u64,
    family: u8,
}

impl<'a> ExpectationEntry<'a> {
    /// The row `row` of `batch`. The columns are not trusted: what is missing in them counts as 0.
    ///
    /// # Errors
    /// When there is no such row.
    pub fn new(batch: &'a Expectations, row: usize) -> Result<Self, EncodeError> {
        match (batch.has.get(row), batch.family.get(row)) {
            (Some(has), Some(family)) => Ok(Self { batch, row, has: *has, family: *family }),
            _ => Err(EncodeError::Row { row, length: batch.length }),
        }
    }

    fn has(&self, fields: u64) -> bool {
        self.has & fields != 0
    }
}

/// Where `row` stands in the rows of a sparse column, which are in ascending order.
fn find(rows: &[u32], row: usize) -> Option<usize> {
    let row = u32::try_from(row).ok()?;
    let index = rows.partition_point(|other| *other < row);
    (rows.get(index) == Some(&row)).then_some(index)
}

/// The text of `row` in a sparse column.
fn text(column: &SparseTexts, row: usize) -> Option<&[u8]> {
    let index = find(&column.rows, row)?;
    let start = match index.checked_sub(1) {
        None => 0,
        Some(before) => *column.texts.ends.get(before)? as usize,
    };
    column.texts.bytes.get(start..*column.texts.ends.get(index)? as usize)
}

/// A name with the NUL that the kernel wants at its end.
fn name(what: &'static str, text: &[u8], limit: usize) -> Result<Vec<u8>, EncodeError> {
    // What is too long is not read to its end.
    if text.iter().take(limit + 1).any(|&byte| byte == 0) {
        return Err(EncodeError::Name { what });
    }
    if text.len() > limit {
        return Err(EncodeError::TooLong { what, length: text.len(), limit });
    }
    Ok([text, &[0]].concat())
}
