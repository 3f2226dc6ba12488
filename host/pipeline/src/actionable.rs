//! Actions on flows and on expectations, in the kernel's terms.

use super::{
    executor::{Actionable, Reduced},
    merge,
    table::Table as _,
};
use flowgate_model::grants::Grants;
use flowgate_model::{Expectations, Flows, action, field};
use flowgate_netlink::{
    Request,
    decode::{Arrival, FlowDecoder},
    encode::{
        EncodeError, ExpectationEntry, FlowEntry, expectations,
        flows::{self, IfExists},
    },
    message::Message,
};

/// A row that does not exist.
const NOWHERE: EncodeError = EncodeError::Row { row: usize::MAX, length: 0 };

fn flow((batch, row): (&Flows, usize)) -> Result<FlowEntry<'_>, EncodeError> {
    FlowEntry::new(batch, row)
}

fn expectation((batch, row): (&Expectations, usize)) -> Result<ExpectationEntry<'_>, EncodeError> {
    ExpectationEntry::new(batch, row)
}

impl Actionable for Flows {
    fn request(
        kind: u8,
        target: Option<(&Self, usize)>,
        values: Option<(&Self, usize)>,
    ) -> Result<Request, EncodeError> {
        let meant = target.or(values).map(flow).ok_or(NOWHERE)??;
        match kind {
            action::DELETE => flows::delete(meant),
            action::UPDATE => flows::update(meant, values.map(flow).ok_or(NOWHERE)??),
            _ => {
                let existing = if kind == action::CREATE { IfExists::Fail } else { IfExists::Update };
                flows::create(values.or(target).map(flow).ok_or(NOWHERE)??, existing)
            }
        }
    }

    fn granted(grants: &Grants, kind: u8, target: Option<(&Self, usize)>, values: Option<(&Self, usize)>) -> bool {
        grants.allow(kind, target, values)
    }

    fn reread(batch: &Self, row: usize) -> Result<Request, EncodeError> {
        flows::get(FlowEntry::new(batch, row)?)
    }

    fn passes_over(kind: u8, errno: i32, values: Option<(&Self, usize)>) -> bool {
        let labels =
            values.is_some_and(|(values, row)| values.has.get(row).is_some_and(|has| has & field::LABELS != 0));
        match (kind, errno) {
            (action::DELETE | action::UPDATE, libc::ENOENT) => true,
            // The entry is older than the first rule that uses labels, and has no room for any.
            (action::UPDATE, libc::ENOSPC) => labels,
            _ => false,
        }
    }

    fn whole(message: &Message<'_>) -> Option<Self> {
        let (mut decoder, mut one) = (FlowDecoder::new(field::ALL), Flows::default());
        one.push(&mut decoder, message, Arrival::Entry).ok()?;
        (one.length == 1).then_some(one)
    }

    fn merge(batch: &Self, row: usize, existing: &Self) -> Option<Reduced> {
        merge::merge(batch, row, existing)
    }

    fn without(batch: &Self, row: usize, errno: i32, orphans: bool) -> Option<Reduced> {
        merge::without(batch, row, errno, orphans)
    }

    fn left_out(batch: &Self, row: usize, errno: i32) -> Option<String> {
        merge::left_out(batch, row, errno)
    }
}

impl Actionable for Expectations {
    fn request(
        kind: u8,
        target: Option<(&Self, usize)>,
        values: Option<(&Self, usize)>,
    ) -> Result<Request, EncodeError> {
        match kind {
            action::DELETE => expectations::delete(target.or(values).map(expectation).ok_or(NOWHERE)??),
            _ => expectations::create(values.or(target).map(expectation).ok_or(NOWHERE)??, kind == action::CREATE),
        }
    }

    fn granted(grants: &Grants, kind: u8, _target: Option<(&Self, usize)>, _values: Option<(&Self, usize)>) -> bool {
        grants.allow_expectation(kind)
    }

    fn reread(batch: &Self, row: usize) -> Result<Request, EncodeError> {
        expectations::get(ExpectationEntry::new(batch, row)?)
    }

    fn passes_over(_kind: u8, _errno: i32, _values: Option<(&Self, usize)>) -> bool {
        false
    }
}
