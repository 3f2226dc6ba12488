//! From parsed options to the expectation that is created, looked up or deleted.

use std::net::IpAddr;

use super::options::OptionKey;
use super::parsed_options::ParsedOptions;
use super::settings::Command;
use super::values;
use flowgate_model::{Addresses, Expectations, Tuples, expectation_field as field};

/// Returns a table of one row for -I, -D and -G, and an empty table for the other commands.
pub(crate) fn build(parsed: &ParsedOptions, command: Command, family: Option<u8>) -> Expectations {
    if !matches!(command, Command::Create | Command::Delete | Command::Get) {
        return Expectations::default();
    }
    let given = &parsed.protocol_values;
    let protocol = parsed.protocol.map_or(0, |protocol| protocol.number);
    let words = parsed.protocol.is_some_and(|protocol| protocol.spec.is_some());
    let named = tuples(parsed.source, parsed.destination, given.original);
    let mut row = Expectations {
        length: 1,
        family: vec![family.unwrap_or(0)],
        protocol: vec![protocol],
        ..Expectations::default()
    };
    let mut has = field::EXPECTED | if words { field::EXPECTED_L4 } else { 0 };
    if command == Command::Create {
        row.expected = tuples(parsed.tuple_source, parsed.tuple_destination, given.tuple);
        row.mask = tuples(parsed.mask_source, parsed.mask_destination, given.mask);
        row.mask_protocol = vec![protocol];
        row.master = named;
        row.master_protocol = vec![protocol];
        has |= field::MASK | field::MASTER;
        has |= if words { field::MASK_L4 | field::MASTER_L4 } else { 0 };
        if parsed.given.contains(OptionKey::Timeout) {
            row.timeout = vec![parsed.timeout];
            has |= field::TIMEOUT;
        }
    } else {
        row.expected = named;
    }
    row.has = vec![has];
    row
}

fn tuples(source: Option<IpAddr>, destination: Option<IpAddr>, words: [u16; 2]) -> Tuples {
    let addresses = |address: Option<IpAddr>| {
        let to_model_address = address.map(|address| values::to_model_address(&address));
        to_model_address.map_or_else(Addresses::default, |to_model_address| Addresses {
            hi: vec![to_model_address.hi],
            lo: vec![to_model_address.lo],
        })
    };
    let [source_l4, destination_l4] = words;
    Tuples {
        source: addresses(source),
        destination: addresses(destination),
        source_l4: vec![source_l4],
        destination_l4: vec![destination_l4],
    }
}
