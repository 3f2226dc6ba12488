//! An error with its place in the text.

use std::{error::Error, fmt, ops::Range};

use flowgate_base::text::clean;

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// The text.
    pub text: String,
    /// The wrong part of it, in bytes.
    pub at: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

/// What is wrong, where, and what would be right; the text is added at the end.
pub(crate) struct Diagnostic {
    pub(crate) at: Range<usize>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Diagnostic {
    pub(crate) fn new(at: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic { at, message: message.into(), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Diagnostic {
        Diagnostic { hint: Some(hint.into()), ..self }
    }
}

/// Columns of the line that are shown: so many before the place, and so many from there on.
const BEFORE: usize = 50;
const FROM: usize = 50;

impl fmt::Display for QueryError {
    /// Writes the message, the line with the place, carets under it, and the hint.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        if !self.text.is_empty() {
            self.write_place(formatter)?;
        }
        match &self.hint {
            Some(hint) => write!(formatter, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl QueryError {
    /// Writes the line with the place, and carets under it.
    fn write_place(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (floor(&self.text, self.at.start), floor(&self.text, self.at.end));
        let (before, rest) = self.text.split_at_checked(start).unwrap_or((&self.text, ""));
        let before = before.rsplit('\n').next().unwrap_or_default();
        let rest = rest.split('\n').next().unwrap_or_default();
        let length = rest.get(..end.saturating_sub(start)).unwrap_or(rest).chars().take(FROM).count();

        let mut line = String::new();
        // The last characters before the place; the text may be long, so that it is not counted as a whole.
        let tail = before.char_indices().rev().nth(BEFORE - 1).map_or(0, |(at, _)| at);
        if tail > 0 {
            line.push('…');
        }
        line.push_str(&cleaned(before.get(tail..).unwrap_or_default()));
        let indent = line.chars().count();
        let mut carets = 0;
        let mut shown = rest.chars();
        for (position, character) in shown.by_ref().take(FROM).enumerate() {
            let character = clean(character.encode_utf8(&mut [0; 4]));
            if position < length {
                carets += character.chars().count();
            }
            line.push_str(&character);
        }
        if shown.next().is_some() {
            line.push('…');
        }
        write!(formatter, "\n  {line}\n  {}{}", " ".repeat(indent), "^".repeat(carets.max(1)))
    }
}

impl Error for QueryError {}

/// Returns the start of the character at this position.
fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Cleans each character, so that a text of any length is complete.
fn cleaned(text: &str) -> String {
    text.chars().map(|character| clean(character.encode_utf8(&mut [0; 4]))).collect()
}

/// Returns a part of the text for a message: shortened and cleaned.
pub(crate) fn quoted(part: &str) -> String {
    const LONGEST: usize = 40;
    match part.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("`{}…`", clean(part.get(..at).unwrap_or_default())),
        None => format!("`{}`", clean(part)),
    }
}

/// Returns what a name may have been meant for: the nearest of those known.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_lowercase();
    let near = known.filter_map(|known| {
        let lower = known.to_lowercase();
        let distance = strsim::damerau_levenshtein(&name, &lower);
        let other_letter = name.chars().next() != lower.chars().next();
        (distance <= ((name.len().min(known.len()) + 1) / 3).max(1)).then_some((distance, other_letter, known))
    });
    near.min().map(|(_, _, known)| known)
}
