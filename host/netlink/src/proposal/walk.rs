//! A strict walk over the attributes of a container.

use super::ProposalError;
use crate::{
    decode::attribute::child,
    wire::{ATTRIBUTE_HEADER, NESTED, TYPE_MASK, align},
};

/// Takes the attributes of a container in the order in which the encoder writes them.
pub(super) struct Walk<'a> {
    rest: &'a [u8],
    /// The container; 0 for the message itself.
    path: u64,
    /// The types below 64 that were taken, and those that were asked for when another one was next, as bits.
    taken: u64,
    skipped: u64,
}

/// An attribute: its type with flags, its payload, and what follows it.
struct Next<'a> {
    kind: u16,
    payload: &'a [u8],
    rest: &'a [u8],
}

/// Returns a type as a bit; none for a type that nothing asks for.
fn bit(kind: u16) -> u64 {
    1u64.checked_shl(kind.into()).unwrap_or_default()
}

impl<'a> Walk<'a> {
    /// Returns a walk over the attributes of a message.
    pub(super) fn new(attributes: &'a [u8]) -> Self {
        Walk { rest: attributes, path: 0, taken: 0, skipped: 0 }
    }

    /// Returns the path of an attribute in the container.
    pub(super) fn path(&self, kind: u16) -> u64 {
        child(self.path, kind)
    }

    fn peek(&self) -> Result<Option<Next<'a>>, ProposalError> {
        let left = self.rest.len();
        if left == 0 {
            return Ok(None);
        }
        let Some([l0, l1, k0, k1]) = self.rest.first_chunk::<ATTRIBUTE_HEADER>() else {
            return Err(ProposalError::AttributeHeader { path: self.path, left });
        };
        let (length, kind) = (u16::from_ne_bytes([*l0, *l1]), u16::from_ne_bytes([*k0, *k1]));
        let end = usize::from(length);
        let path = self.path(kind & TYPE_MASK);
        // Every attribute is padded, the last one too.
        let parts = (self.rest.get(ATTRIBUTE_HEADER..end), self.rest.get(end..align(end)), self.rest.get(align(end)..));
        let (Some(payload), Some(padding), Some(rest)) = parts else {
            return Err(ProposalError::AttributeLength { path, length, left });
        };
        if padding.iter().any(|&byte| byte != 0) {
            return Err(ProposalError::Padding { path });
        }
        Ok(Some(Next { kind, payload, rest }))
    }

    /// Takes the payload of the next attribute if it is of this type.
    fn take(&mut self, kind: u16, expected: u16) -> Result<Option<&'a [u8]>, ProposalError> {
        let Some(next) = self.peek()?.filter(|next| next.kind & TYPE_MASK == kind) else {
            self.skipped |= bit(kind);
            return Ok(None);
        };
        let (path, flags) = (self.path(kind), next.kind & !TYPE_MASK);
        if self.taken & bit(kind) != 0 {
            return Err(ProposalError::Repeated { path });
        }
        if flags != expected {
            return Err(ProposalError::AttributeFlags { path, flags, expected });
        }
        self.taken |= bit(kind);
        self.rest = next.rest;
        Ok(Some(next.payload))
    }

    /// Takes the next attribute if it is a nest of this type.
    pub(super) fn nest(&mut self, kind: u16) -> Result<Option<Walk<'a>>, ProposalError> {
        let path = self.path(kind);
        Ok(self.take(kind, NESTED)?.map(|payload| Walk { path, ..Walk::new(payload) }))
    }

    /// Takes the next attribute if it is of this type: bytes of these lengths.
    pub(super) fn bytes(&mut self, kind: u16, least: usize, most: usize) -> Result<Option<&'a [u8]>, ProposalError> {
        let path = self.path(kind);
        match self.take(kind, 0)? {
            Some(payload) if !(least..=most).contains(&payload.len()) => {
                Err(ProposalError::PayloadLength { path, length: payload.len(), least, most })
            }
            payload => Ok(payload),
        }
    }

    /// Takes the next attribute if it is of this type: exactly so many bytes.
    pub(super) fn array<const N: usize>(&mut self, kind: u16) -> Result<Option<[u8; N]>, ProposalError> {
        Ok(self.bytes(kind, N, N)?.and_then(|payload| payload.try_into().ok()))
    }

    /// Takes the next attribute, which must be of this type, and exactly so many bytes.
    pub(super) fn required<const N: usize>(&mut self, kind: u16) -> Result<[u8; N], ProposalError> {
        self.array(kind)?.ok_or(ProposalError::Missing { path: self.path(kind) })
    }

    /// Returns true if the container is empty, or all of it was taken.
    pub(super) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that nothing is left.
    pub(super) fn end(self) -> Result<(), ProposalError> {
        let Some(next) = self.peek()? else { return Ok(()) };
        let kind = next.kind & TYPE_MASK;
        let path = self.path(kind);
        Err(if self.taken & bit(kind) != 0 {
            ProposalError::Repeated { path }
        } else if self.skipped & bit(kind) != 0 {
            ProposalError::Order { path }
        } else {
            ProposalError::Unknown { path }
        })
    }
}
