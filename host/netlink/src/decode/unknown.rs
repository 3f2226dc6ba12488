//! Attributes without a field: kept raw with their path until the row that they belong to is complete.

use super::columns::{clear_texts, push_text};
use flowgate_model::{RawAttributes, Texts};

/// The attributes of one message that no field could take: unknown ones, ones of an unexpected length, and repetitions.
#[derive(Debug, Default)]
pub(super) struct UnknownAttributes {
    /// True if unknown attributes are wanted; otherwise none are kept.
    wanted: bool,
    paths: Vec<u64>,
    payloads: Texts,
}

impl UnknownAttributes {
    /// Resets the state for the next message.
    #[inline]
    pub(super) fn begin(&mut self, wanted: bool) {
        self.wanted = wanted;
        if !self.paths.is_empty() {
            self.paths.clear();
            clear_texts(&mut self.payloads);
        }
    }

    /// Returns true if nothing was kept.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Keeps the attribute at `path`.
    #[cold]
    pub(super) fn keep(&mut self, path: u64, payload: &[u8]) {
        if self.wanted {
            self.paths.push(path);
            push_text(&mut self.payloads, payload);
        }
    }

    /// Appends the kept attributes to a column, as attributes of `row`.
    pub(super) fn append_to(&self, column: &mut RawAttributes, row: u32) {
        let mut start = 0;
        for (path, end) in self.paths.iter().zip(&self.payloads.ends) {
            let end = *end as usize;
            column.rows.push(row);
            column.paths.push(*path);
            push_text(&mut column.payloads, self.payloads.bytes.get(start..end).unwrap_or_default());
            start = end;
        }
    }
}
