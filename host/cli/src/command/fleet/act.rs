//! `fleet delete`, `fleet sign` and `fleet apply`: actions are planned, signed, and then done.

use std::{ffi::OsString, fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use super::{
    FleetError, Session,
    ask::{answers, checked, columns},
    chosen, conclude, json_line, operator_file, read_text, write_lines,
};
use crate::{
    args::fleet_command::{AskArgs, OperatorArgs},
    command::{
        context::Context,
        report::{self, CommandError, Exit},
    },
};
use flowgate_base::{
    text::{clean, path_text},
    units::show_time,
};
use flowgate_fleet::{
    collector::{Chosen, Member},
    config::OperatorFile,
    keys::SigningKey,
    message::{self, Ask, MAX_COMMAND},
    plan::{Action, Plan, PlanError, Share, SignedPlan},
    table::Form,
};
use flowgate_syntax::Command;

/// The most bytes of a file with a plan.
const MAX_FILE: u64 = 2 * MAX_COMMAND as u64;

/// How a deletion is planned.
pub(super) struct Terms<'a> {
    /// True if nothing is done.
    pub dry_run: bool,
    /// Where the plan goes.
    pub plan: Option<&'a Path>,
    /// How long it is valid.
    pub life: Duration,
    /// By how many percent the flows may have become more.
    pub allowance: u32,
}

/// Plans a deletion, and has it done unless it is a dry run.
pub(super) fn delete(
    context: &mut Context<'_>,
    args: &AskArgs,
    terms: &Terms<'_>,
    given: &[OsString],
) -> Result<Exit, CommandError> {
    let words = checked(given, Command::Delete, Form::Text)?;
    let session = Session::open(&args.operator)?;
    let members = session.members(&chosen(args))?;
    let (answers, roll) = answers(&session, &members, Ask::Plan { words: words.clone() }, args.timeout)?;
    let share = |(index, member): (usize, &Member)| {
        let touched = answers.get(&index)?.head.touched.clone()?;
        Some(Share { id: member.id.clone(), name: member.name.clone(), touched })
    };
    let shares: Vec<Share> = members.iter().enumerate().filter_map(share).collect();
    let plan = Plan::new(Action::Delete, words, shares, terms.life.as_secs(), terms.allowance);
    if terms.dry_run {
        write_lines(context.sink, &shown(&plan, session.json))?;
        if let Some(path) = terms.plan {
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
    // What does not even count would not delete either, and is missed before anything is done.
    if roll.missing() > args.allow_missing {
        report::banner("nothing was deleted, since not all agents could plan it; --allow-missing does without them");
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
    write_lines(context.sink, &shown(&plan, operator.output == crate::args::Report::Json))?;
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
    let (answers, roll) = answers(session, &members, Ask::Apply { plan: signed }, timeout)?;
    let done = members.iter().enumerate().filter_map(|(index, member)| {
        let head = &answers.get(&index)?.head;
        let planned = plan.agents.iter().find(|share| share.id == member.id)?;
        let same = head.touched.as_ref().map(|touched| touched.hash == planned.touched.hash);
        Some((member, head.flows?, same.unwrap_or_default()))
    });
    let lines = if session.json {
        let line = |(member, deleted, same): (&Member, u64, bool)| {
            json_line(&serde_json::json!({ "agent": member.name, "deleted": deleted, "as_planned": same }))
        };
        done.map(line).collect()
    } else {
        let row = |(member, deleted, same): (&Member, u64, bool)| {
            let note = if same { "" } else { "other flows than were planned, within the allowance" };
            vec![member.name.to_string(), format!("{deleted} deleted"), note.to_owned()]
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

/// Returns a plan as lines for people, or for programs.
fn shown(plan: &Plan, json: bool) -> Vec<String> {
    let Action::Delete = plan.action;
    let left = Duration::from_secs(plan.expires.saturating_sub(flowgate_fleet::plan::now()));
    if json {
        let head = json_line(&serde_json::json!({
            "plan": plan.id,
            "action": plan.action,
            "words": plan.words,
            "made": plan.made,
            "expires": plan.expires,
            "allowance": plan.allowance,
        }));
        let line = |share: &Share| {
            json_line(&serde_json::json!({
                "agent": share.name, "id": share.id, "would_delete": share.touched.count, "hash": share.touched.hash,
            }))
        };
        return std::iter::once(head).chain(plan.agents.iter().map(line)).collect();
    }
    let words: Vec<String> = plan.words.iter().map(|word| quoted(word)).collect();
    let total: u128 = plan.agents.iter().map(|share| u128::from(share.touched.count)).sum();
    let head = format!(
        "plan {}: delete {total} flows of {} agents, and {} % more, within {}, by {}",
        clean(&plan.id),
        plan.agents.len(),
        plan.allowance,
        show_time(left),
        words.join(" ")
    );
    let rows = plan.agents.iter().map(|share| vec![share.name.to_string(), share.touched.count.to_string()]);
    std::iter::once(head).chain(columns(&rows.collect::<Vec<_>>())).collect()
}

/// Returns a word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:,=@%+".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", clean(word).replace('\'', "'\\''")),
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
