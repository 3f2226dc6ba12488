//! Decides if a template changes a flow, with the rules of `conntrack -U`.

use flowgate_sdk::{Flow, protocol};

/// Returns true if the flow is to be updated: timeout, mark, status or state would change, labels are added, labels are
/// removed from a flow that has any, or NAT is given.
///
/// TCP flags and SCTP tags do not count; a template with the state of the flow does not change the flow by them.
pub(crate) fn changes(flow: &Flow<'_>, template: &Flow<'_>) -> bool {
    timeout(flow, template)
        || mark(flow, template)
        || status(flow, template)
        || state(flow, template)
        || labels(flow, template)
        || template.source_nat().is_some()
        || template.destination_nat().is_some()
}

fn timeout(flow: &Flow<'_>, template: &Flow<'_>) -> bool {
    template.timeout().is_some_and(|timeout| flow.timeout() != Some(timeout))
}

/// A flow without a mark has the mark 0. Bits of the value outside the mask invert those of the flow.
fn mark(flow: &Flow<'_>, template: &Flow<'_>) -> bool {
    template.mark().is_some_and(|value| {
        let mask = template.mark_mask().unwrap_or(u32::MAX);
        let old = flow.mark().unwrap_or(0);
        (old & !mask) ^ value != old
    })
}

/// Bits are only added.
fn status(flow: &Flow<'_>, template: &Flow<'_>) -> bool {
    template.status().is_some_and(|bits| bits & !flow.status().unwrap_or(0) != 0)
}

/// A state belongs to a protocol, and is ignored for flows of protocols that have none.
fn state(flow: &Flow<'_>, template: &Flow<'_>) -> bool {
    let stateful = matches!(flow.protocol(), protocol::TCP | protocol::SCTP | protocol::DCCP);
    stateful && template.state().is_some_and(|state| flow.state() != Some(state))
}

/// Adding labels counts even if the flow has them; a flow without labels has none to remove.
fn labels(flow: &Flow<'_>, template: &Flow<'_>) -> bool {
    adds_labels(template) || template.labels().is_some() && flow.labels().is_some()
}

/// Returns true if a template has a label to add.
pub(crate) fn adds_labels(template: &Flow<'_>) -> bool {
    template.labels().is_some_and(|bits| bits.iter().any(|&byte| byte != 0))
}
