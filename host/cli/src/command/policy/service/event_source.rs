//! Where the events of a network namespace are received: a thread that passes them to the dispatcher.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use super::{Service, dispatch::Dispatcher, heartbeat::Heartbeat};
use crate::command::report;
use flowgate_base::io_error::error_text;
use flowgate_netlink::{
    Namespace, group,
    listener::{Listener, ListenerOptions},
    namespace,
    process_names::ProcessNames,
    source::{Datagram, EVENT_BUFFER_LENGTH, InsertBarrier},
};
use flowgate_pipeline::{kernel::KernelTable, resync::Kernel as _};
use flowgate_policy::delivery::Listings;

/// The place at which the events of a network namespace are received and delivered.
pub(super) struct EventSource {
    pub namespace: Option<Namespace>,
    pub identity: namespace::Identity,
    pub insert_barrier: InsertBarrier,
    pub dispatcher: Dispatcher,
    pub heartbeat: Heartbeat,
    /// Process names, shared by all tenants of the namespace.
    pub programs: Arc<Mutex<ProcessNames>>,
    /// Listings of the table, shared by all tenants of the namespace.
    pub listings: Arc<Listings>,
}

impl Service {
    /// Returns the event_source of a network namespace, and creates it if necessary.
    ///
    /// # Errors
    /// The reason why the namespace cannot be used.
    pub(super) fn event_source(&self, name: Option<&String>) -> Result<Arc<EventSource>, String> {
        let namespace = name.map(|name| Namespace::find(&Path::new(namespace::DIRECTORY).join(name).into_os_string()));
        let namespace = namespace.transpose().map_err(|error| match error.errno() {
            libc::EPERM => {
                format!("{error}; a service that started without tenants in namespaces has given it up: restart it")
            }
            _ => error.to_string(),
        })?;
        // The process may be unable to identify its own namespace.
        let own = || namespace::identity(None).unwrap_or_default();
        let identity = namespace.as_ref().map_or_else(own, Namespace::identity);
        let mut event_sources = self.event_sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(event_source) = event_sources.get(&identity) {
            return Ok(event_source.clone());
        }
        let wanted = ListenerOptions {
            groups: group::FLOWS,
            buffer: self.buffer,
            namespace: namespace.clone(),
            ..ListenerOptions::default()
        };
        let mut listener = Listener::open(&wanted, &self.stop)
            .map_err(|error| format!("cannot listen to events: {}", report::strerror(error.errno())))?;
        let programs = ProcessNames::in_namespace(namespace.clone());
        let (place, until) = (namespace.clone(), self.stop.clone());
        let listings = Listings::new(Box::new(move || KernelTable::new(place.as_ref(), &until).list()));
        let event_source = Arc::new(EventSource {
            namespace,
            identity,
            insert_barrier: listener.barrier_inserter(),
            dispatcher: Dispatcher::default(),
            heartbeat: Heartbeat::default(),
            programs: Arc::new(Mutex::new(programs)),
            listings: Arc::new(listings),
        });
        if name.is_none() || event_sources.is_empty() {
            self.counters.watch(listener.socket());
        }
        let (receiving, stop, failure) = (event_source.clone(), self.stop.clone(), self.failure.clone());
        let counters = self.counters.clone();
        let receive = move || {
            let mut datagram = Datagram::with_capacity(EVENT_BUFFER_LENGTH);
            let mut due = None;
            loop {
                match listener.next_until(&mut datagram, due) {
                    Ok(Some(true)) => {
                        let own = |mark| receiving.heartbeat.is_own(mark);
                        due = receiving.dispatcher.deliver(&datagram, &own, &counters);
                        receiving.heartbeat.beat();
                    }
                    Ok(None) => due = receiving.dispatcher.pass_due(),
                    Ok(Some(false)) => break,
                    Err(error) => {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.errno());
                        stop.stop();
                        break;
                    }
                }
            }
            // No further events will arrive; those in the queues are still processed.
            receiving.dispatcher.replace(Vec::new());
        };
        let receiver = thread::Builder::new()
            .name("events".into())
            .spawn(receive)
            .map_err(|error| format!("cannot start a thread: {}", error_text(&error)))?;
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner).push(receiver);
        event_sources.insert(identity, event_source.clone());
        Ok(event_source)
    }
}
