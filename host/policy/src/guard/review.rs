//! Handles the actions that a plugin requests in a call: each is judged, recorded, sent or refused, and settled.

use std::ops::Range;

use serde_json::Value;

use super::{
    MAX_LINE, MAX_REFUSAL_RECORDS, Open, TenantGuard,
    judge::{Approval, Authority, KernelEntry, Proposal},
    ledger::EntryKey,
    mark_changes::MarkChanges,
    name, over,
    reason::{Reason, Refusal},
    refused, requested,
};
use crate::{
    audit::{
        Line, Record, Stage,
        entry::{LabelNames, entry},
        share::Use,
    },
    scope::ScopeView,
};
use flowgate_base::clock::now;
use flowgate_model::{Flows, action, batch, result};
use flowgate_netlink::Request;
use flowgate_pipeline::{
    executor::{Guard, Judgement, Requester},
    outcome::Requests,
};
use flowgate_runtime::deadline::Watch;

/// Length of `struct nlmsghdr` and `struct nfgenmsg`, which precede the attributes of a request.
const HEADERS: usize = 20;

/// The decision about an action, and the places of its entry before and after.
struct JudgedAction {
    ruling: Result<Approval, Refusal>,
    before: Option<usize>,
    after: Option<usize>,
    /// The request that looks up its entry.
    lookup: Option<usize>,
}

/// The state of all actions of a call before anything is recorded.
struct ReviewedCall {
    decided: Vec<JudgedAction>,
    lookups: Vec<Request>,
    /// The entries before and after the actions.
    before: Vec<Value>,
    after: Vec<Value>,
}

/// The state of an action before it is judged.
enum Step<'a> {
    /// It is refused without a lookup; with the row that it names, where it is recorded.
    Refused(Refusal, Option<(&'a Flows, usize)>),
    /// It has these lookups.
    Asked(Box<Proposal<'a>>, usize, Option<usize>),
}

impl TenantGuard {
    /// Sorts the actions into those that are refused without a lookup, and those with lookups.
    fn steps<'a>(
        &mut self,
        watch: &mut Watch,
        authority: Authority<'_>,
        shown: &'a Flows,
        requests: &'a Requests<Flows>,
    ) -> (Vec<Step<'a>>, Vec<Request>) {
        let lists = &requests.actions;
        let asked = lists.kinds.len();
        let room = usize::try_from(self.rate.take(asked.min(self.in_flight as usize) as u64)).unwrap_or(usize::MAX);
        let mut lookups: Vec<Request> = Vec::new();
        let mut steps: Vec<Step<'_>> = Vec::new();
        let (mut recorded, mut made) = (0, 0);
        for (index, ((&kind, &row), &value)) in lists.kinds.iter().zip(&lists.rows).zip(&lists.values).enumerate() {
            if index as u64 >= self.in_flight || watch.check().is_err() {
                break;
            }
            let limit = match () {
                () if index >= room => Some(Reason::Rate),
                () if (self.superseded)() => Some(Reason::Superseded),
                () if (self.halted)() => Some(Reason::Paused),
                () => None,
            };
            if let Some(reason) = limit {
                steps.push(Step::Refused(over(reason), None));
                continue;
            }
            if let Some(refusal) = self.unproposed(index) {
                steps.push(Step::Refused(refusal, None));
                continue;
            }
            let values = (value != action::NO_ROW).then_some((&requests.values, value as usize));
            // A proposal names the flow in its only row. Which one the plugin was shown is not known.
            let target = match self.are_proposed {
                true => values,
                false => (row != action::NO_ROW).then_some((shown, row as usize)),
            };
            let proposal = Proposal::new(authority, kind, target, values).and_then(|proposal| {
                let proposal = Proposal { shown: proposal.shown && !self.are_proposed, ..proposal };
                let wanted = proposal.lookups()?;
                Ok((proposal, wanted))
            });
            steps.push(match proposal {
                Err(refusal) => {
                    recorded += 1;
                    let named = if case_makes(kind) { values.or(target) } else { target.or(values) };
                    Step::Refused(refusal, named.filter(|_| recorded <= MAX_REFUSAL_RECORDS))
                }
                Ok((proposal, (original, reply))) => {
                    let first = lookups.len();
                    lookups.push(original);
                    let second = reply.map(|reply| {
                        made += 1;
                        lookups.push(reply);
                        first + 1
                    });
                    Step::Asked(Box::new(proposal), first, second)
                }
            });
        }
        if made > 0 {
            self.look_up_created(made);
        }
        (steps, lookups)
    }

    /// Judges all actions of a call and formats their entries; returns `None` if the time is over before that is done.
    fn consider(
        &mut self,
        watch: &mut Watch,
        requester: Requester<'_>,
        shown: &Flows,
        requests: &Requests<Flows>,
    ) -> Option<ReviewedCall> {
        let (scope, bounds) = (self.scope.clone(), self.bounds.clone());
        let authority = Authority { scope: &scope, grants: requester.grants, bounds: &bounds };
        let (steps, lookups) = self.steps(watch, authority, shown, requests);
        let (found, places) = self.kernel.find(watch, &lookups);
        let (decided, after) = decided(watch, authority, &steps, &found, &places);
        drop(steps);
        let before = entries(watch, &found, &self.labels)?;
        let after = entries(watch, &after, &self.labels)?;
        // All that precedes stops when no time is left.
        watch.check().ok()?;
        Some(ReviewedCall { decided, lookups, before, after })
    }

    /// Refuses all actions of a call from this number on, since its time is over; `lines` has the lines so far.
    fn late(&mut self, plugin: &str, kinds: &[u8], decided: Range<usize>, mut lines: Vec<Line>) -> Vec<Judgement> {
        let refusal = over(Reason::Time);
        for Open { index, makes, .. } in std::mem::take(&mut self.open) {
            if let Some((name, _)) = makes {
                self.ledger.settle(&name, None);
            }
            self.count_refusal(plugin, kinds.get(index).copied().unwrap_or_default(), &refusal);
        }
        kinds.get(decided).unwrap_or_default().iter().for_each(|&kind| self.count_refusal(plugin, kind, &refusal));
        lines.retain(|line| line.record.stage == Stage::Refused);
        lines.extend(self.summary(false));
        // A failed write has been reported by the audit.
        let _ = self.audit.write(&lines);
        kinds.iter().map(|_| Judgement::Refuse(refusal.result, refusal.errno)).collect()
    }
}

/// Returns true if an action may create an entry.
fn case_makes(kind: u8) -> bool {
    matches!(kind, action::CREATE | action::CREATE_OR_UPDATE)
}

/// The record of an action would exceed [`MAX_LINE`].
fn unrendered() -> Refusal {
    Refusal { result: result::REFUSED, errno: libc::EIO as u32, reason: Reason::Unrendered }
}

/// Returns all rows as JSON, in their order; returns `None` if the time is over before that is done.
fn entries(watch: &mut Watch, flows: &Flows, labels: &LabelNames) -> Option<Vec<Value>> {
    let time = now();
    let format = |row: usize| watch.check().ok().map(|()| entry(flows, row, labels, time));
    (0..flows.length as usize).map(format).collect()
}

/// Returns the attributes of a request.
fn attributes(request: &Request) -> String {
    let bytes = request.as_bytes().get(HEADERS..).unwrap_or_default();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Guard<Flows> for TenantGuard {
    fn review(
        &mut self,
        watch: &mut Watch,
        requester: Requester<'_>,
        shown: &Flows,
        requests: &Requests<Flows>,
    ) -> Vec<Judgement> {
        let lists = &requests.actions;
        let considered = self.consider(watch, requester, shown, requests);
        // Entries of an earlier review whose results never arrived are looked up all the same.
        let left: Vec<(EntryKey, Request)> =
            std::mem::take(&mut self.open).into_iter().filter_map(|open| open.makes).collect();
        self.unsettled.extend(left);
        let Some(ReviewedCall { decided, lookups, before, after }) = considered else {
            return self.late(requester.plugin, &lists.kinds, 0..lists.kinds.len(), Vec::new());
        };
        let rest = over(Reason::InFlight);
        lists.kinds.iter().skip(decided.len()).for_each(|&kind| self.count_refusal(requester.plugin, kind, &rest));
        let mut lines = Vec::new();
        let mut recorded = 0;
        let mut judgements = Vec::with_capacity(lists.kinds.len());
        let count = decided.len();
        for (index, JudgedAction { ruling, before: old, after: new, lookup }) in decided.into_iter().enumerate() {
            if watch.check().is_err() {
                return self.late(requester.plugin, &lists.kinds, index..count, lines);
            }
            let kind = lists.kinds.get(index).copied().unwrap_or_default();
            let value = |list: &[Value], at: Option<usize>| at.and_then(|at| list.get(at).cloned());
            let (old, new) = (value(&before, old), value(&after, new));
            let with_flows = |record: Record| Record { before: old.clone(), after: new.clone(), ..record };
            let ruling = ruling.and_then(|ruling| {
                let makes = match (&ruling.after, lookup.and_then(|lookup| lookups.get(lookup))) {
                    (Some(made), Some(lookup)) if ruling.makes => Some((self.reserve(made, lookup)?, lookup.clone())),
                    _ => None,
                };
                let request = Some(attributes(&ruling.request));
                let line = self.audit.line(Record {
                    id: self.audit.number(),
                    request,
                    ..with_flows(self.record(requester.plugin, Stage::Intent, kind))
                });
                let refusal = if line.length() > MAX_LINE {
                    Some(unrendered())
                } else if !self.audit.shares().take(&self.tenant, line.length() as u64, Use::Intent) {
                    self.exhausted();
                    Some(over(Reason::AuditShare))
                } else {
                    None
                };
                if let (Some(_), Some((name, _))) = (&refusal, &makes) {
                    self.ledger.settle(name, None);
                }
                refusal.map_or(Ok((ruling.request, line, makes)), Err)
            });
            match ruling {
                Ok((request, line, makes)) => {
                    self.open.push(Open { index, record: line.record.clone(), makes });
                    lines.push(line);
                    judgements.push(Judgement::Send(request));
                }
                Err(refusal) => {
                    judgements.push(Judgement::Refuse(refusal.result, refusal.errno));
                    let one_by_one = !matches!(refusal.reason, Reason::InFlight | Reason::Rate | Reason::AuditShare);
                    if one_by_one && recorded < MAX_REFUSAL_RECORDS {
                        recorded += 1;
                        let record = with_flows(self.record(requester.plugin, Stage::Refused, kind));
                        let line = self.audit.line(Record { id: self.audit.number(), ..refused(record, &refusal) });
                        if line.length() <= MAX_LINE
                            && self.audit.shares().take(&self.tenant, line.length() as u64, Use::Refusal)
                        {
                            lines.push(line);
                            continue;
                        }
                    }
                    self.count_refusal(requester.plugin, kind, &refusal);
                }
            }
        }
        judgements.resize_with(lists.kinds.len(), || Judgement::Refuse(result::OVER_LIMIT, 0));
        lines.extend(self.summary(false));
        if self.audit.write(&lines).is_err() {
            // What cannot be recorded is not done. The audit itself warns the operator; the number of actions is
            // recorded as soon as that is possible again.
            let refusal = Refusal { result: result::REFUSED, errno: libc::EIO as u32, reason: Reason::Unrecorded };
            for Open { index, makes, .. } in std::mem::take(&mut self.open) {
                if let Some(judgement) = judgements.get_mut(index) {
                    *judgement = Judgement::Refuse(refusal.result, refusal.errno);
                }
                if let Some((name, _)) = makes {
                    self.ledger.settle(&name, None);
                }
                let kind = lists.kinds.get(index).copied().unwrap_or_default();
                self.count_refusal(requester.plugin, kind, &refusal);
            }
        }
        judgements
    }

    fn settled(&mut self, results: &[(u8, u32)]) {
        let open = std::mem::take(&mut self.open);
        let mut made = Vec::new();
        let mut records = Vec::with_capacity(open.len());
        for Open { index, record, makes } in open {
            let (result, errno) = results.get(index).copied().unwrap_or((result::REFUSED, 0));
            match makes {
                Some((name, _)) if result != result::DONE && errno == libc::EEXIST as u32 => {
                    self.ledger.settle(&name, None)
                }
                Some(makes) => made.push(makes),
                None => {}
            }
            records.push(Record {
                stage: Stage::Result,
                time: now(),
                before: None,
                after: None,
                request: None,
                result: name(result),
                errno: (errno != 0).then_some(errno),
                ..record
            });
        }
        // A result that cannot be written is missing, as after a crash; the intent is there.
        let _ = self.audit.write_results(&self.tenant, records);
        if !made.is_empty() {
            self.settle(made);
        }
    }
}

/// Returns the rulings with the entries before, and a table of the entries as they would be afterwards.
fn decided(
    watch: &mut Watch,
    authority: Authority<'_>,
    steps: &[Step<'_>],
    found: &Flows,
    places: &[Result<Option<usize>, i32>],
) -> (Vec<JudgedAction>, Flows) {
    let place = |index: Option<usize>| match index.and_then(|index| places.get(index)) {
        None => KernelEntry::NotQueried,
        Some(Ok(None)) => KernelEntry::Absent,
        Some(Ok(Some(row))) => KernelEntry::Present(found, *row),
        Some(Err(errno)) => KernelEntry::Unknown(*errno),
    };
    let row = |index: usize| places.get(index).and_then(|place| place.as_ref().ok().copied().flatten());
    let mut after = Flows::default();
    let mut later = |flows: &Flows| {
        batch::append(&mut after, flows);
        after.length as usize - 1
    };
    let mut moves = MarkChanges::default();
    let rulings = steps
        .iter()
        .take_while(|_| watch.check().is_ok())
        .map(|step| match step {
            Step::Refused(refusal, named) => {
                let after = named.map(|(flows, row)| later(&requested::recorded(flows, row)));
                JudgedAction { ruling: Err(refusal.clone()), before: None, after, lookup: None }
            }
            Step::Asked(proposal, original, reply) => {
                let mut ruling = proposal.judge(authority, place(Some(*original)), place(*reply));
                if let Some(row) = row(*original) {
                    ruling = ruling.and_then(|ruling| moves.note(authority.scope, ruling, &ScopeView::of(found, row)));
                }
                let after = match &ruling {
                    Ok(ruling) => ruling.after.as_ref().map(&mut later),
                    // The request, if there is no entry to show.
                    Err(_) if row(*original).is_none() => {
                        Some(later(&requested::recorded(proposal.named.0, proposal.named.1)))
                    }
                    Err(_) => None,
                };
                JudgedAction { ruling, before: row(*original), after, lookup: Some(*original) }
            }
        })
        .collect();
    (rulings, after)
}
