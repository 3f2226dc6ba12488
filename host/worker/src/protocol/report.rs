//! What a worker sends.

use flowgate_isolation::{Body, Frame, Record, Violation};
use flowgate_model::level;
use flowgate_pipeline::{loader::ProblemPlace, stats::StageStats};

use super::{
    BYTES, KEY, LISTINGS, TEXT, VALUE, reports,
    requests::{ActionList, RequestList},
    statistics::{read_statistics, statistics},
};

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
        /// Bytes that the format has written since the last report of output.
        output: &'a [u8],
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
            reports::DONE => Report::Done {
                frames: body.u64()?,
                resyncs: body.u64()?,
                shown: body.u64()?,
                output: body.bytes(BYTES)?,
            },
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
            Report::Actions { plugin, actions, more } => actions.write(frame(reports::ACTIONS).u16(*plugin), *more),
            Report::List(number) => frame(reports::LIST).u8(*number),
            Report::Next(number) => frame(reports::NEXT).u8(*number),
            Report::LookUp(requests) => requests.write(frame(reports::LOOK_UP)),
            Report::Barrier => frame(reports::BARRIER),
            Report::Done { frames, resyncs, shown, output } => {
                frame(reports::DONE).u64(*frames).u64(*resyncs).u64(*shown).bytes(output)
            }
            Report::Statistics { plugin, stats } => statistics(frame, *plugin, stats),
            Report::Failed(reason) => frame(reports::FAILED).text(reason, TEXT),
            Report::Finished => frame(reports::FINISHED),
        }
    }
}

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
