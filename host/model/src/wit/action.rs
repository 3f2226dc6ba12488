//! What a stage returns: verdicts, changes of the displayed rows, annotations, and actions on the kernel's table.
//!
//! All of it is a request. The host checks each row number, each grant and each scope before it does anything.

// Written from wit/ by tests/wit.rs: change it there, and set BLESS=1 when that test is run.

#[cfg(feature = "component")]
use wasmtime::component::{ComponentType, Lift, Lower};

use super::columns::Annotations;
use super::expectation::Expectations;
use super::flow::Flows;

/// Changes of what later stages and the format see; the kernel's entry is not changed.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Changes {
    /// Rows of the batch.
    pub rows: Vec<u32>,
    /// For each: the row of `values` whose fields (those in its `has`) replace those of the flow.
    pub values: Vec<u32>,
    /// For each: the fields that are removed first, as bits of `has`.
    pub clear: Vec<u64>,
}

/// Things to do to the kernel's table, in this order, after the verdicts and changes of the batch.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Actions {
    /// Kind: 1 delete, 2 update, 3 create (fails if the flow exists), 4 create or update. Others are refused.
    pub kinds: Vec<u8>,
    /// The row of the batch that the action applies to, or 4294967295 for a flow that is not in the batch.
    pub rows: Vec<u32>,
    /// The row of `values` with the fields to set (update), the flow to create (create), or, without a row of the
    /// batch, the flow to act on (delete, update: original or reply tuple and zone); 4294967295 if the row of the batch
    /// suffices (delete).
    pub values: Vec<u32>,
}

/// The result of a stage for a batch of flows.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Outcome {
    /// One byte per row: 0 drop (later stages and the format do not see the flow), 1 keep. Empty: all are kept.
    pub verdicts: Vec<u8>,
    /// Changes of what later stages and the format see.
    pub changes: Option<Changes>,
    /// Notes on rows of the batch, for later stages and the format.
    pub annotations: Option<Annotations>,
    /// Things to do to the kernel's table.
    pub actions: Option<Actions>,
    /// Flows that `changes` and `actions` refer to.
    pub values: Option<Flows>,
}

/// The result of a stage for a batch of expectations. Actions: 1 delete, 3 create, 4 create or update.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct ExpectationOutcome {
    /// One byte per row: 0 drop, 1 keep. Empty: all are kept.
    pub verdicts: Vec<u8>,
    /// Notes on rows of the batch, for later stages and the format.
    pub annotations: Option<Annotations>,
    /// Things to do to the kernel's table.
    pub actions: Option<Actions>,
    /// Expectations that `actions` refers to.
    pub values: Option<Expectations>,
}

/// Results of actions: one element per action, in the order of the requests, since the last call.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Results {
    /// The action, as in `action.actions.kinds`.
    pub kinds: Vec<u8>,
    /// The result: 0 done; 1 not granted; 2 skipped, because the flow is gone or has no room for the values; 3 refused
    /// by the kernel; 4 cannot be expressed as a request to the kernel; 5 printed only (a dry run); 6 outside of what
    /// the plugin may act on; 7 above a limit of the plugin.
    pub results: Vec<u8>,
    /// For 2 and 3 the kernel's error number, as in errno(3); 0 otherwise.
    pub errors: Vec<u32>,
}
