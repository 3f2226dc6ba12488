//! Grants: what a plugin may ask the executor to do, and which services of the host it has.
//!
//! * `parse` reads them from text, `check` compares what a plugin asks for with them.

mod check;
mod parse;

use std::path::PathBuf;

pub use parse::GrantError;

use crate::field;

/// What a plugin may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Remove entries.
    pub delete: bool,
    /// Make entries. In a pipeline with whatever they are to have; those of a tenant begin as the kernel would begin them, unless
    /// it has the two grants that follow.
    pub create: bool,
    /// Make entries whose addresses or ports are translated.
    pub translated: bool,
    /// Make entries that look as if packets had gone by: replied to, assured, in any protocol state.
    pub established: bool,
    /// Change entries, in these respects.
    pub update: Updates,
    /// Write lines into the log.
    pub log: bool,
    /// Keep something beyond its instance.
    pub state: Option<Keeping>,
    /// Know the time.
    pub time: bool,
    /// Be called from time to time.
    pub tick: bool,
    /// Be offered the table before live events.
    pub look_back: bool,
}

/// Where a plugin keeps its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// In the host's memory.
    Memory,
    /// In a file.
    File(PathBuf),
}

/// What may be changed in entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updates {
    /// The fields, as bits of [`field`].
    pub fields: u64,
    /// The bits of the mark.
    pub mark: u32,
    /// The status bits that may be set.
    pub status: u32,
    /// The least and the most timeout, in seconds.
    pub timeout: (u32, u32),
    /// The labels, by bit.
    pub labels: u128,
}

impl Default for Updates {
    /// Nothing.
    fn default() -> Self {
        Updates { fields: 0, mark: 0, status: 0, timeout: (0, u32::MAX), labels: 0 }
    }
}

impl Updates {
    /// Everything.
    pub const ALL: Self =
        Updates { fields: field::ALL, mark: u32::MAX, status: u32::MAX, timeout: (0, u32::MAX), labels: u128::MAX };

    /// Whether nothing may be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields == 0
    }
}

impl Grants {
    /// Nothing: what a stage of the user has unless it is given more.
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
    /// Every action: for the stock stages of a command that the user typed.
    pub const ALL: Self =
        Self { delete: true, create: true, translated: true, established: true, update: Updates::ALL, ..Self::NONE };

    /// Whether a grant that a plugin names is among these. One that does not exist never is.
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

    /// Whether the plugin may do anything to the kernel's table.
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
