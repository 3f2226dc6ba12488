//! `flowgate run`: pipeline files on real flows of private namespaces, into each kind of sink.

mod checks;
mod dumps;
mod embed;
mod events;
mod names;

use flowgate_test_support::flowgate;
use flowgate_test_support::plugins;
use std::path::{Path, PathBuf};

use flowgate_test_support::{Namespace, Outcome, conntrack};

/// Writes a pipeline file into a directory.
fn file(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("pipeline.toml");
    std::fs::write(&path, text).expect("a file in a temporary directory");
    path
}

/// Runs a pipeline in a namespace.
fn run(namespace: &Namespace, text: &str, options: &[&str]) -> Outcome {
    let path = file(namespace.directory(), text).display().to_string();
    flowgate().run(&[&["run", path.as_str()], options].concat())
}

/// Runs a pipeline, which must succeed, and returns what it wrote to standard output.
fn must(namespace: &Namespace, text: &str) -> String {
    let outcome = run(namespace, text, &[]);
    assert_eq!(outcome.status, 0, "{text}\n{}", outcome.errors());
    outcome.text()
}

/// Returns the content of a file of the namespace.
fn content(namespace: &Namespace, name: &str) -> String {
    let path = namespace.directory().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
