//! The name that the program is called by, which decides whether it is `conntrack` or itself.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::error::CliError;

/// The environment variable that names the program where the name of the file says nothing, as in `/proc/self/fd/4`.
pub const VARIABLE: &str = "FLOWGATE_AS";

/// The name that the program is called by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// `argv[0]` as typed.
    word: OsString,
    conntrack: bool,
}

impl Name {
    /// The name of a program that was started by this word, the first of argv, with this value of [`VARIABLE`] in its environment.
    ///
    /// The last part of the path counts, whether it is a link or the file itself, without what wrappers add: a leading dot and a
    /// trailing `-wrapped`, as in `.conntrack-wrapped`. The variable goes before; an empty one is as good as none.
    ///
    /// # Errors
    /// The variable has another value than `conntrack` or `flowgate`.
    pub fn new(program: &OsStr, variable: Option<&OsStr>) -> Result<Self, CliError> {
        let conntrack = match variable.map(OsStr::as_bytes) {
            None | Some(b"") => is_conntrack(program.as_bytes()),
            Some(b"conntrack") => true,
            Some(b"flowgate") => false,
            Some(other) => return Err(CliError::UnknownName(other.into())),
        };
        Ok(Self { word: program.into(), conntrack })
    }

    /// The name of a program that was started by this word, without regard to the environment.
    pub fn of(program: &OsStr) -> Self {
        Self { word: program.into(), conntrack: is_conntrack(program.as_bytes()) }
    }

    /// The first word of argv, as typed.
    pub fn word(&self) -> &OsStr {
        &self.word
    }

    /// Whether the program is to be `conntrack`: the classic command line only, and the banner of conntrack-tools.
    pub fn is_conntrack(&self) -> bool {
        self.conntrack
    }

    /// Whether more than the classic command line is accepted, and that read strictly: under every name but `conntrack`.
    pub fn has_own_options(&self) -> bool {
        !self.conntrack
    }
}

/// Whether the last part of a path is `conntrack`, apart from what wrappers add.
fn is_conntrack(path: &[u8]) -> bool {
    let mut name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    loop {
        let shorter = name.strip_prefix(b".").unwrap_or(name);
        // A wrapper of a wrapper has an underscore more.
        let end = shorter.iter().rposition(|byte| *byte != b'_').map_or(0, |last| last + 1);
        let shorter = shorter.get(..end).and_then(|start| start.strip_suffix(b"-wrapped")).unwrap_or(shorter);
        if shorter.len() == name.len() {
            return name == b"conntrack";
        }
        name = shorter;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conntrack(program: &str, variable: Option<&str>) -> bool {
        Name::new(OsStr::new(program), variable.map(OsStr::new)).expect("a name").is_conntrack()
    }

    #[test]
    fn the_last_part_of_the_path_counts_without_what_wrappers_add() {
        for name in [
            "conntrack",
            "/usr/sbin/conntrack",
            "./conntrack",
            "../sbin/conntrack",
            ".conntrack-wrapped",
            "/nix/store/x/bin/.conntrack-wrapped",
            ".conntrack-wrapped_",
            "..conntrack-wrapped-wrapped",
        ] {
            assert!(conntrack(name, None), "{name}");
            assert!(!conntrack(name, Some("flowgate")), "{name}");
        }
        for name in
            ["flowgate", "/usr/bin/flowgate", ".flowgate-wrapped", "conntrackd", "conntrack_", "/proc/self/fd/4", ""]
        {
            assert!(!conntrack(name, None), "{name}");
            assert!(!conntrack(name, Some("")), "{name}");
            assert!(conntrack(name, Some("conntrack")), "{name}");
        }
    }

    #[test]
    fn another_value_of_the_variable_is_an_error() {
        let error = Name::new(OsStr::new("flowgate"), Some(OsStr::new("iptables"))).expect_err("no such name");
        assert_eq!(error.to_string(), "FLOWGATE_AS is `iptables'; it takes conntrack or flowgate");
        assert_eq!(error.status(), 2);
    }
}
