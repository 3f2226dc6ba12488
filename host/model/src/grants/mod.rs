//! Grants: the actions that a plugin may request, and the services of the host that it may use.
//!
//! * `parse` parses them, `check` checks requested actions.

mod check;
mod parse;

use std::path::PathBuf;

pub use parse::GrantError;

use crate::field;

/// The grants of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Delete entries.
    pub delete: bool,
    /// Create entries. In a pipeline with any values; entries of a tenant start as the kernel would start them, unless
    /// the tenant has the two grants that follow.
    pub create: bool,
    /// Create entries with NAT.
    pub translated: bool,
    /// Create entries as if packets had been seen: with a reply seen, assured, in any protocol state.
    pub established: bool,
    /// Update entries, within these limits.
    pub update: Updates,
    /// Write lines to the log.
    pub log: bool,
    /// Keep state beyond the life of the instance.
    pub state: Option<StateStorage>,
    /// Read the clock.
    pub time: bool,
    /// Be called periodically.
    pub tick: bool,
    /// Receive the table before live events.
    pub look_back: bool,
}

/// Where a plugin keeps its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateStorage {
    /// In the host's memory.
    Memory,
    /// In a file.
    File(PathBuf),
}

/// The limits of updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updates {
    /// The fields, as bits of [`field`].
    pub fields: u64,
    /// The bits of the mark.
    pub mark: u32,
    /// The status bits that may be set.
    pub status: u32,
    /// Minimum and maximum timeout, in seconds.
    pub timeout: (u32, u32),
    /// The labels, by bit.
    pub labels: u128,
}

impl Default for Updates {
    /// Returns no grant.
    fn default() -> Self {
        Updates { fields: 0, mark: 0, status: 0, timeout: (0, u32::MAX), labels: 0 }
    }
}

impl Updates {
    /// All updates.
    pub const ALL: Self =
        Updates { fields: field::ALL, mark: u32::MAX, status: u32::MAX, timeout: (0, u32::MAX), labels: u128::MAX };

    /// Returns true if nothing may be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields == 0
    }
}

impl Grants {
    /// No grant: the default for stages from files.
    pub const NONE: Self = Self {
        delete: false,
        create: false,
        translated: false,
        established: false,
        update: Updates { fields: 0, mark: 0, status: 0, timeout: (0, u32::MAX), labels: 0 },
        log: false,
        state: None,
        time: false,
        tick: false,
        look_back: false,
    };
    /// Every action: for the stock stages of a command.
    pub const ALL: Self =
        Self { delete: true, create: true, translated: true, established: true, update: Updates::ALL, ..Self::NONE };

    /// Returns true if the grant with this name, as a plugin's description has it, is covered. An unknown grant never
    /// is.
    #[must_use]
    pub fn covers(&self, wanted: &str) -> bool {
        let Ok(wanted) = wanted.parse::<Grants>() else { return false };
        let implies = |wanted: bool, granted: bool| !wanted || granted;
        implies(wanted.delete, self.delete)
            && implies(wanted.create, self.create)
            && implies(wanted.translated, self.translated)
            && implies(wanted.established, self.established)
            && implies(wanted.log, self.log)
            && implies(wanted.time, self.time)
            && implies(wanted.tick, self.tick)
            && implies(wanted.look_back, self.look_back)
            && implies(wanted.state.is_some(), self.state.is_some())
            && wanted.update.fields & !self.update.fields == 0
    }

    /// Returns true if the plugin may change the kernel's table.
    #[must_use]
    pub fn acts(&self) -> bool {
        self.delete || self.create || !self.update.is_empty()
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
