//! Operations on a batch of rows as a whole.

mod append;
mod change;
mod check;
mod columns;
mod part;
mod retain;
mod shown;

pub use append::{append, pick, pick_bounded, pick_expectation};
pub use change::{
    Annotated, IDENTITY, AnnotationError, Written, annotate, annotate_expectations, annotated, change, written,
};
pub use check::{check, check_expectations, check_texts};
pub use columns::{push_sparse, push_text, text};
pub use part::{expectation_part, expectation_parts, part, parts};
pub use retain::{retain, retain_expectations};
pub use shown::shown;
