//! Which options go with which command, and with each other. The first problem in a fixed order is the one reported.

use super::error::CliError;
use super::options::{self, Key, OPTIONS, Selection};
use super::protocols;
use super::request::Request;
use super::settings::{Command, Output, Table};

/// Whether an option was given that compares flows with the command line.
pub(crate) fn compares(request: &Request) -> bool {
    options::any_given(request.given, |spec| spec.selection == Selection::Compares)
}

/// Checks what was typed.
pub(crate) fn check(request: &Request) -> Result<(), CliError> {
    let given = request.given;
    if given.contains(Key::AnyNat) && given.contains_any(&[Key::SourceNat, Key::DestinationNat]) {
        return Err(CliError::AnyNatWithOther);
    }
    let pairs = matrix(request)?;
    if pairs {
        address_pairs(request)?;
    }
    let Some((command, table)) = request.command else {
        return Ok(());
    };
    if command == Command::Help {
        return Ok(());
    }
    if let Some(name) = request.stray {
        return Err(CliError::Illegal(name));
    }
    if let Some(handler) = request.protocol.and_then(|protocol| protocol.handler) {
        protocols::check(handler, &request.protocol_values, command, table)?;
    }
    values(request, command, table)
}

/// Whether counters, or an explanation of any command, are asked for as JSON, which the classic program does not know.
fn json_alone(request: &Request) -> bool {
    let counts = matches!(request.command, Some((Command::Count | Command::Statistics, _)));
    (counts || request.given.contains(Key::Explain)) && request.output == Output::JSON
}

/// Checks every option against the command. Returns whether the command wants a pair of addresses.
fn matrix(request: &Request) -> Result<bool, CliError> {
    let mut pairs = false;
    for spec in &OPTIONS {
        match (options::legality(spec, request.command), request.given.contains(spec.key)) {
            (b'R', false) => return Err(CliError::Missing(spec.name())),
            (b'.', true) if spec.key == Key::Output && json_alone(request) => {}
            (b'.', true) => return Err(CliError::Illegal(spec.name())),
            (b'T', _) => pairs = true,
            _ => {}
        }
    }
    Ok(pairs)
}

/// Both addresses of one direction must be given.
fn address_pairs(request: &Request) -> Result<(), CliError> {
    let both = |keys: [Key; 2]| keys.map(|key| request.given.contains(key));
    let original = both([Key::Source, Key::Destination]);
    let reply = both([Key::ReplySource, Key::ReplyDestination]);
    if original == [true; 2] || reply == [true; 2] {
        Ok(())
    } else if original != [false; 2] || reply == [false; 2] {
        Err(CliError::Both("src", "dst"))
    } else {
        Err(CliError::Both("reply-src", "reply-dst"))
    }
}

/// What the tables of options cannot say.
fn values(request: &Request, command: Command, table: Table) -> Result<(), CliError> {
    let given = request.given;
    if command == Command::List && table == Table::Conntrack && given.contains(Key::Zero) && compares(request) {
        return Err(CliError::ZeroWithFilter);
    }
    // There `conntrack` sets nothing to zero, and says nothing of it.
    if request.own && given.contains(Key::Zero) && matches!(table, Table::Dying | Table::Unconfirmed) {
        return Err(CliError::Illegal("zero"));
    }
    if command == Command::List && given.contains(Key::Zero) && given.contains(Key::DryRun) {
        return Err(CliError::DryZero);
    }
    if given.contains(Key::BufferSize) && given.contains(Key::BufferMax) && request.buffer_size > request.buffer_max {
        return Err(CliError::BufferAboveMax { size: request.buffer_size, max: request.buffer_max });
    }
    if table != Table::Expect {
        if given.contains(Key::MaskSource) && !given.contains(Key::Source) {
            return Err(CliError::MaskAlone { mask: "mask-src", address: "src" });
        }
        if given.contains(Key::MaskDestination) && !given.contains(Key::Destination) {
            return Err(CliError::MaskAlone { mask: "mask-dst", address: "dst" });
        }
    }
    if request.output.contains(Output::COMPLETE) && !request.output.contains(Output::SAVE) {
        return Err(CliError::CompleteAlone);
    }
    if request.output.contains(Output::COMPLETE) && table == Table::Expect {
        return Err(CliError::CompleteExpectations);
    }
    if given.contains(Key::Labels) && given.contains_any(&[Key::LabelAdd, Key::LabelDelete]) {
        return Err(CliError::LabelsTwice);
    }
    if let Some(details) = &request.details {
        details.check(command, request.protocol.map(|protocol| protocol.number), request.family)?;
    }
    if given.contains(Key::AllNetns) && request.plugins.iter().any(|plugin| plugin.grants.acts()) {
        return Err(CliError::AllNetnsWithGrant);
    }
    let status = request.status;
    if command == Command::Delete && given.contains(Key::Status) && status.set | status.clear == 0 && !status.unset {
        return Err(CliError::StatusSelectsAll(request.status_text.clone()));
    }
    Ok(())
}
