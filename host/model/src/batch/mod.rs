//! Operations on a batch of rows as a whole.

mod append;
mod change;
mod check;
mod columns;
mod projection;
mod retain;
mod split;

pub use append::{append, copy_expectation_row, copy_row, copy_row_bounded};
pub use change::{
    AnnotationError, IDENTITY, MergedAnnotations, TextCost, change, merge_annotations, set_annotations,
    set_expectation_annotations, text_cost,
};
pub use check::{check, check_expectations, check_texts};
pub use columns::{push_sparse, push_text, text};
pub use projection::project;
pub use retain::{retain, retain_expectations};
pub use split::{copy_expectation_rows, copy_groups, copy_rows, expectation_ranges, ranges};
