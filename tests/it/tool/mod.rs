//! The tools for plugin authors, run as a user would run them: without root, and without the kernel's table.

mod bench;
mod inspect;
mod new;
mod run;
mod suite;

use flowgate_test_support::{
    built::{profile_directory, root},
    plugins,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The outcome of a run.
struct Outcome {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// Returns standard output; panics unless the exit status is this one.
    #[track_caller]
    fn stdout(&self, status: i32) -> &str {
        assert_eq!(self.status, status, "{}{}", self.stdout, self.stderr);
        &self.stdout
    }

    /// Asserts that the output contains a text.
    #[track_caller]
    fn says(&self, text: &str) {
        assert!(self.stdout.contains(text) || self.stderr.contains(text), "{text}\n{}{}", self.stdout, self.stderr);
    }
}

/// Runs flowgate in a directory.
fn flowgate(directory: &Path, arguments: &[&str]) -> Outcome {
    let output = Command::new(flowgate_test_support::flowgate().path)
        .args(arguments)
        .current_dir(directory)
        .env("XDG_CACHE_HOME", directory.join(".cache"))
        .output()
        .expect("flowgate runs");
    Outcome {
        status: output.status.code().expect("it ends by itself"),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

/// Returns an empty directory for a test, below the build directory. It is kept for the analysis of failures.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tool").join(name);
    if path.exists() {
        fs::remove_dir_all(&path).expect("the last run's directory goes away");
    }
    fs::create_dir_all(&path).expect("a directory");
    path
}

/// Writes a file for a test.
fn write(directory: &Path, name: &str, content: &str) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory");
    fs::write(path, content).expect("a file");
}

/// Returns a path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
