//! `fleet ls`, `fleet list` and `fleet count`: what agents are asked.

use std::{collections::BTreeMap, ffi::OsString};

use super::{
    FleetError, Session, chosen, conclude, groups, json_line,
    rows::{Rows, row},
    table::{self, words},
    write_lines,
};
use crate::{
    args::fleet_command::AskArgs,
    command::{
        context::Context,
        report::{self, CommandError, Exit},
    },
};
use flowgate_base::text::clean;
use flowgate_fleet::{
    collector::{self, Member, Taken},
    message::{Answer, Ask, Entry},
    roll_call::RollCall,
    running::Running,
    table::Form,
};
use flowgate_syntax::{Command, Output, Settings};

/// Asks agents, and returns their answers by number, besides the roll call.
pub(super) fn answers(
    session: &Session,
    members: &[Member],
    question: Ask,
    args: std::time::Duration,
) -> Result<(BTreeMap<usize, Answer>, RollCall), FleetError> {
    let mut answers = BTreeMap::new();
    let take = |index: usize, answer: &Answer| {
        answers.insert(index, answer.clone());
        Taken::Used
    };
    let roll = session.runtime.block_on(collector::ask(&session.bus, members, question, args, take));
    Ok((answers, roll.map_err(FleetError::Bus)?))
}

/// Returns rows of texts as aligned columns.
pub(super) fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Prints the roll call, with what each agent says about itself.
pub(super) fn ls(context: &mut Context<'_>, args: &AskArgs) -> Result<Exit, CommandError> {
    let session = Session::open(&args.operator)?;
    let members = session.members(&chosen(args))?;
    let (answers, roll) = answers(&session, &members, Ask::Status, args.timeout)?;
    let state = |member: &Member| {
        let called = roll.agents().iter().find(|called| called.id == member.id);
        called.map_or("absent", |called| called.fate.word())
    };
    let rows = members.iter().enumerate().map(|(index, member)| {
        let answer = answers.get(&index);
        let now = answer.and_then(|answer| answer.head.entry.as_ref());
        (member, answer, now.or(member.entry.as_ref()))
    });
    let labels = |entry: Option<&Entry>| {
        let labels = entry.map(|entry| entry.labels.iter().map(ToString::to_string).collect::<Vec<_>>());
        labels.unwrap_or_default()
    };
    let text = if session.json {
        let line = |(member, answer, entry): (&Member, Option<&Answer>, Option<&Entry>)| {
            json_line(&serde_json::json!({
                "agent": member.name,
                "id": member.id,
                "state": state(member),
                "labels": labels(entry),
                "flowgate": entry.map(|entry| &entry.facts.flowgate),
                "kernel": entry.map(|entry| &entry.facts.kernel),
                "flows": answer.and_then(|answer| Some(answer.head.entry.as_ref()?.facts.flows)),
                "flows_max": entry.map(|entry| entry.facts.flows_max),
                "boot": entry.map(|entry| &entry.boot),
                "took_us": answer.map(|answer| answer.head.took),
                "running": entry.and_then(|entry| entry.running.as_ref()),
            }))
        };
        rows.map(line).collect()
    } else {
        let head = ["AGENT", "STATE", "FLOWGATE", "KERNEL", "FLOWS", "RUNS", "LABELS"].map(str::to_owned).to_vec();
        let row = |(member, answer, entry): (&Member, Option<&Answer>, Option<&Entry>)| {
            let fact = |text: Option<&String>| text.map_or_else(|| "-".into(), |text| clean(text));
            let flows = answer.and_then(|answer| Some(answer.head.entry.as_ref()?.facts.flows.to_string()));
            vec![
                member.name.to_string(),
                state(member).to_owned(),
                fact(entry.map(|entry| &entry.facts.flowgate)),
                fact(entry.map(|entry| &entry.facts.kernel)),
                flows.unwrap_or_else(|| "-".into()),
                entry.and_then(|entry| entry.running.as_ref()).map_or_else(|| "-".into(), runs),
                labels(entry).join(","),
            ]
        };
        columns(&std::iter::once(head).chain(rows.map(row)).collect::<Vec<_>>())
    };
    write_lines(context.sink, &text)?;
    Ok(conclude(&roll, session.json, args.allow_missing))
}

/// Returns what an agent runs, and what is wrong with it, in a few words.
fn runs(running: &Running) -> String {
    let Some(desired) = &running.desired else { return "-".into() };
    let applied =
        running.applied.as_ref().map_or_else(|| "nothing".to_owned(), |applied| applied.generation.to_string());
    let failed = running.failed.as_ref().filter(|failed| failed.generation == desired.generation);
    match (&running.trial, failed) {
        (Some(trial), _) => format!("{applied} (trial of {})", trial.generation),
        (None, Some(failed)) => format!("{applied} ({} failed: {})", failed.generation, clean(&failed.reason)),
        (None, None) => format!("{applied} {}", running.health.state.word()),
    }
}

/// Checks a question here first, where the mistake was made.
pub(super) fn checked(given: &[OsString], command: Command, form: Form) -> Result<Vec<String>, FleetError> {
    parsed(given, command, form == Form::Json).map(|(words, _)| words)
}

/// Checks a question here first, and returns its settings, too.
pub(super) fn parsed(given: &[OsString], command: Command, json: bool) -> Result<(Vec<String>, Settings), FleetError> {
    let words = words(given).map_err(FleetError::Question)?;
    let settings = table::parse(&words, command, Form::Text).map_err(FleetError::Question)?;
    if json {
        // Another form after the -- is a contradiction.
        let both: Vec<String> = words.iter().cloned().chain(["-o".into(), "json".into()]).collect();
        table::parse(&both, command, Form::Json).map_err(FleetError::Question)?;
    }
    Ok((words, settings))
}

/// Returns the width of the names of agents.
pub(super) fn name_width(members: &[Member]) -> usize {
    members.iter().map(|member| member.name.as_str().len()).max().unwrap_or_default()
}

/// Lists flows of all agents, or groups of them.
pub(super) fn list(context: &mut Context<'_>, args: &AskArgs, given: &[OsString]) -> Result<Exit, CommandError> {
    let json = form(args) == Form::Json;
    let asked = words(given).map_err(FleetError::Question)?;
    if let Some(question) = groups::Question::of(&asked, json).map_err(FleetError::Question)? {
        return groups::list(context, args, question);
    }
    let (words, settings) = parsed(given, Command::List, json)?;
    let columns = !json && settings.output.contains(Output::COLUMNED);
    let form = if columns { Form::Json } else { form(args) };
    let question = |count| Ask::List { words, form, first: collector::first(count) };
    let presented = |width| match columns {
        true => Rows::of_objects(row(Command::List)?, &settings, json, width),
        false => Ok(Rows::Lines { form, width }),
    };
    rows(context, args, question, presented, Some("flow entries"))
}

/// Shows the counters of all agents' kernels.
pub(super) fn stats(context: &mut Context<'_>, args: &AskArgs) -> Result<Exit, CommandError> {
    let form = form(args);
    rows(context, args, |_| Ask::Stats { form }, |width| Ok(Rows::Lines { form, width }), None)
}

/// Returns the form of rows.
pub(super) fn form(args: &AskArgs) -> Form {
    if args.operator.output == crate::args::Report::Json { Form::Json } else { Form::Text }
}

/// Prints the rows of all agents; `what` they are is counted at the end.
fn rows(
    context: &mut Context<'_>,
    args: &AskArgs,
    question: impl FnOnce(usize) -> Ask,
    presented: impl FnOnce(usize) -> Result<Rows, CommandError>,
    what: Option<&str>,
) -> Result<Exit, CommandError> {
    let session = Session::open(&args.operator)?;
    let members = session.members(&chosen(args))?;
    let mut rows = presented(name_width(&members))?;
    let mut failed: Option<CommandError> = None;
    let mut shown = 0;
    let sink = &mut *context.sink;
    let take = |index: usize, answer: &Answer| {
        let Some(member) = members.get(index) else { return Taken::Used };
        match rows.write(sink, member.name.as_str(), &answer.rows) {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Taken::Bad(reason),
            Err(error) => {
                failed = Some(error);
                return Taken::Enough;
            }
        }
        shown += answer.head.flows.unwrap_or_default();
        Taken::Used
    };
    let asked = collector::ask(&session.bus, &members, question(members.len()), args.timeout, take);
    let roll = session.runtime.block_on(asked).map_err(FleetError::Bus)?;
    if let Some(error) = failed {
        return Err(error);
    }
    rows.end(context.sink)?;
    if let Some(what) = what.filter(|_| !session.json) {
        let answered = roll.agents().len() - roll.missing();
        report::banner(&format!("{shown} {what} of {answered} agents have been shown."));
    }
    Ok(conclude(&roll, session.json, args.allow_missing))
}

/// Counts flows of all agents.
pub(super) fn count(context: &mut Context<'_>, args: &AskArgs, given: &[OsString]) -> Result<Exit, CommandError> {
    let asked = words(given).map_err(FleetError::Question)?;
    if let Some(question) = groups::Question::of(&asked, form(args) == Form::Json).map_err(FleetError::Question)? {
        return groups::list(context, args, question);
    }
    let words = checked(given, Command::List, Form::Text)?;
    let session = Session::open(&args.operator)?;
    let members = session.members(&chosen(args))?;
    let (answers, roll) = answers(&session, &members, Ask::Count { words }, args.timeout)?;
    let counts =
        members.iter().enumerate().filter_map(|(index, member)| Some((member, answers.get(&index)?.head.flows?)));
    let counts: Vec<(&Member, u64)> = counts.collect();
    let lines = if session.json {
        let line =
            |(member, flows): &(&Member, u64)| json_line(&serde_json::json!({ "agent": member.name, "flows": flows }));
        counts.iter().map(line).collect()
    } else {
        let total: u128 = counts.iter().map(|(_, flows)| u128::from(*flows)).sum();
        let rows = counts.iter().map(|(member, flows)| vec![member.name.to_string(), flows.to_string()]);
        columns(&rows.chain([vec!["total".into(), total.to_string()]]).collect::<Vec<_>>())
    };
    write_lines(context.sink, &lines)?;
    Ok(conclude(&roll, session.json, args.allow_missing))
}
