//! What a plugin returns is bounded before it is multiplied: the numbers of that rule, in one place.
//!
//! An outcome crosses in at most `Limits::output` bytes of the runtime, but it names rows of the batch, rows of its own values and
//! byte strings by number, as often as it likes; so does a batch that stages change and annotate one after the other. So everything
//! that is named is checked before anything is copied, and what the host writes for an outcome is at most
//!
//! * [`ROW`] bytes for each row of the batch: columns of numbers that were empty before, which [`ROW_CHANGES`] changes for each row
//!   fill,
//! * [`FACTOR`] bytes of text for each byte that crossed, and [`TEXTS`] in all: fields that changes set,
//! * six bytes for each byte of an annotation, since `\u{1b}` is what a control character becomes, [`ROW_ANNOTATIONS`] annotations and [`ROW_NOTES`] bytes of a stage for each
//!   row, and [`TEXTS`] in all,
//! * [`ACTION`] bytes for each action: a request to the kernel, which is sent before the next [`ACTIONS_AT_ONCE`] are made.
//!
//! The work is linear in the same sizes. Every loop over them looks at the time of the call (`deadline::Watch` of the runtime).

use crate::{Description, field};

/// Bytes of columns of numbers that a row can have, rounded up.
pub const ROW: usize = 512;
/// Changes for each row of a batch: a plugin may change a flow bit by bit.
pub const ROW_CHANGES: usize = 4;
/// Bytes of text that changes may write for each byte that crossed because of them.
pub const FACTOR: usize = 16;
/// Bytes that one outcome may write into the batch: into fields of text, and as annotations.
pub const TEXTS: usize = 16 << 20;
/// Bytes of annotations that one stage may note on a row, keys and values.
pub const ROW_NOTES: usize = 4096;
/// Annotations that one stage may note on a row.
pub const ROW_ANNOTATIONS: usize = 64;
/// Bytes of a request for one action, rounded up.
pub const ACTION: usize = 2048;
/// Actions of a plugin that are made requests at a time.
pub const ACTIONS_AT_ONCE: usize = 512;

/// The longest name of a helper, without the NUL (NF_CT_HELPER_NAME_LEN is 16).
pub const HELPER: usize = 15;
/// The most data of a helper: `struct nf_conn_help` has room for 32 bytes today, and had for 256 at most.
pub const HELPER_INFO: usize = 256;
/// The longest bit set of labels: 128 bits (NF_CT_LABELS_MAX_SIZE).
pub const LABELS: usize = 16;
/// The longest context of a security module: a page.
pub const SECURITY_CONTEXT: usize = 4096;
/// The longest name or set in the values of an action. It is more than the kernel takes, so that an action with such a text is
/// refused by itself, with its reason; what is longer is no text of that kind at all.
pub const NAMED: usize = 256;
/// The longest payload of an attribute of netlink: its length is a 16-bit number that counts the header of 4 bytes.
pub const ATTRIBUTE: usize = 65_531;
/// Columns of later versions that a table may have.
pub const COLUMNS: usize = 64;

/// The longest text that the values of an outcome may have in a column.
#[must_use]
pub fn of_values(column: u64) -> usize {
    if column == field::SECURITY_CONTEXT { SECURITY_CONTEXT } else { NAMED }
}

/// The longest text that a change may set in a column: what the kernel's own can have.
#[must_use]
pub fn of_changes(column: u64) -> usize {
    match column {
        field::HELPER => HELPER,
        field::HELPER_INFO => HELPER_INFO,
        field::LABELS | field::LABELS_MASK => LABELS,
        field::SECURITY_CONTEXT => SECURITY_CONTEXT,
        _ => NAMED,
    }
}

/// Bytes of text that changes may write, if so many bytes crossed because of them.
#[must_use]
pub fn allowance(crossed: usize) -> usize {
    crossed.saturating_mul(FACTOR).min(TEXTS)
}

/// The longest name, version or word in a description.
const WORD: usize = 256;
/// The longest line or value in a description.
const LINE: usize = 4096;
/// The most options, wanted grants, columns and details in a description.
const ITEMS: usize = 256;

/// Whether what a plugin says of itself can be shown and compared.
///
/// # Errors
/// What is too long or too many, as the rest of a sentence that begins with "returned".
pub fn description(description: &Description) -> Result<(), String> {
    let Description { name, version, summary, options, grants, reads: _, more, details } = description;
    for (what, items) in
        [("options", options.len()), ("grants", grants.len()), ("columns", more.len()), ("details", details.len())]
    {
        if items > ITEMS {
            return Err(format!("a description with {items} {what}; at most {ITEMS} are taken"));
        }
    }
    let long = |what: &str, text: &str, most: usize| match text.len() {
        length if length > most => {
            Err(format!("a description whose {what} has {length} bytes; at most {most} are taken"))
        }
        _ => Ok(()),
    };
    long("name", name, WORD)?;
    long("version", version, WORD)?;
    long("summary", summary, LINE)?;
    for option in options {
        long("name of an option", &option.name, WORD)?;
        long("placeholder", &option.placeholder, WORD)?;
        long("help", &option.help, LINE)?;
        long("default", option.default.as_deref().unwrap_or_default(), LINE)?;
    }
    for grant in grants {
        long("grant", grant, WORD)?;
    }
    for detail in details {
        long("name of a detail", &detail.name, WORD)?;
        long("detail", &detail.value, LINE)?;
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
        assert_eq!(description(&plain), Ok(()));
        let said = |change: fn(&mut Description)| {
            let mut changed = plain.clone();
            change(&mut changed);
            description(&changed).unwrap_err()
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
        assert_eq!((allowance(0), allowance(100), allowance(usize::MAX)), (0, 1600, TEXTS));
    }
}
