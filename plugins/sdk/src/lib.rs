//! An SDK for flowgate plugins in Rust.
//!
//! A plugin is a small type and a macro. This one keeps the TCP flows that have moved more than a number of bytes, and
//! annotates them with that number:
//!
//! ```
//! use flowgate_sdk::prelude::*;
//!
//! struct Heavy {
//!     bytes: u64,
//! }
//!
//! impl Plugin for Heavy {
//!     fn describe() -> Description {
//!         Description::new("heavy", "1.0.0", "Keeps TCP flows over a number of bytes")
//!             .option("bytes", "BYTES", "keep flows with more bytes than this", Some("1000000"))
//!             .reads(field::PROTOCOL | field::COUNTERS)
//!     }
//!
//!     fn configure(setup: &Setup) -> Result<Self, String> {
//!         Ok(Heavy { bytes: setup.option("bytes")?.unwrap_or(1_000_000) })
//!     }
//! }
//!
//! impl Filter for Heavy {
//!     fn keep(&mut self, flow: &Flow<'_>, notes: &mut Notes) -> bool {
//!         let bytes = flow.bytes().unwrap_or(0);
//!         notes.annotate(flow, "bytes", bytes);
//!         flow.protocol() == protocol::TCP && bytes > self.bytes
//!     }
//! }
//!
//! flowgate_sdk::filter!(Heavy);
//! # fn main() {}
//! ```
//!
//! Built with `cargo build --release --target wasm32-unknown-unknown` (or `wasm32-wasip2`), it is used as `flowgate -L
//! --plugin heavy.wasm,bytes=5000`.
//!
//! * [`Filter`] handles one flow at a time, [`FlowStage`] a batch; [`FlowFormat`] turns batches into bytes.
//! * [`Flow`] is a view of one row of a batch. It is free: each method reads one column.
//! * [`Notes`] collects annotations and actions: delete, update (with an [`Update`]), create (with a [`NewFlow`]), of
//!   flows in the batch or of those with a [`Key`]. The host refuses what the user did not grant.
//! * [`FlowTick`] is called periodically, [`ActionResults`] receives the results of actions, [`FlowLookBack`] receives
//!   the table before live events: list them in the macro, as in `filter!(Heavy, tick)`.
//! * [`services`] are the services of the host: a log, a store that outlives the instance, the clock.
//! * Numbers that belong to the kernel or to IANA have names in [`protocol`], [`state`], [`status`], [`field`].

extern crate self as flowgate_sdk;

pub mod address;
pub mod bindings;
mod change;
mod columns;
mod create;
mod description;
mod direction;
mod expectation;
mod expectation_notes;
mod export;
mod flow;
mod key;
mod nat;
mod notes;
mod page;
mod plugin;
mod rare;
pub mod services;
pub mod testing;
pub mod text;
pub mod time;
mod update;
mod values;

#[doc(hidden)]
pub use wit_bindgen;

pub use bindings::flowgate::conntrack::{
    action::{ExpectationOutcome, Outcome, Results},
    expectation::Expectations,
    flow::Flows,
    query::{Aggregation, Cells, Groups, Operation, Program},
    selector::Selection,
    setup::{Description, Setup},
    statistics::Counts,
};
pub use change::Change;
pub use create::NewFlow;
pub use direction::Direction;
pub use expectation::{Expectation, ExpectedTranslation};
pub use expectation_notes::{ExpectationNotes, NewExpectation};
pub use flow::Flow;
pub use flowgate_names::{
    action, event, expectation_field, expectation_flag, family, field, level, operation, protocol, query, result,
    state, statistics, status, table_column, verdict,
};
pub use key::Key;
pub use nat::Translated;
pub use notes::Notes;
pub use page::Page;
pub use plugin::{
    ActionResults, ExpectationFormat, ExpectationStage, Filter, FlowAggregate, FlowFormat, FlowLookBack, FlowQuery,
    FlowSelection, FlowStage, FlowTemplate, FlowTick, GroupsFormat, Plugin, StatisticsFormat,
};
#[doc(hidden)]
pub use plugin::{actions_of, milliseconds};
pub use rare::{AddressRange, Master, Sequence, Synproxy};
pub use update::Update;

/// The items that a plugin usually needs.
pub mod prelude {
    pub use crate::address::Cidr;
    pub use crate::{
        ActionResults, Change, Description, Filter, Flow, FlowFormat, FlowLookBack, FlowStage, FlowTick, Flows, Key,
        NewFlow, Notes, Outcome, Plugin, Results, Setup, Update, family, field, protocol, services, state, status,
    };
}

include!(concat!(env!("OUT_DIR"), "/worlds.rs"));
