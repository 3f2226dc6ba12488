//! Rows of an agent made part of the merged output: each line gets the agent's name, and none of them can be taken for
//! another agent's, or for something that a terminal obeys.

use std::borrow::Cow;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use crate::table::Form;

/// Appends rows to `out`, each with the name in front, or as its first member. `width` is that of the column of names.
///
/// # Errors
/// Describes the first line that is not what it should be; those before it have been appended.
pub fn append(out: &mut Vec<u8>, name: &str, width: usize, form: Form, rows: &[u8]) -> Result<(), String> {
    let lines = rows.strip_suffix(b"\n").unwrap_or(rows);
    if lines.is_empty() {
        return Ok(());
    }
    for line in lines.split(|&byte| byte == b'\n') {
        match form {
            Form::Text => {
                out.extend_from_slice(format!("{name:width$}  ").as_bytes());
                let plain = |byte: u8| if byte < b' ' && byte != b'\t' || byte == 0x7f { b'?' } else { byte };
                out.extend(line.iter().map(|&byte| plain(byte)));
            }
            Form::Json => {
                let members = object(line)?;
                out.extend_from_slice(format!("{{\"agent\":\"{name}\"{}", if members { "," } else { "" }).as_bytes());
                out.extend_from_slice(line.get(1..).unwrap_or_default());
            }
        }
        out.push(b'\n');
    }
    Ok(())
}

/// Checks that a line is an object without a member `agent`. Returns true if it has members.
fn object(line: &[u8]) -> Result<bool, String> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = bool;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
            let mut members = false;
            while let Some((name, IgnoredAny)) = map.next_entry::<Cow<'de, str>, IgnoredAny>()? {
                if name == "agent" {
                    return Err(serde::de::Error::custom("it has a member `agent` of its own"));
                }
                members = true;
            }
            Ok(members)
        }
    }
    let wrong = |error: serde_json::Error| format!("a row is no object: {error}");
    if line.first() != Some(&b'{') {
        return Err("a row is no object".into());
    }
    let mut reader = serde_json::Deserializer::from_slice(line);
    let members = reader.deserialize_map(Members).map_err(wrong)?;
    reader.end().map_err(wrong)?;
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(form: Form, rows: &str) -> Result<String, String> {
        let mut out = Vec::new();
        append(&mut out, "web", 5, form, rows.as_bytes()).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_line_has_the_name() {
        assert_eq!(appended(Form::Text, "a\nb\n").unwrap(), "web    a\nweb    b\n");
        assert_eq!(appended(Form::Text, "").unwrap(), "");
        assert_eq!(appended(Form::Text, "a\x1b[2J\t\r").unwrap(), "web    a?[2J\t?\n");
        assert_eq!(
            appended(Form::Json, "{\"a\":{\"agent\":1}}\n{}\n").unwrap(),
            "{\"agent\":\"web\",\"a\":{\"agent\":1}}\n{\"agent\":\"web\"}\n"
        );
    }

    #[test]
    fn a_row_cannot_be_taken_for_that_of_another() {
        for bad in [
            "{\"agent\":\"db\"}",
            "{\"a\":1,\"\\u0061gent\":\"db\"}",
            "{}{}",
            "{",
            "[]",
            "x",
            " {}",
            "{}\n\n{}",
            "{\"a\":\"\x1b\"}",
        ] {
            assert!(appended(Form::Json, bad).is_err(), "{bad}");
        }
    }
}
