//! Comma-separated lists of names.

use super::super::error::{CliError, RawArg};

/// Returns true if `word` is a prefix of `name`, ignoring case. The empty word is a prefix.
pub(crate) fn abbreviates(word: &[u8], name: &str) -> bool {
    name.as_bytes().get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// A name in a list that is ignored with a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IgnoredName {
    /// `SRC_NAT`.
    SourceNat,
    /// `DST_NAT`.
    DestinationNat,
}

impl IgnoredName {
    /// Returns the warning.
    pub(crate) fn warning(self) -> &'static str {
        match self {
            Self::SourceNat => "WARNING: ignoring SRC_NAT, use --src-nat instead",
            Self::DestinationNat => "WARNING: ignoring DST_NAT, use --dst-nat instead",
        }
    }

    /// Returns the name for NAT that an element is, in any list.
    pub(crate) fn of(element: &[u8]) -> Option<Self> {
        if element.is_empty() {
            None
        } else if abbreviates(element, "SRC_NAT") {
            Some(Self::SourceNat)
        } else if abbreviates(element, "DST_NAT") {
            Some(Self::DestinationNat)
        } else {
            None
        }
    }
}

/// Returns the elements of a comma-separated list, each with the rest of the list from it on. The empty list has one
/// empty element.
pub(crate) fn elements(list: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let from = rest?;
        let element = from.split(|byte| *byte == b',').next().unwrap_or_default();
        rest = from.get(element.len() + 1..);
        Some((element, from))
    })
}

/// Returns the error for an element of a list.
pub(crate) fn bad_parameter(rest: &[u8]) -> CliError {
    CliError::BadParameter(RawArg::from(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_know_what_is_left() {
        let split = |text: &'static str| -> Vec<(String, String)> {
            let text_of = |bytes| String::from_utf8_lossy(bytes).into_owned();
            elements(text.as_bytes()).map(|(element, rest)| (text_of(element), text_of(rest))).collect()
        };
        let pair = |element: &str, rest: &str| (element.to_owned(), rest.to_owned());
        assert_eq!(split("a,b"), [pair("a", "a,b"), pair("b", "b")]);
        assert_eq!(split("a,"), [pair("a", "a,"), pair("", "")]);
        assert_eq!(split(""), [pair("", "")]);
    }
}
