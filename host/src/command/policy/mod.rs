//! `policy`: tenants, looked at and asked about.
//!
//! * `prepare` compares plugins with what the file says of them, and starts them.
//! * `explain` says who sees a flow, and what each may do to it.

mod explain;
mod prepare;

use std::path::Path;

use super::{
    assemble::Assembly,
    report::{self, CommandError, Exit},
};
use crate::{
    cli::{PolicyCommand, error_text},
    config::Mistake,
    pipeline::sink::Sink,
    policy::{self, Policy},
};
use prepare::Purpose;

/// Why a subcommand of `policy` cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The text behind the file is no flow.
    #[error("that is no flow: {wrong}; {right}")]
    Flow {
        /// What is wrong.
        wrong: String,
        /// What would be right.
        right: String,
    },
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
        PolicyCommand::Schema => {
            stdout.write(policy::schema().as_bytes())?;
            Ok(Exit::Success)
        }
    }
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
