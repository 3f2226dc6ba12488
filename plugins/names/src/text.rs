//! Characters of texts from outside.

/// Returns true if a character is invisible: control characters (and therefore escape sequences), Unicode's line
/// separators, characters that change the direction of text or have no width, and tags. They move the cursor, or make a
/// text look like another one.
#[must_use]
pub fn is_hidden(character: char) -> bool {
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
