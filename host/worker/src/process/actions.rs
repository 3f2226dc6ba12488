//! Actions of plugins, which the owner judges and performs.

use std::sync::Arc;

use flowgate_isolation::Violation;
use flowgate_model::{Flows, result};
use flowgate_netlink::{
    FlowEntry, Request,
    proposal::{ProposeError, propose},
};
use flowgate_pipeline::{
    executor::{Delegate, Requester},
    outcome::Requests,
};
use flowgate_runtime::deadline::Watch;

use super::owner::Owner;
use crate::protocol::{NoRequest, ProposedAction, REASON, REQUESTS, actions, kind, split_at_frame};

/// The owner's executor.
pub(super) struct RemoteActions {
    owner: Arc<Owner>,
    /// Names of the plugins, in order.
    plugins: Vec<String>,
    /// Number of actions of a call for which requests are made; the owner refuses the others whatever they are.
    most: usize,
}

impl RemoteActions {
    pub(super) fn new(owner: Arc<Owner>, plugins: Vec<String>, most: usize) -> Self {
        RemoteActions { owner, plugins, most }
    }
}

impl Delegate<Flows> for RemoteActions {
    fn perform(
        &mut self,
        _: &mut Watch,
        requester: Requester<'_>,
        batch: &Flows,
        requests: &Requests<Flows>,
    ) -> Vec<(u8, u32)> {
        let plugin = self.plugins.iter().position(|name| name == requester.plugin);
        let Some(plugin) = plugin.and_then(|index| u16::try_from(index).ok()) else { return Vec::new() };
        let all = requests.actions.kinds.len();
        let mut proposed: Vec<(u8, Result<Request, Option<String>>)> = Vec::with_capacity(all);
        for index in 0..all {
            let Some((kind, row, value)) = requests.action(index) else { break };
            let (target, values) = (row.map(|row| (batch, row)), value.map(|value| (&requests.values, value)));
            let request = match () {
                // The owner refuses it whatever it is.
                () if index >= self.most => Err(Some(String::new())),
                // The owner checks that again; a field that the flow's protocol does not have is not in the request.
                () if !requester.grants.allow(kind, target, values) => Err(None),
                () => request(kind, target, values).map_err(|error| Some(error.to_string())),
            };
            proposed.push((kind, request));
        }
        let list: Vec<ProposedAction<'_>> = proposed
            .iter()
            .map(|(kind, request)| {
                let request = request.as_ref().map(Request::as_bytes).map_err(|reason| match reason {
                    Some(reason) => NoRequest::Unencodable(reason),
                    None => NoRequest::NotGranted,
                });
                ProposedAction { kind: *kind, request }
            })
            .collect();
        let mut rest: &[ProposedAction<'_>] = &list;
        while !rest.is_empty() {
            let length = |action: &ProposedAction<'_>| action.request.map_or(REASON, <[u8]>::len) + 6;
            let (some, left) = split_at_frame(rest, REQUESTS, length);
            if self.owner.send(|link| actions(|kind| link.frame(kind), plugin, some, !left.is_empty())).is_err() {
                return Vec::new();
            }
            rest = left;
        }
        self.results(all)
    }
}

/// Returns the proposal of an action.
fn request(
    kind: u8,
    target: Option<(&Flows, usize)>,
    values: Option<(&Flows, usize)>,
) -> Result<Request, ProposeError> {
    let target = target.map(|(flows, row)| FlowEntry::new(flows, row)).transpose()?;
    let values = values.map(|(flows, row)| FlowEntry::new(flows, row)).transpose()?;
    propose(kind, target, values)
}

impl RemoteActions {
    /// Receives the results of this many actions.
    fn results(&self, all: usize) -> Vec<(u8, u32)> {
        let mut results = Vec::with_capacity(all);
        while results.len() < all {
            let received = self.owner.answer(|frame| {
                if frame.kind != kind::RESULTS {
                    return Err(Violation::Kind(frame.kind));
                }
                let mut body = frame.body;
                for _ in 0..body.u16()? {
                    let (result, errno) = (body.u8()?, body.u32()?);
                    results.push((result.min(u8::try_from(result::NAMES.len() - 1).unwrap_or(u8::MAX)), errno));
                }
                body.end()
            });
            if received.is_err() {
                break;
            }
        }
        results
    }
}
