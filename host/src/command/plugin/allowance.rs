//! What a plugin under test may ask for: the words of `grants =`.

use crate::model::{Flows, action, field};

/// Words and the fields of updates that they allow.
const UPDATES: [(&str, u64); 8] = [
    ("mark", field::MARK | field::MARK_MASK),
    ("timeout", field::TIMEOUT),
    ("status", field::STATUS),
    ("labels", field::LABELS | field::LABELS_MASK),
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
    ("helper", field::HELPER | field::HELPER_INFO),
    ("sequence", field::ORIGINAL_SEQUENCE | field::REPLY_SEQUENCE),
    ("synproxy", field::SYNPROXY),
];

/// What names the flow of an update, and is not changed by it.
const KEY: u64 = field::TUPLES | field::ZONES | field::ID;

/// Grants of a case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    delete: bool,
    create: bool,
    /// Fields that updates may set.
    updates: u64,
}

impl Allowance {
    /// Reads words separated by commas: `annotate`, `delete`, `create`, `update`, `update.mark` and the like.
    ///
    /// # Errors
    /// A word that is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut allowance = Allowance::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                // Notes change nothing outside of what is shown.
                "annotate" => {}
                "delete" => allowance.delete = true,
                "create" => allowance.create = true,
                "update" => allowance.updates = u64::MAX,
                _ => match word
                    .strip_prefix("update.")
                    .and_then(|name| UPDATES.iter().find(|(known, _)| *known == name))
                {
                    Some((_, fields)) => allowance.updates |= fields,
                    None => {
                        let fields: Vec<String> = UPDATES.iter().map(|(name, _)| format!("update.{name}")).collect();
                        return Err(format!(
                            "grant `{word}` is not known; the words are annotate, delete, create, update and {}",
                            fields.join(", ")
                        ));
                    }
                },
            }
        }
        Ok(allowance)
    }

    /// What would have to be granted for an action and is not; none if it is allowed.
    pub fn missing(self, kind: u8, set: u64) -> Option<String> {
        let update = match set & !KEY & !self.updates {
            _ if kind != action::UPDATE && kind != action::CREATE_OR_UPDATE => None,
            0 if self.updates != 0 => None,
            left => {
                let word = UPDATES.iter().find(|(_, fields)| left & fields != 0 && left & !fields == 0);
                Some(word.map_or_else(|| "update".to_string(), |(name, _)| format!("update.{name}")))
            }
        };
        let create = matches!(kind, action::CREATE | action::CREATE_OR_UPDATE) && !self.create;
        match kind {
            action::DELETE => (!self.delete).then(|| "delete".into()),
            action::UPDATE => update,
            action::CREATE => create.then(|| "create".into()),
            action::CREATE_OR_UPDATE if create => Some("create".into()),
            action::CREATE_OR_UPDATE => (self.updates != u64::MAX).then(|| "update".into()),
            other => Some(format!("nothing that is known: the kind is {other}")),
        }
    }

    /// The fields that a row of values sets.
    pub fn set_by(values: &Flows, row: Option<usize>) -> u64 {
        row.and_then(|row| values.has.get(row)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_granted_is_named() {
        let of = |text: &str| Allowance::parse(text).unwrap();
        assert_eq!(of("").missing(action::DELETE, 0), Some("delete".into()));
        assert_eq!(of("delete, annotate").missing(action::DELETE, 0), None);
        assert_eq!(of("delete").missing(action::UPDATE, field::MARK), Some("update.mark".into()));
        assert_eq!(of("update.mark").missing(action::UPDATE, field::MARK | field::SOURCE), None);
        assert_eq!(
            of("update.mark").missing(action::UPDATE, field::MARK | field::TIMEOUT),
            Some("update.timeout".into())
        );
        assert_eq!(of("update").missing(action::UPDATE, field::MARK | field::TIMEOUT), None);
        assert_eq!(of("create").missing(action::CREATE, 0), None);
        assert_eq!(of("create").missing(action::CREATE_OR_UPDATE, 0), Some("update".into()));
        assert!(of("create,update").missing(77, 0).is_some());
        assert!(Allowance::parse("update.everything").unwrap_err().contains("update.mark, update.timeout"));
    }
}
