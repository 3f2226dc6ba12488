//! Actions: what a signed plan says is done, once and on record.

use std::sync::PoisonError;

use super::{Inner, Records, without};
use crate::{
    bus::Bus,
    journal::JournalError,
    message::{Answer, State},
    plan::{self, Action, SignedPlan},
    table::{Table, TableError},
};

impl<B: Bus, T: Table> Inner<B, T> {
    /// Does what a plan says, if everything about it is right.
    pub(super) fn apply(&self, signed: &SignedPlan) -> Answer {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, refusals) = &mut *records;
        let now = plan::now();
        let mut refuse = |records: &mut Records, id: &str, reason: String| {
            if refusals.take(1) == 1
                && let Err(error) = records.audit.append("refused", id, &reason, Vec::new())
            {
                self.warnings.line(&error.to_string());
            }
            Answer::without(State::Refused, reason)
        };
        let (plan, share) = match signed.check(&self.identity.ring, &self.identity.id, now) {
            Ok(checked) => checked,
            Err(error) => return refuse(records, "", error.to_string()),
        };
        let pairs = signed.signatures.iter().map(|of| (of.key.as_str(), of.signature.as_str()));
        let signers: Vec<String> = self.identity.ring.valid(signed.plan.as_bytes(), pairs).into_iter().collect();
        let Action::Delete = plan.action;
        let touched = match self.table.plan_delete(&plan.words) {
            Ok(touched) => touched,
            Err(TableError::Refused(reason)) => return refuse(records, &plan.id, reason),
            Err(error) => return without(&error, false),
        };
        let most = plan.most(share.touched.count);
        if touched.count > most {
            let reason = format!(
                "there are {} such flows now, the plan has {}, and {most} with its allowance of {} %; plan again",
                touched.count, share.touched.count, plan.allowance
            );
            return refuse(records, &plan.id, reason);
        }
        match records.journal.begin(&plan.id, plan.expires, now) {
            Ok(()) => {}
            Err(seen @ JournalError::Seen(_)) => return refuse(records, &plan.id, seen.to_string()),
            Err(error) => return Answer::without(State::Failed, error.to_string()),
        }
        let intent = format!("delete {} flows: {}", touched.count, plan.words.join(" "));
        if let Err(error) = records.audit.append("intent", &plan.id, &intent, signers.clone()) {
            return Answer::without(State::Failed, error.to_string());
        }
        let result = self.table.delete(&plan.words);
        let outcome = match &result {
            Ok(count) => format!("{count} flows deleted"),
            Err(error) => format!("failed: {error}"),
        };
        let recorded = records.audit.append("result", &plan.id, &outcome, signers).map_err(|error| error.to_string());
        let recorded = recorded.and(records.journal.end(&plan.id, &outcome).map_err(|error| error.to_string()));
        let mut answer = match (result, recorded) {
            (Ok(_), Ok(())) => Answer::new(State::Answered),
            (Ok(_), Err(error)) => Answer::without(State::Partial, error),
            (Err(error), _) => return without(&error, true),
        };
        answer.head.flows = outcome.split(' ').next().and_then(|count| count.parse().ok());
        answer.head.touched = Some(touched);
        answer
    }
}
