//! Keys (nkeys, which are ed25519): one kind connects to the bus, another signs plans.
//!
//! They are never the same. To connect, a key signs whatever the server sends; a server that is not trusted would send
//! a plan.

use std::{collections::BTreeSet, path::Path};

use flowgate_base::{files, io_error::error_text, text::clean};
use nkeys::{KeyPair, KeyPairType};

use crate::{names::AgentId, random};

/// What is signed. The text begins with its kind, so that it is nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// A plan of an action.
    Plan,
    /// A release of what agents run.
    Release,
}

impl Signed {
    fn domain(self) -> &'static [u8] {
        match self {
            Signed::Plan => b"flowgate fleet plan 1\n",
            Signed::Release => b"flowgate fleet release 1\n",
        }
    }
}

/// The most bytes that a file with a key may have.
const MAX_FILE: u64 = 4096;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{}: {}", clean(path), error_text(.source))]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others can read the file.
    #[error("{0}: others can read it (mode {mode:03o}), and it is secret; chmod 600 {0}", clean(path))]
    Readable {
        /// The file.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// It has no seed of the right kind.
    #[error("{}: it has no seed of {kind}, which begins with {prefix}", clean(path))]
    Seed {
        /// The file.
        path: String,
        /// The kind of the key.
        kind: &'static str,
        /// The first two characters of a seed of that kind.
        prefix: &'static str,
    },
    /// It is no public key for signing.
    #[error("`{}` is no key of somebody who signs; it begins with O and has 56 characters, as in operator.toml", clean(.0))]
    Signer(String),
}

/// Returns true if the text is the public key of a user of the bus.
#[must_use]
pub fn is_user(text: &str) -> bool {
    is_of(text, KeyPairType::User)
}

fn is_of(text: &str, kind: KeyPairType) -> bool {
    text.len() == 56 && KeyPair::from_public_key(text).is_ok_and(|pair| pair.key_pair_type() == kind)
}

/// Reads the seed in a file that only its owner can read.
fn read(path: &Path, kind: KeyPairType, name: &'static str, prefix: &'static str) -> Result<KeyPair, KeyError> {
    use std::os::unix::fs::PermissionsExt as _;
    let shown = || flowgate_base::text::path_text(path);
    let failed = |source| KeyError::File { path: shown(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Readable { path: shown(), mode });
    }
    let bytes = files::read_from(&mut &file, MAX_FILE).map_err(failed)?;
    let seed = String::from_utf8_lossy(&bytes);
    let pair = seed.lines().map(str::trim).find_map(|line| KeyPair::from_seed(line).ok());
    pair.filter(|pair| pair.key_pair_type() == kind).ok_or_else(|| KeyError::Seed { path: shown(), kind: name, prefix })
}

/// The key with which an agent or an operator connects.
pub struct ConnectKey(KeyPair);

impl std::fmt::Debug for ConnectKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ConnectKey({})", self.0.public_key())
    }
}

impl ConnectKey {
    /// Returns a new key.
    #[must_use]
    #[allow(clippy::expect_used, reason = "32 bytes are a seed")]
    pub fn generate() -> Self {
        ConnectKey(KeyPair::new_from_raw(KeyPairType::User, random::bytes()).expect("32 bytes are a seed"))
    }

    /// Reads a key from a file.
    ///
    /// # Errors
    /// [`KeyError`] if others can read it, or there is none in it.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        read(path, KeyPairType::User, "a user", "SU").map(ConnectKey)
    }

    /// Returns the public key.
    #[must_use]
    #[allow(clippy::expect_used, reason = "it is the public key of a user")]
    pub fn id(&self) -> AgentId {
        self.0.public_key().try_into().expect("the public key of a user")
    }

    /// Returns the secret.
    #[must_use]
    pub fn seed(&self) -> String {
        self.0.seed().unwrap_or_default()
    }
}

/// The key with which an operator signs plans.
pub struct SigningKey(KeyPair);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SigningKey({})", self.0.public_key())
    }
}

impl SigningKey {
    /// Returns a new key.
    #[must_use]
    #[allow(clippy::expect_used, reason = "32 bytes are a seed")]
    pub fn generate() -> Self {
        SigningKey(KeyPair::new_from_raw(KeyPairType::Operator, random::bytes()).expect("32 bytes are a seed"))
    }

    /// Reads a key from a file.
    ///
    /// # Errors
    /// [`KeyError`] if others can read it, or there is none in it.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        read(path, KeyPairType::Operator, "an operator", "SO").map(SigningKey)
    }

    /// Returns the public key.
    #[must_use]
    pub fn public(&self) -> String {
        self.0.public_key()
    }

    /// Returns the secret.
    #[must_use]
    pub fn seed(&self) -> String {
        self.0.seed().unwrap_or_default()
    }

    /// Signs a plan, and returns the signature as hexadecimal digits.
    #[must_use]
    pub fn sign(&self, plan: &[u8]) -> String {
        self.sign_as(Signed::Plan, plan)
    }

    /// Signs a text of some kind, and returns the signature as hexadecimal digits.
    #[must_use]
    pub fn sign_as(&self, kind: Signed, text: &[u8]) -> String {
        random::hex(&self.0.sign(&[kind.domain(), text].concat()).unwrap_or_default())
    }
}

/// The keys of those whose signatures count, and how many of them it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyring {
    signers: BTreeSet<String>,
    need: usize,
}

impl Keyring {
    /// Returns a keyring.
    ///
    /// # Errors
    /// [`KeyError::Signer`] if a key is none.
    pub fn new(signers: &[String], need: usize) -> Result<Self, KeyError> {
        let wrong = |key: &&String| !is_of(key, KeyPairType::Operator);
        match signers.iter().find(wrong) {
            Some(key) => Err(KeyError::Signer(key.clone())),
            None => Ok(Keyring { signers: signers.iter().cloned().collect(), need: need.max(1) }),
        }
    }

    /// Returns how many signatures it takes.
    #[must_use]
    pub fn need(&self) -> usize {
        self.need
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.signers.len()
    }

    /// Returns true if there is no key, so that nothing is ever signed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.signers.is_empty()
    }

    /// Returns those of these keys that are known and whose signature is of this plan. A key counts once.
    #[must_use]
    pub fn valid<'a>(&self, plan: &[u8], signatures: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeSet<String> {
        self.valid_as(Signed::Plan, plan, signatures)
    }

    /// Returns those of these keys that are known and whose signature is of this text of this kind. A key counts once.
    #[must_use]
    pub fn valid_as<'a>(
        &self,
        kind: Signed,
        text: &[u8],
        signatures: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> BTreeSet<String> {
        let text = [kind.domain(), text].concat();
        let holds = |key: &str, signature: &str| {
            let pair = self.signers.contains(key).then(|| KeyPair::from_public_key(key).ok()).flatten();
            let signature = random::of_hex(signature).filter(|bytes| bytes.len() == 64);
            pair.zip(signature).is_some_and(|(pair, signature)| pair.verify(&text, &signature).is_ok())
        };
        signatures.into_iter().filter(|(key, signature)| holds(key, signature)).map(|(key, _)| key.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_keys_count_and_each_once() {
        let keys: Vec<SigningKey> = (0..3).map(|_| SigningKey::generate()).collect();
        let public: Vec<String> = keys.iter().map(SigningKey::public).collect();
        let ring = Keyring::new(&public[..2], 2).unwrap();
        let signed: Vec<String> = keys.iter().map(|key| key.sign(b"plan")).collect();
        let pairs = |of: &[usize]| of.iter().map(|&at| (public[at].as_str(), signed[at].as_str())).collect::<Vec<_>>();
        assert_eq!(ring.valid(b"plan", pairs(&[0, 1])).len(), 2);
        assert_eq!(ring.valid_as(Signed::Release, b"plan", pairs(&[0, 1])).len(), 0, "a plan is no release");
        assert_eq!(ring.valid(b"plan", pairs(&[0, 0, 0])).len(), 1);
        assert_eq!(ring.valid(b"plan", pairs(&[2])).len(), 0, "a key that is not known");
        assert_eq!(ring.valid(b"plbn", pairs(&[0, 1])).len(), 0, "another plan");
        assert_eq!(ring.valid(b"plan", [(public[0].as_str(), signed[1].as_str())]).len(), 0, "another's signature");
        for broken in ["", "00", "zz", &signed[0][2..], &"0".repeat(128)] {
            assert_eq!(ring.valid(b"plan", [(public[0].as_str(), broken)]).len(), 0, "{broken}");
        }
    }

    #[test]
    fn what_the_server_has_signed_is_no_signature_of_a_plan() {
        let key = SigningKey::generate();
        let ring = Keyring::new(&[key.public()], 1).unwrap();
        let nonce = random::hex(&key.0.sign(b"plan").unwrap());
        assert!(ring.valid(b"plan", [(key.public().as_str(), nonce.as_str())]).is_empty());
        assert!(Keyring::new(&[ConnectKey::generate().id().to_string()], 1).is_err(), "a key that connects");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k");
        let key = ConnectKey::generate();
        std::fs::write(&path, format!("{}\n", key.seed())).unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(ConnectKey::read(&path).unwrap_err().to_string().contains("chmod 600"));
        mode(0o600);
        assert_eq!(ConnectKey::read(&path).unwrap().id(), key.id());
        let wrong = SigningKey::read(&path).unwrap_err().to_string();
        assert!(wrong.contains("an operator, which begins with SO"), "{wrong}");
        assert!(!format!("{key:?}").contains(&key.seed()));
    }
}
