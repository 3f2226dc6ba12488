//! Encoding of requests about single flows and expectations from rows of the model.

mod expectation;
mod flow;
#[cfg(test)]
mod tests;
pub(crate) mod tuple;

use thiserror::Error;

use flowgate_model::{Expectations, Flows, SparseTexts};

/// Requests about one expectation, and about all of them.
pub mod expectations {
    pub use super::expectation::{create, delete, delete_by_helper, dump_by_master, flush, get};
}

/// Requests about one flow, and about all of them.
pub mod flows {
    pub use super::flow::{IfExists, create, delete, delete_matching, flush, get, update};
    pub(crate) use super::flow::{create_or_update_with_id, update_with_id};
}

/// Why a row cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The batch has no row with this index.
    #[error("there is no row {row} in a batch of {length}")]
    Row {
        /// The index.
        row: usize,
        /// The number of rows.
        length: u32,
    },
    /// The row's family is neither IPv4 nor IPv6.
    #[error("address family {family} is neither 2 (IPv4) nor 10 (IPv6)")]
    Family {
        /// The row's family.
        family: u8,
    },
    /// Neither tuple is complete. A deletion without a complete tuple is refused, since the kernel takes some such
    /// requests as a request to delete everything.
    #[error("a deletion needs a complete tuple: the original one lacks {}", missing_names(*missing))]
    IncompleteTuple {
        /// The fields that the original tuple lacks, as bits of `has`.
        missing: u64,
    },
    /// A text is longer than the kernel accepts.
    #[error("{what} of {length} bytes is longer than {limit}")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The kernel's limit in bytes.
        limit: usize,
    },
    /// Something is requested twice for one direction or end, of which the kernel would take the last.
    #[error("{what} is requested twice")]
    Repeated {
        /// What is requested.
        what: &'static str,
    },
    /// A name contains a NUL byte, or is empty where it must not be.
    #[error("{what} is not a name that the kernel can take")]
    Name {
        /// Which name.
        what: &'static str,
    },
}

impl EncodeError {
    /// Returns the error that conntrack reports for such a row before it sends a request: EINVAL.
    #[must_use]
    pub fn errno(&self) -> i32 {
        libc::EINVAL
    }
}

/// Returns the names of tuple fields, for a message.
pub(crate) fn missing_names(missing: u64) -> String {
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
pub struct FlowEntry<'a> {
    flows: &'a Flows,
    row: usize,
    has: u64,
    family: u8,
}

impl<'a> FlowEntry<'a> {
    /// Returns the row `row` of `flows`. Columns may be shorter than the batch: missing values are 0.
    ///
    /// # Errors
    /// There is no such row.
    pub fn new(flows: &'a Flows, row: usize) -> Result<Self, EncodeError> {
        match (flows.has.get(row), flows.family.get(row)) {
            (Some(has), Some(family)) => Ok(Self { flows, row, has: *has, family: *family }),
            _ => Err(EncodeError::Row { row, length: flows.length }),
        }
    }

    /// Returns the same row without these fields.
    #[must_use]
    pub fn without(self, fields: u64) -> Self {
        Self { has: self.has & !fields, ..self }
    }

    /// Returns true if it has any of these fields.
    fn has(&self, fields: u64) -> bool {
        self.has & fields != 0
    }

    /// Returns its family, which must be one that connection tracking supports.
    fn checked_family(&self) -> Result<u8, EncodeError> {
        checked_family(self.family)
    }
}

/// Checks that connection tracking supports the family.
fn checked_family(family: u8) -> Result<u8, EncodeError> {
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
    /// Returns the row `row` of `batch`. Columns may be shorter than the batch: missing values are 0.
    ///
    /// # Errors
    /// There is no such row.
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

/// Returns the index of `row` in the row numbers of a sparse column, which ascend.
fn find(rows: &[u32], row: usize) -> Option<usize> {
    let row = u32::try_from(row).ok()?;
    let index = rows.partition_point(|other| *other < row);
    (rows.get(index) == Some(&row)).then_some(index)
}

/// Returns the text of `row` in a sparse column.
fn text(column: &SparseTexts, row: usize) -> Option<&[u8]> {
    let index = find(&column.rows, row)?;
    let start = match index.checked_sub(1) {
        None => 0,
        Some(before) => *column.texts.ends.get(before)? as usize,
    };
    column.texts.bytes.get(start..*column.texts.ends.get(index)? as usize)
}

/// Returns a name with the terminating NUL that the kernel requires.
fn nul_terminated(what: &'static str, text: &[u8], limit: usize) -> Result<Vec<u8>, EncodeError> {
    // Only as much as fits is searched for a NUL.
    if text.iter().take(limit + 1).any(|&byte| byte == 0) {
        return Err(EncodeError::Name { what });
    }
    if text.len() > limit {
        return Err(EncodeError::TooLong { what, length: text.len(), limit });
    }
    Ok([text, &[0]].concat())
}
