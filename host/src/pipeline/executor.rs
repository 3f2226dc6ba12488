//! The executor: the only place with authority over the kernel's table.
//!
//! Stages ask, the executor decides: what was not granted is refused, counted, and told once. The rest is sent to the
//! kernel in batches, and each answer is matched to its row.

use std::collections::BTreeMap;

use super::{
    grants::Grants,
    stage::{Requests, Stage},
    table::Table,
};
use crate::{
    model::action,
    netlink::{
        Batches, Fate, Options, Request, Socket, SocketError,
        decode::Arrival,
        encode::EncodeError,
        message::{Content, Message},
    },
    wasm::PluginError,
};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The plugin's name.
    pub plugin: &'a str,
    /// What it may do.
    pub grants: Grants,
}

/// What the executor's work means for the batch.
#[derive(Debug)]
pub struct Acted<T> {
    /// One element per row: 0 for rows that are not to be shown; none if all are.
    pub keep: Option<Vec<u8>>,
    /// What to show instead of the rows that are kept.
    pub replacement: Option<T>,
}

impl<T> Default for Acted<T> {
    fn default() -> Self {
        Acted { keep: None, replacement: None }
    }
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
    #[error("{}{}", std::io::Error::from_raw_os_error(*errno), text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
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

/// A table on whose entries the kernel can act.
pub trait Actionable: Table {
    /// The request for an action on a row of the batch, on a row of values, or both.
    ///
    /// # Errors
    /// What is asked for cannot be put into words for the kernel.
    fn request(
        kind: u8,
        target: Option<(&Self, usize)>,
        values: Option<(&Self, usize)>,
    ) -> Result<Request, EncodeError>;

    /// The request for a row as the kernel has it now.
    ///
    /// # Errors
    /// As [`Actionable::request`].
    fn reread(batch: &Self, row: usize) -> Result<Request, EncodeError>;

    /// Lets a stage look at the table.
    ///
    /// # Errors
    /// The stage failed.
    fn stage(&mut self, stage: &mut Stage, executor: &mut Executor<Self>) -> Result<(), PluginError>;

    /// Tells a stage that the stream has ended.
    ///
    /// # Errors
    /// The stage failed.
    fn finish(stage: &mut Stage, executor: &mut Executor<Self>) -> Result<(), PluginError>;

    /// Whether an error number means no more than that there was nothing to do: the entry has gone, or cannot have what an
    /// update would give it.
    fn passes_over(kind: u8, errno: i32, values: Option<(&Self, usize)>) -> bool;
}

/// Performs what is granted. A socket is opened when it is first needed.
pub struct Executor<T: Actionable> {
    shows: Shows,
    /// Whether a refused action ends the run, and keeps those after it in its batch from being sent.
    one_by_one: bool,
    decoder: T::Decoder,
    batches: Option<Batches>,
    failure: Option<ExecutorError>,
    done: u64,
    refused: BTreeMap<(String, u8), u64>,
    tell: fn(&str),
}

impl<T: Actionable> Executor<T> {
    /// An executor; `decoder` is for rows that are read again. `tell` gets warnings.
    #[must_use]
    pub fn new(shows: Shows, decoder: T::Decoder, tell: fn(&str)) -> Self {
        Executor {
            shows,
            one_by_one: false,
            decoder,
            batches: None,
            failure: None,
            done: 0,
            refused: BTreeMap::new(),
            tell,
        }
    }

    /// Sends one request at a time, and none after one that was refused.
    #[must_use]
    pub fn one_by_one(mut self) -> Self {
        self.one_by_one = true;
        self
    }

    /// How many actions were done.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done
    }

    /// How many actions were refused for want of a grant.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Why the run must end, if it must.
    pub fn take_failure(&mut self) -> Option<ExecutorError> {
        self.failure.take()
    }

    /// Whether the command itself acts on what it shows.
    #[must_use]
    pub fn acts(&self) -> bool {
        self.shows != Shows::Entries
    }

    /// Deals with what a stage asks for.
    pub fn perform(&mut self, asker: Asker<'_>, batch: &T, requests: &Requests<T>) -> Acted<T> {
        let rows = batch.rows();
        let mut keep = vec![0u8; rows];
        let mut sent: Vec<(Option<usize>, u8, Option<usize>)> = Vec::new();
        let mut messages: Vec<Request> = Vec::new();
        let lists = &requests.actions;
        for ((&kind, &row), &value) in lists.kinds.iter().zip(&lists.rows).zip(&lists.values) {
            if !asker.grants.allow(kind) {
                self.refuse(asker.plugin, kind);
                continue;
            }
            let row = (row != action::NO_ROW).then_some(row as usize);
            let value = (value != action::NO_ROW).then_some(value as usize);
            let target = row.map(|row| (batch, row));
            match T::request(kind, target, value.map(|value| (&requests.values, value))) {
                Ok(message) => {
                    sent.push((row, kind, value));
                    messages.push(message);
                }
                Err(error) => {
                    let text = Some(error.to_string());
                    self.fail(ExecutorError::Refused { errno: error.errno(), text });
                    break;
                }
            }
        }
        for ((row, kind, value), fate) in sent.iter().zip(self.submit(&messages)) {
            match fate {
                Fate::Done => {
                    self.done += 1;
                    if let Some(keep) = row.and_then(|row| keep.get_mut(row)) {
                        *keep = 1;
                    }
                }
                Fate::Refused { errno, .. }
                    if T::passes_over(*kind, errno, value.map(|value| (&requests.values, value))) => {}
                Fate::Refused { errno, text } => self.fail(ExecutorError::Refused { errno, text }),
                Fate::Unknown => self.fail(ExecutorError::Refused { errno: libc::ENOBUFS, text: None }),
            }
        }
        match self.shows {
            Shows::Entries => Acted::default(),
            Shows::Acted => Acted { keep: Some(keep), replacement: None },
            Shows::Reread => self.reread(batch, keep),
        }
    }

    /// Sends requests; in the one-by-one manner those after a refusal have no fate.
    fn submit(&mut self, messages: &[Request]) -> Vec<Fate> {
        let mut fates = Vec::with_capacity(messages.len());
        let mut send = |batches: &mut Batches| -> Result<(), SocketError> {
            if !self.one_by_one {
                return batches.submit(messages, &mut fates);
            }
            for message in messages {
                batches.submit(std::slice::from_ref(message), &mut fates)?;
                if !matches!(fates.last(), Some(Fate::Done)) {
                    break;
                }
            }
            Ok(())
        };
        if messages.is_empty() {
            return fates;
        }
        let result = match &mut self.batches {
            Some(batches) => send(batches),
            None => open().and_then(|mut batches| {
                let result = send(&mut batches);
                self.batches = Some(batches);
                result
            }),
        };
        if let Err(error) = result {
            self.fail(ExecutorError::Refused { errno: error.errno(), text: None });
        }
        fates
    }

    /// Reads the rows that are kept once more.
    fn reread(&mut self, batch: &T, mut keep: Vec<u8>) -> Acted<T> {
        let mut rows = Vec::new();
        let mut messages = Vec::new();
        for (row, keep) in keep.iter_mut().enumerate().filter(|(_, keep)| **keep != 0) {
            match T::reread(batch, row) {
                Ok(message) => {
                    rows.push(row);
                    messages.push(message);
                }
                Err(_) => *keep = 0,
            }
        }
        let mut table = T::default();
        let mut fates = Vec::with_capacity(messages.len());
        let decoder = &mut self.decoder;
        let mut answer = |_: usize, message: &Message<'_>| {
            if matches!(message.content(), Content::Netfilter(_)) {
                // A message that cannot be read is missing from the table, like an entry that has gone.
                let _ = table.push(decoder, message, Arrival::Entry);
            }
        };
        if let (Some(batches), false) = (&mut self.batches, messages.is_empty())
            && let Err(error) = batches.exchange(&messages, &mut fates, &mut answer)
        {
            self.fail(ExecutorError::Refused { errno: error.errno(), text: None });
        }
        for (index, row) in rows.into_iter().enumerate() {
            let done = match fates.get(index) {
                Some(Fate::Done) => true,
                Some(Fate::Refused { errno: libc::ENOENT, .. }) => false,
                Some(Fate::Refused { errno, text }) => {
                    self.fail(ExecutorError::Refused { errno: *errno, text: text.clone() });
                    false
                }
                Some(Fate::Unknown) | None => false,
            };
            if let (false, Some(keep)) = (done, keep.get_mut(row)) {
                *keep = 0;
            }
        }
        Acted { keep: Some(keep), replacement: Some(table) }
    }

    /// Notes the first failure.
    fn fail(&mut self, error: ExecutorError) {
        self.failure.get_or_insert(error);
    }

    fn refuse(&mut self, plugin: &str, kind: u8) {
        let count = self.refused.entry((plugin.to_string(), kind)).or_insert(0);
        *count += 1;
        if *count == 1 {
            (self.tell)(&format!(
                "WARNING: plugin {plugin} asked to {} entries, which it was not granted; refused.",
                name(kind)
            ));
        }
    }
}

/// A socket for requests, with room for the answers to large batches.
fn open() -> Result<Batches, SocketError> {
    let options = Options { receive_buffer: Some(8 << 20), ..Options::default() };
    Ok(Batches::new(Socket::open(&options)?))
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
