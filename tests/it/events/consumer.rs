//! A program that keeps a copy of the table from events in JSON.

use crate::events::conntrack;
use flowgate_test_support::{Background, flowgate, until_or_explain};
use serde_json::{Map, Value};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

/// A copy of the table, keyed by flow identity.
#[derive(Debug, Default)]
pub(super) struct Consumer {
    flows: BTreeMap<String, Map<String, Value>>,
    /// Number of the listener's lines that have been applied.
    applied: usize,
    pub gaps: usize,
    pub lost: u64,
    /// Number of synthetic events: NEW, UPDATE, DESTROY.
    pub synthetic: [usize; 3],
}

fn object(line: &str) -> Map<String, Value> {
    match serde_json::from_str(line) {
        Ok(Value::Object(object)) => object,
        other => panic!("not an object: {line}: {other:?}"),
    }
}

/// Returns the identity of a flow.
fn identity(flow: &Map<String, Value>) -> String {
    // The original tuple also contains window scales and the like, which the DESTROY event lacks.
    let mut original = flow["original"].as_object().expect("an object").clone();
    original.retain(|name, _| {
        !["packets", "bytes", "window_scale", "tcp_flags", "tcp_flags_mask", "vtag"].contains(&name.as_str())
    });
    format!("{} {} {original:?} {:?}", flow["id"], flow["protocol"], flow.get("zone"))
}

impl Consumer {
    /// Starts with the current table.
    pub(super) fn new() -> Self {
        let mut consumer = Self::default();
        for line in flowgate().must(&["-L", "-o", "json"]).lines() {
            let flow = object(line);
            consumer.flows.insert(identity(&flow), flow);
        }
        consumer
    }

    /// Returns the number of flows in the copy.
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Applies the events that the listener has written since the last call.
    pub(super) fn apply(&mut self, listener: &Background) {
        let lines = listener.lines();
        for line in lines.get(self.applied..).unwrap_or_default() {
            let event = object(line);
            let synthetic = event.get("synthetic").is_some();
            let kind = event["event_kind"].as_u64().expect("a number");
            if kind == 4 {
                self.gaps += 1;
                self.lost += event.get("lost").and_then(Value::as_u64).unwrap_or(0);
                continue;
            }
            let index = usize::try_from(kind).unwrap() - 1;
            self.synthetic[index] += usize::from(synthetic);
            let identity = identity(&event);
            match kind {
                1 => {
                    self.flows.insert(identity, event);
                }
                2 => {
                    // Unchanged fields are absent; so is a mark of 0.
                    let flow = self.flows.entry(identity).or_default();
                    flow.remove("mark");
                    flow.extend(event);
                }
                _ => {
                    self.flows.remove(&identity);
                }
            }
        }
        self.applied = lines.len();
    }

    /// Returns the copy as `conntrack` would list it, as far as events have the fields.
    fn table(&self) -> BTreeSet<String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let flow = |flow: &Map<String, Value>| {
            let mut line = text(flow.get("protocol_name").unwrap_or(&Value::Null));
            if let Some(state) = flow.get("state_name") {
                line += &format!(" {}", text(state));
            }
            for side in ["original", "reply"] {
                for (word, name) in
                    [("src", "source"), ("dst", "destination"), ("sport", "source_port"), ("dport", "destination_port")]
                {
                    if let Some(value) = flow[side].get(name) {
                        line += &format!(" {word}={}", text(value));
                    }
                }
            }
            let status = flow["status"].as_u64().unwrap_or(0);
            for (bit, name) in [(2, ""), (4, " [ASSURED]")] {
                line += if status & bit != 0 {
                    name
                } else if bit == 2 {
                    " [UNREPLIED]"
                } else {
                    ""
                };
            }
            line + &format!(" mark={}", flow.get("mark").and_then(Value::as_u64).unwrap_or(0))
        };
        self.flows.values().map(flow).collect()
    }

    /// Returns the differences between the copy and the table that `conntrack` lists.
    fn difference(&self) -> Option<String> {
        let (ours, theirs) = (self.table(), table());
        let more: Vec<_> = ours.difference(&theirs).take(5).collect();
        let less: Vec<_> = theirs.difference(&ours).take(5).collect();
        (ours != theirs).then(|| format!("too much: {more:#?}, too little: {less:#?}"))
    }

    /// Applies events until the copy equals the table that `conntrack` lists.
    pub(super) fn agree(&mut self, listener: &Background) {
        let last = RefCell::new(None);
        let agrees = || {
            self.apply(listener);
            last.replace(self.difference());
            last.borrow().is_none()
        };
        until_or_explain("the copy is the table", agrees, || format!("{:?}\n{}", last.borrow(), listener.errors()));
    }

    /// Ends the listener; the copy must still be the table.
    pub(super) fn finish(mut self, mut listener: Background) -> Self {
        listener.finish();
        self.apply(&listener);
        assert_eq!(self.difference(), None, "{}", listener.errors());
        self
    }
}

/// Returns the listing of `conntrack`, as far as [`Consumer`] has the fields.
fn table() -> BTreeSet<String> {
    let flow = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut short = words[0].to_owned();
        if words[0] == "tcp" {
            short += &format!(" {}", words[3]);
        }
        let mut flags = String::new();
        let mut mark = String::new();
        for word in &words {
            if ["src=", "dst=", "sport=", "dport="].iter().any(|start| word.starts_with(start)) {
                short += &format!(" {word}");
            } else if ["[UNREPLIED]", "[ASSURED]"].contains(word) {
                flags += &format!(" {word}");
            } else if word.starts_with("mark=") {
                mark = format!(" {word}");
            }
        }
        short + &flags + &mark
    };
    conntrack("-L").text().lines().map(flow).collect()
}
