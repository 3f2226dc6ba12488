//! Finds lines of an audit by tenant, plugin, stage, action, result, code, or a text anywhere in the line.

use std::io::{self, BufRead, Read, Write};

use serde_json::Value;

/// Maximum length of a line in bytes; the rest of a longer one is read as another line.
const LONGEST_LINE: u64 = 16 << 20;

/// Criteria for lines. A criterion that is not given matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The tenant.
    pub tenant: Option<String>,
    /// The plugin.
    pub plugin: Option<String>,
    /// The stage: `intent`, `result`, `refused`, `service`.
    pub stage: Option<String>,
    /// The action.
    pub action: Option<String>,
    /// The result, or the code of a refusal.
    pub result: Option<String>,
    /// The earliest time, in nanoseconds since 1970.
    pub since: Option<u64>,
    /// Only intents without a result: actions in progress when the service ended abruptly.
    pub open: bool,
}

/// Counts of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Lines that were written.
    pub lines: u64,
    /// Number of lines that are not JSON objects, such as one that a crash truncated.
    pub broken: u64,
}

impl Filter {
    /// Returns true if a line matches.
    #[must_use]
    pub fn wants(&self, line: &Value) -> bool {
        let is = |name: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| line.get(name).and_then(Value::as_str) == Some(wanted))
        };
        let since = self.since.is_none_or(|since| line.get("time").and_then(Value::as_u64).unwrap_or(0) >= since);
        is("tenant", &self.tenant)
            && is("plugin", &self.plugin)
            && is("stage", &self.stage)
            && is("action", &self.action)
            && (is("result", &self.result) || is("code", &self.result))
            && since
    }

    /// Passes each matching line to `show`.
    ///
    /// # Errors
    /// Reading or writing failed.
    pub fn copy(
        &self,
        mut from: impl BufRead,
        to: &mut dyn Write,
        show: fn(&Value, &[u8]) -> Vec<u8>,
    ) -> io::Result<Found> {
        let mut found = Found::default();
        let mut waiting: std::collections::BTreeMap<(u64, u64), Vec<u8>> = std::collections::BTreeMap::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            if Read::take(&mut from, LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.len() as u64 == LONGEST_LINE {
                let what = format!("a line has {} MiB or more, as no line of an audit has", LONGEST_LINE >> 20);
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            line.pop_if(|last| *last == b'\n');
            if line.is_empty() {
                continue;
            }
            let Some(value) = serde_json::from_slice::<Value>(&line).ok().filter(Value::is_object) else {
                found.broken += 1;
                continue;
            };
            if self.open {
                let number = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
                let key = (number("run"), number("id"));
                match value.get("stage").and_then(Value::as_str) {
                    Some("intent") if self.wants(&value) => drop(waiting.insert(key, show(&value, &line))),
                    Some("result") => drop(waiting.remove(&key)),
                    _ => {}
                }
            } else if self.wants(&value) {
                to.write_all(&show(&value, &line))?;
                found.lines += 1;
            }
        }
        for line in waiting.into_values() {
            to.write_all(&line)?;
            found.lines += 1;
        }
        Ok(found)
    }
}

/// A line of the audit.
#[must_use]
pub fn raw(_: &Value, line: &[u8]) -> Vec<u8> {
    [line, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"time":1,"stage":"intent","run":7,"id":1,"tenant":"blue","action":"delete"}
{"time":2,"stage":"result","run":7,"id":1,"tenant":"blue","action":"delete","result":"done"}
{"time":3,"stage":"refused","run":7,"id":2,"tenant":"red","action":"update","code":"out-of-scope","result":"gone"}
{"time":4,"stage":"intent","run":7,"id":3,"tenant":"red","action":"update"}
{"time":5,"stage":"inte"#;

    fn count(filter: Filter) -> Found {
        filter.copy(LINES.as_bytes(), &mut Vec::new(), raw).unwrap()
    }

    #[test]
    fn lines_are_found_and_a_broken_one_is_counted() {
        assert_eq!(count(Filter::default()), Found { lines: 4, broken: 1 });
        let text = |text: &str| Some(text.to_string());
        assert_eq!(count(Filter { tenant: text("red"), ..Filter::default() }).lines, 2);
        assert_eq!(count(Filter { result: text("out-of-scope"), ..Filter::default() }).lines, 1);
        assert_eq!(count(Filter { result: text("gone"), ..Filter::default() }).lines, 1);
        assert_eq!(count(Filter { since: Some(3), stage: text("intent"), ..Filter::default() }).lines, 1);
        assert_eq!(count(Filter { open: true, ..Filter::default() }).lines, 1, "the third action has no result");
    }
}
