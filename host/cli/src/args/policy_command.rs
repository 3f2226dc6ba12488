//! `policy`: the subcommands for tenants. The comments are their help.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use super::plugin_command::Report;

/// Arguments of all commands that contact the service. The comments are their help.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct ServiceArgs {
    /// The control socket of the service
    #[arg(long, value_name = "SOCKET", default_value = flowgate_policy::file::SOCKET, value_hint = clap::ValueHint::FilePath)]
    pub socket: PathBuf,
    /// Output format
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: Report,
}

/// Arguments of a command for one tenant. The comments are their help.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct TenantArgs {
    /// The service
    #[command(flatten)]
    pub service: ServiceArgs,
    /// The tenant
    #[arg(value_hint = clap::ValueHint::Other)]
    pub tenant: String,
    /// The reason, for the audit
    #[arg(long, value_name = "TEXT", value_hint = clap::ValueHint::Other)]
    pub reason: Option<String>,
}

/// A subcommand of `policy`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum PolicyCommand {
    /// Report all mistakes in a policy file and in the plugins that it names, and run nothing
    #[command(after_help = "Example:\n  flowgate policy check policy.toml")]
    Check {
        /// The policy file
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Show which tenants see a flow, what each may do to it, and by which rule
    #[command(
        after_help = "The flow is a line of conntrack -L, -L -o extended or -E, an object of -o json, or options of conntrack -A after two hyphens.\n\n\
        Examples:\n  \
        flowgate policy explain policy.toml 'udp 17 29 src=10.1.0.5 dst=192.0.2.1 sport=4000 dport=53 src=192.0.2.1 dst=10.1.0.5 sport=53 dport=4000'\n  \
        flowgate policy explain policy.toml -o json -- -p tcp -s 10.1.0.5 -d 192.0.2.1 --sport 4000 --dport 443 --zone 7"
    )]
    Explain {
        /// The policy file
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
        /// The network namespace that the flow is in; flowgate's own if not given
        #[arg(long, value_name = "NAME", value_hint = clap::ValueHint::Other)]
        namespace: Option<String>,
        /// Output format
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
        output: Report,
        /// The flow
        #[arg(required = true, value_name = "FLOW", value_hint = clap::ValueHint::Other)]
        flow: Vec<OsString>,
    },
    /// Show what the tenants of the service do
    Status {
        /// The service
        #[command(flatten)]
        service: ServiceArgs,
        /// Only this tenant
        #[arg(value_hint = clap::ValueHint::Other)]
        tenant: Option<String>,
    },
    /// Stop a tenant's events and actions until it is resumed
    Pause(TenantArgs),
    /// Resume a tenant that was paused, has ended, or has a quarantined plugin; a resync makes up for missed events
    Resume(TenantArgs),
    /// Pause a tenant until the policy is reloaded
    Quarantine(TenantArgs),
    /// Reload the policy file; if it has mistakes, or no tenant starts, the old one stays in force, and the exit status
    /// is 1
    Reload {
        /// The service
        #[command(flatten)]
        service: ServiceArgs,
        /// Leave out this tenant: it ends, and the others are replaced
        #[arg(long, value_name = "TENANT")]
        without: Option<String>,
    },
    /// Print the JSON schema of policy files, for editors
    Schema,
}

/// The options of `audit`. The comments are their help.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[cfg_attr(feature = "fleet", command(args_conflicts_with_subcommands = true))]
pub struct AuditOptions {
    /// Files of an audit, which may be compressed; the audit of the service if none is given
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// Only records of this tenant
    #[arg(long, value_name = "NAME", value_hint = clap::ValueHint::Other)]
    pub tenant: Option<String>,
    /// Only records of this plugin: TENANT:PLUGIN
    #[arg(long, value_name = "NAME", value_hint = clap::ValueHint::Other)]
    pub plugin: Option<String>,
    /// Only records of this stage: intent, result, refused or service
    #[arg(long, value_name = "STAGE", value_parser = ["intent", "result", "refused", "service"])]
    pub stage: Option<String>,
    /// Only records of this action: delete, update, create, `create or update`
    #[arg(long, value_name = "ACTION", value_hint = clap::ValueHint::Other)]
    pub action: Option<String>,
    /// Only records with this result, or with this code of a refusal
    #[arg(long, value_name = "WORD", value_hint = clap::ValueHint::Other)]
    pub result: Option<String>,
    /// Only records that are not older than this: 30s, 15m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = super::subcommand::age, value_hint = clap::ValueHint::Other)]
    pub since: Option<Duration>,
    /// Only intents without a result: what was in progress when the service ended abruptly
    #[arg(long, conflicts_with = "stage")]
    pub open: bool,
    /// Output format; as JSON, lines are printed unchanged, those of a fleet with the agent as their first member
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: Report,
    /// The audits of all agents of a fleet, as they shipped them to the server
    #[cfg(feature = "fleet")]
    #[arg(long, conflicts_with_all = ["files", "tenant", "plugin"])]
    pub fleet: bool,
    /// With --fleet: only this agent, by name or id; may be repeated
    #[cfg(feature = "fleet")]
    #[arg(long = "agent", value_name = "NAME", requires = "fleet", value_hint = clap::ValueHint::Other)]
    pub agents: Vec<String>,
    /// With --fleet: the operator's file; without it, the one that FLOWGATE_FLEET names, or
    /// /etc/flowgate/fleet/operator.toml
    #[cfg(feature = "fleet")]
    #[arg(long, value_name = "FILE", requires = "fleet", value_hint = clap::ValueHint::FilePath)]
    pub operator: Option<PathBuf>,
    /// Only records of this plan of a fleet
    #[cfg(feature = "fleet")]
    #[arg(long, value_name = "ID", value_hint = clap::ValueHint::Other)]
    pub plan: Option<String>,
    /// What to do instead
    #[cfg(feature = "fleet")]
    #[command(subcommand)]
    pub command: Option<super::fleet_command::AuditCommand>,
}
