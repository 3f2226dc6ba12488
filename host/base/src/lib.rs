//! Basic functions that every crate of flowgate uses.
//!
//! * [`text`] escapes text from outside for terminals and logs; [`io_error`] has the texts of system errors.
//! * [`similar`] finds what a misspelt name may have been meant for.
//! * [`files`] opens files safely, reads them up to a limit, and writes to non-blocking descriptors.
//! * [`clock`] is the wall clock and the CPU time of a thread, [`units`] parses and formats sizes and times,
//!   [`address`] parses addresses to serve at.
//! * [`Backoff`] computes pauses between attempts, [`TokenBucket`] limits an amount per time,
//!   [`Warnings`] passes warnings on.
//! * [`inherited`] records state inherited from the parent process.

pub mod address;
mod backoff;
pub mod clock;
pub mod files;
pub mod inherited;
pub mod io_error;
pub mod similar;
pub mod text;
mod token_bucket;
pub mod units;
mod warnings;

pub use backoff::Backoff;
pub use token_bucket::TokenBucket;
pub use warnings::Warnings;
