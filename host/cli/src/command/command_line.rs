//! A parsed command line: its privileges, its output and its exit status.

use std::{
    ffi::{OsStr, OsString},
    io,
};

use super::{
    compiling,
    context::Context,
    load, privilege_profile,
    report::{self, CommandError, Exit},
    standard_error,
    table::{self, Source},
};
use crate::args::{self, Invocation, Subcommand};
use flowgate_base::files;
use flowgate_netlink::Stop;
use flowgate_pipeline::{
    counters::Counters,
    sink::{Sink, Stdout, Tolerant},
    stats::Board,
};
use flowgate_policy::WorkerUids;
use flowgate_privileges::PrivilegeProfile;
use flowgate_syntax::{Command, ProgramName, Settings};

/// A parsed command line.
#[derive(Debug)]
pub struct CommandLine {
    name: ProgramName,
    invocation: Invocation,
    /// Content of the file of `flowgate run`. It is read once, because it determines the privileges as well as the
    /// pipeline.
    file: Option<io::Result<Vec<u8>>>,
}

impl CommandLine {
    /// Parses a command line. Errors and warnings have been printed when this returns.
    ///
    /// # Errors
    /// The exit status for an invalid command line.
    pub fn parse(program: &OsStr, arguments: &[OsString]) -> Result<Self, Exit> {
        let variable = std::env::var_os(flowgate_syntax::NAME_VARIABLE);
        let name = ProgramName::new(program, variable.as_deref()).map_err(|error| print_syntax_error(&error))?;
        report::set_name(&name);
        let parsed = args::parse(&name, arguments, &flowgate_syntax::SystemEnvironment);
        for warning in &parsed.warnings {
            report::line(warning);
        }
        match parsed.result {
            Ok(invocation) => {
                let file = match &invocation {
                    Invocation::Subcommand(subcommand) => match subcommand.as_ref() {
                        Subcommand::Run(options) => Some(files::read(&options.file, files::MAX_CONFIGURATION_FILE)),
                        _ => None,
                    },
                    _ => None,
                };
                Ok(CommandLine { name, invocation, file })
            }
            Err(error) => {
                let exit = print_syntax_error(&error);
                if let Some(place) = &parsed.place {
                    report::line(&format!("in {place}"));
                }
                Err(exit)
            }
        }
    }

    /// Gives up the privileges that the command does not need, for the calling thread and those that it starts.
    ///
    /// # Errors
    /// The exit status if the command must not run with privileges that cannot be given up; the reason has been
    /// printed.
    pub fn give_up_privileges(&self) -> Result<(), Exit> {
        let (profile, worker_uids) = self.privileges();
        // SAFETY: this is called by the first thread of the process, before it starts any.
        #[allow(unsafe_code)]
        unsafe { compiling::provide(profile, worker_uids) }.map_err(|error| {
            report::banner(&error.to_string());
            Exit::Failure
        })?;
        match profile.apply() {
            Err(error) if profile.is_strict() => {
                report::banner(&format!("the service does not run with privileges that it does not need: {error}"));
                Err(Exit::Failure)
            }
            // Other commands run with these privileges. Plugins are refused when they are loaded, with the reason.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn profile(&self) -> PrivilegeProfile {
        self.privileges().0
    }

    /// Returns the profile of the command, and the users of its workers.
    fn privileges(&self) -> (PrivilegeProfile, WorkerUids) {
        let file = self.file.as_ref().and_then(|file| file.as_deref().ok());
        privilege_profile::of(&self.name, &self.invocation, file)
    }

    /// Returns true if the command ends gracefully after a signal: it completes the line, the actions in progress or
    /// the stream, or closes the screen. All other commands are ended by the signal's default action.
    #[must_use]
    pub fn ends_gracefully(&self) -> bool {
        match &self.invocation {
            Invocation::Run(settings) => {
                use Command::{Delete, Events, List, Update};
                matches!(settings.command, List | Events | Delete | Update) || !settings.plugins.is_empty()
            }
            Invocation::Load(_) => true,
            Invocation::Text(_) => false,
            Invocation::Subcommand(subcommand) => {
                #[cfg(feature = "fleet")]
                use crate::args::fleet_command::FleetCommand;
                use Subcommand::{Record, Replay, Run, Top};
                #[cfg(feature = "fleet")]
                if let Subcommand::Fleet { command } = subcommand.as_ref() {
                    use FleetCommand::{Agent, Simulate, Watch};
                    return matches!(command, Agent { .. } | Simulate { .. } | Watch { .. });
                }
                matches!(subcommand.as_ref(), Run(_) | Record { .. } | Replay { .. } | Top { .. })
            }
        }
    }

    /// Returns true if SIGUSR1 prints the statistics of plugins; otherwise the signal has its default action.
    #[must_use]
    pub fn has_plugins(&self) -> bool {
        match &self.invocation {
            Invocation::Run(settings) => !settings.plugins.is_empty(),
            Invocation::Load(file) => file.commands.iter().any(|command| !command.settings.plugins.is_empty()),
            Invocation::Subcommand(subcommand) => match subcommand.as_ref() {
                Subcommand::Run(_) => true,
                Subcommand::Record { .. } | Subcommand::Replay { .. } => {
                    matches!(self.profile(), PrivilegeProfile::Command { plugins: true, .. })
                }
                // `top` shows them on its screen, which must not be overwritten.
                _ => false,
            },
            Invocation::Text(_) => false,
        }
    }

    /// Runs the command. All messages have been printed when this returns.
    ///
    /// The user's stages are put on the `board`, for threads that read their statistics meanwhile.
    pub fn run(&self, stop: &Stop, board: &Board) -> Exit {
        if self.is_live() {
            standard_error::is_live();
        }
        let mut sink = self.sink();
        let counters = Counters::default();
        let file = self.file.as_ref();
        let mut context = Context {
            name: &self.name,
            stop,
            board,
            counters,
            sink: sink.as_mut(),
            loader: None,
            namespace: None,
            file,
            done: 0,
        };
        let mut place = None;
        let result = match &self.invocation {
            Invocation::Run(settings) => context.command(settings, false),
            Invocation::Subcommand(subcommand) => context.subcommand(subcommand),
            Invocation::Text(help) => context.text(help),
            Invocation::Load(file) => load::run(file, &mut context, &mut place),
        };
        // The process is about to end, which frees the memory of its plugins.
        std::mem::forget(context.loader.take());
        let exit = match result {
            Ok(exit) => exit,
            Err(CommandError::BrokenPipe) => return Exit::BrokenPipe,
            Err(error) => {
                report::banner(&error.to_string());
                if error.is_refusal() && self.name.has_own_options() {
                    report::line("`flowgate doctor` shows what is missing.");
                }
                if let Some(place) = place.filter(|_| self.name.has_own_options()) {
                    report::line(&format!("in {place}"));
                }
                Exit::Failure
            }
        };
        match sink.finish() {
            Ok(()) => exit,
            // The command was carried out, but its output cannot be written.
            Err(error) => {
                report::banner(&error.to_string());
                Exit::Failure
            }
        }
    }

    /// Returns true if the command shows events, which do not wait for a reader. For `run` the file decides later.
    fn is_live(&self) -> bool {
        match &self.invocation {
            Invocation::Run(settings) => settings.command == Command::Events,
            Invocation::Subcommand(subcommand) => matches!(subcommand.as_ref(), Subcommand::Record { .. }),
            Invocation::Load(_) | Invocation::Text(_) => false,
        }
    }

    /// Returns the sink of the output. A command that changes something is not stopped by output that cannot be
    /// written.
    fn sink(&self) -> Box<dyn Sink> {
        let (changes, live) = match &self.invocation {
            Invocation::Run(settings) => (changes(settings), settings.command == Command::Events),
            Invocation::Load(_) => (true, false),
            Invocation::Subcommand(_) | Invocation::Text(_) => (false, false),
        };
        match changes {
            true => Box::new(Tolerant::new(Stdout::new(), live.then(report::warnings))),
            false => Box::new(Stdout::new()),
        }
    }
}

/// Returns true if a classic command changes something in the kernel, by itself or through plugins.
fn changes(settings: &Settings) -> bool {
    let row = table::row(settings.command, settings.table);
    let acts = row.is_some_and(|row| row.acts.is_some() || row.source == Source::Flush);
    let plugins = settings.plugins.iter().any(|plugin| plugin.grants.acts());
    !settings.explain && !settings.dry_run && (acts || settings.zero || plugins)
}

/// Prints the error of an invalid command line.
pub(super) fn print_syntax_error(error: &flowgate_syntax::CliError) -> Exit {
    if let flowgate_syntax::CliError::Query(option, error) = error {
        // Several lines, which show the place.
        report::text(format!("flowgate: --{option}: {error}\n").as_bytes());
    } else if error.is_text() {
        report::text(&error.message());
    } else {
        report::banner_bytes(&error.message());
    }
    if error.has_hint() {
        report::line(flowgate_syntax::HINT);
    }
    Exit::from(error)
}
