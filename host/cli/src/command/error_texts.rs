//! No error puts text from outside into its message as it is: names of files and namespaces, what a plugin, a file, the
//! kernel or a peer says, words of a command line. Each error that can hold such text is made here with a hostile one.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::Error,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use serde::de::Error as _;

use super::{plugin::ToolError, policy::PolicyError, report::CommandError};
use flowgate_base::address::ListenAddress;
use flowgate_config::Diagnostic;
use flowgate_fixture::FixtureError;
use flowgate_isolation::{UserRange, cgroup::NoGroups};
use flowgate_metrics::MetricsError;
use flowgate_model::grants::GrantError;
use flowgate_netlink::{DumpError, NamespaceError, SocketError, source::SourceError};
use flowgate_pipeline::{executor::ExecutorError, loader::LoadPluginError, sink::SinkError, spool::SpoolError};
use flowgate_policy::{
    control::{AskError, RequestError},
    guard::reason::Reason,
    sets::PrefixError,
};
use flowgate_privileges::PrivilegesError;
use flowgate_recording::RecordingError;
use flowgate_runtime::{Failure, LoadError, PluginError, services::state::StateError};
use flowgate_syntax::{CliError, RawArg, fragment::FragmentError};
use flowgate_worker::LinkError;

/// Moves the cursor, sets the title, rings, breaks lines, turns text around, and hides.
const HOSTILE: &str = "a\x1b]0;t\x07b\r\n\u{9b}2J\u{202e}\u{61c}\u{180e}\u{e0001}\u{2028}c";
/// How it is shown.
const SHOWN: &str = r"a\u{1b}]0;t\u{7}b\r\n\u{9b}2J\u{202e}\u{61c}\u{180e}\u{e0001}\u{2028}c";

fn text() -> String {
    HOSTILE.into()
}

fn path() -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&[HOSTILE.as_bytes(), b"\x9b"].concat()))
}

fn word() -> RawArg {
    RawArg([HOSTILE.as_bytes(), b"\x9b"].concat())
}

fn io() -> Error {
    Error::other(HOSTILE)
}

/// What is wrong with the messages of these errors, with their names. `SHOWN` is in each as often as in its name.
struct Messages(Vec<String>);

impl Messages {
    /// A message that has the hostile text this many times. Several lines are possible only where `lines` is true.
    fn add(&mut self, name: &str, message: &str, times: usize, lines: bool) {
        let expected = if lines { SHOWN.replace(r"\n", "\n") } else { SHOWN.into() };
        let moves = |character: char| character.is_control() && !(lines && character == '\n');
        let hides = |character| "\u{202e}\u{61c}\u{180e}\u{e0001}\u{2028}".contains(character);
        if message.contains(|character| moves(character) || hides(character))
            || message.matches(&expected).count() < times
        {
            self.0.push(format!("{name}: {message:?}"));
        }
    }
}

/// Adds errors, each with the number of times that its message has the text.
macro_rules! add {
    ($messages:ident, $type:ident: $($variant:ident $fields:tt $times:literal),* $(,)?) => {
        $( $messages.add(concat!(stringify!($type), "::", stringify!($variant)), &add!(@make $type $variant $fields).to_string(), $times, false); )*
    };
    (@make $type:ident $variant:ident ($($field:expr),*)) => { $type::$variant($($field),*) };
    (@make $type:ident $variant:ident {$($field:ident: $value:expr),*}) => { $type::$variant { $($field: $value),* } };
}

fn of_files(messages: &mut Messages) {
    add!(messages, StateError:
        Read {path: path(), source: io()} 2,
        Write {path: path(), source: io()} 2,
        Content {path: path(), said: text()} 2,
        TooMuch {path: path(), held: 2, capacity: 1} 1,
    );
    add!(messages, SinkError:
        Stdout (io()) 1,
        Open {path: path(), source: io()} 2,
        NotRegular {path: path()} 1,
        Write {path: path(), source: io()} 2,
        Rotate {from: path(), to: path(), source: io()} 3,
        Thread {sink: text(), source: io()} 2,
        Undelivered {sink: text(), lines: 1} 1,
        Spool {sink: text(), source: SpoolError::Used(path())} 2,
        Unavailable {sink: text(), reason: text()} 2,
    );
    add!(messages, SpoolError: File {path: path(), source: io()} 2, Used (path()) 1);
    add!(messages, RecordingError:
        Create {path: text(), source: io()} 2,
        Open {path: text(), source: io()} 2,
        Write (io()) 1,
        Read {offset: 0, source: io()} 1,
        Block {offset: 0, problem: text()} 1,
    );
    add!(messages, MetricsError:
        Listen {address: ListenAddress::Unix(path()), source: io()} 2,
        Start (io()) 1,
    );
    let fixture = FixtureError { file: text(), line: 1, column: 1, wrong: text(), right: text() };
    messages.add("FixtureError", &fixture.to_string(), 3, false);
    let diagnostic = Diagnostic { path: path(), line: 1, column: 1, message: text() };
    messages.add("Diagnostic", &diagnostic.to_string(), 2, false);
}

fn of_the_kernel(messages: &mut Messages) {
    add!(messages, NamespaceError:
        NoSuchName {name: text(), existing: vec![text(), text()]} 3,
        NoSuchProcess (text()) 2,
        Open {path: path(), source: io()} 2,
        NotANamespace (path()) 1,
        Enter {name: text(), source: io()} 2,
        Thread (io()) 1,
        Ids (io()) 1,
    );
    add!(messages, SocketError:
        Open (io()) 1,
        Bind {groups: 0, source: io()} 1,
        Option {option: "x", source: io()} 1,
        Send {length: 1, source: io()} 1,
        Receive (io()) 1,
        Wait (io()) 1,
    );
    add!(messages, PrivilegesError: Capabilities (io()) 1, Calls (io()) 1);
    add!(messages, LinkError: Socket (io()) 1);
    add!(messages, DumpError: Refused {errno: 1, text: Some(text())} 1);
    add!(messages, ExecutorError: Refused {errno: 1, text: Some(text())} 1);
    add!(messages, SourceError: Other {errno: 1, error: HOSTILE.into()} 1);
}

fn of_plugins(messages: &mut Messages) {
    add!(messages, LoadError:
        Read {path: path(), source: io()} 2,
        NotWasm {path: path(), found: text()} 2,
        NotComponent {path: path(), said: text()} 2,
        Excessive {path: path(), excess: text()} 2,
        Unconfined {path: path(), reason: text()} 2,
        Compile {path: path(), said: text()} 2,
        CompileMemory {path: path(), limit: 1} 1,
        CompileTime {path: path(), limit: std::time::Duration::ZERO} 1,
        Compiler {path: path(), what: text()} 2,
        Memory {path: path(), limit: None} 1,
        Mismatch {path: path(), reason: text()} 2,
        Engine (text()) 1,
        Panicked (text()) 1,
    );
    add!(messages, Failure:
        Trap (text()) 1,
        Forbidden (text()) 1,
        BadValue (text()) 1,
        Refused (text()) 1,
        Host (text()) 1,
    );
    let error = PluginError { plugin: text(), failure: Failure::Stack };
    messages.add("PluginError", &error.to_string(), 1, false);
    let error = || StateError::Content { path: path(), said: text() };
    add!(messages, LoadPluginError:
        Digest {path: path(), found: text()} 2,
        Role {plugin: text(), interface: "x", exports: text()} 2,
        Option {plugin: text(), index: None, problem: text()} 2,
        Service {plugin: text(), service: text(), grant: "x"} 2,
        State {plugin: text(), error: error()} 3,
    );
    add!(messages, GrantError:
        Unknown (text()) 1,
        Superfluous {name: text(), value: text()} 2,
        Value {name: text(), value: text(), wanted: "x"} 2,
    );
}

fn of_policies(messages: &mut Messages) {
    add!(messages, NoGroups: NotDelegated (path()) 1, Shared (path()) 1, NotWritable (path(), io()) 2);
    add!(messages, Reason: Unproposed (text()) 1);
    add!(messages, PrefixError: Form (text()) 1, HostBits {given: text(), network: text()} 2);
    add!(messages, RequestError: Malformed (serde_json::Error::custom(HOSTILE)) 1);
    add!(messages, AskError: Connection (io()) 1, Malformed (serde_json::Error::custom(HOSTILE)) 1);
    add!(messages, PolicyError:
        Socket {path: path(), source: io()} 2,
        Running {path: path()} 1,
        Ask {path: path(), source: AskError::Connection(io())} 2,
        WorkerUids {range: UserRange::DEFAULT, source: io()} 1,
        Once {path: path()} 1,
        Signal {source: io()} 1,
        Thread {source: io()} 1,
        Audit {path: path(), source: io()} 2,
        Flow {wrong: text(), right: text()} 2,
    );
}

fn of_commands(messages: &mut Messages) {
    add!(messages, ToolError:
        Read {path: path(), source: io()} 2,
        Write {path: path(), source: io()} 2,
        NoCases {path: path()} 1,
        NoPlugin {directory: path(), looked: vec![text(), text()]} 3,
        Name {name: text(), problem: "x"} 1,
        Taken {path: path()} 1,
    );
    for (name, error) in [
        ("ToolError::Toml", ToolError::Toml { path: "x".into(), said: text() }),
        ("ToolError::Case", ToolError::Case { path: "x".into(), case: "x".into(), problem: text() }),
        ("ToolError::Bench", ToolError::Bench { path: "x".into(), problem: text() }),
    ] {
        messages.add(name, &error.to_string(), 1, true);
    }
    add!(messages, CommandError:
        Kernel {text: text(), errno: 1} 1,
        CannotOpen (text()) 1,
        CannotRead (text()) 1,
        Events (text()) 1,
        PluginService {plugin: text(), service: text(), grant: "x"} 2,
        Pipeline {path: path(), source: io()} 2,
        Diagnostics {path: path(), mistakes: 1} 1,
        Thread (io()) 1,
    );
    messages.add("CommandError::Tenant", &CommandError::Tenant(text()).to_string(), 1, true);
    messages.add("CommandError::Top", &CommandError::Top(text()).to_string(), 1, true);
    add!(messages, FragmentError:
        NoOption (text()) 1,
        Quote (text()) 1,
        Cli (CliError::UnknownOption(word())) 1,
    );
    add!(messages, CliError:
        UnknownOption (word()) 1,
        MissingValue (word()) 1,
        UnknownTable (word()) 1,
        BadParameter (word()) 1,
        InvalidAddress (word()) 1,
        UnsupportedProtocol (word()) 1,
        UnexpectedValue {value: word(), option: 'x'} 1,
        UnknownLabel (word()) 1,
        InvalidPort (word()) 1,
        UnknownTcpState (word()) 1,
        UnknownSctpState (word()) 1,
        UnknownDccpState (word()) 1,
        UnknownDccpRole (word()) 1,
        CannotOpen (word()) 1,
        CannotRead {name: word(), error: text()} 2,
        StrayWord {word: word(), hint: Some(text())} 2,
        Attached {option: "x", value: word(), example: text()} 2,
        AfterFile (word()) 1,
        StatusIgnored (word()) 1,
        WithHint (Box::new(CliError::UnknownOption(word())), text()) 2,
        NoSubcommand (text()) 1,
        UnknownName (word()) 1,
        PluginOptionTwice {value: word(), option: text()} 2,
        StatusSelectsAll (word()) 1,
        BatchRows (word()) 1,
        PluginWithoutFile (word()) 1,
        PluginOption {value: word(), option: word()} 2,
        PluginQuote (word()) 1,
        PluginText (word()) 1,
        NoUtf8 (word(), "x") 1,
        Grant (text()) 1,
        OnErrorValue (word()) 1,
        Metrics (text()) 1,
        PluginFile {option: text(), file: word(), reason: text()} 3,
    );
    messages.add("CliError::Subcommand", &CliError::Subcommand(text()).to_string(), 1, true);
}

#[cfg(feature = "fleet")]
fn of_fleets(messages: &mut Messages) {
    use super::fleet::FleetError;
    use flowgate_fleet::{
        agent::StoredError,
        audit::AuditError,
        bundle::BundleError,
        bus::{BusError, ConnectError},
        config::ConfigError,
        groups::GroupsError,
        journal::JournalError,
        keys::KeyError,
        message::MessageError,
        names::NameError,
        plan::PlanError,
        release::ReleaseError,
        rollout::{GateError, RolloutError},
        server_config::SetupError,
        table::TableError,
    };
    add!(messages, NameError:
        Id (text()) 1,
        Name (text()) 1,
        Digest (text()) 1,
        Label (text()) 1,
        Plan (text()) 1,
    );
    add!(messages, StoredError: File {path: text(), source: io()} 2, Damaged {path: text(), reason: text()} 2);
    add!(messages, BundleError:
        File {path: text(), source: io()} 2,
        Kind {path: text(), what: "a link"} 1,
        Name (text()) 1,
        Outside {path: text(), entry: text()} 2,
        NoEntry {place: text(), entry: text()} 2,
        Size (text()) 1,
        Broken (text()) 1,
    );
    add!(messages, ReleaseError: Size (text()) 1, Unreadable (text()) 1);
    add!(messages, RolloutError: Unfinished {id: text(), phase: "done"} 1, Stages (text()) 1);
    // GateError { has a text of the command line.
    messages.add("GateError", &GateError::new(HOSTILE).to_string(), 1, false);
    add!(messages, KeyError:
        File {path: text(), source: io()} 2,
        Readable {path: text(), mode: 0o644} 2,
        Seed {path: text(), kind: "a user", prefix: "SU"} 1,
        Signer (text()) 1,
    );
    add!(messages, MessageError: Json (serde_json::Error::custom(HOSTILE)) 1, Many (text()) 1);
    add!(messages, BusError: Denied (text()) 1, Conflict (text()) 1, Store (text()) 1, Other (text()) 1);
    add!(messages, ConnectError:
        Unreachable {server: text(), reason: text()} 2,
        Unknown {server: text()} 1,
        Tls {server: text(), ca: text(), reason: text()} 3,
    );
    add!(messages, JournalError:
        File {path: text(), source: io()} 2,
        Damaged {path: text(), line: 1} 1,
        Full (text()) 1,
    );
    add!(messages, AuditError: File {path: text(), source: io()} 2, Full (text()) 1);
    add!(messages, PlanError: Size (text()) 1, Unreadable (text()) 1);
    add!(messages, GroupsError: Unmergeable {name: text(), of: text()} 2, Bad (text()) 1);
    add!(messages, TableError: Refused (text()) 1, Failed (text()) 1);
    add!(messages, ConfigError:
        File {path: text(), source: io()} 2,
        Mistake {path: text(), message: text()} 2,
        Untrusted {path: text(), why: text()} 4,
    );
    add!(messages, SetupError:
        File {path: text(), source: io()} 2,
        Exists (text()) 1,
        NoFleet (text()) 1,
    );
    add!(messages, FleetError:
        ConnectTime (text()) 1,
        NoSuchAgent {name: text(), known: Some(text())} 2,
        Plan {path: text(), source: PlanError::Size(text())} 2,
        File {path: path(), source: io()} 2,
        NoSigningKey (text()) 1,
        Release {path: text(), reason: text()} 2,
        NoBundle (text()) 1,
        State {path: path(), source: io()} 2,
        Servers (text()) 1,
        Recording (TableError::Failed(text())) 1,
        Output (io()) 1,
        Runtime (io()) 1,
    );
    messages.add("FleetError::Question", &FleetError::Question(text()).to_string(), 1, true);
}

#[test]
fn no_error_repeats_text_from_outside_as_it_is() {
    let mut messages = Messages(Vec::new());
    of_files(&mut messages);
    of_the_kernel(&mut messages);
    of_plugins(&mut messages);
    of_policies(&mut messages);
    of_commands(&mut messages);
    #[cfg(feature = "fleet")]
    of_fleets(&mut messages);
    assert!(messages.0.is_empty(), "{} messages:\n{}", messages.0.len(), messages.0.join("\n"));
}

#[test]
fn no_warning_repeats_text_from_outside_as_it_is() {
    let (send, received) = std::sync::mpsc::channel();
    flowgate_base::Warnings::new(move |line| send.send(line.to_string()).unwrap()).line(HOSTILE);
    assert_eq!(received.recv().unwrap(), SHOWN);
}

/// Types that hold text from outside.
const TEXTS: [&str; 7] =
    ["String", "PathBuf", "RawArg", "io::Error", "serde_json::Error", "ListenAddress", "dyn Error"];

/// All sources below `host/*/src`.
fn sources() -> Vec<String> {
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut left: Vec<PathBuf> = fs::read_dir(host)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("src"))
        .filter(|path| path.is_dir())
        .collect();
    let mut texts = Vec::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(fs::read_to_string(path).unwrap());
        }
    }
    texts
}

/// The enumerations and structures in `text` that are errors, with what is between their braces.
fn errors(text: &str) -> Vec<(&str, bool, &str)> {
    let mut found = Vec::new();
    let items = text
        .match_indices(" enum ")
        .map(|at| (at, true))
        .chain(text.match_indices("pub struct ").map(|at| (at, false)));
    for ((at, keyword), is_enum) in items {
        let after = &text[at + keyword.len()..];
        let name = after.split(|character: char| !character.is_alphanumeric()).next().unwrap_or_default();
        let attributes = text[..at].rsplit("\n\n").next().unwrap_or_default();
        let derives = attributes.contains("Error)]") && attributes.contains("derive(");
        if derives || text.contains(&format!("std::error::Error for {name} ")) {
            let body = after.split("\n}").next().unwrap_or_default();
            found.push((name, is_enum, body.split_once('{').map_or("", |(_, body)| body)));
        }
    }
    found
}

/// The variants in the body of an enumeration that hold text, with attributes and comments left out.
fn variants_with_text(body: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut variant = String::new();
    for line in body.lines() {
        let begins =
            line.strip_prefix("    ").filter(|rest| rest.starts_with(|character: char| character.is_uppercase()));
        if let Some(begins) = begins {
            variant = begins.chars().take_while(|character| character.is_alphanumeric()).collect();
        }
        let is_field = begins.is_some() || line.starts_with("        ") && line.trim_end().ends_with(',');
        let is_comment = line.trim_start().starts_with("//") || line.contains("#[error");
        if is_field && !is_comment && !line.contains('"') && TEXTS.iter().any(|held| line.contains(held)) {
            found.insert(variant.clone());
        }
    }
    found.into_iter().collect()
}

/// An error that is new, or has a new variant, has to be made above.
#[test]
fn every_error_that_holds_text_is_made_here() {
    let here = include_str!("error_texts.rs");
    let (mut missing, mut variants) = (Vec::new(), 0);
    let sources = sources();
    for (name, is_enum, body) in sources.iter().flat_map(|text| errors(text)) {
        // Not visible here; its own crate has the test.
        let list = if name == "TrustError" { include_str!("../../../base/src/files/trust.rs") } else { here };
        if !is_enum {
            if TEXTS.iter().any(|held| body.contains(held))
                && !list.contains(&format!("{name} {{"))
                && name != "ListenAddressError"
            {
                missing.push(name.to_string());
            }
            continue;
        }
        let made: BTreeSet<&str> = list
            .split(&format!("{name}:\n"))
            .skip(1)
            .chain(list.split(&format!("{name}: ")).skip(1))
            .flat_map(|rest| {
                rest.split(");").next().unwrap_or_default().split(|character: char| !character.is_alphanumeric())
            })
            .collect();
        for variant in variants_with_text(body) {
            variants += 1;
            if !made.contains(variant.as_str()) && !list.contains(&format!("{name}::{variant}")) {
                missing.push(format!("{name}::{variant}"));
            }
        }
    }
    assert!(missing.is_empty(), "not made in {}: {missing:?}", file!());
    assert!(variants > 90, "only {variants} were found");
}
