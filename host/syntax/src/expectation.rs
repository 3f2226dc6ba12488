//! From what was typed to the one expectation that is created, looked up or deleted.

use std::net::IpAddr;

use super::options::Key;
use super::request::Request;
use super::settings::Command;
use super::values;
use flowgate_model::{Addresses, Expectations, Tuples, expectation_field as field};

/// The row for I, D and G; no row for the others.
pub(crate) fn build(request: &Request, command: Command, family: Option<u8>) -> Expectations {
    if !matches!(command, Command::Create | Command::Delete | Command::Get) {
        return Expectations::default();
    }
    let given = &request.protocol_values;
    let protocol = request.protocol.map_or(0, |protocol| protocol.number);
    let words = request.protocol.is_some_and(|protocol| protocol.handler.is_some());
    let named = tuples(request.source, request.destination, given.original);
    let mut row = Expectations {
        length: 1,
        family: vec![family.unwrap_or(0)],
        protocol: vec![protocol],
        ..Expectations::default()
    };
    let mut has = field::EXPECTED | if words { field::EXPECTED_L4 } else { 0 };
    if command == Command::Create {
        row.expected = tuples(request.tuple_source, request.tuple_destination, given.tuple);
        row.mask = tuples(request.mask_source, request.mask_destination, given.mask);
        row.mask_protocol = vec![protocol];
        row.master = named;
        row.master_protocol = vec![protocol];
        has |= field::MASK | field::MASTER;
        has |= if words { field::MASK_L4 | field::MASTER_L4 } else { 0 };
        if request.given.contains(Key::Timeout) {
            row.timeout = vec![request.timeout];
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
        let halves = address.map(|address| values::halves(&address));
        halves.map_or_else(Addresses::default, |halves| Addresses { hi: vec![halves.hi], lo: vec![halves.lo] })
    };
    let [source_l4, destination_l4] = words;
    Tuples {
        source: addresses(source),
        destination: addresses(destination),
        source_l4: vec![source_l4],
        destination_l4: vec![destination_l4],
    }
}
