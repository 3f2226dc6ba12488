//! The files of agents and operators, which `fleet init` and `fleet enrol` write. Paths in them are relative to them.

use std::{
    fmt,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use flowgate_base::{
    files,
    io_error::error_text,
    text::{clean, path_text},
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    keys::{KeyError, Keyring},
    names::{AgentName, Label, MAX_LABELS},
};

/// The file of an agent.
pub const AGENT_FILE: &str = "/etc/flowgate/fleet/agent.toml";
/// The file of an operator, unless the variable `FLOWGATE_FLEET` names another.
pub const OPERATOR_FILE: &str = "/etc/flowgate/fleet/operator.toml";
/// The directory of an agent's journal and audit.
pub const STATE: &str = "/var/lib/flowgate/fleet";
/// The audit of an agent.
pub const AUDIT_FILE: &str = "/var/lib/flowgate/fleet/audit.jsonl";
/// The port of NATS.
const PORT: u16 = 4222;
/// The longest trial of a release, in seconds.
const MAX_TRIAL: u64 = 3600;
/// The most servers of a fleet.
pub const MAX_SERVERS: usize = 9;
/// The most bytes of the file of an agent or an operator.
const MAX_FILE: u64 = 256 << 10;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{}: {}", clean(path), error_text(.source))]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It has a mistake.
    #[error("{}: {}", clean(path), clean(message))]
    Mistake {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// Others can change it.
    #[error("{0}: {1}, and it says whom the agent obeys; chown root {0} && chmod go-w {0}", clean(path), clean(why))]
    Untrusted {
        /// The file.
        path: String,
        /// What others can do.
        why: String,
    },
    /// A key is wrong.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The address of a server: `HOST` or `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Server {
    host: String,
    port: u16,
}

impl Server {
    /// Returns the host: a name or an address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the address as NATS takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("tls://{self}")
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(formatter, "[{}]:{}", self.host, self.port),
            false => write!(formatter, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = flowgate_base::text::clean(text);
        let wrong = || {
            format!("`{shown}` is no server; it takes HOST, HOST:PORT or [IPV6]:PORT, such as nats.example.net:4222")
        };
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(wrong)?)),
            None if text.matches(':').count() > 1 => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
        let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| wrong()))?;
        if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) || port == 0 {
            return Err(wrong());
        }
        Ok(Server { host: host.to_owned(), port })
    }
}

impl TryFrom<String> for Server {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The servers of a fleet: one, or those of a cluster, of which each leads to all agents.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "OneOrMore")]
pub struct Servers(Vec<Server>);

/// How servers are written: `"HOST"`, or `["HOST", "HOST"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Servers {
    /// Returns servers.
    ///
    /// # Errors
    /// What is wrong with their number.
    pub fn new(servers: Vec<Server>) -> Result<Self, String> {
        match servers.len() {
            1..=MAX_SERVERS => Ok(Servers(servers)),
            count => Err(format!("there are {count} servers; it takes 1 to {MAX_SERVERS}")),
        }
    }

    /// Returns all of them.
    #[must_use]
    pub fn all(&self) -> &[Server] {
        &self.0
    }
}

impl From<Server> for Servers {
    fn from(server: Server) -> Self {
        Servers(vec![server])
    }
}

impl TryFrom<OneOrMore> for Servers {
    type Error = String;

    fn try_from(servers: OneOrMore) -> Result<Self, String> {
        match servers {
            OneOrMore::One(server) => Ok(server.parse::<Server>()?.into()),
            OneOrMore::More(servers) if servers.len() <= MAX_SERVERS => {
                Servers::new(servers.iter().map(|server| server.parse()).collect::<Result<_, String>>()?)
            }
            OneOrMore::More(servers) => {
                Err(format!("there are {} servers; it takes 1 to {MAX_SERVERS}", servers.len()))
            }
        }
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&names.join(", "))
    }
}

/// The file of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFile {
    /// The servers.
    pub server: Servers,
    /// The name of the agent.
    pub name: AgentName,
    /// Its labels.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// The certificate that the server's is signed with.
    pub ca: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The directory of its journal and audit.
    #[serde(default = "state")]
    pub state: PathBuf,
    /// The keys of those who sign plans.
    #[serde(default)]
    pub signers: Vec<String>,
    /// How many of them a plan needs.
    #[serde(default = "one")]
    pub need: usize,
    /// False if nothing is run on this host that comes from elsewhere, whoever has signed it.
    #[serde(default = "yes")]
    pub run: bool,
    /// How long a release is on trial, in seconds.
    #[serde(default = "trial")]
    pub trial: u64,
}

fn yes() -> bool {
    true
}

fn trial() -> u64 {
    60
}

fn state() -> PathBuf {
    STATE.into()
}

fn one() -> usize {
    1
}

/// The file of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorFile {
    /// The servers.
    pub server: Servers,
    /// The name of the operator.
    pub name: AgentName,
    /// The certificate that the server's is signed with.
    pub ca: PathBuf,
    /// The key to connect with.
    pub key: PathBuf,
    /// The key to sign with, if it is here.
    pub sign: Option<PathBuf>,
}

impl AgentFile {
    /// Reads a file that only root, or the user of the process, can change.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn read(path: &Path) -> Result<(Self, Keyring), ConfigError> {
        trusted(path)?;
        let mut file: AgentFile = parse(path, MAX_FILE)?;
        for place in [&mut file.ca, &mut file.key, &mut file.state] {
            resolve(path, place);
        }
        let mistake = |message| ConfigError::Mistake { path: path_text(path), message };
        if file.labels.len() > MAX_LABELS {
            return Err(mistake(format!("it has {} labels, and may have {MAX_LABELS}", file.labels.len())));
        }
        if !file.signers.is_empty() && !(1..=file.signers.len()).contains(&file.need) {
            let (need, keys) = (file.need, file.signers.len());
            return Err(mistake(format!("`need = {need}` of {keys} keys in `signers`; it takes 1 to {keys}")));
        }
        if !(1..=MAX_TRIAL).contains(&file.trial) {
            return Err(mistake(format!("`trial = {}`; it takes 1 to {MAX_TRIAL} seconds", file.trial)));
        }
        let ring = Keyring::new(&file.signers, file.need)?;
        Ok((file, ring))
    }
}

impl OperatorFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let mut file: OperatorFile = parse(path, MAX_FILE)?;
        for place in [Some(&mut file.ca), Some(&mut file.key), file.sign.as_mut()].into_iter().flatten() {
            resolve(path, place);
        }
        Ok(file)
    }
}

/// Makes a path absolute, or relative to where the process is.
fn resolve(file: &Path, path: &mut PathBuf) {
    if let Some(directory) = file.parent() {
        *path = directory.join(&*path);
    }
}

/// Reads a file of at most this many bytes.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<T, ConfigError> {
    let text = files::read_text(path, limit).map_err(|source| ConfigError::File { path: path_text(path), source })?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map(|span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        let message = format!("{place}{}", flowgate_base::text::clean(error.message()));
        ConfigError::Mistake { path: path_text(path), message }
    })
}

/// Checks that nobody but root and the user of the process can change a file.
fn trusted(path: &Path) -> Result<(), ConfigError> {
    let metadata = std::fs::metadata(path).map_err(|source| ConfigError::File { path: path_text(path), source })?;
    let why = match (metadata.uid(), metadata.mode() & 0o022) {
        (user, _) if user != 0 && user != files::effective_user() => format!("it belongs to user {user}"),
        (_, 0) => return Ok(()),
        _ => format!("others can write it (mode {:03o})", metadata.mode() & 0o777),
    };
    Err(ConfigError::Untrusted { path: path_text(path), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_hosts_with_ports() {
        for (text, shown) in [
            ("nats", "nats:4222"),
            ("10.0.0.1:14222", "10.0.0.1:14222"),
            ("[::1]", "[::1]:4222"),
            ("[::1]:1", "[::1]:1"),
            ("2001:db8::1", "[2001:db8::1]:4222"),
        ] {
            assert_eq!(text.parse::<Server>().map(|server| server.to_string()).as_deref(), Ok(shown), "{text}");
        }
        for bad in ["", ":1", "a:0", "a:x", "a:70000", "[::1", "[::1]x", "a b", "tls://a", "a/b"] {
            assert!(bad.parse::<Server>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_names_one_server_or_several() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("operator.toml");
        let read = |server: &str| {
            let text = format!("server = {server}\nname = \"admin\"\nca = \"ca.pem\"\nkey = \"connect.nk\"\n");
            std::fs::write(&path, text).unwrap();
            OperatorFile::read(&path).map(|file| file.server.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(read("\"a\"").as_deref(), Ok("a:4222"));
        assert_eq!(read("[\"a\", \"b:1\", \"[::1]:2\"]").as_deref(), Ok("a:4222, b:1, [::1]:2"));
        for (bad, why) in [
            ("[]", "there are 0 servers; it takes 1 to 9"),
            ("\"a b\"", "`a b` is no server"),
            ("[\"a\", \"b/\"]", "`b/` is no server"),
            ("7", "line 1"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
        assert!(read(&format!("[{}]", ["\"a\""; 10].join(", "))).unwrap_err().contains("there are 10 servers"));
    }

    #[test]
    fn a_mistake_has_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            AgentFile::read(&path).map(|(file, _)| file).map_err(|error| error.to_string())
        };
        let good = "server = \"a:1\"\nname = \"web\"\nca = \"ca.pem\"\nkey = \"/k\"\n";
        let file = read(good).unwrap();
        assert_eq!((file.ca, file.key, file.state), (directory.path().join("ca.pem"), "/k".into(), STATE.into()));
        assert!(read("server = \"a:1\"\nname = \"a b\"\n").unwrap_err().contains("line 2: `a b` is no name"));
        assert!(read(&format!("{good}colour = 1\n")).unwrap_err().contains("line 5: unknown field"));
        let signer = crate::keys::SigningKey::generate().public();
        let need = read(&format!("{good}signers = [\"{signer}\"]\nneed = 2\n")).unwrap_err();
        assert!(need.contains("`need = 2` of 1 keys"), "{need}");
        assert!(read(&format!("{good}trial = 0\n")).unwrap_err().contains("`trial = 0`; it takes 1 to 3600"));
        assert!(read(&format!("{good}signers = [\"O\"]\n")).unwrap_err().contains("begins with O"));
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(&path, good).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let open = AgentFile::read(&path).unwrap_err().to_string();
        assert!(open.contains("others can write it (mode 666)"), "{open}");
    }
}
