//! Grants as text: `delete,update.mark=0xff00,update.timeout=1..600,state=/var/lib/x,log`.

use std::{fmt, str::FromStr};

use super::{Grants, StateStorage, Updates};
use crate::{field, status};
use flowgate_base::{text::clean, units::range_of_seconds};

/// The names of grants, with `=` if they take a value.
const NAMES: [&str; 17] = [
    "delete",
    "create",
    "update",
    "update.timeout[=LEAST..MOST]",
    "update.mark[=MASK]",
    "update.status[=BIT|BIT...]",
    "update.labels[=BIT|BIT...]",
    "update.helper",
    "update.state",
    "update.sequence",
    "create.translated",
    "create.established",
    "log",
    "state[=FILE]",
    "time",
    "tick",
    "look-back",
];

/// The fields of each `update.NAME`.
const FIELDS: [(&str, u64); 7] = [
    ("timeout", field::TIMEOUT),
    ("mark", field::MARK | field::MARK_MASK),
    ("status", field::STATUS),
    ("labels", field::LABELS | field::LABELS_MASK),
    ("helper", field::HELPER | field::HELPER_INFO),
    (
        "state",
        field::STATE
            | field::ORIGINAL_WINDOW_SCALE
            | field::REPLY_WINDOW_SCALE
            | field::ORIGINAL_TCP_FLAGS
            | field::REPLY_TCP_FLAGS
            | field::ORIGINAL_VTAG
            | field::REPLY_VTAG
            | field::DCCP,
    ),
    ("sequence", field::ORIGINAL_SEQUENCE | field::REPLY_SEQUENCE | field::SYNPROXY),
];

/// Why a text is not a list of grants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// There is no grant with this name.
    #[error("there is no grant `{}`; there are {names}", clean(.0), names = NAMES.join(", "))]
    Unknown(String),
    /// The grant takes no value.
    #[error("the grant `{}` takes no value, so not `{}`", clean(name), clean(value))]
    Superfluous {
        /// The grant.
        name: String,
        /// The text after `=`.
        value: String,
    },
    /// The value is invalid.
    #[error("`{}` is no value of the grant `{}`, which takes {wanted}", clean(value), clean(name))]
    Value {
        /// The grant.
        name: String,
        /// The text after `=`.
        value: String,
        /// A description of valid values.
        wanted: &'static str,
    },
}

impl FromStr for Grants {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let mut grants = Grants::NONE;
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            grants.add(word)?;
        }
        Ok(grants)
    }
}

impl Grants {
    /// Adds one grant.
    ///
    /// # Errors
    /// See [`GrantError`]; nothing is added on error.
    pub fn add(&mut self, word: &str) -> Result<(), GrantError> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (word, None),
        };
        if let Some(of) = name.strip_prefix("update.") {
            return self.update.add(name, of, value);
        }
        if let (Some(value), false) = (value, name == "state") {
            let (name, value) = (name.to_string(), value.to_string());
            let known = NAMES.contains(&name.as_str());
            return Err(if known { GrantError::Superfluous { name, value } } else { GrantError::Unknown(name) });
        }
        match name {
            "delete" => self.delete = true,
            "create" => self.create = true,
            "create.translated" => (self.create, self.translated) = (true, true),
            "create.established" => (self.create, self.established) = (true, true),
            "update" => self.update = Updates::ALL,
            "log" => self.log = true,
            "time" => self.time = true,
            "tick" => self.tick = true,
            "look-back" => self.look_back = true,
            "state" => {
                self.state = Some(match value {
                    None => StateStorage::Memory,
                    Some("") => return Err(wrong(name, "", "the path of a file")),
                    Some(file) => StateStorage::File(file.into()),
                });
            }
            _ => return Err(GrantError::Unknown(name.to_string())),
        }
        Ok(())
    }
}

fn wrong(name: &str, value: &str, wanted: &'static str) -> GrantError {
    GrantError::Value { name: name.into(), value: value.into(), wanted }
}

impl Updates {
    fn add(&mut self, name: &str, of: &str, value: Option<&str>) -> Result<(), GrantError> {
        let Some((_, fields)) = FIELDS.iter().find(|(known, _)| *known == of) else {
            return Err(GrantError::Unknown(name.to_string()));
        };
        match of {
            "timeout" => self.timeout = value.map_or(Ok((0, u32::MAX)), |value| seconds(name, value))?,
            "mark" => {
                self.mark |= value.map_or(Ok(u32::MAX), |value| {
                    let bits = number(value).filter(|bits| *bits != 0);
                    bits.ok_or_else(|| wrong(name, value, "the bits that may change, such as 0xff00"))
                })?;
            }
            "status" => {
                self.status |= value.map_or(Ok(u32::MAX), |value| {
                    each(value, status_bit).map(|bits| bits.fold(0, |all, bit| all | bit)).ok_or_else(|| {
                        wrong(name, value, "names of status bits joined by |, such as ASSURED|SEEN_REPLY")
                    })
                })?;
            }
            "labels" => {
                self.labels |= value.map_or(Ok(u128::MAX), |value| {
                    each(value, |word| word.parse::<u8>().ok().filter(|bit| *bit < 128))
                        .map(|bits| bits.fold(0, |all, bit| all | 1u128 << bit))
                        .ok_or_else(|| wrong(name, value, "numbers of labels from 0 to 127 joined by |, such as 3|17"))
                })?;
            }
            _ => {
                if let Some(value) = value {
                    return Err(GrantError::Superfluous { name: name.into(), value: value.into() });
                }
            }
        }
        self.fields |= fields;
        Ok(())
    }
}

/// Parses all words between bars.
fn each<T>(value: &str, read: impl Fn(&str) -> Option<T>) -> Option<impl Iterator<Item = T>> {
    let read: Option<Vec<T>> = value.split('|').map(|word| read(word.trim())).collect();
    read.map(Vec::into_iter)
}

fn status_bit(name: &str) -> Option<u32> {
    status::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(bit, _)| *bit)
}

/// Parses a number, decimal or with `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn seconds(name: &str, value: &str) -> Result<(u32, u32), GrantError> {
    range_of_seconds(value, Some((0, u32::MAX)))
        .ok_or_else(|| wrong(name, value, "the least and the most in whole seconds, such as 1..600 or 1s..10m"))
}

/// Writes grants as they are typed.
impl fmt::Display for Grants {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        let simple = [(self.delete, "delete"), (self.create, "create"), (self.update == Updates::ALL, "update")];
        words.extend(simple.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_string()));
        if self.update != Updates::ALL {
            let granted = FIELDS.iter().filter(|(_, fields)| self.update.fields & fields == *fields);
            words.extend(granted.map(|(name, _)| format!("update.{name}{}", self.update.value(name))));
        }
        for (on, name) in [(self.translated, "create.translated"), (self.established, "create.established")] {
            words.extend(on.then(|| name.to_string()));
        }
        for (on, name) in [(self.log, "log"), (self.time, "time"), (self.tick, "tick"), (self.look_back, "look-back")] {
            words.extend(on.then(|| name.to_string()));
        }
        match &self.state {
            None => {}
            Some(StateStorage::Memory) => words.push("state".into()),
            Some(StateStorage::File(path)) => words.push(format!("state={}", path.display())),
        }
        formatter.write_str(&words.join(","))
    }
}

impl Updates {
    /// Returns the value of a grant, with `=`.
    fn value(&self, name: &str) -> String {
        let bars = |words: Vec<String>| format!("={}", words.join("|"));
        match name {
            "mark" if self.mark != u32::MAX => format!("={:#x}", self.mark),
            "timeout" if self.timeout != (0, u32::MAX) => {
                let (least, most) = self.timeout;
                format!("={least}..{}", if most == u32::MAX { String::new() } else { most.to_string() })
            }
            "status" if self.status != u32::MAX => bars(
                status::NAMES
                    .iter()
                    .filter(|(bit, _)| self.status & bit != 0)
                    .map(|(_, name)| (*name).to_string())
                    .collect(),
            ),
            "labels" if self.labels != u128::MAX => {
                bars((0..128).filter(|bit| self.labels >> bit & 1 != 0).map(|bit: u32| bit.to_string()).collect())
            }
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in [
            "",
            "delete",
            "delete,create,update",
            "update.timeout=1..600,update.mark=0xff00,update.status=SEEN_REPLY|ASSURED,update.labels=3|17",
            "update.timeout,update.mark,update.labels,update.helper,update.state,update.sequence",
            "create,create.translated,create.established,log",
            "log,time,tick,look-back,state",
            "state=/var/lib/flowgate/x",
        ] {
            let grants: Grants = text.parse().unwrap();
            assert_eq!(grants.to_string(), text);
        }
        let spaced: Grants = " delete , update.mark = 16 ,".parse().unwrap();
        assert_eq!(spaced.to_string(), "delete,update.mark=0x10");
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        let wrong = |text: &str| text.parse::<Grants>().unwrap_err().to_string();
        assert!(wrong("remove").starts_with("there is no grant `remove`; there are delete, create, update"));
        assert!(wrong("update.colour").starts_with("there is no grant `update.colour`"));
        assert_eq!(wrong("delete=1"), "the grant `delete` takes no value, so not `1`");
        assert_eq!(wrong("update.helper=ftp"), "the grant `update.helper` takes no value, so not `ftp`");
        assert!(wrong("remove=1").starts_with("there is no grant `remove`"));
        assert!(wrong("update.mark=red").contains("`red` is no value of the grant `update.mark`"));
        assert!(wrong("update.mark=0").contains("the bits that may change"));
        assert!(wrong("update.timeout=600").contains("such as 1..600"));
        assert!(wrong("update.timeout=9..1").contains("such as 1..600"));
        assert!(wrong("update.status=NICE").contains("names of status bits"));
        assert!(wrong("update.labels=128").contains("from 0 to 127"));
        assert!(wrong("state=").contains("the path of a file"));
    }
}
