//! Delivers to each tenant the messages about its own flows.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Instant,
};

use super::worker::Outlet;

use flowgate_base::clock::now;
use flowgate_netlink::{Messages, message::MessageKind, source::Datagram, wire::NLMSG_ERROR};
use flowgate_pipeline::{counters::Counters, resync::append};
use flowgate_policy::{
    Scope,
    delivery::{Queue, ScopeFilter},
    guard::ledger::{EntryKey, Ledger},
};

/// The state that the operator has ordered for a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DesiredState {
    /// The tenant runs.
    Run = 0,
    /// The tenant receives nothing and may do nothing until it is resumed.
    Pause = 1,
    /// The same until the next reload.
    Quarantine = 2,
}

/// The destination of a tenant's flows.
pub(super) struct Recipient {
    pub scope: Scope,
    pub queue: Arc<Queue>,
    /// What passes the queue's messages to the tenant's worker.
    pub outlet: Outlet,
    desired: AtomicU8,
    superseded: AtomicBool,
    /// Held from the judgement of actions to the kernel's answer.
    acting: Mutex<()>,
}

impl Recipient {
    pub(super) fn new(scope: Scope, queue: Arc<Queue>) -> Self {
        let (desired, superseded) = (AtomicU8::new(DesiredState::Run as u8), AtomicBool::new(false));
        Recipient { scope, queue, outlet: Outlet::default(), desired, superseded, acting: Mutex::default() }
    }

    pub(super) fn desired(&self) -> DesiredState {
        match self.desired.load(Ordering::Acquire) {
            0 => DesiredState::Run,
            1 => DesiredState::Pause,
            _ => DesiredState::Quarantine,
        }
    }

    /// Sets the state. When this returns, the tenant does nothing any more that the state forbids.
    pub(super) fn set(&self, desired: DesiredState) {
        self.desired.store(desired as u8, Ordering::Release);
        drop(self.act());
    }

    /// Marks the recipient as superseded: its tenant may not act any more. When this returns, none of its actions is
    /// under way.
    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
        drop(self.act());
    }

    /// Begins actions of the tenant, which end when the guard is dropped.
    pub(super) fn act(&self) -> MutexGuard<'_, ()> {
        self.acting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }
}

/// A recipient, and when messages that wait for more are due.
struct Place {
    recipient: Arc<Recipient>,
    due: Option<Instant>,
}

impl Place {
    fn of(recipient: Arc<Recipient>) -> Self {
        Place { recipient, due: None }
    }
}

/// The recipients of a network namespace.
#[derive(Default)]
pub(super) struct Dispatcher {
    recipients: Mutex<Vec<Place>>,
    /// Ledger of the entries that tenants have created. Ended entries are reported to it.
    pub ledger: Arc<Ledger>,
    work: Mutex<Work>,
}

/// Buffers that are reused from datagram to datagram.
#[derive(Default)]
struct Work {
    scope_filter: ScopeFilter,
    /// For each recipient: bytes and times of messages, and the number of events among them.
    parts: Vec<(Vec<u8>, Vec<u64>, u64)>,
    marks: Vec<u8>,
    /// Kinds of the events.
    kinds: Vec<u8>,
}

impl Dispatcher {
    /// Replaces all recipients. The previous ones receive nothing more, and process their backlog.
    pub(super) fn replace(&self, recipients: Vec<Arc<Recipient>>) {
        let mut current = self.recipients.lock().unwrap_or_else(PoisonError::into_inner);
        let recipients = recipients.into_iter().map(Place::of).collect();
        for place in std::mem::replace(&mut *current, recipients) {
            place.recipient.queue.close();
        }
    }

    /// Replaces the recipient of a tenant by a new one: each event goes to exactly one of them.
    pub(super) fn exchange(&self, old: &Arc<Recipient>, new: Arc<Recipient>) {
        let mut recipients = self.recipients.lock().unwrap_or_else(PoisonError::into_inner);
        match recipients.iter_mut().find(|place| Arc::ptr_eq(&place.recipient, old)) {
            Some(place) => *place = Place::of(new),
            None => recipients.push(Place::of(new)),
        }
        old.queue.close();
    }

    /// Delivers the messages of a datagram without blocking. Marks for which `own` returns true belong to the service
    /// and are not delivered. Returns when [`Dispatcher::pass_due`] has something to do.
    pub(super) fn deliver(
        &self,
        datagram: &Datagram,
        own: &dyn Fn(u32) -> bool,
        counters: &Counters,
    ) -> Option<Instant> {
        let mut recipients = self.recipients.lock().unwrap_or_else(PoisonError::into_inner);
        if datagram.gap {
            counters.gap(datagram.lost.unwrap_or(0));
            recipients.iter().for_each(|place| place.recipient.queue.push_gap(datagram.received, datagram.lost));
            return pass(&mut recipients);
        }
        let now = Instant::now();
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let Work { scope_filter, parts, marks, kinds } = &mut *work;
        parts.resize_with(recipients.len(), Default::default);
        for (number, message) in Messages::new(datagram.bytes()).enumerate() {
            let Ok(message) = message else {
                counters.malformed();
                break;
            };
            let received = datagram.times.get(number).copied().unwrap_or(datagram.received);
            if message.message_type == NLMSG_ERROR && own(message.sequence) {
                continue;
            }
            if message.message_type == NLMSG_ERROR {
                // A mark of a resync must keep its position among the events.
                marks.clear();
                append(marks, &message);
                for (bytes, times, _) in parts.iter_mut() {
                    bytes.extend_from_slice(marks);
                    times.push(received);
                }
                continue;
            }
            if matches!(message.kind(), MessageKind::Flow | MessageKind::FlowDestroyed) {
                kinds.push(message.event());
            }
            let Some(view) = scope_filter.view(&message) else { continue };
            if message.kind() == MessageKind::FlowDestroyed
                && !self.ledger.is_empty()
                && let Some(id) = scope_filter.id()
            {
                self.ledger.ended(&EntryKey::of(&view), id);
            }
            for (Place { recipient, .. }, (bytes, times, count)) in recipients.iter().zip(parts.iter_mut()) {
                if recipient.scope.contains(&view) && recipient.desired() == DesiredState::Run {
                    scope_filter.append(bytes, &message, &recipient.scope, &view);
                    times.push(received);
                    *count += 1;
                }
            }
        }
        counters.datagrams(datagram.times.len().max(1), datagram.length);
        counters.rows(kinds.len(), kinds);
        kinds.clear();
        for (place, (bytes, times, count)) in recipients.iter_mut().zip(parts.iter_mut()) {
            if !bytes.is_empty() {
                let enough = place.recipient.queue.push(bytes, times, std::mem::take(count));
                // At once, unless they wait for more already.
                place.due = place.due.filter(|_| !enough).or(Some(now));
                bytes.clear();
                times.clear();
            }
        }
        pass(&mut recipients)
    }

    /// Passes on the messages that have waited for more. Returns when the next ones are due.
    pub(super) fn pass_due(&self) -> Option<Instant> {
        pass(&mut self.recipients.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Passes on what is due, and returns when the next messages are.
fn pass(places: &mut [Place]) -> Option<Instant> {
    let now = Instant::now();
    for place in &mut *places {
        if place.due.is_some_and(|due| due <= now) {
            place.due = place.recipient.outlet.pass(&place.recipient.queue, now);
        }
    }
    places.iter().filter_map(|place| place.due).min()
}

/// Resumes a paused tenant, which receives a gap.
pub(super) fn resume(recipient: &Recipient) {
    recipient.set(DesiredState::Run);
    recipient.queue.push_gap(now(), None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_netlink::{DumpFilter, DumpKind, Request};
    use flowgate_netlink_testing::{attribute, message, tuple};

    /// A flow that has ended no longer counts against the tenant that created it, whichever tenants see it.
    #[test]
    fn the_end_of_a_flow_that_a_tenant_has_made_is_noticed() {
        let attributes = [
            tuple(1, [&[10, 1, 0, 5], &[192, 0, 2, 1]], 17, [1000, 53]),
            tuple(2, [&[192, 0, 2, 1], &[10, 1, 0, 5]], 17, [53, 1000]),
            attribute(12, &77u32.to_be_bytes()),
        ];
        // IPCTNL_MSG_CT_DELETE.
        let bytes = message(0x0102, 0, 0, 0, 2, &attributes);
        let mut scope_filter = ScopeFilter::default();
        let view = scope_filter.view(&Messages::new(&bytes).next().unwrap().unwrap()).unwrap();
        let (dispatcher, name) = (Dispatcher::default(), EntryKey::of(&view));
        let lookup = Request::dump(DumpKind::FLOWS, &DumpFilter::default());
        for (id, left) in [(76, 1), (77, 0)] {
            dispatcher.ledger.reserve("blue", name, &lookup, (9, 9)).unwrap();
            dispatcher.ledger.settle(&name, Some(id));
            let mut datagram = Datagram::default();
            datagram.fill(&bytes);
            dispatcher.deliver(&datagram, &|_| false, &Counters::default());
            assert_eq!(dispatcher.ledger.count("blue"), left, "{id}");
        }
    }
}
