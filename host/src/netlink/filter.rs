//! The kernel's filter for dumps: what of a selection the kernel itself can check.

use netlink_packet_netfilter::conntrack::ConntrackAttribute;

/// A filter in the kernel's terms. It lets through at least the flows that are meant, and perhaps others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DumpFilter {
    family: u8,
    attributes: Vec<ConntrackAttribute>,
}

impl DumpFilter {
    /// All flows.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The flows of one family (2 IPv4, 10 IPv6; 0 both).
    #[must_use]
    pub fn family_only(family: u8) -> Self {
        Self { family, attributes: Vec::new() }
    }

    /// `nfgen_family` of the request: 0 for all.
    #[must_use]
    pub fn family(&self) -> u8 {
        self.family
    }

    /// The attributes of the request.
    #[must_use]
    pub fn attributes(&self) -> Vec<ConntrackAttribute> {
        self.attributes.clone()
    }
}
