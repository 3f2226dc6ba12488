//! Finds lines of an audit by tenant, plugin, stage, action, result, code, or a text anywhere in the line.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Read, Write},
};

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
    /// The plan of a fleet.
    pub plan: Option<String>,
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
            && is("plan", &self.plan)
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
        let mut search = self.search(show);
        let mut line = Vec::new();
        loop {
            line.clear();
            if Read::take(&mut from, LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
                return search.end(to);
            }
            if line.len() as u64 == LONGEST_LINE {
                let what = format!("a line has {} MiB or more, as no line of an audit has", LONGEST_LINE >> 20);
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            line.pop_if(|last| *last == b'\n');
            search.take(&line, to)?;
        }
    }

    /// Begins a search of lines that come one by one.
    #[must_use]
    pub fn search(&self, show: fn(&Value, &[u8]) -> Vec<u8>) -> Search<'_> {
        Search { filter: self, show, found: Found::default(), waiting: BTreeMap::new() }
    }
}

/// A search of lines that come one by one.
#[derive(Debug)]
pub struct Search<'a> {
    filter: &'a Filter,
    show: fn(&Value, &[u8]) -> Vec<u8>,
    found: Found,
    /// Intents whose results have not come.
    waiting: BTreeMap<Action, Vec<u8>>,
}

/// What makes an intent and its result belong together: the run and the number of the service, or the agent and the plan
/// of a fleet.
type Action = (u64, u64, String, String);

impl Search<'_> {
    /// Takes a line without its newline, and writes it if it matches.
    ///
    /// # Errors
    /// Writing failed.
    pub fn take(&mut self, line: &[u8], to: &mut dyn Write) -> io::Result<()> {
        if line.is_empty() {
            return Ok(());
        }
        let Some(value) = serde_json::from_slice::<Value>(line).ok().filter(Value::is_object) else {
            self.found.broken += 1;
            return Ok(());
        };
        if self.filter.open {
            let number = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
            let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let key = (number("run"), number("id"), text("agent"), text("plan"));
            match value.get("stage").and_then(Value::as_str) {
                Some("intent") if self.filter.wants(&value) => {
                    drop(self.waiting.insert(key, (self.show)(&value, line)));
                }
                Some("result") => drop(self.waiting.remove(&key)),
                _ => {}
            }
        } else if self.filter.wants(&value) {
            to.write_all(&(self.show)(&value, line))?;
            self.found.lines += 1;
        }
        Ok(())
    }

    /// Writes what is left at the end.
    ///
    /// # Errors
    /// Writing failed.
    pub fn end(mut self, to: &mut dyn Write) -> io::Result<Found> {
        for line in self.waiting.into_values() {
            to.write_all(&line)?;
            self.found.lines += 1;
        }
        Ok(self.found)
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

    #[test]
    fn plans_of_a_fleet_are_found_by_agent() {
        let line = |agent: &str, stage: &str, plan: &str| {
            format!("{{\"agent\":\"{agent}\",\"time\":1,\"stage\":\"{stage}\",\"plan\":\"{plan}\"}}\n")
        };
        let lines = [("a", "intent", "p"), ("b", "intent", "p"), ("a", "result", "p"), ("a", "intent", "q")];
        let text: String = lines.map(|(agent, stage, plan)| line(agent, stage, plan)).concat();
        let found = |filter: Filter| {
            let mut out = Vec::new();
            filter.copy(text.as_bytes(), &mut out, raw).unwrap();
            String::from_utf8(out).unwrap()
        };
        let open = found(Filter { open: true, ..Filter::default() });
        assert_eq!(open, line("a", "intent", "q") + &line("b", "intent", "p"));
        let plan = found(Filter { plan: Some("p".into()), open: true, ..Filter::default() });
        assert_eq!(plan, line("b", "intent", "p"));
    }
}
