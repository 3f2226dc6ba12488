//! The executor: the only place with authority over the kernel's table.
//!
//! Stages request actions, and the executor decides: an action without a grant is refused and counted, with one
//! warning. All others are sent to the kernel in batches, and each answer is matched to its row. In a dry run nothing
//! is sent, and the actions are printed.
//!
//! `encode` encodes, `send` sends and interprets answers, `existing` handles entries that cannot be created as
//! requested, `reread` reads entries again, `plan` is a dry run, and `guard` asks a [`Guard`] instead of grants.

mod delegate;
mod encode;
mod existing;
mod guard;
mod plan;
mod reread;
mod send;

use std::collections::BTreeSet;

pub use delegate::Delegate;
pub use guard::{Guard, Judgement};
pub use plan::Plan;

use crate::{
    entries::Entries,
    outcome::{ActionResults, Requests},
};
use flowgate_base::Warnings;
use flowgate_model::{action, batch, bounds, grants::Grants, result};
use flowgate_netlink::{BatchSender, Namespace};
use flowgate_runtime::{PluginError, deadline::Watch};

/// The stage that requests actions.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// The plugin's name.
    pub plugin: &'a str,
    /// Its grants.
    pub grants: &'a Grants,
    /// True if it is the command itself: the rows it acted on are shown, and a refusal by the kernel ends the run.
    pub strict: bool,
}

/// The rows that a pipeline shows after actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// All rows, as they were received.
    Entries,
    /// Rows whose action was performed, as they were received.
    Acted,
    /// Rows whose action was performed, as they are now in the kernel.
    Reread,
}

/// The reason for which the executor stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorError {
    /// The kernel refused an action: a positive error number as in `errno(3)`.
    #[error("{}{}", flowgate_base::io_error::errno_text(*errno), flowgate_base::text::in_brackets(text.as_deref()))]
    Refused {
        /// The error number.
        errno: i32,
        /// The kernel's explanation.
        text: Option<String>,
    },
}

impl ExecutorError {
    /// Returns the error number, as in `errno(3)`.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            ExecutorError::Refused { errno, .. } => *errno,
        }
    }
}

/// Performs the granted actions. A socket is opened when it is first needed.
pub struct Executor<T: Entries> {
    shows: Shows,
    /// True if requests are sent one at a time, and none after a refusal.
    one_by_one: bool,
    /// True if refused actions of the command are recorded instead of ending the run.
    keeps_refusals: bool,
    /// The refusals, with their rows.
    refusals_by_row: Vec<(usize, ExecutorError)>,
    /// True if existing entries get the values that can still be changed.
    merging: bool,
    /// True if entries are also created without their master.
    orphans: bool,
    /// The omitted values, with their rows.
    kept: Vec<(usize, String)>,
    /// Number of changed entries that existed, if creations are merged.
    changed: u64,
    /// True if stages other than the command may act.
    guarded: bool,
    /// Decides about the actions of these stages, instead of their grants alone.
    guard: Option<Box<dyn Guard<T>>>,
    /// Performs the actions of these stages elsewhere.
    delegate: Option<Box<dyn Delegate<T>>>,
    decoder: T::Decoder,
    batches: Option<BatchSender>,
    /// True if nothing is sent.
    dry: bool,
    plan: Option<Plan<T>>,
    /// The network namespace whose table it acts on; `None` for the namespace of the process.
    namespace: Option<Namespace>,
    failure: Option<ExecutorError>,
    done: u64,
    refused: u64,
    warned: BTreeSet<(String, String)>,
    warnings: Warnings,
}

/// An action whose request is sent.
struct Sent {
    /// Its index among the requested actions.
    index: usize,
    kind: u8,
    row: Option<usize>,
    value: Option<usize>,
}

impl<T: Entries> Executor<T> {
    /// Returns an executor without grants; `decoder` decodes rows that are read again.
    #[must_use]
    pub fn new(shows: Shows, decoder: T::Decoder) -> Self {
        Executor {
            shows,
            one_by_one: false,
            keeps_refusals: false,
            refusals_by_row: Vec::new(),
            merging: false,
            orphans: false,
            kept: Vec::new(),
            changed: 0,
            guarded: false,
            guard: None,
            delegate: None,
            decoder,
            batches: None,
            dry: false,
            plan: None,
            namespace: None,
            failure: None,
            done: 0,
            refused: 0,
            warned: BTreeSet::new(),
            warnings: Warnings::ignored(),
        }
    }

    /// Sends one request at a time, and none after a refusal.
    #[must_use]
    pub fn one_by_one(mut self) -> Self {
        self.one_by_one = true;
        self
    }

    /// Records refused actions of the command, and performs the others.
    #[must_use]
    pub fn keeping_refusals(mut self) -> Self {
        self.keeps_refusals = true;
        self
    }

    /// Returns the rows whose action was refused since the last call, with the reasons.
    pub fn take_refusals(&mut self) -> Vec<(usize, ExecutorError)> {
        std::mem::take(&mut self.refusals_by_row)
    }

    /// Lets plugins from files act.
    #[must_use]
    pub fn guarded(mut self) -> Self {
        self.guarded = true;
        self
    }

    /// Sets what receives warnings; without it they are dropped.
    #[must_use]
    pub fn with_warnings(mut self, warnings: Warnings) -> Self {
        self.warnings = warnings;
        self
    }

    /// Acts on the table of this network namespace.
    #[must_use]
    pub fn within(mut self, namespace: Option<&Namespace>) -> Self {
        self.namespace = namespace.cloned();
        self
    }

    /// Sends nothing, and prints the actions instead.
    #[must_use]
    pub fn dry(mut self, plan: Plan<T>) -> Self {
        (self.dry, self.plan) = (true, Some(plan));
        self
    }

    /// Sends nothing from now on, because the entries are not those of the kernel's current table.
    pub fn detach(&mut self) {
        self.dry = true;
    }

    /// Returns the number of actions that were performed, or printed in a dry run.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Returns the number of actions that were refused for want of a grant.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Returns the reason for which the run must end; `None` if it continues.
    pub fn take_failure(&mut self) -> Option<ExecutorError> {
        self.failure.take()
    }

    /// Returns the output of a dry run since the last call.
    ///
    /// # Errors
    /// [`PluginError`] if the plugin that renders it failed.
    pub fn take_printed(&mut self) -> Result<Vec<u8>, PluginError> {
        self.plan.as_mut().map_or(Ok(Vec::new()), Plan::take)
    }

    /// Returns true if any stage may act on the shown rows, so that their identity must not be changed.
    #[must_use]
    pub fn acts(&self) -> bool {
        self.shows != Shows::Entries || self.guarded
    }

    /// Passes on a warning.
    pub fn warn(&self, warning: &str) {
        self.warnings.line(warning);
    }

    /// Passes on a warning, the first time that it concerns this plugin and this matter.
    pub fn warn_once(&mut self, plugin: &str, matter: &str, warning: &str) {
        if self.warned.insert((plugin.to_string(), matter.to_string())) {
            self.warnings.line(warning);
        }
    }

    /// Returns the fields of the shown rows that must not be changed: an entry that a stage acts on must be identified
    /// as the kernel described it.
    #[must_use]
    pub fn fixed(&self) -> u64 {
        if self.acts() { batch::IDENTITY } else { 0 }
    }

    /// Performs the actions that a stage requests.
    pub fn perform(&mut self, requester: Requester<'_>, batch: &T, requests: &Requests<T>) -> ActionResults<T> {
        self.perform_within(&mut Watch::unlimited(), requester, batch, requests)
    }

    /// Performs the actions that a stage requests, as long as there is time; the remaining ones are refused
    /// ([`result::OVER_LIMIT`]). Under a guard all of them are refused then, because it records the allowed actions
    /// before any of them is sent.
    pub fn perform_within(
        &mut self,
        watch: &mut Watch,
        requester: Requester<'_>,
        batch: &T,
        requests: &Requests<T>,
    ) -> ActionResults<T> {
        if !requester.strict
            && let Some(delegate) = &mut self.delegate
        {
            let mut results = delegate.perform(watch, requester, batch, requests);
            results.resize(requests.actions.kinds.len(), (result::REFUSED, libc::EIO as u32));
            for &(result, _) in &results {
                match result {
                    result::DONE => self.done += 1,
                    _ => self.refused += 1,
                }
            }
            return ActionResults { results, ..ActionResults::default() };
        }
        if !requester.strict
            && let Some(mut guard) = self.guard.take()
        {
            let acted = self.perform_under(watch, guard.as_mut(), requester, batch, requests);
            self.guard = Some(guard);
            return acted;
        }
        let mut results = vec![(result::INVALID, 0); requests.actions.kinds.len()];
        let mut keep = vec![0u8; batch.rows()];
        let at_once = if requester.strict { usize::MAX } else { bounds::ACTIONS_PER_CHUNK };
        let exclusive = requester.strict && self.merging;
        encode::encode(batch, requests, (requester.strict, at_once, exclusive), |numbers, encoded| {
            if watch.check().is_err() {
                for index in numbers.start..results.len() {
                    set_result(&mut results, index, result::OVER_LIMIT, 0);
                }
                return false;
            }
            self.perform_some(requester, batch, requests, (numbers, encoded), (&mut results, &mut keep))
        });
        let mut acted = match self.shows {
            _ if !requester.strict => ActionResults::default(),
            Shows::Entries => ActionResults::default(),
            Shows::Acted => ActionResults { keep: Some(keep), ..ActionResults::default() },
            Shows::Reread => self.reread(batch, keep),
        };
        acted.results = results;
        acted
    }

    /// Records the first failure.
    fn fail(&mut self, error: ExecutorError) {
        self.failure.get_or_insert(error);
    }
}

fn set_result(results: &mut [(u8, u32)], index: usize, result: u8, errno: u32) {
    if let Some(place) = results.get_mut(index) {
        *place = (result, errno);
    }
}

/// Returns the name of a kind of action.
#[must_use]
pub fn name(kind: u8) -> String {
    match kind {
        action::DELETE => "delete".into(),
        action::UPDATE => "update".into(),
        action::CREATE => "create".into(),
        action::CREATE_OR_UPDATE => "create or update".into(),
        other => format!("do the unknown action {other} to"),
    }
}
