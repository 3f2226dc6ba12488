//! The rules for a single action: they judge the kernel's entry as it is, and as it would be afterwards.
//!
//! Nothing here queries the kernel: its entry is an argument, so that each rule can be tested alone.

use super::{
    reason::{Reason, Refusal},
    requested::{asked, fits, mark, translated, updated},
};
use crate::scope::{Outside, Scope, ScopeView};
use flowgate_model::{
    Flows, action, at, field,
    grants::{Grants, Updates},
    protocol, result, status,
};
use flowgate_netlink::{
    EncodeError, FlowEntry, Request,
    encode::flows::{self, IfExists},
};

/// Original tuple, reply tuple.
const ORIGINAL: u64 = field::SOURCE
    | field::DESTINATION
    | field::PROTOCOL
    | field::SOURCE_L4
    | field::DESTINATION_L4
    | field::ORIGINAL_ZONE;
const REPLY: u64 = field::REPLY_ADDRESSES
    | field::REPLY_PROTOCOL
    | field::REPLY_SOURCE_L4
    | field::REPLY_DESTINATION_L4
    | field::REPLY_ZONE;
/// Status bits of a new flow's translation, which only the kernel sets.
const NAT_BITS: u32 =
    status::SRC_NAT | status::DST_NAT | status::SRC_NAT_DONE | status::DST_NAT_DONE | status::SEQ_ADJUST;
/// Fields that a new flow may have without a grant, if they only say that the flow begins: the protocol's first state,
/// and no status but CONFIRMED. Its translation is judged separately.
pub(super) const PLAIN: u64 =
    field::STATUS | field::STATE | field::TIMEOUT | field::SOURCE_NAT | field::DESTINATION_NAT;
/// Fields that it may have in addition with the grant `create.established`, as if packets had passed.
pub(super) const ESTABLISHED: u64 = field::ORIGINAL_TCP_FLAGS
    | field::REPLY_TCP_FLAGS
    | field::ORIGINAL_WINDOW_SCALE
    | field::REPLY_WINDOW_SCALE
    | field::ORIGINAL_VTAG
    | field::REPLY_VTAG
    | field::DCCP;

/// The kernel's entry for a tuple and zone.
#[derive(Clone, Copy, Debug)]
pub(super) enum KernelEntry<'a> {
    /// It was not queried.
    NotQueried,
    /// There is none.
    Absent,
    /// This entry.
    Present(&'a Flows, usize),
    /// The lookup failed: the error number.
    Unknown(i32),
}

/// An action to be judged.
#[derive(Debug)]
pub(super) struct Proposal<'a> {
    /// The kind: see [`action`].
    pub kind: u8,
    /// The row that names the flow.
    pub named: (&'a Flows, usize),
    /// True if the plugin was shown this row.
    pub shown: bool,
    /// The values to be set.
    pub values: Option<(&'a Flows, usize)>,
    /// For a flow that may be created: the flow as it would be, translated, as a table of one row.
    pub made: Option<Flows>,
}

/// An action that may be done.
#[derive(Debug)]
pub(super) struct Approval {
    /// The request to the kernel.
    pub request: Request,
    /// The entry afterwards, as a table of one row; `None` if it will be gone.
    pub after: Option<Flows>,
    /// Mark bits of an existing entry that may change.
    pub moves: u32,
    /// True if it creates the entry.
    pub makes: bool,
}

/// The tenant's authority, by which actions are judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Authority<'a> {
    /// The tenant's scope.
    pub scope: &'a Scope,
    /// The plugin's grants.
    pub grants: &'a Grants,
    /// The bounds of what the tenant may write.
    pub bounds: &'a Updates,
}

pub(super) fn has((flows, row): (&Flows, usize)) -> u64 {
    flows.has.get(row).copied().unwrap_or_default()
}

/// Returns true if a row names a flow: its original tuple is complete.
fn complete(row: (&Flows, usize), reply: bool) -> bool {
    let (has, number) = (has(row), row.0.protocol.get(row.1).copied().unwrap_or_default());
    let addresses = if reply {
        field::REPLY_ADDRESSES | field::REPLY_PROTOCOL
    } else {
        field::SOURCE | field::DESTINATION | field::PROTOCOL
    };
    let words = if reply {
        field::REPLY_SOURCE_L4 | field::REPLY_DESTINATION_L4
    } else {
        field::SOURCE_L4 | field::DESTINATION_L4
    };
    let l4 = protocol::is_icmp(number) || protocol::has_ports(number);
    let needed = addresses | if l4 { words } else { 0 };
    has & needed == needed
}

pub(super) fn invalid(reason: Reason) -> Refusal {
    Refusal { result: result::INVALID, errno: 0, reason }
}

fn encoded<T>(made: Result<T, EncodeError>) -> Result<T, Refusal> {
    made.map_err(|error| invalid(Reason::Unspeakable(error)))
}

impl<'a> Proposal<'a> {
    /// Returns an action to be judged.
    ///
    /// # Errors
    /// It is malformed, or not granted.
    pub(super) fn new(
        authority: Authority<'_>,
        kind: u8,
        target: Option<(&'a Flows, usize)>,
        values: Option<(&'a Flows, usize)>,
    ) -> Result<Self, Refusal> {
        let creates = matches!(kind, action::CREATE | action::CREATE_OR_UPDATE);
        if !authority.grants.allow(kind, target, values) {
            return Err(Refusal { result: result::NOT_GRANTED, errno: 0, reason: Reason::NotGranted });
        }
        let named = if creates { values.or(target) } else { target.or(values) };
        let named = named.ok_or_else(|| invalid(Reason::Nameless))?;
        if !complete(named, false) {
            return Err(invalid(Reason::Nameless));
        }
        let proposal = Proposal { kind, named, shown: target.is_some() && !creates, values, made: None };
        if !creates {
            return Ok(proposal);
        }
        if !complete(named, true) {
            return Err(invalid(Reason::Nameless));
        }
        if has(named) & field::MASTER != 0 {
            return Err(Refusal { result: result::OUTSIDE, errno: 0, reason: Reason::Master });
        }
        if !may_have(authority, named) {
            return Err(Refusal { result: result::NOT_GRANTED, errno: 0, reason: Reason::Bounds });
        }
        fits(named)?;
        Ok(Proposal { made: Some(translated(named)?), ..proposal })
    }

    /// Returns the lookups that are needed: the entry with the original tuple, and for a flow to be created also the
    /// one with the reply tuple.
    ///
    /// # Errors
    /// The request cannot be encoded.
    pub(super) fn lookups(&self) -> Result<(Request, Option<Request>), Refusal> {
        let entry = |(flows, row): (&Flows, usize), without: u64| {
            encoded(FlowEntry::new(flows, row).and_then(|entry| flows::get(entry.without(without))))
        };
        let original = entry(self.named, REPLY)?;
        let reply = self.made.as_ref().map(|made| entry((made, 0), ORIGINAL)).transpose()?;
        Ok((original, reply))
    }

    /// Judges an action.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn judge(
        &self,
        authority: Authority<'_>,
        original: KernelEntry<'_>,
        reply: KernelEntry<'_>,
    ) -> Result<Approval, Refusal> {
        match (self.kind, original) {
            (_, KernelEntry::Unknown(errno)) => Err(unknown(errno)),
            (action::CREATE, _) | (action::CREATE_OR_UPDATE, KernelEntry::Absent | KernelEntry::NotQueried) => {
                self.create(authority, [original, reply])
            }
            (_, KernelEntry::Absent | KernelEntry::NotQueried) => {
                Err(Refusal { result: result::GONE, errno: libc::ENOENT as u32, reason: Reason::Gone })
            }
            (_, KernelEntry::Present(flows, row)) => self.existing(authority, (flows, row)),
        }
    }

    /// Judges an action on an existing entry.
    fn existing(&self, authority: Authority<'_>, found: (&Flows, usize)) -> Result<Approval, Refusal> {
        // For a plugin that was not shown the flow, it does not exist.
        let hide = |reason: Reason| match self.shown {
            true => Refusal { result: result::OUTSIDE, errno: 0, reason },
            false => Refusal { result: result::GONE, errno: libc::ENOENT as u32, reason },
        };
        let view = ScopeView::of(found.0, found.1);
        authority.scope.may_act(&view).map_err(|outside| hide(outside.into()))?;
        // A flow may be named by its reply tuple, but not by a plugin that was shown its original direction.
        if self.shown && !same(found, self.named) {
            return Err(hide(Reason::ByReply));
        }
        if has(self.named) & field::ID != 0 && at(&found.0.id, found.1) != at(&self.named.0.id, self.named.1) {
            return Err(Refusal { result: result::GONE, errno: libc::ENOENT as u32, reason: Reason::Replaced });
        }
        let entry = encoded(FlowEntry::new(found.0, found.1))?;
        if self.kind == action::DELETE {
            return Ok(Approval { request: encoded(flows::delete(entry))?, after: None, moves: 0, makes: false });
        }
        let values = self.values.unwrap_or(self.named);
        // Status bits need no grant if the flow has them, according to the kernel; the row that the plugin was shown
        // may have been changed by another plugin of the tenant.
        if !authority.grants.allow(self.kind, Some(found), Some(values)) {
            return Err(Refusal { result: result::NOT_GRANTED, errno: 0, reason: Reason::NotGranted });
        }
        if has(values) & (field::SOURCE_NAT | field::DESTINATION_NAT) != 0 {
            return Err(Refusal { result: result::OUTSIDE, errno: 0, reason: Reason::Translation });
        }
        if has(values) & field::MASTER != 0 {
            return Err(Refusal { result: result::OUTSIDE, errno: 0, reason: Reason::Master });
        }
        fits(values)?;
        let after = updated(found, values);
        let kept = authority.scope.may_act(&ScopeView::of(&after, 0));
        kept.map_err(|_| Refusal { result: result::OUTSIDE, errno: 0, reason: Reason::WouldLeave })?;
        // Only the fields that identify the flow: the others are in the kernel already.
        let named = entry.without(!(ORIGINAL | field::ZONE));
        let set = encoded(FlowEntry::new(values.0, values.1))?;
        Ok(Approval {
            request: encoded(flows::update(named, set.without(ORIGINAL | REPLY)))?,
            after: Some(after),
            moves: mark(values).map_or(0, |(mark, mask)| mark | mask),
            makes: false,
        })
    }

    /// Judges the creation of a flow.
    fn create(&self, authority: Authority<'_>, found: [KernelEntry<'_>; 2]) -> Result<Approval, Refusal> {
        let Some(made) = &self.made else { return Err(invalid(Reason::Nameless)) };
        let outside = |reason: Reason| Refusal { result: result::OUTSIDE, errno: 0, reason };
        let view = ScopeView::of(made, 0);
        authority.scope.may_create(&view).map_err(|why| match why {
            Outside::Scope => outside(Reason::WouldBeOutside),
            Outside::Peer(_) => outside(why.into()),
        })?;
        if !authority.grants.translated {
            // If the translated tuple exists already, the kernel chooses another port.
            let asked = |bit: u64, end: &'static str| (has(self.named) & bit != 0).then_some(end);
            let end = view
                .not_reversed()
                .or_else(|| asked(field::SOURCE_NAT, "source"))
                .or_else(|| asked(field::DESTINATION_NAT, "destination"));
            if let Some(end) = end {
                return Err(outside(Reason::Reply(end)));
            }
        }
        for found in found {
            match found {
                KernelEntry::NotQueried | KernelEntry::Absent => {}
                KernelEntry::Unknown(errno) => return Err(unknown(errno)),
                KernelEntry::Present(flows, row) if authority.scope.contains(&ScopeView::of(flows, row)) => {
                    let errno = libc::EEXIST as u32;
                    return Err(Refusal { result: result::REFUSED, errno, reason: Reason::Exists });
                }
                KernelEntry::Present(..) => return Err(outside(Reason::Collision)),
            }
        }
        let (flows, row) = self.named;
        let request = flows::create(encoded(FlowEntry::new(flows, row))?, IfExists::Fail);
        Ok(Approval { request: encoded(request)?, after: Some(made.clone()), moves: 0, makes: true })
    }
}

fn unknown(errno: i32) -> Refusal {
    Refusal { result: result::REFUSED, errno: errno.unsigned_abs(), reason: Reason::Unknown(errno) }
}

/// Returns true if an entry is the named one, found by its original tuple.
fn same(found: (&Flows, usize), named: (&Flows, usize)) -> bool {
    let (one, two) = (ScopeView::of(found.0, found.1), ScopeView::of(named.0, named.1));
    let words = has(named) & (field::SOURCE_L4 | field::DESTINATION_L4) == 0 || one.ports == two.ports;
    (one.family, one.protocol, one.source, one.destination) == (two.family, two.protocol, two.source, two.destination)
        && one.zones.0 == two.zones.0
        && words
}

/// Checks the fields of a new flow.
fn may_have(authority: Authority<'_>, named: (&Flows, usize)) -> bool {
    let mut grants = authority.grants.clone();
    let any_state = grants.established || grants.update.fields & field::STATE != 0;
    grants.update.fields |= PLAIN;
    grants.update.status |= status::CONFIRMED;
    if grants.established {
        grants.update.fields |= ESTABLISHED;
        grants.update.status |= status::SEEN_REPLY | status::ASSURED;
    }
    grants.update.timeout = authority.bounds.timeout;
    let has = has(named);
    if has & field::MARK != 0 {
        let mark = at(&named.0.mark, named.1);
        if mark != 0 && (mark & !grants.update.mark != 0 || grants.update.fields & field::MARK == 0) {
            return false;
        }
    }
    if has & field::STATUS != 0 && at(&named.0.status, named.1) & NAT_BITS != 0 {
        return false;
    }
    let state = at(&named.0.state, named.1);
    if has & field::STATE != 0 && !any_state && !begins(at(&named.0.protocol, named.1), state) {
        return false;
    }
    // The mark itself has been checked: a new flow has no old mark that a mask would keep.
    let mut rest = asked(named.0, named.1);
    if let Some(bits) = rest.has.first_mut() {
        *bits &= !(field::MARK | field::MARK_MASK);
    }
    grants.allow(action::UPDATE, None, Some((&rest, 0)))
}

/// Returns true if a flow has this state before the first packet is answered.
fn begins(number: u8, state: u8) -> bool {
    match number {
        // NONE, SYN_SENT; NONE, CLOSED, COOKIE_WAIT; NONE, REQUEST.
        protocol::TCP | protocol::DCCP => state <= 1,
        protocol::SCTP => state <= 2,
        // Other protocols have no state that could be sent.
        _ => true,
    }
}
