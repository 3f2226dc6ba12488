//! Whether a template changes anything in a flow, as `conntrack -U` sees it.

use flowgate_sdk::{Flow, protocol};

/// Whether the flow is to be asked about: one of timeout, mark, status and state would become another one, labels are added,
/// labels are removed from a flow that has any, or a translation is given.
///
/// TCP flags and SCTP tags go along and decide nothing; a template that has the state of the flow changes nothing by them.
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

/// A flow that carries no mark has the mark 0. Bits of the value outside the mask turn those of the flow.
fn mark(flow: &Flow<'_>, template: &Flow<'_>) -> bool {
    template.mark().is_some_and(|value| {
        let mask = template.mark_mask().unwrap_or(u32::MAX);
        let old = flow.mark().unwrap_or(0);
        (old & !mask) ^ value != old
    })
}

/// Bits are only ever added.
fn status(flow: &Flow<'_>, template: &Flow<'_>) -> bool {
    template.status().is_some_and(|bits| bits & !flow.status().unwrap_or(0) != 0)
}

/// A state is one of a protocol, and says nothing to flows of protocols that have none.
fn state(flow: &Flow<'_>, template: &Flow<'_>) -> bool {
    let stateful = matches!(flow.protocol(), protocol::TCP | protocol::SCTP | protocol::DCCP);
    stateful && template.state().is_some_and(|state| flow.state() != Some(state))
}

/// Labels are added whether or not the flow has them; a flow without any has none to lose.
fn labels(flow: &Flow<'_>, template: &Flow<'_>) -> bool {
    adds_labels(template) || template.labels().is_some() && flow.labels().is_some()
}

/// Whether a template has a label that flows are to get.
pub(crate) fn adds_labels(template: &Flow<'_>) -> bool {
    template.labels().is_some_and(|bits| bits.iter().any(|&byte| byte != 0))
}
