//! `fleet rollout` and `fleet bundle`: what agents run, from one place and in stages.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{FleetError, Session, act::signing_key, ask::columns, json_line, operator_file, read_text, write_lines};
use crate::{
    args::{
        Report,
        fleet_command::OperatorArgs,
        rollout_command::{Failure, RolloutCommand, StartArgs},
    },
    command::{
        context::Context,
        policy,
        report::{self, CommandError, Exit},
    },
};
use flowgate_base::{
    text::{clean, path_text},
    units::show_time,
};
use flowgate_fleet::{
    bundle::{self, Bundle, Kind},
    bus::Bus as _,
    collector::{self, Chosen},
    config::OperatorFile,
    message,
    names::{self, AgentId},
    release::{Audience, BundleRef, Release, SignedRelease},
    rollout::{self, Gate, Pace, Progress, Review, Rollout, RolloutError, Terms},
};
use flowgate_pipeline::sink::Sink;

/// The most bytes of a file with a release.
const MAX_FILE: usize = 64 << 10;

/// Runs a subcommand.
pub(super) fn run(context: &mut Context<'_>, command: &RolloutCommand) -> Result<Exit, CommandError> {
    match command {
        RolloutCommand::Start(args) => start(context, args),
        RolloutCommand::Status { operator } => status(context, operator),
        RolloutCommand::Pause { operator } => {
            let session = open(operator)?;
            session.runtime.block_on(Rollout::pause(&session.bus, true)).map_err(FleetError::from)?;
            report::line("The rollout waits. Next: flowgate fleet rollout resume");
            Ok(Exit::Success)
        }
        RolloutCommand::Resume { operator, detach } => {
            let session = open(operator)?;
            session.runtime.block_on(Rollout::pause(&session.bus, false)).map_err(FleetError::from)?;
            if *detach { Ok(Exit::Success) } else { drive(context, &session) }
        }
        RolloutCommand::Abort { operator, on_failure } => {
            let session = open(operator)?;
            let on_failure = Failure::into(*on_failure);
            let aborted = Rollout::abort(&session.bus, &session.file.name, on_failure);
            session.runtime.block_on(aborted).map_err(FleetError::from)?;
            drive(context, &session)?;
            Ok(Exit::Success)
        }
    }
}

/// Connects, and sees to it that there are the buckets of rollouts.
fn open(operator: &OperatorArgs) -> Result<Session, FleetError> {
    let session = Session::open(operator)?;
    for bucket in [names::DESIRED, names::BUNDLES, names::ROLLOUTS] {
        session.runtime.block_on(session.bus.prepare(bucket)).map_err(RolloutError::Bus)?;
    }
    Ok(session)
}

/// Makes a bundle of files.
fn made(files: &[PathBuf], entry: Option<&str>) -> Result<Bundle, FleetError> {
    let collected = bundle::collect(files, entry)?;
    let kind = if policy::is_policy(collected.entry_content()) { Kind::Policy } else { Kind::Pipeline };
    Ok(Bundle::make(kind, &collected.entry, collected.files)?)
}

/// Prints what a bundle has, so that who signs can compare it.
pub(super) fn show(
    context: &mut Context<'_>,
    files: &[PathBuf],
    entry: Option<&str>,
    output: Report,
) -> Result<Exit, CommandError> {
    let bundle = made(files, entry)?;
    let manifest = bundle.manifest();
    let lines = if output == Report::Json {
        vec![json_line(&serde_json::json!({
            "digest": bundle.digest(), "size": bundle.bytes().len(), "kind": manifest.kind,
            "entry": manifest.entry, "files": manifest.files,
        }))]
    } else {
        let head = format!(
            "bundle {}: the {} {}, {} files, {} bytes",
            bundle.digest(),
            manifest.kind.word(),
            manifest.entry,
            manifest.files.len(),
            bundle.bytes().len()
        );
        let row = |file: &bundle::BundleFile| vec![file.name.clone(), file.size.to_string(), file.sha256.to_string()];
        std::iter::once(head).chain(columns(&manifest.files.iter().map(row).collect::<Vec<_>>())).collect()
    };
    write_lines(context.sink, &lines)?;
    Ok(Exit::Success)
}

/// Starts a rollout, or writes what is to be signed.
fn start(context: &mut Context<'_>, args: &StartArgs) -> Result<Exit, CommandError> {
    let StartArgs { operator, files, entry, on, agents, release, signed, .. } = args;
    // What is wrong with the files is said before anything is asked.
    let bundle = match files.as_slice() {
        [] => None,
        files => Some(made(files, entry.as_deref())?),
    };
    let given = signed.as_deref().map(read).transpose()?;
    let session = open(operator)?;
    let audience = match &given {
        Some((given, _)) => Chosen {
            labels: given.audience.labels.clone(),
            names: given.audience.agents.iter().map(ToString::to_string).collect(),
        },
        None => Chosen { labels: on.clone(), names: agents.clone() },
    };
    let members = session.members(&audience)?;
    let named: BTreeSet<AgentId> = match agents.is_empty() {
        true => BTreeSet::new(),
        false => members.iter().map(|member| member.id.clone()).collect(),
    };
    let reference = bundle.as_ref().map(BundleRef::of);
    let (wanted, signed) = match given {
        Some((given, signed)) => {
            if reference.is_some() && given.bundle != reference {
                return Err(FleetError::OtherBundle.into());
            }
            (given, signed)
        }
        None => {
            let generation = session.runtime.block_on(rollout::next_generation(&session.bus, &members));
            let generation = generation.map_err(FleetError::from)?;
            let audience = Audience { labels: on.clone(), agents: named.into_iter().collect() };
            let new = Release::new(generation, reference, audience, args.expires.as_secs());
            let mut signed = new.unsigned().map_err(RolloutError::Release).map_err(FleetError::from)?;
            if release.is_none() {
                signed.sign(&signing_key(&session.file, &session.path)?);
            }
            (new, signed)
        }
    };
    supply(&session, &wanted, bundle.as_ref())?;
    if let Some(path) = release {
        write(path, &signed)?;
        write_lines(context.sink, &shown(&wanted, session.json))?;
        report::line(&format!(
            "The release is in {0}. Next: flowgate fleet sign {0}, as often as agents need it, and flowgate fleet rollout \
             start --signed {0}",
            path_text(path)
        ));
        return Ok(Exit::Success);
    }
    let milliseconds = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let terms = Terms {
        stages: args.stages.0.clone(),
        bake: milliseconds(&args.bake),
        within: milliseconds(&args.within),
        gate: Gate::with(&args.gate),
        on_failure: Failure::into(args.on_failure),
        allow_missing: args.allow_missing,
    };
    let rollout = Rollout::new(signed, session.file.name.clone(), terms, &members).map_err(FleetError::from)?;
    session.runtime.block_on(rollout.begin(&session.bus)).map_err(FleetError::from)?;
    if args.detach {
        write_lines(context.sink, &shown(&wanted, session.json))?;
        report::line("The rollout is in place. Next: flowgate fleet rollout resume");
        return Ok(Exit::Success);
    }
    drive(context, &session)
}

/// Sees to it that the server has the bundle of a release, and none that nobody wants any more.
fn supply(session: &Session, release: &Release, bundle: Option<&Bundle>) -> Result<(), FleetError> {
    let digest = release.bundle.as_ref().map(|bundle| &bundle.digest);
    session.runtime.block_on(async {
        // The bundles of all agents are kept, also of those that this release is not for.
        let all = collector::members(&session.bus).await.map_err(FleetError::Registry)?;
        rollout::prune(&session.bus, &all, digest).await?;
        match (bundle, digest) {
            (Some(bundle), _) => rollout::upload(&session.bus, bundle).await.map_err(RolloutError::Bus)?,
            (None, Some(digest)) => {
                let first = session.bus.get(names::BUNDLES, &rollout::part(digest, 0)).await;
                if first.map_err(RolloutError::Bus)?.is_none() {
                    return Err(FleetError::NoBundle(digest.to_string()));
                }
            }
            (None, None) => {}
        }
        Ok(())
    })
}

/// Has the rollout go on until it is over, and tells of its way.
fn drive(context: &mut Context<'_>, session: &Session) -> Result<Exit, CommandError> {
    let json = session.json;
    let sink = &mut *context.sink;
    let mut failed = None;
    let tell = |progress: Progress| {
        if let Err(error) = tell(sink, json, &progress) {
            failed.get_or_insert(error);
        }
    };
    let driven = session.runtime.block_on(rollout::drive(&session.bus, Pace::default(), tell));
    let rollout = driven.map_err(FleetError::from)?;
    if let Some(error) = failed {
        return Err(error);
    }
    Ok(if rollout.phase == rollout::Phase::Done { Exit::Success } else { Exit::Failure })
}

/// Tells what has happened.
fn tell(sink: &mut dyn Sink, json: bool, progress: &Progress) -> Result<(), CommandError> {
    let named = |problems: &[rollout::Problem], word: &str| {
        let line = |problem: &rollout::Problem| match json {
            true => json_line(&serde_json::json!({ "agent": problem.agent, "state": word, "reason": problem.reason })),
            false => format!("  {}: {word}: {}", problem.agent, clean(&problem.reason)),
        };
        problems.iter().map(line).collect::<Vec<String>>()
    };
    let lines = match progress {
        Progress::Paused if json => vec![json_line(&serde_json::json!({ "phase": "paused" }))],
        Progress::Paused => vec!["paused; `flowgate fleet rollout resume` goes on".into()],
        Progress::Pending(problems) => {
            if problems.is_empty() {
                return Ok(());
            }
            // Progress is for people who wait, and changes all the time.
            if !json {
                let names: Vec<&str> = problems.iter().take(10).map(|problem| problem.agent.as_str()).collect();
                let more = problems.len().saturating_sub(names.len());
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let first = problems.first().map(|problem| clean(&problem.reason)).unwrap_or_default();
                report::line(&format!("waiting for {}{more} ({first})", names.join(", ")));
            }
            return Ok(());
        }
        Progress::Entered(rollout) => {
            let mut lines = vec![head(rollout, json)?];
            if rollout.phase != rollout::Phase::Push {
                lines.extend(named(&rollout.problems, "bad"));
            }
            if rollout.phase.is_over() {
                lines.extend(named(&rollout.missing, "missing"));
            }
            lines
        }
    };
    write_lines(sink, &lines)
}

/// Returns how far a rollout is, in one line.
fn head(rollout: &Rollout, json: bool) -> Result<String, FleetError> {
    let release = rollout.release()?;
    let (told, all) = (rollout.told().len(), rollout.agents.len());
    let (stage, stages) = (rollout.stage + 1, rollout.terms.stages.len());
    if json {
        return Ok(json_line(&serde_json::json!({
            "rollout": release.id, "generation": release.generation,
            "digest": release.bundle.as_ref().map(|bundle| &bundle.digest),
            "phase": rollout.phase.word(), "paused": rollout.paused, "stage": stage, "stages": rollout.terms.stages,
            "told": told, "agents": all, "since": rollout.since, "by": rollout.by,
            "problems": rollout.problems.len(), "missing": rollout.missing.len(),
        })));
    }
    let what = match &release.bundle {
        Some(bundle) => format!("{} {}", bundle.kind.word(), bundle.digest.short()),
        None => "nothing".into(),
    };
    let paused = if rollout.paused { ", paused" } else { "" };
    Ok(format!(
        "generation {} ({what}), stage {stage} of {stages}, {told} of {all} agents: {}{paused}",
        release.generation,
        rollout.phase.word()
    ))
}

/// Shows how far the rollout is, and how each agent does.
fn status(context: &mut Context<'_>, operator: &OperatorArgs) -> Result<Exit, CommandError> {
    let session = open(operator)?;
    let (rollout, reviews) = session
        .runtime
        .block_on(async {
            let (rollout, _) = Rollout::load(&session.bus).await?.ok_or(RolloutError::None)?;
            let reviews = rollout::review(&session.bus, &rollout, Pace::default()).await?;
            Ok::<_, RolloutError>((rollout, reviews))
        })
        .map_err(FleetError::from)?;
    let mut lines = vec![head(&rollout, session.json)?];
    if session.json {
        lines.extend(reviews.iter().map(|Review { agent, stage, state, reason }| {
            json_line(&serde_json::json!({ "agent": agent, "stage": stage + 1, "state": state, "reason": reason }))
        }));
    } else {
        lines.extend(rollout.problems.iter().map(|of| format!("  {}: bad: {}", of.agent, clean(&of.reason))));
        lines.extend(rollout.missing.iter().map(|of| format!("  {}: missing: {}", of.agent, clean(&of.reason))));
        let names = ["AGENT", "STAGE", "STATE", "REASON"].map(str::to_owned).to_vec();
        let row = |Review { agent, stage, state, reason }: &Review| {
            let reason = reason.as_deref().map(clean).unwrap_or_default();
            vec![agent.to_string(), (stage + 1).to_string(), (*state).to_owned(), reason]
        };
        lines.extend(columns(&std::iter::once(names).chain(reviews.iter().map(row)).collect::<Vec<_>>()));
    }
    write_lines(context.sink, &lines)?;
    Ok(Exit::Success)
}

/// Returns a release as lines for people, or for programs.
fn shown(release: &Release, json: bool) -> Vec<String> {
    if json {
        return vec![json_line(&serde_json::json!({
            "release": release.id, "generation": release.generation, "bundle": release.bundle,
            "audience": release.audience, "made": release.made, "expires": release.expires,
        }))];
    }
    let left = Duration::from_secs(release.expires.saturating_sub(flowgate_fleet::plan::now()));
    let what = match &release.bundle {
        Some(bundle) => format!("the {} in bundle {} ({} bytes)", bundle.kind.word(), bundle.digest, bundle.size),
        None => "nothing".into(),
    };
    let labels: Vec<&str> = release.audience.labels.iter().map(names::Label::as_str).collect();
    let labels = if labels.is_empty() { String::new() } else { format!(" with {}", labels.join(", ")) };
    let whom = match release.audience.agents.len() {
        0 => format!("all agents{labels}"),
        count => format!("{count} agents{labels}"),
    };
    let mut lines = vec![format!(
        "release {}: {whom} run {what} as generation {}, beginning within {}",
        clean(&release.id),
        release.generation,
        show_time(left)
    )];
    lines.extend(release.audience.agents.iter().map(|agent| format!("  {agent}")));
    lines
}

/// Shows the release in a file and signs it, if there is one.
pub(super) fn sign(
    context: &mut Context<'_>,
    operator: &OperatorArgs,
    path: &Path,
) -> Result<Option<Exit>, CommandError> {
    // What cannot be read is reported as what it most often is: a plan.
    let Ok((release, mut signed)) = read(path) else { return Ok(None) };
    let file = operator_file(operator);
    let operator_of = OperatorFile::read(&file).map_err(FleetError::from)?;
    let key = signing_key(&operator_of, &file)?;
    write_lines(context.sink, &shown(&release, operator.output == Report::Json))?;
    release.check_time(flowgate_fleet::plan::now()).map_err(RolloutError::Release).map_err(FleetError::from)?;
    signed.sign(&key);
    write(path, &signed)?;
    report::line(&format!(
        "Signed by {} ({}); the release has {} signatures. When it has as many as the agents need: flowgate fleet rollout \
         start --signed {}",
        operator_of.name,
        key.public(),
        signed.signatures.len(),
        path_text(path),
    ));
    Ok(Some(Exit::Success))
}

fn read(path: &Path) -> Result<(Release, SignedRelease), FleetError> {
    let text = read_text(path, MAX_FILE as u64)?;
    let unreadable =
        |error: message::MessageError| FleetError::Release { path: path_text(path), reason: error.to_string() };
    let signed: SignedRelease = message::read(text.as_bytes(), MAX_FILE).map_err(unreadable)?;
    let release = Release::read(&signed.release);
    let release = release.map_err(|error| FleetError::Release { path: path_text(path), reason: error.to_string() })?;
    Ok((release, signed))
}

fn write(path: &Path, signed: &SignedRelease) -> Result<(), FleetError> {
    let failed = |source| FleetError::File { path: path.to_owned(), source };
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    let mut bytes = message::write(signed);
    bytes.push(b'\n');
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)
}
