//! Operations on a batch of rows as a whole.

mod append;
mod change;
mod check;
mod columns;
mod retain;
mod shown;

pub use append::{append, pick, pick_bounded};
pub use change::{IDENTITY, annotate, annotate_expectations, change};
pub use check::{check, check_expectations, check_texts};
pub use columns::{push_sparse, push_text, text};
pub use retain::{retain, retain_expectations};
pub use shown::shown;
