//! `audit --fleet` and `audit verify`: the audits of agents, as they are on the server, or in a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use super::{FleetError, Session, json_line, write_lines};
use crate::{
    args::{
        Report,
        fleet_command::{AuditCommand, OperatorArgs, VerifyOptions},
        policy_command::AuditOptions,
    },
    command::{
        context::Context,
        policy::{self, Output},
        report::{self, CommandError, Exit},
    },
};
use flowgate_base::text::{clean, path_text};
use flowgate_fleet::{
    audit::{self as audits, Chain, Flaw},
    collector::{self, Member},
    lines,
    names::AgentId,
    table::Form,
};

/// The most flaws that are shown of one agent.
const MAX_FLAWS: usize = 100;

/// Searches or verifies the audits of agents.
pub(in crate::command) fn audit(context: &mut Context<'_>, options: &AuditOptions) -> Result<Exit, CommandError> {
    match &options.command {
        Some(AuditCommand::Verify(verify)) if verify.fleet => verify_all(context, verify),
        Some(AuditCommand::Verify(verify)) => verify_file(context, &verify.file, verify.operator.output),
        None => show(context, options),
    }
}

/// Connects, and returns the agents of the registry.
fn open(operator: &OperatorArgs) -> Result<(Session, Vec<Member>), FleetError> {
    let session = Session::open(operator)?;
    let members = session.runtime.block_on(collector::members(&session.bus)).map_err(FleetError::Registry)?;
    Ok((session, members))
}

/// Returns the name of an agent, which may have been forgotten.
fn name<'a>(members: &'a [Member], agent: &'a AgentId) -> &'a str {
    let known = members.iter().find(|member| member.id == *agent);
    known.map_or(agent.as_str(), |member| member.name.as_str())
}

/// Shows the lines of all agents that match, in the order in which they arrived. If none does, it fails as grep does.
fn show(context: &mut Context<'_>, options: &AuditOptions) -> Result<Exit, CommandError> {
    let operator = OperatorArgs { operator: options.operator.clone(), output: options.output };
    let (session, members) = open(&operator)?;
    let (filter, form) = (policy::filter(options), policy::form(options));
    let mut search = filter.search(form);
    let mut output = Output { sink: &mut *context.sink, failure: None };
    let mut failed: Option<io::Error> = None;
    let mut foreign = 0_u64;
    let mut seen = BTreeSet::new();
    let take = |agent: &AgentId, line: &[u8]| {
        let name = name(&members, agent);
        let wanted = |wanted: &String| wanted == name || wanted == agent.as_str();
        if !options.agents.is_empty() && !options.agents.iter().any(wanted) {
            return true;
        }
        if !seen.contains(agent) {
            seen.insert(agent.clone());
        }
        let mut named = Vec::with_capacity(line.len() + 80);
        // A line that is none is not shown, and `audit verify` finds it.
        if lines::append(&mut named, name, 0, Form::Json, line).is_err() {
            foreign += 1;
            return true;
        }
        let named = named.strip_suffix(b"\n").unwrap_or(&named);
        failed = search.take(named, &mut output).err();
        failed.is_none()
    };
    let read = session.runtime.block_on(audits::read_all(&session.bus, take)).map_err(FleetError::Audits);
    let found = match failed {
        Some(error) => Err(error),
        None => search.end(&mut output),
    };
    if let Some(failure) = output.failure {
        return Err(failure.into());
    }
    let missing = read?;
    let found = found.map_err(FleetError::Output)?;
    let broken = foreign + found.broken;
    if broken > 0 || !missing.is_empty() {
        report::line(&format!(
            "WARNING: {broken} lines are none of an audit, and {} messages are missing; flowgate audit verify --fleet \
             says more.",
            missing.len()
        ));
    }
    let unknown = options.agents.iter().filter(|wanted| {
        !seen.iter().any(|agent| agent.as_str() == wanted.as_str() || name(&members, agent) == wanted.as_str())
    });
    for name in unknown {
        report::line(&format!("WARNING: There is no line of an agent {}.", clean(name)));
    }
    Ok(if found.lines > 0 { Exit::Success } else { Exit::Failure })
}

/// Verifies the audit in a file.
fn verify_file(context: &mut Context<'_>, path: &Path, output: Report) -> Result<Exit, CommandError> {
    let (count, flaws) = audits::verify(path).map_err(FleetError::from)?;
    let json = output == Report::Json;
    let shown = path_text(path);
    let flaw = |(place, flaw): &(u64, Flaw)| match json {
        true => json_line(&serde_json::json!({ "file": shown, "line": place, "flaw": flaw.to_string() })),
        false => format!("{shown}: line {place}: {flaw}"),
    };
    let sum = match json {
        true => json_line(&serde_json::json!({ "file": shown, "lines": count, "flaws": flaws.len() })),
        false if flaws.is_empty() => format!("{shown}: {count} lines, each of which follows from the one before"),
        false => format!("{shown}: {count} lines, {} flaws", flaws.len()),
    };
    let lines: Vec<String> = flaws.iter().map(flaw).chain([sum]).collect();
    write_lines(context.sink, &lines)?;
    Ok(if flaws.is_empty() { Exit::Success } else { Exit::Failure })
}

/// What is known of an agent's audit.
#[derive(Default)]
struct Verified {
    chain: Chain,
    lines: u64,
    /// The number of each line with a flaw.
    flaws: Vec<(u64, Flaw)>,
    more: u64,
}

/// Verifies the audits of all agents.
fn verify_all(context: &mut Context<'_>, options: &VerifyOptions) -> Result<Exit, CommandError> {
    let (session, members) = open(&options.operator)?;
    let mut agents: BTreeMap<AgentId, Verified> = BTreeMap::new();
    let take = |agent: &AgentId, line: &[u8]| {
        let of = agents.entry(agent.clone()).or_default();
        of.lines += 1;
        match of.chain.follow(line) {
            (number, Some(flaw)) if of.flaws.len() < MAX_FLAWS => of.flaws.push((number, flaw)),
            (_, Some(_)) => of.more += 1,
            (_, None) => {}
        }
        true
    };
    let missing = session.runtime.block_on(audits::read_all(&session.bus, take)).map_err(FleetError::Audits)?;
    let mut text = Vec::new();
    let mut whole = missing.is_empty();
    for sequence in &missing {
        text.push(match session.json {
            true => json_line(&serde_json::json!({ "message": sequence, "flaw": "it is missing" })),
            false => format!("message {sequence} of the server is missing"),
        });
    }
    let mut named: Vec<_> = agents.iter().map(|(agent, verified)| (name(&members, agent), agent, verified)).collect();
    named.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    for (name, agent, Verified { lines, flaws, more, .. }) in named {
        for (number, flaw) in flaws {
            text.push(match session.json {
                true => json_line(&serde_json::json!({ "agent": name, "line": number, "flaw": flaw.to_string() })),
                false => format!("{name}: line {number}: {flaw}"),
            });
        }
        let count = flaws.len() as u64 + more;
        whole &= count == 0;
        text.push(match session.json {
            true => json_line(&serde_json::json!({ "agent": name, "id": agent, "lines": lines, "flaws": count })),
            false if count == 0 => format!("{name}: {lines} lines, each of which follows from the one before"),
            false => format!("{name}: {lines} lines, {count} flaws"),
        });
    }
    for member in members.iter().filter(|member| !agents.contains_key(&member.id)) {
        text.push(match session.json {
            true => json_line(&serde_json::json!({ "agent": member.name, "id": member.id, "lines": 0, "flaws": 0 })),
            false => format!("{}: no lines", member.name),
        });
    }
    write_lines(context.sink, &text)?;
    Ok(if whole { Exit::Success } else { Exit::Failure })
}
