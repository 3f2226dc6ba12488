//! Operations on a batch of rows as a whole.

mod change;
mod check;
mod columns;
mod retain;
mod shown;

pub use change::{annotate, change, merge_annotations};
pub use check::{check, check_texts};
pub use columns::{push_text, text};
pub use retain::{retain, retain_expectations};
pub use shown::shown;
