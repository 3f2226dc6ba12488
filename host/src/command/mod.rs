//! Commands: what a command line asks for, carried out.
//!
//! [`table`] has one row per classic command and table: which source, which stock stages, which summary. [`assemble`] puts
//! the plugins of a pipeline together, [`list`] runs the rows that show entries of a dump, [`report`] has the texts and exit
//! statuses that scripts know. Each subcommand has a file of its name.

pub mod assemble;
mod completions;
mod list;
mod man;
pub mod report;
pub mod table;

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
};

pub use report::{CommandError, Exit};

use crate::{
    cli::{self, Command, Invocation, Settings, Subcommand},
    netlink::Stop,
    pipeline::sink::{Sink, Stdout},
};

/// Carries out a command line. Everything that is to be said of it has been said when this returns.
pub fn run(program: &OsStr, arguments: &[OsString], stop: &Stop) -> Exit {
    let parsed = cli::parse(program, arguments, &cli::SystemEnvironment);
    for warning in &parsed.warnings {
        report::line(warning);
    }
    let invocation = match parsed.result {
        Ok(invocation) => invocation,
        Err(error) => {
            if error.is_text() {
                report::text(&error.message());
            } else {
                report::banner_bytes(&error.message());
            }
            if error.has_hint() {
                report::line(cli::HINT);
            }
            return Exit::from(&error);
        }
    };
    let mut stdout = match Stdout::new() {
        Ok(stdout) => stdout,
        Err(error) => {
            report::banner(&format!("cannot write to standard output: {error}"));
            return Exit::Failure;
        }
    };
    let result = match invocation {
        Invocation::Run(settings) => command(&program.to_string_lossy(), &settings, stop, &mut stdout),
        Invocation::Subcommand(subcommand) => run_subcommand(&subcommand, &mut stdout),
        Invocation::Text(help) => text(&mut stdout, &help),
        Invocation::Load(_) => Err(CommandError::NotAvailable("load-file")),
    };
    match result {
        Ok(exit) => exit,
        Err(CommandError::BrokenPipe) => Exit::BrokenPipe,
        Err(error) => {
            report::banner(&error.to_string());
            Exit::Failure
        }
    }
}

/// Carries out one command.
fn command(program: &str, settings: &Settings, stop: &Stop, sink: &mut dyn Sink) -> Result<Exit, CommandError> {
    match settings.command {
        Command::Version => text(sink, &report::version()),
        Command::Help => text(
            sink,
            &cli::usage::text(program, cli::has_own_options(OsStr::new(program)), settings.help_protocol.as_ref()),
        ),
        _ => match table::row(settings.command, settings.table) {
            Some(row) => list::run(row, settings, stop, sink),
            None => Err(CommandError::NotAvailable(long_name(settings.command))),
        },
    }
}

/// Carries out a subcommand.
fn run_subcommand(subcommand: &Subcommand, sink: &mut dyn Sink) -> Result<Exit, CommandError> {
    match subcommand {
        Subcommand::Completions { shell, name } => completions::run(*shell, name, sink),
        Subcommand::Man => man::run(sink),
    }
}

fn text(sink: &mut dyn Sink, text: &str) -> Result<Exit, CommandError> {
    sink.write(text.as_bytes())?;
    Ok(Exit::Success)
}

/// Writes a line to standard error; nobody to tell is no reason to stop.
fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The command's long option, without hyphens.
fn long_name(command: Command) -> &'static str {
    cli::options::COMMANDS.iter().find(|spec| spec.command == command).map_or("", |spec| spec.long)
}
