//! `policy`: the subcommands about tenants. The comments are their help.

use std::{ffi::OsString, path::PathBuf};

use super::plugin_command::Report;

/// A subcommand of `policy`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum PolicyCommand {
    /// Look for mistakes in a policy file and in the plugins that it names, all of them, and run nothing
    #[command(after_help = "Example:\n  flowgate policy check policy.toml")]
    Check {
        /// The policy file
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Say who sees a flow, what each tenant may do to it, and which rule says so
    #[command(
        after_help = "The flow is a line of conntrack -L, -L -o extended or -E, an object of -o json, or options of conntrack -A behind two hyphens.\n\n\
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
        /// How to say it
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
        output: Report,
        /// The flow
        #[arg(required = true, value_name = "FLOW", value_hint = clap::ValueHint::Other)]
        flow: Vec<OsString>,
    },
    /// Print the JSON schema of policy files, for editors
    Schema,
}
