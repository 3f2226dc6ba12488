//! The guard of a tenant: it decides about each action of the tenant's plugins, and records it before and after.
//!
//! * `review` handles the actions of a call: `judge` has the rules for a single action, `mark_changes` a rule for
//!   several of a call; [`reason`] has the reasons for refusals.
//! * [`ledger`] counts the entries that tenants have created.
//! * `lookup` queries the kernel.

mod judge;
pub mod ledger;
mod lookup;
mod mark_changes;
pub mod reason;
mod requested;
mod review;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ledger::{EntryKey, Full, Ledger};
use lookup::Kernel;
use reason::{Reason, Refusal};

use super::{
    audit::{Audit, Line, Record, Stage, entry::LabelNames, share::Use},
    file::Tenant,
    scope::{Scope, ScopeView},
};
use flowgate_base::TokenBucket;
use flowgate_base::clock::now;
use flowgate_model::{Flows, Label, grants::Updates, result};
use flowgate_netlink::{Namespace, Request};
use flowgate_pipeline::executor;
use flowgate_runtime::deadline::Watch;

/// Number of refusals of a call that are recorded one by one; of the others only the number is recorded.
const MAX_REFUSAL_RECORDS: usize = 64;
/// Minimum interval between two lines that sum up refusals.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum length of a line of the audit in bytes. Entries and requests of the kernel are far shorter.
const MAX_LINE: usize = 64 << 10;
/// Number of created entries that are looked up at once, to see which still exist.
const LOOKUPS: usize = 1024;
/// Minimum interval between two such lookups.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum interval between two warnings that the tenant's share of the audit is used up.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Why an action names nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unproposed {
    /// The plugin was not granted it.
    NotGranted,
    /// It could not be proposed as a request, or the request not be read.
    Other(String),
}

/// Actions of a call that name nothing, by their index in the call.
pub type UnproposedActions = Arc<Mutex<BTreeMap<usize, Unproposed>>>;

/// The guard of one tenant.
pub struct TenantGuard {
    tenant: String,
    /// Digests of the plugins by name.
    digests: BTreeMap<String, String>,
    scope: Scope,
    bounds: Updates,
    generation: u64,
    in_flight: u64,
    rate: TokenBucket,
    /// While it returns true, no action is performed.
    halted: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Once it returns true, no action is performed any more.
    superseded: Arc<dyn Fn() -> bool + Send + Sync>,
    audit: Arc<Audit>,
    labels: LabelNames,
    kernel: Kernel,
    /// The created entries, the tenant's limit, and that of all tenants in percent of the table's capacity.
    ledger: Arc<Ledger>,
    entries: u64,
    table_share: u64,
    /// Entries whose creation is not confirmed yet, with the requests that look them up.
    unsettled: Vec<(EntryKey, Request)>,
    last_lookup: Option<Instant>,
    last_warning: Option<Instant>,
    /// Intents of the last review.
    open: Vec<Open>,
    /// Refusals that are not recorded one by one, by code: one of them, and their number.
    unrecorded: BTreeMap<&'static str, (Record, u64)>,
    last_summary: Option<Instant>,
    /// True if actions are proposed by another process.
    are_proposed: bool,
    unproposed: UnproposedActions,
}

/// An action that was allowed.
struct Open {
    /// Its index in the call.
    index: usize,
    record: Record,
    /// The entry that it creates, if it does, and the request that looks it up.
    makes: Option<(EntryKey, Request)>,
}

fn over(reason: Reason) -> Refusal {
    Refusal { result: result::OVER_LIMIT, errno: 0, reason }
}

impl TenantGuard {
    /// Returns the guard of a tenant in a network namespace (`None` is that of the process). `labels` are the names of
    /// labels in the audit; while `halted` returns true, no action is performed.
    #[must_use]
    pub fn new(
        tenant: &Tenant,
        generation: u64,
        namespace: Option<&Namespace>,
        audit: Arc<Audit>,
        labels: &[Label],
        halted: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Self {
        TenantGuard {
            tenant: tenant.name.clone(),
            digests: tenant.plugins.iter().map(|plugin| (tenant.title(plugin), plugin.digest.value.clone())).collect(),
            scope: tenant.scope.clone(),
            bounds: tenant.bounds.clone(),
            generation,
            in_flight: tenant.limits.in_flight,
            rate: TokenBucket::per_second(tenant.limits.actions),
            halted,
            superseded: Arc::new(|| false),
            audit,
            labels: LabelNames::new(labels),
            kernel: Kernel::new(namespace.cloned()),
            ledger: Arc::default(),
            entries: tenant.limits.entries,
            table_share: 100,
            unsettled: Vec::new(),
            last_lookup: None,
            last_warning: None,
            open: Vec::new(),
            unrecorded: BTreeMap::new(),
            last_summary: None,
            are_proposed: false,
            unproposed: UnproposedActions::default(),
        }
    }

    /// Judges actions that another process proposes: each has one row of values, which also names its flow.
    /// `unproposed` says why some have none.
    #[must_use]
    pub fn of_proposals(mut self, unproposed: UnproposedActions) -> Self {
        (self.are_proposed, self.unproposed) = (true, unproposed);
        self
    }

    /// Counts created entries in a ledger shared with other tenants, which may have this percentage of the table.
    #[must_use]
    pub fn counting(mut self, ledger: Arc<Ledger>, percent: u64) -> Self {
        (self.ledger, self.table_share) = (ledger, percent);
        self
    }

    /// Once `superseded` returns true, another generation has taken over and no action is performed any more.
    #[must_use]
    pub fn until(mut self, superseded: Arc<dyn Fn() -> bool + Send + Sync>) -> Self {
        self.superseded = superseded;
        self
    }

    /// Returns the refusal of an action that could not be proposed.
    fn unproposed(&self, index: usize) -> Option<Refusal> {
        let reason = self.unproposed.lock().unwrap_or_else(PoisonError::into_inner).get(&index).cloned()?;
        Some(match reason {
            Unproposed::NotGranted => Refusal { result: result::NOT_GRANTED, errno: 0, reason: Reason::NotGranted },
            Unproposed::Other(reason) => {
                Refusal { result: result::INVALID, errno: 0, reason: Reason::Unproposed(reason) }
            }
        })
    }

    /// Returns the lines that sum up refusals, if they are due: a flood must not fill the audit.
    fn summary(&mut self, end: bool) -> Vec<Line> {
        if !end && self.last_summary.is_some_and(|last| last.elapsed() < SUMMARY_INTERVAL) {
            return Vec::new();
        }
        let unrecorded = std::mem::take(&mut self.unrecorded);
        if !unrecorded.is_empty() {
            self.last_summary = Some(Instant::now());
        }
        let mut lines = Vec::new();
        for (code, (record, count)) in unrecorded {
            let (id, summed) = (self.audit.number(), Some(count));
            let line = self.audit.line(Record { id, count: summed, before: None, after: None, ..record.clone() });
            if self.audit.shares().take(&self.tenant, line.length() as u64, Use::Summary) {
                lines.push(line);
            } else {
                self.unrecorded.insert(code, (record, count));
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

    /// Counts a refusal that gets no line of its own.
    fn count_refusal(&mut self, plugin: &str, kind: u8, refusal: &Refusal) {
        let code = refusal.reason.word();
        if let Some((_, count)) = self.unrecorded.get_mut(code) {
            *count += 1;
        } else {
            let record = refused(self.record(plugin, Stage::Refused, kind), refusal);
            self.unrecorded.insert(code, (record, 1));
        }
    }

    /// Looks up some of the created entries when a limit is reached, since the end of some may have been missed.
    fn look_up_created(&mut self, wanted: u64) {
        let own = self.ledger.count(&self.tenant) + wanted > self.entries;
        let all = self.ledger.total() + wanted > self.most();
        if !(own || all) || self.last_lookup.is_some_and(|last| last.elapsed() < LOOKUP_INTERVAL) {
            return;
        }
        let samples = self.ledger.some(if own { Some(&self.tenant) } else { None }, LOOKUPS);
        let lookups: Vec<Request> = samples.iter().map(|sample| sample.lookup.clone()).collect();
        let (found, places) = self.kernel.find(&mut Watch::unlimited(), &lookups);
        for (sample, place) in samples.iter().zip(places) {
            if let Ok(row) = place {
                self.ledger.looked_up(sample, row.and_then(|row| identity(&found, row)));
            }
        }
        self.last_lookup = Some(Instant::now());
    }

    /// Returns the limit on the entries of all tenants.
    fn most(&mut self) -> u64 {
        match self.kernel.most() {
            u64::MAX => u64::MAX,
            most => most.saturating_mul(self.table_share) / 100,
        }
    }

    /// Counts an entry to be created, if the limits allow it.
    fn reserve(&mut self, made: &Flows, lookup: &Request) -> Result<EntryKey, Refusal> {
        let name = EntryKey::of(&ScopeView::of(made, 0));
        let limits = (self.entries, self.most());
        self.ledger.reserve(&self.tenant, name, lookup, limits).map_err(|full| match full {
            Full::Own(count) => over(Reason::Entries(count)),
            Full::All(count) => over(Reason::TableShare(count)),
            Full::Busy => Refusal { result: result::REFUSED, errno: libc::EEXIST as u32, reason: Reason::Exists },
        })?;
        Ok(name)
    }

    /// Finds out which of these entries have been created.
    fn settle(&mut self, made: Vec<(EntryKey, Request)>) {
        self.unsettled.extend(made);
        let pending = std::mem::take(&mut self.unsettled);
        let lookups: Vec<Request> = pending.iter().map(|(_, lookup)| lookup.clone()).collect();
        let (found, places) = self.kernel.find(&mut Watch::unlimited(), &lookups);
        for ((name, lookup), place) in pending.into_iter().zip(places) {
            match place {
                Ok(row) => {
                    let id = row.and_then(|row| identity(&found, row)).filter(|(other, _)| *other == name);
                    self.ledger.settle(&name, id.map(|(_, id)| id));
                }
                Err(_) => self.unsettled.push((name, lookup)),
            }
        }
    }

    /// Handles a share of the audit that is used up.
    fn exhausted(&mut self) {
        if self.last_warning.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL) {
            self.last_warning = Some(Instant::now());
            self.audit.exhausted(self.generation, &self.tenant);
        }
    }
}

/// Returns the key of an entry of the kernel.
fn identity(found: &Flows, row: usize) -> Option<(EntryKey, u32)> {
    Some((EntryKey::of(&ScopeView::of(found, row)), *found.id.get(row)?))
}

/// Returns the record of a refusal.
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
        // A failed write has been reported.
        let _ = self.audit.write(&lines);
    }
}

/// Returns the name of a result.
fn name(result: u8) -> Option<&'static str> {
    result::NAMES.get(usize::from(result)).copied()
}
