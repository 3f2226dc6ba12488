//! The kernel's table, as an agent asks it: by the pipeline, as a command line would, and as nothing but a listing or a
//! deletion.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    io::{self, BufRead, Write},
    net::{SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use flowgate_base::Warnings;
use flowgate_fleet::{
    config::Servers,
    event_queue::EventWriter,
    message,
    plan::Action,
    table::{Facts, Form, SetHash, Table, TableError, Touched, Watching},
};
use flowgate_model::{EventGroups, Flows};
use flowgate_netlink::{Statistics, Stop};
use flowgate_pipeline::{
    Spec, Tally,
    loader::{PluginLoader, Purpose},
    sink::{Sink, SinkError},
    spec::{RecordingSpec, Source},
};
use flowgate_query::{Context, Query};
use flowgate_recording::{RecordingKind, Speed};
use flowgate_syntax::{
    Command, DEFAULT_LABEL_MAP, Environment, Output, ProgramName, Settings, SystemEnvironment, Table as TableName,
};

use super::{events, groups, rows};
use crate::command::{
    lower,
    report::CommandError,
    table::{self, Row},
};

/// File with the number of entries.
const COUNT_FILE: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// File with the largest number of entries.
const MAX_FILE: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
/// The most addresses of the server that are remembered.
const MAX_ADDRESSES: usize = 64;
/// File with the release of the kernel.
const RELEASE_FILE: &str = "/proc/sys/kernel/osrelease";

/// The files that a question may read: those with names, and no others of the host.
#[derive(Clone, Copy, Debug)]
struct NamesOnly;

impl Environment for NamesOnly {
    fn open(&self, name: &[u8]) -> io::Result<Box<dyn BufRead>> {
        let known = [DEFAULT_LABEL_MAP.as_bytes(), b"/etc/protocols", b"/etc/services"];
        match known.contains(&name) {
            true => SystemEnvironment.open(name),
            false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "a question opens no file")),
        }
    }

    fn standard_input(&self) -> io::Result<Box<dyn BufRead>> {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "a question has no input"))
    }

    fn posixly_correct(&self) -> bool {
        false
    }
}

/// Parses the words of a question, and refuses whatever is no listing, deletion or update of flows.
///
/// # Errors
/// What is wrong with them.
pub(super) fn parse(words: &[String], command: Command, form: Form) -> Result<Settings, String> {
    let name = ProgramName::of(OsStr::new("flowgate"));
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let mut warnings = Vec::new();
    let parsed =
        flowgate_syntax::parse_classic(&name, &words, (command, TableName::Conntrack), &NamesOnly, &mut warnings);
    let mut settings = match parsed {
        Ok(settings) => *settings,
        Err(flowgate_syntax::CliError::Query(option, error)) => return Err(format!("--{option}: {error}")),
        Err(error) => return Err(String::from_utf8_lossy(&error.message()).into_owned()),
    };
    // A name that has no number here would select other flows.
    if let Some(warning) = warnings.into_iter().next() {
        return Err(warning);
    }
    let only = match command {
        Command::Delete => "-D",
        Command::Update => "-U",
        Command::Events => "-E",
        _ => "-L",
    };
    let acts = matches!(command, Command::Delete | Command::Update);
    if settings.command != command || settings.table != TableName::Conntrack {
        return Err(format!(
            "there is another command or table in it; after -- come only the options of {only} of flows"
        ));
    }
    let events = command == Command::Events;
    let json = form == Form::Text && settings.output.contains(Output::JSON);
    for (given, option, why) in [
        (!settings.plugins.is_empty(), "--plugin", "no agent runs plugins for a question"),
        (settings.netns.is_some() || settings.all_netns, "--netns", "an agent answers for its own network namespace"),
        (settings.zero, "-z", "a question changes no counters"),
        (settings.explain, "--explain", "`flowgate -L --explain` explains it on this host"),
        (settings.dry_run, "--dry-run", "it goes before the --"),
        (settings.metrics.is_some(), "--metrics", "a question has none"),
        (settings.stats, "--plugin-stats", "a question has no plugins"),
        (settings.quiet, "--quiet", "nothing is shown that could be left out"),
        (json, "-o json", "it goes before the --"),
        (settings.output.contains(Output::XML), "-o xml", "lines of several hosts are no document; take -o json"),
        (acts && !settings.output.is_empty(), "-o", "an action shows no flows"),
        (events && settings.output.contains(Output::SAVE), "-o save", "a gap is no command line; take -o json"),
        (events && settings.aggregate.is_some(), "--by and the like", "groups of events are not merged"),
        (events && settings.reliable, "--reliable", "whoever watches would hold up the kernels of all agents"),
        (
            events && (settings.buffer_size.is_some() || settings.buffer_max.is_some()),
            "--buffer-size",
            "an agent sees to it",
        ),
    ] {
        if given {
            return Err(format!("{option} has no use after --: {why}"));
        }
    }
    if command == Command::Update && super::plan_text::sets(&settings.template).is_empty() {
        return Err("nothing is set; -m sets the mark, -t the timeout, -u status bits, --label-add labels".into());
    }
    if form == Form::Json {
        // Whatever is printed is made of it.
        settings.output.insert(Output::JSON);
    }
    Ok(settings)
}

/// Returns the command that does an action on one host.
pub(super) fn command(action: Action) -> Command {
    match action {
        Action::Delete => Command::Delete,
        Action::Update => Command::Update,
    }
}

/// Returns the row of a command.
pub(super) fn row(command: Command) -> Result<&'static Row, TableError> {
    table::row(command, TableName::Conntrack).ok_or_else(|| TableError::Failed("there is no such command".into()))
}

/// Returns the spec with a recording as its source. Nothing is done to the kernel's table, whatever the spec says.
fn recorded(spec: Spec, row: &Row, file: &Path) -> Result<Spec, TableError> {
    let Source::Dump(dump) = spec.source else {
        return Err(TableError::Refused("a recorded table has flows, and nothing else of a kernel".into()));
    };
    let recording = RecordingSpec {
        file: file.to_owned(),
        speed: Speed::Max,
        table: dump.table,
        kind: RecordingKind::Dump,
        groups: EventGroups::ALL,
        family: dump.family,
    };
    // What only lists is no dry run, which has a format of its own.
    Ok(Spec { source: Source::Recording(recording), dry_run: row.acts.is_some(), ..spec })
}

/// The table of this host, or a recorded one.
#[derive(Debug)]
pub(super) struct KernelTable {
    /// Connections to the servers are the agent's, and are not touched.
    pub server: OwnServer,
    /// The recording of a dump that stands in for the kernel, whose table is then neither read nor changed.
    pub recording: Option<PathBuf>,
    pub stop: Stop,
}

/// The servers of the agent, by all addresses that their names have had.
#[derive(Debug, Default)]
pub(super) struct OwnServer {
    names: Vec<(String, u16)>,
    known: Mutex<BTreeSet<SocketAddr>>,
}

impl OwnServer {
    /// Returns servers with the addresses that their names have now.
    pub(super) fn new(servers: &Servers, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let names = servers.all().iter().map(|server| (server.host().to_owned(), server.port()));
        OwnServer { names: names.collect(), known: Mutex::new(addresses.into_iter().collect()) }
    }

    /// Returns all addresses that a connection to them may have: those that they had, and those that they have.
    fn addresses(&self) -> Result<Vec<SocketAddr>, TableError> {
        let failed = |why: &str| Err(TableError::Failed(format!("the server's connection could be touched: {why}")));
        // Without an answer of the resolver there is no new connection either.
        let now = self.names.iter().filter_map(|(host, port)| (host.as_str(), *port).to_socket_addrs().ok());
        let now: Vec<SocketAddr> = now.flat_map(|addresses| addresses.take(MAX_ADDRESSES)).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(now);
        match known.len() {
            0 => failed("its address is not known"),
            1..=MAX_ADDRESSES => Ok(known.iter().copied().collect()),
            _ => failed("its name has had more than 64 addresses; start the agent again"),
        }
    }
}

impl KernelTable {
    fn run(&self, spec: Spec, settings: &Settings, row: &Row, sink: &mut dyn Sink) -> Result<(u64, u64), TableError> {
        let failed = |error: CommandError| TableError::Failed(error.to_string());
        let spec = match &self.recording {
            None => spec,
            Some(file) => recorded(spec, row, file)?,
        };
        let loader = rows::loader(settings).map_err(failed)?;
        let loaded = spec.load(&loader, Purpose::Run).map_err(|error| failed(error.into()))?;
        let loaded = loaded.writing_groups(groups::PartialGroups);
        let pipeline = loaded.pipeline::<Flows>(&loader, sink).map_err(|error| failed(error.into()))?;
        let mut pipeline = pipeline.with_warnings(Warnings::ignored());
        let mut tally = Tally::default();
        match pipeline.run(&self.stop, &mut tally) {
            Ok(()) if self.stop.is_stopped() => Err(TableError::Failed("the agent is ending".into())),
            Ok(()) => Ok((tally.shown, pipeline.done())),
            Err(error) => Err(match CommandError::of_run(row, error) {
                CommandError::BrokenPipe | CommandError::Output(_) => TableError::Gone,
                error => TableError::Failed(error.to_string()),
            }),
        }
    }

    /// Returns the settings of an action that leaves the agent's own connection alone.
    fn settings(&self, action: Action, words: &[String]) -> Result<Settings, TableError> {
        let mut settings = parse(words, command(action), Form::Text).map_err(TableError::Refused)?;
        if self.recording.is_some() {
            return Ok(settings);
        }
        let addresses = self.server.addresses()?;
        let own: Vec<String> = addresses
            .iter()
            .map(|server| {
                let (address, port) = (server.ip().to_canonical(), server.port());
                // An entry that begins in the middle of a connection may have its directions exchanged.
                let ends =
                    [("dst", "dport"), ("src", "sport"), ("reply.src", "reply.sport"), ("reply.dst", "reply.dport")];
                let end = |(host, of)| format!("{host} == {address} and {of} == {port}");
                ends.map(end).join(" or ")
            })
            .collect();
        let own = format!("not (proto == tcp and ({}))", own.join(" or "));
        // The canonical text is read as the same program, without the files of names.
        let text = settings.query.as_ref().map_or_else(|| own.clone(), |query| format!("({query}) and {own}"));
        let query = Query::parse(&text, &Context::NAMES).map_err(|error| TableError::Failed(error.to_string()))?;
        settings.query = Some(query);
        Ok(settings)
    }
}

/// A sink that hands bytes on.
struct To<'a>(&'a mut dyn Write);

impl Sink for To<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.0.write_all(bytes).map_err(SinkError::Stdout)
    }
}

/// A sink that adds up hashes of lines, in any order.
#[derive(Default)]
struct Hashes(SetHash);

impl Sink for Hashes {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            self.0.add(line);
        }
        Ok(())
    }
}

/// Reads a number from a file of procfs; 0 if it cannot be read.
fn number(path: &str) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

impl Table for KernelTable {
    fn facts(&self) -> Facts {
        let kernel = fs::read_to_string(RELEASE_FILE).unwrap_or_default();
        Facts {
            flowgate: env!("CARGO_PKG_VERSION").into(),
            kernel: kernel.trim().into(),
            flows: number(COUNT_FILE),
            flows_max: number(MAX_FILE),
        }
    }

    fn count(&self, words: &[String]) -> Result<u64, TableError> {
        let settings = parse(words, Command::List, Form::Text).map_err(TableError::Refused)?;
        if words.is_empty()
            && self.recording.is_none()
            && let Ok(counts) = Statistics::FlowCount.read(None)
            && let [count] = counts.values[..]
        {
            return Ok(count);
        }
        let row = row(Command::List)?;
        let spec = Spec { format: None, ..lower::entries(row, &settings, None) };
        let mut nowhere: Vec<u8> = Vec::new();
        self.run(spec, &settings, row, &mut nowhere).map(|(shown, _)| shown)
    }

    fn list(&self, words: &[String], form: Form, out: &mut dyn Write) -> Result<u64, TableError> {
        let settings = parse(words, Command::List, form).map_err(TableError::Refused)?;
        let row = row(Command::List)?;
        let spec = lower::entries(row, &settings, None);
        self.run(spec, &settings, row, &mut To(out)).map(|(shown, _)| shown)
    }

    fn group(&self, words: &[String], out: &mut dyn Write) -> Result<u64, TableError> {
        let mut settings = parse(words, Command::List, Form::Json).map_err(TableError::Refused)?;
        let Some(aggregate) = &mut settings.aggregate else {
            return Err(TableError::Refused("these words group no flows; --by or --sum does".into()));
        };
        let partial = flowgate_fleet::groups::partial(&aggregate.aggregation);
        aggregate.aggregation = partial.map_err(|error| TableError::Refused(error.to_string()))?;
        let row = row(Command::List)?;
        let spec = lower::entries(row, &settings, None);
        self.run(spec, &settings, row, &mut To(out)).map(|(shown, _)| shown)
    }

    fn watch(&self, words: &[String], out: EventWriter) -> Result<Watching, TableError> {
        if self.recording.is_some() {
            return Err(TableError::Refused("a recorded table has no events".into()));
        }
        events::watch(words, out)
    }

    fn stats(&self, form: Form, out: &mut dyn Write) -> Result<u64, TableError> {
        let failed = |error: CommandError| TableError::Failed(error.to_string());
        if self.recording.is_some() {
            return Err(TableError::Refused("a recorded table has no counters of a kernel".into()));
        }
        let row = row(Command::Statistics)?;
        let words: &[String] = &[];
        let settings = parse(words, Command::Statistics, form).map_err(TableError::Refused)?;
        let loader = PluginLoader::new(Vec::new(), false, false).map_err(|error| failed(error.into()))?;
        let spec = lower::entries(row, &settings, None);
        let counts = Statistics::FlowsPerCpu.read(None);
        let counts = counts.map_err(|error| failed(CommandError::of_errno(row, error.errno())))?;
        let mut loaded = spec.load(&loader, Purpose::Run).map_err(|error| failed(error.into()))?;
        loaded.write_statistics(&counts, &mut To(out)).map_err(|error| failed(CommandError::of_run(row, error)))?;
        Ok(counts.cpus.len() as u64)
    }

    fn plan(&self, action: Action, words: &[String]) -> Result<Touched, TableError> {
        let settings = Settings { dry_run: true, ..self.settings(action, words)? };
        let row = row(command(action))?;
        let mut hashes = Hashes::default();
        let spec = lower::entries(row, &settings, None);
        let (_, count) = self.run(spec, &settings, row, &mut hashes)?;
        Ok(Touched { count, hash: hashes.0.digits() })
    }

    fn act(&self, action: Action, words: &[String]) -> Result<u64, TableError> {
        // Nothing is shown, so that nothing need be read again.
        let settings = Settings { quiet: true, ..self.settings(action, words)? };
        let row = row(command(action))?;
        let spec = lower::entries(row, &settings, None);
        let mut nowhere: Vec<u8> = Vec::new();
        self.run(spec, &settings, row, &mut nowhere).map(|(_, done)| done)
    }
}

/// Returns words of a command line as they are sent.
///
/// # Errors
/// What is wrong with them.
pub(super) fn words(given: &[OsString]) -> Result<Vec<String>, String> {
    let text = |word: &OsString| {
        let shown = || format!("`{}` is not UTF-8", flowgate_base::text::line(word.as_encoded_bytes()));
        word.to_str().map(str::to_owned).ok_or_else(shown)
    };
    let words: Vec<String> = given.iter().map(text).collect::<Result<_, _>>()?;
    message::check_words(&words).map_err(|error| error.to_string())?;
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_fleet::config::Server;

    fn of(line: &str, command: Command) -> Result<Settings, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words, command, Form::Text)
    }

    #[test]
    fn a_question_is_a_listing_and_nothing_else() {
        for good in [
            "",
            "-p tcp --dport 443",
            "-L -p udp",
            "--count --by dport",
            "-o extended,id",
            "--where bytes>1",
            "-f ipv6",
        ] {
            assert!(of(good, Command::List).is_ok(), "{good}: {:?}", of(good, Command::List).err());
        }
        for bad in [
            "-D",
            "-F",
            "-E",
            "-L expect",
            "-L dying",
            "-z",
            "--plugin /tmp/x.wasm",
            "--netns blue",
            "--netns /proc/1/ns/net",
            "-o xml",
            "-o json",
            "--explain",
            "--metrics :9465",
            "--labelmap /etc/shadow --label x",
            "-R /etc/passwd",
            "-p nonsense",
            "--where nonsense",
            "web",
        ] {
            assert!(of(bad, Command::List).is_err(), "{bad}");
        }
    }

    #[test]
    fn events_are_watched_without_a_hold_on_the_kernel() {
        for good in ["", "-e NEW,DESTROY -p tcp", "-E -p udp", "--where dport==53", "-o timestamp,id", "-o table"] {
            assert!(of(good, Command::Events).is_ok(), "{good}: {:?}", of(good, Command::Events).err());
        }
        for bad in ["-L", "-E expect", "--reliable", "-b 1000000", "--by dport", "-o xml", "-o save", "--all-netns"] {
            assert!(of(bad, Command::Events).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_deletion_selects_and_does_nothing_else() {
        for good in ["-p tcp --dport 443", "--where bytes>1", "-s 10.0.0.1"] {
            assert!(of(good, Command::Delete).is_ok(), "{good}: {:?}", of(good, Command::Delete).err());
        }
        for bad in [
            "-L",
            "-F",
            "-D expect -d 10.0.0.1",
            "-p tcp -o json",
            "-p tcp --quiet",
            "-p tcp --dry-run",
            "-U -p tcp -m 1",
        ] {
            assert!(of(bad, Command::Delete).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_update_sets_something_and_does_nothing_else() {
        let sets =
            |line: &str| of(line, Command::Update).map(|settings| super::super::plan_text::sets(&settings.template));
        for (good, set) in [
            ("-p udp -m 7", "mark 0x7"),
            ("-m 0x10/0xf0 --where dport==53", "mark 0x10/0xf0"),
            ("-s 10.0.0.1 -t 10", "timeout 10 s"),
            ("-p tcp -u ASSURED -t 5", "timeout 5 s, status ASSURED"),
            ("-p tcp --state TIME_WAIT", "state"),
        ] {
            assert_eq!(sets(good).map(|sets| sets.join(", ")).as_deref(), Ok(set), "{good}");
        }
        for bad in
            ["", "-p tcp", "-L -m 1", "-D -m 1", "-m 1 -o json", "-m 1 --quiet", "-m 1 --dry-run", "-U expect -m 1"]
        {
            assert!(sets(bad).is_err(), "{bad}: {:?}", sets(bad));
        }
        assert!(of("-p tcp", Command::Update).unwrap_err().starts_with("nothing is set"));
    }

    #[test]
    fn an_action_leaves_the_agents_own_connection_alone() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let server = ["192.0.2.1:4222".parse().unwrap(), "[::ffff:192.0.2.2]:4222".parse().unwrap()];
        let table = |server: OwnServer| KernelTable { server, recording: None, stop: Stop::default() };
        // A name that has no address any more: what it had holds.
        let named = |name: &str| Servers::from(name.parse::<Server>().unwrap());
        let known = table(OwnServer::new(&named("nats.invalid"), server));
        let query = |action, line: &str| known.settings(action, &words(line)).unwrap().query.unwrap().to_string();
        for (action, line) in [(Action::Delete, "-p tcp"), (Action::Update, "-p tcp -m 1")] {
            let plain = query(action, line);
            assert!(plain.contains("not (") && plain.contains("192.0.2.1") && plain.contains("192.0.2.2"), "{plain}");
        }
        // The condition of the command line is one whole, whatever its operators are: with and without it, what stays
        // out is the same.
        let own = query(Action::Delete, "");
        for condition in ["src==10.0.0.1||src==10.0.0.2", "not(proto==udp)", "true", "false||true"] {
            let both = query(Action::Delete, &format!("--where {condition}"));
            let alone = Query::parse(condition, &Context::NAMES).unwrap().to_string();
            let expected = Query::parse(&format!("({alone}) and ({own})"), &Context::NAMES).unwrap().to_string();
            assert_eq!(both, expected, "{condition}");
        }
        let unknown = table(OwnServer::new(&named("nats.invalid"), []));
        assert!(matches!(unknown.settings(Action::Delete, &words("-p tcp")), Err(TableError::Failed(_))));
        // An address that the name has now counts beside the one it had.
        let moved = table(OwnServer::new(&named("192.0.2.9"), server));
        let settings = moved.settings(Action::Delete, &words("-p tcp")).unwrap();
        let query = settings.query.unwrap().to_string();
        assert!(query.contains("192.0.2.9") && query.contains("192.0.2.1"), "{query}");
    }
}
