//! Escapes text from outside for terminals and logs.

use std::{any::Any, borrow::Cow, os::unix::ffi::OsStrExt as _, path::Path};

use flowgate_names::text::is_hidden;

/// Escapes invisible characters (control characters, line breaks, Unicode's separators and direction marks), and
/// truncates text that is too long for a message.
///
/// For text of a plugin, a file, the kernel or the network in a message.
#[must_use]
pub fn clean(text: &str) -> String {
    const LONGEST: usize = 1000;
    let mut cleaned = String::with_capacity(text.len().min(LONGEST));
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST {
            cleaned.push('…');
            break;
        }
        push(&mut cleaned, character, is_hidden);
    }
    cleaned
}

/// Escapes invisible characters in a whole message of one or more lines before it is written. The parts of a message
/// are cleaned when it is built; this is the second line of defence. Line breaks and tabs are kept.
#[must_use]
pub fn message(bytes: &[u8]) -> Cow<'_, str> {
    escaped(bytes, |character| is_hidden(character) && !matches!(character, '\n' | '\t'))
}

/// The same as [`message`] for a single line: line breaks are escaped too.
#[must_use]
pub fn line(bytes: &[u8]) -> Cow<'_, str> {
    escaped(bytes, is_hidden)
}

/// Returns the text of a panic, as its payload has it.
#[must_use]
pub fn of_panic(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref().copied());
    text.unwrap_or("no reason given")
}

/// Returns a path for a message: as [`line()`].
#[must_use]
pub fn path_text(path: &Path) -> String {
    line(path.as_os_str().as_bytes()).into_owned()
}

/// Returns what explains a message, cleaned, in brackets after a space; nothing for `None`.
#[must_use]
pub fn in_brackets(explanation: Option<&str>) -> String {
    explanation.map(|text| format!(" ({})", line(text.as_bytes()))).unwrap_or_default()
}

/// Escapes invisible characters in a JSON text, as JSON does it: a program reads the same, and a terminal moves no
/// cursor. (JSON requires it of the first 32 characters only.)
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    let hidden = |character: char| is_hidden(character) && !matches!(character, '\n' | '\t');
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if hidden(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Escapes these characters, and bytes outside any character.
fn escaped(bytes: &[u8], hidden: impl Fn(char) -> bool + Copy) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) if !text.contains(hidden) => Cow::Borrowed(text),
        _ => {
            let mut text = String::with_capacity(bytes.len() + 16);
            for chunk in bytes.utf8_chunks() {
                chunk.valid().chars().for_each(|character| push(&mut text, character, hidden));
                chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
            }
            Cow::Owned(text)
        }
    }
}

fn push(text: &mut String, character: char, hidden: impl Fn(char) -> bool) {
    if hidden(character) {
        text.extend(character.escape_default());
    } else {
        text.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_moves_its_cursor() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\nc\\u{202e}d");
        assert_eq!(clean("Zürich 漢字 👍"), "Zürich 漢字 👍");
        assert_eq!(clean(&"x".repeat(5000)).chars().count(), 1001);
    }

    #[test]
    fn json_says_the_same_without_what_moves_a_cursor() {
        let text = "{\n\t\"a\": \"\u{9b}2J\u{202e}\u{e0041}ä\"}";
        assert_eq!(json(text), "{\n\t\"a\": \"\\u009b2J\\u202e\\udb40\\udc41ä\"}");
        assert!(matches!(json("{\"a\": \"ä\"}"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_not_seen_is_shown() {
        let ends = [
            ('\0', '\u{1f}'),
            ('\u{7f}', '\u{9f}'),
            ('\u{61c}', '\u{61c}'),
            ('\u{180e}', '\u{180e}'),
            ('\u{200b}', '\u{200f}'),
            ('\u{2028}', '\u{202e}'),
            ('\u{2060}', '\u{2069}'),
            ('\u{feff}', '\u{feff}'),
            ('\u{fff9}', '\u{fffb}'),
            ('\u{e0000}', '\u{e007f}'),
        ];
        for character in ends.into_iter().flat_map(|(first, last)| first..=last) {
            let text = format!("a{character}b");
            for shown in [clean(&text), line(text.as_bytes()).into_owned()] {
                assert!(shown.starts_with("a\\") && !shown.contains(character), "{shown:?}");
            }
            assert_eq!(message(text.as_bytes()) == text, matches!(character, '\n' | '\t'), "{character:?}");
        }
    }

    #[test]
    fn cleaning_twice_changes_nothing() {
        let once = clean("a\x1b\\\u{9b}\u{feff}\n");
        assert_eq!(clean(&once), once);
        assert_eq!(line(once.as_bytes()), once);
    }

    #[test]
    fn bytes_that_belong_to_no_character_are_shown() {
        assert_eq!(message(b"a\xffb\xc3\nc\xc3\xbc"), "a\\xffb\\xc3\nc\u{fc}");
        assert_eq!(line(b"\x9b2J"), "\\x9b2J");
    }
}
