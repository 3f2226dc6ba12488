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
/// The port of NATS.
const PORT: u16 = 4222;
/// The most bytes of a file.
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

/// The file of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFile {
    /// The server.
    pub server: Server,
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
    /// The server.
    pub server: Server,
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
        let mut file: AgentFile = parse(path)?;
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
        let mut file: OperatorFile = parse(path)?;
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

pub(crate) fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text =
        files::read_text(path, MAX_FILE).map_err(|source| ConfigError::File { path: path_text(path), source })?;
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
        assert!(read(&format!("{good}signers = [\"O\"]\n")).unwrap_err().contains("begins with O"));
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(&path, good).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let open = AgentFile::read(&path).unwrap_err().to_string();
        assert!(open.contains("others can write it (mode 666)"), "{open}");
    }
}
