//! What `fleet init` and `fleet enrol` write: the server's configuration with its accounts, users, permissions and
//! certificate, and the files of operators and agents.
//!
//! A directory holds all of it. It has secrets, and belongs on a machine of an operator:
//!
//! ```text
//! fleet.toml              who there is: public keys, names, labels
//! ca.pem, ca.key          what signs the server's certificate
//! server/                 for the server: nats-server.conf, users.conf, tls/
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
    config::{self, ConfigError, Server},
    keys::{ConnectKey, SigningKey},
    names::{self, AgentId, AgentName, Label, MAX_LABELS},
};

/// For how many years certificates are valid.
const YEARS: i32 = 10;

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
    /// There are too many labels.
    #[error("there are {0} labels; an agent may have {MAX_LABELS}")]
    Labels(usize),
}

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// The server, as agents and operators reach it.
    pub server: Server,
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
    server: Server,
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

impl Record {
    fn text(&self) -> String {
        let mut text = format!(
            "# Who there is in the fleet, written by `flowgate fleet init` and `flowgate fleet enrol`. Nothing in it is secret.\n\
             server = {}\nneed = {}\n",
            quoted(&self.server.to_string()),
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
        let registry = names::REGISTRY;
        let mut text = String::from(
            "# The users of the fleet, written by `flowgate fleet enrol`; the server takes them when it is reloaded.\n\
             accounts {\n  FLEET {\n    jetstream: enabled\n    \
             # So that `flowgate fleet doctor` sees whether the server synchronizes.\n    \
             imports: [ { service: { account: SYS, subject: \"$SYS.REQ.SERVER.PING.JSZ\" }, to: \"fg.1.server.jsz\" } ]\n    \
             users: [\n",
        );
        for Operator { name, key, .. } in &self.operator {
            let publish = list([
                "fg.1.q.>".to_owned(),
                "fg.1.cmd.>".to_owned(),
                names::SERVER_STATE.to_owned(),
                names::USER_INFO.to_owned(),
                format!("$JS.API.STREAM.CREATE.KV_{registry}"),
                format!("$JS.API.STREAM.INFO.KV_{registry}"),
                format!("$JS.API.STREAM.PURGE.KV_{registry}"),
                format!("$JS.API.DIRECT.GET.KV_{registry}.>"),
            ]);
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
                format!("$KV.{registry}.{key}"),
                format!("$JS.API.DIRECT.GET.KV_{registry}.$KV.{registry}.{key}"),
            ]);
            let subscribe =
                list([names::question(key), names::command(key), format!("{}.>", names::inbox(key.as_str()))]);
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

    /// Returns the file of an agent.
    fn agent(&self, options: &AgentOptions) -> String {
        let signers = list(self.operator.iter().map(|operator| &operator.signer));
        format!(
            "# An agent of flowgate's fleet, written by `flowgate fleet enrol`. Only root may change it.\n\
             server = {}\nname = \"{}\"\nlabels = {}\nca = \"ca.pem\"\nkey = \"agent.nk\"\nstate = {}\n\n\
             # Whose signatures a plan needs before anything is done on this host, and how many of them. Without\n\
             # signers the agent answers questions and never acts.\nsigners = {signers}\nneed = {}\n",
            quoted(&self.server.to_string()),
            options.name,
            list(&options.labels),
            quoted(&options.state.display().to_string()),
            self.need
        )
    }
}

/// Returns the server's configuration.
fn server(options: &FleetOptions, directory: &Path) -> String {
    let path = |name: &str| quoted(&directory.join(name).display().to_string());
    let sync = match options.synchronize {
        true => {
            "  # Without this, what was acknowledged is on disk up to two minutes later.\n  sync_interval: always\n"
        }
        false => {
            "  # A server before 2.10 does not know `sync_interval: always`: what was acknowledged is on disk up to\n  # two minutes later.\n"
        }
    };
    format!(
        "# The NATS server of flowgate's fleet, written by `flowgate fleet init`. Check it by `nats-server -t -c` and this\n\
         # file, start it by `nats-server -c`, and after each `flowgate fleet enrol` reload it: \
         `nats-server --signal reload`.\n\
         server_name: flowgate-fleet\n\
         listen: \"{listen}\"\n\
         max_payload: 1MB\n\
         # Whoever vanishes without a word is known to be gone after 45 s.\n\
         ping_interval: \"15s\"\n\
         ping_max: 2\n\
         tls {{\n  cert_file: {certificate}\n  key_file: {key}\n  timeout: 5\n}}\n\
         jetstream {{\n  store_dir: {store}\n  max_file_store: 1GB\n{sync}}}\n\
         include \"users.conf\"\n",
        listen = listen(&options.server),
        certificate = path("tls/server.pem"),
        key = path("tls/server.key"),
        store = quoted(&options.store.display().to_string()),
    )
}

/// Returns where the server listens: at all addresses, or at the loopback address if that is the server's.
fn listen(server: &Server) -> String {
    let host = match server.host().parse::<std::net::IpAddr>() {
        Ok(address) if address.is_loopback() && address.is_ipv6() => format!("[{address}]"),
        Ok(address) if address.is_loopback() => address.to_string(),
        _ => "0.0.0.0".to_owned(),
    };
    format!("{host}:{}", server.port())
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
            quoted(&options.server.to_string()),
        );
        write(&place.join("operator.toml"), &file, 0o644)?;
        record.operator.push(Operator { name: name.clone(), key: connect.id(), signer: sign.public() });
    }
    let absolute =
        std::path::absolute(directory).map_err(|source| SetupError::File { path: path_text(directory), source })?;
    let on_server = options.server_directory.clone().unwrap_or_else(|| absolute.join("server"));
    write(&directory.join("server/nats-server.conf"), &server(options, &on_server), 0o644)?;
    write(&directory.join("server/users.conf"), &record.users(), 0o644)?;
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
    let mut record: Record = config::parse(&path)?;
    let ca = directory.join("ca.pem");
    let ca = fs::read_to_string(&ca).map_err(|source| SetupError::File { path: path_text(&ca), source })?;
    let mut taken: BTreeSet<AgentName> = record.agent.iter().map(|agent| agent.name.clone()).collect();
    let mut enrolled = Vec::with_capacity(agents.len());
    for options in agents {
        if options.labels.len() > MAX_LABELS {
            return Err(SetupError::Labels(options.labels.len()));
        }
        if !taken.insert(options.name.clone()) {
            return Err(SetupError::Taken { kind: "agent", name: options.name.clone() });
        }
        let key = ConnectKey::generate();
        let place = directory.join("agents").join(options.name.as_str());
        make_directory(&place)?;
        write(&place.join("agent.nk"), &format!("{}\n", key.seed()), 0o600)?;
        write(&place.join("ca.pem"), &ca, 0o644)?;
        write(&place.join("agent.toml"), &record.agent(options), 0o644)?;
        record.agent.push(Enrolled { name: options.name.clone(), key: key.id(), labels: options.labels.clone() });
        enrolled.push((place, key.id()));
    }
    write(&directory.join("server/users.conf"), &record.users(), 0o644)?;
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
    let hosts = std::iter::once(&options.server).chain(&options.also).map(|server| server.host().to_owned());
    let mut server = CertificateParams::new(hosts.collect::<Vec<_>>())?;
    dates(&mut server);
    server.distinguished_name.push(DnType::CommonName, options.server.host());
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
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

/// Writes a file as a whole, under a name of its own until it is on disk.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), SetupError> {
    let failed = |source| SetupError::File { path: path_text(path), source };
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // What an earlier attempt left has perhaps another mode.
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AgentFile, OperatorFile};

    fn options(operators: &[&str], need: usize) -> FleetOptions {
        FleetOptions {
            server: "127.0.0.1:14222".parse().unwrap(),
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
        use std::os::unix::fs::PermissionsExt as _;
        for secret in ["ca.key", "server/tls/server.key", "operators/bob/sign.nk", "agents/web/agent.nk"] {
            let mode = std::fs::metadata(fleet.join(secret)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{secret}");
        }
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
