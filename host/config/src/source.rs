//! The source of a pipeline file.

use std::path::PathBuf;

use super::{
    reader::{Fields, Reader},
    selector::Selector,
};
use flowgate_recording::{Recording, RecordingInput, RecordingKind, Speed};
use flowgate_syntax::{EventGroups, MAX_RECEIVE_BUFFER, Table};

/// Kinds of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A dump of the table.
    Dump,
    /// Events.
    Events,
}

/// A recording in place of the kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingConfig {
    /// The file.
    pub file: PathBuf,
    /// The speed of the replay.
    pub speed: Speed,
}

/// The source of entries.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    /// Offset of its section.
    pub offset: usize,
    /// The kind of the source, or of the recorded one.
    pub kind: SourceKind,
    /// The recording, if it is one.
    pub recording: Option<RecordingConfig>,
    /// The table.
    pub table: Table,
    /// The selector as written.
    pub selector: Selector,
    /// The events.
    pub events: EventGroups,
    /// Receive buffer in bytes, if given.
    pub buffer: Option<u32>,
    /// Its maximum in bytes, if not the default.
    pub buffer_max: Option<u32>,
    /// True if the kernel keeps events that it cannot deliver.
    pub reliable: bool,
    /// True if a resync makes up for gaps.
    pub resync: bool,
    /// The network namespace, if not that of the process.
    pub netns: Option<String>,
}

impl Reader<'_> {
    /// Reads the source.
    pub(super) fn source(&mut self) -> Option<SourceConfig> {
        let Some(fields) = self.sections.remove("source").and_then(|sections| sections.into_iter().next()) else {
            self.wrong(0, "there is no `[source]`, which says where entries come from");
            return None;
        };
        let kind = self.kind(&fields, "source")?;
        self.only("source", &fields, &kind.value);
        let table = fields.text("table");
        let recorded = if kind.value == "recording" { Some(self.recording(&fields)?) } else { None };
        let live = if kind.value == "events" { SourceKind::Events } else { SourceKind::Dump };
        let expectations = table.as_ref().is_some_and(|table| table.value == "expect");
        let (buffer, buffer_max) =
            (self.receive_buffer(&fields, "buffer", 0), self.receive_buffer(&fields, "buffer-max", 1));
        if let (Some(buffer), Some(max)) = (fields.count("buffer"), fields.count("buffer-max"))
            && buffer.value > max.value
        {
            self.wrong(
                buffer.offset,
                "`buffer` is above `buffer-max`; the buffer begins with the one and grows to the other",
            );
        }
        let mut selector = Selector::of(&fields);
        if let Some(condition) = selector.condition.take_if(|_| expectations) {
            self.wrong(condition.offset, "`where` is about flows, and the source yields expectations");
        }
        let source = SourceConfig {
            offset: fields.offset,
            kind: recorded.as_ref().map_or(live, |(_, kind, _)| *kind),
            table: match recorded.as_ref().map(|(_, _, table)| *table) {
                Some(table) => table,
                None => table.as_ref().and_then(|table| table.value.parse().ok()).unwrap_or(Table::Conntrack),
            },
            recording: recorded.map(|(recording, _, _)| recording),
            selector,
            events: match fields.words("events") {
                None => EventGroups::ALL,
                Some(words) => {
                    let has = |name: &str| words.iter().any(|word| word.value == name);
                    EventGroups { new: has("new"), update: has("update"), destroy: has("destroy") }
                }
            },
            buffer,
            buffer_max,
            reliable: fields.switch("reliable").unwrap_or(false),
            resync: fields.switch("resync").unwrap_or(kind.value == "events" && !expectations),
            netns: fields.text("netns").map(|netns| netns.value),
        };
        if let (SourceKind::Events, Some(table)) = (source.kind, &table)
            && !source.table.has_events()
        {
            self.wrong(table.offset, format!("the kernel has no events of the table `{}`, only dumps", table.value));
            return None;
        }
        if let Some(offset) = fields.key("events") {
            if source.table == Table::Expect {
                self.wrong(offset, "events of expectations cannot be chosen; leave out `events`");
            } else if source.events == EventGroups::NONE {
                self.wrong(
                    offset,
                    "no events are chosen, so that nothing would ever be shown; leave out `events` for all",
                );
            }
        }
        if let (true, Some(offset)) = (source.resync && expectations, fields.key("resync")) {
            self.wrong(offset, "what was lost can be made up for with events of flows only; leave out `resync`");
        }
        if let Some(netns) = fields.text("netns").filter(|netns| netns.value.is_empty()) {
            self.wrong(
                netns.offset,
                "`netns` is empty; it takes a name (`ip netns`), the number of a process, or a path",
            );
        }
        Some(source)
    }

    /// Reads the size of a receive buffer, within the range that the kernel can double.
    pub fn receive_buffer(&mut self, fields: &Fields, name: &str, least: u32) -> Option<u32> {
        let size = fields.count(name)?;
        let bytes = u32::try_from(size.value).ok().filter(|bytes| (least..=MAX_RECEIVE_BUFFER).contains(bytes));
        if bytes.is_none() {
            let what = format!("`{name}` must be from {least}B to {MAX_RECEIVE_BUFFER}B, not {}B", size.value);
            self.wrong(size.offset, what);
        }
        bytes
    }

    /// Reads a recording and what was recorded.
    fn recording(&mut self, fields: &Fields) -> Option<(RecordingConfig, SourceKind, Table)> {
        let file = self.needed(fields, "file", "source", "recording")?;
        let speed = fields.text("speed").map_or(Ok(Speed::Max), |speed| {
            speed.value.parse().map_err(|error: String| self.wrong(speed.offset, format!("`speed`: {error}")))
        });
        let path = self.path(&file.value);
        match RecordingInput::open(&path).and_then(Recording::open) {
            Ok(recording) => {
                let kind = match recording.kind() {
                    RecordingKind::Dump => SourceKind::Dump,
                    RecordingKind::Events => SourceKind::Events,
                };
                let recorded = RecordingConfig { file: path, speed: speed.unwrap_or(Speed::Max) };
                Some((recorded, kind, recording.table()))
            }
            Err(error) => {
                self.wrong(file.offset, error.to_string());
                None
            }
        }
    }
}
