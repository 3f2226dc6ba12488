//! Actions that arrive as requests of an untrusted process are judged as the rows that they encode.

use super::*;
use flowgate_netlink::{
    FlowEntry,
    encode::flows,
    proposal::{propose, read},
};
use flowgate_netlink_testing::rows::Rows;

impl Attempt {
    /// Checks that the ruling is the same if the action arrives as a request that another process proposes: its one row
    /// has all that is judged.
    pub(super) fn assert_proposed(&self, tenant: &Tenant, grants: &Grants, ruling: &Result<Approval, Refusal>) {
        fn entry(row: &Option<Row>) -> Option<FlowEntry<'_>> {
            row.as_ref().map(|row| FlowEntry::new(&row.0, 0).unwrap())
        }
        let request = match propose(self.kind, entry(&self.shown), entry(&self.values)) {
            Ok(request) => request,
            Err(error) => {
                assert!(ruling.is_err(), "{error}: {self:?}");
                return;
            }
        };
        let read = read(request.as_bytes()).unwrap();
        assert_eq!(read.kind, self.kind);
        let row = Some((&read.flows, 0));
        let shown = self.shown.as_ref().and(row);
        let values = self.values.as_ref().map_or(0, |values| values.0.has[0]);
        let values = if self.kind == action::DELETE { 0 } else { values };
        // Fields that are claimed and cannot be sent (of another protocol, or data of a helper without its name) are
        // not in the request; what would be recorded of them is different then, what would be sent is not.
        let unsaid = values & !read.flows.has[0] & !(field::TUPLES | field::ZONES | field::ID) != 0;
        match (ruling, self.judged(tenant, grants, shown, row)) {
            (Ok(one), Ok(other)) => {
                assert_eq!((&one.request, one.moves, one.makes), (&other.request, other.moves, other.makes));
                let sent = |approval: &Approval| {
                    let after = approval.after.as_ref()?;
                    let request = flows::create(FlowEntry::new(after, 0).unwrap(), flows::IfExists::Fail).unwrap();
                    let view = ScopeView { has: 0, ..ScopeView::of(after, 0) };
                    Some((request, format!("{view:x?}")))
                };
                assert!(unsaid || sent(one) == sent(&other), "{one:?} {other:?}");
            }
            _ if unsaid => {}
            // A proposal does not say which status the plugin was shown, so that status bits are compared with the
            // kernel's entry alone, after its scope.
            (Err(one), Err(_)) if one.reason == Reason::NotGranted && values & field::STATUS != 0 => {}
            (Err(one), Err(other)) => assert_eq!(one.reason.word(), other.reason.word(), "{self:?}"),
            (one, other) => panic!("{one:?} becomes {other:?}: {self:?}"),
        }
    }
}

/// The rulings are compared in [`Attempt::ruling`].
#[test]
fn random_proposals_are_judged_as_the_actions_that_they_encode() {
    let tenant = tenant("[[tenant.scope]]\neverything = true\ntranslated = \"act\"", KEYS, GRANTS);
    let grants: Vec<Grants> = [
        "delete,create,create.established,create.translated,update",
        "delete,create,create.established,create.translated,update",
        "delete,create,create.translated,update.mark=0xffff,update.timeout,update.labels,update.status=ASSURED",
        "create,create.established,update.state,update.helper",
    ]
    .iter()
    .map(|grants| grants.parse().unwrap())
    .collect();
    let mut random = Random::new(9);
    let mut next = || random.bits();
    let mut rows = Rows(&mut next);
    let (mut allowed, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let kind = [action::DELETE, action::UPDATE, action::CREATE, action::CREATE_OR_UPDATE][rows.below(4) as usize];
        let (family, number) = rows.kind();
        let (mut flow, mut values) = (rows.row(family, number, true), rows.row(family, number, true));
        // The kernel sends no fields of requests, nothing twice, and no name that is too long.
        flow.has[0] &= !(field::SOURCE_NAT | field::DESTINATION_NAT | field::MARK_MASK | field::LABELS_MASK);
        flow.has[0] &= !(field::ORIGINAL_SEQUENCE | field::REPLY_SEQUENCE | field::HELPER);
        // Most of it would be refused for one of many fields.
        if rows.below(4) != 0 {
            values.timeout = vec![60];
            values.has[0] &= !(field::MASTER | field::STATUS);
            values.has[0] &= [u64::MAX, !(field::SOURCE_NAT | field::DESTINATION_NAT)][rows.below(2) as usize];
            values.has[0] |= field::TIMEOUT;
        }
        let exists = kind != action::CREATE && rows.below(4) != 0;
        let existing = Ok(exists.then(|| Row(flow.clone())));
        let attempt = Attempt {
            kind,
            shown: (!matches!(kind, action::CREATE | action::CREATE_OR_UPDATE)).then_some(Row(flow)),
            values: Some(Row(values)),
            found: [existing, Ok(None)],
        };
        match attempt.ruling(&tenant, Some(&grants[rows.below(4) as usize])) {
            Ok(_) => allowed += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(allowed > 500 && refused > 500, "{allowed} allowed, {refused} refused");
}
