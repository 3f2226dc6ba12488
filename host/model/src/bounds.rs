//! Limits of what a plugin returns, which is checked before it is expanded.
//!
//! An outcome takes at most `Limits::output` bytes of the runtime, but it may refer to the same rows of the batch, rows
//! of its values and byte strings any number of times, and stages may change and annotate a batch one after the other.
//! Every reference is therefore checked before anything is copied, and the host writes for an outcome at most
//!
//! * [`ROW_BYTES`] bytes for each row of the batch: previously empty columns of numbers, which are filled by
//!   [`CHANGES_PER_ROW`] changes for each row,
//! * [`TEXT_FACTOR`] bytes of text for each byte that was passed, and [`MAX_TEXT`] in total: fields that changes set,
//! * six bytes for each byte of an annotation (a control character becomes `\u{1b}`), [`ANNOTATIONS_PER_ROW`]
//!   annotations and [`ANNOTATION_BYTES_PER_ROW`] bytes of a stage for each row, and [`MAX_TEXT`] in total,
//! * [`REQUEST_BYTES`] bytes for each action: a request to the kernel, which is sent before the next
//!   [`ACTIONS_PER_CHUNK`] are encoded.
//!
//! The work is linear in the same sizes. Every loop over them checks the deadline of the call (`deadline::Watch` of the
//! runtime).

use crate::{Description, field};

/// Upper bound of the bytes of number columns in a row.
pub const ROW_BYTES: usize = 512;
/// Changes for each row of a batch: a plugin may change the fields of a flow one by one.
pub const CHANGES_PER_ROW: usize = 4;
/// Bytes of text that changes may write for each byte passed for them.
pub const TEXT_FACTOR: usize = 16;
/// Bytes that one outcome may write into the batch, as text fields and annotations.
pub const MAX_TEXT: usize = 16 << 20;
/// Maximum bytes of annotations, keys and values, that one stage may add to a row.
pub const ANNOTATION_BYTES_PER_ROW: usize = 4096;
/// Maximum number of annotations that one stage may add to a row.
pub const ANNOTATIONS_PER_ROW: usize = 64;
/// Upper bound of the bytes of a request for one action.
pub const REQUEST_BYTES: usize = 2048;
/// Maximum number of actions of a plugin that are encoded at a time.
pub const ACTIONS_PER_CHUNK: usize = 512;

/// Maximum length of a helper's name, without the NUL (NF_CT_HELPER_NAME_LEN is 16).
pub const MAX_HELPER: usize = 15;
/// Maximum length of a helper's data: `struct nf_conn_help` has 32 bytes today and had at most 256.
pub const MAX_HELPER_INFO: usize = 256;
/// Maximum length of a bit set of labels: 128 bits (NF_CT_LABELS_MAX_SIZE).
pub const MAX_LABELS: usize = 16;
/// Maximum length of a context of a security module: a page.
pub const MAX_SECURITY_CONTEXT: usize = 4096;
/// Maximum length of a name or set in the values of an action. It is more than the kernel accepts, so that an action
/// with such a text is refused individually, with its reason; a longer text is rejected with the whole outcome.
pub const MAX_NAME: usize = 256;
/// Maximum payload of a netlink attribute: its length is a 16-bit number that includes the header of 4 bytes.
pub const MAX_ATTRIBUTE: usize = 65_531;
/// Maximum number of columns of later versions in a table.
pub const MAX_COLUMNS: usize = 64;

/// Returns the maximum length of a text in a column of the values of an outcome.
#[must_use]
pub fn max_value_text(column: u64) -> usize {
    if column == field::SECURITY_CONTEXT { MAX_SECURITY_CONTEXT } else { MAX_NAME }
}

/// Returns the maximum length of a text that a change may set in a column: that of a text of the kernel.
#[must_use]
pub fn max_change_text(column: u64) -> usize {
    match column {
        field::HELPER => MAX_HELPER,
        field::HELPER_INFO => MAX_HELPER_INFO,
        field::LABELS | field::LABELS_MASK => MAX_LABELS,
        field::SECURITY_CONTEXT => MAX_SECURITY_CONTEXT,
        _ => MAX_NAME,
    }
}

/// Returns the bytes of text that changes may write if `crossed` bytes were passed for them.
#[must_use]
pub fn text_allowance(crossed: usize) -> usize {
    crossed.saturating_mul(TEXT_FACTOR).min(MAX_TEXT)
}

/// Maximum length of a name, a version or a word in a description.
const MAX_WORD: usize = 256;
/// Maximum length of a line or a value in a description.
const MAX_LINE: usize = 4096;
/// Maximum number of options, grants, columns or details in a description.
const MAX_ITEMS: usize = 256;

/// Checks that a plugin's description is small enough to be displayed and compared.
///
/// # Errors
/// Returns what is too long or too many, as the rest of a sentence that begins with "returned".
pub fn check_description(description: &Description) -> Result<(), String> {
    let Description { name, version, summary, options, grants, reads: _, more, details } = description;
    for (what, items) in
        [("options", options.len()), ("grants", grants.len()), ("columns", more.len()), ("details", details.len())]
    {
        if items > MAX_ITEMS {
            return Err(format!("a description with {items} {what}; at most {MAX_ITEMS} are taken"));
        }
    }
    let long = |what: &str, text: &str, most: usize| match text.len() {
        length if length > most => {
            Err(format!("a description whose {what} has {length} bytes; at most {most} are taken"))
        }
        _ => Ok(()),
    };
    long("name", name, MAX_WORD)?;
    long("version", version, MAX_WORD)?;
    long("summary", summary, MAX_LINE)?;
    for option in options {
        long("name of an option", &option.name, MAX_WORD)?;
        long("placeholder", &option.placeholder, MAX_WORD)?;
        long("help", &option.help, MAX_LINE)?;
        long("default", option.default.as_deref().unwrap_or_default(), MAX_LINE)?;
    }
    for grant in grants {
        long("grant", grant, MAX_WORD)?;
    }
    for detail in details {
        long("name of a detail", &detail.name, MAX_WORD)?;
        long("detail", &detail.value, MAX_LINE)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OptionValue;

    #[test]
    fn descriptions_are_bounded() {
        let plain = Description { name: "x".repeat(256), summary: "x".repeat(4096), ..Description::default() };
        assert_eq!(check_description(&plain), Ok(()));
        let said = |change: fn(&mut Description)| {
            let mut changed = plain.clone();
            change(&mut changed);
            check_description(&changed).unwrap_err()
        };
        assert!(said(|it| it.name.push('x')).contains("whose name has 257 bytes"));
        assert!(said(|it| it.grants = vec![String::new(); 257]).contains("with 257 grants"));
        assert!(said(|it| it.more = vec![0; 1000]).contains("with 1000 columns"));
        let detail = |it: &mut Description| {
            it.details = vec![OptionValue::new("author", "x".repeat(5000))];
        };
        assert!(said(detail).contains("whose detail has 5000 bytes"));
    }

    #[test]
    fn what_may_be_written_grows_with_what_crossed_up_to_a_point() {
        assert_eq!((text_allowance(0), text_allowance(100), text_allowance(usize::MAX)), (0, 1600, MAX_TEXT));
    }
}
