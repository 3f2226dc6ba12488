//! Hands each tenant the messages about its own flows.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU8, Ordering},
};

use flowgate_base::clock::now;
use flowgate_netlink::{Messages, message::MessageKind, source::Datagram, wire::NLMSG_ERROR};
use flowgate_pipeline::{counters::Counters, resync::append};
use flowgate_policy::{
    Scope,
    delivery::{Queue, ScopeFilter},
    guard::ledger::{EntryKey, Ledger},
};

/// What the operator wants of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// It runs.
    Run = 0,
    /// It is handed nothing, and may do nothing, until it is resumed.
    Pause = 1,
    /// The same until the next reload.
    Quarantine = 2,
}

/// Where a tenant's flows go.
pub(super) struct Outlet {
    pub scope: Scope,
    pub queue: Arc<Queue>,
    wish: AtomicU8,
    superseded: AtomicBool,
}

impl Outlet {
    pub(super) fn new(scope: Scope, queue: Arc<Queue>) -> Self {
        Outlet { scope, queue, wish: AtomicU8::new(Wish::Run as u8), superseded: AtomicBool::new(false) }
    }

    pub(super) fn wish(&self) -> Wish {
        match self.wish.load(Ordering::Acquire) {
            0 => Wish::Run,
            1 => Wish::Pause,
            _ => Wish::Quarantine,
        }
    }

    pub(super) fn set(&self, wish: Wish) {
        self.wish.store(wish as u8, Ordering::Release);
    }

    /// Another one takes its place: what it could do is over.
    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }
}

/// All outlets.
#[derive(Default)]
pub(super) struct Dispatcher {
    outlets: Mutex<Vec<Arc<Outlet>>>,
    /// The entries that tenants have made: some of them end.
    pub ledger: Arc<Ledger>,
    work: Mutex<Work>,
}

/// What is reused from datagram to datagram.
#[derive(Default)]
struct Work {
    scope_filter: ScopeFilter,
    /// For each outlet: bytes and times of messages, and how many of them are events.
    parts: Vec<(Vec<u8>, Vec<u64>, u64)>,
    marks: Vec<u8>,
    /// The kinds of the events.
    kinds: Vec<u8>,
}

impl Dispatcher {
    /// Other outlets from now on. Those before get nothing more, and finish what they have.
    pub(super) fn replace(&self, outlets: Vec<Arc<Outlet>>) {
        let mut current = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        for outlet in std::mem::replace(&mut *current, outlets) {
            outlet.queue.close();
        }
    }

    /// Another outlet of a tenant from now on, in the place of this one: between the two nothing is lost, and nothing goes to both.
    pub(super) fn exchange(&self, old: &Arc<Outlet>, new: Arc<Outlet>) {
        let mut outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        match outlets.iter_mut().find(|outlet| Arc::ptr_eq(outlet, old)) {
            Some(place) => *place = new,
            None => outlets.push(new),
        }
        old.queue.close();
    }

    /// Hands out what is in a datagram. Nobody is waited for. Marks that are the service's `own` are for no tenant.
    pub(super) fn hand_out(&self, datagram: &Datagram, own: &dyn Fn(u32) -> bool, counters: &Counters) {
        let outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        if datagram.gap {
            counters.gap(datagram.lost.unwrap_or(0));
            outlets.iter().for_each(|outlet| outlet.queue.push_gap(datagram.received, datagram.lost));
            return;
        }
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let Work { scope_filter, parts, marks, kinds } = &mut *work;
        parts.resize_with(outlets.len(), Default::default);
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
                // A mark of somebody's resync: its place among the events is what matters.
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
            for (outlet, (bytes, times, count)) in outlets.iter().zip(parts.iter_mut()) {
                if outlet.scope.contains(&view) && outlet.wish() == Wish::Run {
                    scope_filter.append(bytes, &message, &outlet.scope, &view);
                    times.push(received);
                    *count += 1;
                }
            }
        }
        counters.datagrams(datagram.times.len().max(1), datagram.length);
        counters.rows(kinds.len(), kinds);
        kinds.clear();
        for (outlet, (bytes, times, count)) in outlets.iter().zip(parts.iter_mut()) {
            outlet.queue.push(bytes, times, std::mem::take(count));
            bytes.clear();
            times.clear();
        }
    }
}

/// A gap for a tenant that was paused.
pub(super) fn resume(outlet: &Outlet) {
    outlet.set(Wish::Run);
    outlet.queue.push_gap(now(), None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_netlink::{DumpFilter, DumpKind, Request};
    use flowgate_netlink_testing::{attribute, message, tuple};

    /// A flow that ends counts no more for the tenant that has made it, whoever else sees it.
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
            dispatcher.hand_out(&datagram, &|_| false, &Counters::default());
            assert_eq!(dispatcher.ledger.count("blue"), left, "{id}");
        }
    }
}
