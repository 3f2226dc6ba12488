//! The control socket of the service: one request per connection, a line of JSON, and one answer.
//!
//! Both ends use the types and the reading of this module. Neither reads more than [`MAX_REQUEST`] and [`MAX_ANSWER`]
//! bytes, whatever the other end sends.
//!
//! * `status.rs` is what the service reports about tenants.

mod status;

use std::{
    fmt::Write as _,
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

pub use status::{OtherWorker, TenantState, TenantStatus, WorkerEnd, WorkerEndReport, WorkerState, WorkerStatus};

use serde::{Deserialize, Serialize};

use flowgate_base::{io_error::error_text, text};

/// Maximum length of a request, in bytes.
pub const MAX_REQUEST: usize = 64 << 10;
/// Maximum length of an answer, in bytes: enough for some 10,000 tenants.
pub const MAX_ANSWER: usize = 16 << 20;
/// Time that a peer has to take a request or an answer.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A request to the service. A field or command that the service does not know is an error: it might limit what is
/// asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlRequest {
    /// Report the state of all tenants, or of one.
    Status {
        /// The tenant, if only one is asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
    },
    /// Load the policy file again.
    Reload {
        /// A tenant to leave out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        without: Option<String>,
    },
    /// Stop a tenant's events and actions until it is resumed.
    Pause(TenantOrder),
    /// Resume a tenant that was paused, has ended, or has a quarantined plugin.
    Resume(TenantOrder),
    /// Pause a tenant until the next reload.
    Quarantine(TenantOrder),
}

/// The arguments of a command for one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantOrder {
    /// The tenant.
    pub tenant: String,
    /// The reason, for the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Why a request is refused before anything is done for it.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It has no end within [`MAX_REQUEST`] bytes.
    #[error("the request is longer than {} KiB", MAX_REQUEST >> 10)]
    TooLong,
    /// It is no JSON, or not of one of the commands.
    #[error("that is no request: {}", text::line(.0.to_string().as_bytes()))]
    Malformed(#[from] serde_json::Error),
}

/// Collects a request from what arrives on a connection.
#[derive(Debug, Default)]
pub struct RequestReader(Vec<u8>);

impl RequestReader {
    /// Reads as much as has arrived on a connection that does not block. Returns the request once it is complete: with
    /// its newline, when the client has closed its side, or beyond [`MAX_REQUEST`] bytes. `None` if more is to come.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn read(&mut self, connection: &mut impl Read) -> io::Result<Option<Result<ControlRequest, RequestError>>> {
        let mut part = [0; 4096];
        loop {
            let count = match connection.read(&mut part) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                count => count?,
            };
            let part = part.get(..count).unwrap_or_default();
            let newline = part.iter().position(|&byte| byte == b'\n');
            self.0.extend_from_slice(part.get(..newline.unwrap_or(count)).unwrap_or_default());
            if self.0.len() > MAX_REQUEST {
                return Ok(Some(Err(RequestError::TooLong)));
            }
            if newline.is_some() || count == 0 {
                return Ok(Some(serde_json::from_slice(&self.0).map_err(RequestError::from)));
            }
        }
    }
}

/// The answer of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlAnswer {
    /// True if what was asked for has been done.
    pub ok: bool,
    /// The generation of the policy that is in force.
    pub generation: u64,
    /// Reasons why it has not been done, or what did not start although it has been done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// The tenants that were asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<TenantStatus>>,
    /// What holds their workers, once the first one has been confined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
}

/// What holds the processes that run the plugins of tenants. A system-call filter and not being dumpable are required:
/// without them no worker starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::struct_excessive_bools, reason = "each is a restriction of its own")]
pub struct Isolation {
    /// True if each has a user of its own.
    #[serde(default)]
    pub uid: bool,
    /// True if they are in a PID namespace of their own.
    #[serde(default)]
    pub pidns: bool,
    /// The controllers of the cgroup (version 2) of each, if each has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupControllers>,
    /// The version of Landlock, if the kernel has it.
    #[serde(default)]
    pub landlock: Option<u32>,
    /// True if no memory can become executable (`PR_SET_MDWE`). The filter refuses it as well.
    pub no_executable_memory: bool,
    /// True if system calls are filtered.
    pub filter: bool,
    /// True if no other process of the same user may inspect them.
    pub not_dumpable: bool,
}

/// Controllers of cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupControllers {
    /// Memory of all kinds is limited.
    pub memory: bool,
    /// Processes are limited.
    pub pids: bool,
    /// Processors are shared by weights.
    pub cpu: bool,
}

impl Isolation {
    /// Returns it in one line.
    #[must_use]
    pub fn text(&self) -> String {
        let landlock = self.landlock.map_or_else(|| "no landlock".into(), |version| format!("landlock {version}"));
        let CgroupControllers { memory, pids, cpu } = self.cgroup.unwrap_or_default();
        let controllers = [(memory, " memory"), (pids, " pids"), (cpu, " cpu")];
        let controllers = controllers.into_iter().filter(|(is, _)| *is).map(|(_, name)| name);
        let cgroup: String = ["cgroup"].into_iter().chain(controllers).collect();
        let parts = [
            (self.uid, "uid"),
            (self.pidns, "pidns"),
            (true, landlock.as_str()),
            (self.filter, "filter"),
            (self.no_executable_memory, "no executable memory"),
            (self.not_dumpable, "not dumpable"),
            (self.cgroup.is_some(), cgroup.as_str()),
        ];
        parts.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect::<Vec<_>>().join(", ")
    }
}

impl ControlAnswer {
    /// Returns the answer as the line that is sent, which may also be printed to a terminal.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        // Numbers and texts always have a form in JSON.
        let mut line = text::json(&serde_json::to_string(self).unwrap_or_default()).into_owned().into_bytes();
        line.push(b'\n');
        line
    }

    /// Reads an answer until the other end closes the connection.
    ///
    /// # Errors
    /// The connection fails, the answer is longer than [`MAX_ANSWER`], or it is none.
    pub fn read(connection: impl Read) -> Result<Self, AskError> {
        let mut bytes = Vec::new();
        connection.take(MAX_ANSWER as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > MAX_ANSWER {
            return Err(AskError::TooLong);
        }
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Returns the generation and the tenants as text for a terminal; the errors are not part of it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("generation {}\n", self.generation);
        self.tenants.iter().flatten().for_each(|status| status.write(&mut text));
        if let Some(isolation) = &self.isolation {
            let _ = writeln!(text, "isolation: {}", isolation.text());
        }
        text
    }
}

/// Why a service cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing listens at the socket.
    #[error("no service runs there")]
    Absent,
    /// The service does not take the request or does not answer in time.
    #[error("it does not answer in time")]
    Late,
    /// The connection cannot be made, or has failed.
    #[error("{}", error_text(.0))]
    Connection(io::Error),
    /// The answer has no end within [`MAX_ANSWER`] bytes.
    #[error("its answer is longer than {} MiB", MAX_ANSWER >> 20)]
    TooLong,
    /// The response is malformed.
    #[error("its answer cannot be read: {}", text::line(.0.to_string().as_bytes()))]
    Malformed(#[from] serde_json::Error),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => AskError::Absent,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => AskError::Late,
            _ => AskError::Connection(error),
        }
    }
}

/// Sends a request to the service at `socket`, and waits for the answer for at most `patience`.
///
/// # Errors
/// No service runs there, it does not answer in time, or what it answers cannot be read.
pub fn ask(socket: &Path, request: &ControlRequest, patience: Duration) -> Result<ControlAnswer, AskError> {
    let stream = UnixStream::connect(socket)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    Timed { stream: &stream, end: Instant::now() + SEND_TIMEOUT }.write_all(&line)?;
    ControlAnswer::read(Timed { stream: &stream, end: Instant::now() + patience })
}

/// A connection that must have done its part by `end`.
struct Timed<'a> {
    stream: &'a UnixStream,
    end: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        match self.end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_pipeline::stats::StageReport;

    fn read(bytes: &[u8]) -> Result<ControlRequest, RequestError> {
        RequestReader::default().read(&mut &*bytes).unwrap().expect("a slice has an end")
    }

    fn order(tenant: &str, reason: Option<&str>) -> TenantOrder {
        TenantOrder { tenant: tenant.into(), reason: reason.map(str::to_string) }
    }

    #[test]
    fn requests_have_one_form() {
        for (request, json) in [
            (ControlRequest::Status { tenant: None }, r#"{"command":"status"}"#),
            (ControlRequest::Status { tenant: Some("a".into()) }, r#"{"command":"status","tenant":"a"}"#),
            (ControlRequest::Reload { without: None }, r#"{"command":"reload"}"#),
            (ControlRequest::Reload { without: Some("a".into()) }, r#"{"command":"reload","without":"a"}"#),
            (ControlRequest::Pause(order("a", Some("b"))), r#"{"command":"pause","tenant":"a","reason":"b"}"#),
            (ControlRequest::Resume(order("a", None)), r#"{"command":"resume","tenant":"a"}"#),
            (ControlRequest::Quarantine(order("a", None)), r#"{"command":"quarantine","tenant":"a"}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), json);
            assert_eq!(read(json.as_bytes()).unwrap(), request);
            assert_eq!(read(format!("{json}\nmore").as_bytes()).unwrap(), request);
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_reason() {
        for (json, reason) in [
            ("", "EOF"),
            ("status", "expected value"),
            ("{}", "missing field `command`"),
            (r#"{"command":"fly","tenant":"a"}"#, "unknown variant `fly`, expected one of `status`, `reload`"),
            (r#"{"command":"pause"}"#, "missing field `tenant`"),
            (r#"{"command":"pause","tenant":"a","and":1}"#, "unknown field `and`"),
            (r#"{"command":"status","without":"a"}"#, "unknown field `without`"),
            (r#"{"command":"reload","tenant":"a"}"#, "unknown field `tenant`"),
        ] {
            let error = read(json.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("that is no request: ") && error.contains(reason), "{json}: {error}");
        }
    }

    /// A request without an end is answered, not collected.
    #[test]
    fn a_request_has_a_limit() {
        let (mut client, mut server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        let mut reader = RequestReader::default();
        for part in [&b" "[..]; MAX_REQUEST / 4096].map(|blank| blank.repeat(4096)) {
            client.write_all(&part).unwrap();
            assert!(reader.read(&mut server).unwrap().is_none(), "there may be more");
        }
        client.write_all(b" ").unwrap();
        assert!(matches!(reader.read(&mut server).unwrap(), Some(Err(RequestError::TooLong))));
    }

    #[test]
    fn answers_are_read_as_they_were_sent() {
        let status = TenantStatus {
            tenant: "blue".into(),
            generation: 2,
            state: TenantState::Ended,
            reason: Some("its \u{1b}[2J plugin".into()),
            events: 5,
            handed: 4,
            lost: 1,
            gaps: 1,
            waiting: 80,
            output_dropped: 7,
            worker: WorkerStatus {
                state: WorkerState::Restarting,
                restarts: 2,
                process: Some(702),
                nanoseconds: 1_234_567_890,
                last_end: Some(WorkerEndReport { code: WorkerEnd::NoAnswer, reason: "silent \u{1b}[2J".into() }),
                others: vec![OtherWorker { generation: 1, state: WorkerState::Revoked }],
            },
            plugins: vec![StageReport { plugin: "blue:p".into(), rows_in: 9, ..StageReport::default() }],
        };
        let isolation = Isolation {
            uid: true,
            pidns: true,
            cgroup: Some(CgroupControllers { memory: true, pids: true, cpu: false }),
            landlock: Some(7),
            no_executable_memory: false,
            filter: true,
            not_dumpable: true,
        };
        let answer = ControlAnswer {
            ok: true,
            generation: 3,
            tenants: Some(vec![status]),
            isolation: Some(isolation),
            ..ControlAnswer::default()
        };
        let line = answer.line();
        assert!(
            line.ends_with(b"}\n") && line.starts_with(br#"{"ok":true,"generation":3,"tenants":[{"tenant":"blue","#)
        );
        assert_eq!(ControlAnswer::read(&*line).unwrap(), answer);
        assert_eq!(
            answer.text(),
            "generation 3\n\
             tenant blue: ended, 5 events, 1 lost in 1 gaps, 80 bytes waiting, 7 lines of output dropped\n  \
             its \\u{1b}[2J plugin\n  \
             worker: restarting, 2 restarts, 1234 ms of CPU time, process 702, last end: no-answer (silent \\u{1b}[2J)\n  \
             worker of generation 1: revoked\n  \
             plugin blue:p: running, 9 rows, 0 failures\n\
             isolation: uid, pidns, landlock 7, filter, not dumpable, cgroup memory pids\n"
        );
        let json = String::from_utf8(line).unwrap();
        for part in [
            r#""worker":{"state":"restarting","restarts":2,"process":702,"nanoseconds":1234567890,"last-end":{"code":"no-answer","#,
            r#""isolation":{"uid":true,"pidns":true,"cgroup":{"memory":true,"pids":true,"cpu":false},"landlock":7,"no-executable-memory":false,"filter":true,"not-dumpable":true}}"#,
        ] {
            assert!(json.contains(part), "{part} is not in {json}");
        }
        let none = Isolation {
            uid: false,
            pidns: false,
            cgroup: None,
            landlock: None,
            no_executable_memory: true,
            ..isolation
        };
        assert_eq!(none.text(), "no landlock, filter, no executable memory, not dumpable");
        // A later service may say more.
        let later = br#"{"ok":false,"generation":1,"errors":["no"],"since":5}"#;
        assert_eq!(ControlAnswer::read(&later[..]).unwrap().errors, ["no"]);
    }

    #[test]
    fn an_answer_without_an_end_is_an_error() {
        assert!(matches!(ControlAnswer::read(io::repeat(b' ')), Err(AskError::TooLong)));
        assert!(matches!(ControlAnswer::read(&b""[..]), Err(AskError::Malformed(_))));
    }
}
