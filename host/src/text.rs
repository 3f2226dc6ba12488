//! Text from elsewhere, made fit for a terminal.

/// Replaces control characters (so also escape sequences and line breaks), Unicode's line separators and its invisible
/// direction marks by their escaped form, and cuts what is longer than a message should be.
///
/// For whatever a plugin, a file or the network supplied and a message repeats.
#[must_use]
pub fn clean(text: &str) -> String {
    const LONGEST: usize = 1000;
    let mut cleaned = String::with_capacity(text.len().min(LONGEST));
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST {
            cleaned.push('…');
            break;
        }
        let hidden = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if character.is_control() || hidden {
            cleaned.extend(character.escape_default());
        } else {
            cleaned.push(character);
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn nothing_reaches_the_terminal_that_moves_its_cursor() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\nc\\u{202e}d");
        assert_eq!(clean("Zürich 漢字"), "Zürich 漢字");
        assert_eq!(clean(&"x".repeat(5000)).chars().count(), 1001);
    }
}
