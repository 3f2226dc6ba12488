//! Command lines: numbers, stray words, attached values and empty values, for every option.

mod cases;
mod plugins;

use flowgate_test_support::{
    Program,
    sample::{fill, refused, table},
    words,
};

use super::flowgate;

/// Returns the program as `conntrack`, and under its own name.
fn both() -> [(&'static str, Program); 2] {
    [("conntrack", flowgate().called("conntrack")), ("flowgate", flowgate().called("flowgate"))]
}
