//! `policy`: tenants, looked at and asked about.
//!
//! * `prepare` compares plugins with what the file says of them, and starts them.
//! * `service` runs them.
//! * `explain` says who sees a flow, and what each may do to it.

mod audit;
mod explain;
mod prepare;
mod service;

use std::path::{Path, PathBuf};

use super::assemble::Purpose;
use super::{
    assemble::Assembly,
    report::{self, CommandError, Exit},
};
use crate::{
    cli::{
        PolicyCommand, error_text,
        policy_command::{Addressee, Order},
    },
    config::Mistake,
    pipeline::sink::Sink,
    policy::{self, Policy},
};

/// Why a subcommand of `policy` cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The control socket cannot be made.
    #[error("the control socket {} cannot be made: {}", path.display(), error_text(source))]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another service has the control socket.
    #[error("a service runs already: it answers at {}", path.display())]
    Running {
        /// Where.
        path: PathBuf,
    },
    /// The service cannot be asked.
    #[error("the service cannot be asked at {}: {}", path.display(), service::nobody(source))]
    Ask {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Signals cannot be caught.
    #[error("SIGHUP cannot be caught: {}", error_text(source))]
    Signal {
        /// Why not.
        source: std::io::Error,
    },
    /// No thread can be had.
    #[error("cannot start a thread: {}", error_text(source))]
    Thread {
        /// Why not.
        source: std::io::Error,
    },
    /// A file of the audit cannot be read.
    #[error("cannot read {}: {}", path.display(), error_text(source))]
    Audit {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The text behind the file is no flow.
    #[error("that is no flow: {wrong}; {right}")]
    Flow {
        /// What is wrong.
        wrong: String,
        /// What would be right.
        right: String,
    },
}

pub(super) use audit::audit;
pub(super) use service::run as serve;

/// Whether a file is one with tenants.
pub(super) fn is_policy(file: &Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| Policy::is_one(&text))
}

/// Whether a policy has tenants in other network namespaces than that of the process; none if the file is no policy.
pub(super) fn enters_namespaces(file: &Path) -> Option<bool> {
    let text = std::fs::read_to_string(file).ok().filter(|text| Policy::is_one(text))?;
    let (policy, _, _) = Policy::of_bytes(file, text.into_bytes());
    Some(policy.tenants.iter().any(|tenant| tenant.namespace.is_some()))
}

/// Carries out a subcommand of `policy`.
pub(super) fn run(command: &PolicyCommand, stdout: &mut dyn Sink) -> Result<Exit, CommandError> {
    match command {
        PolicyCommand::Check { file } => check(file, stdout),
        PolicyCommand::Explain { file, namespace, output, flow } => {
            let (policy, mistakes, _) = read(file)?;
            sound(file, &mistakes)?;
            explain::run(&policy, namespace.as_deref(), *output, flow, stdout)
        }
        PolicyCommand::Status { to, tenant } => ask(to, "status", tenant.as_deref(), None, stdout),
        PolicyCommand::Pause(order) => give("pause", order, stdout),
        PolicyCommand::Resume(order) => give("resume", order, stdout),
        PolicyCommand::Quarantine(order) => give("quarantine", order, stdout),
        PolicyCommand::Reload { to } => ask(to, "reload", None, None, stdout),
        PolicyCommand::Schema => {
            stdout.write(policy::schema().as_bytes())?;
            Ok(Exit::Success)
        }
    }
}

/// Gives the service an order.
fn give(command: &str, Order { to, tenant, reason }: &Order, stdout: &mut dyn Sink) -> Result<Exit, CommandError> {
    ask(to, command, Some(tenant), reason.as_deref(), stdout)
}

/// Asks the service.
fn ask(
    to: &Addressee,
    command: &str,
    tenant: Option<&str>,
    reason: Option<&str>,
    stdout: &mut dyn Sink,
) -> Result<Exit, CommandError> {
    let request = service::Request {
        command: command.into(),
        tenant: tenant.map(str::to_string),
        reason: reason.map(str::to_string),
    };
    service::ask(&to.socket, &request, to.output, stdout)
}

/// Reads a policy file: what it says, what is wrong with it, and what is worth knowing.
fn read(file: &Path) -> Result<(Policy, Vec<Mistake>, Vec<Mistake>), CommandError> {
    Policy::read(file).map_err(|source| CommandError::Pipeline { path: file.into(), source })
}

/// Tells mistakes, of which there must be none.
fn sound(file: &Path, mistakes: &[Mistake]) -> Result<(), CommandError> {
    mistakes.iter().for_each(|mistake| report::line(&mistake.to_string()));
    match mistakes.len() {
        0 => Ok(()),
        mistakes => Err(CommandError::Mistakes { path: file.into(), mistakes }),
    }
}

/// Looks for mistakes, also in the plugins.
pub(super) fn check(file: &Path, stdout: &mut dyn Sink) -> Result<Exit, CommandError> {
    let (policy, mut mistakes, mut notes) = read(file)?;
    let assembly = Assembly::new(policy.labels.labels(), true, true)?;
    for tenant in &policy.tenants {
        for guest in &tenant.plugins {
            let mut findings = prepare::Findings::default();
            prepare::guest(&assembly, &policy.text, tenant, guest, Purpose::Look, &mut findings);
            mistakes.append(&mut findings.mistakes);
            notes.append(&mut findings.notes);
        }
        for sink in &tenant.sinks {
            if let Some(problem) = sink.no_directory() {
                mistakes.push(policy.text.mistake(sink.at, problem));
            }
        }
    }
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    notes.iter().for_each(|note| report::line(&note.to_string()));
    sound(file, &mistakes)?;
    stdout.write(format!("{}: no mistakes\n", file.display()).as_bytes())?;
    Ok(Exit::Success)
}
