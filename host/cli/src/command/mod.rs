//! Commands: what a command line asks for, carried out.
//!
//! * [`table`] has one row per classic command and table: source, stock stages, look, summary.
//! * `lower` makes the spec of a pipeline of a command line, `explain` explains it.
//! * `entries` runs the rows that have entries, `tables` those that read none, `load` a load file.
//! * [`report`] has the texts and exit statuses that scripts know.
//! * `duty` tells from a command line what the process does not need for it.
//! * Each subcommand has a file of its name.

mod completions;
mod doctor;
mod duty;
mod entries;
mod explain;
#[cfg(test)]
mod kernels;
mod load;
mod lower;
mod man;
pub mod plugin;
pub mod policy;
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

use entries::{Done, Job, Loading};
pub use report::{CommandError, Exit};
use table::{Row, Source};

use crate::args::{self, Invocation, Subcommand};
use flowgate_base::{Warnings, address::Address, files};
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
use flowgate_privileges::Duty;
use flowgate_runtime::{LoadError, PluginEngine};
use flowgate_syntax::{Command, LabelMap, Name, Output, Settings, Table};
use flowgate_top::Sort;

/// Waits until what was said on standard error has been read; of the service of tenants, no longer than somebody reads.
pub fn drain_standard_error() {
    standard_error::drain();
}

/// A command line that has been understood.
#[derive(Debug)]
pub struct Order {
    name: Name,
    invocation: Invocation,
    /// What is in the file of `flowgate run`, which is read once: it decides what the process gives up, and what it does.
    file: Option<io::Result<Vec<u8>>>,
}

/// Reads a command line. What is wrong with it has been said when this returns.
///
/// # Errors
/// The exit status of a command line that is wrong.
pub fn understand(program: &OsStr, arguments: &[OsString]) -> Result<Order, Exit> {
    let variable = std::env::var_os(flowgate_syntax::NAME_VARIABLE);
    let name = Name::new(program, variable.as_deref()).map_err(|error| misunderstood(&error))?;
    report::set_name(&name);
    let parsed = args::parse(&name, arguments, &flowgate_syntax::SystemEnvironment);
    for warning in &parsed.warnings {
        report::line(warning);
    }
    match parsed.result {
        Ok(invocation) => {
            let file = match &invocation {
                Invocation::Subcommand(subcommand) => match subcommand.as_ref() {
                    Subcommand::Run(options) => Some(files::read(&options.file, files::MOST_OF_CONFIGURATION)),
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
    /// Gives up the privileges that carrying it out does not take, for the calling thread and those that it starts.
    ///
    /// # Errors
    /// The exit status, if they cannot be given up and that is no matter of taste; why has been said.
    pub fn give_up_privileges(&self) -> Result<(), Exit> {
        let duty = self.duty();
        match duty.take_on() {
            Err(error) if duty.is_strict() => {
                report::banner(&format!("the service does not run with privileges that it does not need: {error}"));
                Err(Exit::Failure)
            }
            // A command does without; plugins are refused where they are loaded, and there it is said why.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn duty(&self) -> Duty {
        let file = self.file.as_ref().and_then(|file| file.as_deref().ok());
        duty::of(&self.name, &self.invocation, file)
    }

    /// Whether it is to come to an end of its own when a signal asks for that: to the end of a line, of what has been done, of a
    /// stream, or of a screen. All others are ended by the signal itself, as programs are that do not look.
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

    /// Whether SIGUSR1 is a wish to be told of the plugins. Otherwise the signal means what it means to every program.
    #[must_use]
    pub fn has_plugins(&self) -> bool {
        match &self.invocation {
            Invocation::Run(settings) => !settings.plugins.is_empty(),
            Invocation::Load(file) => file.commands.iter().any(|command| !command.settings.plugins.is_empty()),
            Invocation::Subcommand(subcommand) => match subcommand.as_ref() {
                Subcommand::Run(_) => true,
                Subcommand::Record { .. } | Subcommand::Replay { .. } => {
                    matches!(self.duty(), Duty::Command { plugins: true, .. })
                }
                // In `top` they are on the screen, and must not be written over it.
                _ => false,
            },
            Invocation::Text(_) => false,
        }
    }

    /// Carries it out. Everything that is to be said of it has been said when this returns.
    ///
    /// The stages of the user are put on the `board`, for whoever wants to know of them while they run.
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
        // The process ends, and the memory of its plugins with it.
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
            // Output of something that was carried out all the same.
            Err(error) => {
                report::banner(&error.to_string());
                Exit::Failure
            }
        }
    }

    /// Whether it is about events, which do not wait. Of a file that is run, the file decides.
    fn is_live(&self) -> bool {
        match &self.invocation {
            Invocation::Run(settings) => settings.command == Command::Events,
            Invocation::Subcommand(subcommand) => matches!(subcommand.as_ref(), Subcommand::Record { .. }),
            Invocation::Load(_) | Invocation::Text(_) => false,
        }
    }

    /// Where the output goes. For a command that changes something, output that cannot be written is no reason to stop half-way.
    fn sink(&self) -> Box<dyn Sink> {
        let (changes, live) = match &self.invocation {
            Invocation::Run(settings) => (changes(settings), settings.command == Command::Events),
            Invocation::Load(_) => (true, false),
            Invocation::Subcommand(_) | Invocation::Text(_) => (false, false),
        };
        match changes {
            true => Box::new(Tolerant::new(Stdout::new(), live.then(|| Warnings::new(report::line)))),
            false => Box::new(Stdout::new()),
        }
    }
}

/// Whether a classic command changes something in the kernel, itself or through plugins.
fn changes(settings: &Settings) -> bool {
    let row = table::row(settings.command, settings.table);
    let acts = row.is_some_and(|row| row.acts.is_some() || row.source == Source::Flush);
    let plugins = settings.plugins.iter().any(|plugin| plugin.grants.acts());
    !settings.explain && !settings.dry_run && (acts || settings.zero || plugins)
}

/// Says what is wrong with a command line.
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

/// What all commands of a process share.
struct Context<'a> {
    name: &'a Name,
    stop: &'a Stop,
    board: &'a Board,
    /// What is received.
    counters: Counters,
    sink: &'a mut dyn Sink,
    /// What loads plugins, once it was needed.
    loader: Option<Rc<PluginLoader>>,
    /// The network namespace that was asked for last, and how.
    namespace: Option<(OsString, Namespace)>,
    /// What is in the file of `run`.
    file: Option<&'a io::Result<Vec<u8>>>,
    /// How many actions the last command about entries did.
    done: u64,
}

impl Context<'_> {
    /// Carries out one command. `loading`: it is a line of a load file.
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

    /// Deletes the flows of one family, each by itself, without a word.
    fn delete_family(&mut self, settings: &Settings) -> Result<Exit, CommandError> {
        let selection = Selection { family: settings.family, ..Selection::default() };
        let settings = Settings { command: Command::Delete, quiet: true, selection, ..settings.clone() };
        let row = table::row(Command::Delete, Table::Conntrack)
            .ok_or(CommandError::NotAvailable(long_name(Command::Delete)))?;
        let spec = lower::entries(row, &settings, self.namespace(&settings)?);
        self.entries(row, &settings, spec, None, true)
    }

    /// Reads the classic command line behind a subcommand; `command` is what holds if it names none. An error has been told.
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

    /// Carries out a command that is about entries. `source`: where they come from, if not from the spec's own source.
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
        // Until the command ends.
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
                    None => files::read(&options.file, files::MOST_OF_CONFIGURATION),
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

    /// The network namespace that a command is to work in; none for that of the process.
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

    /// What loads plugins; one for all commands that agree in what plugins are told.
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

/// Serves metrics until what is returned is dropped, if they are wanted, and tells where.
fn serve_metrics(
    address: Option<&Address>,
    board: &Board,
    counters: &Counters,
) -> Result<Option<Server>, CommandError> {
    let server = address.map(|address| flowgate_metrics::serve(address, board, counters)).transpose()?;
    Ok(server.inspect(tell_address))
}

/// Starts the plugins' engine. If plugins from files run slower here than elsewhere that is told, with the reason.
fn loader(labels: Vec<Label>, users: bool, local_time: bool) -> Result<PluginLoader, CommandError> {
    let loader = PluginLoader::new(labels, users, local_time)?;
    if users {
        tell_execution(loader.engine())?;
    }
    Ok(loader)
}

/// Tells once if plugins from files run slower here than elsewhere, and why.
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

/// Tells where metrics are served.
pub(in crate::command) fn tell_address(server: &Server) {
    report::line(&format!("NOTICE: Metrics are served at {}.", server.address()));
}

/// The command's long option, without hyphens.
fn long_name(command: Command) -> &'static str {
    flowgate_syntax::options::COMMANDS.iter().find(|spec| spec.command == command).map_or("", |spec| spec.long)
}
