//! Commands that help operators: `flowgate doctor` and `--explain`.

mod bulk;
mod doctor;
mod explain;

use flowgate_test_support::Outcome;
use flowgate_test_support::flowgate;
use flowgate_test_support::plugins;

fn run(line: &str) -> Outcome {
    flowgate().run(&line.split_whitespace().collect::<Vec<_>>())
}
