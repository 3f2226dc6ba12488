//! A value that an option does not accept. The message names the option, the value, and what would be valid.

use super::error::{CliError, RawArg};

/// The error for a value that an option does not accept in a strict reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongValue {
    /// The option's letter, if it is shown to users.
    letter: Option<char>,
    /// Its name.
    name: &'static str,
    value: RawArg,
    /// Description of what it accepts.
    takes: String,
    /// What the user may have meant.
    hint: Option<&'static str>,
}

impl WrongValue {
    /// Makes the error for a value of the option with this letter and name.
    pub fn new(letter: Option<u8>, name: &'static str, value: &[u8], takes: String) -> Self {
        Self { letter: letter.map(char::from), name, value: value.into(), takes, hint: None }
    }

    /// Adds what the user may have meant.
    pub fn hint(self, hint: Option<&'static str>) -> Self {
        Self { hint, ..self }
    }

    /// Returns the message. It begins as the message of `conntrack` for a rejected value; the value is as typed.
    pub fn message(&self) -> Vec<u8> {
        let Self { letter, name, value, takes, hint } = self;
        let option = match letter {
            Some(letter) => format!("' with -{letter} option: --{name} takes {takes}"),
            None => format!("' with --{name} option: it takes {takes}"),
        };
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        [b"unexpected value '", value.as_ref(), option.as_bytes(), hint.as_bytes()].concat()
    }
}

impl From<WrongValue> for CliError {
    fn from(value: WrongValue) -> Self {
        Self::WrongValue(Box::new(value))
    }
}
