//! Groups as lines: an array of texts for each, and null where there is no value. Numbers have up to 128 bits, which
//! JSON's do not; texts are bytes, each of which is the character of its number.

use std::{
    borrow::Cow,
    io::{self, Write},
    net::Ipv6Addr,
};

use flowgate_model::{Groups, at, batch, query::kind, wit::query::Cells};

use super::GroupsError;

/// A value of a key. Absent ones are the last in ascending order, as in results of one host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum KeyValue {
    Number(i128),
    /// An address, or that of a network, whose length follows from the key.
    Address(u128),
    Text(Box<[u8]>),
    Absent,
}

/// A group on its way: the values of its keys, and of its measures.
pub(super) type Line = (Box<[KeyValue]>, Box<[Option<i128>]>);

fn has(cells: &Cells, row: usize) -> bool {
    cells.has.get(row).is_none_or(|&has| has == 1)
}

fn bits(cells: &Cells, row: usize) -> u128 {
    u128::from(at(&cells.hi, row)) << 64 | u128::from(at(&cells.lo, row))
}

/// Writes a line for each group of a partial result, which has no real numbers.
///
/// # Errors
/// If writing fails.
pub fn write(groups: &Groups, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = Vec::new();
    for row in 0..groups.length as usize {
        let cells = groups.columns.iter().map(|cells| has(cells, row).then(|| shown(cells, row)));
        // Texts can be written.
        serde_json::to_writer(&mut lines, &cells.collect::<Vec<_>>()).map_err(io::Error::from)?;
        lines.push(b'\n');
        if lines.len() >= 64 << 10 {
            out.write_all(&lines)?;
            lines.clear();
        }
    }
    out.write_all(&lines)
}

/// Returns a value as text.
fn shown(cells: &Cells, row: usize) -> String {
    match cells.kind {
        kind::TEXT => batch::text(&cells.texts, row).iter().copied().map(char::from).collect(),
        kind::ADDRESS | kind::NETWORK => Ipv6Addr::from(bits(cells, row)).to_string(),
        _ => bits(cells, row).cast_signed().to_string(),
    }
}

/// Reads a line of a group with keys of these kinds and this number of measures.
pub(super) fn read(line: &[u8], kinds: &[u8], measures: usize) -> Result<Line, GroupsError> {
    let bad = |why: String| GroupsError::Bad(why);
    let cells: Vec<Option<Cow<'_, str>>> = serde_json::from_slice(line).map_err(|error| bad(error.to_string()))?;
    if cells.len() != kinds.len() + measures {
        return Err(bad(format!("it has {} values in place of {}", cells.len(), kinds.len() + measures)));
    }
    let (keys, values) = cells.split_at(kinds.len());
    let key = |(cell, kind): (&Option<Cow<'_, str>>, &u8)| {
        let Some(text) = cell else { return Ok(KeyValue::Absent) };
        let value = match *kind {
            kind::TEXT => {
                let bytes = text.chars().map(u8::try_from).collect::<Result<Box<[u8]>, _>>();
                bytes.ok().map(KeyValue::Text)
            }
            kind::ADDRESS | kind::NETWORK => text.parse::<Ipv6Addr>().ok().map(|bits| KeyValue::Address(bits.into())),
            _ => text.parse().ok().map(KeyValue::Number),
        };
        value.ok_or_else(|| bad(format!("the value {} of a key", short(text))))
    };
    let value = |cell: &Option<Cow<'_, str>>| match cell {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| bad(format!("the value {} of a measure", short(text)))),
    };
    Ok((
        keys.iter().zip(kinds).map(key).collect::<Result<_, _>>()?,
        values.iter().map(value).collect::<Result<_, _>>()?,
    ))
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back() {
        let column = |kind, values: &[i128]| Cells {
            kind,
            hi: values.iter().map(|value| (value.cast_unsigned() >> 64) as u64).collect(),
            lo: values.iter().map(|value| *value as u64).collect(),
            ..Cells::default()
        };
        let mut text = Cells { kind: kind::TEXT, has: vec![1, 0], ..Cells::default() };
        batch::push_text(&mut text.texts, b"a\"\n\xff\xc3\xa9");
        batch::push_text(&mut text.texts, b"");
        let ipv4 = 0xffff_0a00_0001;
        let groups = Groups {
            length: 2,
            keys: 3,
            columns: vec![
                text,
                column(kind::ADDRESS, &[ipv4, 1 << 100]),
                column(kind::PORT, &[443, 0]),
                column(kind::BYTES, &[i128::MAX, i128::MIN]),
                Cells { has: vec![0, 1], ..column(kind::PLAIN, &[0, -7]) },
            ],
            ..Groups::default()
        };
        let mut lines = Vec::new();
        write(&groups, &mut lines).unwrap();
        let lines: Vec<&[u8]> = lines.split(|&byte| byte == b'\n').collect();
        assert_eq!((lines.len(), lines[2]), (3, &b""[..]));
        let kinds = [kind::TEXT, kind::ADDRESS, kind::PORT];
        let (keys, values) = read(lines[0], &kinds, 2).unwrap();
        let text = KeyValue::Text(b"a\"\n\xff\xc3\xa9"[..].into());
        assert_eq!(*keys, [text, KeyValue::Address(ipv4.cast_unsigned()), KeyValue::Number(443)]);
        assert_eq!(*values, [Some(i128::MAX), None]);
        let (keys, values) = read(lines[1], &kinds, 2).unwrap();
        assert_eq!(*keys, [KeyValue::Absent, KeyValue::Address(1 << 100), KeyValue::Number(0)]);
        assert_eq!(*values, [Some(i128::MIN), Some(-7)]);
    }

    #[test]
    fn what_is_no_group_is_refused() {
        let kinds = [kind::TEXT, kind::ADDRESS];
        assert!(read(b"[null,null,\"1\"]", &kinds, 1).is_ok());
        let deep = "[".repeat(50_000);
        for bad in [
            "",
            "[]",
            "{}",
            "[null,null]",
            "[null,null,null,null]",
            "[null,null,1]",
            "[null,null,\"1.5\"]",
            "[null,null,\"170141183460469231731687303715884105728\"]",
            "[null,\"10.0.0.1/8\",\"1\"]",
            "[\"\u{100}\",null,\"1\"]",
            "[null,null,\"1\"] 1",
            &deep,
        ] {
            let error = read(bad.as_bytes(), &kinds, 1).unwrap_err();
            assert!(matches!(error, GroupsError::Bad(_)) && error.to_string().len() < 200, "{bad}: {error}");
        }
    }
}
