//! Results of aggregations: one object for each group.

use flowgate_sdk::{Cells, Groups, Page, event, family, protocol, query::kind};

use crate::value::{close, plain};

/// Returns a result as text.
pub(crate) fn render(groups: &Groups) -> Vec<u8> {
    let mut page = Page::default();
    let names: Vec<Option<String>> = groups.columns.iter().map(|column| name_of(column, groups)).collect();
    for row in 0..groups.length as usize {
        page.text(b"{\"type\":\"group\",");
        if groups.until != 0 {
            plain(&mut page, b"since", groups.since);
            plain(&mut page, b"until", groups.until);
        }
        for (column, name) in groups.columns.iter().zip(&names) {
            member(&mut page, column, name.as_deref(), row);
        }
        if let Some(&error) = groups.errors.get(row) {
            plain(&mut page, b"errors", error);
        }
        close(&mut page, b'}');
        page.byte(b'\n');
    }
    page.into_bytes()
}

/// Returns the member for names of values, if they have names and no column is called so. (States have none: which
/// protocol they are of is not known.)
fn name_of(column: &Cells, groups: &Groups) -> Option<String> {
    let name = format!("{}_name", column.name);
    let named = matches!(column.kind, kind::PROTOCOL | kind::FAMILY | kind::EVENT);
    (named && groups.columns.iter().all(|other| other.name != name)).then_some(name)
}

/// Writes the value of a key or measure, and the name of a value that has one; nothing for an absent one.
fn member(page: &mut Page, column: &Cells, of_names: Option<&str>, row: usize) {
    if !column.has(row) {
        return;
    }
    let (bits, real) = (column.bits(row), column.real(row));
    page.json(column.name.as_bytes());
    page.byte(b':');
    match column.kind {
        kind::TEXT => page.json(column.texts.get(row).unwrap_or_default()),
        kind::ADDRESS | kind::NETWORK => {
            page.byte(b'"');
            if family::is_ipv4(bits) {
                page.ipv4(bits as u32)
            } else {
                page.ipv6(bits)
            }
            if column.kind == kind::NETWORK {
                page.byte(b'/');
                page.number(real as u64);
            }
            page.byte(b'"');
        }
        kind::MEAN..=kind::BYTE_RATE => decimal(page, real),
        _ => page.integer(bits.cast_signed()),
    }
    page.byte(b',');
    let name = u8::try_from(bits).ok().and_then(|number| match column.kind {
        kind::PROTOCOL => protocol::name(number),
        kind::FAMILY => family::name(number),
        kind::EVENT => event::name(number).or(Some("unknown")),
        _ => None,
    });
    if let (Some(name), Some(member)) = (name, of_names) {
        page.json(member.as_bytes());
        page.byte(b':');
        page.json(name.as_bytes());
        page.byte(b',');
    }
}

/// Writes a real number with up to six digits after the point.
fn decimal(page: &mut Page, real: f64) {
    // Numbers that are too large for six digits have no fraction that matters: the limit is 2^53 millionths.
    if real.abs() >= 9_007_199_254.0 {
        page.integer(real as i128);
        return;
    }
    if real < 0.0 {
        page.byte(b'-');
    }
    let millionths = (real.abs() * 1e6 + 0.5) as u64;
    page.number(millionths / 1_000_000);
    let (mut rest, mut digits) = (millionths % 1_000_000, 6);
    if rest == 0 {
        return;
    }
    while rest.is_multiple_of(10) {
        rest /= 10;
        digits -= 1;
    }
    page.byte(b'.');
    page.zero_padded(rest, digits);
}

#[cfg(test)]
mod tests {
    use flowgate_sdk::address;
    use serde_json::{Value, json};

    use super::*;

    fn cells(name: &str, kind: u8, values: &[i128]) -> Cells {
        Cells {
            name: name.into(),
            kind,
            hi: values.iter().map(|value| (value.cast_unsigned() >> 64) as u64).collect(),
            lo: values.iter().map(|value| *value as u64).collect(),
            ..Cells::default()
        }
    }

    fn rendered(groups: &Groups) -> Vec<Value> {
        let text = String::from_utf8(render(groups)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    #[test]
    fn a_group_is_an_object_with_its_keys_and_measures() {
        let network = |text: &str| address::bits(text.parse().unwrap()).cast_signed();
        let mut keys = cells("src/24", kind::NETWORK, &[network("10.0.0.0"), network("2001:db8::")]);
        keys.reals = vec![24.0, 64.0];
        let mut text = cells("helper", kind::TEXT, &[]);
        text.texts.push(b"f\"tp");
        text.texts.push(b"");
        text.has = vec![1, 0];
        let mut mean = cells("avg(bytes)", kind::MEAN_BYTES, &[]);
        mean.reals = vec![1.5, 1e12];
        let groups = Groups {
            length: 2,
            keys: 3,
            columns: vec![
                keys,
                text,
                cells("proto", kind::PROTOCOL, &[6, 99]),
                cells("count", kind::PLAIN, &[3, 0]),
                cells("sum(bytes)", kind::BYTES, &[i128::from(u64::MAX) * 1000, -1_000_000_007]),
                mean,
            ],
            errors: vec![0, 7],
            ..Groups::default()
        };
        let all = rendered(&groups);
        assert_eq!(
            String::from_utf8(render(&groups)).unwrap().lines().next(),
            Some(
                "{\"type\":\"group\",\"src/24\":\"10.0.0.0/24\",\"helper\":\"f\\\"tp\",\"proto\":6,\"proto_name\":\"tcp\",\"count\":3,\"sum(bytes)\":18446744073709551615000,\"avg(bytes)\":1.5,\"errors\":0}"
            )
        );
        assert_eq!(
            all[1],
            json!({"type": "group", "src/24": "2001:db8::/64", "proto": 99, "count": 0, "sum(bytes)": -1_000_000_007,
                "avg(bytes)": 1_000_000_000_000_u64, "errors": 7})
        );
    }

    #[test]
    fn a_window_has_its_ends() {
        let groups = Groups {
            length: 1,
            columns: vec![cells("count", kind::PLAIN, &[1])],
            since: 5,
            until: 9,
            ..Groups::default()
        };
        assert_eq!(rendered(&groups), [json!({"type": "group", "since": 5, "until": 9, "count": 1})]);
    }

    #[test]
    fn reals_have_no_more_digits_than_needed() {
        for (real, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.25, "-2.25"),
            (1.0 / 3.0, "0.333333"),
            (1e15, "1000000000000000"),
        ] {
            let mut page = Page::default();
            decimal(&mut page, real);
            assert_eq!(String::from_utf8(page.into_bytes()).unwrap(), text);
        }
    }
}
