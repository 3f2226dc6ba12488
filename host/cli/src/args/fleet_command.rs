//! `fleet`: the subcommands for many hosts. The comments are their help.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use flowgate_fleet::{
    config::{self, Server},
    names::{AgentName, Label},
};

use super::{plugin_command::Report, rollout_command::RolloutCommand};

/// Arguments of all commands that connect as an operator. The comments are their help.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct OperatorArgs {
    /// The operator's file; without it, the one that FLOWGATE_FLEET names, or /etc/flowgate/fleet/operator.toml
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub operator: Option<PathBuf>,
    /// Output format; as JSON, one object a line, and the roll call on standard error too
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: Report,
}

/// Arguments of all commands that ask agents. The comments are their help.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct AskArgs {
    /// Who asks
    #[command(flatten)]
    pub operator: OperatorArgs,
    /// Only agents with all of these labels: role=web,site=fra
    #[arg(long, value_name = "LABELS", value_delimiter = ',', value_hint = clap::ValueHint::Other)]
    pub on: Vec<Label>,
    /// Only this agent, by name or id; may be repeated
    #[arg(long = "agent", value_name = "NAME", value_hint = clap::ValueHint::Other)]
    pub agents: Vec<String>,
    /// How long each agent has to answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout, value_hint = clap::ValueHint::Other)]
    pub timeout: Duration,
    /// Exit with 0 although this many agents did not answer
    #[arg(long, value_name = "N", default_value_t = 0, value_hint = clap::ValueHint::Other)]
    pub allow_missing: usize,
}

/// What a plan says besides what is done. The comments are their help.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct PlanArgs {
    /// Count only
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: write the plan to this file
    #[arg(long, value_name = "FILE", requires = "dry_run", value_hint = clap::ValueHint::FilePath)]
    pub plan: Option<PathBuf>,
    /// How long the plan is valid, a day at most
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = super::subcommand::age, value_hint = clap::ValueHint::Other)]
    pub expires: Duration,
    /// By how many percent the flows of an agent may have become more
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_hint = clap::ValueHint::Other)]
    pub allowance: u32,
    /// Agents that are absent when the plan is applied do it when they connect before it expires
    #[arg(long)]
    pub absent_later: bool,
}

/// A subcommand of `fleet`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum FleetCommand {
    /// Make a fleet: keys, certificates, and the configuration of its NATS server
    #[command(after_help = "Writes a directory that belongs on a machine of an operator, since it has secrets:\n\n  \
        server/            for the NATS server: nats-server.conf, users.conf, tls/\n  \
        operators/NAME/    for each operator: operator.toml and two keys, to connect with and to sign with\n  \
        agents/NAME/       for each agent, from `flowgate fleet enrol`\n\n\
        From nothing to the first answer:\n  \
        flowgate fleet init fleet --server nats.example.net --server-dir /etc/nats/flowgate\n  \
        flowgate fleet enrol fleet web-1 --label role=web\n  \
        scp -r fleet/server nats.example.net:/etc/nats/flowgate     # and there: nats-server -c /etc/nats/flowgate/nats-server.conf\n  \
        scp -r fleet/agents/web-1 web-1:/etc/flowgate/fleet         # and there: flowgate fleet agent\n  \
        flowgate fleet ls --operator fleet/operators/admin/operator.toml")]
    Init {
        /// The directory to write
        #[arg(value_hint = clap::ValueHint::DirPath)]
        directory: PathBuf,
        /// The NATS server, as agents and operators reach it: HOST or HOST:PORT; three or five times for a cluster
        #[arg(long, required = true, value_name = "SERVER", value_hint = clap::ValueHint::Hostname)]
        server: Vec<Server>,
        /// A further name or address of the server, for its certificate; may be repeated
        #[arg(long, value_name = "HOST", value_hint = clap::ValueHint::Hostname)]
        also: Vec<Server>,
        /// An operator; may be repeated
        #[arg(long = "operator", value_name = "NAME", default_value = "admin", value_hint = clap::ValueHint::Other)]
        operators: Vec<AgentName>,
        /// How many operators sign a plan before agents do it
        #[arg(long, value_name = "N", default_value_t = 1, value_hint = clap::ValueHint::Other)]
        need: usize,
        /// Where the files of the server will be on its host; DIRECTORY/server if not given
        #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::Other)]
        server_dir: Option<PathBuf>,
        /// Where the server stores what it must not forget
        #[arg(long, value_name = "DIR", default_value = "/var/lib/nats/flowgate", value_hint = clap::ValueHint::Other)]
        store: PathBuf,
        /// For a server before 2.10, which cannot write to disk what it acknowledges
        #[arg(long)]
        no_sync: bool,
    },
    /// Add agents to a fleet: their keys, their files, and their permissions on the server
    #[command(
        after_help = "The server takes the new permissions when it has the new users.conf and is reloaded; nobody is \
        disconnected.\n\n\
        Examples:\n  flowgate fleet enrol fleet web-1 web-2 --label role=web --label site=fra\n  \
        scp -r fleet/agents/web-1 web-1:/etc/flowgate/fleet\n  \
        scp fleet/server/users.conf nats.example.net:/etc/nats/flowgate/ && ssh nats.example.net nats-server --signal reload"
    )]
    Enrol {
        /// The directory of the fleet
        #[arg(value_hint = clap::ValueHint::DirPath)]
        directory: PathBuf,
        /// The names of the agents
        #[arg(required = true, value_name = "NAME", value_hint = clap::ValueHint::Other)]
        names: Vec<AgentName>,
        /// A label of all of these: NAME or NAME=VALUE; may be repeated
        #[arg(long = "label", value_name = "LABEL", value_hint = clap::ValueHint::Other)]
        labels: Vec<Label>,
        /// Where each keeps its journal and its audit
        #[arg(long, value_name = "DIR", default_value = config::STATE, value_hint = clap::ValueHint::Other)]
        state: PathBuf,
    },
    /// Answer questions about this host, and do what was planned and signed, until a signal ends it
    #[command(
        after_help = "Needs CAP_NET_ADMIN. It goes on without the server, and connects again when that is back. Without \
        `signers` in its file it answers, and never acts.\n\n\
        Example:\n  flowgate fleet agent /etc/flowgate/fleet/agent.toml"
    )]
    Agent {
        /// The agent's file
        #[arg(default_value = config::AGENT_FILE, value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Run many agents in one process, to try a server with a fleet of that size
    #[command(
        after_help = "Each is an agent as `flowgate fleet agent` runs it, with a key and a connection of its own. All have the \
        same table, which is made up or recorded: they answer questions about it, and a deletion is planned, signed and \
        counted without anything being deleted. What is rolled out they fetch and check, and pretend to run. Nothing is asked of a kernel, and no privilege is needed.\n\n\
        Those that are not in the fleet yet are enrolled, and wait until the server has been reloaded. Their journals and \
        audits are in DIRECTORY/simulated. This is for a fleet of its own, not for one that is in use: they stay in the \
        registry until they are forgotten.\n\n\
        Examples:\n  flowgate fleet simulate fleet --agents 1000\n  \
        flowgate fleet simulate fleet --agents 50 --prefix db- --label role=db --rows 100000\n  \
        flowgate record flows.pcap -- -L && flowgate fleet simulate fleet --recording flows.pcap"
    )]
    Simulate {
        /// The directory of the fleet
        #[arg(value_hint = clap::ValueHint::DirPath)]
        directory: PathBuf,
        /// How many agents, 10000 at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000), value_hint = clap::ValueHint::Other)]
        agents: u32,
        /// What their names begin with; a number comes after it
        #[arg(long, value_name = "TEXT", default_value = "sim-", value_hint = clap::ValueHint::Other)]
        prefix: String,
        /// How many flows each has, a million at most
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(..=1_000_000), value_hint = clap::ValueHint::Other)]
        rows: u32,
        /// A dump of flows, as `flowgate record` writes it, instead of flows that are made up
        #[arg(long, value_name = "FILE", conflicts_with = "rows", value_hint = clap::ValueHint::FilePath)]
        recording: Option<PathBuf>,
        /// A label of those that are enrolled: NAME or NAME=VALUE; may be repeated
        #[arg(long = "label", value_name = "LABEL", value_hint = clap::ValueHint::Other)]
        labels: Vec<Label>,
        /// How long a release is on trial with them
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = super::subcommand::age, value_hint = clap::ValueHint::Other)]
        trial: Duration,
        /// Agents that report a plugin in quarantine, whatever is rolled out
        #[arg(long, value_name = "N", default_value_t = 0, value_hint = clap::ValueHint::Other)]
        failing: usize,
    },
    /// The roll call: which agents there are, and what each runs
    #[command(
        after_help = "Asks every agent of the registry, where each is from its first connection on. Each ends as one of:\n\n  \
        answered   all of its answer is here\n  \
        partial    a part of it is\n  \
        refused    the agent does not do such a thing\n  \
        failed     the agent, or its kernel, could not\n  \
        late       it is there, and did not answer in time\n  \
        absent     nobody is there\n\n\
        The exit status is 0 only if all answered, or all but --allow-missing.\n\n\
        Examples:\n  flowgate fleet ls\n  flowgate fleet ls --on role=web -o json | jq -r .kernel | sort | uniq -c"
    )]
    Ls(AskArgs),
    /// Take an agent out of the registry, so that it is not missed any more
    #[command(
        after_help = "One that is still running comes back within five minutes; to keep it out, take its user out \
        of users.conf.\n\nExample:\n  flowgate fleet forget web-1"
    )]
    Forget {
        /// Who asks
        #[command(flatten)]
        operator: OperatorArgs,
        /// The agent, by name or id
        #[arg(value_hint = clap::ValueHint::Other)]
        agent: String,
    },
    /// Find out what is wrong with the server, the agents, or their clocks
    #[command(after_help = "The exit status is 1 if there is a problem, 0 if there are only warnings.\n\n\
        Example:\n  flowgate fleet doctor")]
    Doctor {
        /// Who asks
        #[command(flatten)]
        operator: OperatorArgs,
    },
    /// List flows of all agents
    #[command(
        after_help = "After -- come selectors and output options as of flowgate -L, --where too. Each agent evaluates them, \
        down to its kernel's filter. Rows come agent by agent as they answer; each has the agent's name in front, or with \
        -o json as its member `agent`.\n\n\
        Every agent is in the roll call, on standard error; the exit status is 0 only if all answered in full, or all but \
        --allow-missing.\n\n\
        With -o table, csv or tsv after the --, the agent is the first column. Groups (--by, --sum, --avg, ...) are those \
        of the flows of all agents; `agent` is one of the keys, and --distinct cannot be merged.\n\n\
        Examples:\n  flowgate fleet list -- -p tcp --dport 443\n  \
        flowgate fleet list -- --by src/24,dport --count --sum bytes --sort bytes --top 20\n  \
        flowgate fleet list -- --by agent --count --sum bytes\n  \
        flowgate fleet list -- -o csv --columns src,dport,bytes > flows.csv\n  \
        flowgate fleet list --on role=web -- --where 'bytes > 1G and age > 1h'\n  \
        flowgate fleet list -o json --allow-missing 3 -- -p udp > flows.json 2> roll-call.json"
    )]
    List {
        /// Whom, and for how long
        #[command(flatten)]
        ask: AskArgs,
        /// Selectors and output options, as of -L
        #[arg(last = true, value_name = "OPTIONS", value_hint = clap::ValueHint::Other)]
        words: Vec<OsString>,
    },
    /// Count flows of all agents
    #[command(after_help = "Without selectors it is the number of entries that each kernel has.\n\n\
        Examples:\n  flowgate fleet count\n  flowgate fleet count --on site=fra -- -p tcp --where 'state == SYN_SENT'")]
    Count {
        /// Whom, and for how long
        #[command(flatten)]
        ask: AskArgs,
        /// Selectors, as of -L
        #[arg(last = true, value_name = "OPTIONS", value_hint = clap::ValueHint::Other)]
        words: Vec<OsString>,
    },
    /// Watch the events of all agents, as they happen
    #[command(
        after_help = "After -- come selectors and output options as of flowgate -E, --where too. It ends by a signal or \
        with --for; then the roll call follows on standard error. The exit status is 0 only if all events of all agents \
        were shown, or of all but --allow-missing; where a signal ended it and some are missing, the process ends as by \
        that signal.\n\n\
        Nobody waits for who watches: an agent whose events are not fetched in time keeps 2 MiB of them, and where others \
        are missing there is a gap with their number. An agent that goes away is told, and is watched again when it is \
        back.\n\n\
        Examples:\n  flowgate fleet watch -- -e NEW -p tcp --dport 22\n  \
        flowgate fleet watch --on role=web -- -o table --where 'bytes > 1G'\n  \
        flowgate fleet watch -o json --for 60s > events.json"
    )]
    Watch {
        /// Whom, and for how long each may take to answer
        #[command(flatten)]
        ask: AskArgs,
        /// End after this time
        #[arg(long = "for", value_name = "TIME", value_parser = super::subcommand::age, value_hint = clap::ValueHint::Other)]
        time: Option<Duration>,
        /// Selectors and output options, as of -E
        #[arg(last = true, value_name = "OPTIONS", value_hint = clap::ValueHint::Other)]
        words: Vec<OsString>,
    },
    /// Show the counters of the kernels of all agents, as flowgate -S does
    #[command(after_help = "Example:\n  flowgate fleet stats -o json | jq -s 'group_by(.agent)[] | \
        { agent: .[0].agent, drop: map(.counters.drop) | add }'")]
    Stats(AskArgs),
    /// Delete flows of all agents: as a plan, or at once where one signature is enough
    #[command(
        after_help = "With --dry-run every agent counts what it would delete, and nothing is done. --plan writes that as a \
        plan, which `flowgate fleet sign` signs, as often as the agents need it, and `flowgate fleet apply` has done: \
        by the agents in it, before it expires, once, and only if there are no more such flows than the plan has and its \
        allowance. No agent deletes its own connection to the server.\n\n\
        Without --dry-run the plan is signed with the key of this operator and applied at once; agents that need more \
        signatures refuse.\n\n\
        An agent that is absent when the plan is applied does not do it, unless the plan has --absent-later: then it does \
        it when it connects before the plan expires.\n\n\
        Examples:\n  flowgate fleet delete --dry-run -- -p udp --dport 53\n  \
        flowgate fleet delete --dry-run --plan dns.json --on role=web -- -p udp --dport 53\n  \
        flowgate fleet sign dns.json && flowgate fleet apply dns.json\n  \
        flowgate fleet delete --absent-later --expires 12h -- -s 198.51.100.7"
    )]
    Delete {
        /// Whom, and for how long
        #[command(flatten)]
        ask: AskArgs,
        /// What the plan says besides
        #[command(flatten)]
        plan: PlanArgs,
        /// Selectors, as of -D
        #[arg(last = true, required = true, value_name = "OPTIONS", value_hint = clap::ValueHint::Other)]
        words: Vec<OsString>,
    },
    /// Set values of flows of all agents: mark, timeout, labels, status; as a plan, or at once
    #[command(
        after_help = "After -- come selectors and values as of flowgate -U, where -m, -t, -u, --state and --label-add set, and \
        --where selects. It is planned, signed and applied as a deletion is: `flowgate fleet delete --help`. The plan says \
        what is set; flows that have these values already are not counted. No agent changes its own connection to the \
        server.\n\n\
        Examples:\n  flowgate fleet update --dry-run -- -p udp --where 'dport == 53' -m 7\n  \
        flowgate fleet update --on role=web -- -s 198.51.100.7 -t 10\n  \
        flowgate fleet update --dry-run --plan mark.json -- -p tcp --dport 443 -m 0x10/0xf0"
    )]
    Update {
        /// Whom, and for how long
        #[command(flatten)]
        ask: AskArgs,
        /// What the plan says besides
        #[command(flatten)]
        plan: PlanArgs,
        /// Selectors and values, as of -U
        #[arg(last = true, required = true, value_name = "OPTIONS", value_hint = clap::ValueHint::Other)]
        words: Vec<OsString>,
    },
    /// Show a plan or a release and sign it
    #[command(
        after_help = "Nothing is sent. Who signs reads what is printed first, and it is printed whatever the plan \
        says. Of a release it is the digest of a bundle: `flowgate fleet bundle` prints that of files.\n\n\
        Example:\n  flowgate fleet sign dns.json"
    )]
    Sign {
        /// Who signs
        #[command(flatten)]
        operator: OperatorArgs,
        /// The plan, or the release
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Bring a policy or a pipeline to agents in stages, and back
    #[command(
        after_help = "Example:\n  flowgate fleet rollout start policy/ --on role=web --stages 5,25,100 --bake 10m"
    )]
    Rollout {
        /// What to do
        #[command(subcommand)]
        command: RolloutCommand,
    },
    /// Show what a rollout of these files would bring, and its digest
    #[command(
        after_help = "The same files have the same digest, so that who signs a release can compare it with files that \
        they know. Nothing is sent.\n\nExample:\n  flowgate fleet bundle policy.toml plugins/"
    )]
    Bundle {
        /// The file that is run and the files and folders that it names; or one folder
        #[arg(required = true, value_hint = clap::ValueHint::AnyPath)]
        files: Vec<PathBuf>,
        /// The name of the file that is run, if it is another one
        #[arg(long, value_name = "NAME", value_hint = clap::ValueHint::Other)]
        entry: Option<String>,
        /// Output format
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
        output: Report,
    },
    /// Have a plan done by the agents in it
    #[command(
        after_help = "The agents that are connected do it now. One that is absent does not do it later, unless the \
        plan was made with --absent-later: then it is left for it on the server, and the roll call says until when. It may \
        be applied again, for those that were missing: what is done is not done twice.\n\n\
        Example:\n  flowgate fleet apply dns.json"
    )]
    Apply {
        /// Who asks
        #[command(flatten)]
        operator: OperatorArgs,
        /// How long each agent has to do it
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = timeout, value_hint = clap::ValueHint::Other)]
        timeout: Duration,
        /// Exit with 0 although this many agents did not do it
        #[arg(long, value_name = "N", default_value_t = 0, value_hint = clap::ValueHint::Other)]
        allow_missing: usize,
        /// The plan
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
    },
}

/// A subcommand of `audit`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum AuditCommand {
    /// Check that no line of an agent's audit was changed or is missing
    #[command(
        after_help = "Each line of an agent's audit has the hash of the line before, so that it shows where one is missing, \
        was changed, came twice or is forged, and where an audit begins anew. The exit status is 1 if there is such a \
        line. That the last lines are missing shows only if they are elsewhere: --fleet checks what the agents have \
        shipped to the server, FILE what is on a host.\n\n\
        Examples:\n  flowgate audit verify /var/lib/flowgate/fleet/audit.jsonl\n  flowgate audit verify --fleet"
    )]
    Verify(VerifyOptions),
}

/// The options of `audit verify`. The comments are their help.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct VerifyOptions {
    /// The audit of the agent on this host
    #[arg(conflicts_with = "fleet", default_value = config::AUDIT_FILE, value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// The audits of all agents, as they shipped them to the server
    #[arg(long)]
    pub fleet: bool,
    /// Who asks
    #[command(flatten)]
    pub operator: OperatorArgs,
}

/// Parses how long an agent has to answer.
fn timeout(text: &str) -> Result<Duration, String> {
    let time = super::subcommand::age(text)?;
    let within = Duration::from_millis(100)..=Duration::from_secs(600);
    if within.contains(&time) { Ok(time) } else { Err("it must be from 100ms to 10m".to_owned()) }
}
