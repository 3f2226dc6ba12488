//! The reasons for which a plugin cannot be used.

use std::{fmt, path::PathBuf};

use super::Role;
use flowgate_runtime::{LoadError, PluginComponent, PluginError, services::state::StateError};

/// The reason for which a plugin cannot be used in a pipeline.
#[derive(Debug, thiserror::Error)]
pub enum LoadPluginError {
    /// The file cannot be read or compiled, or is not a component.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The file has another digest than specified.
    #[error("the SHA-256 of {} is {found}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// The digest of its content.
        found: String,
    },
    /// It does not export the required interface.
    #[error("{plugin} does not export flowgate:conntrack/{interface}, which this place needs; it exports {exports}")]
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
    #[error("plugin {plugin}: {problem}")]
    Option {
        /// The plugin.
        plugin: String,
        /// The index of the option among those given; `None` for a missing one.
        index: Option<usize>,
        /// The problem, with the valid choices.
        problem: String,
    },
    /// It uses a service of the host that it was not granted.
    #[error("plugin {plugin} cannot start without the grant `{grant}`: it uses the service {service}")]
    Service {
        /// The plugin.
        plugin: String,
        /// The interface.
        service: String,
        /// The grant.
        grant: &'static str,
    },
    /// The file of its state cannot be used.
    #[error("plugin {plugin}: {error}")]
    State {
        /// The plugin.
        plugin: String,
        /// The cause.
        error: StateError,
    },
}

/// All problems of a plugin, at least one.
#[derive(Debug)]
pub struct PluginProblems {
    first: LoadPluginError,
    rest: Vec<LoadPluginError>,
}

impl PluginProblems {
    /// Collects problems; returns `None` if there are none.
    pub(super) fn collect(problems: impl IntoIterator<Item = LoadPluginError>) -> Option<Self> {
        let mut problems = problems.into_iter();
        let first = problems.next()?;
        Some(PluginProblems { first, rest: problems.collect() })
    }

    /// Returns the first problem.
    #[must_use]
    pub fn into_first(self) -> LoadPluginError {
        self.first
    }

    /// Returns all problems.
    #[must_use]
    pub fn into_all(self) -> Vec<LoadPluginError> {
        std::iter::once(self.first).chain(self.rest).collect()
    }

    /// Iterates over all problems.
    pub fn iter(&self) -> impl Iterator<Item = &LoadPluginError> {
        std::iter::once(&self.first).chain(&self.rest)
    }
}

impl<E: Into<LoadPluginError>> From<E> for PluginProblems {
    fn from(problem: E) -> Self {
        PluginProblems { first: problem.into(), rest: Vec::new() }
    }
}

impl fmt::Display for PluginProblems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.first)?;
        self.rest.iter().try_for_each(|problem| write!(formatter, "; {problem}"))
    }
}

impl std::error::Error for PluginProblems {}

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
