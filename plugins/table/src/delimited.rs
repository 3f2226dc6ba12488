//! CSV (RFC 4180) and TSV.

use flowgate_sdk::{Page, query::kind};

use crate::value::{Style, Value};

/// The next line of a file with separated values.
pub(crate) struct Line<'a> {
    page: &'a mut Page,
    style: &'a Style,
    /// True for tabulators, false for commas.
    tabs: bool,
    first: bool,
}

impl<'a> Line<'a> {
    pub(crate) fn new(page: &'a mut Page, style: &'a Style, tabs: bool) -> Self {
        Line { page, style, tabs, first: true }
    }

    /// Writes a heading.
    pub(crate) fn heading(&mut self, name: &str) {
        self.value(kind::TEXT, &Value::text(Some(name.as_bytes())));
    }

    /// Writes a value. Protocols and the like are numbers: `style` names none of them.
    pub(crate) fn value(&mut self, of: u8, value: &Value<'_>) {
        self.separator();
        let foreign = matches!(value, Value::Text(_));
        if !foreign {
            // Numbers and addresses contain nothing that would have to be quoted.
            self.style.write(self.page, of, value);
            return;
        }
        let mut text = Page::default();
        match value {
            // What TSV escapes is not cleaned before.
            Value::Text(bytes) if self.tabs => {
                for part in bytes.split_inclusive(|byte| matches!(byte, b'\t' | b'\n' | b'\\')) {
                    let (last, rest) = part.split_last().unwrap_or((&b' ', part));
                    let escape: &[u8] = match last {
                        b'\t' => b"\\t",
                        b'\n' => b"\\n",
                        b'\\' => b"\\\\",
                        _ => b"",
                    };
                    crate::value::clean(&mut text, if escape.is_empty() { part } else { rest });
                    text.bytes(escape);
                }
            }
            value => self.style.write(&mut text, of, value),
        }
        self.field(text.as_bytes(), foreign);
    }

    /// Writes a text that has been cleaned.
    pub(crate) fn cleaned(&mut self, text: &[u8]) {
        self.separator();
        self.field(text, true);
    }

    fn separator(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.page.byte(if self.tabs { b'\t' } else { b',' });
        }
    }

    fn field(&mut self, text: &[u8], foreign: bool) {
        if self.tabs {
            self.page.bytes(text);
            return;
        }
        // Spreadsheets would run a text that begins like this as a formula.
        let formula = foreign && matches!(text.first(), Some(b'=' | b'+' | b'-' | b'@'));
        let quoted = text.iter().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n'));
        if quoted {
            self.page.byte(b'"');
        }
        if formula {
            self.page.byte(b'\'');
        }
        for part in text.split_inclusive(|&byte| byte == b'"') {
            self.page.bytes(part);
            if part.last() == Some(&b'"') {
                self.page.byte(b'"');
            }
        }
        if quoted {
            self.page.byte(b'"');
        }
    }
}

/// Ends a line.
pub(crate) fn end(page: &mut Page, tabs: bool) {
    if !tabs {
        page.byte(b'\r');
    }
    page.byte(b'\n');
}
