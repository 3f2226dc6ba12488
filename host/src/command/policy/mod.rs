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

use super::{
    assemble::Assembly,
    report::{self, CommandError, Exit},
};
use crate::{
    cli::{PolicyCommand, error_text, policy_command::Addressee},
    config::Mistake,
    netlink::Stop,
    pipeline::{sink::Sink, stats::Board},
    policy::{self, Policy},
};
use prepare::Purpose;

/// Why a subcommand of `policy` cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The control socket cannot be made.
    #[error("the control socket {} cannot be made: {}", path.display(), reason(source))]
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
    #[error("SIGHUP cannot be caught: {}", reason(source))]
    Signal {
        /// Why not.
        source: std::io::Error,
    },
    /// No thread can be had.
    #[error("cannot start a thread: {}", reason(source))]
    Thread {
        /// Why not.
        source: std::io::Error,
    },
    /// A file of the audit cannot be read.
    #[error("cannot read {}: {}", path.display(), reason(source))]
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

/// Runs the tenants of a policy file as a service.
pub(super) fn serve(file: &Path, stop: &Stop, board: &Board) -> Result<Exit, CommandError> {
    service::run(file, stop, board)
}

/// Whether a file is one with tenants.
pub(super) fn is_policy(file: &Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| Policy::is_one(&text))
}

/// As `policy check`.
pub(super) fn look(file: &Path, stdout: &mut dyn Sink) -> Result<Exit, CommandError> {
    check(file, stdout)
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
        PolicyCommand::Pause { to, tenant, reason } => ask(to, "pause", Some(tenant), reason.as_deref(), stdout),
        PolicyCommand::Resume { to, tenant, reason } => ask(to, "resume", Some(tenant), reason.as_deref(), stdout),
        PolicyCommand::Quarantine { to, tenant, reason } => {
            ask(to, "quarantine", Some(tenant), reason.as_deref(), stdout)
        }
        PolicyCommand::Reload { to } => ask(to, "reload", None, None, stdout),
        PolicyCommand::Schema => {
            stdout.write(policy::schema().as_bytes())?;
            Ok(Exit::Success)
        }
    }
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
fn check(file: &Path, stdout: &mut dyn Sink) -> Result<Exit, CommandError> {
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
            if let Some(problem) = prepare::no_directory(sink) {
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

/// A reason of the operating system in words.
fn reason(error: &std::io::Error) -> String {
    error_text(error)
}
