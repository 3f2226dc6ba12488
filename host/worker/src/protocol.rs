//! What crosses the channels between a worker and its owner.
//!
//! There are two channels. Through the one for **events**, the owner sends what the kernel reports and nothing comes
//! back; its end is the order to finish. Through the one for **calls**, the worker reports, asks and is answered: it
//! never has more than one question open.
//!
//! The worker is not trusted. [`Report::read`] reads what it sends: slices of the record with bounded lengths, and
//! nothing is allocated. What the owner sends is believed.

use std::iter;

use flowgate_isolation::{Body, Frame, Record, Violation};
use flowgate_model::level;
use flowgate_pipeline::{
    loader::ProblemPlace,
    stats::{Health, StageStats},
};

/// Maximum length of a text, in bytes.
pub const TEXT: usize = 4096;
/// Maximum number of bytes of output, of a part of a listing and of messages in a frame: with its header and its other
/// fields it is not longer than a frame may be.
pub const BYTES: usize = 60_000;
/// Maximum number of requests in a frame.
pub const REQUESTS: u16 = 1024;
/// Maximum length of a request, in bytes.
pub const REQUEST: usize = flowgate_netlink::proposal::MAX_LENGTH;
/// Maximum length of the reason why an action cannot be proposed, in bytes.
pub const REASON: usize = 200;
/// Maximum number of lookups in a frame.
pub const LOOKUPS: u16 = 64;
/// Maximum length of a key of a state, in bytes.
pub const KEY: usize = flowgate_runtime::services::state::MAX_KEY;
/// Maximum length of a part of a value of a state, in bytes.
pub const VALUE: usize = 32_768;
/// Maximum number of steps of a histogram in a frame.
const STEPS: u16 = 496;

/// Kinds of frames that the owner sends.
pub mod kind {
    /// The worker may begin.
    pub const BEGIN: u16 = 1;
    /// A change of a state since the worker was set up.
    pub const STATE: u16 = 2;
    /// The results of actions.
    pub const RESULTS: u16 = 3;
    /// Entries of a listing, or found entries; more of them follow.
    pub const ENTRIES: u16 = 4;
    /// There are no more of them.
    pub const END: u16 = 5;
    /// The question cannot be answered: an error number.
    pub const FAILED: u16 = 6;
    /// The number of a barrier.
    pub const BARRIER: u16 = 7;
    /// Events.
    pub const EVENTS: u16 = 16;
    /// Events were lost.
    pub const GAP: u16 = 17;
}

/// Kinds of frames that a worker sends.
mod reports {
    pub(super) const READY: u16 = 32;
    pub(super) const PROBLEM: u16 = 33;
    pub(super) const WARNING: u16 = 34;
    pub(super) const LOG: u16 = 35;
    pub(super) const STATE: u16 = 36;
    pub(super) const OUTPUT: u16 = 37;
    pub(super) const ACTIONS: u16 = 38;
    pub(super) const LIST: u16 = 39;
    pub(super) const NEXT: u16 = 40;
    pub(super) const LOOK_UP: u16 = 41;
    pub(super) const BARRIER: u16 = 42;
    pub(super) const DONE: u16 = 43;
    pub(super) const STATISTICS: u16 = 44;
    pub(super) const FAILED: u16 = 45;
    pub(super) const FINISHED: u16 = 46;
    pub(super) const CONFINED: u16 = 47;
}

/// A part of the pipeline that a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The pipeline as a whole.
    Pipeline,
    /// A plugin, by its index.
    Plugin(u16),
}

/// What a worker sends.
#[derive(Clone, Debug)]
pub enum Report<'a> {
    /// The worker has confined itself, and has not run any code of the tenant yet.
    Confined {
        /// The version of Landlock in force, if any.
        landlock: Option<u32>,
        /// True if no memory can become executable.
        no_executable_memory: bool,
    },
    /// The plugins have been started.
    Ready,
    /// Why the plugins have not been started; there may be several, and [`Report::Failed`] follows.
    Problem {
        /// The part of the pipeline.
        part: Part,
        /// The part of its specification.
        place: ProblemPlace,
        /// What is wrong.
        what: &'a str,
    },
    /// A warning for the operator.
    Warning(&'a str),
    /// A line of a plugin's log.
    Log {
        /// The plugin, by its index.
        plugin: u16,
        /// The level.
        level: u8,
        /// The message.
        message: &'a str,
    },
    /// A change of a plugin's state.
    State {
        /// The plugin, by its index.
        plugin: u16,
        /// The key.
        key: &'a [u8],
        /// A part of the value; `None` if the entry has been removed.
        value: Option<&'a [u8]>,
        /// True if another part of the value follows.
        more: bool,
    },
    /// Bytes that the format has written.
    Output(&'a [u8]),
    /// Actions that a plugin requests in a call. They are answered by their results.
    Actions {
        /// The plugin, by its index.
        plugin: u16,
        /// The actions.
        actions: ActionList<'a>,
        /// True if more actions of the same call follow, before which there is no answer.
        more: bool,
    },
    /// A listing of the table is wanted; the number of an earlier one is free again.
    List(u8),
    /// The next entries of a listing are wanted.
    Next(u8),
    /// Entries are wanted, by the requests that look them up.
    LookUp(RequestList<'a>),
    /// A barrier is to be inserted into the stream of events.
    Barrier,
    /// How far the stream of events has been processed since the start.
    Done {
        /// Number of frames.
        frames: u64,
        /// Number of complete listings after a gap.
        resyncs: u64,
        /// Number of rows that reached the format.
        shown: u64,
    },
    /// Statistics of a plugin.
    Statistics {
        /// The plugin, by its index.
        plugin: u16,
        /// The statistics, without the plugin's name.
        stats: Box<StageStats>,
    },
    /// The pipeline has ended early, for this reason.
    Failed(&'a str),
    /// All events have been processed.
    Finished,
}

/// Actions: for each its kind, and the request to the kernel that the worker proposes.
#[derive(Clone, Copy, Debug)]
pub struct ActionList<'a> {
    body: Body<'a>,
    count: u16,
}

/// An action that a worker proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposedAction<'a> {
    /// Its kind ([`flowgate_model::action`]), as the plugin requests it.
    pub kind: u8,
    /// The request, or why there is none.
    pub request: Result<&'a [u8], NoRequest<'a>>,
}

/// Why there is no request for an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRequest<'a> {
    /// The plugin was not granted the action, or a field that it would set.
    NotGranted,
    /// It cannot be encoded.
    Unencodable(&'a str),
}

impl<'a> ActionList<'a> {
    /// Returns the number of actions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.into()
    }

    /// Returns true if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn read(mut body: Body<'a>) -> Result<Self, Violation> {
        let count = counted(&mut body, REQUESTS)?;
        let list = ActionList { body, count };
        for _ in 0..count {
            read_action(&mut body)?;
        }
        body.end()?;
        Ok(list)
    }
}

impl<'a> Iterator for ActionList<'a> {
    type Item = ProposedAction<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        read_action(&mut self.body).ok()
    }
}

fn read_action<'a>(body: &mut Body<'a>) -> Result<ProposedAction<'a>, Violation> {
    let kind = body.u8()?;
    let request = match body.u8()? {
        0 => Ok(body.bytes(REQUEST)?),
        1 => Err(NoRequest::NotGranted),
        2 => Err(NoRequest::Unencodable(body.text(REASON)?)),
        other => return Err(Violation::Value(other.into())),
    };
    Ok(ProposedAction { kind, request })
}

fn write_action(record: Record, action: &ProposedAction<'_>) -> Record {
    let record = record.u8(action.kind);
    match action.request {
        Ok(request) => record.u8(0).bytes(request),
        Err(NoRequest::NotGranted) => record.u8(1),
        Err(NoRequest::Unencodable(reason)) => record.u8(2).text(reason, REASON),
    }
}

/// Requests that look up entries.
#[derive(Clone, Copy, Debug)]
pub struct RequestList<'a> {
    body: Body<'a>,
    count: u16,
}

impl<'a> RequestList<'a> {
    fn read(mut body: Body<'a>) -> Result<Self, Violation> {
        let count = counted(&mut body, LOOKUPS)?;
        let list = RequestList { body, count };
        for _ in 0..count {
            body.bytes(REQUEST)?;
        }
        body.end()?;
        Ok(list)
    }
}

impl<'a> Iterator for RequestList<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        self.body.bytes(REQUEST).ok()
    }
}

/// Reads a number of items.
fn counted(body: &mut Body<'_>, most: u16) -> Result<u16, Violation> {
    let count = body.u16()?;
    if count > most { Err(Violation::Value(count.into())) } else { Ok(count) }
}

impl<'a> Report<'a> {
    /// Reads what a worker with this many plugins sends.
    ///
    /// # Errors
    /// [`Violation`]: it is not of a worker of this program.
    pub fn read(frame: Frame<'a>, plugins: u16) -> Result<Self, Violation> {
        let mut body = frame.body;
        let plugin = |body: &mut Body<'a>| {
            let index = body.u16()?;
            if index < plugins { Ok(index) } else { Err(Violation::Value(index.into())) }
        };
        if frame.more && !matches!(frame.kind, reports::STATE | reports::ACTIONS) {
            return Err(Violation::Kind(frame.kind));
        }
        let report = match frame.kind {
            reports::CONFINED => {
                let landlock = Some(body.u32()?).filter(|version| *version > 0);
                Report::Confined { landlock, no_executable_memory: body.bool()? }
            }
            reports::READY => Report::Ready,
            reports::PROBLEM => {
                let part = match body.u16()? {
                    u16::MAX => Part::Pipeline,
                    index if index < plugins => Part::Plugin(index),
                    index => return Err(Violation::Value(index.into())),
                };
                Report::Problem { part, place: read_place(&mut body)?, what: body.text(TEXT)? }
            }
            reports::WARNING => Report::Warning(body.text(TEXT)?),
            reports::LOG => {
                let (plugin, level) = (plugin(&mut body)?, body.u8()?);
                if level > level::DEBUG {
                    return Err(Violation::Value(level.into()));
                }
                Report::Log { plugin, level, message: body.text(TEXT)? }
            }
            reports::STATE => {
                let (plugin, key) = (plugin(&mut body)?, body.bytes(KEY)?);
                let value = match body.bool()? {
                    true => Some(body.bytes(VALUE)?),
                    false => None,
                };
                if value.is_none() && frame.more {
                    return Err(Violation::Kind(frame.kind));
                }
                Report::State { plugin, key, value, more: frame.more }
            }
            reports::OUTPUT => Report::Output(body.bytes(BYTES)?),
            reports::ACTIONS => {
                let plugin = plugin(&mut body)?;
                return Ok(Report::Actions { plugin, actions: ActionList::read(body)?, more: frame.more });
            }
            reports::LIST => Report::List(listing(&mut body)?),
            reports::NEXT => Report::Next(listing(&mut body)?),
            reports::LOOK_UP => return RequestList::read(body).map(Report::LookUp),
            reports::BARRIER => Report::Barrier,
            reports::DONE => Report::Done { frames: body.u64()?, resyncs: body.u64()?, shown: body.u64()? },
            reports::STATISTICS => {
                let plugin = plugin(&mut body)?;
                Report::Statistics { plugin, stats: Box::new(read_statistics(&mut body)?) }
            }
            reports::FAILED => Report::Failed(body.text(TEXT)?),
            reports::FINISHED => Report::Finished,
            other => return Err(Violation::Kind(other)),
        };
        body.end()?;
        Ok(report)
    }

    /// Writes the report into a frame.
    ///
    /// `frame` returns an empty one of a kind.
    #[must_use]
    pub fn write(&self, frame: impl FnOnce(u16) -> Record) -> Record {
        match self {
            Report::Confined { landlock, no_executable_memory } => {
                frame(reports::CONFINED).u32(landlock.unwrap_or_default()).bool(*no_executable_memory)
            }
            Report::Ready => frame(reports::READY),
            Report::Problem { part, place, what } => {
                let index = match part {
                    Part::Pipeline => u16::MAX,
                    Part::Plugin(index) => *index,
                };
                write_place(frame(reports::PROBLEM).u16(index), place).text(what, TEXT)
            }
            Report::Warning(text) => frame(reports::WARNING).text(text, TEXT),
            Report::Log { plugin, level, message } => {
                frame(reports::LOG).u16(*plugin).u8((*level).min(level::DEBUG)).text(message, TEXT)
            }
            Report::State { plugin, key, value, more } => {
                let record = frame(reports::STATE).u16(*plugin).bytes(key).bool(value.is_some());
                let record = value.map_or(record.clone(), |value| record.bytes(value));
                if *more { record.more() } else { record }
            }
            Report::Output(bytes) => frame(reports::OUTPUT).bytes(bytes),
            // Written as they are made.
            Report::Actions { plugin, actions, more } => {
                let record = frame(reports::ACTIONS).u16(*plugin).u16(actions.count);
                let record = actions.fold(record, |record, action| write_action(record, &action));
                if *more { record.more() } else { record }
            }
            Report::List(number) => frame(reports::LIST).u8(*number),
            Report::Next(number) => frame(reports::NEXT).u8(*number),
            Report::LookUp(requests) => {
                requests.fold(frame(reports::LOOK_UP).u16(requests.count), |record, request| record.bytes(request))
            }
            Report::Barrier => frame(reports::BARRIER),
            Report::Done { frames, resyncs, shown } => frame(reports::DONE).u64(*frames).u64(*resyncs).u64(*shown),
            Report::Statistics { plugin, stats } => write_statistics(frame(reports::STATISTICS).u16(*plugin), stats),
            Report::Failed(reason) => frame(reports::FAILED).text(reason, TEXT),
            Report::Finished => frame(reports::FINISHED),
        }
    }
}

/// Returns the parts in which the value of a state crosses, each with true if another one follows. An empty value has
/// one.
pub fn parts(value: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    let mut left = Some(value);
    iter::from_fn(move || {
        let (part, rest) = left?.split_at_checked(VALUE).unwrap_or((left?, &[]));
        left = Some(rest).filter(|rest| !rest.is_empty());
        Some((part, left.is_some()))
    })
}

/// Divides items into those that a frame has room for, of which there is at least one, and the rest: at most this many,
/// and [`BYTES`] by their lengths.
pub(crate) fn split_at_frame<T>(items: &[T], most: u16, length: impl Fn(&T) -> usize) -> (&[T], &[T]) {
    let mut total = 0;
    let fits = |item: &&T| {
        total += length(item);
        total <= BYTES
    };
    let count = items.iter().take(most.into()).take_while(fits).count().max(1);
    items.split_at(count.min(items.len()))
}

/// Returns the frame of actions.
pub(crate) fn actions(
    frame: impl FnOnce(u16) -> Record,
    plugin: u16,
    actions: &[ProposedAction<'_>],
    more: bool,
) -> Record {
    let count = u16::try_from(actions.len()).unwrap_or(u16::MAX);
    let record = actions.iter().fold(frame(reports::ACTIONS).u16(plugin).u16(count), write_action);
    if more { record.more() } else { record }
}

/// Returns the frame of lookups.
pub(crate) fn look_up(frame: impl FnOnce(u16) -> Record, requests: &[&[u8]]) -> Record {
    let count = u16::try_from(requests.len()).unwrap_or(u16::MAX);
    requests.iter().fold(frame(reports::LOOK_UP).u16(count), |record, request| record.bytes(request))
}

/// Maximum number of listings that a worker has open at a time: one of a resync, and one of a look-back.
pub const LISTINGS: u8 = 2;

fn listing(body: &mut Body<'_>) -> Result<u8, Violation> {
    let number = body.u8()?;
    if number < LISTINGS { Ok(number) } else { Err(Violation::Value(number.into())) }
}

fn read_place(body: &mut Body<'_>) -> Result<ProblemPlace, Violation> {
    Ok(match body.u8()? {
        0 => ProblemPlace::File,
        1 => ProblemPlace::Digest,
        2 => ProblemPlace::Grants(body.text(100)?.into()),
        3 => ProblemPlace::Option(None),
        4 => ProblemPlace::Option(Some(body.u16()?.into())),
        5 => ProblemPlace::Named,
        other => return Err(Violation::Value(other.into())),
    })
}

fn write_place(record: Record, place: &ProblemPlace) -> Record {
    match place {
        ProblemPlace::File => record.u8(0),
        ProblemPlace::Digest => record.u8(1),
        ProblemPlace::Grants(grant) => record.u8(2).text(grant, 100),
        ProblemPlace::Option(None) => record.u8(3),
        ProblemPlace::Option(Some(index)) => record.u8(4).u16(u16::try_from(*index).unwrap_or(u16::MAX)),
        ProblemPlace::Named => record.u8(5),
    }
}

/// The counters of statistics, in the order in which they cross.
fn counters(stats: &mut StageStats) -> [&mut u64; 14] {
    [
        &mut stats.calls,
        &mut stats.rows_in,
        &mut stats.rows_out,
        &mut stats.rows_dropped,
        &mut stats.rows_without,
        &mut stats.ticks,
        &mut stats.nanoseconds,
        &mut stats.longest,
        &mut stats.memory,
        &mut stats.failures,
        &mut stats.restarts,
        &mut stats.log_lines,
        &mut stats.log_dropped,
        &mut stats.state_bytes,
    ]
}

fn read_statistics(body: &mut Body<'_>) -> Result<StageStats, Violation> {
    let mut stats = StageStats {
        health: match body.u8()? {
            0 => Health::Running,
            1 => Health::BackingOff,
            2 => Health::Quarantined,
            other => return Err(Violation::Value(other.into())),
        },
        ..StageStats::default()
    };
    for counter in counters(&mut stats) {
        *counter = body.u64()?;
    }
    for count in &mut stats.actions {
        *count = body.u64()?;
    }
    if body.bool()? {
        stats.last_error = Some(body.text(TEXT)?.into());
    }
    for _ in 0..counted(body, STEPS)? {
        let (step, count) = (body.u16()?, body.u64()?);
        if !stats.times.set_count(step.into(), count) {
            return Err(Violation::Value(step.into()));
        }
    }
    Ok(stats)
}

fn write_statistics(record: Record, stats: &StageStats) -> Record {
    let mut stats = stats.clone();
    let record = record.u8(match stats.health {
        Health::Running => 0,
        Health::BackingOff => 1,
        Health::Quarantined => 2,
    });
    let record = counters(&mut stats).into_iter().fold(record, |record, counter| record.u64(*counter));
    let record = stats.actions.iter().fold(record, |record, count| record.u64(*count));
    let record = match &stats.last_error {
        Some(error) => record.bool(true).text(error, TEXT),
        None => record.bool(false),
    };
    let steps: Vec<(usize, u64)> = stats.times.counts().collect();
    let count = u16::try_from(steps.len()).unwrap_or(STEPS);
    steps.iter().fold(record.u16(count), |record, (step, count)| {
        record.u16(u16::try_from(*step).unwrap_or(u16::MAX)).u64(*count)
    })
}

#[cfg(test)]
mod tests {
    use flowgate_isolation::frame::HEADER;

    use super::*;

    /// Number of plugins of the worker.
    const COUNT: u16 = 3;

    fn record(report: &Report<'_>) -> Vec<u8> {
        report.write(|kind| Record::new(kind, 5)).finish().unwrap()
    }

    fn read(record: &[u8]) -> Result<Report<'_>, Violation> {
        Report::read(Frame::read(record, 5)?, COUNT)
    }

    /// Returns a frame of any kind with these fields.
    fn raw(kind: u16, fields: &[u8]) -> Vec<u8> {
        Record::new(kind, 5).append(fields).finish().unwrap()
    }

    /// Returns a list of requests in a frame.
    fn requests(list: &[&[u8]]) -> Vec<u8> {
        look_up(|kind| Record::new(kind, 5), list).finish().unwrap()
    }

    fn statistics(full: bool) -> StageStats {
        let mut stats = StageStats { health: Health::Quarantined, ..StageStats::default() };
        for (place, number) in counters(&mut stats).into_iter().zip(100..) {
            *place = number << 50;
        }
        stats.actions.iter_mut().zip(7..).for_each(|(place, number)| *place = number);
        if full {
            stats.last_error = Some("it \u{1b}[2J fails".into());
            for step in 0..usize::from(STEPS) {
                assert!(stats.times.set_count(step, step as u64 + 1));
            }
        }
        stats
    }

    /// Returns a record of each kind of report, in all variants.
    fn records() -> Vec<Vec<u8>> {
        let text = "t\u{e9}xt".repeat(600);
        let reports = [
            Report::Confined { landlock: None, no_executable_memory: true },
            Report::Confined { landlock: Some(7), no_executable_memory: false },
            Report::Ready,
            Report::Problem { part: Part::Pipeline, place: ProblemPlace::File, what: "" },
            Report::Problem { part: Part::Plugin(2), place: ProblemPlace::Grants("delete".into()), what: &text },
            Report::Problem { part: Part::Plugin(0), place: ProblemPlace::Digest, what: "x" },
            Report::Problem { part: Part::Plugin(0), place: ProblemPlace::Option(None), what: "x" },
            Report::Problem { part: Part::Plugin(0), place: ProblemPlace::Option(Some(65_535)), what: "x" },
            Report::Problem { part: Part::Plugin(0), place: ProblemPlace::Named, what: "x" },
            Report::Warning(&text),
            Report::Log { plugin: 2, level: level::DEBUG, message: "line\n" },
            Report::State { plugin: 1, key: b"", value: None, more: false },
            Report::State { plugin: 1, key: &[0xff; KEY], value: Some(&[7; VALUE]), more: true },
            Report::State { plugin: 1, key: b"k", value: Some(b""), more: false },
            Report::Output(b""),
            Report::Output(&[0xfe; BYTES]),
            Report::List(0),
            Report::Next(LISTINGS - 1),
            Report::Barrier,
            Report::Done { frames: u64::MAX, resyncs: 1, shown: 0 },
            Report::Statistics { plugin: 0, stats: Box::new(StageStats::default()) },
            Report::Statistics { plugin: 2, stats: Box::new(statistics(false)) },
            Report::Statistics { plugin: 2, stats: Box::new(statistics(true)) },
            Report::Failed("it fails"),
            Report::Finished,
        ];
        let mut records: Vec<Vec<u8>> = reports.iter().map(record).collect();
        let long = [9; REQUEST];
        let proposed = [
            ProposedAction { kind: 0, request: Ok(b"") },
            ProposedAction { kind: 255, request: Ok(&long) },
            ProposedAction { kind: 1, request: Err(NoRequest::NotGranted) },
            ProposedAction { kind: 2, request: Err(NoRequest::Unencodable("no tuple")) },
        ];
        let frame = |kind| Record::new(kind, 5);
        records.push(actions(frame, 1, &proposed, false).finish().unwrap());
        records.push(actions(frame, 1, &[proposed[2]; REQUESTS as usize], true).finish().unwrap());
        records.push(actions(frame, 1, &[], true).finish().unwrap());
        records.push(requests(&[]));
        records.push(requests(&[b"one".as_slice(), b"", &long]));
        records.push(requests(&[b"x".as_slice(); LOOKUPS as usize]));
        records
    }

    #[test]
    fn what_is_written_is_read() {
        let mut kinds = std::collections::BTreeSet::new();
        for bytes in records() {
            let report = read(&bytes).unwrap();
            kinds.insert(u16::from_ne_bytes([bytes[0], bytes[1]]));
            assert_eq!(record(&report), bytes, "{report:?}");
        }
        assert_eq!(kinds, (reports::READY..=reports::CONFINED).collect());
    }

    #[test]
    fn lists_have_what_was_put_into_them() {
        let proposed = [
            ProposedAction { kind: 3, request: Ok(b"request".as_slice()) },
            ProposedAction { kind: 1, request: Err(NoRequest::Unencodable("reason")) },
        ];
        let bytes = actions(|kind| Record::new(kind, 5), 2, &proposed, true).finish().unwrap();
        let Ok(Report::Actions { plugin: 2, actions, more: true }) = read(&bytes) else { panic!("other actions") };
        assert_eq!((actions.len(), actions.is_empty()), (2, false));
        assert_eq!(actions.collect::<Vec<_>>(), proposed);
        let bytes = requests(&[b"a".as_slice(), b"bc"]);
        let Ok(Report::LookUp(list)) = read(&bytes) else { panic!("other requests") };
        assert_eq!(list.collect::<Vec<_>>(), [b"a".as_slice(), b"bc"]);
    }

    #[test]
    fn each_field_has_its_bounds() {
        let longer =
            |most: usize| [&u32::try_from(most + 1).unwrap().to_ne_bytes()[..], &vec![b'x'; most + 1]].concat();
        let many = |count: u16| count.to_ne_bytes().to_vec();
        let zero = [0, 0];
        let excessive = |most: usize| Violation::Excessive { length: most + 1, most };
        for (kind, fields, violation) in [
            (reports::WARNING, longer(TEXT), excessive(TEXT)),
            (reports::FAILED, longer(TEXT), excessive(TEXT)),
            (reports::LOG, [&zero[..], &[0], &longer(TEXT)].concat(), excessive(TEXT)),
            (reports::LOG, [&COUNT.to_ne_bytes()[..], &[0; 5]].concat(), Violation::Value(COUNT.into())),
            (reports::LOG, [&zero[..], &[level::DEBUG + 1], &[0; 4]].concat(), Violation::Value(5)),
            (reports::OUTPUT, longer(BYTES), excessive(BYTES)),
            (reports::STATE, [&zero[..], &longer(KEY)].concat(), excessive(KEY)),
            (reports::STATE, [&zero[..], &[0; 4], &[1], &longer(VALUE)].concat(), excessive(VALUE)),
            (reports::STATE, [&zero[..], &[0; 4], &[2]].concat(), Violation::Value(2)),
            (reports::PROBLEM, [&COUNT.to_ne_bytes()[..], &[0; 5]].concat(), Violation::Value(COUNT.into())),
            (reports::PROBLEM, [&zero[..], &[6]].concat(), Violation::Value(6)),
            (reports::PROBLEM, [&zero[..], &[2], &longer(100)].concat(), excessive(100)),
            (reports::ACTIONS, [&zero[..], &many(REQUESTS + 1)].concat(), Violation::Value(u64::from(REQUESTS) + 1)),
            (reports::ACTIONS, [&zero[..], &many(1), &[1, 0], &longer(REQUEST)].concat(), excessive(REQUEST)),
            (reports::ACTIONS, [&zero[..], &many(1), &[1, 2], &longer(REASON)].concat(), excessive(REASON)),
            (reports::ACTIONS, [&zero[..], &many(1), &[1, 3]].concat(), Violation::Value(3)),
            (reports::ACTIONS, [&zero[..], &many(REQUESTS)].concat(), Violation::Field { wanted: 1, left: 0 }),
            (reports::ACTIONS, [&zero[..], &many(0), &[0]].concat(), Violation::Trailing(1)),
            (reports::LOOK_UP, many(LOOKUPS + 1), Violation::Value(u64::from(LOOKUPS) + 1)),
            (reports::LOOK_UP, [&many(1)[..], &longer(REQUEST)].concat(), excessive(REQUEST)),
            (reports::LIST, vec![LISTINGS], Violation::Value(LISTINGS.into())),
            (reports::NEXT, vec![LISTINGS], Violation::Value(LISTINGS.into())),
            (reports::READY, vec![0], Violation::Trailing(1)),
            (reports::DONE, vec![0; 23], Violation::Field { wanted: 8, left: 7 }),
            (reports::STATISTICS, [&zero[..], &[3]].concat(), Violation::Value(3)),
            (reports::CONFINED + 1, vec![], Violation::Kind(reports::CONFINED + 1)),
            (kind::EVENTS, vec![], Violation::Kind(kind::EVENTS)),
        ] {
            let bytes = raw(kind, &fields);
            assert_eq!(read(&bytes).unwrap_err(), violation, "kind {kind}");
        }
        // Steps of the histogram: too many of them, and one that there is not.
        let all = record(&Report::Statistics { plugin: 0, stats: Box::new(statistics(true)) });
        let steps = all.len() - usize::from(STEPS) * 10;
        let mut more = all.clone();
        more[steps - 2..steps].copy_from_slice(&(STEPS + 1).to_ne_bytes());
        assert_eq!(read(&more).unwrap_err(), Violation::Value(u64::from(STEPS) + 1));
        let mut other = all;
        other[steps..steps + 2].copy_from_slice(&STEPS.to_ne_bytes());
        assert_eq!(read(&other).unwrap_err(), Violation::Value(STEPS.into()));
        // Only states and actions have parts; the removal of an entry has none.
        for bytes in records() {
            let frame = Frame::read(&bytes, 5).unwrap();
            let parts = Report::read(Frame { more: true, ..frame }, COUNT);
            let has_parts = match read(&bytes).unwrap() {
                Report::Actions { .. } => true,
                Report::State { value, .. } => value.is_some(),
                _ => false,
            };
            assert_eq!(parts.is_ok(), has_parts, "{parts:?}");
        }
    }

    /// What is read is written as something that is read as the same.
    fn is_stable(bytes: &[u8]) {
        if let Ok(report) = read(bytes) {
            let again = record(&report);
            assert_eq!(record(&read(&again).unwrap()), again);
        }
    }

    #[test]
    fn changed_records_are_refused_or_read_as_something_else() {
        for bytes in records() {
            // Long ones consist of the same bytes for the most part.
            let step = (bytes.len() / 400).max(1);
            for at in (0..bytes.len()).filter(|at| *at < 64 || at % step == 0) {
                for change in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                    let mut changed = bytes.clone();
                    changed[at] ^= change;
                    is_stable(&changed);
                }
                // Shorter, with a length that is right.
                if at >= HEADER {
                    let mut cut = bytes[..at].to_vec();
                    cut[4..8].copy_from_slice(&u32::try_from(at).unwrap().to_ne_bytes());
                    is_stable(&cut);
                    assert!(read(&bytes[..at]).is_err());
                }
            }
        }
    }

    #[test]
    fn random_records_make_nothing_panic() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 33) as u8
        };
        let mut read_ones = 0;
        for round in 0..50_000u16 {
            let length = usize::from(next()) % 60;
            let fields: Vec<u8> = (0..length).map(|_| if next() % 3 == 0 { next() } else { next() % 4 }).collect();
            let bytes = raw(reports::READY + round % 16, &fields);
            is_stable(&bytes);
            read_ones += u32::from(read(&bytes).is_ok());
        }
        assert!(read_ones > 100, "{read_ones}");
    }
}
