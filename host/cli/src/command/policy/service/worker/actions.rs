//! The actions that a worker proposes: read strictly, judged, recorded, and performed in this process's own encoding.

use std::sync::PoisonError;

use flowgate_base::text::clean;
use flowgate_model::{Actions, Flows, action, batch, grants::Grants, result};
use flowgate_netlink::proposal;
use flowgate_pipeline::{
    executor::{Executor, Requester},
    outcome::Requests,
};
use flowgate_policy::guard::{Unproposed, UnproposedActions};
use flowgate_runtime::deadline::Watch;
use flowgate_worker::protocol::{ActionList, NoRequest, ProposedAction};

/// What performs the actions of a tenant.
pub(super) struct Performer {
    executor: Executor<Flows>,
    /// Number of actions of a call that are read; the guard refuses the others whatever they are.
    most: usize,
    /// The call whose actions arrive.
    call: Requests<Flows>,
    /// Why some of them cannot be requests, for the guard.
    unproposed: UnproposedActions,
}

/// A plugin on whose behalf actions are performed.
pub(super) struct OnBehalf<'a> {
    /// Its full name.
    pub plugin: &'a str,
    /// Its grants.
    pub grants: &'a Grants,
    /// Maximum number of actions of a call.
    pub actions: usize,
}

impl Performer {
    pub(super) fn new(executor: Executor<Flows>, most: usize, unproposed: UnproposedActions) -> Self {
        Performer { executor, most, call: Requests::default(), unproposed }
    }

    /// Takes actions of a call. Returns false if it has more than the plugin may request: the worker should have ended
    /// the call.
    pub(super) fn add(&mut self, behalf: &OnBehalf<'_>, list: ActionList<'_>) -> bool {
        let Requests { actions: Actions { kinds, rows, values }, values: flows } = &mut self.call;
        if kinds.len() + list.len() > behalf.actions {
            return false;
        }
        for proposed in list {
            let number = kinds.len();
            kinds.push(proposed.kind);
            let read = if number < self.most { read(&proposed) } else { Err(Unproposed::Other(String::new())) };
            // Whether the plugin was shown the flow is the worker's word, so none was. What cannot be read names
            // nothing, and is refused.
            rows.push(action::NO_ROW);
            values.push(match read {
                Ok(flow) => {
                    batch::append(flows, &flow);
                    flows.length - 1
                }
                Err(reason) => {
                    if number < self.most {
                        self.unproposed.lock().unwrap_or_else(PoisonError::into_inner).insert(number, reason);
                    }
                    action::NO_ROW
                }
            });
        }
        true
    }

    /// Performs the actions of the call, as far as they are allowed. Returns a result and an error number for each.
    pub(super) fn perform(&mut self, behalf: &OnBehalf<'_>, watch: &mut Watch) -> Vec<(u8, u32)> {
        let call = std::mem::take(&mut self.call);
        let requester = Requester { plugin: behalf.plugin, grants: behalf.grants, strict: false };
        let mut results = self.executor.perform_within(watch, requester, &Flows::default(), &call).results;
        results.resize(call.actions.kinds.len(), (result::REFUSED, libc::EIO.unsigned_abs()));
        self.unproposed.lock().unwrap_or_else(PoisonError::into_inner).clear();
        results
    }
}

/// Returns the flow and the values of a proposed action, or why it cannot be one.
fn read(proposed: &ProposedAction<'_>) -> Result<Flows, Unproposed> {
    let request = proposed.request.map_err(|none| match none {
        NoRequest::NotGranted => Unproposed::NotGranted,
        NoRequest::Unencodable(reason) => Unproposed::Other(clean(reason)),
    })?;
    let read = proposal::read(request).map_err(|error| Unproposed::Other(error.to_string()))?;
    match read.kind == proposed.kind {
        true => Ok(read.flows),
        false => Err(Unproposed::Other("the request is of another kind".into())),
    }
}
