//! Text from elsewhere, made fit for a terminal and for a log.

use std::borrow::Cow;

/// Whether a character is none to be seen: control characters (and so escape sequences), Unicode's line separators, what changes
/// the direction of text, what takes no width, and tags. They move a cursor, or make a text look like another one.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Replaces characters that are not to be seen (control characters, line breaks, Unicode's separators and direction marks) by
/// their escaped form, and cuts what is longer than a message should be.
///
/// For whatever a plugin, a file, the kernel or the network supplied and a message repeats.
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

/// As [`clean`], for the name of a file, which need not be UTF-8: a byte that belongs to no character becomes `\xff`.
#[must_use]
pub fn clean_bytes(bytes: &[u8]) -> String {
    clean(&escaped(bytes, |_| false))
}

/// Replaces what is not to be seen in a whole message of one line or several, which is about to be written. A message is clean
/// when it is made; this holds where that was forgotten. Line breaks and tabs stay.
#[must_use]
pub fn message(bytes: &[u8]) -> Cow<'_, str> {
    escaped(bytes, |character| is_hidden(character) && !matches!(character, '\n' | '\t'))
}

/// As [`message`], of one line: a line break is replaced too.
#[must_use]
pub fn line(bytes: &[u8]) -> Cow<'_, str> {
    escaped(bytes, is_hidden)
}

/// Replaces these characters, and bytes that belong to none.
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
        assert_eq!(clean_bytes(b"x\x9b\x1b"), "x\\x9b\\u{1b}");
    }
}
