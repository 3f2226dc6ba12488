//! Commands: what a command line asks for, carried out.
//!
//! * [`table`] has one row per classic command and table: source, stock stages, look, summary.
//! * `entries` runs the rows that have entries, `tables` those about a table as a whole, `load` a load file.
//! * `assemble` puts the plugins of a pipeline together, `outputs` chooses the format, `sources` are the kernel's.
//! * [`report`] has the texts and exit statuses that scripts know.
//! * Each subcommand has a file of its name.

pub(crate) mod assemble;
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
    cli::{self, Command, Invocation, LabelMap, Output, Settings, Subcommand, Table},
    metrics::{self, Address, Server},
    model::{Expectations, Flows},
    netlink::{Namespace, Stop},
    pipeline::{
        counters::Counters,
        sink::{Sink, Stdout},
        source::Source as DatagramSource,
        stats::Board,
    },
    top::Sort,
};

/// Carries out a command line. Everything that is to be said of it has been said when this returns.
///
/// The stages of the user are put on the `board`, for whoever wants to know of them while they run.
pub fn run(program: &OsStr, arguments: &[OsString], stop: &Stop, board: &Board) -> Exit {
    let parsed = cli::parse(program, arguments, &cli::SystemEnvironment);
    for warning in &parsed.warnings {
        report::line(warning);
    }
    let invocation = match parsed.result {
        Ok(invocation) => invocation,
        Err(error) => {
            let exit = misunderstood(&error);
            if let Some(place) = &parsed.place {
                report::line(&format!("in {place}"));
            }
            return exit;
        }
    };
    let mut stdout = Stdout::new();
    let counters = Counters::default();
    let mut context = Context { program, stop, board, counters, sink: &mut stdout, assembly: None, namespace: None };
    let mut place = None;
    let result = match &invocation {
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
            if error.is_refusal() && cli::has_own_options(program) {
                report::line("`flowgate doctor` tells what is missing.");
            }
            if let Some(place) = place.filter(|_| cli::has_own_options(program)) {
                report::line(&format!("in {place}"));
            }
            Exit::Failure
        }
    }
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
    program: &'a OsStr,
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
                let (program, own) = (self.program.to_string_lossy(), cli::has_own_options(self.program));
                return self.text(&cli::usage::text(&program, own, settings.help_protocol.as_ref()));
            }
            _ => {}
        }
        let row = table::row(settings.command, settings.table)
            .ok_or_else(|| CommandError::NotAvailable(long_name(settings.command)))?;
        if settings.explain {
            return self.explain(row, settings, None, loading);
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
        let settings = cli::parse_classic(self.program, words, command, &cli::SystemEnvironment, &mut warnings);
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
        let own = cli::has_own_options(self.program);
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
    if let Some(server) = &server {
        report::line(&format!("NOTICE: Metrics are served at {}.", server.address()));
    }
    Ok(server)
}

/// The command's long option, without hyphens.
fn long_name(command: Command) -> &'static str {
    cli::options::COMMANDS.iter().find(|spec| spec.command == command).map_or("", |spec| spec.long)
}
