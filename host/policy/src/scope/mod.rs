//! The scope of a tenant: which flows are its own. It is checked on decoded messages, before any plugin is called.
//!
//! A scope is a list of rules. A flow is in the scope if a rule matches; a rule matches if all of its criteria do. A
//! criterion on a field that a flow does not carry does not match, except for two fields whose absence has a meaning in
//! the kernel's messages: no zone is zone 0, and no mark is mark 0.

mod rule;
mod view;

pub use rule::Rule;
pub use view::ScopeView;

use super::prefilter::{Prefilter, PrefilterKey};
use flowgate_model::field;

/// The fields that scopes check.
pub const READS: u64 = field::TUPLES | field::ZONES | field::MARK;

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
    use crate::sets::{NumberSet, PrefixSet};

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
