//! From a pipeline file to plugins that run: each is looked at, compared with what the file says of it, and started. All
//! mistakes are found, each with its place.

use std::path::Path;

use super::super::{
    assemble::{Assembly, Purpose, Role, UserPlugin, option_problems},
    entries::Parts,
    outputs, replay,
    report::CommandError,
    subject::Subject,
};
use flowgate_base::{files, text::clean};
use flowgate_config::{
    At, Config, FormatConfig, Limits, Mistake, Plugin, RecordingConfig, SourceConfig, SourceKind, StageConfig,
    StageKind, pipeline::option_values,
};
use flowgate_model::{
    Description, Expectations, Flows, OptionValue,
    grants::{Grants, Keeping},
};
use flowgate_netlink::{DumpFilter, Namespace, NamespaceError, filter::Condition};
use flowgate_pipeline::{executor::Shows, format::Format, stage::Stage};
use flowgate_recording::{Input, Recording};
use flowgate_runtime::{
    LoadError, PluginComponent,
    services::{self, state::State},
};
use flowgate_syntax::{PluginSpec, Settings, Table};

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
    pub limits: Option<Limits>,
    /// The selector of `match`, or what `update` sets.
    pub told: Option<String>,
}

/// Looks at plugins for one file.
struct Preparation<'a> {
    config: &'a Config,
    assembly: &'a Assembly,
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
    assembly: &Assembly,
    purpose: Purpose,
    mistakes: &mut Vec<Mistake>,
) -> Result<Prepared, CommandError> {
    let (stage_role, format_role) = match config.source.table {
        Table::Expect => (Expectations::STAGE, Expectations::FORMAT),
        _ => (Flows::STAGE, Flows::FORMAT),
    };
    let mut preparation = Preparation { config, assembly, purpose, mistakes, notes: Vec::new() };
    let mut stages = Vec::new();
    let mut shown = Vec::new();
    let selection = match config.source.table {
        Table::Expect => None,
        _ => Flows::selection(&config.settings),
    };
    if let Some(selection) = selection {
        stages.push(assembly.selecting_stage("match", selection)?);
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

    fn note(&mut self, at: usize, what: impl Into<String>) {
        let what: String = what.into();
        self.notes.push(self.config.text.mistake(at, format!("note: {what}")));
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
        let made = self.assembly.stock_stage(name, role, &options, grants, |instance| match &stage.kind {
            StageKind::Match(selection) => instance.select(selection),
            StageKind::Update(settings) => instance.template(&settings.template),
            _ => Ok(()),
        });
        match made {
            Ok(made) => {
                told.told.clone_from(&stage.told);
                Ok(Some((if name == "match" { made } else { made.strict() }, told)))
            }
            Err(CommandError::Plugin(error)) => {
                self.wrong(stage.at, error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What there is to tell of a stock plugin.
    fn stock(&self, name: &'static str, options: &[OptionValue], grants: Grants) -> Result<Shown, CommandError> {
        let component = self.assembly.stock(name)?;
        let description = self.assembly.describe(&component, Default::default())?;
        Ok(Shown {
            name: name.into(),
            file: None,
            digest: None,
            options: effective(&description, options),
            description,
            interfaces: component.capabilities.interfaces(),
            services: component.services.clone(),
            grants,
            limits: None,
            told: None,
        })
    }

    fn user_stage(
        &mut self,
        plugin: &Plugin,
        options: &[(At<String>, At<String>)],
        role: Role,
    ) -> Option<(Stage, Shown)> {
        let (component, shown) = self.user_plugin(plugin, options, role)?;
        let (spec, limits) = self.spec(plugin, options);
        let user = UserPlugin::limited(&spec, &limits);
        match self.assembly.compiled_stage(component, &user, role) {
            Ok(stage) => Some((stage, shown)),
            Err(error) => {
                self.refused(plugin, options, &error);
                None
            }
        }
    }

    fn format(&mut self, role: Role) -> Result<Option<(Format, Shown)>, CommandError> {
        match &self.config.format {
            FormatConfig::None => Ok(None),
            FormatConfig::Stock { .. } => {
                let row = super::row(self.config)?;
                let Some(look) = row.look else { return Ok(None) };
                let (name, options) = outputs::format(self.config.settings.output, look);
                let format = self.assembly.format(name, role, &options, look.labels)?;
                Ok(Some((format, self.stock(name, &options, Grants::NONE)?)))
            }
            FormatConfig::Plugin { plugin, options } => {
                let Some((component, shown)) = self.user_plugin(plugin, options, role) else { return Ok(None) };
                let (spec, limits) = self.spec(plugin, options);
                let user = UserPlugin::limited(&spec, &limits);
                match self.assembly.compiled_format(&component, &user, role) {
                    Ok(format) => Ok(Some((format, shown))),
                    Err(error) => {
                        self.refused(plugin, options, &error);
                        Ok(None)
                    }
                }
            }
        }
    }

    /// A plugin as the assembly wants it. One that is only looked at keeps its state in memory.
    fn spec(&self, plugin: &Plugin, options: &[(At<String>, At<String>)]) -> (PluginSpec, Limits) {
        let grants = self.purpose.grants(&plugin.grants.value);
        let file = plugin.file.value.clone();
        let spec =
            PluginSpec { file, options: option_values(options), grants, on_error: plugin.limits.policy.on_error };
        (spec, plugin.limits)
    }

    /// Loads a plugin and compares it with what the file says of it.
    fn user_plugin(
        &mut self,
        plugin: &Plugin,
        options: &[(At<String>, At<String>)],
        role: Role,
    ) -> Option<(PluginComponent, Shown)> {
        let at = plugin.file.at;
        let file = &plugin.file.value;
        let (mut component, digest) = match load(self.assembly, file) {
            Ok(loaded) => loaded,
            Err(error) => {
                self.wrong(at, error.to_string());
                return None;
            }
        };
        if let Some(name) = &plugin.name {
            component.name.clone_from(name);
        }
        if !role.is_within(component.capabilities) {
            let (wanted, has) = (role.interface(), component.capabilities.interfaces().join(", "));
            self.wrong(
                at,
                format!(
                    "{} does not export flowgate:conntrack/{wanted}, which this place needs; it exports {has}",
                    file.display()
                ),
            );
            return None;
        }
        let described = self.assembly.describe(&component, plugin.limits.instance);
        let description = match described {
            Ok(description) => description,
            Err(error) => {
                self.wrong(at, error.to_string());
                return None;
            }
        };
        let mut wrong = self.options_wrong(&component.name, &description, options, at);
        wrong |= self.grants_wrong(plugin, &component, &description);
        if wrong {
            return None;
        }
        let shown = Shown {
            name: component.name.clone(),
            file: Some(file.display().to_string()),
            digest: Some(digest),
            options: effective(&description, &option_values(options)),
            description,
            interfaces: component.capabilities.interfaces(),
            services: component.services.clone(),
            grants: plugin.grants.value.clone(),
            limits: Some(plugin.limits),
            told: None,
        };
        Some((component, shown))
    }

    /// Whether options are wrong, each of which is told at its place.
    fn options_wrong(
        &mut self,
        plugin: &str,
        description: &Description,
        options: &[(At<String>, At<String>)],
        at: usize,
    ) -> bool {
        let problems = option_problems(description, &option_values(options));
        for (index, problem) in &problems {
            let place = index.and_then(|index| options.get(index)).map_or(at, |(name, _)| name.at);
            self.wrong(place, format!("plugin {plugin}: {problem}"));
        }
        !problems.is_empty()
    }

    /// Whether a service is missing that the plugin cannot do without. What else it would like is a note.
    fn grants_wrong(&mut self, plugin: &Plugin, component: &PluginComponent, description: &Description) -> bool {
        let grants = &plugin.grants.value;
        let name = component.name.clone();
        let mut wrong = false;
        let mut wanted: Vec<String> = Vec::new();
        for service in &component.services {
            match services::needs(service) {
                Some(grant) if !grants.covers(grant) => {
                    let what = format!(
                        "plugin {name} cannot start without the grant `{grant}`: it uses the service {service}; to allow it: grants = [\"{grant}\"]"
                    );
                    self.wrong(plugin.grants.at, what);
                    wrong = true;
                }
                Some(_) => {}
                None => wanted.push(service.clone()),
            }
        }
        let can = component.capabilities;
        let calls = [(can.flow_tick, "tick"), (can.flow_look_back, "look-back")];
        wanted.extend(calls.iter().filter(|(can, _)| *can).map(|(_, grant)| (*grant).to_string()));
        // Everybody may annotate.
        wanted.extend(description.grants.iter().filter(|grant| *grant != "annotate").cloned());
        let mut missing: Vec<String> =
            wanted.iter().filter(|grant| !grants.covers(grant)).map(|grant| clean(grant)).collect();
        missing.dedup();
        if !missing.is_empty() {
            let list: Vec<String> = missing.iter().map(|grant| format!("\"{grant}\"")).collect();
            self.note(plugin.grants.at, format!("plugin {name} would like grants = [{}]", list.join(", ")));
        }
        wrong
    }

    /// Tells why a plugin did not start: at the option that it speaks of, if it speaks of one.
    fn refused(&mut self, plugin: &Plugin, options: &[(At<String>, At<String>)], error: &CommandError) {
        let said = error.to_string();
        let own = said.split_once(": ").map_or(said.as_str(), |(_, own)| own);
        let words: Vec<&str> = own.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').collect();
        let about = options.iter().find(|(name, _)| words.contains(&name.value.as_str()));
        self.wrong(about.map_or(plugin.file.at, |(_, value)| value.at), said);
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
            } else if let Err(error) = State::check(path, plugin.limits.capacity) {
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

/// Reads and compiles a plugin; second: its digest.
fn load(assembly: &Assembly, file: &Path) -> Result<(PluginComponent, String), LoadError> {
    let bytes = PluginComponent::read(file)?;
    Ok((PluginComponent::from_bytes(assembly.engine(), file, &bytes)?, PluginComponent::digest(&bytes)))
}

/// The options that hold: those given, and the plugin's own defaults.
fn effective(description: &Description, given: &[OptionValue]) -> Vec<OptionValue> {
    let defaults = description.options.iter().filter_map(|spec| {
        let default = spec.default.clone()?;
        let chosen = given.iter().any(|option| option.name == spec.name);
        (!chosen).then(|| OptionValue { name: spec.name.clone(), value: default })
    });
    given.iter().cloned().chain(defaults).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_cover_what_they_include() {
        let grants: Grants = "delete,update.mark=0xff,log".parse().unwrap();
        for wanted in ["delete", "update.mark", "log"] {
            assert!(grants.covers(wanted), "{wanted}");
        }
        for wanted in ["create", "update", "update.timeout", "tick", "state", "nonsense"] {
            assert!(!grants.covers(wanted), "{wanted}");
        }
    }
}
