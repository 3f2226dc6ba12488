//! Checks which options a command accepts, and which can be combined. Of several errors the first in a fixed order is
//! reported.

use super::error::CliError;
use super::options::{self, OPTIONS, OptionKey, SelectorRole};
use super::parsed_options::ParsedOptions;
use super::protocols;
use super::settings::{Command, Output, Table};

/// Returns true if an option was given that is compared with flows.
fn compares(parsed: &ParsedOptions) -> bool {
    options::any_given(parsed.given, |spec| spec.selector == SelectorRole::Compares)
}

/// Checks the parsed options.
pub(crate) fn check(parsed: &ParsedOptions) -> Result<(), CliError> {
    let given = parsed.given;
    if given.contains(OptionKey::AnyNat) && given.contains_any(&[OptionKey::SourceNat, OptionKey::DestinationNat]) {
        return Err(CliError::AnyNatWithOther);
    }
    let pairs = check_commands(parsed)?;
    if pairs {
        check_address_pairs(parsed)?;
    }
    let Some((command, table)) = parsed.command else {
        return Ok(());
    };
    if command == Command::Help {
        return Ok(());
    }
    if let Some(name) = parsed.discarded_option {
        return Err(CliError::Illegal(name));
    }
    if let Some(spec) = parsed.protocol.and_then(|protocol| protocol.spec) {
        protocols::check(spec, &parsed.protocol_values, command, table)?;
    }
    check_combinations(parsed, command, table)
}

/// Returns true if counters are requested as JSON or with columns, or an explanation of any command as JSON, which
/// `conntrack` does not have.
fn own_form_alone(parsed: &ParsedOptions) -> bool {
    let counts = matches!(parsed.command, Some((Command::Count | Command::Statistics, _)));
    let columned = [Output::TABLE, Output::CSV, Output::TSV].contains(&parsed.output);
    (counts || parsed.given.contains(OptionKey::Explain)) && parsed.output == Output::JSON || counts && columned
}

/// Checks every option against the command. Returns true if the command requires a pair of addresses.
fn check_commands(parsed: &ParsedOptions) -> Result<bool, CliError> {
    let mut pairs = false;
    for spec in &OPTIONS {
        match (options::legality(spec, parsed.command), parsed.given.contains(spec.key)) {
            (b'R', false) => return Err(CliError::Missing(spec.name())),
            (b'.', true) if spec.key == OptionKey::Output && own_form_alone(parsed) => {}
            (b'.', true) => return Err(CliError::Illegal(spec.name())),
            (b'T', _) => pairs = true,
            _ => {}
        }
    }
    Ok(pairs)
}

/// Checks that both addresses of one direction are given.
fn check_address_pairs(parsed: &ParsedOptions) -> Result<(), CliError> {
    let both = |keys: [OptionKey; 2]| keys.map(|key| parsed.given.contains(key));
    let original = both([OptionKey::Source, OptionKey::Destination]);
    let reply = both([OptionKey::ReplySource, OptionKey::ReplyDestination]);
    if original == [true; 2] || reply == [true; 2] {
        Ok(())
    } else if original != [false; 2] || reply == [false; 2] {
        Err(CliError::IncompletePair("src", "dst"))
    } else {
        Err(CliError::IncompletePair("reply-src", "reply-dst"))
    }
}

/// Checks rules that the table of options cannot express.
fn check_combinations(parsed: &ParsedOptions, command: Command, table: Table) -> Result<(), CliError> {
    let given = parsed.given;
    if command == Command::List && table == Table::Conntrack && given.contains(OptionKey::Zero) && compares(parsed) {
        return Err(CliError::ZeroWithFilter);
    }
    // `conntrack` silently does not zero the counters of these tables.
    if parsed.own_name && given.contains(OptionKey::Zero) && matches!(table, Table::Dying | Table::Unconfirmed) {
        return Err(CliError::Illegal("zero"));
    }
    if given.contains_any(&options::AGGREGATING) {
        let other = Output::NAMES.iter().chain(&[(Output::COMPLETE, "complete")]);
        if let Some((_, name)) = other.into_iter().find(|(other, _)| parsed.output.contains(*other)) {
            return Err(CliError::GroupsAs(name));
        }
        if given.contains(OptionKey::Columns) {
            return Err(CliError::ColumnsOfGroups);
        }
    }
    if command == Command::List && given.contains(OptionKey::Zero) && given.contains(OptionKey::DryRun) {
        return Err(CliError::DryZero);
    }
    if given.contains(OptionKey::BufferSize)
        && given.contains(OptionKey::BufferMax)
        && parsed.buffer_size > parsed.buffer_max
    {
        return Err(CliError::BufferAboveMax { size: parsed.buffer_size, max: parsed.buffer_max });
    }
    if table != Table::Expect {
        if given.contains(OptionKey::MaskSource) && !given.contains(OptionKey::Source) {
            return Err(CliError::MaskAlone { mask: "mask-src", address: "src" });
        }
        if given.contains(OptionKey::MaskDestination) && !given.contains(OptionKey::Destination) {
            return Err(CliError::MaskAlone { mask: "mask-dst", address: "dst" });
        }
    }
    for (key, name) in [(OptionKey::Columns, "columns"), (OptionKey::NoHeader, "no-header")] {
        if given.contains(key) && !parsed.output.contains(Output::COLUMNED) {
            return Err(CliError::NoColumns(name));
        }
    }
    if parsed.output.contains(Output::COMPLETE) && !parsed.output.contains(Output::SAVE) {
        return Err(CliError::CompleteAlone);
    }
    if parsed.output.contains(Output::COMPLETE) && table == Table::Expect {
        return Err(CliError::CompleteExpectations);
    }
    if given.contains(OptionKey::Labels) && given.contains_any(&[OptionKey::LabelAdd, OptionKey::LabelDelete]) {
        return Err(CliError::LabelsTwice);
    }
    if let Some(extra) = &parsed.extra {
        extra.check(command, parsed.protocol.map(|protocol| protocol.number), parsed.family)?;
    }
    if given.contains(OptionKey::AllNetns) && parsed.plugins.iter().any(|plugin| plugin.grants.acts()) {
        return Err(CliError::AllNetnsWithGrant);
    }
    let status = parsed.status;
    if command == Command::Delete
        && given.contains(OptionKey::Status)
        && status.set | status.clear == 0
        && !status.unset
    {
        return Err(CliError::StatusSelectsAll(parsed.status_text.clone()));
    }
    Ok(())
}
