//! Subcommands, in addition to the classic commands.
//!
//! They exist under any name except `conntrack`, and only as the first word of the command line. The classic program
//! ignores words that are not options, so only the exact name of a subcommand counts as one.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, error::ErrorKind};

use super::Invocation;
use super::plugin_command::{PluginCommand, Report};
use super::policy_command::{AuditOptions, PolicyCommand};
use flowgate_base::{address::ListenAddress, units};
use flowgate_recording::Speed;
use flowgate_syntax::CliError;
use flowgate_top::{FrameFormat, SortKey};

/// The program as clap sees it when the first word is a subcommand. Without documentation, which would become its help.
#[derive(Debug, Parser)]
#[command(about = "The programmable command line of connection tracking; flowgate -h explains the classic commands")]
pub(super) struct Program {
    #[command(subcommand)]
    subcommand: Subcommand,
}

/// A subcommand. The comments are its help.
#[derive(Debug, Clone, PartialEq, clap::Subcommand)]
pub enum Subcommand {
    /// Print the completion script for a shell
    #[command(after_help = "Examples:\n  source <(flowgate completions bash)\n  \
        flowgate completions zsh > /usr/local/share/zsh/site-functions/_flowgate\n  \
        flowgate completions fish > ~/.config/fish/completions/flowgate.fish\n  \
        flowgate completions bash --name conntrack")]
    Completions {
        /// The shell
        shell: Shell,
        /// The name that the program is invoked by; for conntrack the script has the classic options only
        #[arg(long, default_value = "flowgate", value_parser = program_name, value_hint = clap::ValueHint::Other)]
        name: String,
    },
    /// Record what the kernel sends, for Wireshark and for replay
    #[command(
        after_help = "Writes what -L and -E receive to the file. Selectors apply as far as the kernel itself filters; \
        options of output only matter with --show. A signal (SIGINT, SIGTERM) ends it, and the file is complete.\n\n\
        The file is in the format pcap with link type NETLINK; docs/RECORDING.md describes it. The names of programs behind \
        netlink ports are stored; names of labels and the time zone are not, replay takes those of its command line and \
        environment.\n\n\
        Examples:\n  flowgate record trace.pcap\n  flowgate record trace.pcap -- -E -p tcp\n  \
        flowgate record table.pcap -- -L\n  flowgate record --show --duration 60 trace.pcap -- -E -o timestamp"
    )]
    Record {
        /// The file, replaced if it exists; - for standard output
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
        /// Also show what is recorded, as the command does
        #[arg(long)]
        show: bool,
        /// Stop before the file is longer than this: 64k, 10MiB
        #[arg(long, value_name = "SIZE", value_parser = bytes, value_hint = clap::ValueHint::Other)]
        max_size: Option<u64>,
        /// Stop after this time: 90s, 5m
        #[arg(long, value_name = "TIME", value_parser = duration, value_hint = clap::ValueHint::Other)]
        duration: Option<Duration>,
        /// What to record: -L or -E, their tables and options, as of flowgate itself; -E by default
        #[arg(last = true, value_name = "COMMAND", value_hint = clap::ValueHint::Other)]
        command: Vec<OsString>,
    },
    /// Show a recording through the pipeline of -L or -E, without the kernel
    #[command(
        after_help = "Without a command, it is the one that was recorded. It has selectors, formats and plugins as on the \
        kernel, and prints the same; commands that act are refused. Names of labels are those \
        of this machine or of --labelmap, times are in the time zone of TZ; the names of programs are in the recording.\n\n\
        Captures of an nlmon interface by tcpdump or Wireshark (pcap and pcapng) are recordings, too; -L shows the dumps \
        in them, -E the events.\n\n\
        Examples:\n  flowgate replay trace.pcap\n  flowgate replay trace.pcap -- -p tcp -o json\n  \
        flowgate replay trace.pcap --speed real -- --plugin heavy_tcp.wasm\n  \
        tcpdump -i nlmon0 -U -w - | flowgate replay - -- -E"
    )]
    Replay {
        /// The recording, - for standard input
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
        /// Speed: max, real (as recorded), or a multiple of that
        #[arg(long, default_value = "max", value_hint = clap::ValueHint::Other)]
        speed: Speed,
        /// How to show it: a command line of -L or -E, or only its options
        #[arg(last = true, value_name = "COMMAND", value_hint = clap::ValueHint::Other)]
        command: Vec<OsString>,
    },
    /// Show flows by rate, bytes, packets, age or remaining time, on a screen
    #[command(
        after_help = "Dumps the table at every interval and shows events in between; or plays a recording. Flows pass \
        through the pipeline of -L, with its selectors and plugins. The key ? explains the keys.\n\n\
        Bytes and packets are counted where accounting is on: sysctl -w net.netfilter.nf_conntrack_acct=1.\n\n\
        Examples:\n  flowgate top\n  flowgate top --where 'proto == tcp and not dst in 10.0.0.0/8'\n  \
        flowgate top --by src/24,dport\n  \
        flowgate top --sort bytes -- -p tcp -s 10.0.0.0/8\n  \
        flowgate top -- --plugin heavy_tcp.wasm\n  flowgate top trace.pcap --speed real\n  \
        flowgate top --once -o json | jq .rows"
    )]
    Top {
        /// A recording instead of the kernel, - for standard input
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// Interval between dumps of the table
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval, value_hint = clap::ValueHint::Other)]
        interval: Duration,
        /// Sort by the largest rate, packet-rate, bytes, packets, age or timeout; groups also by flows
        #[arg(long, value_name = "COLUMN", default_value = "rate", value_hint = clap::ValueHint::Other)]
        sort: SortKey,
        /// Reverse the order
        #[arg(long)]
        reverse: bool,
        /// Show only flows whose addresses, ports, protocol, state and mark contain these words
        #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true, value_hint = clap::ValueHint::Other)]
        filter: String,
        /// Show only flows that satisfy this condition, as --where of -L: 'dport in {80, 443} and bytes > 1M'
        #[arg(long = "where", value_name = "EXPRESSION", value_hint = clap::ValueHint::Other)]
        condition: Option<String>,
        /// Show groups of flows in place of flows, as --by of -L: src/24,dport
        #[arg(long, value_name = "KEYS", value_hint = clap::ValueHint::Other)]
        by: Option<String>,
        /// Print one frame as text and exit: after two dumps, an interval apart, or at the end of the recording
        #[arg(long)]
        once: bool,
        /// With --once: text or json
        #[arg(short, long, value_name = "FORM", requires = "once", value_hint = clap::ValueHint::Other)]
        output: Option<FrameFormat>,
        /// With --once: print at most this many flows
        #[arg(long, value_name = "N", requires = "once", value_hint = clap::ValueHint::Other)]
        rows: Option<usize>,
        /// Speed of a recording: max, real (as recorded), or a multiple of that
        #[arg(long, default_value = "max", value_hint = clap::ValueHint::Other)]
        speed: Speed,
        /// Selectors and plugins, as of -L
        #[arg(last = true, value_name = "COMMAND", value_hint = clap::ValueHint::Other)]
        command: Vec<OsString>,
    },
    /// Find out why no connections are shown, and print the command that fixes it
    #[command(
        after_help = "Checks capabilities, kernel modules, sysctls, the network namespace, and what the kernel can do, which \
        is tried out in a temporary network namespace: nothing on the machine is changed. The exit status is 1 if there is a \
        problem, 0 if there are only warnings.\n\n\
        Examples:\n  flowgate doctor\n  flowgate doctor --netns blue\n  \
        flowgate doctor -o json | jq -r 'select(.level != \"ok\").mend'"
    )]
    Doctor {
        /// Check this network namespace instead: a name, a process ID, or a path
        #[arg(long, value_name = "NAME|PID|PATH", value_hint = clap::ValueHint::Other)]
        netns: Option<OsString>,
        /// One JSON object per line; the same as -o json
        #[arg(long)]
        json: bool,
        /// Output format
        #[arg(short, long, value_enum, default_value = "text")]
        output: Report,
    },
    /// Print the manual page, in roff
    #[command(after_help = "Example:\n  flowgate man | man -l -")]
    Man,
    /// Run the pipeline that a file describes
    #[command(after_help = "Examples:\n  flowgate run heavy.toml\n  flowgate run heavy.toml --check\n  \
        flowgate run heavy.toml --explain -o json")]
    Run(RunOptions),
    /// Write plugins: create a project, test it on fixtures, inspect it, measure it
    #[command(
        after_help = "Ten minutes to a tested filter:\n  flowgate plugin new no-telnet && cd no-telnet\n  make test\n  \
        $EDITOR src/lib.rs flows.txt\n  make bless && git diff\n\ndocs/PLUGINS.md of the source goes through it step by step."
    )]
    Plugin {
        /// What to do
        #[command(subcommand)]
        command: PluginCommand,
    },
    /// Search the audit: actions that plugins of tenants requested, or operators of a fleet, and their results
    #[cfg_attr(
        not(feature = "fleet"),
        command(after_help = "Examples:\n  flowgate audit --tenant blue --since 1h\n  \
        flowgate audit --stage refused --result out-of-scope -o json /var/log/flowgate/audit.jsonl.1.gz\n  \
        flowgate audit --open      # what was in progress when the service ended abruptly")
    )]
    #[cfg_attr(
        feature = "fleet",
        command(after_help = "Examples:\n  flowgate audit --tenant blue --since 1h\n  \
        flowgate audit --stage refused --result out-of-scope -o json /var/log/flowgate/audit.jsonl.1.gz\n  \
        flowgate audit --open      # what was in progress when the service ended abruptly\n  \
        flowgate audit --fleet --since 1d --stage refused\n  \
        flowgate audit verify --fleet")
    )]
    Audit(AuditOptions),
    /// Tenants with plugins of their own: check a policy file, control the service
    Policy {
        /// What to do
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Many hosts as one, over NATS: ask all of them, and miss none
    #[cfg(feature = "fleet")]
    #[command(after_help = "From nothing to the first answer: flowgate fleet init --help")]
    Fleet {
        /// What to do
        #[command(subcommand)]
        command: super::fleet_command::FleetCommand,
    },
}

/// The options of `run`. The comments are their help.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct RunOptions {
    /// The pipeline file
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// Report all mistakes, and run nothing
    #[arg(long)]
    pub check: bool,
    /// Show what would run, and run nothing
    #[arg(long, conflicts_with = "check")]
    pub explain: bool,
    /// The form of --explain
    #[arg(short = 'o', long, requires = "explain", default_value = "text")]
    pub output: Report,
    /// Print changes of the table as command lines, without making them
    #[arg(long)]
    pub dry_run: bool,
    /// At the end print what each component did; SIGUSR1 prints it at any time
    #[arg(long)]
    pub plugin_stats: bool,
    /// Serve metrics for Prometheus over HTTP: 127.0.0.1:9465, :9465 (all addresses) or unix:PATH
    #[arg(long, value_name = "ADDR", value_hint = clap::ValueHint::Other)]
    pub metrics: Option<ListenAddress>,
}

/// A shell with completion of command lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// GNU bash, 4 or later is best
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Adds the subcommands to a definition of the command line.
pub fn add_to(command: clap::Command) -> clap::Command {
    <Subcommand as clap::Subcommand>::augment_subcommands(command)
}

/// True if a word is the name of a subcommand.
fn is_subcommand(word: &OsStr) -> bool {
    word == "help" || Program::command().find_subcommand(word).is_some()
}

/// Parses a command line whose first word is a subcommand. Returns `None` for any other, and for `help` alone, which
/// means `-h`.
pub fn parse(program: &OsStr, arguments: &[OsString]) -> Option<Result<Invocation, CliError>> {
    let first = arguments.first()?;
    if first.as_encoded_bytes().starts_with(b"-") || !is_subcommand(first) || is_help(arguments) {
        return None;
    }
    let words = std::iter::once(program.to_os_string()).chain(arguments.iter().cloned());
    Some(match Program::try_parse_from(words) {
        Ok(program) => Ok(Invocation::Subcommand(Box::new(program.subcommand))),
        Err(error) => {
            let text = error.render().to_string();
            let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            if help {
                Ok(Invocation::Text(text))
            } else {
                // Subcommands exist only under flowgate's own name, with which its messages begin.
                Err(CliError::Subcommand(format!("flowgate: {}", text.strip_prefix("error: ").unwrap_or(&text))))
            }
        }
    })
}

/// Returns the error of a command line that begins with a word but not with a subcommand; `None` for any other.
pub fn unknown(arguments: &[OsString]) -> Option<CliError> {
    let first = arguments.first()?;
    if first.as_encoded_bytes().starts_with(b"-") {
        return None;
    }
    let word = first.to_string_lossy();
    if let Some(command) = flowgate_syntax::options::COMMANDS.iter().find(|command| command.long == word)
        && let Some(known) = super::word::of_command(command.command)
    {
        let (long, short) = (command.long, char::from(command.short));
        return Some(CliError::NoSubcommand(format!(
            "there is no subcommand `{long}`; the command is `{}`, --{long} or -{short}",
            known.name
        )));
    }
    let program = Program::command();
    let words = super::word::WORDS.iter().map(|word| word.name);
    let names: Vec<&str> =
        words.chain(program.get_subcommands().map(clap::Command::get_name)).chain(["help"]).collect();
    Some(CliError::NoSubcommand(flowgate_config::diagnostic::no_such("subcommand", &word, &names)))
}

/// True if the command line is the word `help` alone.
pub fn is_help(arguments: &[OsString]) -> bool {
    matches!(arguments, [word] if word == "help")
}

/// Parses a name that can be used in a script without quotes.
fn program_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || text.starts_with('-') || !text.bytes().all(plain) {
        return Err("a name consists of letters, digits, '-', '_' and '.'".to_owned());
    }
    Ok(text.to_owned())
}

/// Parses a number of bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let bytes = units::size(text).ok_or_else(|| format!("it takes {}", units::SIZE))?;
    if bytes > 0 { Ok(bytes) } else { Err("it must be above 0".to_owned()) }
}

/// Parses an age.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    units::time(text).ok_or_else(|| format!("it takes {}", units::TIME))
}

/// Parses the time between dumps.
fn interval(text: &str) -> Result<Duration, String> {
    let within = Duration::from_millis(100)..=Duration::from_secs(86_400);
    let time = age(text)?;
    if within.contains(&time) { Ok(time) } else { Err("it must be from 100ms to a day".to_owned()) }
}

/// Parses a duration, which is not zero.
fn duration(text: &str) -> Result<Duration, String> {
    let time = age(text)?;
    if time.is_zero() { Err("it must be above 0".to_owned()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::super::{plugin_command::Report, synopses};
    use super::*;

    fn read(line: &str) -> Option<Result<Invocation, CliError>> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(OsStr::new("/usr/bin/flowgate"), &words)
    }

    fn subcommand(line: &str) -> Subcommand {
        match read(line) {
            Some(Ok(Invocation::Subcommand(subcommand))) => *subcommand,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn error(line: &str) -> CliError {
        match read(line) {
            Some(Err(error)) => error,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn text(line: &str) -> String {
        match read(line) {
            Some(Ok(Invocation::Text(text))) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn subcommands_are_typed() {
        let name = || "flowgate".to_owned();
        assert_eq!(subcommand("completions zsh"), Subcommand::Completions { shell: Shell::Zsh, name: name() });
        let classic = Subcommand::Completions { shell: Shell::Bash, name: "conntrack".to_owned() };
        assert_eq!(subcommand("completions --name conntrack bash"), classic);
        assert_eq!(subcommand("man"), Subcommand::Man);
        let inspect = PluginCommand::Inspect { file: "a.wasm".into(), output: Report::Json };
        assert_eq!(subcommand("plugin inspect a.wasm -o json"), Subcommand::Plugin { command: inspect });
    }

    #[test]
    fn what_stands_behind_two_hyphens_is_a_classic_command_line() {
        let words = |line: &str| line.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        let file = || PathBuf::from("a.pcap");
        let record =
            |show, max_size, duration, command| Subcommand::Record { file: file(), show, max_size, duration, command };
        assert_eq!(subcommand("record a.pcap"), record(false, None, None, Vec::new()));
        assert_eq!(
            subcommand("record --show --max-size 3k --duration 1.5 a.pcap -- -E -p tcp --show"),
            record(true, Some(3072), Some(Duration::from_millis(1500)), words("-E -p tcp --show"))
        );
        let replay = |speed, command| Subcommand::Replay { file: file(), speed, command };
        assert_eq!(subcommand("replay a.pcap -- -L"), replay(Speed::Max, words("-L")));
        assert_eq!(subcommand("replay a.pcap --speed real"), replay(Speed::Times(1.0), Vec::new()));
        assert!(error("replay a.pcap -L").to_string().contains("-L"));
        assert!(error("record a --max-size 0").to_string().contains("above 0"));
        assert!(error("record a --duration 0").to_string().contains("above 0"));
        for size in ["-1", "k", "x", "1P", "99999999999G"] {
            assert!(
                error(&format!("record a --max-size={size}")).to_string().contains("it takes a size such as"),
                "{size}"
            );
        }
        for time in ["-1", "nan", "x"] {
            assert!(
                error(&format!("record a --duration={time}")).to_string().contains("it takes a time such as"),
                "{time}"
            );
        }
    }

    #[test]
    fn intervals_have_units() {
        for (text, milliseconds) in
            [("1s", 1000), ("500ms", 500), ("2m", 120_000), ("3", 3000), ("0.5", 500), ("1h", 3_600_000)]
        {
            assert_eq!(interval(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["0", "50ms", "25h", "99999999s"] {
            assert!(interval(text).unwrap_err().contains("100ms to a day"), "{text}");
        }
        for text in ["", "s", "-1s", "nan"] {
            assert!(interval(text).unwrap_err().contains(units::TIME), "{text}");
        }
        assert!(error("top --interval 0").to_string().contains("100ms to a day"));
        assert!(error("top --sort colour").to_string().contains("packet-rate"));
        assert!(error("top -o json").to_string().contains("--once"));
    }

    #[test]
    fn only_a_whole_name_at_the_front_counts() {
        for line in ["", "-L", "-L man", "ma", "mans", "complet bash", "foo man", "help", "--help"] {
            assert!(read(line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_word_that_is_no_subcommand_gets_a_suggestion() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let wrong = |line: &str| unknown(&words(line)).expect("no subcommand").to_string();
        assert_eq!(wrong("polcy reload"), "there is no subcommand `polcy`; did you mean `policy`?");
        assert_eq!(wrong("lst"), "there is no subcommand `lst`; did you mean `list`?");
        assert_eq!(wrong("dump expect"), "there is no subcommand `dump`; the command is `list`, --dump or -L");
        assert!(wrong("nothing").starts_with("there is no subcommand `nothing`; there are `list`, `watch`, "));
        assert!(wrong("").starts_with("there is no subcommand ``; there are"));
        assert!(unknown(&words("-L")).is_none() && unknown(&[]).is_none());
        assert!(error("policy relod").to_string().contains("'reload'"), "{}", error("policy relod"));
    }

    #[test]
    fn what_is_wrong_is_said_by_name() {
        let wrong = error("completions nonsense");
        assert_eq!(wrong.status(), 2);
        let message = wrong.to_string();
        assert!(message.contains("invalid value 'nonsense' for '<SHELL>'"), "{message}");
        assert!(message.contains("[possible values: bash, zsh, fish]"), "{message}");
        assert!(error("completions").to_string().contains("<SHELL>"));
        assert!(error("completions bash --name a;b").to_string().contains("a;b"));
        assert!(error("man page").to_string().contains("'page'"));
        assert!(error("plugin new x --lang cobol").to_string().contains("[possible values: "));
        assert!(error("plugin bench x,y").to_string().contains("'y' in 'x,y'"));
        assert!(error("plugin bench x --batch 0").to_string().contains("0 is not in 1..=65536"));
    }

    #[test]
    fn subcommands_have_help() {
        assert!(text("completions --help").contains("Usage: flowgate completions [OPTIONS] <SHELL>"));
        assert_eq!(text("help completions"), text("completions --help"));
        assert!(text("man -h").contains("flowgate man | man -l -"));
        let synopses = synopses();
        assert_eq!(synopses[0].usage, "completions bash|zsh|fish [--name NAME]");
        let doctor = "doctor [--netns NAME|PID|PATH] [--json] [--output text|json]";
        let usages: Vec<_> = synopses[1..5].iter().map(|synopsis| synopsis.usage.as_str()).collect();
        let record = "record FILE [--show] [--max-size SIZE] [--duration TIME] [-- COMMAND...]";
        let top = "top [FILE] [--interval TIME] [--sort COLUMN] [--reverse] [--filter WORDS] [--where EXPRESSION] [--by KEYS] \
            [--once] [--output FORM] [--rows N] [--speed SPEED] [-- COMMAND...]";
        assert_eq!(usages, [record, "replay FILE [--speed SPEED] [-- COMMAND...]", top, doctor]);
        assert_eq!(synopses[5].usage, "man");
        let run = "run FILE [--check] [--explain] [--output text|json] [--dry-run] [--plugin-stats] [--metrics ADDR]";
        assert_eq!(synopses[6].usage, run);
        let of = |beginning: &str| {
            synopses.iter().find(|synopsis| synopsis.usage.starts_with(beginning)).expect("it is there")
        };
        assert!(of("plugin test").usage.contains("[--bless] [--output text|json]"), "{}", of("plugin test").usage);
        assert_eq!(of("plugin inspect").usage, "plugin inspect FILE [--output text|json]");
        assert!(synopses.iter().all(|synopsis| !synopsis.help.is_empty()));
    }
}
