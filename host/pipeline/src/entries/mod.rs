//! The common interface of flows and expectations: how batches of them are decoded, shown to plugins, changed, acted
//! on and rendered.

mod expectations;
mod flows;

use std::ops::Range;

use crate::{
    merge::Reduced,
    outcome::{RecordedOutcomes, StageOutcome},
    resync::Resync,
    role::Role,
};
use flowgate_model::{
    Annotations, Changes, Expectations, Flows, Texts,
    batch::{MergedAnnotations, TextCost},
    grants::Grants,
};
use flowgate_netlink::{
    Request,
    decode::{Arrival, DecodeError},
    encode::EncodeError,
    message::Message,
    process_names::ProcessNames,
};
use flowgate_runtime::{Instance, PluginError};

/// Rows of one of the two types of entries.
#[derive(Clone, Debug)]
pub enum Batch {
    /// Flows.
    Flows(Box<Flows>),
    /// Expectations.
    Expectations(Box<Expectations>),
}

/// A row of a batch.
pub type RowOf<'a, T> = (&'a T, usize);

/// A batch of entries that a pipeline can carry: [`Flows`] or [`Expectations`].
pub trait Entries: Default + Clone + Sync {
    /// The type that decodes messages into rows.
    type Decoder: Send;

    /// The role of stages.
    const STAGE: Role;
    /// The role of formats.
    const FORMAT: Role;
    /// True if more than one row is printed at a time in a dry run.
    const PRINTS_BATCHES: bool;

    // Rows.

    /// Takes the rows out of a batch of either type, if they are of this type.
    fn take(batch: &mut Batch) -> Option<Self>;

    /// Returns the number of rows.
    fn rows(&self) -> usize;

    /// Returns the number of rows that are entries, and not gaps.
    fn count_entries(&self) -> usize;

    /// Returns the kind of event of each row ([`event`](flowgate_model::event)); empty if the rows are no events.
    fn kinds(&self) -> &[u8];

    /// Returns the wall clock of the batch, in nanoseconds since 1970; 0 for entries that have none.
    fn time(&self) -> u64 {
        0
    }

    /// Sets the wall clock of the batch, in nanoseconds since 1970.
    fn stamp(&mut self, time: u64);

    /// Returns one row as a batch.
    #[must_use]
    fn pick(&self, row: usize) -> Self;

    /// Appends the rows of another batch, as far as batches of this type can be joined; otherwise replaces the rows.
    fn append(&mut self, rows: &Self);

    /// Removes the rows whose verdict is 0.
    fn retain(&mut self, verdicts: &[u8]);

    /// Returns verdicts that keep only the rows that are gaps.
    #[must_use]
    fn gaps(&self) -> Vec<u8>;

    /// Adds the names of the programs that caused events, and of the network namespaces of events.
    fn add_names(&mut self, names: &mut ProcessNames);

    // Decoding.

    /// Returns a decoder of these fields ([`field`](flowgate_model::field)).
    #[must_use]
    fn decoder(fields: u64) -> Self::Decoder;

    /// Removes all rows; allocations are kept.
    fn clear(&mut self, decoder: &mut Self::Decoder);

    /// Adds the row of a message, if it is about an entry of this type.
    ///
    /// # Errors
    /// The message is malformed; no row was added.
    fn push(&mut self, decoder: &mut Self::Decoder, message: &Message<'_>, arrival: Arrival)
    -> Result<(), DecodeError>;

    /// Adds a row for a gap, if batches of this type have such rows.
    ///
    /// # Errors
    /// The batch is full.
    fn push_gap(&mut self, decoder: &mut Self::Decoder, received: u64, lost: Option<u32>) -> Result<(), DecodeError>;

    /// Returns the entry of a message with everything that the kernel says of it, as a batch of one row; `None` if
    /// entries of this type are never merged.
    fn decode_whole(_message: &Message<'_>) -> Option<Self> {
        None
    }

    /// Passes the rows to `resync`, which removes those of groups that are not shown.
    fn follow(&mut self, _resync: &mut Resync<'_>) {}

    /// Fills the batch, which is empty, with at most `most` events that make up for lost ones. Returns false if there
    /// are none.
    fn make_up(&mut self, _decoder: &mut Self::Decoder, _resync: &mut Resync<'_>, _most: usize) -> bool {
        false
    }

    // Stages.

    /// Has a plugin process the batch. It sees the fields `reads`; the others are kept in `hidden` meanwhile.
    ///
    /// # Errors
    /// The plugin failed.
    fn process(
        &mut self,
        instance: &mut Instance,
        reads: u64,
        hidden: &mut Flows,
    ) -> Result<StageOutcome<Self>, PluginError>;

    /// Reports the end of the stream to a plugin.
    ///
    /// # Errors
    /// The plugin failed.
    fn finish(instance: &mut Instance) -> Result<StageOutcome<Self>, PluginError>;

    /// Gives a plugin a tick; `now` is in nanoseconds since 1970.
    ///
    /// # Errors
    /// The plugin failed.
    fn tick(_instance: &mut Instance, _now: u64) -> Result<StageOutcome<Self>, PluginError> {
        Ok(StageOutcome::default())
    }

    /// Begins a look-back, for a reason of `flow-look-back.begin`.
    ///
    /// # Errors
    /// The plugin failed.
    fn begin_look_back(_instance: &mut Instance, _reason: u8) -> Result<(), PluginError> {
        Ok(())
    }

    /// Shows a plugin entries of the table, as [`Entries::process`] does.
    ///
    /// # Errors
    /// The plugin failed.
    fn look_back(
        &mut self,
        _instance: &mut Instance,
        _reads: u64,
        _hidden: &mut Flows,
    ) -> Result<StageOutcome<Self>, PluginError> {
        Ok(StageOutcome::default())
    }

    /// Ends a look-back.
    ///
    /// # Errors
    /// The plugin failed.
    fn end_look_back(_instance: &mut Instance) -> Result<StageOutcome<Self>, PluginError> {
        Ok(StageOutcome::default())
    }

    /// Checks a batch that a plugin returned.
    ///
    /// # Errors
    /// The error.
    fn check(&self) -> Result<(), String>;

    /// Applies changes of the shown values, except to the fields in `fixed`.
    fn change(&mut self, _changes: &Changes, _values: &Self, _fixed: u64) {}

    /// Returns how much [`Entries::change`] would write into fields of text.
    ///
    /// # Errors
    /// A text is longer than the kernel's own can be.
    fn written(&self, _changes: &Changes, _values: &Self, _fixed: u64) -> Result<TextCost, String> {
        Ok(TextCost::default())
    }

    /// Returns the annotations of the rows.
    fn annotations(&self) -> &Annotations;

    /// Replaces the annotations of the rows.
    fn annotate(&mut self, annotated: MergedAnnotations);

    /// Returns the outcomes of this type among those that were recorded.
    fn recorded(outcomes: &mut RecordedOutcomes) -> &mut Vec<StageOutcome<Self>>;

    // Actions.

    /// Encodes an action on a row of a batch, on a row of values, or both.
    ///
    /// # Errors
    /// The request cannot be encoded.
    fn request(
        kind: u8,
        target: Option<RowOf<'_, Self>>,
        values: Option<RowOf<'_, Self>>,
    ) -> Result<Request, EncodeError>;

    /// Encodes the lookup of a row as the kernel has it now.
    ///
    /// # Errors
    /// As [`Entries::request`].
    fn lookup(&self, row: usize) -> Result<Request, EncodeError>;

    /// Returns true if an action is granted.
    fn is_granted(grants: &Grants, kind: u8, target: Option<RowOf<'_, Self>>, values: Option<RowOf<'_, Self>>) -> bool;

    /// Returns true if an error number only means that there was nothing to do: the entry no longer exists, or cannot
    /// have what an update would give it.
    fn is_harmless(_kind: u8, _errno: i32, _values: Option<RowOf<'_, Self>>) -> bool {
        false
    }

    /// Returns what of a requested row can be done to the entry that exists in its place; `None` if that is unknown.
    fn merge(&self, _row: usize, _existing: &Self) -> Option<Reduced> {
        None
    }

    /// Returns how to create a row without what the kernel refused with an error number; `None` if nothing can be left
    /// out. `orphans`: the master of a flow can be.
    fn without(&self, _row: usize, _errno: i32, _orphans: bool) -> Option<Reduced> {
        None
    }

    /// Returns what an update that failed with an error number left out, having done all the rest.
    fn left_out(&self, _row: usize, _errno: i32) -> Option<String> {
        None
    }

    /// Returns a batch of one row that says which entry an action is about and what it would set, for dry runs.
    #[must_use]
    fn planned(kind: u8, target: Option<RowOf<'_, Self>>, values: Option<RowOf<'_, Self>>) -> Self;

    // Aggregations.

    /// Adds the rows to the groups of a plugin, which sees the fields `reads`; the others are kept in `hidden`
    /// meanwhile. Only flows are grouped.
    ///
    /// # Errors
    /// The plugin failed, or there are more groups than are kept.
    fn aggregate(&mut self, _instance: &mut Instance, _reads: u64, _hidden: &mut Flows) -> Result<(), PluginError> {
        Ok(())
    }

    // Formats.

    /// Returns what a format writes before everything.
    ///
    /// # Errors
    /// The format failed.
    fn begin_format(instance: &mut Instance) -> Result<Vec<u8>, PluginError>;

    /// Renders the batch. The format sees the fields `reads`; the others are kept in `hidden` meanwhile.
    ///
    /// # Errors
    /// The format failed.
    fn render(&mut self, instance: &mut Instance, reads: u64, hidden: &mut Flows) -> Result<Vec<u8>, PluginError>;

    /// Returns what a format writes after everything.
    ///
    /// # Errors
    /// The format failed.
    fn end_format(instance: &mut Instance) -> Result<Vec<u8>, PluginError>;

    /// Returns the ranges of rows into which the batch has to be split because it is too large for one call of a
    /// format; `None` if it is not.
    fn parts(&self) -> Option<Vec<Range<usize>>>;

    /// Returns a range of rows as a batch.
    #[must_use]
    fn part(&self, range: Range<usize>) -> Self;
}

/// The annotations of a batch without any.
static NO_ANNOTATIONS: Annotations = Annotations {
    rows: Vec::new(),
    keys: Texts { ends: Vec::new(), bytes: Vec::new() },
    values: Texts { ends: Vec::new(), bytes: Vec::new() },
};

/// A row that does not exist.
const NO_ROW: EncodeError = EncodeError::Row { row: usize::MAX, length: 0 };
