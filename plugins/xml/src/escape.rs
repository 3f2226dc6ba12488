//! Foreign text in XML.

use flowgate_sdk::Page;

/// Writes character data that is parsed back to the text (XML 1.0). Invalid UTF-8, and control characters that XML
/// cannot represent, become U+FFFD.
pub(crate) fn text(page: &mut Page, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '&' => page.text(b"&amp;"),
                '<' => page.text(b"&lt;"),
                '>' => page.text(b"&gt;"),
                '"' => page.text(b"&quot;"),
                '\'' => page.text(b"&apos;"),
                // As references, so that parsers do not normalise them and no line is broken.
                '\t' => page.text(b"&#9;"),
                '\n' => page.text(b"&#10;"),
                '\r' => page.text(b"&#13;"),
                '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => page.bytes("\u{fffd}".as_bytes()),
                // Allowed by XML, but terminals interpret them.
                '\u{7f}'..='\u{9f}' => {
                    page.text(b"&#");
                    page.number(u64::from(u32::from(c)));
                    page.byte(b';');
                }
                c => page.bytes(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            page.bytes("\u{fffd}".as_bytes());
        }
    }
}

/// Writes annotations; nothing if there are none.
pub(crate) fn annotations<'a>(page: &mut Page, annotations: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    let mut any = false;
    for (key, value) in annotations {
        if !std::mem::replace(&mut any, true) {
            page.text(b"<annotations>");
        }
        page.text(b"<annotation key=\"");
        text(page, key);
        page.text(b"\">");
        text(page, value);
        page.text(b"</annotation>");
    }
    if any {
        page.text(b"</annotations>");
    }
}
