//! Execution of command lines.
//!
//! * [`table`] has one row per classic command and table: source, stock stages, output, summary.
//! * `lower` converts a command line to the spec of a pipeline, `explain` explains it.
//! * `entries` runs the rows that have entries, `tables` those without, `load` a load file.
//! * [`report`] has the texts and exit statuses that scripts rely on.
//! * `compiling` has plugins compiled in processes of their own.
//! * `profile` determines the privileges that a command line does not need.
//! * Each subcommand has a file of its name.

mod compiling;
mod completions;
mod doctor;
mod entries;
mod explain;
#[cfg(test)]
mod kernels;
mod load;
mod lower;
mod man;
pub mod plugin;
pub mod policy;
mod privilege_profile;
mod record;
mod replay;
pub mod report;
mod run;
mod standard_error;
pub mod table;
mod tables;
mod top;

use std::{
    ffi::{OsStr, OsString},
    io,
    rc::Rc,
    sync::Once,
};

pub use compiling::{end as end_compiling, work};
use entries::{Done, Job, Loading};
pub use report::{CommandError, Exit};
use table::{Row, Source};

use crate::args::{self, Invocation, Subcommand};
use flowgate_base::{address::ListenAddress, files};
use flowgate_metrics::Server;
use flowgate_model::{Expectations, Flows, Label, Selection};
use flowgate_netlink::{Deleted, Namespace, Stop, source::Source as DatagramSource};
use flowgate_pipeline::{
    Spec,
    counters::Counters,
    loader::PluginLoader,
    sink::{Sink, Stdout, Tolerant},
    spec,
    stats::Board,
};
use flowgate_privileges::PrivilegeProfile;
use flowgate_runtime::{Cache, LoadError, PluginEngine};
use flowgate_syntax::{Command, LabelMap, Output, ProgramName, Settings, Table};
use flowgate_top::Sort;

/// Waits until everything on standard error has been written; in the service for tenants, only as long as there is
/// progress.
pub fn drain_standard_error() {
    standard_error::drain();
}

/// A parsed command line.
#[derive(Debug)]
pub struct Order {
    name: ProgramName,
    invocation: Invocation,
    /// Content of the file of `flowgate run`. It is read once, because it determines the privileges as well as the
    /// pipeline.
    file: Option<io::Result<Vec<u8>>>,
}

/// Parses a command line. Errors and warnings have been printed when this returns.
///
/// # Errors
/// The exit status for an invalid command line.
pub fn understand(program: &OsStr, arguments: &[OsString]) -> Result<Order, Exit> {
    let variable = std::env::var_os(flowgate_syntax::NAME_VARIABLE);
    let name = ProgramName::new(program, variable.as_deref()).map_err(|error| misunderstood(&error))?;
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
            Ok(Order { name, invocation, file })
        }
        Err(error) => {
            let exit = misunderstood(&error);
            if let Some(place) = &parsed.place {
                report::line(&format!("in {place}"));
            }
            Err(exit)
        }
    }
}

impl Order {
    /// Gives up the privileges that the command does not need, for the calling thread and those that it starts.
    ///
    /// # Errors
    /// The exit status if the command must not run with privileges that cannot be given up; the reason has been
    /// printed.
    pub fn give_up_privileges(&self) -> Result<(), Exit> {
        let profile = self.profile();
        // SAFETY: this is called by the first thread of the process, before it starts any.
        #[allow(unsafe_code)]
        unsafe {
            compiling::provide(profile);
        }
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
        let file = self.file.as_ref().and_then(|file| file.as_deref().ok());
        privilege_profile::of(&self.name, &self.invocation, file)
    }

    /// True if the command ends in order after a signal: it completes the line, the actions in progress or the stream,
    /// or closes the screen. All other commands are ended by the signal's default action.
    #[must_use]
    pub fn has_an_end(&self) -> bool {
        match &self.invocation {
            Invocation::Run(settings) => {
                use Command::{Delete, Events, List, Update};
                matches!(settings.command, List | Events | Delete | Update) || !settings.plugins.is_empty()
            }
            Invocation::Load(_) => true,
            Invocation::Text(_) => false,
            Invocation::Subcommand(subcommand) => {
                use Subcommand::{Record, Replay, Run, Top};
                matches!(subcommand.as_ref(), Run(_) | Record { .. } | Replay { .. } | Top { .. })
            }
        }
    }

    /// True if SIGUSR1 prints the statistics of plugins; otherwise the signal has its default action.
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

    /// Carries out the command. All messages have been printed when this returns.
    ///
    /// The user's stages are put on the `board`, for threads that read their statistics meanwhile.
    pub fn carry_out(&self, stop: &Stop, board: &Board) -> Exit {
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

    /// True if the command shows events, which do not wait for a reader. For `run` the file decides later.
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

/// True if a classic command changes something in the kernel, by itself or through plugins.
fn changes(settings: &Settings) -> bool {
    let row = table::row(settings.command, settings.table);
    let acts = row.is_some_and(|row| row.acts.is_some() || row.source == Source::Flush);
    let plugins = settings.plugins.iter().any(|plugin| plugin.grants.acts());
    !settings.explain && !settings.dry_run && (acts || settings.zero || plugins)
}

/// Prints the error of an invalid command line.
fn misunderstood(error: &flowgate_syntax::CliError) -> Exit {
    if error.is_text() {
        report::text(&error.message());
    } else {
        report::banner_bytes(&error.message());
    }
    if error.has_hint() {
        report::line(flowgate_syntax::HINT);
    }
    Exit::from(error)
}

/// State that all commands of a process share.
struct Context<'a> {
    name: &'a ProgramName,
    stop: &'a Stop,
    board: &'a Board,
    /// Counts of received data.
    counters: Counters,
    sink: &'a mut dyn Sink,
    /// The loader of plugins; `None` before its first use.
    loader: Option<Rc<PluginLoader>>,
    /// The network namespace that was used last, with its name on the command line.
    namespace: Option<(OsString, Namespace)>,
    /// Content of the file of `run`.
    file: Option<&'a io::Result<Vec<u8>>>,
    /// Number of actions of the last command with entries.
    done: u64,
}

impl Context<'_> {
    /// Carries out one command. `loading` is true for a line of a load file.
    fn command(&mut self, settings: &Settings, loading: bool) -> Result<Exit, CommandError> {
        match settings.command {
            Command::Version => return self.text(&report::version()),
            Command::Help => {
                let (program, own) = (self.name.word().to_string_lossy(), self.name.has_own_options());
                return self.text(&crate::args::usage::text(&program, own, settings.help_protocol.as_ref()));
            }
            _ => {}
        }
        let row = table::row(settings.command, settings.table)
            .ok_or_else(|| CommandError::NotAvailable(long_name(settings.command)))?;
        if settings.explain {
            return self.explain(row, settings, None, loading);
        }
        let spec = lower::command(row, settings, self.namespace(settings)?)?;
        match &spec.source {
            spec::Source::Deletion(deletion) => {
                match (tables::delete(row, deletion, spec.namespace.as_ref())?, row.source) {
                    (Deleted::Done, _) => Ok(Exit::Success),
                    (Deleted::Unsupported, Source::Flush) => self.delete_family(settings),
                    (Deleted::Unsupported, _) => {
                        let spec = lower::entries(row, settings, spec.namespace.clone());
                        self.entries(row, settings, spec, None, loading)
                    }
                }
            }
            spec::Source::Statistics(statistics) => {
                let (loader, statistics) = (self.loader(settings)?, *statistics);
                tables::counts(row, (spec, statistics), &loader, self.sink)
            }
            _ => self.entries(row, settings, spec, None, loading),
        }
    }

    /// Deletes the flows of one family one by one, without a message.
    fn delete_family(&mut self, settings: &Settings) -> Result<Exit, CommandError> {
        let selection = Selection { family: settings.family, ..Selection::default() };
        let settings = Settings { command: Command::Delete, quiet: true, selection, ..settings.clone() };
        let row = table::row(Command::Delete, Table::Conntrack)
            .ok_or(CommandError::NotAvailable(long_name(Command::Delete)))?;
        let spec = lower::entries(row, &settings, self.namespace(&settings)?);
        self.entries(row, &settings, spec, None, true)
    }

    /// Parses the classic command line after a subcommand; `command` is its default command. An error has been printed.
    fn classic(&self, words: &[OsString], command: (Command, Table)) -> Result<Box<Settings>, Exit> {
        let mut warnings = Vec::new();
        let settings = flowgate_syntax::parse_classic(
            self.name,
            words,
            command,
            &flowgate_syntax::SystemEnvironment,
            &mut warnings,
        );
        for warning in &warnings {
            report::line(warning);
        }
        settings.map_err(|error| misunderstood(&error))
    }

    /// Carries out a command with entries. `source` replaces the source of the spec.
    fn entries(
        &mut self,
        row: &Row,
        settings: &Settings,
        spec: Spec,
        source: Option<&mut (dyn DatagramSource + 'static)>,
        loading: bool,
    ) -> Result<Exit, CommandError> {
        let loader = self.loader(settings)?;
        let own = self.name.has_own_options();
        let done = &mut Done::default();
        let loading = if loading { Loading::UntilRefused } else { Loading::No };
        let counters = &self.counters;
        // The server runs until the command ends.
        let _metrics = serve_metrics(settings.metrics.as_ref(), self.board, counters)?;
        let (stop, sink, board) = (self.stop, &mut *self.sink, self.board);
        let job = Job { row, settings, spec, loader: &loader, stop, sink, board, counters, source, loading, own, done };
        let result = match settings.table {
            Table::Expect => job.run::<Expectations>(),
            _ => job.run::<Flows>(),
        };
        self.done = done.done;
        if settings.stats {
            let json = settings.output.contains(Output::JSON);
            report::text(if json { self.board.json() } else { self.board.text() }.as_bytes());
        }
        result
    }

    /// Carries out a subcommand.
    fn subcommand(&mut self, subcommand: &Subcommand) -> Result<Exit, CommandError> {
        match subcommand {
            Subcommand::Completions { shell, name } => completions::run(*shell, name, self.sink),
            Subcommand::Doctor { netns, json, output } => {
                let json = *json || *output == crate::args::Report::Json;
                doctor::run(netns.as_deref(), json, self.sink)
            }
            Subcommand::Man => man::run(self.sink),
            Subcommand::Run(options) => {
                let content = match self.file {
                    Some(Ok(content)) => Ok(content.clone()),
                    Some(Err(error)) => {
                        let described = || io::Error::new(error.kind(), error.to_string());
                        Err(error.raw_os_error().map_or_else(described, io::Error::from_raw_os_error))
                    }
                    None => files::read(&options.file, files::MAX_CONFIGURATION_FILE),
                };
                run::run(options, content, self.stop, (self.board, &self.counters), self.sink)
            }
            Subcommand::Plugin { command } => plugin::run(self, command),
            Subcommand::Audit(options) => policy::audit(options, self.sink),
            Subcommand::Policy { command } => policy::run(command, self.sink),
            Subcommand::Record { file, show, max_size, duration, command } => {
                let limits = record::Limits { bytes: *max_size, time: *duration };
                record::run(self, file, *show, limits, command)
            }
            Subcommand::Top { file, interval, sort, reverse, filter, once, output, rows, speed, command } => {
                let wanted = top::Wanted {
                    file: file.as_deref(),
                    interval: *interval,
                    sort: Sort { key: *sort, reverse: *reverse },
                    filter,
                    once: once.then(|| (output.unwrap_or_default(), rows.unwrap_or(usize::MAX))),
                    speed: *speed,
                };
                top::run(self, &wanted, command)
            }
            Subcommand::Replay { file, speed, command } => replay::run(self, file, *speed, command),
        }
    }

    /// Returns the network namespace of a command; `None` for that of the process.
    fn namespace(&mut self, settings: &Settings) -> Result<Option<Namespace>, CommandError> {
        let Some(word) = &settings.netns else { return Ok(None) };
        if let Some((known, namespace)) = &self.namespace
            && known == word
        {
            return Ok(Some(namespace.clone()));
        }
        let namespace = Namespace::find(word)?;
        self.namespace = Some((word.clone(), namespace.clone()));
        Ok(Some(namespace))
    }

    /// Returns the loader of plugins. Commands share it if their plugins get the same information.
    fn loader(&mut self, settings: &Settings) -> Result<Rc<PluginLoader>, CommandError> {
        let labels = settings.label_map.as_ref().map(LabelMap::labels).unwrap_or_default();
        let users = !settings.plugins.is_empty();
        if users {
            report::start_log();
        }
        let times = [Output::KERNEL_TIMESTAMP, Output::TIMESTAMP];
        let local_time = times.iter().any(|&time| settings.output.contains(time));
        if let Some(loader) = &self.loader
            && loader.suits(&labels, users, local_time)
        {
            return Ok(loader.clone());
        }
        let loader = Rc::new(loader(labels, users, local_time)?);
        self.loader = Some(loader.clone());
        Ok(loader)
    }

    fn text(&mut self, text: &str) -> Result<Exit, CommandError> {
        self.sink.write(text.as_bytes())?;
        Ok(Exit::Success)
    }
}

/// Serves metrics until the returned value is dropped, if there is an address, and prints the address.
fn serve_metrics(
    address: Option<&ListenAddress>,
    board: &Board,
    counters: &Counters,
) -> Result<Option<Server>, CommandError> {
    let server = address.map(|address| flowgate_metrics::serve(address, board, counters)).transpose()?;
    Ok(server.inspect(tell_address))
}

/// Starts the engine of plugins. If plugins from files run slower in this process than elsewhere, the reason is
/// printed.
fn loader(labels: Vec<Label>, users: bool, local_time: bool) -> Result<PluginLoader, CommandError> {
    let mut loader = PluginLoader::new(labels, users, local_time)?;
    if users {
        loader = loader.on_engine(compiling::engine(Cache::of_environment())?);
        tell_execution(loader.engine())?;
    }
    Ok(loader)
}

/// Prints a notice, once, if plugins from files run slower in this process than elsewhere, with the reason.
///
/// # Errors
/// [`LoadError::Engine`] if they cannot run at all.
fn tell_execution(engine: &PluginEngine) -> Result<(), LoadError> {
    static TOLD: Once = Once::new();
    let execution = engine.execution()?;
    if execution.is_slowed() {
        TOLD.call_once(|| report::line(&format!("NOTICE: Plugins from files run as {execution}.")));
    }
    Ok(())
}

/// Prints the address at which metrics are served.
pub(in crate::command) fn tell_address(server: &Server) {
    report::line(&format!("NOTICE: Metrics are served at {}.", server.address()));
}

/// Returns the long option of a command, without hyphens.
fn long_name(command: Command) -> &'static str {
    flowgate_syntax::options::COMMANDS.iter().find(|spec| spec.command == command).map_or("", |spec| spec.long)
}
