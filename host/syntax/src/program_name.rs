//! The name that the program is called by, which decides if it behaves as `conntrack` or as flowgate.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::error::CliError;

/// The environment variable that names the program if the name of the executable does not, as in `/proc/self/fd/4`.
pub const NAME_VARIABLE: &str = "FLOWGATE_AS";

/// The name that the program is called by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramName {
    /// `argv[0]` as typed.
    word: OsString,
    conntrack: bool,
}

impl ProgramName {
    /// Returns the name of a program that was started with this `argv[0]` and this value of [`NAME_VARIABLE`].
    ///
    /// The last component of the path decides, for a link as for the file itself, without what wrappers add: a leading
    /// dot and a trailing `-wrapped`, as in `.conntrack-wrapped`. The variable takes precedence; an empty value is
    /// ignored.
    ///
    /// # Errors
    /// Returns an error if the variable is neither `conntrack` nor `flowgate`.
    pub fn new(program: &OsStr, variable: Option<&OsStr>) -> Result<Self, CliError> {
        let conntrack = match variable.map(OsStr::as_bytes) {
            None | Some(b"") => is_conntrack(program.as_bytes()),
            Some(b"conntrack") => true,
            Some(b"flowgate") => false,
            Some(other) => return Err(CliError::UnknownName(other.into())),
        };
        Ok(Self { word: program.into(), conntrack })
    }

    /// Returns the name of a program that was started with this `argv[0]`, independent of the environment.
    pub fn of(program: &OsStr) -> Self {
        Self { word: program.into(), conntrack: is_conntrack(program.as_bytes()) }
    }

    /// Returns `argv[0]` as typed.
    pub fn word(&self) -> &OsStr {
        &self.word
    }

    /// Returns true if the program behaves as `conntrack`: with its command line only, and the banner of
    /// conntrack-tools.
    pub fn is_conntrack(&self) -> bool {
        self.conntrack
    }

    /// Returns true if flowgate's own options are accepted and the command line is read strictly: under every name
    /// except `conntrack`.
    pub fn has_own_options(&self) -> bool {
        !self.conntrack
    }
}

/// Returns true if the last component of a path is `conntrack`, without what wrappers add.
fn is_conntrack(path: &[u8]) -> bool {
    let mut name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    loop {
        let shorter = name.strip_prefix(b".").unwrap_or(name);
        // A wrapper of a wrapper adds another underscore.
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
        ProgramName::new(OsStr::new(program), variable.map(OsStr::new)).expect("a name").is_conntrack()
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
        let error = ProgramName::new(OsStr::new("flowgate"), Some(OsStr::new("iptables"))).expect_err("no such name");
        assert_eq!(error.to_string(), "FLOWGATE_AS is `iptables'; it takes conntrack or flowgate");
        assert_eq!(error.status(), 2);
    }
}
