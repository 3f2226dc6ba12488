//! Checks of a pipeline file before it runs: its plugins, its inputs and its outputs. All mistakes are found, each with
//! its place.

use flowgate_base::files;
use flowgate_config::{Config, Diagnostic, FormatConfig, Plugin, StageConfig, StageKind, plugin::place_of};
use flowgate_model::grants::Keeping;
use flowgate_netlink::{Namespace, NamespaceError};
use flowgate_pipeline::{
    LoadedSpec,
    load::{SpecPart, SpecProblem},
    loader::{LoadPluginError, LoadedPlugin},
};
use flowgate_recording::{Recording, RecordingInput};
use flowgate_runtime::services::state::State;

use super::super::report::CommandError;

/// The reason why a stage that may act cannot be used with a recording.
const ON_RECORDING: &str =
    "nothing can be done to flows of a recording, which are those of another time; --dry-run prints what would be done";

/// Returns a problem of a plugin as a mistake with its place.
///
/// # Errors
/// A stock plugin cannot be started, which is not a mistake in the file.
pub(super) fn mistake(config: &Config, problem: SpecProblem) -> Result<Diagnostic, CommandError> {
    let text = &config.text;
    let SpecProblem { part, error } = problem;
    let (plugin, options, at) = match part {
        SpecPart::Stage(index) => match config.stages.get(index) {
            Some(StageConfig { kind: StageKind::Plugin(plugin), options, at, .. }) => (Some(plugin), options, *at),
            Some(StageConfig { options, at, .. }) => (None, options, *at),
            None => return Err(error.into()),
        },
        SpecPart::Format => match &config.format {
            FormatConfig::Plugin { plugin, options } => (Some(plugin), options, plugin.file.at),
            _ => return Err(error.into()),
        },
        SpecPart::Selection => return Err(error.into()),
    };
    Ok(match (plugin, &error) {
        (Some(plugin), error) => plugin.mistake(text, options, None, error),
        (None, LoadPluginError::Option { index, .. }) => {
            text.mistake(place_of(options, *index).unwrap_or(at), error.to_string())
        }
        (None, LoadPluginError::Plugin(_)) => text.mistake(at, error.to_string()),
        (None, _) => return Err(error.into()),
    })
}

/// Returns notes on services that plugins would use without a grant for them.
pub(super) fn notes(config: &Config, loaded: &LoadedSpec) -> Vec<Diagnostic> {
    let stages = config.stages.iter().filter_map(|stage| match &stage.kind {
        StageKind::Plugin(plugin) => Some(plugin.as_ref()),
        _ => None,
    });
    let from_files = loaded.stage_plugins.iter().filter(|plugin| plugin.file.is_some());
    let format = match &config.format {
        FormatConfig::Plugin { plugin, .. } => Some(plugin.as_ref()),
        _ => None,
    };
    let note = |(plugin, loaded): (&Plugin, &LoadedPlugin)| plugin.note(&config.text, &loaded.name, &loaded.ungranted);
    stages.zip(from_files).chain(format.zip(loaded.format_plugin.as_ref())).filter_map(note).collect()
}

/// Finds mistakes in the actions, outputs and inputs of a pipeline.
pub(super) fn surroundings(config: &Config, dry_run: bool, mistakes: &mut Vec<Diagnostic>) {
    if config.source.recording.is_some() && !dry_run {
        acts_on_recording(config, mistakes);
    }
    outputs(config, mistakes);
    source(config, mistakes);
}

fn acts_on_recording(config: &Config, mistakes: &mut Vec<Diagnostic>) {
    for stage in &config.stages {
        let at = match &stage.kind {
            StageKind::Update(_) | StageKind::Delete | StageKind::Create => Some(stage.at),
            StageKind::Plugin(plugin) => plugin.grants.value.acts().then_some(plugin.grants.at),
            StageKind::Match(_) => None,
        };
        mistakes.extend(at.map(|at| config.text.mistake(at, ON_RECORDING)));
    }
}

/// Checks that the outputs of the pipeline can be written, and that each file belongs to one of its parts only.
fn outputs(config: &Config, mistakes: &mut Vec<Diagnostic>) {
    let mut wrong = |at: usize, what: String| mistakes.push(config.text.mistake(at, what));
    let mut outputs: Vec<files::OutputFile> = Vec::new();
    for sink in &config.sinks {
        if let Some(problem) = sink.spec.problem() {
            wrong(sink.at, problem);
        }
        outputs.extend(sink.spec.output());
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
        let output = files::OutputFile::new(path, false);
        if outputs.iter().any(|other| output.clashes_with(other)) {
            let what = "is written by another part of the pipeline; each needs a file of its own";
            wrong(plugin.grants.at, format!("{} {what}", path.display()));
        } else if let Err(error) = State::check(path, plugin.limits.state) {
            wrong(plugin.grants.at, error.to_string());
        }
        outputs.push(output);
    }
}

/// Checks that the source exists. Pipes and interfaces may appear later, so they are not checked.
fn source(config: &Config, mistakes: &mut Vec<Diagnostic>) {
    let source = &config.source;
    if let Some(recording) = &source.recording
        && !matches!(recording.file.metadata(), Ok(metadata) if !metadata.is_file())
        && recording.file.as_os_str() != "-"
        && let Err(error) = RecordingInput::open(&recording.file).and_then(Recording::open)
    {
        mistakes.push(config.text.mistake(source.at, error.to_string()));
    }
    // Permission to enter the namespace depends on the user who runs the pipeline.
    if let Some(word) = &source.netns
        && let Err(error) = Namespace::find(word.as_ref())
        && !matches!(error, NamespaceError::Enter { .. } | NamespaceError::Thread(_))
    {
        mistakes.push(config.text.mistake(source.at, format!("`netns`: {error}")));
    }
}
