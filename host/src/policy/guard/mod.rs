//! The guard of a tenant: decides about each action of its plugins, and has it recorded before and after.
//!
//! * `judge` has the rules for one action, `moves` one for several of a call; [`reason`] is why something is refused.

mod judge;
mod moves;
pub mod reason;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use judge::{Case, Found, Law, Ruling};
use moves::Moves;
use reason::{Reason, Refusal};

use super::{
    audit::{Audit, Record, Stage},
    file::Tenant,
    scope::{Scope, Sight},
};
use crate::{
    model::{Flows, action, field, result},
    netlink::{
        Batches, Fate, Namespace, Options, Request, Socket, SocketError,
        decode::{Arrival, FlowDecoder},
        message::Content,
    },
    pipeline::{
        batch,
        executor::{self, Asker, Guard, Judgement},
        format::Format,
        grants::Updates,
        meter::Meter,
        stage::Requests,
        table::{Table, now},
    },
};

/// Refusals of one call that are recorded one by one; of the others it is recorded how many there were.
const TOLD: usize = 64;
/// Between two lines that sum refusals up.
const BETWEEN: Duration = Duration::from_secs(1);

/// The guard of one tenant.
pub struct TenantGuard {
    tenant: String,
    /// Digests of the plugins, by name.
    digests: BTreeMap<String, String>,
    scope: Scope,
    bounds: Updates,
    generation: u64,
    in_flight: u64,
    rate: Meter,
    /// While it says so, nothing is done.
    halted: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The network namespace whose table it asks; none for that of the process.
    namespace: Option<Namespace>,
    audit: Arc<Audit>,
    /// Writes flows for the audit.
    format: Format,
    batches: Option<Batches>,
    decoder: FlowDecoder,
    /// Intents of the last review: which action, and its record.
    open: Vec<(usize, Record)>,
    /// Refusals that are not recorded one by one, by their code: one of them, and how many there were.
    silent: BTreeMap<&'static str, (Record, u64)>,
    told: Option<Instant>,
}

/// What was decided about an action, and where its entry before and after is.
type Decided = (Result<Ruling, Refusal>, Option<usize>, Option<usize>);

/// What is known of an action on its way to a judgement.
enum Step<'a> {
    Refused(Refusal),
    /// Which lookups belong to it.
    Asked(Box<Case<'a>>, usize, Option<usize>),
}

impl TenantGuard {
    /// The guard of a tenant. `format` writes flows as JSON, one a line.
    #[must_use]
    pub fn new(
        tenant: &Tenant,
        generation: u64,
        audit: Arc<Audit>,
        format: Format,
        halted: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Self {
        TenantGuard {
            tenant: tenant.name.clone(),
            digests: tenant.plugins.iter().map(|guest| (tenant.title(guest), guest.digest.value.clone())).collect(),
            scope: tenant.scope.clone(),
            bounds: tenant.bounds.clone(),
            generation,
            in_flight: tenant.share.in_flight,
            rate: Meter::new(tenant.share.actions),
            namespace: None,
            halted,
            audit,
            format,
            batches: None,
            decoder: FlowDecoder::new(field::ALL),
            open: Vec::new(),
            silent: BTreeMap::new(),
            told: None,
        }
    }

    /// Asks the table of this network namespace.
    #[must_use]
    pub fn within(mut self, namespace: Option<&Namespace>) -> Self {
        self.namespace = namespace.cloned();
        self
    }

    /// Records of the refusals that are not told one by one, if it is time to: whoever floods must not fill the audit.
    fn summary(&mut self, end: bool) -> Vec<Record> {
        if !end && self.told.is_some_and(|told| told.elapsed() < BETWEEN) {
            return Vec::new();
        }
        let silent = std::mem::take(&mut self.silent);
        if !silent.is_empty() {
            self.told = Some(Instant::now());
        }
        let summed = silent.into_values().map(|(record, count)| {
            let (id, count) = (self.audit.number(), Some(count));
            Record { id, count, before: None, after: None, ..record }
        });
        summed.collect()
    }

    fn record(&self, plugin: &str, stage: Stage, kind: u8) -> Record {
        Record {
            time: now(),
            stage,
            id: 0,
            tenant: self.tenant.clone(),
            plugin: plugin.into(),
            sha256: self.digests.get(plugin).cloned().unwrap_or_default(),
            generation: self.generation,
            action: executor::name(kind),
            ..Record::default()
        }
    }

    /// Asks the kernel for entries.
    fn find(&mut self, lookups: &[Request]) -> (Flows, Vec<Result<Option<usize>, i32>>) {
        let mut found = Flows::default();
        let mut places: Vec<Result<Option<usize>, i32>> = vec![Err(libc::EIO); lookups.len()];
        if lookups.is_empty() {
            return (found, places);
        }
        let opened = match self.batches.take() {
            Some(batches) => Ok(batches),
            None => open(self.namespace.as_ref()),
        };
        let mut batches = match opened {
            Ok(batches) => batches,
            Err(error) => {
                places.fill(Err(error.errno()));
                return (found, places);
            }
        };
        let mut rows: Vec<Option<usize>> = vec![None; lookups.len()];
        let mut fates = Vec::new();
        let decoder = &mut self.decoder;
        let sent = batches.exchange(lookups, &mut fates, &mut |index, message| {
            if !matches!(message.content(), Content::Netfilter(_)) {
                return;
            }
            let row = found.length as usize;
            if found.push(decoder, message, Arrival::Entry).is_ok()
                && found.length as usize > row
                && let Some(place) = rows.get_mut(index)
            {
                *place = Some(row);
            }
        });
        for (index, place) in places.iter_mut().enumerate() {
            *place = match (fates.get(index), rows.get(index).copied().flatten()) {
                (Some(Fate::Done), Some(row)) => Ok(Some(row)),
                (Some(Fate::Refused { errno: libc::ENOENT, .. }), _) => Ok(None),
                (Some(Fate::Refused { errno, .. }), _) => Err(*errno),
                _ => Err(sent.as_ref().err().map_or(libc::ENOBUFS, SocketError::errno)),
            };
        }
        if sent.is_ok() {
            self.batches = Some(batches);
        }
        (found, places)
    }

    /// Flows as JSON, in the order of these places; nothing where the format cannot.
    fn render(&mut self, flows: &mut Flows) -> Vec<serde_json::Value> {
        flows.stamp(now());
        let lines = flows.render(&mut self.format).unwrap_or_default();
        let lines = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap_or_default()).collect()
    }
}

/// A socket for lookups.
fn open(namespace: Option<&Namespace>) -> Result<Batches, SocketError> {
    let options = Options { receive_buffer: Some(2 << 20), ..Options::within(namespace) };
    Ok(Batches::new(Socket::open(&options)?))
}

impl Guard<Flows> for TenantGuard {
    fn review(&mut self, asker: Asker<'_>, shown: &Flows, requests: &Requests<Flows>) -> Vec<Judgement> {
        let lists = &requests.actions;
        let asked = lists.kinds.len();
        let (scope, bounds) = (self.scope.clone(), self.bounds.clone());
        let law = Law { scope: &scope, grants: asker.grants, bounds: &bounds };
        let room = usize::try_from(self.rate.take(asked.min(self.in_flight as usize) as u64)).unwrap_or(usize::MAX);
        let mut lookups: Vec<Request> = Vec::new();
        let mut steps: Vec<Step<'_>> = Vec::with_capacity(asked);
        for (index, ((&kind, &row), &value)) in lists.kinds.iter().zip(&lists.rows).zip(&lists.values).enumerate() {
            let over = |reason| Refusal { result: result::OVER_LIMIT, errno: 0, reason };
            if index as u64 >= self.in_flight {
                steps.push(Step::Refused(over(Reason::InFlight)));
                continue;
            }
            if index >= room {
                steps.push(Step::Refused(over(Reason::Rate)));
                continue;
            }
            if (self.halted)() {
                steps.push(Step::Refused(over(Reason::Paused)));
                continue;
            }
            let target = (row != action::NO_ROW).then_some((shown, row as usize));
            let values = (value != action::NO_ROW).then_some((&requests.values, value as usize));
            let case = Case::new(law, kind, target, values).and_then(|case| {
                let wanted = case.lookups()?;
                Ok((case, wanted))
            });
            steps.push(match case {
                Err(refusal) => Step::Refused(refusal),
                Ok((case, (original, reply))) => {
                    let first = lookups.len();
                    lookups.push(original);
                    let second = reply.map(|reply| {
                        lookups.push(reply);
                        first + 1
                    });
                    Step::Asked(Box::new(case), first, second)
                }
            });
        }
        let (mut found, places) = self.find(&lookups);
        let place = |index: Option<usize>| match index.and_then(|index| places.get(index)) {
            None => Found::Unasked,
            Some(Ok(None)) => Found::Nothing,
            Some(Ok(Some(row))) => Found::Entry(&found, *row),
            Some(Err(errno)) => Found::Unknown(*errno),
        };
        let row = |index: usize| places.get(index).and_then(|place| place.as_ref().ok().copied().flatten());
        // What is recorded: the rulings with the entry before, and where in `after` the entry afterwards is.
        let mut after = Flows::default();
        let mut rulings: Vec<Decided> = Vec::with_capacity(asked);
        let mut moves = Moves::default();
        for step in &steps {
            rulings.push(match step {
                Step::Refused(refusal) => (Err(refusal.clone()), None, None),
                Step::Asked(case, original, reply) => {
                    let mut ruling = case.judge(law, place(Some(*original)), place(*reply));
                    if let Some(row) = row(*original) {
                        ruling = ruling.and_then(|ruling| moves.note(&scope, ruling, &Sight::of(&found, row)));
                    }
                    let mut later = |flows: &Flows| {
                        batch::append(&mut after, flows);
                        after.length as usize - 1
                    };
                    let then = match &ruling {
                        Ok(ruling) => ruling.after.as_ref().map(&mut later),
                        // What was asked for, where there is no entry to show.
                        Err(_) if row(*original).is_none() => Some(later(&batch::pick(case.named.0, case.named.1))),
                        Err(_) => None,
                    };
                    (ruling, row(*original), then)
                }
            });
        }
        drop(steps);
        let before = self.render(&mut found);
        let after = self.render(&mut after);
        self.open.clear();
        let mut lines = Vec::new();
        let mut refused = 0;
        let mut judgements = Vec::with_capacity(asked);
        for (index, (ruling, old, new)) in rulings.into_iter().enumerate() {
            let kind = lists.kinds.get(index).copied().unwrap_or_default();
            let flow = |list: &[serde_json::Value], at: Option<usize>| at.and_then(|at| list.get(at).cloned());
            let stage = if ruling.is_ok() { Stage::Intent } else { Stage::Refused };
            let mut record = self.record(asker.plugin, stage, kind);
            (record.before, record.after) = (flow(&before, old), flow(&after, new));
            match ruling {
                Ok(ruling) => {
                    record.id = self.audit.number();
                    lines.push(record.clone());
                    self.open.push((index, record));
                    judgements.push(Judgement::Send(ruling.request));
                }
                Err(Refusal { result, errno, reason }) => {
                    record.reason = Some(reason.to_string());
                    record.code = Some(reason.word());
                    record.result = name(result);
                    refused += 1;
                    if refused <= TOLD && !matches!(reason, Reason::InFlight | Reason::Rate) {
                        record.id = self.audit.number();
                        lines.push(record);
                    } else {
                        self.silent.entry(reason.word()).or_insert((record, 0)).1 += 1;
                    }
                    judgements.push(Judgement::Refuse(result, errno));
                }
            }
        }
        lines.extend(self.summary(false));
        if self.audit.write(&lines).is_err() {
            // What cannot be recorded is not done. The audit itself tells the operator; how much it was is recorded as soon as
            // that can be done again.
            let reason = Reason::Unrecorded;
            for (index, mut record) in std::mem::take(&mut self.open) {
                if let Some(judgement) = judgements.get_mut(index) {
                    *judgement = Judgement::Refuse(result::REFUSED, libc::EIO as u32);
                }
                record.stage = Stage::Refused;
                (record.reason, record.code) = (Some(reason.to_string()), Some(reason.word()));
                record.result = name(result::REFUSED);
                self.silent.entry(reason.word()).or_insert((record, 0)).1 += 1;
            }
        }
        judgements
    }

    fn settled(&mut self, results: &[(u8, u32)]) {
        let mut lines = std::mem::take(&mut self.open);
        for (index, record) in &mut lines {
            let (result, errno) = results.get(*index).copied().unwrap_or((result::REFUSED, 0));
            record.stage = Stage::Result;
            record.time = now();
            (record.before, record.after) = (None, None);
            record.result = name(result);
            record.errno = (errno != 0).then_some(errno);
        }
        let lines: Vec<Record> = lines.into_iter().map(|(_, record)| record).collect();
        // A result that cannot be written is missing, as after a crash; the intent is there.
        let _ = self.audit.write(&lines);
    }
}

impl Drop for TenantGuard {
    fn drop(&mut self) {
        let lines = self.summary(true);
        // What cannot be written has been told.
        let _ = self.audit.write(&lines);
    }
}

/// A result in words.
fn name(result: u8) -> Option<&'static str> {
    result::NAMES.get(usize::from(result)).copied()
}
