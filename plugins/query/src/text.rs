//! Tests of texts.

use regex_lite::Regex;

use crate::{LabelNames, expression::Text};
use flowgate_sdk::{Flows, operation::REGEX_SIZE};

/// A test of a text.
#[derive(Clone, Debug)]
pub(crate) enum TextTest {
    /// One of these, ascending.
    In(Vec<String>),
    Contains(Vec<u8>),
    StartsWith(Vec<u8>),
    EndsWith(Vec<u8>),
    Matches(Box<Regex>),
}

impl TextTest {
    /// Returns the test for a regular expression.
    pub(crate) fn matches(pattern: &str) -> Result<TextTest, String> {
        let regex = regex_lite::RegexBuilder::new(pattern).size_limit(REGEX_SIZE).build();
        regex.map(|regex| TextTest::Matches(Box::new(regex))).map_err(|error| format!("`{pattern}`: {error}"))
    }

    fn passes(&self, text: &[u8]) -> bool {
        match self {
            TextTest::In(texts) => texts.binary_search_by(|of| of.as_bytes().cmp(text)).is_ok(),
            TextTest::Contains(part) => {
                part.is_empty() || text.windows(part.len()).any(|window| window == part.as_slice())
            }
            TextTest::StartsWith(part) => text.starts_with(part),
            TextTest::EndsWith(part) => text.ends_with(part),
            TextTest::Matches(regex) => regex.is_match(&String::from_utf8_lossy(text)),
        }
    }

    /// Clears the bytes of rows whose text does not pass.
    pub(crate) fn apply(&self, of: &Text, batch: &Flows, labels: &LabelNames, rows: &mut [u8]) {
        for (row, text) in rows.iter_mut().zip(of.column(batch, labels)) {
            *row &= u8::from(text.is_some_and(|text| self.passes(&text)));
        }
    }
}
