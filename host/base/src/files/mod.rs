//! Files: opening them where others may write too, reading no more than a limit, and writing to what does not block.
//!
//! * [`Directory`]: files are opened, renamed and removed relative to a directory that has been walked to; [`Trust`] says who may
//!   have written there.
//! * [`Output`]: whether two paths are the same file.
//! * [`read()`] and its kin: how much is read of which file.
//! * [`BlockingFile`]: a descriptor that may not block.

mod blocking;
mod directory;
mod place;
mod read;
mod sys;
mod trust;

pub use blocking::{BlockingFile, takes_bytes, write_all};
pub use directory::{Directory, Listed, Way};
pub use place::{Output, Place};
pub use read::{
    Limited, MOST_OF_CONFIGURATION, MOST_OF_FIXTURE, MOST_OF_LOAD_FILE, MOST_OF_OPTION, read, read_from, read_text,
    too_long,
};
pub use sys::effective_user;
pub use trust::Trust;
