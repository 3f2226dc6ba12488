//! Grants: what a stage may ask the executor to do.

use crate::model::action;

/// What a stage may do to the kernel's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Remove entries.
    pub delete: bool,
    /// Change entries.
    pub update: bool,
    /// Make entries.
    pub create: bool,
}

impl Grants {
    /// Nothing: what a stage of the user has unless it is given more.
    pub const NONE: Self = Self { delete: false, update: false, create: false };
    /// Everything: for the stock stages of a command that the user typed.
    pub const ALL: Self = Self { delete: true, update: true, create: true };

    /// Whether a kind of action is granted. Unknown kinds never are.
    #[must_use]
    pub fn allow(self, kind: u8) -> bool {
        match kind {
            action::DELETE => self.delete,
            action::UPDATE => self.update,
            action::CREATE => self.create,
            action::CREATE_OR_UPDATE => self.create && self.update,
            _ => false,
        }
    }
}
