//! How the failure of a plugin is handled.

use std::{fmt, str::FromStr};

/// How a batch is handled whose stage failed or is not running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The run ends.
    #[default]
    Stop,
    /// The batch continues as if the stage did not exist.
    Skip,
    /// The batch is dropped.
    Drop,
}

impl OnError {
    /// Names, as on the command line.
    pub const NAMES: [(&'static str, Self); 3] = [("skip", Self::Skip), ("drop", Self::Drop), ("stop", Self::Stop)];
}

impl FromStr for OnError {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| format!("`{text}` is not one of skip, drop and stop"))
    }
}

impl fmt::Display for OnError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, value)| value == self).map_or("", |(name, _)| name);
        formatter.write_str(name)
    }
}
