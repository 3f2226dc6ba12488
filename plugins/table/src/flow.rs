//! Flows as rows.

use flowgate_sdk::{
    Flow, Flows, Page, event, field, protocol,
    query::{self as q, kind},
    state, status, table_column as column,
};

use crate::{
    Output, Table,
    delimited::{Line, end},
    field::{FieldValues, annotation, annotations, joined},
    sheet::{Column, Tone},
    value::{Value, event_word, is_number},
};

/// A column of flows: its number (of a field, or of `table_column`), and the key of an annotation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    pub number: u32,
    pub name: String,
}

impl Shown {
    /// The agent of a fleet that has sent the flow.
    pub(crate) fn agent() -> Self {
        Shown { number: column::AGENT, name: column::AGENT_KEY.into() }
    }
}

/// A column of a table without `columns`: its number, its heading, its rank and its least width with events.
struct Usual {
    number: u32,
    title: &'static str,
    rank: u32,
    with_events: usize,
}

const fn usual(number: u32, title: &'static str, rank: u32, with_events: usize) -> Usual {
    Usual { number, title, rank, with_events }
}

/// The columns of a table without `columns`, as far as a batch has values for them. With events, of which the first
/// ones tell little about those to come, the first columns are wide enough for most.
const USUAL: [Usual; 21] = [
    usual(column::AGENT, "AGENT", 0, 0),
    usual(column::NAMESPACE, "NETNS", 5, 0),
    usual(q::EVENT_TIME, "TIME", 6, 12),
    usual(q::EVENT, "EVENT", 0, 7),
    usual(q::FAMILY, "FAMILY", 12, 0),
    usual(q::PROTOCOL, "PROTO", 0, 6),
    usual(column::STATE_OR_STATUS, "STATE", 0, 11),
    usual(column::FROM, "SOURCE", 0, 21),
    usual(column::TO, "DESTINATION", 0, 21),
    usual(column::NAT, "NAT", 1, 0),
    usual(q::PACKETS, "PACKETS", 10, 0),
    usual(q::BYTES, "BYTES", 2, 0),
    usual(q::MARK, "MARK", 3, 0),
    usual(column::ZONES, "ZONE", 4, 0),
    usual(q::LABELS, "LABELS", 8, 0),
    usual(q::HELPER, "HELPER", 9, 0),
    usual(q::PROGRAM, "PROGRAM", 11, 0),
    usual(column::ANNOTATIONS, "NOTES", 1, 0),
    usual(q::ID, "ID", 0, 0),
    usual(q::AGE, "AGE", 7, 0),
    usual(q::TIMEOUT, "TIMEOUT", 6, 0),
];

/// The columns of CSV and TSV without `columns`; with events, `EVENT_COLUMNS` come before them. They do not depend on
/// the flows.
const DELIMITED: [&str; 27] = [
    "family_name",
    "protocol",
    "protocol_name",
    "state_name",
    "timeout",
    "original.source",
    "original.destination",
    "original.source_port",
    "original.destination_port",
    "original.icmp_type",
    "original.icmp_code",
    "original.icmp_id",
    "original.packets",
    "original.bytes",
    "reply.source",
    "reply.destination",
    "reply.source_port",
    "reply.destination_port",
    "reply.packets",
    "reply.bytes",
    "status",
    "mark",
    "zone",
    "labels",
    "id",
    "start",
    "stop",
];

const EVENT_COLUMNS: [&str; 3] = ["event_name", "event_time", "received"];

/// Returns the column of a name.
pub(crate) fn named(name: &str) -> Result<Shown, String> {
    let number = column::by_name(name).ok_or_else(|| format!("there is no column `{name}`"))?;
    let name = name.strip_prefix(column::ANNOTATION_PREFIX).filter(|_| number == column::ANNOTATION).unwrap_or(name);
    Ok(Shown { number, name: name.into() })
}

/// Returns the columns of a table in the order of the cells.
pub(crate) fn columns(chosen: &[Shown]) -> Vec<Column> {
    if chosen.is_empty() {
        return USUAL
            .iter()
            .map(|usual| Column {
                title: usual.title.into(),
                right: is_right(usual.number),
                text: is_text(usual.number),
                rank: usual.rank,
                ..Column::default()
            })
            .collect();
    }
    let of = |shown: &Shown| Column {
        title: shown.name.to_ascii_uppercase(),
        right: is_right(shown.number),
        text: is_text(shown.number),
        wanted: true,
        ..Column::default()
    };
    chosen.iter().map(of).collect()
}

fn kind_of(number: u32) -> u8 {
    q::by_number(number).map_or(kind::TEXT, |field| field.kind)
}

fn is_right(number: u32) -> bool {
    is_number(kind_of(number))
}

/// Returns true for texts from outside.
fn is_text(number: u32) -> bool {
    let of_numbers = matches!(number, q::STATE_NAME | q::PROTOCOL_NAME | q::FAMILY_NAME | q::EVENT_NAME);
    let text = kind_of(number) == kind::TEXT && q::by_number(number).is_some() && !of_numbers;
    text || matches!(number, column::ANNOTATIONS | column::ANNOTATION | column::NAMESPACE)
}

impl Table {
    /// Writes a batch of flows.
    pub(crate) fn flows(&mut self, batch: &Flows) -> Vec<u8> {
        let mut page = Page::with_capacity(self.room);
        match self.output {
            Output::Table => self.table_of_flows(&mut page, batch),
            Output::Csv | Output::Tsv => self.delimited_flows(&mut page, batch),
        }
        self.room = self.room.max(page.len() + page.len() / 8);
        page.into_bytes()
    }

    fn delimited_flows(&mut self, page: &mut Page, batch: &Flows) {
        self.flow_headings(page, batch.events.is_some());
        let fields: Vec<Option<FieldValues<'_>>> =
            self.chosen.iter().map(|shown| self.field(shown.number, batch)).collect();
        for flow in batch.flows() {
            let mut line = Line::new(page, &self.style, self.output == Output::Tsv);
            for (shown, values) in self.chosen.iter().zip(&fields) {
                match (shown.number, values) {
                    (number, Some(values)) => line.value(kind_of(number), &values.get(flow)),
                    (column::ANNOTATION | column::AGENT, _) => {
                        line.value(kind::TEXT, &annotation(flow, &shown.name));
                    }
                    (column::STATE_OR_STATUS, _) => line.cleaned(state_word(flow).0.as_bytes()),
                    (number, _) => {
                        let mut text = Page::default();
                        joined(&mut text, number, flow);
                        line.cleaned(text.as_bytes());
                    }
                }
            }
            end(page, self.output == Output::Tsv);
        }
    }

    /// Chooses the columns of CSV and TSV, and writes the headings, once.
    pub(crate) fn flow_headings(&mut self, page: &mut Page, events: bool) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        if self.chosen.is_empty() {
            let of_events: &[&str] = if events { &EVENT_COLUMNS } else { &[] };
            let of_flows = of_events.iter().chain(&DELIMITED).filter_map(|name| named(name).ok());
            self.chosen = self.agents.then(Shown::agent).into_iter().chain(of_flows).collect();
        }
        if !self.sheet.header {
            return;
        }
        let mut line = Line::new(page, &self.style, self.output == Output::Tsv);
        for shown in &self.chosen {
            match shown.number {
                column::ANNOTATION => line.heading(&format!("{}{}", column::ANNOTATION_PREFIX, shown.name)),
                _ => line.heading(&shown.name),
            }
        }
        end(page, self.output == Output::Tsv);
    }

    fn table_of_flows(&mut self, page: &mut Page, batch: &Flows) {
        if !std::mem::replace(&mut self.begun, true) {
            self.sheet.columns = columns(&self.chosen);
        }
        let numbers: Vec<(u32, usize)> = if self.chosen.is_empty() {
            self.want(batch);
            let wanted = |(at, usual): (usize, &Usual)| self.sheet.columns[at].wanted.then_some((usual.number, 0));
            USUAL.iter().enumerate().filter_map(wanted).collect()
        } else {
            self.chosen.iter().enumerate().map(|(at, shown)| (shown.number, at)).collect()
        };
        let fields: Vec<Option<FieldValues<'_>>> =
            numbers.iter().map(|&(number, _)| self.field(number, batch)).collect();
        for flow in batch.flows() {
            for (&(number, at), values) in numbers.iter().zip(&fields) {
                self.cell(flow, number, at, values.as_ref().map_or(Value::Absent, |values| values.get(flow)));
            }
        }
        self.sheet.flush(page);
    }

    /// Returns the values of a column that is a field.
    fn field<'a>(&self, number: u32, batch: &'a Flows) -> Option<FieldValues<'a>> {
        (number < column::FROM).then(|| FieldValues::new(number, batch, &self.labels))
    }

    /// Adds the columns for which a batch has values.
    fn want(&mut self, batch: &Flows) {
        let events = batch.events.is_some();
        let carried = batch.has.iter().fold(0, |all, has| all | has);
        for (usual, column) in USUAL.iter().zip(&mut self.sheet.columns) {
            if column.wanted {
                continue;
            }
            column.wanted = match usual.number {
                column::AGENT => self.agents,
                q::EVENT => events,
                q::EVENT_TIME => events && self.times,
                q::FAMILY => self.family,
                q::ID => self.ids && carried & field::ID != 0,
                column::NAT => batch
                    .flows()
                    .any(|flow| flow.source_translation().is_some() || flow.destination_translation().is_some()),
                q::PACKETS | q::BYTES => carried & (field::ORIGINAL_COUNTERS | field::REPLY_COUNTERS) != 0,
                q::MARK => carried & field::MARK != 0 && batch.mark.iter().any(|mark| *mark != 0),
                column::ZONES => carried & field::ZONES != 0,
                q::LABELS => {
                    carried & field::LABELS != 0
                        && batch
                            .flows()
                            .any(|flow| flow.labels().is_some_and(|bits| bits.iter().any(|byte| *byte != 0)))
                }
                q::HELPER => carried & field::HELPER != 0,
                q::PROGRAM => carried & field::PROGRAM != 0,
                column::ANNOTATIONS if self.agents => {
                    let other = |flow: Flow<'_>| flow.annotations().any(|(key, _)| key != column::AGENT_KEY.as_bytes());
                    carried & field::ANNOTATIONS != 0 && batch.flows().any(other)
                }
                column::ANNOTATIONS => carried & field::ANNOTATIONS != 0,
                column::NAMESPACE => carried & (field::NAMESPACE | field::NAMESPACE_NAME) != 0,
                q::AGE => carried & field::START != 0,
                q::TIMEOUT => carried & field::TIMEOUT != 0,
                _ => true,
            };
            if events {
                column.least = usual.with_events;
            }
        }
    }

    /// Writes a cell; `value` is that of a field.
    fn cell(&mut self, flow: Flow<'_>, number: u32, at: usize, value: Value<'_>) {
        let style = &self.style;
        match number {
            column::STATE_OR_STATUS => {
                let (word, tone) = state_word(flow);
                self.sheet.cell(tone, |page| page.bytes(word.as_bytes()));
            }
            q::EVENT if flow.event() != event::NONE => {
                let tone = event_tone(flow.event());
                self.sheet.cell(tone, |page| page.bytes(event_word(flow.event()).as_bytes()));
            }
            q::STATE => {
                let name = flow.state().and_then(|number| state::name(flow.protocol(), number));
                let (_, tone) = state_word(flow);
                match name {
                    Some(name) => self.sheet.cell(tone, |page| page.bytes(name.as_bytes())),
                    None => self.sheet.cell(tone, |page| style.write(page, kind::PLAIN, &value)),
                }
            }
            // In events of today, only the time of day matters.
            q::EVENT_TIME if self.chosen.is_empty() => {
                let time = flow.event_time().or(flow.received()).unwrap_or(flow.batch().time);
                self.sheet.cell(Tone::Plain, |page| style.clock(page, time));
            }
            q::MARK if flow.mark() == Some(0) && self.chosen.is_empty() => self.sheet.cell(Tone::Plain, |_| ()),
            column::ANNOTATION => {
                let key = self.chosen.get(at).map_or("", |shown| shown.name.as_str());
                self.sheet.cell(Tone::Plain, |page| style.write(page, kind::TEXT, &annotation(flow, key)));
            }
            column::AGENT => {
                let agent = annotation(flow, column::AGENT_KEY);
                self.sheet.cell(Tone::Plain, |page| style.write(page, kind::TEXT, &agent));
            }
            column::ANNOTATIONS if self.agents => {
                self.sheet.cell(Tone::Plain, |page| annotations(page, flow, |key| key != column::AGENT_KEY.as_bytes()));
            }
            ..column::FROM => self.sheet.cell(Tone::Plain, |page| style.write(page, kind_of(number), &value)),
            number => self.sheet.cell(Tone::Plain, |page| joined(page, number, flow)),
        }
    }

    /// Ends the output of flows.
    pub(crate) fn finish_flows(&mut self) -> Vec<u8> {
        let mut page = Page::default();
        if self.output != Output::Table {
            self.flow_headings(&mut page, false);
        }
        page.into_bytes()
    }
}

/// Returns the colour of an event.
pub(crate) fn event_tone(kind: u8) -> Tone {
    match kind {
        event::NEW => Tone::Good,
        event::UPDATE => Tone::Open,
        event::DESTROY => Tone::Ended,
        _ => Tone::Lost,
    }
}

/// Returns the state of a flow by name, or else a word for its status, and its colour.
fn state_word(flow: Flow<'_>) -> (&'static str, Tone) {
    let bits = flow.status().unwrap_or(status::SEEN_REPLY);
    if bits & (status::OFFLOAD | status::HW_OFFLOAD) != 0 {
        return (if bits & status::HW_OFFLOAD != 0 { "HW_OFFLOAD" } else { "OFFLOAD" }, Tone::Offloaded);
    }
    if let Some(number) = flow.state()
        && let Some(name) = state::name(flow.protocol(), number)
    {
        let tone = match (flow.protocol(), number) {
            (protocol::TCP, 1 | 2 | 9) | (protocol::SCTP | protocol::DCCP, 1..=3) => Tone::Open,
            (protocol::TCP, 3) | (protocol::SCTP | protocol::DCCP, 4) | (protocol::SCTP, 8 | 9) => Tone::Good,
            _ => Tone::Closing,
        };
        return (name, tone);
    }
    if flow.status().is_none() {
        return ("", Tone::Plain);
    }
    match bits {
        bits if bits & status::SEEN_REPLY == 0 => ("UNREPLIED", Tone::Open),
        bits if bits & status::ASSURED != 0 => ("ASSURED", Tone::Good),
        _ => ("SEEN_REPLY", Tone::Plain),
    }
}
