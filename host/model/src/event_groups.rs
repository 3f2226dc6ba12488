//! The groups of flow events.

/// A set of the kernel's groups of flow events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventGroups {
    /// NFNLGRP_CONNTRACK_NEW
    pub new: bool,
    /// NFNLGRP_CONNTRACK_UPDATE
    pub update: bool,
    /// NFNLGRP_CONNTRACK_DESTROY
    pub destroy: bool,
}

impl EventGroups {
    /// All three groups.
    pub const ALL: Self = Self { new: true, update: true, destroy: true };
    /// No group.
    pub const NONE: Self = Self { new: false, update: false, destroy: false };
}

impl Default for EventGroups {
    fn default() -> Self {
        Self::ALL
    }
}
