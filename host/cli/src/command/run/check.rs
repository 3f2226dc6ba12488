//! Checks of a pipeline file before it runs: its plugins, its inputs and its outputs. All mistakes are found, each with
//! its place.

use flowgate_base::files;
use flowgate_config::{Config, Diagnostic, FormatConfig, Plugin, StageConfig, StageKind, plugin::option_offset};
use flowgate_model::grants::StateStorage;
use flowgate_netlink::{Namespace, NamespaceError};
use flowgate_pipeline::{
    LoadedSpec,
    load::{SpecPart, SpecProblem},
    loader::{LoadPluginError, LoadedPlugin},
};
use flowgate_recording::{Recording, RecordingInput};
use flowgate_runtime::services::state::State;

use super::super::{report::CommandError, shipping};

/// The reason why a stage that may act cannot be used with a recording.
const ON_RECORDING: &str =
    "nothing can be done to flows of a recording, which are those of another time; --dry-run prints what would be done";

/// Returns a problem of a plugin as a mistake with its place.
///
/// # Errors
/// A stock plugin cannot be started, which is not a mistake in the file.
pub(super) fn diagnostic(config: &Config, problem: SpecProblem) -> Result<Diagnostic, CommandError> {
    let text = &config.text;
    let SpecProblem { part, error } = problem;
    let (plugin, options, offset) = match part {
        SpecPart::Stage(index) => match config.stages.get(index) {
            Some(StageConfig { kind: StageKind::Plugin(plugin), options, offset, .. }) => {
                (Some(plugin), options, *offset)
            }
            Some(StageConfig { options, offset, .. }) => (None, options, *offset),
            None => return Err(error.into()),
        },
        SpecPart::Format => match &config.format {
            FormatConfig::Plugin { plugin, options } => (Some(plugin), options, plugin.file.offset),
            _ => return Err(error.into()),
        },
        SpecPart::Selection | SpecPart::Aggregation => return Err(error.into()),
    };
    Ok(match (plugin, &error) {
        (Some(plugin), error) => plugin.diagnostic(text, options, None, error),
        (None, LoadPluginError::Option { index, .. }) => {
            text.diagnostic(option_offset(options, *index).unwrap_or(offset), error.to_string())
        }
        (None, LoadPluginError::Plugin(_)) => text.diagnostic(offset, error.to_string()),
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
pub(super) fn surroundings(config: &Config, dry_run: bool, diagnostics: &mut Vec<Diagnostic>) {
    if config.source.recording.is_some() && !dry_run {
        acts_on_recording(config, diagnostics);
    }
    outputs(config, diagnostics);
    source(config, diagnostics);
}

fn acts_on_recording(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    for stage in &config.stages {
        let offset = match &stage.kind {
            StageKind::Update(_) | StageKind::Delete | StageKind::Create => Some(stage.offset),
            StageKind::Plugin(plugin) => plugin.grants.value.acts().then_some(plugin.grants.offset),
            StageKind::Match(..) => None,
        };
        diagnostics.extend(offset.map(|offset| config.text.diagnostic(offset, ON_RECORDING)));
    }
}

/// Checks that the outputs of the pipeline can be written, and that each file belongs to one of its parts only.
fn outputs(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let mut wrong = |offset: usize, what: String| diagnostics.push(config.text.diagnostic(offset, what));
    let mut outputs: Vec<files::OutputFile> = Vec::new();
    for sink in &config.sinks {
        if let Some(problem) = shipping::problem(&sink.spec) {
            wrong(sink.offset, problem);
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
        let Some(StateStorage::File(path)) = &plugin.grants.value.state else { continue };
        let output = files::OutputFile::new(path, false);
        if outputs.iter().any(|other| output.clashes_with(other)) {
            let what = "is written by another part of the pipeline; each needs a file of its own";
            wrong(plugin.grants.offset, format!("{} {what}", flowgate_base::text::path_text(path)));
        } else if let Err(error) = State::check(path, plugin.limits.state, files::Trust::Sticky) {
            wrong(plugin.grants.offset, error.to_string());
        }
        outputs.push(output);
    }
}

/// Checks that the source exists. Pipes and interfaces may appear later, so they are not checked.
fn source(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let source = &config.source;
    if let Some(recording) = &source.recording
        && !matches!(recording.file.metadata(), Ok(metadata) if !metadata.is_file())
        && recording.file.as_os_str() != "-"
        && let Err(error) = RecordingInput::open(&recording.file).and_then(Recording::open)
    {
        diagnostics.push(config.text.diagnostic(source.offset, error.to_string()));
    }
    // Permission to enter the namespace depends on the user who runs the pipeline.
    if let Some(word) = &source.netns
        && let Err(error) = Namespace::find(word.as_ref())
        && !matches!(error, NamespaceError::Enter { .. } | NamespaceError::Thread(_))
    {
        diagnostics.push(config.text.diagnostic(source.offset, format!("`netns`: {error}")));
    }
}
