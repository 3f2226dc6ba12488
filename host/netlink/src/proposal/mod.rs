//! Requests that are proposed by a process that is not trusted.
//!
//! Such a process encodes an action as a request to the kernel, with the encoder that is here ([`propose`]), and sends
//! the bytes to a process that may change the table. That one reads them ([`read`]), judges the row, and sends the
//! kernel a request that it has encoded itself: no byte of the proposal reaches the kernel.
//!
//! Reading is strict, since it is the boundary. Everything is refused that the encoder does not make: an unknown,
//! repeated, misplaced or superfluous attribute, a length, flag or value that it does not write, padding that is not 0,
//! and a request without a complete original tuple (the kernel takes a deletion without one as a request to delete the
//! whole table). What is accepted is one row, which is encoded as the same bytes again: a request has one meaning, and
//! a meaning one request. The attributes of security modules (CTA_SECMARK, CTA_SECCTX) are never encoded, and thus
//! unknown. CTA_TUPLE_MASTER is accepted, since plugins may ask for it: who judges the row refuses it with its reason.
//!
//! Nothing is allocated but the row, which is smaller than [`MAX_LENGTH`] and some 40 columns of one element, and the
//! work is proportional to the length of the request.

mod error;
mod row;
#[cfg(test)]
mod tests;
mod walk;

use thiserror::Error;

use crate::{
    EncodeError, FlowEntry, Request,
    encode::flows::{self, IfExists},
    wire::{self, MESSAGE_HEADER, NETFILTER_HEADER, SUBSYSTEM_FLOWS, flow_message},
};
use flowgate_model::{Flows, action, family};
use row::Row;
use walk::Walk;

pub use error::ProposalError;

/// Length of the headers of a request, its minimum.
pub const MIN_LENGTH: usize = MESSAGE_HEADER + NETFILTER_HEADER;
/// Maximum length of a request that is read, in bytes.
///
/// The longest one that the encoder makes of a row whose texts are not longer than the kernel's has 912 bytes: the
/// creation or update of a TCP flow of IPv6 with all that can be requested, of which 284 are a helper with its name and
/// 256 bytes of data, 168 are the tuples, 128 the translations, 92 the tuple of an ICMPv6 master with its zone, and 40
/// the labels and their mask. The rest up to a round number admits one more field without a change of the protocol.
pub const MAX_LENGTH: usize = 1024;

/// What a process proposes to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The kind, see [`action`].
    pub kind: u8,
    /// One row: the tuples, zones and id that name the flow, and the values that are requested, as in the values of a
    /// plugin's actions. The original tuple is complete; for a creation the reply tuple is too. A status is without
    /// CONFIRMED, which every request has and no request changes.
    pub flows: Flows,
}

/// Why an action cannot be proposed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// There is no such kind of action.
    #[error("there is no action {0} on flows")]
    Kind(u8),
    /// Neither a row nor values are given where they are needed.
    #[error("the action names no row")]
    NoRow,
    /// The row cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The request would be refused by its reader.
    #[error(transparent)]
    Refused(#[from] ProposalError),
}

/// Encodes an action on the flow of `target`, or of `values`, as a proposal. It is the request that the action consists
/// of; where a flow may be updated, it has the id of that flow in addition, which the kernel ignores there, but the
/// judge of the action must not.
///
/// # Errors
/// The row cannot be encoded, or the request would be refused by [`read`].
pub fn propose(
    kind: u8,
    target: Option<FlowEntry<'_>>,
    values: Option<FlowEntry<'_>>,
) -> Result<Request, ProposeError> {
    let request = encode(kind, target, values)?;
    read(request.as_bytes())?;
    Ok(request)
}

fn encode(kind: u8, target: Option<FlowEntry<'_>>, values: Option<FlowEntry<'_>>) -> Result<Request, ProposeError> {
    let named = || target.or(values).ok_or(ProposeError::NoRow);
    let made = || values.or(target).ok_or(ProposeError::NoRow);
    Ok(match kind {
        action::DELETE => flows::delete(named()?),
        action::UPDATE => flows::update_with_id(named()?, values.ok_or(ProposeError::NoRow)?),
        action::CREATE => flows::create(made()?, IfExists::Fail),
        action::CREATE_OR_UPDATE => flows::create_or_update_with_id(made()?),
        other => return Err(ProposeError::Kind(other)),
    }?)
}

impl Proposal {
    /// Encodes the proposal again, as the bytes that it was read from.
    ///
    /// # Errors
    /// The row was changed so that it cannot be encoded.
    pub fn encode(&self) -> Result<Request, ProposeError> {
        encode(self.kind, None, Some(FlowEntry::new(&self.flows, 0)?))
    }
}

/// Reads a request to delete, update or create a flow.
///
/// # Errors
/// The first rule that the request breaks.
pub fn read(request: &[u8]) -> Result<Proposal, ProposalError> {
    const ANSWERED: u16 = wire::REQUEST | wire::ACK;
    const EXCLUSIVE: u16 = ANSWERED | wire::CREATE | wire::EXCLUSIVE;
    const CREATE: u16 = ANSWERED | wire::CREATE;
    let header = Header::read(request)?;
    let kind = match (header.message, header.flags) {
        (flow_message::DELETE, ANSWERED) => action::DELETE,
        (flow_message::NEW, ANSWERED) => action::UPDATE,
        (flow_message::NEW, EXCLUSIVE) => action::CREATE,
        (flow_message::NEW, CREATE) => action::CREATE_OR_UPDATE,
        (flow_message::DELETE | flow_message::NEW, flags) => return Err(ProposalError::Flags { flags }),
        _ => return Err(header.unknown_type()),
    };
    let creates = matches!(kind, action::CREATE | action::CREATE_OR_UPDATE);
    let mut walk = Walk::new(header.attributes);
    let mut row = Row::new(header.family);
    row.key(&mut walk, kind)?;
    if kind != action::DELETE {
        row.values(&mut walk, creates)?;
    }
    walk.end()?;
    Ok(Proposal { kind, flows: row.finish() })
}

/// Reads a request for one flow (IPCTNL_MSG_CT_GET), as [`crate::encode::flows::get`] encodes it for an entry with a
/// complete original tuple. Returns one row with the tuple and zones.
///
/// # Errors
/// The first rule that the request breaks.
pub fn read_lookup(request: &[u8]) -> Result<Flows, ProposalError> {
    let header = Header::read(request)?;
    match (header.message, header.flags) {
        (flow_message::GET, wire::REQUEST) => {}
        (flow_message::GET, flags) => return Err(ProposalError::Flags { flags }),
        _ => return Err(header.unknown_type()),
    }
    let mut walk = Walk::new(header.attributes);
    let mut row = Row::new(header.family);
    row.lookup_key(&mut walk)?;
    walk.end()?;
    Ok(row.finish())
}

/// The headers of a request, as far as requests differ in them, and its attributes.
struct Header<'a> {
    message_type: u16,
    message: u8,
    flags: u16,
    family: u8,
    attributes: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(request: &'a [u8]) -> Result<Self, ProposalError> {
        let length = request.len();
        let (headers, attributes) = match request.split_first_chunk::<MIN_LENGTH>() {
            Some(parts) if length <= MAX_LENGTH => parts,
            _ => return Err(ProposalError::Length { length }),
        };
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3, family, version, r0, r1] = *headers;
        let claimed = u32::from_ne_bytes([l0, l1, l2, l3]);
        if usize::try_from(claimed) != Ok(length) {
            return Err(ProposalError::ClaimedLength { claimed, length });
        }
        let message_type = u16::from_ne_bytes([k0, k1]);
        let [subsystem, message] = message_type.to_be_bytes();
        let header = Header { message_type, message, flags: u16::from_ne_bytes([f0, f1]), family, attributes };
        if subsystem != SUBSYSTEM_FLOWS {
            return Err(header.unknown_type());
        }
        let sequence = u32::from_ne_bytes([s0, s1, s2, s3]);
        if sequence != 0 {
            return Err(ProposalError::Sequence { sequence });
        }
        let port = u32::from_ne_bytes([p0, p1, p2, p3]);
        if port != 0 {
            return Err(ProposalError::Port { port });
        }
        if !matches!(family, family::IPV4 | family::IPV6) {
            return Err(ProposalError::Family { family });
        }
        if version != 0 {
            return Err(ProposalError::Version { version });
        }
        let resource = u16::from_be_bytes([r0, r1]);
        if resource != 0 {
            return Err(ProposalError::Resource { resource });
        }
        Ok(header)
    }

    fn unknown_type(&self) -> ProposalError {
        ProposalError::MessageType { message_type: self.message_type }
    }
}
