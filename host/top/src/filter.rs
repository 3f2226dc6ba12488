//! The filter that the user types: words that must all occur in the line of a flow.

use std::fmt::Write as _;

use super::{groups::GroupRow, row::FlowRow};
use flowgate_model::field;

/// A filter. Case is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    words: Vec<String>,
}

impl Filter {
    /// Makes a filter from text: words separated by blanks.
    #[must_use]
    pub fn new(typed: &str) -> Self {
        Self { words: typed.split_whitespace().map(str::to_lowercase).collect() }
    }

    /// Returns true if it passes everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Returns true if a group passes: every word is part of its keys. `buffer` is reused.
    #[must_use]
    pub fn passes_group(&self, row: &GroupRow, buffer: &mut String) -> bool {
        buffer.clear();
        for key in row.keys.iter().flatten() {
            buffer.push_str(key);
            buffer.push(' ');
        }
        buffer.make_ascii_lowercase();
        self.words.iter().all(|word| buffer.contains(word.as_str()))
    }

    /// Returns true if a flow passes: every word is part of its addresses and ports (of both directions), its protocol,
    /// its state, its mark (`mark=7`) and zone, or of its annotations. `buffer` is reused.
    #[must_use]
    pub fn passes(&self, row: &FlowRow, buffer: &mut String) -> bool {
        if self.words.is_empty() {
            return true;
        }
        buffer.clear();
        let [source, destination] = row.ends(&row.name.original);
        let [reply_source, reply_destination] = row.ends(&row.name.reply);
        // Writing to a string cannot fail.
        let _ = write!(
            buffer,
            "{} {} {source} {destination} {reply_source} {reply_destination}",
            row.protocol(),
            row.state(),
        );
        let known = |bit| row.has & bit != 0;
        if known(field::MARK) {
            let _ = write!(buffer, " mark={}", row.mark);
        }
        for (bit, zone) in [field::ZONE, field::ORIGINAL_ZONE, field::REPLY_ZONE].into_iter().zip(row.name.zones) {
            if known(bit) {
                let _ = write!(buffer, " zone={zone}");
            }
        }
        for (key, value) in &row.notes {
            let _ = write!(buffer, " {key}={value}");
        }
        buffer.make_ascii_lowercase();
        self.words.iter().all(|word| buffer.contains(word.as_str()))
    }
}
