//! The control socket: one request a connection, a line of JSON, and one answer. Only the owner of the socket can connect.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs, io,
    io::{Read as _, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    super::PolicyError,
    Service,
    dispatch::{self, Wish},
    tenant::{Running, Status},
    watch::Watch,
};
use crate::{
    args::Report,
    command::report::{self, CommandError, Exit},
};
use flowgate_base::{
    files::{Directory, Trust},
    io_error::error_text,
    text::clean,
};
use flowgate_pipeline::sink::Sink;

/// Between two looks for signals and connections.
const LOOK: Duration = Duration::from_millis(50);
/// The same while somebody is being answered.
const GLANCE: Duration = Duration::from_millis(5);
/// Connections at the same time. When there is one more, the oldest is closed.
const CONNECTIONS: usize = 16;
/// How often the audit is looked through for files that are too old.
const TIDY: Duration = Duration::from_secs(60);
/// How long a peer may take to ask, and how long to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest request.
const LONGEST: usize = 64 << 10;
/// The longest answer: some 10,000 tenants.
const LONGEST_ANSWER: usize = 16 << 20;

/// A request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Request {
    /// `status`, `pause`, `resume`, `reload` or `quarantine`.
    pub command: String,
    /// Whom it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Why, for the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a reload: the tenant that is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<String>,
}

/// An answer.
#[derive(Debug, Serialize)]
struct Answer {
    ok: bool,
    generation: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenants: Option<Vec<Status>>,
}

/// The socket, which is there as long as the service.
pub(super) struct Door {
    listener: UnixListener,
    path: PathBuf,
    /// Those who are connected. Nobody waits for any of them.
    peers: RefCell<VecDeque<Peer>>,
}

/// One who asks.
struct Peer {
    stream: UnixStream,
    /// Until when it must have asked, or must have taken the answer.
    end: Instant,
    asked: Vec<u8>,
    /// What is left of the answer, once there is one.
    answer: Option<VecDeque<u8>>,
}

impl Door {
    /// Makes the socket.
    ///
    /// # Errors
    /// It cannot be made, or another service has it.
    pub fn open(path: &Path) -> Result<Self, PolicyError> {
        let failed = |source: io::Error| PolicyError::Socket { path: path.into(), source };
        if UnixStream::connect(path).is_ok() {
            return Err(PolicyError::Running { path: path.into() });
        }
        // The directory must be one in which nobody else can put another socket in its place.
        Directory::of(path, Trust::Exclusive).map_err(failed)?;
        let directory = path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Nobody can connect before the mode is what it is to be: it is made where nobody else comes.
        let private = tempfile::Builder::new().prefix(".flowgate").tempdir_in(directory).map_err(failed)?;
        let made = private.path().join("socket");
        let listener = UnixListener::bind(&made).map_err(failed)?;
        fs::set_permissions(&made, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        fs::rename(&made, path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Door { listener, path: path.into(), peers: RefCell::default() })
    }

    /// Answers until the service ends.
    pub fn serve(self, service: &Service, reload: &AtomicBool, watch: &mut Watch) {
        let rest = service.notifier.rest().unwrap_or(LOOK);
        let look = |door: &Self| rest.min(if door.peers.borrow().is_empty() { LOOK } else { GLANCE });
        let mut tidied = Instant::now();
        while !service.stop.wait(look(&self)) {
            let asked = reload.swap(false, Ordering::AcqRel);
            let changed = service.follows_changes() && watch.settled(Instant::now()) && service.has_news();
            if asked || changed {
                // Why it failed has been told.
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

    /// Hears and answers those who are connected, as far as they do their part, and feeds the watchdog. `meanwhile` is called
    /// while tenants are being started for one of them; none if some are being started already.
    fn attend(&self, service: &Service, meanwhile: Option<&dyn Fn()>) {
        for _ in 0..CONNECTIONS {
            let Ok((stream, _)) = self.listener.accept() else { break };
            let mut peers = self.peers.borrow_mut();
            if peers.len() >= CONNECTIONS {
                peers.pop_front();
            }
            // One that is gone already does not matter to anybody else.
            peers.extend(Peer::new(stream));
        }
        let count = self.peers.borrow().len();
        for _ in 0..count {
            // Others are attended to while tenants are being started for this one.
            let Some(mut peer) = self.peers.borrow_mut().pop_front() else { break };
            if peer.go_on(service, meanwhile) {
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
        Some(Peer { stream, end: Instant::now() + PATIENCE, asked: Vec::new(), answer: None })
    }

    /// Takes what it says and gives it what it takes, without waiting; whether there is more to come.
    fn go_on(&mut self, service: &Service, meanwhile: Option<&dyn Fn()>) -> bool {
        if self.answer.is_none() {
            match self.request() {
                Ok(true) => {
                    let mut bytes = answer(&self.asked, service, meanwhile);
                    bytes.push(b'\n');
                    self.answer = Some(bytes.into());
                    self.end = Instant::now() + PATIENCE;
                }
                Ok(false) => return Instant::now() < self.end,
                Err(_) => return false,
            }
        }
        match self.send() {
            Ok(()) => !self.answer.as_ref().is_none_or(VecDeque::is_empty) && Instant::now() < self.end,
            Err(_) => false,
        }
    }

    /// Reads what there is of a request; whether that is all of it: the first line, or as much as is read of one.
    fn request(&mut self) -> io::Result<bool> {
        let mut part = [0; 4096];
        loop {
            let count = match self.stream.read(&mut part) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                count => count?,
            };
            self.asked.extend_from_slice(part.get(..count).unwrap_or_default());
            if let Some(newline) = self.asked.iter().position(|&byte| byte == b'\n') {
                self.asked.truncate(newline);
                return Ok(true);
            }
            if count == 0 || self.asked.len() > LONGEST {
                return Ok(true);
            }
        }
    }

    /// Sends as much of the answer as is taken.
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

impl Drop for Door {
    fn drop(&mut self) {
        // It may have been removed by somebody already.
        let _ = fs::remove_file(&self.path);
    }
}

/// How much of its time a peer has left.
///
/// # Errors
/// It has none left.
fn left(end: Instant) -> io::Result<Option<Duration>> {
    match end.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(Some(left)),
    }
}

/// Sends all of it to a peer, who has a limited time to take it.
fn send(mut stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !bytes.is_empty() {
        stream.set_write_timeout(left(end)?)?;
        let count = stream.write(bytes)?;
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// The answer to a request. `meanwhile` is called while tenants are being started for it; none if some are being started already.
fn answer(request: &[u8], service: &Service, meanwhile: Option<&dyn Fn()>) -> Vec<u8> {
    let answer = match serde_json::from_slice::<Request>(request) {
        Ok(request) => carry_out(&request, service, meanwhile),
        Err(error) => {
            let generation = service.lock().generation;
            Answer { ok: false, generation, errors: vec![format!("that is no request: {error}")], tenants: None }
        }
    };
    // Such an answer always has a form.
    serde_json::to_vec(&answer).unwrap_or_default()
}

fn carry_out(request: &Request, service: &Service, meanwhile: Option<&dyn Fn()>) -> Answer {
    let starts =
        request.command == "resume" && request.tenant.as_ref().is_some_and(|name| service.lock().needs_start(name));
    if starts || request.command == "reload" {
        let Some(meanwhile) = meanwhile else {
            let (generation, what) =
                (service.lock().generation, "tenants are being started; ask again when that is over");
            return Answer { ok: false, generation, errors: vec![what.into()], tenants: None };
        };
        if !starts {
            let without: Vec<String> = request.without.iter().cloned().collect();
            let result = service.reload(&without, meanwhile);
            let (generation, ok) = (service.lock().generation, result.is_ok());
            return Answer { ok, generation, errors: result.unwrap_or_else(|errors| errors), tenants: None };
        }
        let name = request.tenant.as_deref().unwrap_or_default();
        if let Err(errors) = service.restart(name, meanwhile) {
            errors.iter().for_each(|error| report::line(error));
            return Answer { ok: false, generation: service.lock().generation, errors, tenants: None };
        }
    }
    let inner = service.lock();
    let generation = inner.generation;
    let failed = |error: String| Answer { ok: false, generation, errors: vec![error], tenants: None };
    let named: Vec<&Running> = inner
        .tenants
        .iter()
        .filter(|running| request.tenant.as_ref().is_none_or(|name| running.name == *name))
        .collect();
    if let (Some(name), true) = (&request.tenant, named.is_empty()) {
        return failed(format!("there is no tenant `{}`", clean(name)));
    }
    if request.command == "status" {
        let tenants = Some(named.iter().map(|running| running.status()).collect());
        return Answer { ok: true, generation, errors: Vec::new(), tenants };
    }
    let (Some(running), Some(_)) = (named.first(), &request.tenant) else {
        return failed("name the tenant that it is about".into());
    };
    let outlet = running.outlet();
    let wish = match request.command.as_str() {
        "pause" => Some(Wish::Pause),
        "quarantine" => Some(Wish::Quarantine),
        _ => None,
    };
    if meanwhile.is_none() {
        // Those that take over meanwhile are to heed it as well.
        match wish {
            Some(wish) => drop(service.orders().insert(running.name.clone(), wish)),
            None => drop(service.orders().remove(&running.name)),
        }
    }
    match (request.command.as_str(), outlet.wish()) {
        ("pause" | "resume", Wish::Quarantine) => {
            return failed("the tenant is in quarantine, which only a reload ends".into());
        }
        ("pause", _) => outlet.set(Wish::Pause),
        ("resume", Wish::Run) => {}
        ("resume", _) => dispatch::resume(&outlet),
        ("quarantine", _) => outlet.set(Wish::Quarantine),
        (other, _) => {
            let known = "`status`, `pause`, `resume`, `reload` and `quarantine`";
            return failed(format!("there is no request `{}`; there are {known}", clean(other)));
        }
    }
    let why = request.reason.as_deref().map(clean);
    service.audit.service(generation, &running.name, &request.command, why);
    Answer { ok: true, generation, errors: Vec::new(), tenants: Some(vec![running.status()]) }
}

/// All that a peer says until it has finished: so long at most, and no more than [`LONGEST_ANSWER`].
fn receive(mut stream: &UnixStream, end: Instant) -> io::Result<Vec<u8>> {
    let late = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::other("it does not answer in time"),
        _ => error,
    };
    let (mut answer, mut part) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        stream.set_read_timeout(left(end).map_err(late)?)?;
        let count = stream.read(&mut part).map_err(late)?;
        answer.extend_from_slice(part.get(..count).unwrap_or_default());
        if count == 0 {
            return Ok(answer);
        }
        if answer.len() > LONGEST_ANSWER {
            return Err(io::Error::other(format!("its answer is longer than {} MiB", LONGEST_ANSWER >> 20)));
        }
    }
}

/// Asks a service that runs, and tells the answer.
pub(in super::super) fn ask(
    socket: &Path,
    request: &Request,
    output: Report,
    stdout: &mut dyn Sink,
) -> Result<Exit, CommandError> {
    let failed = |source: io::Error| CommandError::Policy(PolicyError::Ask { path: socket.into(), source });
    let stream = UnixStream::connect(socket).map_err(failed)?;
    let mut bytes = serde_json::to_vec(request).map_err(|error| failed(error.into()))?;
    bytes.push(b'\n');
    send(&stream, &bytes).map_err(failed)?;
    // Tenants that start may take as long as the service waits for them, twice where somebody else had asked before.
    let patience =
        if matches!(request.command.as_str(), "reload" | "resume") { 4 * super::START } else { super::START };
    let answer = receive(&stream, Instant::now() + patience).map_err(failed)?;
    let told: serde_json::Value = serde_json::from_slice(&answer).map_err(|error| failed(error.into()))?;
    let ok = told.get("ok").and_then(serde_json::Value::as_bool).unwrap_or(false);
    for error in told.get("errors").and_then(serde_json::Value::as_array).into_iter().flatten() {
        report::line(&clean(error.as_str().unwrap_or_default()));
    }
    match output {
        Report::Json => stdout.write(&answer)?,
        Report::Text => stdout.write(text(&told).as_bytes())?,
    }
    Ok(if ok { Exit::Success } else { Exit::Failure })
}

fn text(told: &serde_json::Value) -> String {
    let number =
        |value: &serde_json::Value, name: &str| value.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let word = |value: &serde_json::Value, name: &str| {
        clean(value.get(name).and_then(serde_json::Value::as_str).unwrap_or_default())
    };
    let mut text = format!("generation {}\n", number(told, "generation"));
    for tenant in told.get("tenants").and_then(serde_json::Value::as_array).into_iter().flatten() {
        text.push_str(&format!(
            "tenant {}: {}, {} events, {} lost in {} gaps, {} bytes waiting, {} lines of output dropped\n",
            word(tenant, "tenant"),
            word(tenant, "state"),
            number(tenant, "events"),
            number(tenant, "lost"),
            number(tenant, "gaps"),
            number(tenant, "waiting"),
            number(tenant, "output-dropped"),
        ));
        let reason = word(tenant, "reason");
        if !reason.is_empty() {
            text.push_str(&format!("  {reason}\n"));
        }
        for plugin in tenant.get("plugins").and_then(serde_json::Value::as_array).into_iter().flatten() {
            let (name, health) = (word(plugin, "plugin"), word(plugin, "health"));
            let (rows, failures) = (number(plugin, "rows_in"), number(plugin, "failures"));
            text.push_str(&format!("  plugin {name}: {health}, {rows} rows, {failures} failures\n"));
        }
    }
    text
}

/// Why there is nobody to ask, in words.
pub(in super::super) fn nobody(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "no service runs there".into(),
        _ => error_text(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request without an end is answered, not gathered.
    #[test]
    fn a_request_has_a_limit() {
        let (mut asking, stream) = UnixStream::pair().unwrap();
        let mut peer = Peer::new(stream).unwrap();
        asking.write_all(&[b' '; LONGEST]).unwrap();
        assert!(!peer.request().unwrap(), "there may be more");
        asking.write_all(b"x").unwrap();
        assert!(peer.request().unwrap());
        assert!(serde_json::from_slice::<Request>(&peer.asked).is_err());
    }
}
