//! What every crate of flowgate needs and none is about.
//!
//! * [`text`] makes text from elsewhere fit for terminals and logs, [`io_error`] is the text of errors of the system.
//! * [`files`] are files that are opened safely, read within limits, and written to whether they block or not.
//! * [`clock`] is the clock on the wall and that of a thread, [`units`] are sizes and times as people write them, [`address`] where something is served.
//! * [`inherited`] is what the process inherited from its parent.

pub mod address;
pub mod clock;
pub mod files;
pub mod inherited;
pub mod io_error;
pub mod text;
pub mod units;
