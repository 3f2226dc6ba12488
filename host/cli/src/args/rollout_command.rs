//! `fleet rollout`: what agents run, from one place and in stages. The comments are their help.

use std::{path::PathBuf, time::Duration};

use flowgate_fleet::{
    names::Label,
    rollout::{self, Limit, OnFailure},
};

use super::fleet_command::OperatorArgs;

/// Stages of a rollout, in percent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stages(pub Vec<u32>);

/// What is done when a stage does not go well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Failure {
    /// All agents that have it go back to what they ran before
    #[default]
    Return,
    /// No further agent gets it
    Halt,
}

impl From<Failure> for OnFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Return => OnFailure::Return,
            Failure::Halt => OnFailure::Halt,
        }
    }
}

/// Arguments of `start`. The comments are their help.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct StartArgs {
    /// Who starts it
    #[command(flatten)]
    pub operator: OperatorArgs,
    /// The file that is run and the files and folders that it names; or one folder
    #[arg(value_hint = clap::ValueHint::AnyPath, required_unless_present_any = ["nothing", "signed"])]
    pub files: Vec<PathBuf>,
    /// The name of the file that is run, if it is another one
    #[arg(long, value_name = "NAME", value_hint = clap::ValueHint::Other)]
    pub entry: Option<String>,
    /// Agents run nothing any more
    #[arg(long, conflicts_with_all = ["files", "signed", "entry"])]
    pub nothing: bool,
    /// Only agents with all of these labels: role=web,site=fra
    #[arg(long, value_name = "LABELS", value_delimiter = ',', conflicts_with = "signed", value_hint = clap::ValueHint::Other)]
    pub on: Vec<Label>,
    /// Only this agent, by name or id; may be repeated
    #[arg(long = "agent", value_name = "NAME", conflicts_with = "signed", value_hint = clap::ValueHint::Other)]
    pub agents: Vec<String>,
    /// The stages, as percents of these agents
    #[arg(long, value_name = "PERCENTS", default_value = "5,25,100", value_parser = stages, value_hint = clap::ValueHint::Other)]
    pub stages: Stages,
    /// How long the agents of a stage are watched
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = super::subcommand::age, value_hint = clap::ValueHint::Other)]
    pub bake: Duration,
    /// How long they may take to begin, their trial included
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = super::subcommand::age, value_hint = clap::ValueHint::Other)]
    pub within: Duration,
    /// What an agent may report at most, since the release began there: quarantined, restarts, failures, gaps, lost,
    /// refused or cpu (ms), as NAME=NUMBER or NAME=any; without it quarantined=0 and restarts=0; may be repeated
    #[arg(long, value_name = "NAME=NUMBER", value_delimiter = ',', value_hint = clap::ValueHint::Other)]
    pub gate: Vec<Limit>,
    /// What is done when a stage does not go well
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    pub on_failure: Failure,
    /// Go on although this many agents are absent
    #[arg(long, value_name = "N", default_value_t = 0, value_hint = clap::ValueHint::Other)]
    pub allow_missing: usize,
    /// Until when agents begin with it, 30 days at most
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = super::subcommand::age, value_hint = clap::ValueHint::Other)]
    pub expires: Duration,
    /// Write what is to be signed to this file, and start nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["signed", "detach"], value_hint = clap::ValueHint::FilePath)]
    pub release: Option<PathBuf>,
    /// Start the release in this file, which has the signatures that agents need
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub signed: Option<PathBuf>,
    /// Leave it to `flowgate fleet rollout resume`
    #[arg(long)]
    pub detach: bool,
}

/// A subcommand of `fleet rollout`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum RolloutCommand {
    /// Bring a policy or a pipeline to agents, in stages
    #[command(
        after_help = "The first file is run, as by `flowgate run`; the others are what it names, and lie in its folder. Or one \
        folder is given, with policy.toml or pipeline.toml in it. All of it becomes a bundle, which is known by its digest \
        and signed with the key of this operator.\n\n\
        Each agent of a stage checks the signatures, fetches the bundle, and runs it on trial, for `trial` of its agent.toml: \
        if a plugin is quarantined, if the service does not start, or if the server cannot be reached, it goes back by itself to \
        what it ran before. A stage is over when all of its agents have applied the release, and have been within the gate \
        for --bake. Otherwise all agents that have it go back, and the exit status is 1.\n\n\
        The state of a rollout is on the server. The command can be ended at any time, and `flowgate fleet rollout resume` \
        goes on.\n\n\
        Where agents need more than one signature: --release writes what is to be signed and starts nothing; after \
        `flowgate fleet sign` by the others, --signed starts it.\n\n\
        Examples:\n  flowgate fleet rollout start policy.toml plugins/ --on role=web\n  \
        flowgate fleet rollout start policy/ --stages 5,25,100 --bake 10m --gate gaps=0 --gate refused=10\n  \
        flowgate fleet rollout start policy/ --release web.json && flowgate fleet sign web.json && \
        flowgate fleet rollout start --signed web.json"
    )]
    Start(Box<StartArgs>),
    /// Show how far the rollout is, and how each agent does
    #[command(after_help = "Example:\n  flowgate fleet rollout status -o json")]
    Status {
        /// Who asks
        #[command(flatten)]
        operator: OperatorArgs,
    },
    /// Have the rollout wait, whoever carries it out
    #[command(after_help = "Agents that have begun go on, and still go back by themselves.\n\n\
        Example:\n  flowgate fleet rollout pause")]
    Pause {
        /// Who asks
        #[command(flatten)]
        operator: OperatorArgs,
    },
    /// Go on with the rollout: one that was paused, or whose command has ended
    #[command(after_help = "Example:\n  flowgate fleet rollout resume")]
    Resume {
        /// Who asks
        #[command(flatten)]
        operator: OperatorArgs,
        /// Only end the pause; another command carries it out
        #[arg(long)]
        detach: bool,
    },
    /// Take the rollout back, also one that is done
    #[command(after_help = "All agents that have it go back to what they ran before, until it expires; this needs no \
        signature, since what they go back to was signed.\n\nExample:\n  flowgate fleet rollout abort")]
    Abort {
        /// Who asks
        #[command(flatten)]
        operator: OperatorArgs,
        /// Whether agents that have it go back
        #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
        on_failure: Failure,
    },
}

/// Parses stages.
fn stages(text: &str) -> Result<Stages, String> {
    rollout::stages(text).map(Stages).map_err(|error| error.to_string())
}
