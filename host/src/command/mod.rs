//! Commands: what a command line asks for, carried out.
//!
//! * [`table`] has one row per classic command and table: source, stock stages, look, summary.
//! * `bulk` has the kernel delete by itself; `entries` runs the rows that have entries, `tables` those about a table as a whole, `load` a load file.
//! * `assemble` puts the plugins of a pipeline together, `outputs` chooses the format, `sources` are the kernel's.
//! * [`report`] has the texts and exit statuses that scripts know.
//! * Each subcommand has a file of its name.

pub(crate) mod assemble;
mod bulk;
mod completions;
mod doctor;
mod entries;
mod explain;
mod listener;
mod load;
mod man;
mod outputs;
pub mod plugin;
pub mod policy;
mod record;
mod replay;
pub mod report;
mod run;
mod sources;
mod subject;
pub mod table;
mod tables;
mod top;

use std::{
    ffi::{OsStr, OsString},
    rc::Rc,
};

use assemble::Assembly;
use entries::{Done, Job, Loading};
pub use report::{CommandError, Exit};
use table::{Row, Source};

use crate::{
    cli::{self, Command, Invocation, LabelMap, Name, Output, Settings, Subcommand, Table},
    metrics::{self, Address, Server},
    model::{Expectations, Flows},
    netlink::{Namespace, Stop},
    pipeline::{
        counters::Counters,
        sink::{Sink, Stdout},
        source::Source as DatagramSource,
        stats::Board,
    },
    privileges::Duty,
    top::Sort,
};

/// A command line that has been understood.
#[derive(Debug)]
pub struct Order {
    name: Name,
    invocation: Invocation,
}

/// Reads a command line. What is wrong with it has been said when this returns.
///
/// # Errors
/// The exit status of a command line that is wrong.
pub fn understand(program: &OsStr, arguments: &[OsString]) -> Result<Order, Exit> {
    let variable = std::env::var_os(cli::NAME_VARIABLE);
    let name = Name::new(program, variable.as_deref()).map_err(|error| misunderstood(&error))?;
    report::set_name(&name);
    let parsed = cli::parse(&name, arguments, &cli::SystemEnvironment);
    for warning in &parsed.warnings {
        report::line(warning);
    }
    match parsed.result {
        Ok(invocation) => Ok(Order { name, invocation }),
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
        match duty.give_up_the_rest() {
            Ok(()) => Ok(()),
            Err(error) if duty.is_strict() => {
                report::banner(&format!("the service does not run with privileges that it does not need: {error}"));
                Err(Exit::Failure)
            }
            Err(error) => {
                report::line(&format!("WARNING: {error}."));
                Ok(())
            }
        }
    }

    fn duty(&self) -> Duty {
        // Files and command lines behind a subcommand may name namespaces and plugins.
        const ANY: Duty = Duty::Command { namespaces: true, plugins: true };
        match &self.invocation {
            Invocation::Run(settings) => settings_duty(settings),
            Invocation::Load(file) => {
                let namespaces = file.commands.iter().any(|command| command.settings.netns.is_some());
                Duty::Command { namespaces, plugins: false }
            }
            Invocation::Text(_) => Duty::Command { namespaces: false, plugins: false },
            Invocation::Subcommand(subcommand) => match subcommand.as_ref() {
                Subcommand::Doctor { .. } => Duty::Look,
                Subcommand::Run(options) => match policy::enters_namespaces(&options.file) {
                    Some(namespaces) => Duty::Service { namespaces },
                    None => ANY,
                },
                _ => ANY,
            },
        }
    }

    /// Whether SIGUSR1 is a wish to be told of the plugins. Otherwise the signal means what it means to every program.
    #[must_use]
    pub fn has_plugins(&self) -> bool {
        match &self.invocation {
            Invocation::Run(settings) => !settings.plugins.is_empty(),
            Invocation::Subcommand(subcommand) => match subcommand.as_ref() {
                Subcommand::Run(_) => true,
                // There they are on the screen, and must not be written over it.
                Subcommand::Top { .. } => false,
                Subcommand::Record { command, .. } | Subcommand::Replay { command, .. } => {
                    command.iter().any(|word| word.as_encoded_bytes().starts_with(b"--plugin"))
                }
                _ => false,
            },
            Invocation::Load(_) | Invocation::Text(_) => false,
        }
    }

    /// Carries it out. Everything that is to be said of it has been said when this returns.
    ///
    /// The stages of the user are put on the `board`, for whoever wants to know of them while they run.
    pub fn carry_out(&self, stop: &Stop, board: &Board) -> Exit {
        let mut stdout = Stdout::new();
        let counters = Counters::default();
        let mut context =
            Context { name: &self.name, stop, board, counters, sink: &mut stdout, assembly: None, namespace: None };
        let mut place = None;
        let result = match &self.invocation {
            Invocation::Run(settings) => context.command(settings, false),
            Invocation::Subcommand(subcommand) => context.subcommand(subcommand),
            Invocation::Text(help) => context.text(help),
            Invocation::Load(file) => load::run(file, &mut context, &mut place),
        };
        match result {
            Ok(exit) => exit,
            Err(CommandError::BrokenPipe) => Exit::BrokenPipe,
            Err(error) => {
                report::banner(&error.to_string());
                if error.is_refusal() && self.name.has_own_options() {
                    report::line("`flowgate doctor` tells what is missing.");
                }
                if let Some(place) = place.filter(|_| self.name.has_own_options()) {
                    report::line(&format!("in {place}"));
                }
                Exit::Failure
            }
        }
    }
}

/// What a classic command is going to do.
fn settings_duty(settings: &Settings) -> Duty {
    let namespaces = settings.netns.is_some() || settings.all_netns;
    Duty::Command { namespaces, plugins: !settings.plugins.is_empty() }
}

/// Says what is wrong with a command line.
fn misunderstood(error: &cli::CliError) -> Exit {
    if error.is_text() {
        report::text(&error.message());
    } else {
        report::banner_bytes(&error.message());
    }
    if error.has_hint() {
        report::line(cli::HINT);
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
    /// The plugins' engine, once it was needed.
    assembly: Option<Rc<Assembly>>,
    /// The network namespace that was asked for last, and how.
    namespace: Option<(OsString, Namespace)>,
}

impl Context<'_> {
    /// Carries out one command. `loading`: it is a line of a load file.
    fn command(&mut self, settings: &Settings, loading: bool) -> Result<Exit, CommandError> {
        match settings.command {
            Command::Version => return self.text(&report::version()),
            Command::Help => {
                let (program, own) = (self.name.word().to_string_lossy(), self.name.has_own_options());
                return self.text(&cli::usage::text(&program, own, settings.help_protocol.as_ref()));
            }
            _ => {}
        }
        let row = table::row(settings.command, settings.table)
            .ok_or_else(|| CommandError::NotAvailable(long_name(settings.command)))?;
        if settings.explain {
            return self.explain(row, settings, None, loading);
        }
        if let Some(filters) = bulk::filters(row, settings)
            && bulk::delete(row, &filters, self.namespace(settings)?.as_ref())?
        {
            return Ok(Exit::Success);
        }
        if row.source == Source::Flush {
            return tables::flush(row, settings, self.namespace(settings)?.as_ref());
        }
        if matches!(row.source, Source::Count | Source::Statistics(_)) {
            let (assembly, namespace) = (self.assembly(settings)?, self.namespace(settings)?);
            return tables::counts(row, settings, &assembly, namespace.as_ref(), self.sink);
        }
        self.entries(row, settings, None, loading)
    }

    /// Reads the classic command line behind a subcommand; `command` is what holds if it names none. An error has been told.
    fn classic(&self, words: &[OsString], command: (Command, Table)) -> Result<Box<Settings>, Exit> {
        let mut warnings = Vec::new();
        let settings = cli::parse_classic(self.name, words, command, &cli::SystemEnvironment, &mut warnings);
        for warning in &warnings {
            report::line(warning);
        }
        settings.map_err(|error| misunderstood(&error))
    }

    /// Carries out a command that is about entries. `source`: where they come from, none for the kernel.
    fn entries(
        &mut self,
        row: &Row,
        settings: &Settings,
        source: Option<&mut (dyn DatagramSource + 'static)>,
        loading: bool,
    ) -> Result<Exit, CommandError> {
        let (assembly, namespace) = (self.assembly(settings)?, self.namespace(settings)?);
        let own = self.name.has_own_options();
        let namespace = namespace.as_ref();
        let done = &mut Done::default();
        let loading = if loading { Loading::UntilRefused } else { Loading::No };
        let counters = &self.counters;
        // Until the command ends.
        let _metrics = serve_metrics(settings.metrics.as_ref(), self.board, counters)?;
        let (stop, sink, board) = (self.stop, &mut *self.sink, self.board);
        let job = Job {
            row,
            settings,
            namespace,
            assembly: &assembly,
            stop,
            sink,
            board,
            counters,
            source,
            loading,
            own,
            done,
        };
        let result = match settings.table {
            Table::Expect => job.run::<Expectations>(None),
            _ => job.run::<Flows>(None),
        };
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
                let json = *json || *output == cli::Report::Json;
                doctor::run(netns.as_deref(), json, self.sink)
            }
            Subcommand::Man => man::run(self.sink),
            Subcommand::Run(options) => run::run(options, self.stop, (self.board, &self.counters), self.sink),
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

    /// The plugins' engine; one for all commands that agree in what plugins are told.
    fn assembly(&mut self, settings: &Settings) -> Result<Rc<Assembly>, CommandError> {
        let labels = settings.label_map.as_ref().map(LabelMap::labels).unwrap_or_default();
        let users = !settings.plugins.is_empty();
        if users {
            report::start_log();
        }
        let times = [Output::KERNEL_TIMESTAMP, Output::TIMESTAMP];
        let local_time = times.iter().any(|&time| settings.output.contains(time));
        if let Some(assembly) = &self.assembly
            && assembly.suits(&labels, users, local_time)
        {
            return Ok(assembly.clone());
        }
        let assembly = Rc::new(Assembly::new(labels, users, local_time)?);
        self.assembly = Some(assembly.clone());
        Ok(assembly)
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
    let server = address.map(|address| metrics::serve(address, board, counters)).transpose()?;
    Ok(server.inspect(tell_address))
}

/// Tells where metrics are served.
pub(in crate::command) fn tell_address(server: &Server) {
    report::line(&format!("NOTICE: Metrics are served at {}.", server.address()));
}

/// The command's long option, without hyphens.
fn long_name(command: Command) -> &'static str {
    cli::options::COMMANDS.iter().find(|spec| spec.command == command).map_or("", |spec| spec.long)
}
