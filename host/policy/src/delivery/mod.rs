//! Delivery of the stream to tenants: only their own flows, through a bounded queue, with a bounded output.
//!
//! * [`scope_filter`] keeps the messages about flows of a scope, [`listing`] reads the table for several tenants at
//!   once, [`queue`] holds messages until the tenant takes them, [`output`] limits its output, [`reserve`] leaves room
//!   for the audit.

pub mod listing;
pub mod output;
pub mod queue;
pub mod reserve;
pub mod scope_filter;

pub use listing::Listings;
pub use output::RateLimitedSink;
pub use queue::{Gathering, Next, Queue, QueueSource};
pub use reserve::{SpaceReservingSink, share_a_file_system};
pub use scope_filter::ScopeFilter;
