//! Actions: what a signed plan says is done, once and on record.

use std::sync::PoisonError;

use super::{Inner, Records, without};
use crate::{
    audit::{Record, Stage},
    bus::Bus,
    journal::JournalError,
    message::{Answer, State},
    plan::{self, Plan, SignedPlan},
    table::{Table, TableError},
};

/// How a plan came to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Somebody asks for it, and awaits the answer.
    Asked,
    /// It was left for the agent while it was absent.
    Later,
}

/// A plan that was signed by enough operators.
struct Checked {
    plan: Plan,
    signers: Vec<String>,
    way: Way,
}

impl Checked {
    fn record(&self, stage: Stage) -> Record {
        Record {
            stage,
            plan: self.plan.id.clone(),
            action: self.plan.action.word().into(),
            later: self.way == Way::Later,
            signers: self.signers.clone(),
            ..Record::default()
        }
    }
}

impl<B: Bus, T: Table> Inner<B, T> {
    /// Does what a plan says, if everything about it is right.
    pub(super) fn apply(&self, signed: &SignedPlan, way: Way) -> Answer {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, refusals) = &mut *records;
        let now = plan::now();
        let mut refuse = |records: &mut Records, record: Record, code: &str, reason: String| {
            if refusals.take(1) == 1 {
                let record = Record { code: code.into(), reason: reason.clone(), ..record };
                if let Err(error) = records.audit.append(record) {
                    self.warnings.line(&error.to_string());
                }
            }
            Answer::without(State::Refused, reason)
        };
        let (plan, share) = match signed.check(&self.identity.ring, &self.identity.id, now) {
            Ok(checked) => checked,
            Err(error) => {
                let record = Record { stage: Stage::Refused, later: way == Way::Later, ..Record::default() };
                return refuse(records, record, error.code(), error.to_string());
            }
        };
        let pairs = signed.signatures.iter().map(|of| (of.key.as_str(), of.signature.as_str()));
        let signers = self.identity.ring.valid(signed.plan.as_bytes(), pairs).into_iter().collect();
        let checked = Checked { plan, signers, way };
        let plan = &checked.plan;
        let mut refuse = |records: &mut Records, code: &str, reason: String| {
            // Nobody asks again for what was left for the agent, so that it is decided once.
            if way == Way::Later
                && let Err(error) = records.journal.refuse(&plan.id, plan.expires, now)
            {
                self.warnings.line(&error.to_string());
            }
            refuse(records, checked.record(Stage::Refused), code, reason)
        };
        if way == Way::Later {
            if records.journal.knows(&plan.id) {
                return Answer::without(State::Refused, "it has been decided");
            }
            if !plan.absent_later {
                let reason = "the plan is for agents that are connected when it is applied, and this one was not";
                return refuse(records, "absent", reason.into());
            }
        }
        // Before anything is counted: who sends it again and again has no work done.
        if let Err(seen) = records.journal.check(&plan.id) {
            return refuse(records, "replayed", seen.to_string());
        }
        let touched = match self.table.plan(plan.action, &plan.words) {
            Ok(touched) => touched,
            Err(TableError::Refused(reason)) => return refuse(records, "words", reason),
            Err(error) => return without(&error, false),
        };
        let most = plan.most(share.touched.count);
        if touched.count > most {
            let reason = format!(
                "there are {} such flows now, the plan has {}, and {most} with its allowance of {} %; plan again",
                touched.count, share.touched.count, plan.allowance
            );
            return refuse(records, "too-many", reason);
        }
        match records.journal.begin(&plan.id, plan.expires, now) {
            Ok(()) => {}
            Err(seen @ JournalError::Seen(_)) => return refuse(records, "replayed", seen.to_string()),
            Err(error) => return Answer::without(State::Failed, error.to_string()),
        }
        let words = plan.words.join(" ");
        let intent = Record { count: Some(touched.count), reason: words, ..checked.record(Stage::Intent) };
        if let Err(error) = records.audit.append(intent) {
            return Answer::without(State::Failed, error.to_string());
        }
        let result = self.table.act(plan.action, &plan.words);
        let record = checked.record(Stage::Result);
        let (record, outcome) = match &result {
            Ok(count) => {
                let outcome = format!("{count} flows {}", plan.action.done());
                (Record { count: Some(*count), result: "done".into(), ..record }, outcome)
            }
            Err(error) => {
                let outcome = format!("failed: {error}");
                (Record { result: "failed".into(), reason: error.to_string(), ..record }, outcome)
            }
        };
        let recorded = records.audit.append(record).map_err(|error| error.to_string());
        let recorded = recorded.and(records.journal.end(&plan.id, &outcome).map_err(|error| error.to_string()));
        let mut answer = match (&result, recorded) {
            (Ok(_), Ok(())) => Answer::new(State::Answered),
            (Ok(_), Err(error)) => Answer::without(State::Partial, error),
            (Err(error), _) => return without(error, true),
        };
        answer.head.flows = result.ok();
        answer.head.touched = Some(touched);
        answer
    }
}
