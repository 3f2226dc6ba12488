//! Runs what a release brings: this program once more, as `flowgate run FILE`, in a process that ends with the agent.

use std::{
    collections::VecDeque,
    fs,
    io::{self, BufRead, BufReader, Read as _},
    os::unix::{
        fs::DirBuilderExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use flowgate_base::{io_error::error_text, text::message};
use flowgate_fleet::{
    bundle::Kind,
    running::{Health, Job, Runner, Service, ServiceState},
};
use flowgate_pipeline::stats;
use flowgate_policy::{
    Policy,
    control::{self, ControlAnswer, ControlRequest, TenantState},
};
use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::{Pid, getppid},
};

use crate::command::report;

/// How long a service may take to end after SIGTERM.
const END: Duration = Duration::from_secs(30);
/// How long a service may take to say how it is.
const ANSWER: Duration = Duration::from_secs(3);
/// How long the last lines of a process that has ended may take.
const LAST: Duration = Duration::from_millis(500);
/// The lines of a process that say why it has ended.
const LINES: usize = 3;
/// The most bytes of a line.
const LINE: u64 = 4096;
/// Variables that are the agent's own.
const OWN: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FLOWGATE_AS", "FLOWGATE_FLEET", "LISTEN_FDS"];

/// Runs files as child processes.
pub(super) struct Processes {
    /// Where compiled code is kept, unless the unit says so.
    cache: PathBuf,
}

impl Processes {
    pub(super) fn new(state: &Path) -> Self {
        Processes { cache: state.join("cache") }
    }
}

/// A process that runs a file.
pub(super) struct Process {
    child: Child,
    kind: Kind,
    /// The control socket of a policy.
    socket: PathBuf,
    /// The last lines that it has printed.
    lines: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
    ended: Option<Health>,
}

impl Runner for Processes {
    type Service = Process;

    fn start(&mut self, job: &Job) -> Result<Process, String> {
        let failed = |error: io::Error| format!("it cannot be started: {}", error_text(&error));
        let mut socket = PathBuf::new();
        if job.kind == Kind::Policy {
            let limit = flowgate_base::files::MAX_CONFIGURATION_FILE;
            let content = flowgate_base::files::read(&job.entry, limit).map_err(failed)?;
            let (policy, _, _) = Policy::of_bytes(&job.entry, content);
            socket = policy.service.socket;
            // A folder of the system that is made at each start: without a unit, by nobody else.
            if let Some(folder) = socket.parent().filter(|folder| *folder == Path::new("/run/flowgate")) {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
            }
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.cache).map_err(failed)?;
        // The same program, whatever has been installed in its place since.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("flowgate").arg("run").arg(&job.entry);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        // A signal of the terminal is for the agent, which ends this one.
        command.process_group(0);
        for name in OWN {
            command.env_remove(name);
        }
        if std::env::var_os("CACHE_DIRECTORY").is_none() {
            command.env("CACHE_DIRECTORY", &self.cache);
        }
        let own = Pid::this();
        let follow = move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The agent may have ended before.
            if getppid() == own { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
        };
        // SAFETY: between fork and exec there are two system calls, and no memory is allocated. The signal is sent when
        // the thread ends that this runs on, which lives as long as the agent.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(follow);
        }
        let mut child = command.spawn().map_err(failed)?;
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let (stderr, kept) = (child.stderr.take(), lines.clone());
        let reader = stderr.map(|stderr| thread::spawn(move || pass_on(BufReader::new(stderr), &kept)));
        report::line(&format!("NOTICE: Generation {} of the fleet begins, process {}.", job.generation, child.id()));
        Ok(Process { child, kind: job.kind, socket, lines, reader, ended: None })
    }
}

/// Prints the lines of a process, and keeps the last ones.
fn pass_on(mut from: impl BufRead, kept: &Mutex<VecDeque<String>>) {
    let mut line = Vec::new();
    // A longer line is several.
    while from.by_ref().take(LINE).read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        report::text(&line);
        let text = message(&line).trim().to_owned();
        if !text.is_empty() {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back(text);
            while kept.len() > LINES {
                kept.pop_front();
            }
        }
        line.clear();
    }
}

impl Process {
    /// Returns how it has ended.
    fn ending(&mut self, status: ExitStatus) -> Health {
        let end = Instant::now() + LAST;
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        if self.kind == Kind::Pipeline && status.success() {
            return Health::of(ServiceState::Finished);
        }
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("it ended with status {code}"),
            (None, Some(signal)) => format!("it was ended by signal {signal}"),
            (None, None) => "it ended".to_owned(),
        };
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        match lines.as_slice() {
            [] => Health::ended(how),
            lines => Health::ended(format!("{how}: {}", lines.join(" | "))),
        }
    }
}

/// Returns the health of a policy by what its service says.
fn health(answer: &ControlAnswer) -> Health {
    let mut health = Health::of(ServiceState::Running);
    for tenant in answer.tenants.iter().flatten() {
        let name = &tenant.tenant;
        let reason = || tenant.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        match tenant.state {
            TenantState::Running | TenantState::Paused => {}
            TenantState::Quarantined => health.quarantined.push(name.clone()),
            TenantState::Ended => health.quarantined.push(format!("{name} has ended{}", reason())),
        }
        health.lost = health.lost.saturating_add(tenant.lost);
        health.gaps = health.gaps.saturating_add(tenant.gaps);
        health.restarts = health.restarts.saturating_add(tenant.worker.restarts);
        health.cpu = health.cpu.saturating_add(tenant.worker.nanoseconds / 1_000_000);
        for plugin in &tenant.plugins {
            if plugin.health == stats::Health::Quarantined {
                let error = plugin.last_error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
                health.quarantined.push(format!("{}{error}", plugin.plugin));
            }
            health.failures = health.failures.saturating_add(plugin.failures);
            let result = |kind: u8| plugin.actions.get(usize::from(kind)).copied().unwrap_or_default();
            use flowgate_model::result::{INVALID, NOT_GRANTED, OUTSIDE, OVER_LIMIT, REFUSED};
            let refused = [NOT_GRANTED, REFUSED, INVALID, OUTSIDE, OVER_LIMIT].map(result);
            health.refused = health.refused.saturating_add(refused.iter().sum());
        }
    }
    health
}

impl Service for Process {
    fn health(&mut self) -> Health {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        match self.child.try_wait() {
            Ok(Some(status)) => {
                let ended = self.ending(status);
                self.ended = Some(ended.clone());
                return ended;
            }
            Ok(None) => {}
            Err(error) => return Health::ended(format!("it cannot be waited for: {}", error_text(&error))),
        }
        if self.kind == Kind::Pipeline {
            return Health::of(ServiceState::Running);
        }
        match control::ask(&self.socket, &ControlRequest::Status { tenant: None }, ANSWER) {
            Ok(answer) => health(&answer),
            Err(error) => Health { reason: Some(error.to_string()), ..Health::of(ServiceState::Starting) },
        }
    }

    fn stop(mut self) {
        if self.ended.is_none() {
            let process = Pid::from_raw(self.child.id().cast_signed());
            // One that has ended meanwhile is waited for below.
            let _ = kill(process, Signal::SIGTERM);
            let end = Instant::now() + END;
            while matches!(self.child.try_wait(), Ok(None)) {
                if Instant::now() >= end {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_pipeline::stats::StageReport;
    use flowgate_policy::control::{TenantStatus, WorkerStatus};

    #[test]
    fn the_last_lines_are_kept_and_bounded() {
        let kept = Mutex::new(VecDeque::new());
        let long = "x".repeat(3 * 4096);
        pass_on(format!("one\n\ntwo\nthree\x1b[2J\nfour\n{long}").as_bytes(), &kept);
        let kept = kept.into_inner().unwrap();
        assert_eq!(kept.len(), LINES);
        assert!(kept.iter().all(|line| line.len() <= 4096));
        let kept = Mutex::new(VecDeque::new());
        pass_on(&b"one\ntwo\nthree\x1b[2J\n"[..], &kept);
        assert_eq!(kept.into_inner().unwrap(), ["one", "two", "three\\u{1b}[2J"]);
    }

    #[test]
    fn what_a_service_says_of_its_tenants_is_added_up() {
        let plugin = |health, refused| {
            let mut plugin = StageReport { plugin: "red:p".into(), health, failures: 2, ..StageReport::default() };
            plugin.actions[usize::from(flowgate_model::result::REFUSED)] = refused;
            plugin
        };
        let tenant = |name: &str, state, plugins| TenantStatus {
            tenant: name.into(),
            generation: 1,
            state,
            reason: None,
            events: 0,
            handed: 0,
            lost: 5,
            gaps: 1,
            waiting: 0,
            output_dropped: 0,
            worker: WorkerStatus { restarts: 1, ..WorkerStatus::default() },
            plugins,
        };
        let tenants = vec![
            tenant("blue", TenantState::Running, vec![plugin(stats::Health::BackingOff, 3)]),
            tenant("red", TenantState::Running, vec![plugin(stats::Health::Quarantined, 4)]),
            tenant("green", TenantState::Ended, Vec::new()),
        ];
        let answer = ControlAnswer { ok: true, tenants: Some(tenants), ..ControlAnswer::default() };
        let health = health(&answer);
        assert_eq!(health.quarantined, ["red:p", "green has ended"]);
        assert_eq!((health.lost, health.gaps, health.restarts), (15, 3, 3));
        assert_eq!((health.failures, health.refused, health.state), (4, 7, ServiceState::Running));
    }
}
