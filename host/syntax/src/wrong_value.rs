//! A value that an option does not take: the message names the option, the value, and what would be right.

use super::error::{CliError, Word};

/// A value that an option does not take, in a strict reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongValue {
    /// The letter of the option, if people are told of it.
    letter: Option<char>,
    /// Its name.
    name: &'static str,
    value: Word,
    /// What it takes.
    takes: String,
    /// What may have been meant.
    hint: Option<&'static str>,
}

impl WrongValue {
    /// A value of the option of this letter and name, which takes something else.
    pub fn new(letter: Option<u8>, name: &'static str, value: &[u8], takes: String) -> Self {
        Self { letter: letter.map(char::from), name, value: value.into(), takes, hint: None }
    }

    /// With what may have been meant.
    pub fn hint(self, hint: Option<&'static str>) -> Self {
        Self { hint, ..self }
    }

    /// The message, which begins as the one of `conntrack` does for the values that it refuses; the value as it was typed.
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
