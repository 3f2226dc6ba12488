//! Rows of agents as output: lines with the agent's name in front, JSON with it as a member, or columns with it as the
//! first one. Columns are printed by the stock format, for the rows of all agents together, so that they are aligned.

use flowgate_base::clock::now;
use flowgate_fleet::{lines, table::Form};
use flowgate_model::{Flows, Label, OptionValue, table_column::AGENT_KEY};
use flowgate_pipeline::{
    FormatSpec, RunError,
    consumer::Consumer as _,
    format::Format,
    loader::{PluginLoader, Role},
    sink::Sink,
};
use flowgate_syntax::{Command, LabelMap, Output, Settings};
use serde::Deserialize;

use super::{FleetError, lower, table};
use crate::command::{report::CommandError, table::Row};

/// How rows are printed.
pub(super) enum Rows {
    /// As they come, in this form; names have this width.
    Lines { form: Form, width: usize },
    /// Objects as lines of text, which the stock format writes.
    Text { format: Box<Format>, labels: Vec<Label>, width: usize },
    /// Objects as columns, which the stock format writes.
    Columns { format: Box<Format>, labels: Vec<Label> },
}

/// Returns the row of a command.
pub(super) fn row(command: Command) -> Result<&'static Row, FleetError> {
    table::row(command).map_err(|error| FleetError::Question(error.to_string()))
}

/// Returns an error of a format or a sink.
pub(super) fn failed(error: RunError) -> CommandError {
    match error {
        RunError::Plugin(error) => error.into(),
        RunError::Sink(error) => error.into(),
        other => FleetError::Question(other.to_string()).into(),
    }
}

/// Returns the loader of plugins for settings.
pub(super) fn loader(settings: &Settings) -> Result<PluginLoader, CommandError> {
    Ok(PluginLoader::new(labels(settings), false, settings.output.contains(Output::LOCAL_TIME))?)
}

fn labels(settings: &Settings) -> Vec<Label> {
    settings.label_map.as_ref().map(LabelMap::labels).unwrap_or_default()
}

/// Returns the stock format of a command, with further options.
pub(super) fn format(
    row: &Row,
    settings: &Settings,
    role: Role,
    more: &[(&str, &str)],
) -> Result<Format, CommandError> {
    let spec = lower::entries(row, settings, None).format;
    let Some(FormatSpec::Stock { name, mut options, labels }) = spec else {
        return Err(FleetError::Question("these options show nothing".into()).into());
    };
    options.extend(more.iter().map(|(name, value)| OptionValue::new(*name, *value)));
    Ok(loader(settings)?.format(name, role, &options, labels)?)
}

impl Rows {
    /// Returns how objects of agents are printed.
    pub(super) fn of_objects(row: &Row, settings: &Settings, json: bool, width: usize) -> Result<Self, CommandError> {
        let labels = labels(settings);
        Ok(if json {
            Rows::Lines { form: Form::Json, width }
        } else if settings.output.contains(Output::COLUMNED) {
            let format = format(row, settings, Role::FlowFormat, &[("agent", "yes")])?;
            Rows::Columns { format: Box::new(format), labels }
        } else {
            Rows::Text { format: Box::new(format(row, settings, Role::FlowFormat, &[])?), labels, width }
        })
    }

    /// Prints rows of an agent. The inner error says why they are none.
    pub(super) fn write(
        &mut self,
        sink: &mut dyn Sink,
        name: &str,
        rows: &[u8],
    ) -> Result<Result<(), String>, CommandError> {
        match self {
            Rows::Lines { form, width } => {
                let mut text = Vec::with_capacity(rows.len() * 5 / 4);
                let appended = lines::append(&mut text, name, *width, *form, rows);
                sink.write(&text)?;
                Ok(appended)
            }
            Rows::Columns { format, labels } => {
                match flowgate_fixture::annotated_flows("its rows", rows, labels, (AGENT_KEY, name)) {
                    Ok(mut flows) if flows.length > 0 => format.take(&mut flows, sink).map_err(failed)?,
                    Ok(_) => {}
                    Err(error) => return Ok(Err(error.to_string())),
                }
                Ok(Ok(()))
            }
            Rows::Text { format, labels, width } => {
                let mut text = Vec::new();
                let mut written = Ok(());
                for part in parts(rows) {
                    let rendered = match part {
                        Part::Gap(lost) => gap_line(lost).into_bytes(),
                        Part::Rows(rows) => match flowgate_fixture::flows("its rows", rows, labels) {
                            Ok(mut flows) if flows.length > 0 => {
                                let mut rendered = Vec::new();
                                format.take(&mut flows, &mut rendered).map_err(failed)?;
                                rendered
                            }
                            Ok(_) => continue,
                            Err(error) => {
                                written = Err(error.to_string());
                                break;
                            }
                        },
                    };
                    written = written.and(lines::append(&mut text, name, *width, Form::Text, &rendered));
                }
                sink.write(&text)?;
                Ok(written)
            }
        }
    }

    /// Ends the output.
    pub(super) fn end(&mut self, sink: &mut dyn Sink) -> Result<(), CommandError> {
        if let Rows::Columns { format, .. } = self {
            let rest = format.end::<Flows>()?;
            if !rest.is_empty() {
                sink.write(&rest)?;
            }
        }
        Ok(())
    }
}

/// A part of a text with objects.
enum Part<'a> {
    Rows(&'a [u8]),
    /// A gap, with the number of events that are missing, if it is known.
    Gap(Option<u64>),
}

/// What is read of an event that may be a gap.
#[derive(Deserialize)]
struct Event {
    event: String,
    lost: Option<u64>,
}

/// Returns the parts of a text between gaps, which lines of text do not have.
fn parts(rows: &[u8]) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut start, mut end) = (0, 0);
    for line in rows.split_inclusive(|&byte| byte == b'\n') {
        let gap = gap_of(line);
        if gap.is_some() && end > start {
            parts.extend(rows.get(start..end).map(Part::Rows));
        }
        end += line.len();
        if let Some(lost) = gap {
            parts.push(Part::Gap(lost));
            start = end;
        }
    }
    parts.extend(rows.get(start..end).filter(|rest| !rest.is_empty()).map(Part::Rows));
    parts
}

/// Returns the number of missing events of a line that is a gap.
fn gap_of(line: &[u8]) -> Option<Option<u64>> {
    const SIGN: &[u8] = b"\"event\":\"gap\"";
    if !line.windows(SIGN.len()).any(|part| part == SIGN) {
        return None;
    }
    let event: Event = serde_json::from_slice(line).ok()?;
    (event.event == "gap").then_some(event.lost)
}

/// Returns a gap as a line of text.
fn gap_line(lost: Option<u64>) -> String {
    match lost {
        Some(lost) => format!("    [GAP] {lost} events are missing here\n"),
        None => "    [GAP] events are missing here, and how many is not known\n".into(),
    }
}

/// Returns a gap as an object, as the stock format writes it.
pub(super) fn gap_row(lost: Option<u64>) -> String {
    let time = now();
    let lost = lost.map(|lost| format!("\"lost\":{lost},")).unwrap_or_default();
    format!("{{\"type\":\"flow\",\"time\":{time},\"event\":\"gap\",\"event_kind\":4,{lost}\"received\":{time}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::fleet::table::parse;

    const NEW: &str = r#"{"type":"flow","event":"new","event_kind":1,"received":5,"family":2,"protocol":17,"protocol_name":"udp","original":{"source":"10.0.0.1","destination":"10.0.0.2","source_port":5,"destination_port":53},"reply":{"source":"10.0.0.2","destination":"10.0.0.1","source_port":53,"destination_port":5}}"#;

    fn rows(words: &str, command: Command, json: bool) -> Rows {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let settings = parse(&words, command, Form::Text).unwrap();
        Rows::of_objects(row(command).unwrap(), &settings, json, 5).unwrap()
    }

    fn written(rows: &mut Rows, name: &str, text: &str) -> Result<String, String> {
        let mut sink: Vec<u8> = Vec::new();
        let written = rows.write(&mut sink, name, text.as_bytes()).unwrap();
        written.map(|()| String::from_utf8(sink).unwrap())
    }

    #[test]
    fn a_gap_is_told_where_it_is_in_every_form() {
        let text = format!("{NEW}\n{}{NEW}\n{}", gap_row(Some(7)), gap_row(None));
        let mut lines = rows("", Command::Events, false);
        let shown = written(&mut lines, "web", &text).unwrap();
        let shown: Vec<&str> = shown.lines().collect();
        assert!(shown[0].starts_with("web        [NEW] udp      17 src=10.0.0.1 dst=10.0.0.2"), "{shown:?}");
        assert_eq!(shown[1], "web        [GAP] 7 events are missing here");
        assert_eq!((shown[2], shown.len()), (shown[0], 4));
        assert_eq!(shown[3], "web        [GAP] events are missing here, and how many is not known");

        let shown = written(&mut rows("", Command::Events, true), "web", &text).unwrap();
        let objects: Vec<serde_json::Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(objects.iter().all(|object| object["agent"] == "web"));
        assert_eq!((&objects[1]["event"], &objects[1]["lost"]), (&"gap".into(), &7.into()));
        assert_eq!(objects[3]["lost"], serde_json::Value::Null);

        let mut table = rows("-o table", Command::Events, false);
        let shown = written(&mut table, "web", &text).unwrap();
        let shown: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(shown[0][..3], ["AGENT", "EVENT", "PROTO"]);
        assert_eq!(shown[1][..3], ["web", "NEW", "udp"]);
        assert_eq!(shown[2][..2], ["web", "GAP"]);
        // No headings again.
        let shown = written(&mut table, "db", &format!("{NEW}\n")).unwrap();
        assert!(shown.starts_with("db "), "{shown}");
    }

    #[test]
    fn columns_begin_with_the_agent() {
        let mut csv = rows("-o csv", Command::List, false);
        let flow = NEW.replace(r#""event":"new","event_kind":1,"received":5,"#, "");
        let shown = written(&mut csv, "web", &flow).unwrap();
        assert!(shown.starts_with("agent,family_name,protocol,") && shown.contains("\nweb,ipv4,17,udp,"), "{shown}");
        let mut chosen = rows("--columns dport,src -o tsv", Command::List, false);
        assert_eq!(written(&mut chosen, "web", &flow).unwrap(), "agent\tdport\tsrc\nweb\t53\t10.0.0.1\n");
        let mut table = rows("--columns dport,src", Command::List, false);
        assert_eq!(written(&mut table, "web", &flow).unwrap(), "AGENT  DPORT  SRC\nweb       53  10.0.0.1\n");
        // The headings are there also without rows, and a note of an agent is not taken for its name.
        let mut sink: Vec<u8> = Vec::new();
        rows("-o csv", Command::List, false).end(&mut sink).unwrap();
        assert!(sink.starts_with(b"agent,family_name"));
        let forged = flow.replace(r#""type":"flow","#, r#""type":"flow","annotations":{"agent":"db"},"#);
        assert!(written(&mut chosen, "web", &forged).unwrap().starts_with("web\t53"));
        for bad in ["{", "{}", r#"{"type":"flow","family":2,"unheard":1}"#, "\u{1b}[2J"] {
            assert!(written(&mut chosen, "web", bad).is_err(), "{bad}");
        }
    }
}
