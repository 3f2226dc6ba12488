//! The kernel's dump filter: the part of a selection that the kernel can check.
//!
//! The kernel compares values under masks and supports no prefixes, ranges, negation or alternatives. The filter leaves
//! out comparisons that the kernel gets wrong: on Linux 6.18 the comparison of IPv6 addresses is inverted, ports of
//! protocols other than TCP and UDP are ignored, and tuples need a family. A filter therefore passes at least the
//! selected flows, and its user must check the whole selection on the entries that arrive.

mod plan;

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, Status};

pub use plan::{Condition, FilterPlan};

use crate::{
    tuple::{TupleFields, nest},
    wire::{flow, part},
};
use flowgate_model::family;

/// Bits of CTA_FILTER_ORIG_FLAGS and CTA_FILTER_REPLY_FLAGS. `linux/netfilter/nf_conntrack_common.h` has no names for
/// them; `ctnetlink_filter` has them in the order of the tuple's attributes.
mod flag {
    pub(super) const SOURCE: u32 = 1 << 0;
    pub(super) const DESTINATION: u32 = 1 << 1;
    pub(super) const PROTOCOL: u32 = 1 << 3;
    pub(super) const SOURCE_PORT: u32 = 1 << 4;
    pub(super) const DESTINATION_PORT: u32 = 1 << 5;
    pub(super) const ICMP_TYPE: u32 = 1 << 6;
    pub(super) const ICMP_CODE: u32 = 1 << 7;
    pub(super) const ICMP_ID: u32 = 1 << 8;
    pub(super) const ICMPV6_TYPE: u32 = 1 << 9;
    pub(super) const ICMPV6_CODE: u32 = 1 << 10;
    pub(super) const ICMPV6_ID: u32 = 1 << 11;
}

/// A filter in the kernel's terms. It passes at least the selected flows, and perhaps others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DumpFilter {
    family: u8,
    /// Value and mask.
    mark: Option<(u32, u32)>,
    /// Value and mask, which is not 0.
    status: Option<(u32, u32)>,
    /// Zone of either direction; never 0.
    zone: Option<u16>,
    original: TupleFilter,
    reply: TupleFilter,
}

/// The filter of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct TupleFilter {
    flags: u32,
    tuple: TupleFields,
}

impl DumpFilter {
    /// Returns a filter that passes all flows.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Returns a filter that passes the flows of one family (2 IPv4, 10 IPv6; 0 both).
    #[must_use]
    pub fn family_only(family: u8) -> Self {
        Self { family, ..Self::default() }
    }

    /// Returns `nfgen_family` of the request: 0 for all.
    #[must_use]
    pub fn family(&self) -> u8 {
        self.family
    }

    /// Returns a filter that passes nothing, on a kernel that compares marks: the value is outside its mask.
    #[must_use]
    pub fn impossible_mark() -> Self {
        Self { mark: Some((1, 2)), ..Self::default() }
    }

    /// Returns the attributes of a request with this filter.
    #[must_use]
    pub fn attributes(&self) -> Vec<ConntrackAttribute> {
        let plain = |kind, value: &[u8]| ConntrackAttribute::Other(DefaultNla::new(kind, value.to_vec()));
        let mut attributes = Vec::new();
        if self.original.flags != 0 {
            attributes.push(ConntrackAttribute::CtaTupleOrig(self.original.tuple.attributes()));
        }
        if self.reply.flags != 0 {
            attributes.push(ConntrackAttribute::CtaTupleReply(self.reply.tuple.attributes()));
        }
        if let Some((value, mask)) = self.status {
            attributes.push(ConntrackAttribute::CtaStatus(Status::from_bits_retain(value)));
            attributes.push(plain(flow::STATUS_MASK, &mask.to_be_bytes()));
        }
        if let Some((value, mask)) = self.mark {
            attributes.push(ConntrackAttribute::CtaMark(value));
            attributes.push(plain(flow::MARK_MASK, &mask.to_be_bytes()));
        }
        if let Some(zone) = self.zone {
            attributes.push(plain(flow::ZONE, &zone.to_be_bytes()));
        }
        // Only these flags are in native byte order.
        let flags: Vec<DefaultNla> =
            [(part::FILTER_ORIG_FLAGS, self.original.flags), (part::FILTER_REPLY_FLAGS, self.reply.flags)]
                .into_iter()
                .filter(|(_, flags)| *flags != 0)
                .map(|(kind, flags)| DefaultNla::new(kind, flags.to_ne_bytes().to_vec()))
                .collect();
        if !flags.is_empty() {
            attributes.push(ConntrackAttribute::Other(nest(flow::FILTER, &flags)));
        }
        attributes
    }
}

/// A filter that passes exactly the selected flows, and not everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExactFilter(DumpFilter);

impl ExactFilter {
    /// Returns a filter that passes nothing: no flow has protocol 255, which is reserved (RFC 5237), between these
    /// addresses.
    #[must_use]
    pub fn nothing() -> Self {
        let everywhere = Some(std::net::Ipv4Addr::BROADCAST.into());
        let tuple = TupleFields {
            source: everywhere,
            destination: everywhere,
            protocol: Some(u8::MAX),
            ..TupleFields::default()
        };
        let original = TupleFilter { flags: flag::SOURCE | flag::DESTINATION | flag::PROTOCOL, tuple };
        ExactFilter(DumpFilter { family: family::IPV4, original, ..DumpFilter::default() })
    }

    /// Returns a filter that passes the flows of one family.
    #[must_use]
    pub fn for_family(family: u8) -> Self {
        ExactFilter(DumpFilter::family_only(family))
    }

    /// Returns true if it compares the mark.
    #[must_use]
    pub fn has_mark(&self) -> bool {
        self.0.mark.is_some()
    }

    /// Returns `nfgen_family` of the request.
    #[must_use]
    pub fn family(&self) -> u8 {
        self.0.family
    }

    /// Returns the attributes of a request with this filter. They always include CTA_FILTER, even if it is empty:
    /// without it the kernel ignores the family of a deletion.
    ///
    /// A kernel that does not support CTA_FILTER in a deletion takes a deletion without a tuple as the request to flush
    /// the table. The attributes therefore always include a tuple of the original direction and an id that no flow has.
    /// If the filter has no tuple, the tuple has no protocol, which such a kernel refuses with EINVAL; a complete tuple
    /// finds no flow with this id (ENOENT). Kernels that support CTA_FILTER ignore both.
    #[must_use]
    pub fn attributes(&self) -> Vec<ConntrackAttribute> {
        let mut attributes = self.0.attributes();
        if self.0.original.flags | self.0.reply.flags == 0 {
            let none = DefaultNla::new(part::FILTER_ORIG_FLAGS, 0u32.to_ne_bytes().to_vec());
            attributes.push(ConntrackAttribute::Other(nest(flow::FILTER, &[none])));
        }
        if self.0.original.flags == 0 {
            let source = Some(std::net::Ipv4Addr::BROADCAST.into());
            let incomplete = TupleFields { source, ..TupleFields::default() };
            attributes.insert(0, ConntrackAttribute::CtaTupleOrig(incomplete.attributes()));
        }
        attributes.push(ConntrackAttribute::Other(DefaultNla::new(flow::ID, 0u32.to_be_bytes().to_vec())));
        attributes
    }
}
