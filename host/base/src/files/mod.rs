//! Files: opening them where other users may write, reading them up to a limit, and writing to non-blocking
//! descriptors.
//!
//! * [`Directory`]: opens, renames and removes files relative to a directory; [`Trust`] is the required level of trust.
//! * [`OutputFile`]: compares whether two paths are the same file.
//! * [`read()`] and similar functions: read files up to a limit.
//! * [`BlockingFile`]: writes to a descriptor that may be non-blocking.

mod blocking;
mod directory;
mod identity;
mod read;
mod sys;
mod trust;

pub use blocking::{BlockingFile, takes_bytes, write_all};
pub use directory::{Directory, DirectoryEntry, WalkOptions};
pub use identity::{FileIdentity, OutputFile};
pub use read::{
    LimitedReader, MAX_CONFIGURATION_FILE, MAX_FIXTURE_FILE, MAX_LOAD_FILE, MAX_OPTION_FILE, read, read_from,
    read_text, too_long,
};
pub use sys::effective_user;
pub use trust::Trust;
