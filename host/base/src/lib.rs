//! Basic functions that every crate of flowgate uses.
//!
//! * [`text`] escapes text from outside for terminals and logs; [`io_error`] has the texts of system errors.
//! * [`files`] opens files safely, reads them up to a limit, and writes to non-blocking descriptors.
//! * [`clock`] is the wall clock and the CPU time of a thread, [`units`] parses and formats sizes and times,
//!   [`address`] parses addresses to serve at.
//! * [`inherited`] records state inherited from the parent process.

pub mod address;
pub mod clock;
pub mod files;
pub mod inherited;
pub mod io_error;
pub mod text;
pub mod units;
