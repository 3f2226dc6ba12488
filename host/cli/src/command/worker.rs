//! Workers of commands: processes that have nothing, in which `policy check` starts plugins and `plugin test` tests
//! one.

use std::{
    fs::File,
    io, thread,
    time::{Duration, Instant},
};

use super::{compiling, policy::WorkerProcess};
use flowgate_base::{TokenBucket, io_error::error_text, text::clean};
use flowgate_isolation::Limits;
use flowgate_worker::{Link, LinkError, protocol::Report, setup::Setup};

/// Interval at which the CPU time of the process is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Frames in a second that are received.
const FRAMES: u64 = 20_000;

/// Runs a worker until its plugins have started or its job is done. `time` is the CPU time that it may use, and four
/// times as much may pass. `receive` gets all other reports, and ends the worker by an error.
///
/// # Errors
/// Why it has ended early.
pub(super) fn run(
    setup: &mut Setup,
    code: &[File],
    limits: Limits,
    time: Duration,
    receive: &mut dyn FnMut(Report<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let lacking = |error: io::Error| format!("the worker cannot be started: {}", error_text(&error));
    let spawner =
        compiling::spawner().ok_or_else(|| lacking(io::Error::other("there is nothing that starts processes")))?;
    let plugins = u16::try_from(setup.plugins.len()).unwrap_or(u16::MAX);
    let setup = setup.to_file(code).map_err(lacking)?;
    // It receives no events, but the end of their channel would be that of its owner.
    let (mut process, _events) =
        WorkerProcess::start(&spawner, limits, Duration::from_secs(1), setup).map_err(lacking)?;
    let late = Instant::now() + 4 * time;
    process.child.started(late).map_err(lacking)?;
    let mut frames = TokenBucket::per_second(FRAMES);
    let mut looked = Instant::now();
    loop {
        let readable = if frames.is_empty() {
            // What is not received is not sent: the worker waits, too.
            thread::sleep(LOOK / 10);
            false
        } else {
            process.calls.is_readable(LOOK).map_err(lacking)?
        };
        if !readable || looked.elapsed() >= LOOK {
            looked = Instant::now();
            if process.child.cpu_time().unwrap_or_default() > time || looked > late {
                return Err(format!("the worker has not finished within {time:?} of CPU time"));
            }
        }
        if !readable {
            continue;
        }
        frames.charge(1);
        let report = match receive_report(&mut process.calls, plugins) {
            Ok(report) => report,
            Err(LinkError::Violation(violation)) => return Err(format!("the worker sent {violation}")),
            Err(LinkError::Ended | LinkError::Socket(_)) => {
                let (cause, _) = process.ended();
                return Err(format!("the worker has ended: {}", cause.reason));
            }
        };
        match report {
            Report::Ready | Report::Finished => return Ok(()),
            Report::Failed(reason) => return Err(clean(reason)),
            report => receive(report)?,
        }
    }
}

/// Receives a report.
fn receive_report(calls: &mut Link, plugins: u16) -> Result<Report<'_>, LinkError> {
    let frame = calls.receive()?;
    Ok(Report::read(frame, plugins)?)
}
