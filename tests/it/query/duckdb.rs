//! DuckDB with the flows of a JSON output.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use flowgate_test_support::built::profile_directory;
use serde_json::Value;

/// DuckDB with a table `flows`.
pub(super) struct DuckDb {
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl DuckDb {
    /// Returns DuckDB with the flows of a file.
    pub(super) fn with(flows: &Path) -> Self {
        let python = profile_directory().parent().unwrap().join("duckdb/bin/python");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/query/oracle.py");
        let mut process = Command::new(&python)
            .arg(script)
            .arg(flows)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; `make setup` installs it", python.display()));
        let answers = BufReader::new(process.stdout.take().unwrap());
        DuckDb { process, answers }
    }

    /// Returns the rows of a query of one line.
    pub(super) fn rows(&mut self, query: &str) -> Vec<Vec<Value>> {
        writeln!(self.process.stdin.as_mut().unwrap(), "{query}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{query}: {error}: {line:?}"))
    }

    /// Returns the ids of the flows for which a condition holds, ascending.
    pub(super) fn ids(&mut self, condition: &str) -> Vec<u64> {
        let rows = self.rows(&format!("SELECT id FROM flows WHERE {condition} ORDER BY id"));
        rows.iter().map(|row| row[0].as_u64().expect("an id")).collect()
    }
}

impl Drop for DuckDb {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
