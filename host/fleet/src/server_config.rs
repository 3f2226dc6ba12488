//! What `fleet init` and `fleet enrol` write: the server's configuration with its accounts, users, permissions and
//! certificate, and the files of operators and agents.
//!
//! A directory holds all of it. It has secrets, and belongs on a machine of an operator:
//!
//! ```text
//! fleet.toml              who there is: public keys, names, labels
//! ca.pem, ca.key          what signs the server's certificate
//! server/                 for the server: nats-server.conf, users.conf, tls/; site-users.conf for servers of sites
//! operators/NAME/         for each operator: operator.toml, connect.nk, sign.nk, ca.pem
//! agents/NAME/            for each agent: agent.toml, agent.nk, ca.pem
//! ```

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use flowgate_base::{
    io_error::error_text,
    text::{clean, path_text},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde::Deserialize;

use crate::{
    config::{self, ConfigError, Server, Servers},
    keys::{ConnectKey, SigningKey},
    names::{self, AgentId, AgentName, Label, MAX_LABELS},
};

/// For how many years certificates are valid.
const YEARS: i32 = 10;
/// The name of the storage, by which servers of sites reach it.
const DOMAIN: &str = "hub";
/// The servers of a cluster reach each other at ports that are higher by this: 6222, where agents connect to 4222.
const ROUTES: u16 = 2000;
/// The most bytes of the record of a fleet: some 100,000 agents.
const MAX_RECORD: u64 = 32 << 20;

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file cannot be written.
    #[error("{}: {}", clean(path), error_text(.source))]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory has a fleet.
    #[error("{} has a fleet already; name another directory, or add agents to it by `flowgate fleet enrol`", clean(.0))]
    Exists(String),
    /// The directory has no fleet.
    #[error("{} has no fleet.toml; `flowgate fleet init` makes a fleet", clean(.0))]
    NoFleet(String),
    /// The record of the fleet has a mistake.
    #[error(transparent)]
    Record(#[from] ConfigError),
    /// The name is taken.
    #[error("there is a {kind} called {name} already; choose another name")]
    Taken {
        /// An agent, or an operator.
        kind: &'static str,
        /// The name.
        name: AgentName,
    },
    /// The certificate cannot be made.
    #[error("the server's certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// More signatures are needed than there are operators.
    #[error("{need} signatures are needed, and there are {operators} operators; it takes 1 to {operators}")]
    Need {
        /// How many are needed.
        need: usize,
        /// How many operators there are.
        operators: usize,
    },
    /// So many servers are no cluster.
    #[error("there are {0} servers; it takes 1, or 3 or 5 for a cluster, of which one or two may fail")]
    Servers(usize),
    /// The port of a server of a cluster is too high.
    #[error("{}: its port may be at most {}, since the servers of a cluster reach each other {ROUTES} ports above it",
        clean(&.0.to_string()), u16::MAX - ROUTES)]
    Port(Server),
    /// There are too many labels.
    #[error("there are {0} labels; an agent may have {MAX_LABELS}")]
    Labels(usize),
}

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// The server, as agents and operators reach it, or the servers of a cluster.
    pub server: Servers,
    /// Further names and addresses of the server, for its certificate.
    pub also: Vec<Server>,
    /// The operators.
    pub operators: Vec<AgentName>,
    /// How many of them sign a plan.
    pub need: usize,
    /// Where the server has its files; the directory of the fleet if there is none.
    pub server_directory: Option<PathBuf>,
    /// The directory of the server's streams.
    pub store: PathBuf,
    /// False for servers before 2.10, which cannot synchronize each write.
    pub synchronize: bool,
}

/// An agent to be enrolled.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Its name.
    pub name: AgentName,
    /// Its labels.
    pub labels: Vec<Label>,
    /// The directory of its journal and audit.
    pub state: PathBuf,
}

/// The record of a fleet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    server: Servers,
    need: usize,
    #[serde(default)]
    operator: Vec<Operator>,
    #[serde(default)]
    agent: Vec<Enrolled>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operator {
    name: AgentName,
    key: AgentId,
    signer: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Enrolled {
    name: AgentName,
    key: AgentId,
    #[serde(default)]
    labels: Vec<Label>,
}

// All texts in these files are names, keys and paths; what a path has of TOML's own is escaped.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// Returns servers as files have them.
fn written(servers: &Servers) -> String {
    match servers.all() {
        [one] => quoted(&one.to_string()),
        several => list(several),
    }
}

impl Record {
    fn text(&self) -> String {
        let mut text = format!(
            "# Who there is in the fleet, written by `flowgate fleet init` and `flowgate fleet enrol`. Nothing in it is secret.\n\
             server = {}\nneed = {}\n",
            written(&self.server),
            self.need
        );
        for Operator { name, key, signer } in &self.operator {
            let _ = write!(text, "\n[[operator]]\nname = \"{name}\"\nkey = \"{key}\"\nsigner = {}\n", quoted(signer));
        }
        for Enrolled { name, key, labels } in &self.agent {
            let _ = write!(text, "\n[[agent]]\nname = \"{name}\"\nkey = \"{key}\"\nlabels = {}\n", list(labels));
        }
        text
    }

    /// Returns the users of the server. Each sees what it needs, and no more.
    fn users(&self) -> String {
        let (registry, events) = (names::REGISTRY, names::EVENTS);
        let mut text = String::from(
            "# The users of the fleet, written by `flowgate fleet enrol`; the server takes them when it is reloaded.\n\
             accounts {\n  FLEET {\n    jetstream: enabled\n    \
             # So that `flowgate fleet doctor` sees whether the server synchronizes.\n    \
             imports: [ { service: { account: SYS, subject: \"$SYS.REQ.SERVER.PING.JSZ\" }, to: \"fg.1.server.jsz\" } ]\n    \
             users: [\n",
        );
        for Operator { name, key, .. } in &self.operator {
            let mut publish = vec![
                "fg.1.q.>".to_owned(),
                "fg.1.cmd.>".to_owned(),
                names::SERVER_STATE.to_owned(),
                names::USER_INFO.to_owned(),
                names::LEFT.to_owned(),
                format!("$JS.API.STREAM.CREATE.{}", names::COMMANDS),
                format!("$JS.API.DIRECT.GET.{}.>", names::COMMANDS),
                format!("$JS.API.STREAM.CREATE.{}", names::AUDIT),
                format!("$JS.API.STREAM.INFO.{}", names::AUDIT),
                format!("$JS.API.DIRECT.GET.{}", names::AUDIT),
            ];
            for bucket in [registry, names::DESIRED, names::BUNDLES, names::ROLLOUTS] {
                publish.extend(["CREATE", "INFO", "PURGE"].map(|what| format!("$JS.API.STREAM.{what}.KV_{bucket}")));
                publish.push(format!("$JS.API.DIRECT.GET.KV_{bucket}.>"));
            }
            // The registry is written by agents, each at its own key.
            publish.extend([names::DESIRED, names::BUNDLES, names::ROLLOUTS].map(|bucket| format!("$KV.{bucket}.>")));
            // To make the stream of events, and to read it with consumers.
            publish.extend([
                format!("$JS.API.STREAM.CREATE.{events}"),
                format!("$JS.API.STREAM.INFO.{events}"),
                format!("$JS.API.DIRECT.GET.{events}.>"),
                format!("$JS.API.CONSUMER.*.{events}.>"),
                format!("$JS.API.CONSUMER.MSG.NEXT.{events}.>"),
                format!("$JS.ACK.{events}.>"),
            ]);
            let publish = list(publish);
            let subscribe = list([format!("{}.>", names::inbox(key.as_str())), names::BEATS.to_owned()]);
            let _ = write!(
                text,
                "      # operator {name}\n      {{ nkey: {key}, permissions: {{\n        \
                 publish: {{ allow: {publish} }}\n        subscribe: {{ allow: {subscribe} }}\n      }} }}\n"
            );
        }
        for Enrolled { name, key, .. } in &self.agent {
            let publish = list([
                names::beat(key),
                names::events(key, ">"),
                format!("$KV.{registry}.{key}"),
                format!("$JS.API.DIRECT.GET.KV_{registry}.$KV.{registry}.{key}"),
                format!("$JS.API.DIRECT.GET.KV_{0}.$KV.{0}.{key}", names::DESIRED),
                format!("$JS.API.DIRECT.GET.KV_{0}.$KV.{0}.*.*", names::BUNDLES),
                names::audit(key),
                format!("$JS.API.DIRECT.GET.{}.{}", names::AUDIT, names::audit(key)),
                format!("$JS.API.DIRECT.GET.{}.{}", names::COMMANDS, names::notes(key)),
                format!("$JS.API.DIRECT.GET.{}.{}.*", names::COMMANDS, names::notes(key)),
            ]);
            let subscribe = list([
                names::question(key),
                names::command(key),
                names::notes(key),
                format!("{}.>", names::inbox(key.as_str())),
            ]);
            let _ = write!(
                text,
                "      # agent {name}\n      {{ nkey: {key}, permissions: {{\n        \
                 publish: {{ allow: {publish} }}\n        subscribe: {{ allow: {subscribe} }}\n        \
                 # One answer to each question, to nobody but who asked it.\n        \
                 allow_responses: {{ max: 1, expires: \"10m\" }}\n      }} }}\n"
            );
        }
        text + "    ]\n  }\n  SYS {\n    exports: [ { service: \"$SYS.REQ.SERVER.PING.JSZ\", accounts: [FLEET] } ]\n  }\n}\n\
                system_account: SYS\n"
    }

    /// Returns the users of a site's server, a leaf node without storage of its own: what is for JetStream goes to the
    /// fleet's server, by the name of its domain.
    fn site_users(&self) -> String {
        let api = format!("\"$JS.{DOMAIN}.API.");
        let mappings = ["$JS.API.", "$KV.", "$O."].map(|from| {
            let to = if from == "$JS.API." { String::new() } else { from.to_owned() };
            format!("\"{from}>\": \"$JS.{DOMAIN}.API.{to}>\"")
        });
        let about_server = |line: &&str| !line.contains("imports:") && !line.contains("doctor` sees");
        let users = self.users();
        let lines = users.lines().filter(about_server).map(|line| {
            // Permissions are about subjects after their mapping.
            let line = line.replace("\"$JS.API.", &api).replace("\"$KV.", &format!("{api}$KV."));
            let line = line.replace("\"$O.", &format!("{api}$O."));
            line.replace("jetstream: enabled", &format!("mappings: {{ {} }}", mappings.join(", "))) + "\n"
        });
        lines.collect()
    }

    /// Writes what servers read of the agents.
    fn write_users(&self, directory: &Path) -> Result<(), SetupError> {
        write(&directory.join("server/users.conf"), &self.users(), 0o644)?;
        write(&directory.join("server/site-users.conf"), &self.site_users(), 0o644)
    }

    /// Returns the file of an agent.
    fn agent(&self, options: &AgentOptions) -> String {
        let signers = list(self.operator.iter().map(|operator| &operator.signer));
        format!(
            "# An agent of flowgate's fleet, written by `flowgate fleet enrol`. Only root may change it.\n\
             server = {}\nname = \"{}\"\nlabels = {}\nca = \"ca.pem\"\nkey = \"agent.nk\"\nstate = {}\n\n\
             # Whose signatures a plan needs before anything is done on this host, and how many of them. Without\n\
             # signers the agent answers questions and never acts.\nsigners = {signers}\nneed = {}\n\n\
             # What signed releases bring is run, and for so many seconds on trial at first.\nrun = true\ntrial = 60\n",
            written(&self.server),
            options.name,
            list(&options.labels),
            quoted(&options.state.display().to_string()),
            self.need
        )
    }
}

/// Returns the name of the configuration of a server, which is one of several if it has a number.
#[must_use]
pub fn configuration(number: Option<usize>) -> String {
    number.map_or_else(|| "nats-server.conf".to_owned(), |number| format!("nats-server-{number}.conf"))
}

/// Returns the configuration of a server; one of a cluster has a number.
fn server_file(options: &FleetOptions, server: &Server, number: Option<usize>, directory: &Path) -> String {
    let path = |name: &str| quoted(&directory.join(name).display().to_string());
    let sync = match options.synchronize {
        true => {
            "  # Without this, what was acknowledged is on disk up to two minutes later.\n  sync_interval: always\n"
        }
        false => {
            "  # A server before 2.10 does not know `sync_interval: always`: what was acknowledged is on disk up to\n  # two minutes later.\n"
        }
    };
    let name = number.map_or_else(|| "flowgate-fleet".to_owned(), |number| format!("flowgate-fleet-{number}"));
    let store = number.map_or_else(|| options.store.clone(), |number| options.store.join(number.to_string()));
    let cluster = match number {
        Some(_) => cluster(options, server, directory),
        None => String::new(),
    };
    format!(
        "# The NATS server of flowgate's fleet, written by `flowgate fleet init`. Check it by `nats-server -t -c` and this\n\
         # file, start it by `nats-server -c`, and after each `flowgate fleet enrol` reload it: \
         `nats-server --signal reload`.\n\
         server_name: {name}\n\
         listen: \"{listen}\"\n\
         max_payload: 1MB\n\
         # Whoever vanishes without a word is known to be gone after 45 s.\n\
         ping_interval: \"15s\"\n\
         ping_max: 2\n\
         tls {{\n  cert_file: {certificate}\n  key_file: {key}\n  timeout: 5\n}}\n\
         jetstream {{\n  domain: {DOMAIN}\n  store_dir: {store}\n  max_file_store: 1GB\n{sync}}}\n\
         {cluster}include \"users.conf\"\n",
        listen = listen(server, server.port()),
        certificate = path("tls/server.pem"),
        key = path("tls/server.key"),
        store = quoted(&store.display().to_string()),
    )
}

/// Returns the part of a configuration about the other servers. They know each other by the certificate that all of
/// them have.
fn cluster(options: &FleetOptions, server: &Server, directory: &Path) -> String {
    let path = |name: &str| quoted(&directory.join(name).display().to_string());
    let route = |server: &Server| {
        let port = server.port() + ROUTES;
        match server.host().contains(':') {
            true => format!("nats-route://[{}]:{port}", server.host()),
            false => format!("nats-route://{}:{port}", server.host()),
        }
    };
    format!(
        "# The servers of the fleet, each of which leads to all agents; what is stored is on three of them.\n\
         cluster {{\n  name: flowgate-fleet\n  listen: \"{listen}\"\n  \
         tls {{\n    cert_file: {certificate}\n    key_file: {key}\n    ca_file: {ca}\n    verify: true\n    timeout: 5\n  }}\n  \
         routes: {routes}\n}}\n",
        listen = listen(server, server.port() + ROUTES),
        certificate = path("tls/server.pem"),
        key = path("tls/server.key"),
        ca = path("tls/ca.pem"),
        routes = list(options.server.all().iter().map(route)),
    )
}

/// Returns where the server listens: at all addresses, or at the loopback address if that is the server's.
fn listen(server: &Server, port: u16) -> String {
    let host = match server.host().parse::<std::net::IpAddr>() {
        Ok(address) if address.is_loopback() && address.is_ipv6() => format!("[{address}]"),
        Ok(address) if address.is_loopback() => address.to_string(),
        _ => "0.0.0.0".to_owned(),
    };
    format!("{host}:{port}")
}

/// Makes a fleet in a directory.
///
/// # Errors
/// [`SetupError`]
pub fn init(directory: &Path, options: &FleetOptions) -> Result<(), SetupError> {
    let operators = options.operators.len();
    if !(1..=operators).contains(&options.need) {
        return Err(SetupError::Need { need: options.need, operators });
    }
    let servers = options.server.all();
    if !matches!(servers.len(), 1 | 3 | 5) {
        return Err(SetupError::Servers(servers.len()));
    }
    if let Some(server) = servers.iter().find(|server| servers.len() > 1 && server.port() > u16::MAX - ROUTES) {
        return Err(SetupError::Port(server.clone()));
    }
    make_directory(directory)?;
    if directory.join("fleet.toml").exists() {
        return Err(SetupError::Exists(path_text(directory)));
    }
    let (ca, ca_key, certificate, key) = certificates(options)?;
    write(&directory.join("ca.key"), &ca_key, 0o600)?;
    write(&directory.join("ca.pem"), &ca, 0o644)?;
    let tls = directory.join("server/tls");
    make_directory(&directory.join("server"))?;
    make_directory(&tls)?;
    write(&tls.join("server.pem"), &certificate, 0o644)?;
    write(&tls.join("server.key"), &key, 0o600)?;
    write(&tls.join("ca.pem"), &ca, 0o644)?;
    let mut record =
        Record { server: options.server.clone(), need: options.need, operator: Vec::new(), agent: Vec::new() };
    make_directory(&directory.join("operators"))?;
    make_directory(&directory.join("agents"))?;
    for name in &options.operators {
        if record.operator.iter().any(|operator| operator.name == *name) {
            return Err(SetupError::Taken { kind: "operator", name: name.clone() });
        }
        let (connect, sign) = (ConnectKey::generate(), SigningKey::generate());
        let place = directory.join("operators").join(name.as_str());
        make_directory(&place)?;
        write(&place.join("connect.nk"), &format!("{}\n", connect.seed()), 0o600)?;
        write(&place.join("sign.nk"), &format!("{}\n", sign.seed()), 0o600)?;
        write(&place.join("ca.pem"), &ca, 0o644)?;
        let file = format!(
            "# An operator of flowgate's fleet, written by `flowgate fleet init`.\n\
             server = {}\nname = \"{name}\"\nca = \"ca.pem\"\n# To connect with, and to sign plans with.\n\
             key = \"connect.nk\"\nsign = \"sign.nk\"\n",
            written(&options.server),
        );
        write(&place.join("operator.toml"), &file, 0o644)?;
        record.operator.push(Operator { name: name.clone(), key: connect.id(), signer: sign.public() });
    }
    let absolute =
        std::path::absolute(directory).map_err(|source| SetupError::File { path: path_text(directory), source })?;
    let on_server = options.server_directory.clone().unwrap_or_else(|| absolute.join("server"));
    for (index, server) in servers.iter().enumerate() {
        let number = (servers.len() > 1).then_some(index + 1);
        let text = server_file(options, server, number, &on_server);
        write(&directory.join("server").join(configuration(number)), &text, 0o644)?;
    }
    record.write_users(directory)?;
    // Last: what has it is complete.
    write(&directory.join("fleet.toml"), &record.text(), 0o644)
}

/// Adds agents to the fleet in a directory, and returns for each the directory of its files, and its id.
///
/// # Errors
/// [`SetupError`]; those before the one that failed are not added either.
pub fn enrol(directory: &Path, agents: &[AgentOptions]) -> Result<Vec<(PathBuf, AgentId)>, SetupError> {
    let path = directory.join("fleet.toml");
    if !path.exists() {
        return Err(SetupError::NoFleet(path_text(directory)));
    }
    let mut record: Record = config::parse(&path, MAX_RECORD)?;
    let ca = directory.join("ca.pem");
    let ca = fs::read_to_string(&ca).map_err(|source| SetupError::File { path: path_text(&ca), source })?;
    let mut taken: BTreeSet<AgentName> = record.agent.iter().map(|agent| agent.name.clone()).collect();
    for options in agents {
        if options.labels.len() > MAX_LABELS {
            return Err(SetupError::Labels(options.labels.len()));
        }
        if !taken.insert(options.name.clone()) {
            return Err(SetupError::Taken { kind: "agent", name: options.name.clone() });
        }
    }
    let mut enrolled = Vec::with_capacity(agents.len());
    for options in agents {
        let key = ConnectKey::generate();
        let place = directory.join("agents").join(options.name.as_str());
        make_directory(&place)?;
        put(&place.join("agent.nk"), &format!("{}\n", key.seed()), 0o600)?;
        put(&place.join("ca.pem"), &ca, 0o644)?;
        put(&place.join("agent.toml"), &record.agent(options), 0o644)?;
        enrolled.push((place, key.id()));
    }
    // Once for all of them: each file by itself takes a thousand agents half a minute.
    let failed = |source| SetupError::File { path: path_text(directory), source };
    fs::File::open(directory).and_then(|place| Ok(rustix::fs::syncfs(place)?)).map_err(failed)?;
    let added = agents.iter().zip(&enrolled);
    record.agent.extend(added.map(|(options, (_, key))| Enrolled {
        name: options.name.clone(),
        key: key.clone(),
        labels: options.labels.clone(),
    }));
    record.write_users(directory)?;
    write(&path, &record.text(), 0o644)?;
    Ok(enrolled)
}

/// Returns the certificate that signs, its key, the server's certificate, and its key, as PEM.
fn certificates(options: &FleetOptions) -> Result<(String, String, String, String), SetupError> {
    // A year has 365.2425 days.
    let year = 1970 + i32::try_from(crate::plan::now() / 31_556_952).unwrap_or_default();
    let dates = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
        params.not_after = rcgen::date_time_ymd(year + YEARS, 12, 31);
    };
    let mut ca = CertificateParams::new(Vec::<String>::new())?;
    dates(&mut ca);
    ca.distinguished_name.push(DnType::CommonName, "flowgate fleet");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let (ca_pem, ca_key_pem) = (ca.self_signed(&ca_key)?.pem(), ca_key.serialize_pem());
    let issuer = Issuer::new(ca, ca_key);
    let hosts = options.server.all().iter().chain(&options.also).map(|server| server.host().to_owned());
    let hosts: BTreeSet<String> = hosts.collect();
    let mut server = CertificateParams::new(hosts.into_iter().collect::<Vec<_>>())?;
    dates(&mut server);
    if let Some(first) = options.server.all().first() {
        server.distinguished_name.push(DnType::CommonName, first.host());
    }
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // The servers of a cluster are each other's clients.
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let server_key = KeyPair::generate()?;
    let certificate = server.signed_by(&server_key, &issuer)?;
    Ok((ca_pem, ca_key_pem, certificate.pem(), server_key.serialize_pem()))
}

fn make_directory(path: &Path) -> Result<(), SetupError> {
    let failed = |source| SetupError::File { path: path_text(path), source };
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other.map_err(failed),
    }
}

/// Writes a file as a whole, and waits until it is on disk.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), SetupError> {
    replace(path, text, mode, true)
}

/// Writes a file as a whole.
fn put(path: &Path, text: &str, mode: u32) -> Result<(), SetupError> {
    replace(path, text, mode, false)
}

/// Writes a file as a whole, under a name of its own until it is complete.
fn replace(path: &Path, text: &str, mode: u32, synchronize: bool) -> Result<(), SetupError> {
    let failed = |source| SetupError::File { path: path_text(path), source };
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // What an earlier attempt left has perhaps another mode.
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    if synchronize {
        file.sync_all().map_err(failed)?;
    }
    fs::rename(&new, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AgentFile, OperatorFile};

    fn options(operators: &[&str], need: usize) -> FleetOptions {
        FleetOptions {
            server: "127.0.0.1:14222".parse::<Server>().unwrap().into(),
            also: vec!["nats.example.net".parse().unwrap()],
            operators: operators.iter().map(|name| name.parse().unwrap()).collect(),
            need,
            server_directory: None,
            store: "/var/lib/nats \"x\"".into(),
            synchronize: true,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let fleet = directory.path().join("fleet");
        init(&fleet, &options(&["alice", "bob"], 2)).unwrap();
        assert!(matches!(init(&fleet, &options(&["alice"], 1)), Err(SetupError::Exists(_))));
        let web = AgentOptions {
            name: "web".parse().unwrap(),
            labels: vec!["role=web".parse().unwrap()],
            state: "/var/lib/x\"\\".into(),
        };
        let web = std::slice::from_ref(&web);
        let (place, id) = enrol(&fleet, web).unwrap().remove(0);
        assert!(matches!(enrol(&fleet, web), Err(SetupError::Taken { .. })));
        let web = web[0].clone();
        let (file, ring) = AgentFile::read(&place.join("agent.toml")).unwrap();
        assert_eq!((file.labels, file.state, ring.len(), ring.need()), (web.labels, web.state, 2, 2));
        assert_eq!(ConnectKey::read(&file.key).unwrap().id(), id);
        let bob = OperatorFile::read(&fleet.join("operators/bob/operator.toml")).unwrap();
        let signer = SigningKey::read(&bob.sign.unwrap()).unwrap().public();
        assert!(std::fs::read_to_string(fleet.join("fleet.toml")).unwrap().contains(&signer));
        let users = std::fs::read_to_string(fleet.join("server/users.conf")).unwrap();
        assert!(users.contains(&format!("fg.1.q.id.{id}")), "{users}");
        assert!(!users.contains(&signer), "a key that signs never connects");
        let site = std::fs::read_to_string(fleet.join("server/site-users.conf")).unwrap();
        assert!(site.contains(&format!("\"$JS.hub.API.$KV.FG_AGENTS.{id}\"")), "{site}");
        assert!(!site.contains("jetstream") && !site.contains("imports") && site.contains("\"$KV.>\": "), "{site}");
        assert_eq!(site.matches("nkey: ").count(), users.matches("nkey: ").count());
        let agent = users.split("# agent web").nth(1).unwrap();
        for bucket in [names::DESIRED, names::BUNDLES, names::ROLLOUTS] {
            assert!(users.contains(&format!("\"$KV.{bucket}.>\"")), "operators write it");
            assert!(!agent.contains(&format!("\"$KV.{bucket}")), "{agent}");
        }
        use std::os::unix::fs::PermissionsExt as _;
        for secret in ["ca.key", "server/tls/server.key", "operators/bob/sign.nk", "agents/web/agent.nk"] {
            let mode = std::fs::metadata(fleet.join(secret)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{secret}");
        }
    }

    #[test]
    fn many_are_enrolled_at_once_and_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let fleet = directory.path().join("fleet");
        init(&fleet, &options(&["admin"], 1)).unwrap();
        let agents = |names: std::ops::Range<u32>| -> Vec<AgentOptions> {
            let label = |number: u32| format!("rack={}", number % 50).parse().unwrap();
            let agent = |number| AgentOptions {
                name: format!("host-{number:04}.example.net").parse().unwrap(),
                labels: vec![label(number), "site=fra-1".parse().unwrap(), "role=web".parse().unwrap()],
                state: "/var/lib/flowgate/fleet".into(),
            };
            names.map(agent).collect()
        };
        // More than fit into one file of an agent or an operator, and those before them stay.
        for half in [0..1000, 1000..2000] {
            let agents = agents(half);
            let enrolled = enrol(&fleet, &agents).unwrap();
            for (options, (place, id)) in agents.iter().zip(&enrolled) {
                let (file, _) = AgentFile::read(&place.join("agent.toml")).unwrap();
                assert_eq!((&file.name, &file.labels), (&options.name, &options.labels));
                assert_eq!(ConnectKey::read(&file.key).unwrap().id(), *id);
            }
        }
        let record: Record = config::parse(&fleet.join("fleet.toml"), MAX_RECORD).unwrap();
        let names: Vec<&AgentName> = record.agent.iter().map(|agent| &agent.name).collect();
        assert!(names.len() == 2000 && names.is_sorted(), "{names:?}");
        // One name that is taken, and none of the others is added.
        assert!(matches!(enrol(&fleet, &agents(1999..2010)), Err(SetupError::Taken { .. })));
        let again: Record = config::parse(&fleet.join("fleet.toml"), MAX_RECORD).unwrap();
        assert_eq!(again.agent.len(), 2000);
    }

    #[test]
    fn a_cluster_has_a_configuration_for_each_server() {
        let directory = tempfile::tempdir().unwrap();
        let fleet = directory.path().join("fleet");
        let of = |servers: &[&str]| FleetOptions {
            server: Servers::new(servers.iter().map(|server| server.parse().unwrap()).collect()).unwrap(),
            ..options(&["admin"], 1)
        };
        for bad in [&["a", "b"][..], &["a", "b", "c", "d"]] {
            assert!(matches!(init(&fleet, &of(bad)), Err(SetupError::Servers(count)) if count == bad.len()));
        }
        let high = init(&fleet, &of(&["a", "b:65000", "c"])).unwrap_err().to_string();
        assert!(high.contains("b:65000: its port may be at most 63535"), "{high}");
        init(&fleet, &of(&["a", "b:4000", "[::1]:5000"])).unwrap();
        for (number, port, route) in [(1, "4222", "6222"), (2, "4000", "6000"), (3, "5000", "7000")] {
            let file = fleet.join("server").join(configuration(Some(number)));
            let text = std::fs::read_to_string(file).unwrap();
            assert!(text.contains(&format!("server_name: flowgate-fleet-{number}\n")), "{text}");
            assert!(text.contains(&format!(":{port}\"\n")) && text.contains(&format!(":{route}\"\n")), "{text}");
            let routes = r#"["nats-route://a:6222", "nats-route://b:6000", "nats-route://[::1]:7000"]"#;
            assert!(text.contains(routes), "{text}");
        }
        assert!(!fleet.join("server/nats-server.conf").exists());
        let file = OperatorFile::read(&fleet.join("operators/admin/operator.toml")).unwrap();
        assert_eq!(file.server.to_string(), "a:4222, b:4000, [::1]:5000");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let fleet = directory.path().join("fleet");
        assert!(matches!(init(&fleet, &options(&["a"], 2)), Err(SetupError::Need { need: 2, operators: 1 })));
        assert!(matches!(init(&fleet, &options(&[], 1)), Err(SetupError::Need { .. })));
        assert!(matches!(init(&fleet, &options(&["a", "a"], 1)), Err(SetupError::Taken { .. })));
        let agent = AgentOptions { name: "a".parse().unwrap(), labels: Vec::new(), state: "/s".into() };
        assert!(matches!(enrol(directory.path(), &[agent]), Err(SetupError::NoFleet(_))));
    }
}
