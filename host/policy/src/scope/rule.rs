//! A rule: criteria that must all match, and what it covers of a translated flow.

use super::ScopeView;
use crate::sets::{NumberSet, PrefixSet};
use flowgate_model::{field, protocol};

/// A rule of a scope. Without criteria it matches all flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Offset in the file.
    pub offset: usize,
    /// Line of the file, counted from 1.
    pub line: usize,
    /// Address family.
    pub family: Option<u8>,
    /// Layer-4 protocols, by number.
    pub protocols: Vec<u8>,
    /// Zones of both directions.
    pub zones: Option<NumberSet>,
    /// Zone of the original direction.
    pub original_zones: Option<NumberSet>,
    /// Zone of the reply direction.
    pub reply_zones: Option<NumberSet>,
    /// Original source addresses.
    pub source: Option<PrefixSet>,
    /// Original destination addresses.
    pub destination: Option<PrefixSet>,
    /// Source addresses of the reply direction.
    pub reply_source: Option<PrefixSet>,
    /// Destination addresses of the reply direction.
    pub reply_destination: Option<PrefixSet>,
    /// Marks as value and mask, one of which must match.
    pub marks: Vec<(u32, u32)>,
    /// Original source ports.
    pub source_ports: Option<NumberSet>,
    /// Original destination ports.
    pub ports: Option<NumberSet>,
    /// True if actions on flows are allowed whose addresses are translated to ones that the rule does not cover.
    pub act_on_translated: bool,
}

impl Rule {
    /// Returns the first criterion that does not match, or `None` if all do.
    #[must_use]
    #[inline]
    pub fn first_mismatch(&self, view: &ScopeView) -> Option<&'static str> {
        let numbers = |set: &Option<NumberSet>, number: u16| set.as_ref().is_none_or(|set| set.contains(number));
        let addresses = |set: &Option<PrefixSet>, bit: u64, address: u128| {
            set.as_ref().is_none_or(|set| view.has & bit != 0 && set.contains(view.family, address))
        };
        if self.family.is_some_and(|family| family != view.family) {
            return Some("family");
        }
        if !self.protocols.is_empty()
            && (view.has & (field::PROTOCOL | field::REPLY_PROTOCOL) == 0 || !self.protocols.contains(&view.protocol))
        {
            return Some("protocols");
        }
        if !numbers(&self.zones, view.zones.0) || !numbers(&self.zones, view.zones.1) {
            return Some("zones");
        }
        if !numbers(&self.original_zones, view.zones.0) {
            return Some("original-zones");
        }
        if !numbers(&self.reply_zones, view.zones.1) {
            return Some("reply-zones");
        }
        if !addresses(&self.source, field::SOURCE, view.source) {
            return Some("source");
        }
        if !addresses(&self.destination, field::DESTINATION, view.destination) {
            return Some("destination");
        }
        if !addresses(&self.reply_source, field::REPLY_SOURCE, view.reply_source) {
            return Some("reply-source");
        }
        if !addresses(&self.reply_destination, field::REPLY_DESTINATION, view.reply_destination) {
            return Some("reply-destination");
        }
        let ports = |set: &Option<NumberSet>, bit: u64, port: u16| {
            set.as_ref()
                .is_none_or(|set| view.has & bit != 0 && protocol::has_ports(view.protocol) && set.contains(port))
        };
        if !ports(&self.source_ports, field::SOURCE_L4, view.ports.0) {
            return Some("source-ports");
        }
        if !ports(&self.ports, field::DESTINATION_L4, view.ports.1) {
            return Some("ports");
        }
        if !self.marks.is_empty() && !self.marks.iter().any(|(value, mask)| view.mark & mask == *value) {
            return Some("marks");
        }
        None
    }

    /// Returns the end of a matching flow whose address or port is translated to one that the rule does not cover, if
    /// any. Ports count if the rule has a criterion for those of this end.
    #[must_use]
    pub fn uncovered_translation(&self, view: &ScopeView) -> Option<&'static str> {
        if self.act_on_translated {
            return None;
        }
        let addresses = [&self.source, &self.destination, &self.reply_source, &self.reply_destination];
        let whole_zones = self.zones.is_some() && addresses.iter().all(|set| set.is_none());
        let covers = |sets: [&Option<PrefixSet>; 2], address: u128| {
            let mut given = sets.iter().filter_map(|set| set.as_ref()).peekable();
            match given.peek() {
                // A rule on zones alone has no addresses; the zones confine both ends.
                None => whole_zones,
                Some(_) => given.any(|set| set.contains(view.family, address)),
            }
        };
        if view.source_translated() && !covers([&self.source, &self.reply_destination], view.reply_destination) {
            return Some("source");
        }
        if view.destination_translated() && !covers([&self.destination, &self.reply_source], view.reply_source) {
            return Some("destination");
        }
        let ports = |set: &Option<NumberSet>, bit: u64, port: u16| {
            set.as_ref().is_none_or(|set| view.has & bit == 0 || set.contains(port))
        };
        if !ports(&self.source_ports, field::REPLY_DESTINATION_L4, view.reply_ports.1) {
            return Some("source");
        }
        (!ports(&self.ports, field::REPLY_SOURCE_L4, view.reply_ports.0)).then_some("destination")
    }

    /// Returns true if the rule determines the zone of the replies of this flow: it has a criterion for it, or it is
    /// the zone of the original direction.
    #[must_use]
    pub fn covers_zones(&self, view: &ScopeView) -> bool {
        view.zones.0 == view.zones.1
            || self.zones.is_some()
            || (self.original_zones.is_some() && self.reply_zones.is_some())
    }

    /// Returns true if no flow can be in both.
    #[must_use]
    pub fn excludes(&self, other: &Self) -> bool {
        fn apart<T>(one: &Option<T>, two: &Option<T>, meet: impl Fn(&T, &T) -> bool) -> bool {
            matches!((one, two), (Some(one), Some(two)) if !meet(one, two))
        }
        let zones = |rule: &Self| [rule.zones.clone(), rule.original_zones.clone(), rule.reply_zones.clone()];
        let [both, original, reply] = zones(self);
        let [others, other_original, other_reply] = zones(other);
        let marks = !self.marks.is_empty()
            && !other.marks.is_empty()
            && self.marks.iter().all(|(value, mask)| {
                other.marks.iter().all(|(others, other_mask)| (value ^ others) & mask & other_mask != 0)
            });
        apart(&self.family, &other.family, |one, two| one == two)
            || (!self.protocols.is_empty()
                && !other.protocols.is_empty()
                && !self.protocols.iter().any(|number| other.protocols.contains(number)))
            || apart(&both, &others, NumberSet::meets)
            || apart(&both, &other_original, NumberSet::meets)
            || apart(&both, &other_reply, NumberSet::meets)
            || apart(&original, &others, NumberSet::meets)
            || apart(&original, &other_original, NumberSet::meets)
            || apart(&reply, &others, NumberSet::meets)
            || apart(&reply, &other_reply, NumberSet::meets)
            || apart(&self.source, &other.source, PrefixSet::meets)
            || apart(&self.destination, &other.destination, PrefixSet::meets)
            || apart(&self.reply_source, &other.reply_source, PrefixSet::meets)
            || apart(&self.reply_destination, &other.reply_destination, PrefixSet::meets)
            || apart(&self.source_ports, &other.source_ports, NumberSet::meets)
            || apart(&self.ports, &other.ports, NumberSet::meets)
            || marks
    }
}
