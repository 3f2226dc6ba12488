//! The executor: the only place with authority over the kernel's table.
//!
//! Stages ask, the executor decides: what was not granted is refused, counted, and told once. The rest is sent to the
//! kernel in batches, and each answer is matched to its row. In a dry run nothing is sent: what would be done is printed.

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

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The plugin's name.
    pub plugin: &'a str,
    /// What it may do.
    pub grants: &'a Grants,
    /// Whether it is the command itself: what it acted on is what is shown, and a refusal by the kernel ends the run.
    pub strict: bool,
}

/// Which rows a pipeline shows after actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// All of them, as they came.
    Entries,
    /// Those whose action was done, as they came.
    Acted,
    /// Those whose action was done, as the kernel has them now.
    Reread,
}

/// Why the executor will not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorError {
    /// The kernel refused an action: a positive error number as in `errno(3)`.
    #[error("{}{}", flowgate_base::io_error::errno_text(*errno), text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// The error number.
        errno: i32,
        /// What the kernel says of it.
        text: Option<String>,
    },
}

impl ExecutorError {
    /// The error number, as in `errno(3)`.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            ExecutorError::Refused { errno, .. } => *errno,
        }
    }
}

/// Performs what is granted. A socket is opened when it is first needed.
pub struct Executor<T: Entries> {
    shows: Shows,
    /// Whether a refused action ends the run, and keeps those after it in its batch from being sent.
    one_by_one: bool,
    /// Whether refused actions of the command are noted, instead of ending the run.
    noting: bool,
    /// Those, with their row.
    noted: Vec<(usize, ExecutorError)>,
    /// Whether entries that exist are given what can be changed of them.
    merging: bool,
    /// Whether entries are also made without the flow that they were expected by.
    orphans: bool,
    /// What was left out, with its row.
    kept: Vec<(usize, String)>,
    /// Entries that existed, where those that are made are told apart.
    changed: u64,
    /// Whether stages other than the command may act.
    guarded: bool,
    /// Decides about what they ask for, instead of their grants alone.
    guard: Option<Box<dyn Guard<T>>>,
    decoder: T::Decoder,
    batches: Option<BatchSender>,
    /// Whether nothing is sent.
    dry: bool,
    plan: Option<Plan<T>>,
    /// The network namespace whose table it acts on; none for that of the process.
    namespace: Option<Namespace>,
    failure: Option<ExecutorError>,
    done: u64,
    refused: u64,
    told: BTreeSet<(String, String)>,
    warnings: Warnings,
}

/// An action that is on its way.
struct Sent {
    /// Its place among those that were asked for.
    index: usize,
    kind: u8,
    row: Option<usize>,
    value: Option<usize>,
}

impl<T: Entries> Executor<T> {
    /// Returns an executor without grants for anybody; `decoder` decodes rows that are read again.
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

    /// Sends one request at a time, and none after one that was refused.
    #[must_use]
    pub fn one_by_one(mut self) -> Self {
        self.one_by_one = true;
        self
    }

    /// Actions of the command that are refused are noted; the others are done.
    #[must_use]
    pub fn noting_refusals(mut self) -> Self {
        self.noting = true;
        self
    }

    /// Rows whose action was refused since the last time, and why.
    pub fn take_refusals(&mut self) -> Vec<(usize, ExecutorError)> {
        std::mem::take(&mut self.noted)
    }

    /// Plugins of the user may act.
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

    /// Sends nothing: what would be done is printed.
    #[must_use]
    pub fn dry(mut self, plan: Plan<T>) -> Self {
        (self.dry, self.plan) = (true, Some(plan));
        self
    }

    /// Sends nothing from now on: what is acted on is not the kernel's table as it is now.
    pub fn detach(&mut self) {
        self.dry = true;
    }

    /// How many actions were done, or printed in a dry run.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done
    }

    /// How many actions were refused for want of a grant.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Why the run must end, if it must.
    pub fn take_failure(&mut self) -> Option<ExecutorError> {
        self.failure.take()
    }

    /// What a dry run has to print since the last time.
    ///
    /// # Errors
    /// The plugin that writes it failed.
    pub fn take_printed(&mut self) -> Result<Vec<u8>, PluginError> {
        self.plan.as_mut().map_or(Ok(Vec::new()), Plan::take)
    }

    /// Whether something may act on what is shown, so that it must stay what the kernel said it is.
    #[must_use]
    pub fn acts(&self) -> bool {
        self.shows != Shows::Entries || self.guarded
    }

    /// Passes a warning on.
    pub fn warn(&self, warning: &str) {
        self.warnings.line(warning);
    }

    /// Passes a warning on, the first time that it concerns this plugin and this matter.
    pub fn warn_once(&mut self, plugin: &str, matter: &str, warning: &str) {
        if self.told.insert((plugin.to_string(), matter.to_string())) {
            self.warnings.line(warning);
        }
    }

    /// The fields of what is shown that nobody may change: what a stage acts on must stay what the kernel said it is.
    #[must_use]
    pub fn fixed(&self) -> u64 {
        if self.acts() { batch::IDENTITY } else { 0 }
    }

    /// Deals with what a stage asks for.
    pub fn perform(&mut self, asker: Asker<'_>, batch: &T, requests: &Requests<T>) -> ActionResults<T> {
        self.perform_within(&mut Watch::unlimited(), asker, batch, requests)
    }

    /// Deals with what a stage asks for, as long as there is time: the actions that are left then are refused
    /// ([`result::OVER_LIMIT`]). Under a guard these are all of them: it records what it allows before any of it is sent.
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
        let at_once = if asker.strict { usize::MAX } else { bounds::ACTIONS_AT_ONCE };
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

    /// Deals with some of what a strict stage, or one without a guard, asks for, as far as that has been put into words; `false` if
    /// that was the end.
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
                        format!("WARNING: plugin {} asked for what cannot be done: {error}; left out.", asker.plugin);
                    self.warn_once(asker.plugin, "invalid", &warning);
                }
            }
        }
        self.carry_out(asker, batch, requests, (&sent, &messages), (results, keep));
        // Only now: what the kernel refused came before it.
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
        self.failure.is_none()
    }

    /// Sends what has been put into words, or in a dry run prints it, and enters what became of each, and in `keep` the rows of
    /// the batch whose action was done.
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

    /// What an answer of the kernel means.
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
            // Without privileges, none of the others would fare better.
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

    /// Sends requests; in the one-by-one manner those after a refusal have no result.
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

    /// Reads the rows that are kept once more.
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
                // A message that cannot be read is missing from the table, like an entry that has gone.
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

    /// Notes the first failure.
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

/// A socket for requests, with room for the answers to large batches.
fn open(namespace: Option<&Namespace>) -> Result<BatchSender, SocketError> {
    let options = SocketOptions { receive_buffer: Some(8 << 20), ..SocketOptions::in_namespace(namespace) };
    Ok(BatchSender::new(Socket::open(&options)?))
}

/// The name of a kind of action.
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
