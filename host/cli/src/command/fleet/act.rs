//! `fleet delete`, `fleet update`, `fleet sign` and `fleet apply`: actions are planned, signed, and then done.

use std::{ffi::OsString, fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use super::{
    FleetError, Session,
    ask::{answers, checked},
    chosen, conclude, json_line, operator_file,
    plan_text::{self, columns},
    read_text, table, write_lines,
};
use crate::{
    args::fleet_command::{AskArgs, OperatorArgs, PlanArgs},
    command::{
        context::Context,
        report::{self, CommandError, Exit},
    },
};
use flowgate_base::{text::path_text, units::show_time};
use flowgate_fleet::{
    collector::{Chosen, Member},
    config::OperatorFile,
    keys::SigningKey,
    later,
    message::{self, Ask, MAX_COMMAND},
    names::AgentId,
    plan::{Action, Plan, PlanError, Share, SignedPlan, Terms},
    roll_call::{Called, Fate, RollCall},
    table::Form,
};

/// The most bytes of a file with a plan.
const MAX_FILE: u64 = 2 * MAX_COMMAND as u64;

/// Plans an action, and has it done unless it is a dry run.
pub(super) fn act(
    context: &mut Context<'_>,
    action: Action,
    args: &AskArgs,
    terms: &PlanArgs,
    given: &[OsString],
) -> Result<Exit, CommandError> {
    let words = checked(given, table::command(action), Form::Text)?;
    let session = Session::open(&args.operator)?;
    let members = session.members(&chosen(args))?;
    let (answers, roll) = answers(&session, &members, Ask::Plan { action, words: words.clone() }, args.timeout)?;
    let share = |(index, member): (usize, &Member)| {
        let touched = answers.get(&index)?.head.touched.clone()?;
        Some(Share { id: member.id.clone(), name: member.name.clone(), touched })
    };
    let shares: Vec<Share> = members.iter().enumerate().filter_map(share).collect();
    let of_plan = Terms { life: terms.expires.as_secs(), allowance: terms.allowance, absent_later: terms.absent_later };
    let plan = Plan::new(action, words, shares, of_plan);
    if terms.dry_run {
        write_lines(context.sink, &plan_text::lines(&plan, session.json)?)?;
        if let Some(path) = &terms.plan {
            let unsigned = plan.unsigned().map_err(|source| FleetError::Plan { path: path_text(path), source })?;
            write(path, &unsigned)?;
            report::line(&format!(
                "The plan is in {}, valid for {}. Next: flowgate fleet sign {0}",
                path_text(path),
                show_time(Duration::from_secs(plan.expires.saturating_sub(plan.made))),
            ));
        }
        return Ok(conclude(&roll, session.json, args.allow_missing));
    }
    // What does not even count would not act either, and is missed before anything is done.
    if roll.missing() > args.allow_missing {
        report::banner(&format!(
            "nothing was {}, since not all agents could plan it; --allow-missing does without them",
            action.done()
        ));
        return Ok(conclude(&roll, session.json, args.allow_missing));
    }
    let key = signing_key(&session.file, &session.path)?;
    let path = || "the plan".to_owned();
    let mut signed = plan.unsigned().map_err(|source| FleetError::Plan { path: path(), source })?;
    signed.sign(&key);
    carry_out(context, &session, &plan, signed, args.timeout, args.allow_missing)
}

/// Shows a plan, signs it, and writes it back.
pub(super) fn sign(context: &mut Context<'_>, operator: &OperatorArgs, path: &Path) -> Result<Exit, CommandError> {
    let file = operator_file(operator);
    let operator_of = OperatorFile::read(&file).map_err(FleetError::from)?;
    let key = signing_key(&operator_of, &file)?;
    let (plan, mut signed) = read(path)?;
    write_lines(context.sink, &plan_text::lines(&plan, operator.output == crate::args::Report::Json)?)?;
    let now = flowgate_fleet::plan::now();
    if plan.expires <= now {
        let source = PlanError::Expired(now.saturating_sub(plan.expires));
        return Err(FleetError::Plan { path: path_text(path), source }.into());
    }
    signed.sign(&key);
    write(path, &signed)?;
    report::line(&format!(
        "Signed by {} ({}); the plan has {} signatures. When it has as many as the agents need: flowgate fleet apply {}",
        operator_of.name,
        key.public(),
        signed.signatures.len(),
        path_text(path),
    ));
    Ok(Exit::Success)
}

/// Has a plan done.
pub(super) fn apply(
    context: &mut Context<'_>,
    operator: &OperatorArgs,
    timeout: Duration,
    allow_missing: usize,
    path: &Path,
) -> Result<Exit, CommandError> {
    let (plan, signed) = read(path)?;
    let session = Session::open(operator)?;
    carry_out(context, &session, &plan, signed, timeout, allow_missing)
}

/// Sends a plan to the agents in it, whether the registry has them or not.
fn carry_out(
    context: &mut Context<'_>,
    session: &Session,
    plan: &Plan,
    signed: SignedPlan,
    timeout: Duration,
    allow_missing: usize,
) -> Result<Exit, CommandError> {
    let member = |share: &Share| Member { id: share.id.clone(), name: share.name.clone(), entry: None };
    let members: Vec<Member> = plan.agents.iter().map(member).collect();
    if members.is_empty() {
        return Err(FleetError::NoAgents("the plan names no agent").into());
    }
    let members = Chosen::default().of(members).unwrap_or_default();
    let (answers, mut roll) = answers(session, &members, Ask::Apply { plan: signed.clone() }, timeout)?;
    if plan.absent_later {
        leave(session, plan, &signed, &mut roll);
    }
    let done = members.iter().enumerate().filter_map(|(index, member)| {
        let head = &answers.get(&index)?.head;
        let planned = plan.agents.iter().find(|share| share.id == member.id)?;
        let same = head.touched.as_ref().map(|touched| touched.hash == planned.touched.hash);
        Some((member, head.flows?, same.unwrap_or_default()))
    });
    let lines = if session.json {
        let line = |(member, count, same): (&Member, u64, bool)| {
            json_line(&serde_json::json!({ "agent": member.name, plan.action.done(): count, "as_planned": same }))
        };
        done.map(line).collect()
    } else {
        let row = |(member, count, same): (&Member, u64, bool)| {
            let note = if same { "" } else { "other flows than were planned, within the allowance" };
            vec![member.name.to_string(), format!("{count} {}", plan.action.done()), note.to_owned()]
        };
        columns(&done.map(row).collect::<Vec<_>>())
    };
    write_lines(context.sink, &lines)?;
    Ok(conclude(&roll, session.json, allow_missing))
}

pub(super) fn signing_key(file: &OperatorFile, path: &Path) -> Result<SigningKey, FleetError> {
    let sign = file.sign.as_ref().ok_or_else(|| FleetError::NoSigningKey(path_text(path)))?;
    Ok(SigningKey::read(sign)?)
}

/// Leaves a plan for the agents that are not there, and says so in the roll call.
fn leave(session: &Session, plan: &Plan, signed: &SignedPlan, roll: &mut RollCall) {
    let waiting = |called: &&Called| matches!(called.fate, Fate::Absent(_) | Fate::Late(_));
    let agents: Vec<AgentId> = roll.agents().iter().filter(waiting).map(|called| called.id.clone()).collect();
    if agents.is_empty() {
        return;
    }
    let left = session.runtime.block_on(later::leave(&session.bus, plan, signed, &agents));
    let until = plan_text::time(plan.expires);
    for (index, agent) in agents.iter().enumerate() {
        let error = match &left {
            Ok(left) => left.get(index).and_then(|left| left.as_ref().err()),
            Err(error) => Some(error),
        };
        let note = match error {
            None => format!("it does it when it connects before {until}"),
            Some(error) => format!("and the plan could not be left for it: {error}"),
        };
        roll.add(agent, &note);
    }
}

fn read(path: &Path) -> Result<(Plan, SignedPlan), FleetError> {
    let text = read_text(path, MAX_FILE)?;
    let wrong = |source| FleetError::Plan { path: path_text(path), source };
    let signed: SignedPlan =
        message::read(text.as_bytes(), MAX_COMMAND).map_err(|error| wrong(PlanError::Unreadable(error.to_string())))?;
    Ok((Plan::read(&signed.plan).map_err(wrong)?, signed))
}

fn write(path: &Path, signed: &SignedPlan) -> Result<(), FleetError> {
    let failed = |source| FleetError::File { path: path.to_owned(), source };
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    let mut bytes = message::write(signed);
    bytes.push(b'\n');
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)
}
