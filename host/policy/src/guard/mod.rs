//! The guard of a tenant: decides about each action of its plugins, and has it recorded before and after.
//!
//! * `review` is what becomes of a call: `judge` has the rules for one action, `moves` one for several of a call; [`reason`] is why
//!   something is refused.
//! * [`ledger`] counts the entries that tenants have made.
//! * `lookup` asks the kernel, [`recorder`] writes flows for the audit.

mod asked;
mod judge;
pub mod ledger;
mod lookup;
mod moves;
pub mod reason;
pub mod recorder;
mod review;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ledger::{Full, Ledger, Name};
use lookup::Kernel;
use reason::{Reason, Refusal};
use recorder::Recorder;

use super::{
    audit::{Audit, Line, Record, Stage, share::Use},
    file::Tenant,
    scope::{Scope, Sight},
};
use flowgate_base::TokenBucket;
use flowgate_base::clock::now;
use flowgate_model::{Flows, grants::Updates, result};
use flowgate_netlink::{Namespace, Request};
use flowgate_pipeline::executor;
use flowgate_runtime::deadline::Watch;

/// Refusals of one call that are recorded one by one; of the others it is recorded how many there were.
const TOLD: usize = 64;
/// Between two lines that sum refusals up.
const BETWEEN: Duration = Duration::from_secs(1);
/// The longest line of the audit, in bytes. The kernel's own entries and requests are far shorter.
const LONGEST: usize = 64 << 10;
/// Entries that are looked up at once, to see which of those that were made are still there.
const LOOKED_UP: usize = 1024;
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Between two warnings that the tenant's share of the audit is used up.
const WARN: Duration = Duration::from_secs(60);

/// The guard of one tenant.
pub struct TenantGuard {
    tenant: String,
    /// Digests of the plugins, by name.
    digests: BTreeMap<String, String>,
    scope: Scope,
    bounds: Updates,
    generation: u64,
    in_flight: u64,
    rate: TokenBucket,
    /// While it says so, nothing is done.
    halted: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Once it says so, nothing is done any more.
    superseded: Arc<dyn Fn() -> bool + Send + Sync>,
    audit: Arc<Audit>,
    recorder: Recorder,
    kernel: Kernel,
    /// Entries that were made, how many of them the tenant may have, and all tenants in percent of what the table takes.
    ledger: Arc<Ledger>,
    entries: u64,
    table_share: u64,
    /// Entries of which it is not known yet whether they were made, and what looks them up.
    unsettled: Vec<(Name, Request)>,
    looked: Option<Instant>,
    warned: Option<Instant>,
    /// Intents of the last review.
    open: Vec<Open>,
    /// Refusals that are not recorded one by one, by their code: one of them, and how many there were.
    silent: BTreeMap<&'static str, (Record, u64)>,
    told: Option<Instant>,
}

/// An action that was allowed.
struct Open {
    /// Which one of the call.
    index: usize,
    record: Record,
    /// The entry that it makes, if it makes one, and what looks it up.
    makes: Option<(Name, Request)>,
}

fn over(reason: Reason) -> Refusal {
    Refusal { result: result::OVER_LIMIT, errno: 0, reason }
}

impl TenantGuard {
    /// The guard of a tenant in a network namespace (none: that of the process). `recorder` writes flows as JSON, one a line; while
    /// `halted` says so, nothing is done.
    #[must_use]
    pub fn new(
        tenant: &Tenant,
        generation: u64,
        namespace: Option<&Namespace>,
        audit: Arc<Audit>,
        recorder: Recorder,
        halted: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Self {
        TenantGuard {
            tenant: tenant.name.clone(),
            digests: tenant.plugins.iter().map(|guest| (tenant.title(guest), guest.digest.value.clone())).collect(),
            scope: tenant.scope.clone(),
            bounds: tenant.bounds.clone(),
            generation,
            in_flight: tenant.share.in_flight,
            rate: TokenBucket::per_second(tenant.share.actions),
            halted,
            superseded: Arc::new(|| false),
            audit,
            recorder,
            kernel: Kernel::new(namespace.cloned()),
            ledger: Arc::default(),
            entries: tenant.share.entries,
            table_share: 100,
            unsettled: Vec::new(),
            looked: None,
            warned: None,
            open: Vec::new(),
            silent: BTreeMap::new(),
            told: None,
        }
    }

    /// Counts entries that it makes together with those of other tenants, who may have so many percent of the table.
    #[must_use]
    pub fn counting(mut self, ledger: Arc<Ledger>, percent: u64) -> Self {
        (self.ledger, self.table_share) = (ledger, percent);
        self
    }

    /// Once `superseded` says that another generation has taken over, nothing is done any more: what this one was granted has ended.
    #[must_use]
    pub fn until(mut self, superseded: Arc<dyn Fn() -> bool + Send + Sync>) -> Self {
        self.superseded = superseded;
        self
    }

    /// Lines about the refusals that are not told one by one, if it is time to: whoever floods must not fill the audit.
    fn summary(&mut self, end: bool) -> Vec<Line> {
        if !end && self.told.is_some_and(|told| told.elapsed() < BETWEEN) {
            return Vec::new();
        }
        let silent = std::mem::take(&mut self.silent);
        if !silent.is_empty() {
            self.told = Some(Instant::now());
        }
        let mut lines = Vec::new();
        for (code, (record, count)) in silent {
            let (id, summed) = (self.audit.number(), Some(count));
            let line = self.audit.line(Record { id, count: summed, before: None, after: None, ..record.clone() });
            if self.audit.shares().take(&self.tenant, line.length() as u64, Use::Summary) {
                lines.push(line);
            } else {
                self.silent.insert(code, (record, count));
            }
        }
        lines
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

    /// Counts a refusal that is not recorded by itself.
    fn silence(&mut self, plugin: &str, kind: u8, refusal: &Refusal) {
        let code = refusal.reason.word();
        if let Some((_, count)) = self.silent.get_mut(code) {
            *count += 1;
        } else {
            let record = refused(self.record(plugin, Stage::Refused, kind), refusal);
            self.silent.insert(code, (record, 1));
        }
    }

    /// Looks up some of the entries that were made where there may be no more, in case that some of them are gone unnoticed.
    fn look(&mut self, wanted: u64) {
        let own = self.ledger.count(&self.tenant) + wanted > self.entries;
        let all = self.ledger.total() + wanted > self.most();
        if !(own || all) || self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return;
        }
        let samples = self.ledger.some(if own { Some(&self.tenant) } else { None }, LOOKED_UP);
        let lookups: Vec<Request> = samples.iter().map(|sample| sample.lookup.clone()).collect();
        let (found, places) = self.kernel.find(&mut Watch::unlimited(), &lookups);
        for (sample, place) in samples.iter().zip(places) {
            if let Ok(row) = place {
                self.ledger.looked_up(sample, row.and_then(|row| identity(&found, row)));
            }
        }
        self.looked = Some(Instant::now());
    }

    /// How many entries all tenants may have made.
    fn most(&mut self) -> u64 {
        match self.kernel.most() {
            u64::MAX => u64::MAX,
            most => most.saturating_mul(self.table_share) / 100,
        }
    }

    /// Counts an entry that is to be made, if it may be.
    fn reserve(&mut self, made: &Flows, lookup: &Request) -> Result<Name, Refusal> {
        let name = Name::of(&Sight::of(made, 0));
        let limits = (self.entries, self.most());
        self.ledger.reserve(&self.tenant, name, lookup, limits).map_err(|full| match full {
            Full::Own(count) => over(Reason::Entries(count)),
            Full::All(count) => over(Reason::TableShare(count)),
            Full::Busy => Refusal { result: result::REFUSED, errno: libc::EEXIST as u32, reason: Reason::Exists },
        })?;
        Ok(name)
    }

    /// Finds out which of these entries were made.
    fn settle(&mut self, made: Vec<(Name, Request)>) {
        self.unsettled.extend(made);
        let asked = std::mem::take(&mut self.unsettled);
        let lookups: Vec<Request> = asked.iter().map(|(_, lookup)| lookup.clone()).collect();
        let (found, places) = self.kernel.find(&mut Watch::unlimited(), &lookups);
        for ((name, lookup), place) in asked.into_iter().zip(places) {
            match place {
                Ok(row) => {
                    let id = row.and_then(|row| identity(&found, row)).filter(|(other, _)| *other == name);
                    self.ledger.settle(&name, id.map(|(_, id)| id));
                }
                Err(_) => self.unsettled.push((name, lookup)),
            }
        }
    }

    /// The share of the audit is used up.
    fn exhausted(&mut self) {
        if self.warned.is_none_or(|warned| warned.elapsed() >= WARN) {
            self.warned = Some(Instant::now());
            self.audit.exhausted(self.generation, &self.tenant);
        }
    }
}

/// What tells an entry of the kernel from others.
fn identity(found: &Flows, row: usize) -> Option<(Name, u32)> {
    Some((Name::of(&Sight::of(found, row)), *found.id.get(row)?))
}

/// A record of a refusal.
fn refused(record: Record, refusal: &Refusal) -> Record {
    Record {
        stage: Stage::Refused,
        reason: Some(refusal.reason.to_string()),
        code: Some(refusal.reason.word()),
        result: name(refusal.result),
        request: None,
        ..record
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
