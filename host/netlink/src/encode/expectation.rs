//! Encoding of requests about expectations: create, delete, get, list; and the flush.

use netlink_packet_core::DefaultNla;

use super::{EncodeError, ExpectationEntry, checked_family, find, nul_terminated, text};
use crate::request::{Request, RequestHeader};
use crate::tuple::{TupleFields, nest};
use crate::wire::{self, expectation, expectation_message};
use flowgate_model::{Tuples, at, expectation_field as bits, field, protocol};

/// Maximum length of a helper's name, NF_CT_HELPER_NAME_LEN without the NUL.
const HELPER_NAME: usize = 15;
/// Maximum length of a function's name.
const FUNCTION_NAME: usize = 255;

/// Encodes a request to create an expectation with the fields of `entry`. If the expectation already exists, the kernel
/// answers EEXIST if `exclusive` is set, else it updates the timeout. The kernel requires expected tuple, mask and
/// master.
///
/// # Errors
/// The kernel does not support the family or accept a name.
pub fn create(entry: ExpectationEntry<'_>, exclusive: bool) -> Result<Request, EncodeError> {
    let exclusive = if exclusive { wire::EXCLUSIVE } else { 0 };
    let header = RequestHeader {
        flags: wire::CREATE | wire::ACK | exclusive,
        family: checked_family(entry.family)?,
        version: 0,
    };
    let (batch, row) = (entry.batch, entry.row);
    let number = |kind, column: &[u32]| DefaultNla::new(kind, at(column, row).to_be_bytes().to_vec());
    let mut attributes = tuples(&entry);
    if entry.has(bits::NAT)
        && let Some(nat) = &batch.nat
        && let Some(index) = find(&nat.rows, row)
    {
        let tuple = direction(&nat.tuple, index, entry.family, at(&nat.protocol, index), true);
        let direction = at(&nat.direction, index).to_be_bytes().to_vec();
        attributes.push(nest(
            expectation::NAT,
            &[DefaultNla::new(expectation::NAT_DIR, direction), tuple.to_attribute(expectation::NAT_TUPLE)],
        ));
    }
    if entry.has(bits::TIMEOUT) {
        attributes.push(number(expectation::TIMEOUT, &batch.timeout));
    }
    if entry.has(bits::FLAGS) {
        attributes.push(number(expectation::FLAGS, &batch.flags));
    }
    if entry.has(bits::CLASS) {
        attributes.push(number(expectation::CLASS, &batch.class_number));
    }
    if entry.has(bits::HELPER)
        && let Some(helper) = text(&batch.helper, row)
    {
        attributes.push(DefaultNla::new(
            expectation::HELP_NAME,
            nul_terminated("the name of a helper", helper, HELPER_NAME)?,
        ));
    }
    if entry.has(bits::FUNCTION)
        && let Some(function) = text(&batch.function, row)
    {
        attributes
            .push(DefaultNla::new(expectation::FN, nul_terminated("the name of a function", function, FUNCTION_NAME)?));
    }
    attributes.extend(zone(&entry));
    Ok(Request::expectations(expectation_message::NEW, header, attributes))
}

/// Encodes a request for the expectation with the expected tuple of `entry`, or without one with its master tuple,
/// which the kernel also looks up among the expected tuples. The answer is the expectation, without an acknowledgement.
///
/// # Errors
/// The kernel does not support the family.
pub fn get(entry: ExpectationEntry<'_>) -> Result<Request, EncodeError> {
    let header = RequestHeader { flags: 0, family: checked_family(entry.family)?, version: 0 };
    let mut attributes = tuples(&entry);
    attributes.extend(id(&entry));
    attributes.extend(zone(&entry));
    Ok(Request::expectations(expectation_message::GET, header, attributes))
}

/// Encodes a request for the expectations of the master whose tuple is in `entry`. It is a dump, which may be answered
/// with an acknowledgement only.
///
/// # Errors
/// The kernel does not support the family, or the master's tuple is incomplete.
pub fn dump_by_master(entry: ExpectationEntry<'_>) -> Result<Request, EncodeError> {
    let header = RequestHeader { flags: wire::DUMP | wire::ACK, family: checked_family(entry.family)?, version: 0 };
    let master = master(&entry);
    if master.missing() != 0 {
        return Err(EncodeError::IncompleteTuple { missing: master.missing() });
    }
    let mut attributes = vec![master.to_attribute(expectation::MASTER)];
    attributes.extend(zone(&entry));
    Ok(Request::expectations(expectation_message::GET, header, attributes))
}

/// Encodes a request to delete the expectation with the expected tuple of `entry`; with an `id`, only if the id is the
/// same.
///
/// # Errors
/// The tuple is incomplete: without a tuple the kernel deletes everything.
pub fn delete(entry: ExpectationEntry<'_>) -> Result<Request, EncodeError> {
    let header = RequestHeader { flags: wire::ACK, family: checked_family(entry.family)?, version: 0 };
    let expected = expected(&entry);
    if expected.missing() != 0 {
        return Err(EncodeError::IncompleteTuple { missing: expected.missing() });
    }
    let mut attributes = vec![expected.to_attribute(expectation::TUPLE)];
    attributes.extend(id(&entry));
    attributes.extend(zone(&entry));
    Ok(Request::expectations(expectation_message::DELETE, header, attributes))
}

/// Encodes a request to delete all expectations of a helper, of both families.
///
/// # Errors
/// The name is invalid or empty: without a name the kernel deletes everything.
pub fn delete_by_helper(helper: &[u8]) -> Result<Request, EncodeError> {
    const WHAT: &str = "the name of a helper";
    if helper.is_empty() {
        return Err(EncodeError::Name { what: WHAT });
    }
    let header = RequestHeader { flags: wire::ACK, family: 0, version: 0 };
    let attributes = vec![DefaultNla::new(expectation::HELP_NAME, nul_terminated(WHAT, helper, HELPER_NAME)?)];
    Ok(Request::expectations(expectation_message::DELETE, header, attributes))
}

/// Encodes a request to delete **all** expectations. `family` is 0, or each family in turn for a kernel that refuses 0;
/// other kernels ignore it.
#[must_use]
pub fn flush(family: u8) -> Request {
    Request::expectations(
        expectation_message::DELETE,
        RequestHeader { flags: wire::ACK, family, version: 0 },
        Vec::new(),
    )
}

/// Encodes those of master, expected tuple and mask that are set.
fn tuples(entry: &ExpectationEntry<'_>) -> Vec<DefaultNla> {
    let mut attributes = Vec::new();
    if entry.has(bits::MASTER) {
        attributes.push(master(entry).to_attribute(expectation::MASTER));
    }
    if entry.has(bits::EXPECTED) {
        attributes.push(expected(entry).to_attribute(expectation::TUPLE));
    }
    if entry.has(bits::MASK) {
        let (batch, row) = (entry.batch, entry.row);
        // The mask has the attributes of the expected flow's protocol: ports for TCP, identifiers for ICMP.
        let number = match at(&batch.mask_protocol, row) {
            0 | u8::MAX => at(&batch.protocol, row),
            number => number,
        };
        let mask = direction(&batch.mask, row, entry.family, number, entry.has(bits::MASK_L4));
        attributes.push(mask.to_attribute(expectation::MASK));
    }
    attributes
}

fn expected(entry: &ExpectationEntry<'_>) -> TupleFields {
    let batch = entry.batch;
    let has = entry.has(bits::EXPECTED);
    if !has {
        return TupleFields::default();
    }
    let number = at(&batch.protocol, entry.row);
    direction(&batch.expected, entry.row, entry.family, number, entry.has(bits::EXPECTED_L4))
}

fn master(entry: &ExpectationEntry<'_>) -> TupleFields {
    let batch = entry.batch;
    if !entry.has(bits::MASTER) {
        return TupleFields::default();
    }
    let number = at(&batch.master_protocol, entry.row);
    direction(&batch.master, entry.row, entry.family, number, entry.has(bits::MASTER_L4))
}

fn direction(tuples: &Tuples, row: usize, family: u8, number: u8, l4: bool) -> TupleFields {
    let l4 = l4 && (protocol::is_icmp(number) || protocol::has_ports(number) || number == protocol::GRE);
    let has = field::ORIGINAL_ADDRESSES | field::PROTOCOL | if l4 { field::ORIGINAL_L4 } else { 0 };
    TupleFields::new(tuples, row, family, number, 0, has)
}

fn id(entry: &ExpectationEntry<'_>) -> Option<DefaultNla> {
    entry.has(bits::ID).then(|| DefaultNla::new(expectation::ID, at(&entry.batch.id, entry.row).to_be_bytes().to_vec()))
}

fn zone(entry: &ExpectationEntry<'_>) -> Option<DefaultNla> {
    entry
        .has(bits::ZONE)
        .then(|| DefaultNla::new(expectation::ZONE, at(&entry.batch.zone, entry.row).to_be_bytes().to_vec()))
}
