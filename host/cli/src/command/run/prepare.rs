//! From a pipeline file to plugins that run: each is looked at, compared with what the file says of it, and started. All
//! mistakes are found, each with its place.

use super::super::{entries::Parts, outputs, replay, report::CommandError, subject::Subject};
use flowgate_base::files;
use flowgate_config::{
    Config, FormatConfig, Mistake, Plugin, RecordingConfig, SourceConfig, SourceKind, StageConfig, StageKind,
    plugin::{Options, option_values, place_of},
};
use flowgate_model::{
    Description, Expectations, Flows, OptionValue,
    grants::{Grants, Keeping},
};
use flowgate_netlink::{DumpFilter, Namespace, NamespaceError, filter::Condition};
use flowgate_pipeline::{
    executor::Shows,
    format::Format,
    loader::{LoadPluginError, PluginLimits, PluginLoader, PreparedPlugin, Purpose, Role, options},
    stage::Stage,
};
use flowgate_recording::{Input, Recording};
use flowgate_runtime::services::state::State;
use flowgate_syntax::{Settings, Table};

/// Why a stage that may act does not go with a recording.
const ON_RECORDING: &str =
    "nothing can be done to flows of a recording, which are those of another time; --dry-run prints what would be done";

/// A pipeline that could run.
pub(super) struct Prepared {
    pub parts: Parts,
    /// What is to be told of the stages, in their order.
    pub stages: Vec<Shown>,
    /// What is to be told of the format, if there is one.
    pub format: Option<Shown>,
    /// What is worth knowing but no mistake.
    pub notes: Vec<Mistake>,
    /// Whether a stage may act.
    pub acts: bool,
}

/// What there is to tell of a plugin.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// What it is called in messages.
    pub name: String,
    /// The file; none of a stock plugin.
    pub file: Option<String>,
    /// SHA-256 of the file.
    pub digest: Option<String>,
    pub description: Description,
    pub interfaces: Vec<&'static str>,
    pub services: Vec<String>,
    pub options: Vec<OptionValue>,
    pub grants: Grants,
    pub limits: Option<PluginLimits>,
    /// The selector of `match`, or what `update` sets.
    pub told: Option<String>,
}

/// Looks at plugins for one file.
struct Preparation<'a> {
    config: &'a Config,
    loader: &'a PluginLoader,
    purpose: Purpose,
    mistakes: &'a mut Vec<Mistake>,
    notes: Vec<Mistake>,
}

/// Prepares a file. If there are mistakes, what is returned is not complete.
///
/// # Errors
/// A stock plugin cannot be started, which is nobody's mistake.
pub(super) fn prepare(
    config: &Config,
    loader: &PluginLoader,
    purpose: Purpose,
    mistakes: &mut Vec<Mistake>,
) -> Result<Prepared, CommandError> {
    let (stage_role, format_role) = match config.source.table {
        Table::Expect => (Expectations::STAGE, Expectations::FORMAT),
        _ => (Flows::STAGE, Flows::FORMAT),
    };
    let mut preparation = Preparation { config, loader, purpose, mistakes, notes: Vec::new() };
    let mut stages = Vec::new();
    let mut shown = Vec::new();
    let selection = match config.source.table {
        Table::Expect => None,
        _ => Flows::selection(&config.settings),
    };
    if let Some(selection) = selection {
        stages.push(loader.selecting_stage("match", selection)?);
        let mut told = preparation.stock("match", &[], Grants::NONE)?;
        told.told = Some(config.source.select.clone());
        shown.push(told);
    }
    let mut shows = Shows::Entries;
    let mut acts = false;
    let mut guarded = false;
    let recorded = config.source.recording.is_some() && !config.settings.dry_run;
    for stage in &config.stages {
        let at = match &stage.kind {
            StageKind::Update(_) | StageKind::Delete | StageKind::Create => Some(stage.at),
            StageKind::Plugin(plugin) => plugin.grants.value.acts().then_some(plugin.grants.at),
            StageKind::Match(_) => None,
        };
        if let Some(at) = at.filter(|_| recorded) {
            preparation.wrong(at, ON_RECORDING);
        }
        match &stage.kind {
            StageKind::Update(_) if config.source.kind == SourceKind::Dump && shows == Shows::Entries => {
                shows = Shows::Reread;
            }
            StageKind::Update(_) | StageKind::Delete | StageKind::Create => shows = Shows::Acted,
            StageKind::Match(_) => {}
            StageKind::Plugin(plugin) => {
                guarded |= plugin.grants.value.acts();
                acts |= plugin.grants.value.acts();
            }
        }
        acts |= shows != Shows::Entries;
        if let Some((made, told)) = preparation.stage(stage, stage_role)? {
            stages.push(made);
            shown.push(told);
        }
    }
    let format = preparation.format(format_role)?;
    preparation.outputs();
    preparation.source();
    let notes = preparation.notes;
    let (format, told) = match format {
        Some((format, told)) => (Some(format), Some(told)),
        None => (None, None),
    };
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    let parts = Parts { stages, format: format.filter(|_| !config.settings.dry_run), shows, guarded };
    Ok(Prepared { parts, stages: shown, format: told, notes, acts })
}

impl Preparation<'_> {
    fn wrong(&mut self, at: usize, what: impl Into<String>) {
        self.mistakes.push(self.config.text.mistake(at, what));
    }

    fn stage(&mut self, stage: &StageConfig, role: Role) -> Result<Option<(Stage, Shown)>, CommandError> {
        let (name, grants) = match &stage.kind {
            StageKind::Plugin(plugin) => return Ok(self.user_stage(plugin, &stage.options, role)),
            StageKind::Match(_) => ("match", ""),
            StageKind::Update(_) => ("update", "update"),
            StageKind::Delete => ("delete", "delete"),
            StageKind::Create => ("create", "create,update"),
        };
        let grants: Grants = grants.parse().unwrap_or(Grants::NONE);
        let options = option_values(&stage.options);
        let mut told = self.stock(name, &options, grants.clone())?;
        if self.options_wrong(name, &told.description, &stage.options, stage.at) {
            return Ok(None);
        }
        let made = self.loader.stock_stage(name, role, &options, grants, |instance| match &stage.kind {
            StageKind::Match(selection) => instance.select(selection),
            StageKind::Update(settings) => instance.template(&settings.template),
            _ => Ok(()),
        });
        match made {
            Ok(made) => {
                told.told.clone_from(&stage.told);
                Ok(Some((if name == "match" { made } else { made.strict() }, told)))
            }
            Err(LoadPluginError::Plugin(error)) => {
                self.wrong(stage.at, error.to_string());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What there is to tell of a stock plugin.
    fn stock(&self, name: &'static str, options: &[OptionValue], grants: Grants) -> Result<Shown, CommandError> {
        let component = self.loader.stock(name)?;
        let description = self.loader.describe(&component)?;
        Ok(Shown {
            name: name.into(),
            file: None,
            digest: None,
            options: options::with_defaults(&description, options),
            description,
            interfaces: component.capabilities.interfaces(),
            services: component.services.clone(),
            grants,
            limits: None,
            told: None,
        })
    }

    fn user_stage(&mut self, plugin: &Plugin, options: &Options, role: Role) -> Option<(Stage, Shown)> {
        let prepared = self.user_plugin(plugin, options, role)?;
        let shown = shown(&prepared, plugin);
        Some((prepared.into_stage(), shown))
    }

    fn format(&mut self, role: Role) -> Result<Option<(Format, Shown)>, CommandError> {
        match &self.config.format {
            FormatConfig::None => Ok(None),
            FormatConfig::Stock { .. } => {
                let row = super::row(self.config)?;
                let Some(look) = row.look else { return Ok(None) };
                let (name, options) = outputs::format(self.config.settings.output, look);
                let format = self.loader.format(name, role, &options, look.labels)?;
                Ok(Some((format, self.stock(name, &options, Grants::NONE)?)))
            }
            FormatConfig::Plugin { plugin, options } => {
                let Some(prepared) = self.user_plugin(plugin, options, role) else { return Ok(None) };
                let shown = shown(&prepared, plugin);
                Ok(Some((prepared.into_format(), shown)))
            }
        }
    }

    /// Loads a plugin and compares it with what the file says of it.
    fn user_plugin(&mut self, plugin: &Plugin, options: &Options, role: Role) -> Option<PreparedPlugin> {
        let text = &self.config.text;
        match self.loader.prepare(&plugin.spec(options), role, self.purpose) {
            Ok(prepared) => {
                self.notes.extend(plugin.note(text, &prepared.component.name, &prepared.ungranted));
                Some(prepared)
            }
            Err(problems) => {
                self.mistakes.extend(plugin.mistakes(text, options, None, &problems));
                None
            }
        }
    }

    /// Returns true if options of a stock plugin are wrong, each of which is told at its place.
    fn options_wrong(&mut self, plugin: &str, description: &Description, options: &Options, at: usize) -> bool {
        let problems = options::problems(plugin, description, &option_values(options));
        for problem in &problems {
            let LoadPluginError::Option { index, .. } = problem else { continue };
            self.wrong(place_of(options, *index).unwrap_or(at), problem.to_string());
        }
        !problems.is_empty()
    }

    /// Whether what the pipeline writes can be written, and each file by one of its parts only.
    fn outputs(&mut self) {
        let config = self.config;
        let mut outputs: Vec<files::Output> = Vec::new();
        for sink in &config.sinks {
            if let Some(problem) = sink.problem() {
                self.wrong(sink.at, problem);
            }
            outputs.extend(sink.output());
        }
        let stages = config.stages.iter().filter_map(|stage| match &stage.kind {
            StageKind::Plugin(plugin) => Some(plugin),
            _ => None,
        });
        let format = match &config.format {
            FormatConfig::Plugin { plugin, .. } => Some(plugin),
            _ => None,
        };
        for plugin in stages.chain(format) {
            let Some(Keeping::File(path)) = &plugin.grants.value.state else { continue };
            let output = files::Output::new(path, false);
            if outputs.iter().any(|other| output.clashes_with(other)) {
                let what = "is written by another part of the pipeline; each needs a file of its own";
                self.wrong(plugin.grants.at, format!("{} {what}", path.display()));
            } else if let Err(error) = State::check(path, plugin.limits.state) {
                self.wrong(plugin.grants.at, error.to_string());
            }
            outputs.push(output);
        }
    }

    /// Whether the source is there. What may come and go until the pipeline runs, a pipe or an interface, is not looked at.
    fn source(&mut self) {
        let source = &self.config.source;
        if let Some(RecordingConfig { file, .. }) = &source.recording
            && !matches!(file.metadata(), Ok(metadata) if !metadata.is_file())
            && file.as_os_str() != "-"
        {
            let opened = Input::open(file).and_then(Recording::open).map_err(CommandError::from);
            let wanted = opened.and_then(|recording| replay::wanted(&self.config.settings, &recording));
            if let Err(error) = wanted {
                self.wrong(source.at, error.to_string());
            }
        }
        // Whether it may be entered is another matter, and that of who runs it.
        if let Some(word) = &source.netns
            && let Err(error) = Namespace::find(word.as_ref())
            && !matches!(error, NamespaceError::Enter { .. } | NamespaceError::Thread(_))
        {
            self.wrong(source.at, format!("`netns`: {error}"));
        }
    }
}

/// What there is to tell of a plugin of the user.
fn shown(prepared: &PreparedPlugin, plugin: &Plugin) -> Shown {
    let component = &prepared.component;
    Shown {
        name: component.name.clone(),
        file: Some(plugin.file.value.display().to_string()),
        digest: prepared.digest.clone(),
        description: prepared.description.clone(),
        interfaces: component.capabilities.interfaces(),
        services: component.services.clone(),
        options: prepared.options().to_vec(),
        grants: plugin.grants.value.clone(),
        limits: Some(plugin.limits),
        told: None,
    }
}

/// What the classic command is told, for those who want to see it.
pub(super) fn pushed_down(settings: &Settings, source: &SourceConfig) -> Vec<String> {
    let plan = DumpFilter::plan_dumps(&settings.selection).1;
    let here = |why: &str| plan.iter().map(|condition| format!("{}: checked here ({why})", condition.name)).collect();
    match (source.kind, source.table) {
        _ if source.recording.is_some() => here("it is a recording"),
        (SourceKind::Dump, Table::Conntrack) => plan
            .iter()
            .map(|Condition { name, unchecked }| match unchecked {
                None => format!("{name}: checked by the kernel"),
                Some(why) => format!("{name}: checked here ({why})"),
            })
            .collect(),
        (SourceKind::Dump, _) => match settings.family {
            Some(_) => vec!["family: checked by the kernel".into()],
            None => Vec::new(),
        },
        (SourceKind::Events, _) => here("the kernel has no filter for events"),
    }
}
