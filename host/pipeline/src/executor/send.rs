//! Sends the requests of actions, and matches the kernel's answers to them.

use std::ops::Range;

use super::{Executor, ExecutorError, Requester, Sent, encode, name, set_result};
use crate::{entries::Entries, outcome::Requests};
use flowgate_model::{action, result};
use flowgate_netlink::{
    BatchSender, Namespace, Request, RequestResult, Socket, SocketError, SocketOptions, encode::EncodeError,
};

impl<T: Entries> Executor<T> {
    /// Performs some actions of a strict stage, or of one without a guard, whose requests have been encoded. Returns
    /// `false` if the run must end.
    pub(super) fn perform_some(
        &mut self,
        requester: Requester<'_>,
        batch: &T,
        requests: &Requests<T>,
        (numbers, encoded): (Range<usize>, Vec<Result<Request, EncodeError>>),
        (results, keep): (&mut [(u8, u32)], &mut [u8]),
    ) -> bool {
        let (mut sent, mut messages): (Vec<Sent>, Vec<Request>) = Default::default();
        let mut encoded = encoded.into_iter();
        let mut wrong = None;
        for index in numbers {
            let Some((kind, row, value)) = requests.action(index) else { break };
            let (target, values) = (row.map(|row| (batch, row)), value.map(|value| (&requests.values, value)));
            let ready = encoded.next();
            if !T::is_granted(requester.grants, kind, target, values) {
                set_result(results, index, result::NOT_GRANTED, 0);
                self.not_granted(requester.plugin, kind);
                continue;
            }
            let exclusive = requester.strict && self.merging;
            match ready.unwrap_or_else(|| T::request(encode::first_try(kind, exclusive), target, values)) {
                Ok(message) => {
                    sent.push(Sent { index, kind, row, value });
                    messages.push(message);
                }
                Err(error) if requester.strict => {
                    let refused = ExecutorError::Refused { errno: error.errno(), text: Some(error.to_string()) };
                    match row.filter(|_| self.keeps_refusals) {
                        Some(row) => self.refusals_by_row.push((row, refused)),
                        None => {
                            wrong = Some(refused);
                            break;
                        }
                    }
                }
                Err(error) => {
                    let warning =
                        format!("WARNING: plugin {} requested an invalid action: {error}; skipped.", requester.plugin);
                    self.warn_once(requester.plugin, "invalid", &warning);
                }
            }
        }
        self.carry_out(requester, batch, requests, (&sent, &messages), (results, keep));
        // Only now, since refusals by the kernel came before it.
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
        self.failure.is_none()
    }

    /// Sends encoded requests, or prints them in a dry run. Records the result of each, and in `keep` the rows of the
    /// batch whose action was performed.
    pub(super) fn carry_out(
        &mut self,
        requester: Requester<'_>,
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
                set_result(results, index, result::PRINTED, 0);
                self.done += 1;
            }
            return;
        }
        let kernel_results = self.submit(messages);
        let mut reducible = Vec::new();
        for (one, kernel_result) in sent.iter().zip(kernel_results) {
            let merges = requester.strict && self.merging && one.kind == action::CREATE_OR_UPDATE;
            match kernel_result {
                RequestResult::Refused { errno: libc::EEXIST | libc::EOPNOTSUPP | libc::ENOENT, .. } if merges => {
                    reducible.push((one, kernel_result));
                }
                kernel_result => self.enter(requester, requests, one, kernel_result, (&mut *results, &mut *keep)),
            }
        }
        if !reducible.is_empty() {
            self.reduce(requester, batch, requests, reducible, (results, keep));
        }
    }

    /// Interprets an answer of the kernel.
    pub(super) fn settle(
        &mut self,
        requester: Requester<'_>,
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
        if requester.strict {
            // Without privileges all other actions would fail too.
            match sent.row.filter(|_| self.keeps_refusals && errno != libc::EPERM) {
                Some(row) => self.refusals_by_row.push((row, error)),
                None => self.fail(error),
            }
        } else {
            let what = name(kind);
            let warning =
                format!("WARNING: the kernel refused to {what} entries for plugin {}: {error}.", requester.plugin);
            self.warn_once(requester.plugin, &format!("{what} {errno}"), &warning);
        }
        (result::REFUSED, errno.unsigned_abs())
    }

    /// Sends requests. If they are sent one at a time, those after a refusal have no result.
    pub(super) fn submit(&mut self, messages: &[Request]) -> Vec<RequestResult> {
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

/// Opens a socket for requests, with room for the answers to large batches.
fn open(namespace: Option<&Namespace>) -> Result<BatchSender, SocketError> {
    let options = SocketOptions { receive_buffer: Some(8 << 20), ..SocketOptions::in_namespace(namespace) };
    Ok(BatchSender::new(Socket::open(&options)?))
}
