//! State that the commands of a process share, and the dispatch of each to the module that runs it.

use std::{ffi::OsString, io, rc::Rc, sync::Once};

use super::{
    command_line::print_syntax_error,
    compiling, completions, confirm, doctor,
    entries::{CommandRun, CompletedActions, Loading},
    lower, man, plugin, policy, record, replay,
    report::{self, CommandError, Exit},
    run,
    table::{self, Row, Source},
    tables, top,
};
use crate::args::Subcommand;
use flowgate_base::{address::ListenAddress, files};
use flowgate_metrics::Server;
use flowgate_model::{Expectations, Flows, Label, Selection};
use flowgate_netlink::{Deleted, Namespace, Stop, source::Source as DatagramSource};
use flowgate_pipeline::{Spec, counters::Counters, loader::PluginLoader, sink::Sink, spec, stats::Board};
use flowgate_runtime::{Cache, LoadError, PluginEngine};
use flowgate_syntax::{Command, LabelMap, Output, ProgramName, Settings, Table};
use flowgate_top::Sort;

/// State that all commands of a process share.
pub(super) struct Context<'a> {
    pub(super) name: &'a ProgramName,
    pub(super) stop: &'a Stop,
    pub(super) board: &'a Board,
    /// Counts of received data.
    pub(super) counters: Counters,
    pub(super) sink: &'a mut dyn Sink,
    /// The loader of plugins; `None` before its first use.
    pub(super) loader: Option<Rc<PluginLoader>>,
    /// The network namespace that was used last, with its name on the command line.
    pub(super) namespace: Option<(OsString, Namespace)>,
    /// Content of the file of `run`.
    pub(super) file: Option<&'a io::Result<Vec<u8>>>,
    /// Number of actions of the last command with entries.
    pub(super) done: u64,
}

impl Context<'_> {
    /// Runs one command. `loading` is true for a line of a load file.
    pub(super) fn command(&mut self, settings: &Settings, loading: bool) -> Result<Exit, CommandError> {
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
        if let Some(limit) = settings.confirm_above.filter(|_| !settings.dry_run) {
            let (loader, namespace) = (self.loader(settings)?, self.namespace(settings)?);
            if let Some(exit) = confirm::ask(row, settings, limit, (&loader, namespace), self.stop)? {
                return Ok(exit);
            }
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
    pub(super) fn classic(&self, words: &[OsString], command: (Command, Table)) -> Result<Box<Settings>, Exit> {
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
        settings.map_err(|error| print_syntax_error(&error))
    }

    /// Runs a command with entries. `source` replaces the source of the spec.
    pub(super) fn entries(
        &mut self,
        row: &Row,
        settings: &Settings,
        spec: Spec,
        source: Option<&mut (dyn DatagramSource + 'static)>,
        loading: bool,
    ) -> Result<Exit, CommandError> {
        let loader = self.loader(settings)?;
        let own = self.name.has_own_options();
        let done = &mut CompletedActions::default();
        let loading = if loading { Loading::UntilRefused } else { Loading::No };
        let counters = &self.counters;
        // The server runs until the command ends.
        let _metrics = serve_metrics(settings.metrics.as_ref(), self.board, counters)?;
        let (stop, sink, board) = (self.stop, &mut *self.sink, self.board);
        let job = CommandRun {
            row,
            settings,
            spec,
            loader: &loader,
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

    /// Runs a subcommand.
    pub(super) fn subcommand(&mut self, subcommand: &Subcommand) -> Result<Exit, CommandError> {
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
            #[cfg(feature = "fleet")]
            Subcommand::Audit(options) if options.fleet || options.command.is_some() => {
                super::fleet::audit(self, options)
            }
            Subcommand::Audit(options) => policy::audit(options, self.sink),
            Subcommand::Policy { command } => policy::run(command, self.sink),
            #[cfg(feature = "fleet")]
            Subcommand::Fleet { command } => super::fleet::run(self, command),
            Subcommand::Record { file, show, max_size, duration, command } => {
                let limits = record::Limits { bytes: *max_size, time: *duration };
                record::run(self, file, *show, limits, command)
            }
            Subcommand::Top {
                file,
                interval,
                sort,
                reverse,
                filter,
                condition,
                by,
                once,
                output,
                rows,
                speed,
                command,
            } => {
                let options = top::TopOptions {
                    file: file.as_deref(),
                    interval: *interval,
                    sort: Sort { key: *sort, reverse: *reverse },
                    filter,
                    condition: condition.as_deref(),
                    by: by.as_deref(),
                    once: once.then(|| (output.unwrap_or_default(), rows.unwrap_or(usize::MAX))),
                    speed: *speed,
                };
                top::run(self, &options, command)
            }
            Subcommand::Replay { file, speed, command } => replay::run(self, file, *speed, command),
        }
    }

    /// Returns the network namespace of a command; `None` for that of the process.
    pub(super) fn namespace(&mut self, settings: &Settings) -> Result<Option<Namespace>, CommandError> {
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
    pub(super) fn loader(&mut self, settings: &Settings) -> Result<Rc<PluginLoader>, CommandError> {
        let labels = settings.label_map.as_ref().map(LabelMap::labels).unwrap_or_default();
        let users = !settings.plugins.is_empty();
        if users {
            report::start_log();
        }
        let local_time = settings.output.contains(Output::LOCAL_TIME);
        if let Some(loader) = &self.loader
            && loader.suits(&labels, users, local_time)
        {
            return Ok(loader.clone());
        }
        let loader = Rc::new(loader(labels, users, local_time)?);
        self.loader = Some(loader.clone());
        Ok(loader)
    }

    pub(super) fn text(&mut self, text: &str) -> Result<Exit, CommandError> {
        self.sink.write(text.as_bytes())?;
        Ok(Exit::Success)
    }
}

/// Serves metrics until the returned value is dropped, if there is an address, and prints the address.
pub(super) fn serve_metrics(
    address: Option<&ListenAddress>,
    board: &Board,
    counters: &Counters,
) -> Result<Option<Server>, CommandError> {
    let server = address.map(|address| flowgate_metrics::serve(address, board, counters)).transpose()?;
    Ok(server.inspect(report_address))
}

/// Starts the engine of plugins. If plugins from files run slower in this process than elsewhere, the reason is
/// printed.
pub(super) fn loader(labels: Vec<Label>, users: bool, local_time: bool) -> Result<PluginLoader, CommandError> {
    let mut loader = PluginLoader::new(labels, users, local_time)?;
    if users {
        loader = loader.on_engine(compiling::engine(Cache::of_environment())?);
        report_execution(loader.engine())?;
    }
    Ok(loader)
}

/// Prints a notice, once, if plugins from files run slower in this process than elsewhere, with the reason.
///
/// # Errors
/// [`LoadError::Engine`] if they cannot run at all.
pub(super) fn report_execution(engine: &PluginEngine) -> Result<(), LoadError> {
    static REPORTED: Once = Once::new();
    let execution = engine.execution()?;
    if execution.is_slowed() {
        REPORTED.call_once(|| report::line(&format!("NOTICE: Plugins from files run as {execution}.")));
    }
    Ok(())
}

/// Prints the address at which metrics are served.
pub(super) fn report_address(server: &Server) {
    report::line(&format!("NOTICE: Metrics are served at {}.", server.address()));
}

/// Returns the long option of a command, without hyphens.
pub(super) fn long_name(command: Command) -> &'static str {
    flowgate_syntax::options::COMMANDS.iter().find(|spec| spec.command == command).map_or("", |spec| spec.long)
}
