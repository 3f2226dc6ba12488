//! `plugin`: the subcommands for authors of plugins. The comments are their help.

use std::{ffi::OsString, path::PathBuf};

use flowgate_model::grants::Grants;
use flowgate_recording::Speed;
use flowgate_syntax::{PluginArgument, SystemEnvironment, plugin};

/// The languages of templates.
pub const LANGUAGES: [&str; 5] = ["c", "javascript", "python", "rust", "zig"];

/// Default of `--flows`.
const FLOWS: u32 = 100_000;

/// A subcommand of `plugin`.
#[derive(Debug, Clone, PartialEq, clap::Subcommand)]
pub enum PluginCommand {
    /// Create a project for a plugin; it builds and passes its tests as it is
    #[command(
        after_help = "The project has a small filter that works, a fixture with flows, a test, a Makefile, a README and a \
        workflow for continuous\nintegration. Change the filter, and `make test` says what the change does.\n\n\
        Examples:\n  flowgate plugin new heavy-talkers\n  cd heavy-talkers && make test\n  \
        flowgate plugin new no-telnet --lang python --dir ~/plugins/no-telnet"
    )]
    New {
        /// The plugin's name: lowercase letters, digits and hyphens
        #[arg(value_hint = clap::ValueHint::Other)]
        name: String,
        /// The language that it is written in
        #[arg(long, default_value = "rust", value_parser = clap::builder::PossibleValuesParser::new(LANGUAGES))]
        lang: String,
        /// Where to put it; a directory of the plugin's name if not given
        #[arg(long, value_hint = clap::ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
    /// Show what a plugin is, what it needs, and whether it runs here
    #[command(after_help = "If it does not run here, the exit status is 1, and the reason is shown.\n\n\
        Examples:\n  flowgate plugin inspect heavy_tcp.wasm\n  flowgate plugin inspect -o json heavy_tcp.wasm | jq .imports")]
    Inspect {
        /// The component, or core module with the metadata of one
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
        /// Output format
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
        output: Report,
    },
    /// Test plugins on fixtures: no root, no kernel
    #[command(after_help = "Each directory has a test.toml:\n\n  \
        plugin = \"target/wasm32-unknown-unknown/release/no_telnet.wasm\"   # found by itself if cargo built it\n\n  \
        [[case]]\n  name = \"drops telnet\"\n  flows = \"flows.txt\"             # lines of conntrack -L, -E, or -o json; or the lines themselves\n  \
        options = { port = 23 }\n  grants = \"delete\"               # what the plugin may do; no kernel is asked\n  \
        output = \"text\"                 # the words of -o\n  expect = \"expected/telnet.txt\"  # written by --bless\n\n\
        Examples:\n  flowgate plugin test\n  flowgate plugin test examples/*\n  flowgate plugin test --bless && git diff expected")]
    Test {
        /// Directories with a test.toml; the current one if none is given
        #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
        directories: Vec<PathBuf>,
        /// The plugin, instead of the one that test.toml names
        #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        plugin: Option<PathBuf>,
        /// Only cases whose name contains this
        #[arg(long, value_name = "TEXT", value_hint = clap::ValueHint::Other)]
        case: Option<String>,
        /// Write the results as the expected ones
        #[arg(long)]
        bless: bool,
        /// Output format
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
        output: Report,
    },
    /// Measure the time that a plugin takes per flow, compared with one that does nothing
    #[command(after_help = "Examples:\n  flowgate plugin bench heavy_tcp.wasm\n  \
        flowgate plugin bench heavy_tcp.wasm,bytes=1000 --flows 1000000 --batch 256\n  \
        flowgate plugin bench heavy_tcp.wasm --from flows.txt -o json")]
    Bench {
        /// The plugin and its options: FILE[,NAME=VALUE...]
        #[arg(value_name = "PLUGIN", value_parser = spec, value_hint = clap::ValueHint::FilePath)]
        plugin: PluginArgument,
        /// Its grants, as with --grant; the kernel's table is not changed
        #[arg(long, value_name = "GRANTS", value_hint = clap::ValueHint::Other)]
        grant: Option<Grants>,
        /// Number of flows per round
        #[arg(long, value_name = "N", default_value_t = FLOWS, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        flows: u32,
        /// A fixture whose flows are repeated, instead of made-up flows
        #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        from: Option<PathBuf>,
        /// Flows per call
        #[arg(long, value_name = "N", default_value_t = flowgate_syntax::DEFAULT_BATCH, value_parser = clap::value_parser!(u32).range(1..=65_536))]
        batch: u32,
        /// Output format
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
        output: Report,
    },
    /// Show a recording through a plugin: `flowgate replay` with --plugin
    #[command(after_help = "Examples:\n  flowgate plugin run heavy_tcp.wasm trace.pcap\n  \
        flowgate plugin run heavy_tcp.wasm,bytes=1000 trace.pcap -- -p tcp -o json")]
    Run {
        /// The plugin and its options: FILE[,NAME=VALUE...]
        #[arg(value_name = "PLUGIN", value_hint = clap::ValueHint::FilePath)]
        plugin: OsString,
        /// The recording, as `flowgate record` makes it, or a capture of nlmon; - for standard input
        #[arg(value_hint = clap::ValueHint::FilePath)]
        recording: PathBuf,
        /// Speed: max, real (as recorded), or a multiple of that
        #[arg(long, default_value = "max", value_hint = clap::ValueHint::Other)]
        speed: Speed,
        /// How to show it: a command line of -L or -E, or only its options
        #[arg(last = true, value_name = "COMMAND", value_hint = clap::ValueHint::Other)]
        command: Vec<OsString>,
    },
}

/// The output format of a subcommand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Report {
    /// Text for people
    #[default]
    Text,
    /// JSON for programs
    Json,
}

/// Parses an argument that names a plugin with its options.
fn spec(text: &str) -> Result<PluginArgument, String> {
    plugin::parse(text.as_bytes(), &SystemEnvironment).map_err(|error| error.to_string())
}
