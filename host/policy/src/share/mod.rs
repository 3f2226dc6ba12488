//! What each tenant is handed of the stream, and how much of it: its own flows, a bounded queue, a bounded output.
//!
//! * [`sieve`] keeps messages about the flows of a scope, [`listing`] reads the table for several of them at once, [`queue`] holds
//!   them until the tenant takes them, [`output`] limits what it writes, [`reserve`] leaves room for the audit.

pub mod listing;
pub mod output;
pub mod queue;
pub mod reserve;
pub mod sieve;

pub use listing::Listings;
pub use output::Measured;
pub use queue::{Inlet, Queue, gathering};
pub use reserve::{Reserving, share_a_file_system};
pub use sieve::Sieve;
