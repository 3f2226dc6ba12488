//! Why a request is refused.

use thiserror::Error;

use super::{MAX_LENGTH, MIN_LENGTH};
use crate::{decode::attribute::Path, encode::missing_names};

/// The rule that a proposed request breaks. `path` is that of an attribute, as in `columns.raw-attributes.paths`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProposalError {
    /// The request is shorter than its headers, or longer than any that the encoder makes.
    #[error("a request of {length} bytes; one has {MIN_LENGTH} to {MAX_LENGTH}")]
    Length {
        /// Its length.
        length: usize,
    },
    /// `nlmsg_len` is not the length of the request.
    #[error("a request of {length} bytes whose header claims {claimed}")]
    ClaimedLength {
        /// The length in the header.
        claimed: u32,
        /// The length of the request.
        length: usize,
    },
    /// `nlmsg_type` is none that may be proposed.
    #[error("message type {message_type:#06x} cannot be proposed")]
    MessageType {
        /// The type.
        message_type: u16,
    },
    /// `nlmsg_flags` are none that the encoder sets for this type.
    #[error("message flags {flags:#06x} are none of a request that can be proposed")]
    Flags {
        /// The flags.
        flags: u16,
    },
    /// `nlmsg_seq` is not 0: the process that sends the request numbers it.
    #[error("sequence number {sequence} is not 0")]
    Sequence {
        /// The number.
        sequence: u32,
    },
    /// `nlmsg_pid` is not 0.
    #[error("port {port} is not 0")]
    Port {
        /// The port.
        port: u32,
    },
    /// `nfgen_family` is neither IPv4 nor IPv6.
    #[error("address family {family} is neither 2 (IPv4) nor 10 (IPv6)")]
    Family {
        /// The family.
        family: u8,
    },
    /// `version` is not 0. With version 1 the kernel applies a deletion to a whole family.
    #[error("version {version} of the netfilter header is not 0")]
    Version {
        /// The version.
        version: u8,
    },
    /// `res_id` is not 0.
    #[error("resource {resource} of the netfilter header is not 0")]
    Resource {
        /// The number.
        resource: u16,
    },
    /// Bytes are left, but too few for an attribute's header.
    #[error("in {}: {left} bytes are left, too few for an attribute", Path(*path))]
    AttributeHeader {
        /// The container.
        path: u64,
        /// Number of bytes left in it.
        left: usize,
    },
    /// An attribute is shorter than its header, or exceeds its container with its padding.
    #[error("{} claims {length} bytes, but {left} are left", Path(*path))]
    AttributeLength {
        /// The attribute.
        path: u64,
        /// The length in its header.
        length: u16,
        /// Number of bytes left in its container.
        left: usize,
    },
    /// An attribute has flags other than NLA_F_NESTED of a nest.
    #[error("the flags of {} are {flags:#06x}, not {expected:#06x}", Path(*path))]
    AttributeFlags {
        /// The attribute.
        path: u64,
        /// Its flags.
        flags: u16,
        /// The flags of such an attribute.
        expected: u16,
    },
    /// The padding of an attribute is not 0.
    #[error("the padding of {} is not 0", Path(*path))]
    Padding {
        /// The attribute.
        path: u64,
    },
    /// An attribute's payload has a length that it cannot have.
    #[error("{} has {length} bytes; it has {least} to {most}", Path(*path))]
    PayloadLength {
        /// The attribute.
        path: u64,
        /// The payload's length.
        length: usize,
        /// Its minimum.
        least: usize,
        /// Its maximum.
        most: usize,
    },
    /// A set of labels is no sequence of 32-bit words.
    #[error("{} has {length} bytes, which are no words of four bytes", Path(*path))]
    Words {
        /// The attribute.
        path: u64,
        /// The payload's length.
        length: usize,
    },
    /// An attribute that no such request has.
    #[error("{} does not belong into such a request", Path(*path))]
    Unknown {
        /// The attribute.
        path: u64,
    },
    /// An attribute occurs twice.
    #[error("{} is repeated", Path(*path))]
    Repeated {
        /// The attribute.
        path: u64,
    },
    /// An attribute is behind one that it precedes.
    #[error("{} is out of order", Path(*path))]
    Order {
        /// The attribute.
        path: u64,
    },
    /// An attribute is missing.
    #[error("{} is missing", Path(*path))]
    Missing {
        /// The attribute.
        path: u64,
    },
    /// An attribute without meaning: an empty nest, or a value for which the encoder leaves the attribute out.
    #[error("{} has no meaning", Path(*path))]
    Superfluous {
        /// The attribute.
        path: u64,
    },
    /// A tuple that has to be complete is not.
    #[error("the tuple in {} lacks {}", Path(*path), missing_names(*missing))]
    IncompleteTuple {
        /// The attribute of the tuple.
        path: u64,
        /// The fields that it lacks, as bits of the original direction.
        missing: u64,
    },
    /// The two directions have different protocols.
    #[error("the original tuple is of protocol {original}, and the reply tuple of {reply}")]
    Protocols {
        /// The protocol of the original tuple.
        original: u8,
        /// The protocol of the reply tuple.
        reply: u8,
    },
    /// A status that the encoder does not write: without CONFIRMED, or in a creation with a bit that the kernel
    /// refuses.
    #[error("status {status:#x}: such a request has the bit CONFIRMED and none of {forbidden:#x}")]
    Status {
        /// The status.
        status: u32,
        /// Bits that such a request cannot have.
        forbidden: u32,
    },
    /// A helper's name does not end with its only NUL.
    #[error("the name of a helper has no NUL at its end, or another one before it")]
    HelperName,
}
