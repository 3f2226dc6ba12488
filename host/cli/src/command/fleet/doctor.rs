//! `fleet doctor`: what is wrong with the server, the agents, or their clocks.

use std::time::Duration;

use super::{FleetError, Session, ask::answers, connect, json_line, operator_file, runtime, write_lines};
use crate::{
    args::{Report, fleet_command::OperatorArgs},
    command::{
        context::Context,
        report::{CommandError, Exit},
    },
};
use flowgate_base::{clock, text::clean, units::show_time};
use flowgate_fleet::{
    bus::{Bus as _, Nats, Streams as _},
    collector,
    config::OperatorFile,
    keys::ConnectKey,
    message::{Ask, MAX_COMMAND},
    names,
    roll_call::Fate,
};

/// How long agents and the server have to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Clocks that differ by more than this are reported, in milliseconds. A plan tolerates a minute.
const SKEW: u64 = 2000;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grade {
    Fine,
    Warning,
    Problem,
}

impl Grade {
    fn word(self) -> &'static str {
        match self {
            Grade::Fine => "ok",
            Grade::Warning => "warning",
            Grade::Problem => "problem",
        }
    }
}

/// What was found out.
struct Finding {
    subject: &'static str,
    grade: Grade,
    text: String,
    /// What to do about it.
    hint: Option<String>,
}

fn fine(subject: &'static str, text: impl Into<String>) -> Finding {
    Finding { subject, grade: Grade::Fine, text: text.into(), hint: None }
}

fn bad(subject: &'static str, grade: Grade, text: impl Into<String>, hint: impl Into<String>) -> Finding {
    Finding { subject, grade, text: text.into(), hint: Some(hint.into()) }
}

/// Looks for everything that can be wrong, as far as it can be reached.
pub(super) fn run(context: &mut Context<'_>, args: &OperatorArgs) -> Result<Exit, CommandError> {
    let mut findings = Vec::new();
    find(args, &mut findings)?;
    let json = args.output == Report::Json;
    let lines: Vec<String> = findings.iter().map(|finding| line(finding, json)).collect();
    write_lines(context.sink, &lines)?;
    let problem = findings.iter().any(|finding| finding.grade == Grade::Problem);
    Ok(if problem { Exit::Failure } else { Exit::Success })
}

fn line(finding: &Finding, json: bool) -> String {
    let Finding { subject, grade, text, hint } = finding;
    if json {
        return json_line(&serde_json::json!({ "check": subject, "state": grade.word(), "text": text, "hint": hint }));
    }
    let hint = hint.as_ref().map(|hint| format!("\n           -> {hint}")).unwrap_or_default();
    format!("{:8}  {subject}: {text}{hint}", grade.word())
}

fn find(args: &OperatorArgs, findings: &mut Vec<Finding>) -> Result<(), FleetError> {
    let path = operator_file(args);
    let file = OperatorFile::read(&path)?;
    let key = ConnectKey::read(&file.key)?;
    let runtime = runtime()?;
    let bus = match runtime.block_on(connect(&file, &key)) {
        Ok(bus) => bus,
        Err(error) => {
            let hint = match &error {
                FleetError::Connect(flowgate_fleet::bus::ConnectError::Unknown { .. }) => {
                    "copy users.conf of `flowgate fleet enrol` to the server, and reload it: nats-server --signal reload"
                }
                FleetError::Connect(flowgate_fleet::bus::ConnectError::Tls { .. }) => {
                    "the server needs the certificate in server/tls of the fleet's directory, which is for the names \
                     given to `flowgate fleet init`"
                }
                _ => "is nats-server running there, and does a firewall let the port pass?",
            };
            let text = error.to_string();
            let text = text.split("; `flowgate fleet doctor`").next().unwrap_or_default();
            findings.push(bad("connection", Grade::Problem, text, hint));
            return Ok(());
        }
    };
    findings.push(fine("connection", format!("{} with TLS, as {}", file.server, file.name)));
    server(&bus, &runtime, findings);
    let prepared = runtime.block_on(bus.prepare(names::REGISTRY));
    if let Err(error) = prepared {
        let hint = "is `jetstream` in nats-server.conf, and can the server write its store_dir?";
        findings.push(bad("registry", Grade::Problem, error.to_string(), hint));
        return Ok(());
    }
    match runtime.block_on(flowgate_fleet::events::create(&bus)) {
        Ok(()) => findings.push(fine("events", format!("the stream {} takes them", names::EVENTS))),
        Err(error) => {
            let hint = "is the operator's entry in users.conf that of this version (flowgate fleet enrol rewrites it)?";
            findings.push(bad("events", Grade::Warning, error.to_string(), hint));
        }
    }
    let audits = runtime.block_on(bus.prepare_stream(&flowgate_fleet::audit::STREAM));
    if let Err(error) = audits {
        let hint = "is the operator's entry in users.conf the one that `flowgate fleet enrol` writes? The audits of \
                    agents stay on their hosts meanwhile";
        findings.push(bad("audit", Grade::Problem, error.to_string(), hint));
    }
    let session = Session { runtime, bus, file, path, json: false };
    let members = match session.runtime.block_on(collector::members(&session.bus)) {
        Ok(members) => members,
        Err(error) => {
            let hint = "is the operator's entry in users.conf the one that `flowgate fleet init` wrote?";
            findings.push(bad("registry", Grade::Problem, error.to_string(), hint));
            return Ok(());
        }
    };
    if members.is_empty() {
        let hint = "flowgate fleet enrol, and flowgate fleet agent on each host";
        findings.push(bad("registry", Grade::Warning, "no agent has connected yet", hint));
        return Ok(());
    }
    findings.push(fine("registry", format!("{} agents", members.len())));
    let before = clock::now() / 1_000_000;
    let (answers, roll) = answers(&session, &members, Ask::Status, ANSWER)?;
    let after = clock::now() / 1_000_000;
    for called in roll.agents().iter().filter(|called| called.fate != Fate::Answered) {
        let text = format!("{} is {}: {}", called.name, called.fate.word(), called.fate.reason().unwrap_or_default());
        let hint = "systemctl status flowgate-fleet-agent there; `flowgate fleet forget` if the host is no more";
        findings.push(bad("agent", Grade::Problem, clean(&text), hint));
    }
    if roll.missing() == 0 {
        findings.push(fine("agents", "all answer"));
    }
    let mut off = 0;
    for (index, answer) in &answers {
        let Some(member) = members.get(*index) else { continue };
        let time = answer.head.time;
        let skew = before.saturating_sub(time).max(time.saturating_sub(after));
        if skew > SKEW {
            off += 1;
            let text = format!("that of {} is off by {}", member.name, show_time(Duration::from_millis(skew)));
            findings.push(bad("clock", Grade::Warning, text, "plans expire by the clocks of agents: chronyc tracking"));
        }
    }
    if off == 0 && !answers.is_empty() {
        findings.push(fine("clocks", format!("within {}", show_time(Duration::from_millis(SKEW)))));
    }
    Ok(())
}

/// Checks the server.
fn server(bus: &Nats, runtime: &tokio::runtime::Runtime, findings: &mut Vec<Finding>) {
    let facts = bus.server();
    let mut numbers = facts.version.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or_default());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    findings.push(match version {
        old if old < (2, 9) => {
            bad("server", Grade::Problem, format!("nats-server {}", facts.version), "the oldest that works is 2.9")
        }
        old if old < (2, 10) => bad(
            "server",
            Grade::Warning,
            format!("nats-server {}", facts.version),
            "before 2.10 it does not know `sync_interval: always`",
        ),
        _ => fine("server", format!("nats-server {}", facts.version)),
    });
    if !facts.jetstream {
        let hint = "add `jetstream { store_dir: ... }` to nats-server.conf, as `flowgate fleet init` writes it";
        findings.push(bad("storage", Grade::Problem, "the server has no JetStream", hint));
        return;
    }
    if facts.max_payload < MAX_COMMAND {
        let text = format!("messages have at most {} bytes, and plans up to {MAX_COMMAND}", facts.max_payload);
        findings.push(bad("messages", Grade::Warning, text, "set `max_payload: 1MB` in nats-server.conf"));
    }
    let asked = runtime.block_on(bus.request(names::SERVER_STATE.into(), Vec::new(), ANSWER));
    let state = asked.ok().and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let always = state.as_ref().map(|state| state["data"]["config"]["sync_always"] == true);
    findings.push(match always {
        Some(true) => fine("storage", "the server writes to disk what it acknowledges"),
        Some(false) => bad(
            "storage",
            Grade::Warning,
            "the server writes to disk what it has acknowledged up to two minutes later",
            "set `sync_interval: always` in `jetstream` of nats-server.conf",
        ),
        None => bad(
            "storage",
            Grade::Warning,
            "the server does not say whether it writes to disk what it acknowledges",
            "users.conf of `flowgate fleet init` imports $SYS.REQ.SERVER.PING.JSZ for it",
        ),
    });
}
