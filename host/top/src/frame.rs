//! A single frame for scripts, as text or JSON.

use std::{fmt::Write as _, str::FromStr};

use serde::Serialize;

use super::{
    cells::{COLUMNS, Column, bytes, cells, count, heading, number},
    group_frame,
    row::{FlowRow, Tuple},
    snapshot::{Snapshot, Sum},
    sort::{Sort, SortKey},
};
use flowgate_model::{family, field, protocol, state, status};
use flowgate_pipeline::stats::StageStats;

/// The format of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrameFormat {
    /// As on the screen.
    #[default]
    Text,
    /// One JSON object on a line.
    Json,
}

impl FromStr for FrameFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("`{other}` is neither text nor json")),
        }
    }
}

/// Returns the first line, with totals.
#[must_use]
pub fn summary(snapshot: &Snapshot) -> String {
    let total = snapshot.total();
    let mut line = format!("{} flow{}", count(total.flows), if total.flows == 1 { "" } else { "s" });
    if snapshot.accounting == Some(true) {
        // Writing to a string cannot fail.
        let _ = write!(
            line,
            ", {}/s, {} packets/s, {}, {} packets",
            bytes(total.rate.bytes),
            number(total.rate.packets),
            bytes(total.bytes as f64),
            number(total.packets as f64)
        );
    }
    let events = snapshot.events;
    let _ = write!(
        line,
        "; {} began, {} changed, {} ended",
        count(events.new),
        count(events.update),
        count(events.destroy)
    );
    if events.gaps > 0 {
        let _ = write!(line, ", {} gaps", count(events.gaps));
    }
    line
}

/// Returns the sums by protocol, in descending order of flows; of groups there are none.
#[must_use]
pub fn protocols(snapshot: &Snapshot) -> String {
    if snapshot.groups.is_some() {
        return String::new();
    }
    let mut sums: Vec<(u8, Sum)> = snapshot.sums.iter().map(|(&number, &sum)| (number, sum)).collect();
    sums.retain(|(_, sum)| sum.flows > 0);
    sums.sort_by_key(|(number, sum)| (std::cmp::Reverse(sum.flows), *number));
    let one = |(number, sum): &(u8, Sum)| {
        let name = protocol::name(*number).map_or_else(|| format!("protocol {number}"), str::to_owned);
        let rate = if sum.rate.bytes > 0.0 { format!(" {}/s", bytes(sum.rate.bytes)) } else { String::new() };
        format!("{name} {}{rate}", count(sum.flows))
    };
    sums.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Returns a line with the total rate of the last dumps as bars, in bytes or, if flows are sorted by packets, in
/// packets; `None` if there are fewer than two. The bars are relative to the largest of those that fit into the width.
#[must_use]
pub fn history(snapshot: &Snapshot, width: usize) -> Option<String> {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let packets = matches!(snapshot.sort.key, SortKey::PacketRate | SortKey::Packets);
    let rates: Vec<f64> = snapshot.history.iter().map(|rate| if packets { rate.packets } else { rate.bytes }).collect();
    let text = |rate: f64| if packets { format!("{} packets/s", number(rate)) } else { format!("{}/s", bytes(rate)) };
    // The longest text is `999.9k packets/s at most`.
    let room = width.saturating_sub("history ".len() + " 999.9k packets/s at most".len()).max(2);
    let shown = rates.get(rates.len().saturating_sub(room)..).filter(|shown| shown.len() > 1)?;
    let largest = shown.iter().copied().fold(0.0, f64::max);
    let bars = shown.iter().map(|rate| {
        let share = if largest > 0.0 { rate / largest } else { 0.0 };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 7")]
        let eighth = (share * 7.0).round() as usize;
        BARS.get(eighth).copied().unwrap_or('█')
    });
    Some(format!("history {} {} at most", bars.collect::<String>(), text(largest)))
}

/// Returns a line about a plugin.
#[must_use]
pub fn plugin(stage: &StageStats) -> String {
    let name = std::path::Path::new(&stage.plugin)
        .file_name()
        .map_or(stage.plugin.as_str().into(), |name| name.to_string_lossy());
    let mut line = format!(
        "{} {}: {} rows in, {} out, {} calls, {:.1} ms, {} kB",
        flowgate_base::text::clean(&name),
        stage.health.name(),
        count(stage.rows_in),
        count(stage.rows_out),
        count(stage.calls),
        stage.nanoseconds as f64 / 1e6,
        stage.memory / 1000
    );
    if stage.failures > 0 {
        let _ = write!(line, ", {} failures", stage.failures);
    }
    let actions: u64 = stage.actions.iter().sum();
    if actions > 0 {
        let _ = write!(line, ", {} actions", count(actions));
    }
    line
}

/// Advice if packets are not counted.
pub const NO_ACCOUNTING: &str = "no accounting: `sysctl -w net.netfilter.nf_conntrack_acct=1` counts the bytes and packets of flows that begin then";

/// Returns the table as lines, the heading first; no line is longer than `width`, for which the least important columns
/// are left out.
#[must_use]
pub fn table(rows: &[FlowRow], now: u64, sort: Sort, width: Option<usize>) -> Vec<String> {
    let lines: Vec<[String; COLUMNS.len() + 1]> = rows.iter().map(|row| cells(row, now)).collect();
    let headings = COLUMNS.map(|column| heading(&column, sort));
    let mut widths = [0; COLUMNS.len()];
    for (at, width) in widths.iter_mut().enumerate() {
        let title = headings.get(at).map_or(0, |title| title.chars().count());
        let cell = |line: &[String; COLUMNS.len() + 1]| line.get(at).map_or(0, |cell| cell.chars().count());
        *width = lines.iter().map(cell).max().unwrap_or_default().max(title);
    }
    let shown = shown(&mut widths, sort, width.unwrap_or(usize::MAX));
    let layout: Vec<(usize, &Column, usize)> = COLUMNS
        .iter()
        .zip(widths)
        .enumerate()
        .filter(|(at, _)| shown.contains(at))
        .map(|(at, (column, width))| (at, column, width))
        .collect();
    let join = |texts: &[String], rest: &str| {
        let mut line = String::new();
        for &(at, column, width) in &layout {
            let text = texts.get(at).map(String::as_str).unwrap_or_default();
            let text: String = if text.chars().count() > width {
                // The end of an address is more significant than its beginning.
                text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
            } else {
                text.to_owned()
            };
            if !line.is_empty() {
                line.push(' ');
            }
            let _ = if column.number { write!(line, "{text:>width$}") } else { write!(line, "{text:<width$}") };
        }
        if !rest.is_empty() {
            line.push(' ');
            line.push_str(rest);
        }
        line.truncate(line.trim_end().len());
        line
    };
    let body = lines.iter().map(|line| join(line, line.last().map(String::as_str).unwrap_or_default()));
    std::iter::once(join(&headings, "")).chain(body).collect()
}

/// Returns the numbers of the columns in [`COLUMNS`] that fit. Addresses are shortened before the sorted column is left
/// out.
fn shown(widths: &mut [usize; COLUMNS.len()], sort: Sort, room: usize) -> Vec<usize> {
    /// Numbers of the columns, in the order in which they are left out.
    const LEAVING: [usize; 7] = [10, 5, 7, 9, 8, 6, 1];
    /// Numbers of the columns with addresses, and the width to which they are shortened.
    const ADDRESSES: [usize; 2] = [2, 3];
    const SHORTEST: usize = 15;
    /// Number of the column that is left out last.
    const RATE: usize = 4;
    let mut shown: Vec<usize> = (0..COLUMNS.len()).collect();
    let total = |shown: &[usize], widths: &[usize; COLUMNS.len()]| -> usize {
        let sum: usize = shown.iter().filter_map(|&at| widths.get(at)).sum();
        sum + shown.len().saturating_sub(1)
    };
    for leaving in LEAVING {
        if total(&shown, widths) <= room {
            return shown;
        }
        let sorted = COLUMNS.get(leaving).is_some_and(|column| column.key == Some(sort.key));
        if !sorted {
            shown.retain(|&at| at != leaving);
        }
    }
    for at in ADDRESSES {
        let over = total(&shown, widths).saturating_sub(room);
        if let Some(width) = widths.get_mut(at) {
            *width = width.saturating_sub(over).max(SHORTEST.min(*width));
        }
    }
    if total(&shown, widths) > room && sort.key != SortKey::Rate {
        shown.retain(|&at| at != RATE);
    }
    shown
}

/// Returns a frame as text that ends with a newline.
#[must_use]
pub fn text(snapshot: &Snapshot, stages: &[StageStats], rows: usize) -> String {
    let mut lines = vec![summary(snapshot)];
    let protocols = protocols(snapshot);
    if !protocols.is_empty() {
        lines.push(protocols);
    }
    lines.extend(stages.iter().map(plugin));
    if snapshot.accounting == Some(false) {
        lines.push(NO_ACCOUNTING.into());
    }
    lines.push(String::new());
    let shown = rows.min(snapshot.length());
    match &snapshot.groups {
        Some(groups) => {
            let counted = snapshot.accounting == Some(true);
            lines.extend(group_frame::lines(groups, (0, shown), snapshot.sort, counted, None));
        }
        None => {
            let first = snapshot.rows.get(..shown).unwrap_or_default();
            lines.extend(table(first, snapshot.now, snapshot.sort, None));
        }
    }
    let more = snapshot.matching.saturating_sub(shown as u64);
    if more > 0 {
        lines.push(format!("... and {} more", count(more)));
    }
    lines.join("\n") + "\n"
}

#[derive(Serialize)]
struct Frame<'a> {
    time: u64,
    accounting: Option<bool>,
    flows: u64,
    matching: u64,
    sort: String,
    reverse: bool,
    events: Events,
    protocols: Vec<Protocol>,
    plugins: &'a [StageStats],
    rows: Vec<FlowObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<serde_json::Value>>,
}

#[derive(Serialize)]
struct Events {
    new: u64,
    update: u64,
    destroy: u64,
    gaps: u64,
}

#[derive(Serialize)]
struct Protocol {
    protocol: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol_name: Option<&'static str>,
    flows: u64,
    bytes: u64,
    packets: u64,
    bytes_per_second: f64,
    packets_per_second: f64,
}

#[derive(Serialize)]
struct Direction {
    source: String,
    destination: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_id: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_key: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_key: Option<u16>,
}

/// Members are named as in `-o json` and have the same meaning; those that only top has refer to both directions.
#[derive(Serialize)]
struct FlowObject {
    family: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    family_name: Option<&'static str>,
    protocol: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol_name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u32>,
    original: Direction,
    reply: Direction,
    status: u32,
    status_names: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<u16>,
    id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets_per_second: Option<f64>,
    age: f64,
    age_exact: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<u64>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    annotations: serde_json::Map<String, serde_json::Value>,
}

fn direction(row: &FlowRow, tuple: &Tuple) -> Direction {
    let number = row.name.protocol;
    let (ports, icmp, keys) = (protocol::has_ports(number), protocol::is_icmp(number), number == protocol::GRE);
    let [source, destination] = row.addresses(tuple).map(|address| address.to_string());
    let [kind, code] = tuple.destination_l4.to_be_bytes();
    Direction {
        source,
        destination,
        source_port: ports.then_some(tuple.source_l4),
        destination_port: ports.then_some(tuple.destination_l4),
        icmp_id: icmp.then_some(tuple.source_l4),
        icmp_type: icmp.then_some(kind),
        icmp_code: icmp.then_some(code),
        source_key: keys.then_some(tuple.source_l4),
        destination_key: keys.then_some(tuple.destination_l4),
    }
}

fn flow(row: &FlowRow, now: u64) -> FlowObject {
    let has = |bit| row.has & bit != 0;
    let [zone, _, _] = row.name.zones;
    let number = row.name.protocol;
    FlowObject {
        family: row.name.family,
        family_name: family::name(row.name.family),
        protocol: number,
        protocol_name: protocol::name(number),
        state: has(field::STATE).then_some(row.state),
        state_name: has(field::STATE).then(|| state::name(number, row.state)).flatten(),
        timeout: has(field::TIMEOUT).then_some(row.timeout),
        original: direction(row, &row.name.original),
        reply: direction(row, &row.name.reply),
        status: row.status,
        status_names: status::NAMES.iter().filter(|(bit, _)| row.status & bit != 0).map(|(_, name)| *name).collect(),
        mark: has(field::MARK).then_some(row.mark),
        zone: has(field::ZONE).then_some(zone),
        id: row.name.id,
        bytes: row.is_counted().then_some(row.bytes),
        packets: row.is_counted().then_some(row.packets),
        bytes_per_second: row.rate.map(|rate| rate.bytes),
        packets_per_second: row.rate.map(|rate| rate.packets),
        age: row.age(now) as f64 / 1e9,
        age_exact: row.born,
        ended: row.ended,
        annotations: row.notes.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect(),
    }
}

/// Returns a frame as a JSON object that ends with a newline.
#[must_use]
pub fn json(snapshot: &Snapshot, stages: &[StageStats], rows: usize) -> String {
    let events = snapshot.events;
    let frame = Frame {
        time: snapshot.now,
        accounting: snapshot.accounting,
        flows: snapshot.total().flows,
        matching: snapshot.matching,
        sort: snapshot.sort.key.to_string(),
        reverse: snapshot.sort.reverse,
        events: Events { new: events.new, update: events.update, destroy: events.destroy, gaps: events.gaps },
        protocols: snapshot
            .sums
            .iter()
            .filter(|_| snapshot.groups.is_none())
            .map(|(&number, sum)| Protocol {
                protocol: number,
                protocol_name: protocol::name(number),
                flows: sum.flows,
                bytes: sum.bytes,
                packets: sum.packets,
                bytes_per_second: sum.rate.bytes,
                packets_per_second: sum.rate.packets,
            })
            .collect(),
        plugins: stages,
        rows: snapshot.rows.iter().take(rows).map(|row| flow(row, snapshot.now)).collect(),
        groups: snapshot.groups.as_ref().map(|groups| {
            let counted = snapshot.accounting == Some(true);
            groups.rows.iter().take(rows).map(|row| group_frame::object(groups, row, counted)).collect()
        }),
    };
    // Numbers and text can always be represented in JSON.
    serde_json::to_string(&frame).unwrap_or_default() + "\n"
}
