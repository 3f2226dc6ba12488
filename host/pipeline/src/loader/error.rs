//! The reasons for which a plugin cannot be used.

use std::path::PathBuf;

use super::Role;
use crate::problems::Problems;
use flowgate_base::text::{clean, line, path_text};
use flowgate_runtime::{LoadError, PluginComponent, PluginError, services::state::StateError};

/// The reason for which a plugin cannot be used in a pipeline.
#[derive(Debug, thiserror::Error)]
pub enum LoadPluginError {
    /// The file cannot be read or compiled, or is not a component.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The file has another digest than specified.
    #[error("the SHA-256 of {} is {}", path_text(path), clean(found))]
    Digest {
        /// The file.
        path: PathBuf,
        /// The digest of its content.
        found: String,
    },
    /// It does not export the required interface.
    #[error(
        "{} does not export flowgate:conntrack/{interface}, which this place needs; it exports {}",
        clean(plugin),
        clean(exports)
    )]
    Role {
        /// The plugin.
        plugin: String,
        /// The interface that is missing.
        interface: &'static str,
        /// The interfaces that it exports.
        exports: String,
    },
    /// It failed when it was instantiated, described or configured.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// An unknown option, or a missing one.
    #[error("plugin {}: {}", clean(plugin), line(problem.as_bytes()))]
    Option {
        /// The plugin.
        plugin: String,
        /// The index of the option among those given; `None` for a missing one.
        index: Option<usize>,
        /// The problem, with the valid choices.
        problem: String,
    },
    /// It uses a service of the host that it was not granted.
    #[error(
        "plugin {} cannot start without the grant `{grant}`: it uses the service {}",
        clean(plugin),
        clean(service)
    )]
    Service {
        /// The plugin.
        plugin: String,
        /// The interface.
        service: String,
        /// The grant.
        grant: &'static str,
    },
    /// The file of its state cannot be used.
    #[error("plugin {}: {error}", clean(plugin))]
    State {
        /// The plugin.
        plugin: String,
        /// The cause.
        error: StateError,
    },
}

/// The part of a plugin's specification that a problem is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProblemPlace {
    /// The file.
    File,
    /// The required digest.
    Digest,
    /// The grants: this one is missing.
    Grants(String),
    /// The option with this index; `None` if it is missing.
    Option(Option<usize>),
    /// The option that the plugin's own message names, if it names one.
    Named,
}

impl LoadPluginError {
    /// Returns the part of the specification that the problem is about.
    #[must_use]
    pub fn place(&self) -> ProblemPlace {
        match self {
            LoadPluginError::Digest { .. } => ProblemPlace::Digest,
            LoadPluginError::Service { grant, .. } => ProblemPlace::Grants((*grant).into()),
            LoadPluginError::Option { index, .. } => ProblemPlace::Option(*index),
            LoadPluginError::Plugin(_) => ProblemPlace::Named,
            LoadPluginError::Load(_) | LoadPluginError::Role { .. } | LoadPluginError::State { .. } => {
                ProblemPlace::File
            }
        }
    }
}

/// All problems of a plugin, at least one.
pub type PluginProblems = Problems<LoadPluginError>;

impl<E: Into<LoadPluginError>> From<E> for PluginProblems {
    fn from(problem: E) -> Self {
        Problems { first: problem.into(), rest: Vec::new() }
    }
}

/// Checks that a component can play a role.
pub(super) fn check_role(component: &PluginComponent, role: Role) -> Result<(), LoadPluginError> {
    if role.is_within(component.capabilities) {
        return Ok(());
    }
    Err(LoadPluginError::Role {
        plugin: component.name.clone(),
        interface: role.interface(),
        exports: component.capabilities.interfaces().join(", "),
    })
}
