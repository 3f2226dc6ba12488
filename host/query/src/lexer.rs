//! Splits a text into tokens, one at a time.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use flowgate_base::units;

use crate::error::{Diagnostic, quoted};

/// A token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token {
    /// `(`, `&&`, `..` and the like.
    Sign(&'static str),
    /// A word, which may have dots.
    Word,
    /// A number.
    Number(u128, Unit),
    /// An address.
    Address(IpAddr),
    /// An address and a prefix length.
    Network(IpAddr, u8),
    /// A string; its place includes the quotation marks.
    Text,
    /// The end of the text.
    End,
}

/// The unit of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// None.
    Plain,
    /// The number is one of bytes, and was written with a unit.
    Size,
    /// The number is one of nanoseconds, and was written with a unit.
    Time,
}

/// All signs, longer ones before those that they begin with.
const SIGNS: [&str; 30] = [
    "==", "!=", "<=", ">=", "<<", ">>", "&&", "||", "..", "=~", "<", ">", "=", "!", "(", ")", "{", "}", "[", "]", ",",
    "&", "|", "^", "~", "+", "-", "*", "/", "%",
];

/// Returns the token at the beginning of the text from `start` on, and its place.
pub(crate) fn token(text: &str, start: usize) -> Result<(Token, Range<usize>), Diagnostic> {
    let rest = text.get(start..).unwrap_or_default();
    let start = start + (rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len());
    let rest = text.get(start..).unwrap_or_default();
    let Some(first) = rest.chars().next() else {
        return Ok((Token::End, start..start));
    };
    if first == '"' || first == '\'' || (first == 'r' && rest.as_bytes().get(1).is_some_and(|byte| *byte == b'"')) {
        return string(rest, start);
    }
    if first.is_ascii_hexdigit() || first == ':' {
        let run = address_run(rest);
        if run.contains(':') {
            return address(rest, run, start);
        }
    }
    if first.is_ascii_digit() {
        return number(rest, start);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        return Ok((Token::Word, start..start + word(rest)));
    }
    match SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
        Some(sign) => Ok((Token::Sign(sign), start..start + sign.len())),
        None => {
            let wrong = Diagnostic::new(
                start..start + first.len_utf8(),
                format!("unexpected character {}", quoted(first.encode_utf8(&mut [0; 4]))),
            );
            Err(match first {
                '“' | '”' | '‘' | '’' | '«' | '»' => {
                    wrong.hint("strings are in quotation marks of ASCII: \"text\"")
                }
                '≠' => wrong.hint("`!=`"),
                '≤' => wrong.hint("`<=`"),
                '≥' => wrong.hint("`>=`"),
                _ => wrong,
            })
        }
    }
}

/// Returns the length of a word: letters, digits and `_`, with single dots in between.
fn word(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut end = 0;
    loop {
        end += bytes.get(end..).unwrap_or_default().iter().take_while(|byte| part(byte)).count();
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(part) {
            end += 1;
        } else {
            return end;
        }
    }
}

/// Returns the beginning of the text that may be an address.
fn address_run(rest: &str) -> &str {
    let bytes = rest.as_bytes();
    let part = |position: &usize| match bytes.get(*position) {
        Some(b'.') => bytes.get(position + 1) != Some(&b'.'),
        Some(byte) => byte.is_ascii_hexdigit() || *byte == b':',
        None => false,
    };
    let end = (0..).take_while(part).count();
    rest.get(..end).unwrap_or_default()
}

/// Reads an address, and a prefix length that follows it at once.
fn address(rest: &str, run: &str, start: usize) -> Result<(Token, Range<usize>), Diagnostic> {
    let parsed = if run.contains(':') {
        run.parse::<Ipv6Addr>().map(IpAddr::V6).ok()
    } else {
        run.parse::<Ipv4Addr>().map(IpAddr::V4).ok()
    };
    let at = start..start + run.len();
    let Some(address) = parsed else {
        return Err(Diagnostic::new(at, format!("{} is not an address", quoted(run))));
    };
    // An IPv4 address in its mapped form is one: columns have all of them in this form.
    let mapped = matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
    let address = address.to_canonical();
    let after = rest.get(run.len()..).unwrap_or_default();
    let digits = after.strip_prefix('/').map_or(0, |after| {
        after.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(after.len())
    });
    if digits == 0 {
        return Ok((Token::Address(address), at));
    }
    let at = start..start + run.len() + 1 + digits;
    let length = after.get(1..=digits).unwrap_or_default();
    let most = if address.is_ipv4() { 32 } else { 128 };
    let less = if mapped { 96 } else { 0 };
    match length.parse::<u8>().ok().and_then(|length| length.checked_sub(less)).filter(|length| *length <= most) {
        Some(length) => Ok((Token::Network(address, length), at)),
        None => Err(Diagnostic::new(
            at.end - digits..at.end,
            format!("{} is not a prefix length of {}", quoted(length), if most == 32 { "IPv4" } else { "IPv6" }),
        )
        .hint(format!("from {less} to {}", most + less))),
    }
}

/// Reads a number, or an IPv4 address.
fn number(rest: &str, start: usize) -> Result<(Token, Range<usize>), Diagnostic> {
    let end = word(rest);
    let all = rest.get(..end).unwrap_or_default();
    if all.bytes().filter(|byte| *byte == b'.').count() == 3
        && all.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit())
    {
        return address(rest, all, start);
    }
    let at = start..start + end;
    let radix = match all.get(..2) {
        Some("0x" | "0X") => 16,
        Some("0b") => 2,
        Some("0o") => 8,
        _ => 10,
    };
    let wrong = |message: String| Diagnostic::new(at.clone(), message);
    if radix != 10 {
        let digits = all.get(2..).unwrap_or_default().replace('_', "");
        if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
            return Err(wrong(format!("{} is not a number of base {radix}", quoted(all))));
        }
        let number = u128::from_str_radix(&digits, radix).ok().filter(|number| *number <= i128::MAX as u128 + 1);
        return match number {
            Some(number) => Ok((Token::Number(number, Unit::Plain), at)),
            None => Err(wrong(format!("{} is beyond 128 bits", quoted(all)))),
        };
    }
    let plain = all.replace('_', "");
    if plain.bytes().all(|byte| byte.is_ascii_digit()) {
        if plain.len() > 1 && plain.starts_with('0') {
            return Err(wrong(format!("{} begins with a 0", quoted(all)))
                .hint("a number of base 8 is written as 0o17, of base 10 without a 0 in front"));
        }
        let number = plain.parse::<u128>().ok().filter(|number| *number <= i128::MAX as u128 + 1);
        return match number {
            Some(number) => Ok((Token::Number(number, Unit::Plain), at)),
            None => Err(wrong(format!("{} is beyond 128 bits", quoted(all)))),
        };
    }
    let unit = plain.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    // Numbers with an exponent are none.
    if unit.bytes().any(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(not_a_number(all, at));
    }
    if matches!(
        unit,
        "B" | "k" | "K" | "KiB" | "kB" | "KB" | "M" | "MiB" | "MB" | "G" | "GiB" | "GB" | "T" | "TiB" | "TB"
    ) {
        return match units::size(&plain) {
            Some(bytes) => Ok((Token::Number(u128::from(bytes), Unit::Size), at)),
            None => Err(wrong(format!("{} is not a whole number of bytes of 64 bits", quoted(all)))),
        };
    }
    if matches!(unit, "ms" | "s" | "m" | "h" | "d") {
        return match units::time(&plain) {
            Some(time) => Ok((Token::Number(time.as_nanos(), Unit::Time), at)),
            None => Err(wrong(format!("{} is not a time of 64 bits of milliseconds", quoted(all)))),
        };
    }
    if unit.is_empty() {
        return Err(if plain.bytes().filter(|byte| *byte == b'.').count() == 1 {
            wrong(format!("{} is not a whole number", quoted(all)))
                .hint("only sizes and times have fractions: 1.5M, 1.5h")
        } else {
            wrong(format!("{} is not a number and not an address", quoted(all)))
                .hint("an address is written in full: 10.0.0.0")
        });
    }
    Err(not_a_number(all, at))
}

fn not_a_number(all: &str, at: Range<usize>) -> Diagnostic {
    Diagnostic::new(at, format!("{} is not a number", quoted(all)))
        .hint("sizes have the units B, k, M, G, T, KiB, MiB, GiB, TiB, kB, MB, GB or TB; times have ms, s, m, h or d")
}

/// Finds the end of a string. The quotation mark at its beginning ends it, unless a backslash precedes it and the
/// string is not raw.
fn string(rest: &str, start: usize) -> Result<(Token, Range<usize>), Diagnostic> {
    let (prefix, raw) = if rest.starts_with('r') { (2, true) } else { (1, false) };
    let mark = rest.as_bytes().get(prefix - 1).copied().unwrap_or_default();
    let mut escaped = false;
    for (position, byte) in rest.bytes().enumerate().skip(prefix) {
        if escaped {
            escaped = false;
        } else if byte == mark {
            return Ok((Token::Text, start..start + position + 1));
        } else if byte == b'\\' && !raw {
            escaped = true;
        }
    }
    Err(Diagnostic::new(start..start + prefix, "the string is not closed")
        .hint(format!("a `{}` is missing at its end", char::from(mark))))
}

/// Returns the content of a string at this place.
pub(crate) fn content(text: &str, at: Range<usize>) -> Result<String, Diagnostic> {
    let literal = text.get(at.clone()).unwrap_or_default();
    if let Some(raw) = literal.strip_prefix('r') {
        return Ok(raw.get(1..raw.len() - 1).unwrap_or_default().to_owned());
    }
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or_default();
    let mut content = String::with_capacity(inner.len());
    let mut letters = inner.char_indices();
    while let Some((position, letter)) = letters.next() {
        if letter != '\\' {
            content.push(letter);
            continue;
        }
        let from = at.start + 1 + position;
        let wrong = |length: usize, message: &str| {
            let end = (from + length).min(at.end - 1);
            Diagnostic::new(from..end, message)
                .hint(r#"escapes are \\ \" \' \n \r \t \0 \xHH \u{HEX}; in r"..." a backslash is a backslash"#)
        };
        match letters.next().map(|(_, letter)| letter) {
            Some(letter @ ('\\' | '"' | '\'')) => content.push(letter),
            Some('n') => content.push('\n'),
            Some('r') => content.push('\r'),
            Some('t') => content.push('\t'),
            Some('0') => content.push('\0'),
            Some('x') => {
                let digits: String = letters.by_ref().take(2).map(|(_, letter)| letter).collect();
                let code = u8::from_str_radix(&digits, 16).ok().filter(|code| digits.len() == 2 && code.is_ascii());
                let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                content.push(char::from(
                    code.filter(|_| plain).ok_or_else(|| wrong(4, r"\x takes two digits, up to \x7f"))?,
                ));
            }
            Some('u') => {
                let error = || wrong(2, r"\u takes the number of a character: \u{e4}");
                if letters.next().map(|(_, letter)| letter) != Some('{') {
                    return Err(error());
                }
                let digits: String =
                    letters.by_ref().map(|(_, letter)| letter).take_while(|letter| *letter != '}').collect();
                let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).filter(|_| plain);
                content.push(code.ok_or_else(error)?);
            }
            Some(letter) => return Err(wrong(1 + letter.len_utf8(), "unknown escape in a string")),
            None => return Err(wrong(1, "unknown escape in a string")),
        }
    }
    Ok(content)
}
