//! From what a command line asks for to what a pipeline takes.

use super::report::CommandError;
use flowgate_model::{OptionValue, grants::Grants};
use flowgate_pipeline::{
    loader::{PluginLoader, PluginSpec, PreparedPlugin, Purpose, Role},
    stage::Stage,
};
use flowgate_runtime::Instance;
use flowgate_syntax::{Command, PluginArgument, Settings};

/// A plugin of the command line, loaded.
pub(super) fn prepare(
    loader: &PluginLoader,
    argument: &PluginArgument,
    role: Role,
    purpose: Purpose,
) -> Result<PreparedPlugin, CommandError> {
    Ok(loader.prepare(&plugin(argument), role, purpose)?)
}

/// What is loaded for a plugin of the command line.
pub(super) fn plugin(argument: &PluginArgument) -> PluginSpec {
    let PluginArgument { file, options, grants, on_error } = argument;
    let spec = PluginSpec { options: options.clone(), ..PluginSpec::file(file) };
    spec.grants(grants.clone()).on_error(*on_error)
}

/// The stock stage that carries out what a command is about; the user asked for it, so it may.
pub(super) fn acting_stage(
    loader: &PluginLoader,
    name: &'static str,
    role: Role,
    settings: &Settings,
) -> Result<Stage, CommandError> {
    let mut options = Vec::new();
    if settings.command == Command::Add {
        options.push(OptionValue::new("or-update", "true"));
    }
    let takes_template = loader.stock(name)?.capabilities.flow_template;
    let template = |instance: &mut Instance| {
        if takes_template { instance.template(&settings.template) } else { Ok(()) }
    };
    Ok(loader.stock_stage(name, role, &options, Grants::ALL, template)?.strict())
}
