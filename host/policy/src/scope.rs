//! The scope of a tenant: which flows are its own. It is checked on decoded messages, before any plugin is called.
//!
//! A scope is a list of rules. A flow is in the scope if a rule matches; a rule matches if all of its criteria do. A
//! criterion on a field that a flow does not carry does not match, except for two fields whose absence has a meaning in
//! the kernel's messages: no zone is zone 0, and no mark is mark 0.

use super::{
    prefilter::{Prefilter, PrefilterKey},
    sets::{NumberSet, PrefixSet, key},
};
use flowgate_model::{Flows, at, field, protocol};

/// The fields that scopes check.
pub const READS: u64 = field::TUPLES | field::ZONES | field::MARK;

/// The fields of a flow that a scope checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScopeView {
    /// Address family: 2 is IPv4, 10 is IPv6.
    pub family: u8,
    /// Layer-4 protocol.
    pub protocol: u8,
    /// Fields that the flow carries, bits of [`field`].
    pub has: u64,
    /// Source address of the original direction, as returned by [`key`].
    pub source: u128,
    /// Of the original direction.
    pub destination: u128,
    /// Of the reply direction.
    pub reply_source: u128,
    /// Of the reply direction.
    pub reply_destination: u128,
    /// Layer-4 words of the original direction.
    pub ports: (u16, u16),
    /// Layer-4 words of the reply direction.
    pub reply_ports: (u16, u16),
    /// Zones of the original and of the reply direction.
    pub zones: (u16, u16),
    /// Connection mark.
    pub mark: u32,
}

impl ScopeView {
    /// Returns those of a row; missing columns count as 0.
    #[must_use]
    pub fn of(flows: &Flows, row: usize) -> Self {
        let has = at(&flows.has, row);
        let family = at(&flows.family, row);
        let address = |column: &flowgate_model::Addresses| key(family, at(&column.hi, row), at(&column.lo, row));
        let zones = match &flows.zones {
            None => (0, 0),
            Some(zones) => {
                let of = |bit: u64, column: &[u16]| if has & bit != 0 { at(column, row) } else { 0 };
                match of(field::ZONE, &zones.zone) {
                    0 => (of(field::ORIGINAL_ZONE, &zones.original), of(field::REPLY_ZONE, &zones.reply)),
                    both => (both, both),
                }
            }
        };
        ScopeView {
            family,
            protocol: at(&flows.protocol, row),
            has,
            source: address(&flows.original.source),
            destination: address(&flows.original.destination),
            reply_source: address(&flows.reply.source),
            reply_destination: address(&flows.reply.destination),
            ports: (at(&flows.original.source_l4, row), at(&flows.original.destination_l4, row)),
            reply_ports: (at(&flows.reply.source_l4, row), at(&flows.reply.destination_l4, row)),
            zones,
            mark: if has & field::MARK != 0 { at(&flows.mark, row) } else { 0 },
        }
    }

    /// Returns true if the source is translated: replies go to another address.
    #[must_use]
    pub fn source_translated(&self) -> bool {
        self.has & field::REPLY_DESTINATION != 0 && self.reply_destination != self.source
    }

    /// Returns true if the destination is translated: replies come from another address.
    #[must_use]
    pub fn destination_translated(&self) -> bool {
        self.has & field::REPLY_SOURCE != 0 && self.reply_source != self.destination
    }

    /// Returns the end at which the reply direction is not the reverse of the original one: `source`, `destination`, or
    /// `None` if it is at both, layer-4 words included.
    #[must_use]
    pub fn not_reversed(&self) -> Option<&'static str> {
        let (source, destination) = match self.protocol {
            // The identifier stays the same; the type is that of the answer.
            number if protocol::is_icmp(number) => {
                (self.reply_ports.0 == self.ports.0, icmp_answer(number, self.ports.1) == Some(self.reply_ports.1))
            }
            number if protocol::has_ports(number) || number == protocol::GRE => {
                (self.reply_ports.1 == self.ports.0, self.reply_ports.0 == self.ports.1)
            }
            _ => (true, true),
        };
        if self.reply_destination != self.source || !source {
            return Some("source");
        }
        (self.reply_source != self.destination || !destination).then_some("destination")
    }
}

/// Returns type and code (256 * type + code) of the ICMP or ICMPv6 message that answers this one; `None` if the kernel
/// knows no answer.
fn icmp_answer(number: u8, type_and_code: u16) -> Option<u16> {
    let [kind, code] = type_and_code.to_be_bytes();
    let pairs: &[(u8, u8)] = match number {
        protocol::ICMP => &[(8, 0), (13, 14), (15, 16), (17, 18)],
        _ => &[(128, 129), (139, 140)],
    };
    let answer = pairs.iter().find_map(|&(ask, answer)| match kind {
        _ if kind == ask => Some(answer),
        _ if kind == answer => Some(ask),
        _ => None,
    })?;
    Some(u16::from_be_bytes([answer, code]))
}

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

/// A list of rules, one of which must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    rules: Vec<Rule>,
    /// The prefilter of each rule.
    prefilters: Vec<Prefilter>,
}

impl Scope {
    /// Returns the scope of these rules.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Scope { prefilters: rules.iter().map(Prefilter::of).collect(), rules }
    }

    /// Returns its rules.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Returns the index of the first matching rule.
    #[must_use]
    #[inline]
    pub fn rule(&self, view: &ScopeView) -> Option<usize> {
        let prefilter_key = PrefilterKey::at(view);
        self.prefilters
            .iter()
            .zip(&self.rules)
            .position(|(prefilter, rule)| prefilter.admits(view, &prefilter_key) && rule.first_mismatch(view).is_none())
    }

    /// Returns true if a flow is in the scope.
    #[must_use]
    #[inline]
    pub fn contains(&self, view: &ScopeView) -> bool {
        self.rule(view).is_some()
    }

    /// Returns the mark bits that any rule depends on.
    #[must_use]
    pub fn mark_bits(&self) -> u32 {
        self.rules.iter().flat_map(|rule| &rule.marks).fold(0, |bits, (_, mask)| bits | mask)
    }

    /// Checks whether a flow may be acted on: a rule matches, and covers both ends also where they are translated.
    ///
    /// # Errors
    /// The reason why not.
    pub fn may_act(&self, view: &ScopeView) -> Result<usize, Outside> {
        let mut foreign = None;
        for (number, rule) in self.rules.iter().enumerate().filter(|(_, rule)| rule.first_mismatch(view).is_none()) {
            match rule.uncovered_translation(view) {
                None => return Ok(number),
                Some(end) => foreign = foreign.or(Some(end)),
            }
        }
        Err(foreign.map_or(Outside::Scope, Outside::Peer))
    }

    /// Checks whether a flow may be created: like [`Scope::may_act`], and the rule determines the zone of each
    /// direction.
    ///
    /// # Errors
    /// The reason why not.
    pub fn may_create(&self, view: &ScopeView) -> Result<usize, Outside> {
        let zoned = self.rules.iter().filter(|rule| rule.covers_zones(view)).cloned().collect();
        Scope::new(zoned).may_act(view)
    }

    /// Returns true if the master of a flow is in the scope. Only its original direction is known, so that only rules
    /// match which need no more.
    #[must_use]
    pub fn contains_master(&self, view: &ScopeView) -> bool {
        self.rules.iter().any(|rule| rule.marks.is_empty() && rule.first_mismatch(view).is_none())
    }

    /// Returns true if no flow can be in both.
    #[must_use]
    pub fn excludes(&self, other: &Self) -> bool {
        self.rules.iter().all(|rule| other.rules.iter().all(|others| rule.excludes(others)))
    }
}

/// The reason why a flow may not be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Outside {
    /// It is not in the scope.
    #[error("the flow is outside the tenant's scope")]
    Scope,
    /// It is, but this end is translated to an address or port that is not.
    #[error("the {0} of the flow is translated to an address or port that the tenant's scope does not cover")]
    Peer(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(line: &str) -> ScopeView {
        let flows = flowgate_fixture::flows("test", line.as_bytes(), &[]).unwrap();
        ScopeView::of(&flows, 0)
    }

    fn prefixes(text: &str) -> Option<PrefixSet> {
        let mut set = PrefixSet::default();
        set.add(text).unwrap();
        Some(set)
    }

    fn numbers(text: &str) -> Option<NumberSet> {
        let mut set = NumberSet::default();
        assert!(set.add(text));
        Some(set)
    }

    const WEB: &str = "tcp 6 100 ESTABLISHED src=10.1.0.5 dst=192.0.2.1 sport=4000 dport=443 src=192.0.2.1 dst=10.1.0.5 sport=443 dport=4000 [ASSURED] mark=18 zone=7 use=1";
    const NAT: &str = "udp 17 100 src=10.1.0.5 dst=192.0.2.1 sport=4000 dport=53 src=10.9.0.9 dst=203.0.113.1 sport=53 dport=4000 use=1";

    #[test]
    fn every_criterion_counts() {
        let view = flow(WEB);
        let holds: [Rule; 8] = [
            Rule::default(),
            Rule { family: Some(2), ..Rule::default() },
            Rule { protocols: vec![17, 6], ..Rule::default() },
            Rule { zones: numbers("7-9"), ..Rule::default() },
            Rule { source: prefixes("10.1.0.0/16"), ..Rule::default() },
            Rule { reply_destination: prefixes("10.1.0.5"), ..Rule::default() },
            Rule { marks: vec![(1, 1), (0x10, 0xf0)], ..Rule::default() },
            Rule { ports: numbers("443"), ..Rule::default() },
        ];
        for rule in holds {
            assert_eq!(rule.first_mismatch(&view), None, "{rule:?}");
        }
        let fails = [
            ("family", Rule { family: Some(10), ..Rule::default() }),
            ("protocols", Rule { protocols: vec![17], ..Rule::default() }),
            ("zones", Rule { zones: numbers("6"), ..Rule::default() }),
            ("original-zones", Rule { original_zones: numbers("8"), ..Rule::default() }),
            ("reply-zones", Rule { reply_zones: numbers("8"), ..Rule::default() }),
            ("source", Rule { source: prefixes("10.2.0.0/16"), ..Rule::default() }),
            ("destination", Rule { destination: prefixes("10.2.0.0/16"), ..Rule::default() }),
            ("reply-source", Rule { reply_source: prefixes("10.2.0.0/16"), ..Rule::default() }),
            ("reply-destination", Rule { reply_destination: prefixes("::/0"), ..Rule::default() }),
            ("source-ports", Rule { source_ports: numbers("4001"), ..Rule::default() }),
            ("ports", Rule { ports: numbers("0-442"), ..Rule::default() }),
            ("marks", Rule { marks: vec![(1, 1)], ..Rule::default() }),
        ];
        for (name, rule) in fails {
            assert_eq!(rule.first_mismatch(&view), Some(name));
        }
    }

    #[test]
    fn no_zone_is_zone_0_and_one_direction_alone_is_not_both() {
        let zoned = |words: &str| flow(&WEB.replace("zone=7", words));
        let zero = Rule { zones: numbers("0"), ..Rule::default() };
        assert_eq!(zero.first_mismatch(&zoned("")), None);
        assert_eq!(zero.first_mismatch(&flow(WEB)), Some("zones"));
        let mut half = flow(WEB);
        half.zones = (7, 0);
        assert_eq!(Rule { zones: numbers("7"), ..Rule::default() }.first_mismatch(&half), Some("zones"));
        assert_eq!(Rule { original_zones: numbers("7"), ..Rule::default() }.first_mismatch(&half), None);
        assert_eq!(Rule { zones: numbers("0"), ..Rule::default() }.first_mismatch(&half), Some("zones"));
    }

    #[test]
    fn both_ends_of_a_translated_flow_must_be_covered_to_act() {
        let view = flow(NAT);
        let scope = |rule: Rule| Scope::new(vec![rule]);
        let source = Rule { source: prefixes("10.1.0.0/16"), ..Rule::default() };
        assert!(scope(source.clone()).contains(&view));
        assert_eq!(scope(source.clone()).may_act(&view), Err(Outside::Peer("source")));
        let covered = Rule { reply_destination: prefixes("203.0.113.0/24"), ..source.clone() };
        assert_eq!(scope(covered.clone()).may_act(&view), Err(Outside::Peer("destination")));
        let covered = Rule { reply_source: prefixes("10.9.0.0/16"), ..covered };
        assert_eq!(scope(covered).may_act(&view), Ok(0));
        assert_eq!(scope(Rule { act_on_translated: true, ..source.clone() }).may_act(&view), Ok(0));
        let zone = Rule { zones: numbers("0"), ..Rule::default() };
        assert_eq!(scope(zone).may_act(&view), Ok(0), "a whole zone is the tenant's");
        assert_eq!(scope(Rule { source: prefixes("10.2.0.0/16"), ..source }).may_act(&view), Err(Outside::Scope));
    }

    #[test]
    fn scopes_that_cannot_meet_are_known() {
        let apart = |one: Rule, two: Rule| Scope::new(vec![one]).excludes(&Scope::new(vec![two]));
        let zone = |text: &str| Rule { zones: numbers(text), ..Rule::default() };
        assert!(apart(zone("1-5"), zone("6")) && !apart(zone("1-5"), zone("5")));
        let source = |text: &str| Rule { source: prefixes(text), ..Rule::default() };
        assert!(apart(source("10.1.0.0/16"), source("10.2.0.0/16")));
        assert!(!apart(source("10.1.0.0/16"), zone("1")));
        let mark = |value, mask| Rule { marks: vec![(value, mask)], ..Rule::default() };
        assert!(apart(mark(1, 3), mark(2, 3)) && !apart(mark(1, 1), mark(2, 2)));
        assert!(apart(zone("3"), Rule { reply_zones: numbers("4"), ..Rule::default() }));
    }
}
