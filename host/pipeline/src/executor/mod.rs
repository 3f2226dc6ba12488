//! The executor: the only place with authority over the kernel's table.
//!
//! Stages request actions, and the executor decides: an action without a grant is refused and counted, with one
//! warning. All others are sent to the kernel in batches, and each answer is matched to its row. In a dry run nothing
//! is sent, and the actions are printed.

mod existing;
mod guard;
mod plan;
mod words;

use std::{collections::BTreeSet, ops::Range};

pub use guard::{Guard, Judgement};
pub use plan::Plan;

use crate::{
    entries::Entries,
    outcome::{ActionResults, Requests},
};
use flowgate_base::Warnings;
use flowgate_model::{action, batch, bounds, grants::Grants, result};
use flowgate_netlink::{
    BatchSender, Namespace, Request, RequestResult, Socket, SocketError, SocketOptions,
    decode::Arrival,
    encode::EncodeError,
    message::{Content, Message},
};
use flowgate_runtime::{PluginError, deadline::Watch};

/// The stage that requests actions.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
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
    #[error("{}{}", flowgate_base::io_error::errno_text(*errno), text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
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
    noting: bool,
    /// The refusals, with their rows.
    noted: Vec<(usize, ExecutorError)>,
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
    told: BTreeSet<(String, String)>,
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
            noting: false,
            noted: Vec::new(),
            merging: false,
            orphans: false,
            kept: Vec::new(),
            changed: 0,
            guarded: false,
            guard: None,
            decoder,
            batches: None,
            dry: false,
            plan: None,
            namespace: None,
            failure: None,
            done: 0,
            refused: 0,
            told: BTreeSet::new(),
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
    pub fn noting_refusals(mut self) -> Self {
        self.noting = true;
        self
    }

    /// Returns the rows whose action was refused since the last call, with the reasons.
    pub fn take_refusals(&mut self) -> Vec<(usize, ExecutorError)> {
        std::mem::take(&mut self.noted)
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
        if self.told.insert((plugin.to_string(), matter.to_string())) {
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
    pub fn perform(&mut self, asker: Asker<'_>, batch: &T, requests: &Requests<T>) -> ActionResults<T> {
        self.perform_within(&mut Watch::unlimited(), asker, batch, requests)
    }

    /// Performs the actions that a stage requests, as long as there is time; the remaining ones are refused
    /// ([`result::OVER_LIMIT`]). Under a guard all of them are refused then, because it records the allowed actions
    /// before any of them is sent.
    pub fn perform_within(
        &mut self,
        watch: &mut Watch,
        asker: Asker<'_>,
        batch: &T,
        requests: &Requests<T>,
    ) -> ActionResults<T> {
        if !asker.strict
            && let Some(mut guard) = self.guard.take()
        {
            let acted = self.perform_under(watch, guard.as_mut(), asker, batch, requests);
            self.guard = Some(guard);
            return acted;
        }
        let mut results = vec![(result::INVALID, 0); requests.actions.kinds.len()];
        let mut keep = vec![0u8; batch.rows()];
        let at_once = if asker.strict { usize::MAX } else { bounds::ACTIONS_PER_CHUNK };
        let exclusive = asker.strict && self.merging;
        words::put(batch, requests, (asker.strict, at_once, exclusive), |numbers, worded| {
            if watch.check().is_err() {
                for index in numbers.start..results.len() {
                    put(&mut results, index, result::OVER_LIMIT, 0);
                }
                return false;
            }
            self.perform_some(asker, batch, requests, (numbers, worded), (&mut results, &mut keep))
        });
        let mut acted = match self.shows {
            _ if !asker.strict => ActionResults::default(),
            Shows::Entries => ActionResults::default(),
            Shows::Acted => ActionResults { keep: Some(keep), ..ActionResults::default() },
            Shows::Reread => self.reread(batch, keep),
        };
        acted.results = results;
        acted
    }

    /// Performs some actions of a strict stage, or of one without a guard, whose requests have been encoded. Returns
    /// `false` if the run must end.
    fn perform_some(
        &mut self,
        asker: Asker<'_>,
        batch: &T,
        requests: &Requests<T>,
        (numbers, worded): (Range<usize>, Vec<Result<Request, EncodeError>>),
        (results, keep): (&mut [(u8, u32)], &mut [u8]),
    ) -> bool {
        let (mut sent, mut messages): (Vec<Sent>, Vec<Request>) = Default::default();
        let mut worded = worded.into_iter();
        let mut wrong = None;
        for index in numbers {
            let Some((kind, row, value)) = words::action(&requests.actions, index) else { break };
            let (target, values) = (row.map(|row| (batch, row)), value.map(|value| (&requests.values, value)));
            let ready = worded.next();
            if !T::is_granted(asker.grants, kind, target, values) {
                put(results, index, result::NOT_GRANTED, 0);
                self.not_granted(asker.plugin, kind);
                continue;
            }
            let exclusive = asker.strict && self.merging;
            match ready.unwrap_or_else(|| T::request(words::first_try(kind, exclusive), target, values)) {
                Ok(message) => {
                    sent.push(Sent { index, kind, row, value });
                    messages.push(message);
                }
                Err(error) if asker.strict => {
                    let refused = ExecutorError::Refused { errno: error.errno(), text: Some(error.to_string()) };
                    match row.filter(|_| self.noting) {
                        Some(row) => self.noted.push((row, refused)),
                        None => {
                            wrong = Some(refused);
                            break;
                        }
                    }
                }
                Err(error) => {
                    let warning =
                        format!("WARNING: plugin {} requested an invalid action: {error}; skipped.", asker.plugin);
                    self.warn_once(asker.plugin, "invalid", &warning);
                }
            }
        }
        self.carry_out(asker, batch, requests, (&sent, &messages), (results, keep));
        // Only now, since refusals by the kernel came before it.
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
        self.failure.is_none()
    }

    /// Sends encoded requests, or prints them in a dry run. Records the result of each, and in `keep` the rows of the
    /// batch whose action was performed.
    fn carry_out(
        &mut self,
        asker: Asker<'_>,
        batch: &T,
        requests: &Requests<T>,
        (sent, messages): (&[Sent], &[Request]),
        (results, keep): (&mut [(u8, u32)], &mut [u8]),
    ) {
        if self.dry {
            for &Sent { index, kind, row, value } in sent {
                let (target, values) = (row.map(|row| (batch, row)), value.map(|value| (&requests.values, value)));
                if let Some(plan) = &mut self.plan {
                    plan.add(kind, target, values);
                }
                put(results, index, result::PRINTED, 0);
                self.done += 1;
            }
            return;
        }
        let kernel_results = self.submit(messages);
        let mut reducible = Vec::new();
        for (one, kernel_result) in sent.iter().zip(kernel_results) {
            let merges = asker.strict && self.merging && one.kind == action::CREATE_OR_UPDATE;
            match kernel_result {
                RequestResult::Refused { errno: libc::EEXIST | libc::EOPNOTSUPP | libc::ENOENT, .. } if merges => {
                    reducible.push((one, kernel_result));
                }
                kernel_result => self.enter(asker, requests, one, kernel_result, (&mut *results, &mut *keep)),
            }
        }
        if !reducible.is_empty() {
            self.reduce(asker, batch, requests, reducible, (results, keep));
        }
    }

    /// Interprets an answer of the kernel.
    fn settle(
        &mut self,
        asker: Asker<'_>,
        sent: &Sent,
        values: Option<(&T, usize)>,
        kernel_result: RequestResult,
    ) -> (u8, u32) {
        let kind = sent.kind;
        let (errno, text) = match kernel_result {
            RequestResult::Done => {
                self.done += 1;
                return (result::DONE, 0);
            }
            RequestResult::Refused { errno, .. } if T::is_harmless(kind, errno, values) => {
                return (result::GONE, errno.unsigned_abs());
            }
            RequestResult::Refused { errno, text } => (errno, text),
            RequestResult::Unknown => (libc::ENOBUFS, None),
        };
        let error = ExecutorError::Refused { errno, text };
        if asker.strict {
            // Without privileges all other actions would fail too.
            match sent.row.filter(|_| self.noting && errno != libc::EPERM) {
                Some(row) => self.noted.push((row, error)),
                None => self.fail(error),
            }
        } else {
            let what = name(kind);
            let warning =
                format!("WARNING: the kernel refused to {what} entries for plugin {}: {error}.", asker.plugin);
            self.warn_once(asker.plugin, &format!("{what} {errno}"), &warning);
        }
        (result::REFUSED, errno.unsigned_abs())
    }

    /// Sends requests. If they are sent one at a time, those after a refusal have no result.
    fn submit(&mut self, messages: &[Request]) -> Vec<RequestResult> {
        let mut kernel_results = Vec::with_capacity(messages.len());
        let until_refused = self.one_by_one;
        let mut send = |batches: &mut BatchSender| match until_refused {
            true => batches.submit_until_refused(messages, &mut kernel_results),
            false => batches.submit(messages, &mut kernel_results),
        };
        if messages.is_empty() {
            return kernel_results;
        }
        let result = match &mut self.batches {
            Some(batches) => send(batches),
            None => open(self.namespace.as_ref()).and_then(|mut batches| {
                let result = send(&mut batches);
                self.batches = Some(batches);
                result
            }),
        };
        if let Err(error) = result {
            self.fail(ExecutorError::Refused { errno: error.errno(), text: None });
        }
        kernel_results
    }

    /// Reads the kept rows again.
    fn reread(&mut self, batch: &T, mut keep: Vec<u8>) -> ActionResults<T> {
        let mut rows = Vec::new();
        let mut messages = Vec::new();
        for (row, keep) in keep.iter_mut().enumerate().filter(|(_, keep)| **keep != 0) {
            match batch.lookup(row) {
                Ok(message) => {
                    rows.push(row);
                    messages.push(message);
                }
                Err(_) => *keep = 0,
            }
        }
        let mut table = T::default();
        let mut kernel_results = Vec::with_capacity(messages.len());
        let decoder = &mut self.decoder;
        let mut answer = |_: usize, message: &Message<'_>| {
            if matches!(message.content(), Content::Netfilter(_)) {
                // A message that cannot be decoded is missing from the table, like an entry that no longer exists.
                let _ = table.push(decoder, message, Arrival::Entry);
            }
        };
        if let (Some(batches), false) = (&mut self.batches, messages.is_empty())
            && let Err(error) = batches.exchange(&messages, &mut kernel_results, &mut answer)
        {
            self.fail(ExecutorError::Refused { errno: error.errno(), text: None });
        }
        for (index, row) in rows.into_iter().enumerate() {
            let done = match kernel_results.get(index) {
                Some(RequestResult::Done) => true,
                Some(RequestResult::Refused { errno: libc::ENOENT, .. }) => false,
                Some(RequestResult::Refused { errno, text }) => {
                    self.fail(ExecutorError::Refused { errno: *errno, text: text.clone() });
                    false
                }
                Some(RequestResult::Unknown) | None => false,
            };
            if let (false, Some(keep)) = (done, keep.get_mut(row)) {
                *keep = 0;
            }
        }
        ActionResults { keep: Some(keep), replacement: Some(table), results: Vec::new() }
    }

    /// Records the first failure.
    fn fail(&mut self, error: ExecutorError) {
        self.failure.get_or_insert(error);
    }

    fn not_granted(&mut self, plugin: &str, kind: u8) {
        self.refused += 1;
        let what = name(kind);
        let hint = match kind {
            action::CREATE => "create",
            action::CREATE_OR_UPDATE => "create,update",
            action::DELETE => "delete",
            _ => "update (or update.mark, update.timeout and so on)",
        };
        let warning = format!(
            "WARNING: plugin {plugin} asked to {what} entries in a way that it was not granted; refused. \
             To allow it: --grant {hint}"
        );
        self.warn_once(plugin, &format!("grant {what}"), &warning);
    }
}

fn put(results: &mut [(u8, u32)], index: usize, result: u8, errno: u32) {
    if let Some(place) = results.get_mut(index) {
        *place = (result, errno);
    }
}

/// Opens a socket for requests, with room for the answers to large batches.
fn open(namespace: Option<&Namespace>) -> Result<BatchSender, SocketError> {
    let options = SocketOptions { receive_buffer: Some(8 << 20), ..SocketOptions::in_namespace(namespace) };
    Ok(BatchSender::new(Socket::open(&options)?))
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
