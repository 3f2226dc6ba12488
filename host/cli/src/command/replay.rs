//! `flowgate replay`: passes a recording through the pipeline of -L or -E, without the kernel.

use std::{ffi::OsString, path::Path};

use super::{
    Context, long_name, lower,
    report::{CommandError, Exit},
    table,
};
use flowgate_pipeline::{
    Spec,
    spec::{RecordingSpec, Source},
};
use flowgate_recording::{Recording, RecordingInput, RecordingKind, Speed};
use flowgate_syntax::{Command, Settings, Table};

/// Runs the subcommand.
pub(super) fn run(
    context: &mut Context<'_>,
    file: &Path,
    speed: Speed,
    words: &[OsString],
) -> Result<Exit, CommandError> {
    let recording = Recording::open(RecordingInput::open(file)?)?;
    let settings = match context.classic(words, command(&recording)) {
        Ok(settings) => settings,
        Err(exit) => return Ok(exit),
    };
    check(&settings, &recording)?;
    let Some(row) = table::row(settings.command, settings.table) else {
        return Err(CommandError::NotAvailable(long_name(settings.command)));
    };
    let played = RecordingSpec {
        file: file.into(),
        speed,
        table: settings.table,
        kind: if settings.command == Command::Events { RecordingKind::Events } else { RecordingKind::Dump },
        groups: settings.events,
        family: settings.family,
    };
    if settings.explain {
        return context.explain(row, &settings, Some(played), false);
    }
    let mut source = recording.play(played.selected(), speed, context.stop);
    let spec = Spec { source: Source::Recording(played), ..lower::entries(row, &settings, None) };
    context.entries(row, &settings, spec, Some(&mut source), false)
}

/// Returns the command whose output a recording contains.
fn command(recording: &Recording) -> (Command, Table) {
    let command = match recording.kind() {
        RecordingKind::Dump => Command::List,
        RecordingKind::Events => Command::Events,
    };
    (command, recording.table())
}

/// Checks that a recording can replace the kernel for a command.
fn check(settings: &Settings, recording: &Recording) -> Result<(), CommandError> {
    let command = long_name(settings.command);
    let kind = match settings.command {
        Command::List => RecordingKind::Dump,
        Command::Events => RecordingKind::Events,
        _ => return Err(CommandError::NotInRecording { what: "replay", command }),
    };
    if settings.resync {
        return Err(CommandError::ResyncInRecording);
    }
    if settings.netns.is_some() || settings.all_netns {
        return Err(CommandError::NetnsInReplay);
    }
    if settings.zero {
        return Err(CommandError::ZeroInReplay);
    }
    let expect = settings.table == Table::Expect;
    let recorded_expect = recording.table() == Table::Expect;
    if recording.is_titled() && (kind != recording.kind() || expect != recorded_expect) {
        let (recorded, instead) = match (recording.kind(), recorded_expect) {
            (RecordingKind::Dump, false) => ("a dump of flows", "-L"),
            (RecordingKind::Dump, true) => ("a dump of expectations", "-L expect"),
            (RecordingKind::Events, false) => ("events of flows", "-E"),
            (RecordingKind::Events, true) => ("events of expectations", "-E expect"),
        };
        return Err(CommandError::OtherRecording { recorded, command, instead });
    }
    Ok(())
}
