//! `policy`: subcommands for tenants.
//!
//! * `load` compares plugins with the policy file and starts them.
//! * `service` runs the tenants.
//! * `explain_flow` shows which tenants see a flow, and their permissions for it.

mod audit;
mod explain_flow;
mod load;
mod pipeline;
mod service;

use std::path::{Path, PathBuf};

use super::report::{self, CommandError, Exit};
use crate::args::{
    PolicyCommand,
    policy_command::{ServiceArgs, TenantArgs},
};
use flowgate_base::{
    files,
    io_error::error_text,
    text::{clean, path_text},
};
use flowgate_config::Diagnostic;
use flowgate_isolation::UserRange;
use flowgate_pipeline::{loader::Purpose, sink::Sink};
use flowgate_policy::{
    Policy, WorkerUids,
    control::{AskError, ControlRequest, TenantOrder},
};
use flowgate_privileges::PrivilegesError;
use flowgate_runtime::Cache;

/// An error of a subcommand of `policy`.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The control socket cannot be created.
    #[error("the control socket {} cannot be made: {}", path_text(path), error_text(source))]
    Socket {
        /// Path of the socket.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// Another service uses the control socket.
    #[error("a service runs already: it answers at {}", path_text(path))]
    Running {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The service does not answer.
    #[error("the service cannot be asked at {}: {source}", path_text(path))]
    Ask {
        /// Path of the socket.
        path: PathBuf,
        /// The error.
        source: AskError,
    },
    /// The process has privileges that the service must not have.
    #[error("the service does not run with privileges that it does not need: {0}")]
    Privileges(#[from] PrivilegesError),
    /// Processes cannot have the users that the policy names.
    #[error(
        "workers cannot have the users {range} of `worker-uids`: {}; start the service as root, name other users, or \
         remove the key",
        error_text(source)
    )]
    WorkerUids {
        /// The users.
        range: UserRange,
        /// The reason.
        source: std::io::Error,
    },
    /// The policy came from a pipe or another file that can be read only once.
    #[error(
        "{} can be read only once and is not reloaded; give the service a file that can be read again",
        path_text(path)
    )]
    Once {
        /// Path of the file.
        path: PathBuf,
    },
    /// Signals cannot be caught.
    #[error("SIGHUP cannot be caught: {}", error_text(source))]
    Signal {
        /// The error.
        source: std::io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {}", error_text(source))]
    Thread {
        /// The error.
        source: std::io::Error,
    },
    /// A file of the audit cannot be read.
    #[error("cannot read {}: {}", path_text(path), error_text(source))]
    Audit {
        /// The file.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// The text of a flow is invalid.
    #[error("that is no flow: {}; {}", clean(wrong), clean(right))]
    Flow {
        /// The mistake.
        wrong: String,
        /// The correction.
        right: String,
    },
}

pub(super) use audit::audit;
#[cfg(feature = "fleet")]
pub(super) use audit::{Output, filter, form};
pub(super) use service::WorkerProcess;
pub(super) use service::run as serve;

/// True if the content of a file describes tenants.
pub(super) fn is_policy(content: &[u8]) -> bool {
    std::str::from_utf8(content).is_ok_and(Policy::is_one)
}

/// What a policy says about the processes of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PolicyOutline {
    /// True if it has tenants in network namespaces other than that of the process.
    pub namespaces: bool,
    /// The users of workers.
    pub worker_uids: WorkerUids,
}

/// Returns the outline of a policy; `None` if the content is none.
pub(super) fn outline(file: &Path, content: &[u8]) -> Option<PolicyOutline> {
    if !is_policy(content) {
        return None;
    }
    let (policy, _, _) = Policy::of_bytes(file, content.to_vec());
    let namespaces = policy.tenants.iter().any(|tenant| tenant.namespace.is_some());
    Some(PolicyOutline { namespaces, worker_uids: policy.service.worker_uids })
}

/// Carries out a subcommand of `policy`.
pub(super) fn run(command: &PolicyCommand, stdout: &mut dyn Sink) -> Result<Exit, CommandError> {
    match command {
        PolicyCommand::Check { file } => check(file, content(file)?, stdout),
        PolicyCommand::Explain { file, namespace, output, flow } => {
            let (policy, mistakes, _) = Policy::of_bytes(file, content(file)?);
            sound(file, &mistakes)?;
            explain_flow::run(&policy, namespace.as_deref(), *output, flow, stdout)
        }
        PolicyCommand::Status { service, tenant } => {
            ask(service, &ControlRequest::Status { tenant: tenant.clone() }, stdout)
        }
        PolicyCommand::Pause(args) => ask(&args.service, &ControlRequest::Pause(tenant_order(args)), stdout),
        PolicyCommand::Resume(args) => ask(&args.service, &ControlRequest::Resume(tenant_order(args)), stdout),
        PolicyCommand::Quarantine(args) => ask(&args.service, &ControlRequest::Quarantine(tenant_order(args)), stdout),
        PolicyCommand::Reload { service, without } => {
            ask(service, &ControlRequest::Reload { without: without.clone() }, stdout)
        }
        PolicyCommand::Schema => {
            stdout.write(flowgate_policy::schema().as_bytes())?;
            Ok(Exit::Success)
        }
    }
}

fn tenant_order(args: &TenantArgs) -> TenantOrder {
    TenantOrder { tenant: args.tenant.clone(), reason: args.reason.clone() }
}

/// Sends a request to the service and prints the answer.
fn ask(args: &ServiceArgs, request: &ControlRequest, stdout: &mut dyn Sink) -> Result<Exit, CommandError> {
    service::ask(&args.socket, request, args.output, stdout)
}

/// Reads a policy file.
fn content(file: &Path) -> Result<Vec<u8>, CommandError> {
    files::read(file, files::MAX_CONFIGURATION_FILE)
        .map_err(|source| CommandError::Pipeline { path: file.into(), source })
}

/// Prints mistakes, and fails if there are any.
fn sound(file: &Path, mistakes: &[Diagnostic]) -> Result<(), CommandError> {
    mistakes.iter().for_each(|mistake| report::line(&mistake.to_string()));
    match mistakes.len() {
        0 => Ok(()),
        mistakes => Err(CommandError::Diagnostics { path: file.into(), mistakes }),
    }
}

/// Explains the pipeline of each tenant of a policy.
pub(super) fn explain(
    file: &Path,
    content: Vec<u8>,
    output: crate::args::Report,
    stdout: &mut dyn Sink,
) -> Result<Exit, CommandError> {
    use crate::args::Report;
    let (policy, mut mistakes, notes) = Policy::of_bytes(file, content);
    let loader = super::loader(policy.labels.labels(), true, true)?;
    let mut explanations = Vec::new();
    for tenant in &policy.tenants {
        match load::load(&policy.text, tenant, &loader, Purpose::Inspect) {
            Ok(loaded) => explanations.push(pipeline::explain(&policy, tenant, &loaded)?),
            Err(found) => mistakes.extend(found),
        }
    }
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    notes.iter().for_each(|note| report::line(&note.to_string()));
    sound(file, &mistakes)?;
    for (index, explanation) in explanations.iter().enumerate() {
        let text = match (output, index) {
            (Report::Json, _) => explanation.json(),
            (Report::Text, 0) => explanation.text(),
            (Report::Text, _) => format!("\n{}", explanation.text()),
        };
        stdout.write(text.as_bytes())?;
    }
    Ok(Exit::Success)
}

/// Checks the content of a policy file and its plugins, and prints the mistakes. The plugins are started as the service
/// starts them, in a worker for each tenant.
pub(super) fn check(file: &Path, content: Vec<u8>, stdout: &mut dyn Sink) -> Result<Exit, CommandError> {
    let (policy, mut mistakes, mut notes) = Policy::of_bytes(file, content);
    let engine = super::compiling::engine(Cache::of_environment())?;
    super::report_execution(&engine)?;
    for tenant in &policy.tenants {
        match load::start(&policy, tenant, &engine) {
            Ok(found) => notes.extend(found),
            Err(found) => mistakes.extend(found),
        }
        mistakes.extend(load::outputs(&policy, tenant));
    }
    // The directories of the audit are created by the package or the unit, possibly on another machine.
    if policy.audit.path.parent().is_some_and(Path::is_dir)
        && let Err(error) = policy.audit.check()
    {
        mistakes.push(policy.text.diagnostic(0, format!("the audit: {error}")));
    }
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    notes.iter().for_each(|note| report::line(&note.to_string()));
    sound(file, &mistakes)?;
    stdout.write(format!("{}: no mistakes\n", path_text(file)).as_bytes())?;
    Ok(Exit::Success)
}
