//! Texts derived from an input: examples of a language, with edits. A few bytes of the input stand for a long text.

use super::input::Input;

/// Maximum length of a text.
const LONGEST: usize = 256 << 10;

/// Words that are invalid in any language.
const ANY_WORDS: &[&str] = &[
    "",
    " ",
    "\n",
    "\t",
    "\r\n",
    "\0",
    "\u{1b}[2J",
    "\"",
    "'",
    "\\",
    "\\u0000",
    "\\ud800",
    "#",
    "=",
    "==",
    ",",
    ".",
    ":",
    "/",
    "-",
    "--",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "(",
    ")",
    "@",
    "*",
    "0",
    "1",
    "-1",
    "255",
    "256",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "0x",
    "0xffffffff",
    "1e999",
    "1.5",
    "nan",
    "true",
    "ä",
    "\u{202e}",
    "\u{10ffff}",
];

/// Returns an offset in the text, usually the beginning or end of a word.
fn place(input: &mut Input<'_>, text: &[u8]) -> usize {
    let start = input.up_to(text.len());
    if input.one_in(4) {
        return start;
    }
    let is_word = |at: usize| text.get(at).is_some_and(u8::is_ascii_alphanumeric);
    (start..text.len()).find(|&at| at == 0 || is_word(at) != is_word(at - 1)).unwrap_or(text.len())
}

/// Returns the range of a word, of a line, or an arbitrary one.
fn part(input: &mut Input<'_>, text: &[u8]) -> std::ops::Range<usize> {
    let start = place(input, text);
    let rest = text.get(start..).unwrap_or_default();
    let length = match input.up_to(3) {
        0 => rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1),
        1 => rest.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(rest.len()).max(1).min(rest.len()),
        2 => input.up_to(rest.len()),
        _ => rest.len(),
    };
    start..start + length
}

/// Returns one of the examples, or an empty text, with some edits.
pub(crate) fn text(input: &mut Input<'_>, examples: &[&[u8]], words: &[&str]) -> Vec<u8> {
    let mut text = match input.up_to(examples.len()) {
        0 => Vec::new(),
        number => examples.get(number - 1).copied().unwrap_or_default().to_vec(),
    };
    for _ in 0..input.up_to(12) {
        match input.up_to(7) {
            // A word is replaced or inserted.
            0..=2 => {
                let list = if input.one_in(2) { ANY_WORDS } else { words };
                let word = input.pick(list).as_bytes();
                let range = if input.one_in(2) { part(input, &text) } else { place(input, &text)..0 };
                let range = range.start..range.end.max(range.start);
                text.splice(range, word.iter().copied());
            }
            // A byte is inserted.
            3 => {
                let (at, byte) = (place(input, &text), input.byte());
                text.insert(at, byte);
            }
            // A part is removed.
            4 => {
                let range = part(input, &text);
                text.drain(range);
            }
            // A part is copied to another place.
            5 => {
                let range = part(input, &text);
                let copy = text.get(range).unwrap_or_default().to_vec();
                let at = place(input, &text);
                text.splice(at..at, copy);
            }
            // A part is repeated.
            _ => {
                let range = part(input, &text);
                let copy = text.get(range.clone()).unwrap_or_default().to_vec();
                let most = LONGEST.saturating_sub(text.len()) / copy.len().max(1);
                let times = if input.one_in(2) { input.up_to(most.min(40)) } else { input.up_to(most) };
                let end = range.end;
                text.splice(end..end, copy.repeat(times));
            }
        }
        text.truncate(LONGEST);
    }
    text
}
