//! The control socket. A connection carries one request, a line of JSON, and one answer. Only the owner of the socket
//! can connect.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs, io,
    io::Write as _,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{
    super::PolicyError,
    Inner, Service,
    dispatch::{self, DesiredState},
    tenant::RunningTenant,
    watch::Watch,
};
use crate::{
    args::Report,
    command::report::{self, CommandError, Exit},
};
use flowgate_base::{
    files::{Directory, Trust},
    text::clean,
};
use flowgate_pipeline::sink::Sink;
use flowgate_policy::control::{
    self, ControlAnswer, ControlRequest, RequestError, RequestReader, SEND_TIMEOUT, TenantOrder, TenantStatus,
};

/// Interval between checks for signals and connections.
const LOOK: Duration = Duration::from_millis(50);
/// The interval while a client is connected.
const GLANCE: Duration = Duration::from_millis(5);
/// Maximum number of connections. A further connection closes the oldest one.
const CONNECTIONS: usize = 16;
/// Interval between searches for audit files that are too old.
const TIDY: Duration = Duration::from_secs(60);

/// The control socket. It exists as long as the service.
pub(super) struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
    /// The connected clients. All of them are non-blocking.
    peers: RefCell<VecDeque<Peer>>,
}

/// A connected client.
struct Peer {
    stream: UnixStream,
    /// Deadline of the request, then of the answer.
    end: Instant,
    request: RequestReader,
    /// Rest of the answer; `None` until the request has been received.
    answer: Option<VecDeque<u8>>,
}

impl ControlServer {
    /// Creates the socket.
    ///
    /// # Errors
    /// The socket cannot be created, or another service uses it.
    pub(super) fn open(path: &Path) -> Result<Self, PolicyError> {
        let failed = |source: io::Error| PolicyError::Socket { path: path.into(), source };
        if UnixStream::connect(path).is_ok() {
            return Err(PolicyError::Running { path: path.into() });
        }
        // The directory must be one in which no other user can replace the socket.
        Directory::of(path, Trust::Exclusive).map_err(failed)?;
        let directory = path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The socket is created in a private directory, so that no other user can connect before its mode is set.
        let private = tempfile::Builder::new().prefix(".flowgate").tempdir_in(directory).map_err(failed)?;
        let made = private.path().join("socket");
        let listener = UnixListener::bind(&made).map_err(failed)?;
        fs::set_permissions(&made, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        fs::rename(&made, path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(ControlServer { listener, path: path.into(), peers: RefCell::default() })
    }

    /// Answers requests until the service ends.
    pub(super) fn serve(&self, service: &Service, reload: &AtomicBool, watch: &mut Watch) {
        let rest = service.notifier.rest().unwrap_or(LOOK);
        let look = |server: &Self| rest.min(if server.peers.borrow().is_empty() { LOOK } else { GLANCE });
        let mut tidied = Instant::now();
        while !service.stop.wait(look(self)) {
            let asked = reload.swap(false, Ordering::AcqRel);
            let changed = service.follows_changes() && watch.settled(Instant::now()) && service.has_news();
            if asked || changed {
                // The error has been printed by `reload`.
                let _ = service.reload(&[], &|| self.attend(service, None));
            }
            self.attend(service, Some(&|| self.attend(service, None)));
            service.end_late();
            if tidied.elapsed() >= TIDY {
                tidied = Instant::now();
                service.audit.tidy();
            }
            service.notifier.status(|| service.state());
            service.feed();
        }
    }

    /// Reads requests, sends answers without blocking, and feeds the watchdog. `meanwhile` is called while tenants are
    /// being started for a request; `None` if no tenant can be started now.
    pub(super) fn attend(&self, service: &Service, meanwhile: Option<&dyn Fn()>) {
        for _ in 0..CONNECTIONS {
            let Ok((stream, _)) = self.listener.accept() else { break };
            let mut peers = self.peers.borrow_mut();
            if peers.len() >= CONNECTIONS {
                peers.pop_front();
            }
            // A client that is already gone is ignored.
            peers.extend(Peer::new(stream));
        }
        let count = self.peers.borrow().len();
        for _ in 0..count {
            // The queue is not borrowed during the answer: other clients are attended to while tenants are being
            // started for this one.
            let Some(mut peer) = self.peers.borrow_mut().pop_front() else { break };
            if peer.go_on(|request| answer(request, service, meanwhile).line(), Instant::now) {
                self.peers.borrow_mut().push_back(peer);
            }
            service.feed();
        }
        service.feed();
    }
}

impl Peer {
    fn new(stream: UnixStream) -> Option<Self> {
        stream.set_nonblocking(true).ok()?;
        Some(Peer { stream, end: Instant::now() + SEND_TIMEOUT, request: RequestReader::default(), answer: None })
    }

    /// Reads and writes as much as is possible without blocking. Returns true if the connection stays open. `answer` is
    /// called when the request is complete, and `now` returns the time.
    fn go_on(
        &mut self,
        answer: impl FnOnce(Result<ControlRequest, RequestError>) -> Vec<u8>,
        now: impl Fn() -> Instant,
    ) -> bool {
        if self.answer.is_none() {
            match self.request.read(&mut self.stream) {
                Ok(Some(request)) => {
                    self.answer = Some(answer(request).into());
                    self.end = now() + SEND_TIMEOUT;
                }
                Ok(None) => return now() < self.end,
                Err(_) => return false,
            }
        }
        match self.send() {
            Ok(()) => !self.answer.as_ref().is_none_or(VecDeque::is_empty) && now() < self.end,
            Err(_) => false,
        }
    }

    /// Sends as much of the answer as the socket takes.
    fn send(&mut self) -> io::Result<()> {
        let Some(answer) = &mut self.answer else { return Ok(()) };
        while !answer.is_empty() {
            match self.stream.write(answer.as_slices().0) {
                Ok(count) => drop(answer.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // The socket may already have been removed.
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers a request. `meanwhile` is called while tenants are being started for it; `None` if tenants are already being
/// started.
fn answer(
    request: Result<ControlRequest, RequestError>,
    service: &Service,
    meanwhile: Option<&dyn Fn()>,
) -> ControlAnswer {
    let result = request.map_err(|error| vec![error.to_string()]).and_then(|request| match request {
        ControlRequest::Status { tenant } => status(service, tenant.as_deref()).map(ControlResult::Status),
        ControlRequest::Reload { without } => {
            let without: Vec<String> = without.into_iter().collect();
            service.reload(&without, meanwhile.ok_or_else(|| busy(service))?).map(ControlResult::Errors)
        }
        ControlRequest::Pause(order) => {
            obey(&order, DesiredState::Pause, service, meanwhile).map(ControlResult::Tenants)
        }
        ControlRequest::Resume(order) => {
            obey(&order, DesiredState::Run, service, meanwhile).map(ControlResult::Tenants)
        }
        ControlRequest::Quarantine(order) => {
            obey(&order, DesiredState::Quarantine, service, meanwhile).map(ControlResult::Tenants)
        }
    });
    let generation = service.lock().generation;
    match result {
        Ok(ControlResult::Status(tenants)) => {
            let isolation = service.isolation.get().copied();
            ControlAnswer { ok: true, generation, tenants: Some(tenants), isolation, ..ControlAnswer::default() }
        }
        Ok(ControlResult::Tenants(tenants)) => {
            ControlAnswer { ok: true, generation, tenants: Some(tenants), ..ControlAnswer::default() }
        }
        Ok(ControlResult::Errors(errors)) => ControlAnswer { ok: true, generation, errors, ..ControlAnswer::default() },
        Err(errors) => ControlAnswer { ok: false, generation, errors, ..ControlAnswer::default() },
    }
}

/// The result of a request that was carried out.
enum ControlResult {
    /// State of the tenants that were asked about, and of the service.
    Status(Vec<TenantStatus>),
    /// State of the tenants that the request named.
    Tenants(Vec<TenantStatus>),
    /// Errors of the tenants that have not started.
    Errors(Vec<String>),
}

/// Returns the errors for a request that would start tenants while others are being started, or the service ends.
fn busy(service: &Service) -> Vec<String> {
    let why = if service.stop.is_stopped() {
        "the service ends: its tenants process what is left"
    } else {
        "tenants are being started; ask again when that is over"
    };
    vec![why.into()]
}

fn no_tenant(name: &str) -> Vec<String> {
    vec![format!("there is no tenant `{}`", clean(name))]
}

/// Returns the state of all tenants, or of the given one.
fn status(service: &Service, tenant: Option<&str>) -> Result<Vec<TenantStatus>, Vec<String>> {
    let inner = service.lock();
    let named = inner.tenants.iter().filter(|running| tenant.is_none_or(|name| running.name == name));
    let found: Vec<TenantStatus> = named.map(|running| status_of(&inner, running)).collect();
    match tenant {
        Some(name) if found.is_empty() => Err(no_tenant(name)),
        _ => Ok(found),
    }
}

/// Returns the state of a tenant, with its workers in other generations.
fn status_of(inner: &Inner, running: &RunningTenant) -> TenantStatus {
    let mut status = running.status();
    status.worker.others = inner.other_workers(&running.name);
    status
}

/// Carries out an order for a tenant and records it. Returns the state of the tenant afterwards.
fn obey(
    order: &TenantOrder,
    desired: DesiredState,
    service: &Service,
    meanwhile: Option<&dyn Fn()>,
) -> Result<Vec<TenantStatus>, Vec<String>> {
    let name = &order.tenant;
    if desired == DesiredState::Run && service.lock().needs_start(name) {
        service.restart(name, meanwhile.ok_or_else(|| busy(service))?).inspect_err(|errors| {
            errors.iter().for_each(|error| report::line(error));
        })?;
    }
    let inner = service.lock();
    let Some(running) = inner.tenants.iter().find(|running| running.name == *name) else {
        return Err(no_tenant(name));
    };
    let recipient = running.recipient();
    if meanwhile.is_none() {
        // Tenants that are being started and will take over must follow the order as well.
        match desired {
            DesiredState::Run => drop(service.orders().remove(name)),
            _ => drop(service.orders().insert(name.clone(), desired)),
        }
    }
    let command = match (desired, recipient.desired()) {
        (DesiredState::Pause | DesiredState::Run, DesiredState::Quarantine) => {
            return Err(vec!["the tenant is in quarantine, which only a reload ends".into()]);
        }
        (DesiredState::Run, before) => {
            if before == DesiredState::Pause {
                dispatch::resume(&recipient);
            }
            "resume"
        }
        (DesiredState::Pause, _) => {
            recipient.set(desired);
            "pause"
        }
        (DesiredState::Quarantine, _) => {
            recipient.set(desired);
            "quarantine"
        }
    };
    service.audit.service(inner.generation, name, command, order.reason.as_deref().map(clean));
    Ok(vec![status_of(&inner, running)])
}

/// Sends a request to a running service and prints the answer.
pub(in super::super) fn ask(
    socket: &Path,
    request: &ControlRequest,
    output: Report,
    stdout: &mut dyn Sink,
) -> Result<Exit, CommandError> {
    // The service waits up to its own limit for tenants that start, and twice that long if an earlier request is in
    // progress.
    let patience = match request {
        ControlRequest::Reload { .. } | ControlRequest::Resume(_) => 4 * super::START,
        _ => super::START,
    };
    let answer = control::ask(socket, request, patience)
        .map_err(|source| CommandError::Policy(PolicyError::Ask { path: socket.into(), source }))?;
    answer.errors.iter().for_each(|error| report::line(&clean(error)));
    match output {
        Report::Json => stdout.write(&answer.line())?,
        Report::Text => stdout.write(answer.text().as_bytes())?,
    }
    Ok(if answer.ok { Exit::Success } else { Exit::Failure })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_policy::control::MAX_ANSWER;

    /// Returns a client's socket and the service's end of the connection.
    fn peer() -> (UnixStream, Peer) {
        let (asking, stream) = UnixStream::pair().unwrap();
        (asking, Peer::new(stream).unwrap())
    }

    /// A client that does not send its request in time is disconnected.
    #[test]
    fn a_silent_peer_has_its_time_and_no_more() {
        let (mut asking, mut peer) = peer();
        let end = peer.end;
        let mut goes_on = |now| peer.go_on(|_| panic!("nothing has been asked"), || now);
        assert!(goes_on(end - Duration::from_nanos(1)));
        asking.write_all(b"{\"comm").unwrap();
        assert!(goes_on(end - Duration::from_nanos(1)), "it has begun to ask");
        assert!(!goes_on(end));
        assert!(end <= Instant::now() + SEND_TIMEOUT);
    }

    /// A client that does not read its answer in time loses the rest of it. The time starts with the answer.
    #[test]
    fn a_peer_that_does_not_read_has_its_time_and_no_more() {
        let (mut asking, mut peer) = peer();
        asking.write_all(b"{}\n").unwrap();
        let answered = peer.end + 10 * SEND_TIMEOUT;
        assert!(peer.go_on(|_| vec![b'x'; MAX_ANSWER], || answered));
        assert!(peer.answer.as_ref().is_some_and(|rest| !rest.is_empty()), "no socket takes that much at once");
        let mut goes_on = |now| peer.go_on(|_| panic!("it has been answered"), || now);
        assert!(goes_on(answered + SEND_TIMEOUT - Duration::from_nanos(1)));
        assert!(!goes_on(answered + SEND_TIMEOUT));
    }
}
