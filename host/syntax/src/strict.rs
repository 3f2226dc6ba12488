//! Rejects what `conntrack` interprets leniently.
//!
//! `conntrack` takes the leading digits of a number or else 0, ignores words that do not belong to an option and values
//! that are attached to an option without one, and takes an empty prefix length for every address. For a command that
//! changes something, such a line would have an effect that nobody asked for; it is an error under every name. Under
//! flowgate's own name it is an error for all commands; under the name `conntrack`, commands that only list behave as
//! in `conntrack`.

use super::error::{CliError, RawArg};
use super::options::{self, KeySet, OPTIONS, OptionKey, OptionSpec};
use super::parsed_options::ParsedOptions;
use super::settings::{Command, Table};
use super::values::{self, AddressFlaw, NumberFormat};
use super::wrong_value::WrongValue;
use flowgate_base::units;
use flowgate_model::Masked;

/// Where a command line appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineContext {
    /// On its own.
    CommandLine,
    /// In a load file.
    LoadFile,
    /// After a subcommand, which does not execute it as a command.
    Subcommand,
    /// In another file, where it may select what is changed.
    Fragment,
}

/// Returns true if a command modifies the table: deletes, changes, creates or zeroes counters.
pub(crate) fn modifies_table(command: Option<(Command, Table)>, given: KeySet) -> bool {
    match command {
        Some((Command::Delete | Command::Update | Command::Create | Command::Add | Command::Flush, _)) => true,
        Some((Command::List, Table::Conntrack)) => given.contains(OptionKey::Zero),
        _ => false,
    }
}

/// Checks what `conntrack` would accept. `own_name` is true under flowgate's own name.
///
/// # Errors
/// Returns the first flaw, if the command must not have any.
pub(crate) fn check(parsed: &ParsedOptions, own_name: bool, context: LineContext) -> Result<(), CliError> {
    let changes = matches!(context, LineContext::LoadFile | LineContext::Fragment)
        || modifies_table(parsed.command, parsed.given);
    if own_name || changes {
        if let Some(flaw) = &parsed.flaw {
            return Err(flaw.clone());
        }
        if let Some(word) = parsed.stray_words.first() {
            return Err(stray_word(word, parsed));
        }
        check_masks(parsed)?;
        check_status(parsed)?;
    }
    if changes {
        let status = parsed.status;
        // A new flow lacks every status that is not named.
        if matches!(parsed.command, Some((Command::Update, _))) && status.clear != 0 {
            let takes = "names of what is set; what is set already cannot be taken away".to_owned();
            return Err(WrongValue::new(Some(b'u'), "status", parsed.status_text.as_ref(), takes).into());
        }
        if let Some(option) = parsed.stale_mask {
            return Err(CliError::StaleMask(option));
        }
        let selects =
            context == LineContext::Fragment && matches!(parsed.command, Some((Command::List | Command::Events, _)));
        if parsed.status_ignored && (selects || matches!(parsed.command, Some((Command::Delete, _)))) {
            return Err(CliError::StatusIgnored(parsed.status_text.clone()));
        }
        if selects && parsed.given.contains(OptionKey::Status) && status.set | status.clear == 0 && !status.unset {
            return Err(CliError::StatusSelectsAll(parsed.status_text.clone()));
        }
        if selects && parsed.mark.value & !parsed.mark.mask != 0 {
            let takes = "a mark whose bits are in the mask; no flow can match another";
            let Masked { value, mask } = parsed.mark;
            let text = format!("{value:#x}/{mask:#x}");
            return Err(WrongValue::new(Some(b'm'), "mark", text.as_bytes(), takes.to_owned()).into());
        }
    }
    if own_name && matches!(context, LineContext::CommandLine | LineContext::LoadFile) {
        check_all(parsed)?;
    }
    Ok(())
}

/// Returns a warning about a condition that no flow can meet.
pub(crate) fn unmatchable_mark_warning(parsed: &ParsedOptions) -> Option<String> {
    let compared = matches!(parsed.command, Some((Command::List | Command::Delete | Command::Events, _)));
    let mark = parsed.mark;
    let warns = compared && parsed.given.contains(OptionKey::Mark) && !parsed.given.contains(OptionKey::Quiet);
    (warns && mark.value & !mark.mask != 0).then(|| {
        format!(
            "WARNING: the mark {:#x} has bits outside of its mask {:#x}, so that no flow can match.",
            mark.value, mark.mask
        )
    })
}

/// Checks that no mask erases its address. The masks of expectations apply to the expected flow and may do so.
fn check_masks(parsed: &ParsedOptions) -> Result<(), CliError> {
    if matches!(parsed.command, Some((_, Table::Expect))) {
        return Ok(());
    }
    for (address, mask, name) in
        [(parsed.source, parsed.mask_source, "mask-src"), (parsed.destination, parsed.mask_destination, "mask-dst")]
    {
        if let (Some(address), Some(mask)) = (address, mask)
            && values::erases(&address, Some(&mask))
        {
            let value = mask.to_string();
            let takes = format!("a mask that leaves something of {address}; to select every address leave both out");
            return Err(WrongValue::new(None, name, value.as_bytes(), takes).into());
        }
    }
    Ok(())
}

/// Checks that a flow can have the statuses together. Where a status is set, UNSET beside others has no effect.
fn check_status(parsed: &ParsedOptions) -> Result<(), CliError> {
    let status = parsed.status;
    let compared = matches!(parsed.command, Some((Command::List | Command::Delete | Command::Events, _)));
    if status.set & status.clear == 0 && !(compared && status.unset && status.set | status.clear != 0) {
        return Ok(());
    }
    let takes = "names that a flow can have together, and UNSET alone".to_owned();
    Err(WrongValue::new(Some(b'u'), "status", parsed.status_text.as_ref(), takes).into())
}

/// Checks that deleting all flows is explicit.
fn check_all(parsed: &ParsedOptions) -> Result<(), CliError> {
    let given = parsed.given;
    if parsed.command != Some((Command::Delete, Table::Conntrack)) {
        return Ok(());
    }
    // A plugin may select flows too.
    let selects = options::any_given(given, OptionSpec::selects) || given.contains(OptionKey::Plugin);
    match (given.contains(OptionKey::All), selects) {
        (true, true) => Err(CliError::AllWithSelector),
        (false, false) if !given.contains_any(&[OptionKey::DryRun, OptionKey::Explain]) => {
            Err(CliError::NothingSelected)
        }
        _ => Ok(()),
    }
}

/// Returns the error for a word that does not belong to an option.
pub(crate) fn stray_word(word: &[u8], parsed: &ParsedOptions) -> CliError {
    let number = NumberFormat::id('w').read(word).exact;
    let hint = if number && parsed.given.contains(OptionKey::Zero) {
        Some(format!("for a zone: -w {}", String::from_utf8_lossy(word)))
    } else if let Some(name) = Table::NAMES.iter().find(|name| name.as_bytes() == word) {
        Some(format!("a table directly follows its command, as in -L {name}"))
    } else if word.starts_with(b"#") {
        Some("a comment takes a line of its own".to_owned())
    } else if word.starts_with(b"-") {
        Some("options end at `--'".to_owned())
    } else if values::network(word).is_ok() && !number {
        Some("for a source address: -s, for a destination address: -d".to_owned())
    } else {
        None
    };
    CliError::StrayWord { word: word.into(), hint }
}

/// Returns the error for a word with an unknown option.
pub(crate) fn unknown_option(word: &[u8]) -> CliError {
    let error = CliError::UnknownOption(word.into());
    if word.starts_with(b"-R") || word.starts_with(b"--load-f") {
        let hint = "a file is loaded by -R FILE or --load-file FILE, in two words that stand before all others";
        return CliError::WithHint(Box::new(error), hint.to_owned());
    }
    error
}

/// Returns the error for a value attached to an option that takes it from the next word only.
pub(crate) fn attached_value(name: &'static str, value: &[u8], is_command: bool) -> CliError {
    let lookup = Table::NAMES.into_iter().find(|table| table.as_bytes() == value);
    let example = match (is_command, lookup) {
        (true, table) => table.unwrap_or("conntrack").to_owned(),
        (false, _) => String::from_utf8_lossy(value).into_owned(),
    };
    CliError::Attached { option: name, value: value.into(), example }
}

/// Returns the error for an option that takes a number.
pub(crate) fn wrong_number(letter: Option<u8>, name: &'static str, value: &[u8], kind: NumberFormat) -> WrongValue {
    let decimal = if kind.is_decimal() { "decimal " } else { "" };
    let takes = format!("a {decimal}number from 0 to {}", kind.maximum());
    WrongValue::new(letter, name, value, takes).hint(number_hint(name, value))
}

/// Parses a size or a time in the grammar of flowgate's own options.
///
/// # Errors
///
/// Returns an error with what the option accepts.
pub(crate) fn parse_quantity(key: OptionKey, value: &[u8], kind: NumberFormat, least: u32) -> Result<u32, WrongValue> {
    let text = String::from_utf8_lossy(value);
    let (read, grammar, unit) = match kind {
        NumberFormat::BUFFER => (units::size(&text), units::SIZE, "bytes"),
        _ => (
            units::time(&text).map(|_| units::seconds(&text).map_or(u64::MAX, u64::from)),
            units::TIME,
            "whole seconds",
        ),
    };
    let most = kind.maximum();
    let fits = read.and_then(|read| u32::try_from(read).ok()).filter(|read| (least..=most).contains(read));
    fits.ok_or_else(|| {
        let (letter, name) = option_names(key);
        let takes = match read {
            Some(_) => format!("{unit} from {least} to {most}"),
            None => grammar.to_owned(),
        };
        WrongValue::new(letter, name, value, takes).hint(number_hint(name, value))
    })
}

/// Returns the error for the value of `--mark`.
pub(crate) fn wrong_mark(value: &[u8]) -> WrongValue {
    let takes = "VALUE or VALUE/MASK, numbers from 0 to 4294967295".to_owned();
    WrongValue::new(Some(b'm'), "mark", value, takes).hint(number_hint("mark", value))
}

/// Returns a hint on what a value that is not a number may have meant.
fn number_hint(name: &str, value: &[u8]) -> Option<&'static str> {
    let digits = |part: &[u8]| part.first().is_some_and(u8::is_ascii_digit);
    let range = value.split(|byte| matches!(byte, b'-' | b':')).collect::<Vec<_>>();
    if value.contains(&b',') {
        Some("one value is taken, not a list")
    } else if range.len() == 2 && range.iter().all(|part| digits(part)) {
        Some("one value is taken, not a range")
    } else if value.first().is_some_and(u8::is_ascii_alphabetic) {
        Some(if name == "id" { "the kernel keeps no interfaces for flows" } else { "names are not looked up" })
    } else {
        None
    }
}

/// Returns the error for an address that `conntrack` would interpret as a different one.
pub(crate) fn wrong_address(key: OptionKey, value: &[u8], flaw: AddressFlaw) -> WrongValue {
    let (letter, name) = option_names(key);
    let takes = match flaw {
        AddressFlaw::Trailing => "an address and nothing after it",
        AddressFlaw::Abbreviated if matches!(key, OptionKey::MaskSource | OptionKey::MaskDestination) => {
            "a mask with all of its four parts, such as 255.255.255.0"
        }
        AddressFlaw::Abbreviated => "an IPv4 address with all of its four parts",
        AddressFlaw::TwoMasks => "a prefix length or a mask of the address, not two that differ",
        AddressFlaw::Octal => "parts without leading zeros, which make a number octal",
        AddressFlaw::EmptyPrefix => "a prefix length after the slash; an empty one would stand for every address",
        AddressFlaw::NothingCompared => {
            "a prefix length that leaves something of the address; 0 stands for every address, which is written 0.0.0.0/0 or ::/0"
        }
    };
    WrongValue::new(letter, name, value, takes.to_owned())
}

/// Returns the letter and the name of an option for messages. Punctuation is left out.
pub(crate) fn option_names(key: OptionKey) -> (Option<u8>, &'static str) {
    let spec = OPTIONS.get(key as usize);
    let letter = spec.and_then(|spec| spec.short).filter(u8::is_ascii_lowercase);
    (letter, spec.map_or("", |spec| spec.name()))
}

/// Adds an explanation to an error for which `conntrack` has a short message, under flowgate's own name.
pub(crate) fn with_hint(error: CliError, name: &'static str, value: &[u8], is_ipv4: bool) -> CliError {
    let hint = match &error {
        CliError::InvalidNetmask => {
            let prefix: RawArg = value.splitn(2, |byte| *byte == b'/').nth(1).unwrap_or_default().into();
            let longest = if is_ipv4 { 32 } else { 128 };
            format!("`{prefix}' with --{name} option: a prefix length is a number from 0 to {longest}")
        }
        CliError::InvalidAddress(_) if value.contains(&b',') => format!("--{name} takes one address, not a list"),
        CliError::InvalidAddress(_) if value.contains(&b'-') => {
            format!("--{name} takes one address or network, not a range")
        }
        _ => return error,
    };
    CliError::WithHint(Box::new(error), hint)
}

#[cfg(test)]
mod tests;
