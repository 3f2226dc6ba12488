//! One flow, decoded from its message into fields and slices on the stack, before anything is appended to the columns.
//! A malformed message therefore does not affect them.

use std::borrow::Cow;

use super::attribute::{Attributes, DecodeError, be16, be32, be64, byte, child, string};
use super::tuple::{AddressHalves, TupleRow, address};
use super::unknown::UnknownAttributes;
use crate::wire::{flow, part, protoinfo};
use flowgate_model::field;

/// The fields of a flow as the message has them. A field without its bit in `has` is zero.
#[derive(Debug, Default)]
pub(super) struct FlowRow<'a> {
    /// Bits of [`field`]; those of the tuples are set at the end of [`FlowRow::decode`].
    pub has: u64,
    pub original: TupleRow,
    pub reply: TupleRow,
    pub zone: u16,
    pub status: u32,
    pub timeout: u32,
    pub mark: u32,
    pub use_count: u32,
    pub id: u32,
    pub state: u8,
    pub window_scales: [u8; 2],
    pub tcp_flags: [u16; 2],
    pub vtags: [u32; 2],
    /// Packets and bytes of the original and of the reply direction.
    pub counters: [[u64; 2]; 2],
    pub start: u64,
    pub stop: u64,
    pub event_time: u64,
    /// Fields that few flows have; most rows do not pay for initialising them.
    pub rare: Option<RareRow<'a>>,
}

/// Fields that few flows have.
#[derive(Debug, Default)]
pub(super) struct RareRow<'a> {
    pub helper: &'a [u8],
    pub helper_info: &'a [u8],
    pub labels: &'a [u8],
    pub labels_mask: &'a [u8],
    pub security_context: &'a [u8],
    pub secmark: u32,
    pub mark_mask: u32,
    pub master: TupleRow,
    /// Position, offset before and after, of each direction.
    pub sequences: [[u32; 3]; 2],
    /// ISN, ITS, TSOFF.
    pub synproxy: [u32; 3],
    /// Role and handshake sequence number.
    pub dccp: (u8, u64),
    /// Of the source and of the destination.
    pub nat: [Nat; 2],
}

/// A translation requested by a creation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Nat {
    pub first: AddressHalves,
    pub last: AddressHalves,
    pub ports: [u16; 2],
}

/// The bits of the fields in CTA_PROTOINFO.
const PROTOINFO: u64 = field::STATE
    | field::ORIGINAL_WINDOW_SCALE
    | field::REPLY_WINDOW_SCALE
    | field::ORIGINAL_TCP_FLAGS
    | field::REPLY_TCP_FLAGS
    | field::ORIGINAL_VTAG
    | field::REPLY_VTAG
    | field::DCCP;

/// Assigns a parsed payload to a field if the field is not set yet and the payload has the field's length; otherwise
/// keeps the attribute as unknown.
macro_rules! assign {
    ($self:ident, $bit:expr, $parsed:expr => $place:expr, else $otherwise:expr) => {
        match $parsed {
            Some(value) if $self.set_once($bit) => $place = value,
            _ => $otherwise,
        }
    };
}

impl<'a> FlowRow<'a> {
    /// Sets a field's bit; returns false if it was set.
    #[inline(always)]
    fn set_once(&mut self, bit: u64) -> bool {
        let fresh = self.has & bit == 0;
        self.has |= bit;
        fresh
    }

    /// Returns the fields that few flows have, for writing.
    #[cold]
    fn rare(&mut self) -> &mut RareRow<'a> {
        self.rare.get_or_insert_default()
    }

    /// Decodes a message's attributes. Nests without a wanted field are skipped, unless unknown attributes are wanted.
    #[inline]
    pub(super) fn decode(
        &mut self,
        attributes: &'a [u8],
        wanted: u64,
        unknown: &mut UnknownAttributes,
    ) -> Result<(), DecodeError> {
        let enter = |bits: u64| wanted & (bits | field::UNKNOWN) != 0;
        let mut walk = Attributes::new(attributes);
        while let Some((kind, value)) = walk.next() {
            let path = u64::from(kind);
            match kind {
                flow::TUPLE_ORIG => {
                    if enter(field::ORIGINAL | field::REPLY_PROTOCOL | field::ORIGINAL_ZONE) {
                        self.original.decode(value, path, unknown)?;
                    }
                }
                flow::TUPLE_REPLY => {
                    if enter(field::REPLY | field::PROTOCOL | field::REPLY_ZONE) {
                        self.reply.decode(value, path, unknown)?;
                    }
                }
                flow::STATUS => {
                    assign!(self, field::STATUS, be32(value) => self.status, else unknown.keep(path, value));
                }
                flow::TIMEOUT => {
                    assign!(self, field::TIMEOUT, be32(value) => self.timeout, else unknown.keep(path, value));
                }
                flow::MARK => assign!(self, field::MARK, be32(value) => self.mark, else unknown.keep(path, value)),
                flow::USE => assign!(self, field::USE, be32(value) => self.use_count, else unknown.keep(path, value)),
                flow::ID => assign!(self, field::ID, be32(value) => self.id, else unknown.keep(path, value)),
                flow::ZONE => assign!(self, field::ZONE, be16(value) => self.zone, else unknown.keep(path, value)),
                flow::PROTOINFO => {
                    if enter(PROTOINFO) {
                        self.decode_protoinfo(value, unknown)?;
                    }
                }
                flow::COUNTERS_ORIG => {
                    if enter(field::ORIGINAL_COUNTERS) {
                        self.decode_counters(0, value, path, unknown)?;
                    }
                }
                flow::COUNTERS_REPLY => {
                    if enter(field::REPLY_COUNTERS) {
                        self.decode_counters(1, value, path, unknown)?;
                    }
                }
                flow::TIMESTAMP => {
                    if enter(field::START | field::STOP) {
                        self.decode_times(value, unknown)?;
                    }
                }
                _ => self.decode_rare(kind, value, wanted, unknown)?,
            }
        }
        walk.finish(0)?;
        self.set_tuple_bits(unknown);
        Ok(())
    }

    /// Sets the bits of both tuples in `has`. The tuples share the protocol column; a reply tuple with another
    /// protocol, which no kernel sends, keeps it as an unknown attribute.
    #[inline]
    fn set_tuple_bits(&mut self, unknown: &mut UnknownAttributes) {
        self.has |= self.original.original_bits() | self.reply.reply_bits();
        const BOTH: u64 = field::PROTOCOL | field::REPLY_PROTOCOL;
        if self.has & BOTH == BOTH {
            if self.original.protocol != self.reply.protocol {
                self.has &= !field::REPLY_PROTOCOL;
                let path = child(child(flow::TUPLE_REPLY.into(), 2), 1);
                unknown.keep(path, &[self.reply.protocol]);
            }
        } else if self.has & field::REPLY_PROTOCOL != 0 {
            self.original.protocol = self.reply.protocol;
        }
    }

    /// Decodes attributes that few messages have.
    fn decode_rare(
        &mut self,
        kind: u16,
        value: &'a [u8],
        wanted: u64,
        unknown: &mut UnknownAttributes,
    ) -> Result<(), DecodeError> {
        let path = u64::from(kind);
        let enter = |bits: u64| wanted & (bits | field::UNKNOWN) != 0;
        match kind {
            flow::TIMESTAMP_EVENT => {
                assign!(self, field::EVENT_TIME, be64(value) => self.event_time, else unknown.keep(path, value));
            }
            flow::HELP if enter(field::HELPER | field::HELPER_INFO) => self.decode_helper(value, unknown)?,
            flow::LABELS => {
                assign!(self, field::LABELS, label_words(value) => self.rare().labels, else unknown.keep(path, value));
            }
            flow::LABELS_MASK => {
                assign!(self, field::LABELS_MASK, label_words(value) => self.rare().labels_mask, else unknown.keep(path, value));
            }
            flow::MARK_MASK => {
                assign!(self, field::MARK_MASK, be32(value) => self.rare().mark_mask, else unknown.keep(path, value));
            }
            flow::SECMARK => {
                assign!(self, field::SECMARK, be32(value) => self.rare().secmark, else unknown.keep(path, value));
            }
            flow::SECCTX if enter(field::SECURITY_CONTEXT) => self.decode_security(value, unknown)?,
            flow::TUPLE_MASTER if enter(field::MASTER) => {
                self.has |= field::MASTER;
                self.rare().master.decode(value, path, unknown)?;
            }
            flow::SEQ_ADJ_ORIG if enter(field::ORIGINAL_SEQUENCE) => {
                let parts = [part::SEQADJ_CORRECTION_POS, part::SEQADJ_OFFSET_BEFORE, part::SEQADJ_OFFSET_AFTER];
                if let Some(numbers) = self.decode_triple(field::ORIGINAL_SEQUENCE, parts, value, path, unknown)? {
                    self.rare().sequences[0] = numbers;
                }
            }
            flow::SEQ_ADJ_REPLY if enter(field::REPLY_SEQUENCE) => {
                let parts = [part::SEQADJ_CORRECTION_POS, part::SEQADJ_OFFSET_BEFORE, part::SEQADJ_OFFSET_AFTER];
                if let Some(numbers) = self.decode_triple(field::REPLY_SEQUENCE, parts, value, path, unknown)? {
                    self.rare().sequences[1] = numbers;
                }
            }
            flow::SYNPROXY if enter(field::SYNPROXY) => {
                let parts = [part::SYNPROXY_ISN, part::SYNPROXY_ITS, part::SYNPROXY_TSOFF];
                if let Some(numbers) = self.decode_triple(field::SYNPROXY, parts, value, path, unknown)? {
                    self.rare().synproxy = numbers;
                }
            }
            flow::NAT_SRC if enter(field::SOURCE_NAT) => self.decode_nat(0, value, path, unknown)?,
            flow::NAT_DST if enter(field::DESTINATION_NAT) => self.decode_nat(1, value, path, unknown)?,
            flow::HELP
            | flow::SECCTX
            | flow::TUPLE_MASTER
            | flow::SEQ_ADJ_ORIG
            | flow::SEQ_ADJ_REPLY
            | flow::SYNPROXY
            | flow::NAT_SRC
            | flow::NAT_DST => {}
            _ => unknown.keep(path, value),
        }
        Ok(())
    }

    fn decode_protoinfo(&mut self, payload: &'a [u8], unknown: &mut UnknownAttributes) -> Result<(), DecodeError> {
        let path = u64::from(flow::PROTOINFO);
        let mut walk = Attributes::new(payload);
        while let Some((kind, value)) = walk.next() {
            let inner = child(path, kind);
            match kind {
                protoinfo::TCP => self.decode_tcp(value, inner, unknown)?,
                protoinfo::SCTP => self.decode_sctp(value, inner, unknown)?,
                protoinfo::DCCP => self.decode_dccp(value, inner, unknown)?,
                _ => unknown.keep(inner, value),
            }
        }
        walk.finish(path)
    }

    #[inline]
    fn decode_tcp(&mut self, payload: &'a [u8], path: u64, unknown: &mut UnknownAttributes) -> Result<(), DecodeError> {
        let mut walk = Attributes::new(payload);
        while let Some((kind, value)) = walk.next() {
            let inner = child(path, kind);
            match kind {
                protoinfo::TCP_STATE => {
                    assign!(self, field::STATE, byte(value) => self.state, else unknown.keep(inner, value));
                }
                protoinfo::TCP_WSCALE_ORIGINAL => assign!(
                    self, field::ORIGINAL_WINDOW_SCALE, byte(value) => self.window_scales[0],
                    else unknown.keep(inner, value)
                ),
                protoinfo::TCP_WSCALE_REPLY => assign!(
                    self, field::REPLY_WINDOW_SCALE, byte(value) => self.window_scales[1],
                    else unknown.keep(inner, value)
                ),
                // Flags and mask are one byte each; as one big-endian number they are flags * 256 + mask.
                protoinfo::TCP_FLAGS_ORIGINAL => assign!(
                    self, field::ORIGINAL_TCP_FLAGS, be16(value) => self.tcp_flags[0],
                    else unknown.keep(inner, value)
                ),
                protoinfo::TCP_FLAGS_REPLY => assign!(
                    self, field::REPLY_TCP_FLAGS, be16(value) => self.tcp_flags[1],
                    else unknown.keep(inner, value)
                ),
                _ => unknown.keep(inner, value),
            }
        }
        walk.finish(path)
    }

    fn decode_sctp(
        &mut self,
        payload: &'a [u8],
        path: u64,
        unknown: &mut UnknownAttributes,
    ) -> Result<(), DecodeError> {
        let mut walk = Attributes::new(payload);
        while let Some((kind, value)) = walk.next() {
            let inner = child(path, kind);
            match kind {
                protoinfo::SCTP_STATE => {
                    assign!(self, field::STATE, byte(value) => self.state, else unknown.keep(inner, value));
                }
                protoinfo::SCTP_VTAG_ORIGINAL => {
                    assign!(self, field::ORIGINAL_VTAG, be32(value) => self.vtags[0], else unknown.keep(inner, value));
                }
                protoinfo::SCTP_VTAG_REPLY => {
                    assign!(self, field::REPLY_VTAG, be32(value) => self.vtags[1], else unknown.keep(inner, value));
                }
                _ => unknown.keep(inner, value),
            }
        }
        walk.finish(path)
    }

    fn decode_dccp(
        &mut self,
        payload: &'a [u8],
        path: u64,
        unknown: &mut UnknownAttributes,
    ) -> Result<(), DecodeError> {
        let (mut role, mut handshake) = (None, None);
        let mut walk = Attributes::new(payload);
        while let Some((kind, value)) = walk.next() {
            let inner = child(path, kind);
            match (kind, byte(value), be64(value)) {
                (protoinfo::DCCP_STATE, state, _) => {
                    assign!(self, field::STATE, state => self.state, else unknown.keep(inner, value));
                }
                (protoinfo::DCCP_ROLE, Some(value), _) if role.is_none() => role = Some(value),
                (protoinfo::DCCP_HANDSHAKE_SEQ, _, Some(value)) if handshake.is_none() => handshake = Some(value),
                (protoinfo::DCCP_PAD, ..) => {}
                _ => unknown.keep(inner, value),
            }
        }
        walk.finish(path)?;
        if role.is_some() || handshake.is_some() {
            if self.set_once(field::DCCP) {
                self.rare().dccp = (role.unwrap_or_default(), handshake.unwrap_or_default());
            } else {
                unknown.keep(path, payload);
            }
        }
        Ok(())
    }

    fn decode_counters(
        &mut self,
        direction: usize,
        payload: &'a [u8],
        path: u64,
        unknown: &mut UnknownAttributes,
    ) -> Result<(), DecodeError> {
        let (mut packets, mut bytes) = (None, None);
        let mut walk = Attributes::new(payload);
        while let Some((kind, value)) = walk.next() {
            match (kind, be64(value)) {
                (part::COUNTERS_PACKETS, number @ Some(_)) if packets.is_none() => packets = number,
                (part::COUNTERS_BYTES, number @ Some(_)) if bytes.is_none() => bytes = number,
                (part::COUNTERS_PAD, _) => {}
                _ => unknown.keep(child(path, kind), value),
            }
        }
        walk.finish(path)?;
        if packets.is_some() || bytes.is_some() {
            let bit = if direction == 0 { field::ORIGINAL_COUNTERS } else { field::REPLY_COUNTERS };
            match self.counters.get_mut(direction) {
                Some(place) if self.has & bit == 0 => {
                    self.has |= bit;
                    *place = [packets.unwrap_or_default(), bytes.unwrap_or_default()];
                }
                _ => unknown.keep(path, payload),
            }
        }
        Ok(())
    }

    fn decode_times(&mut self, payload: &'a [u8], unknown: &mut UnknownAttributes) -> Result<(), DecodeError> {
        let path = u64::from(flow::TIMESTAMP);
        let mut walk = Attributes::new(payload);
        while let Some((kind, value)) = walk.next() {
            let inner = child(path, kind);
            match kind {
                part::TIMESTAMP_START => {
                    assign!(self, field::START, be64(value) => self.start, else unknown.keep(inner, value));
                }
                part::TIMESTAMP_STOP => {
                    assign!(self, field::STOP, be64(value) => self.stop, else unknown.keep(inner, value));
                }
                part::TIMESTAMP_PAD => {}
                _ => unknown.keep(inner, value),
            }
        }
        walk.finish(path)
    }

    fn decode_helper(&mut self, payload: &'a [u8], unknown: &mut UnknownAttributes) -> Result<(), DecodeError> {
        let path = u64::from(flow::HELP);
        let mut walk = Attributes::new(payload);
        while let Some((kind, value)) = walk.next() {
            match kind {
                part::HELP_NAME if self.set_once(field::HELPER) => self.rare().helper = string(value),
                part::HELP_INFO if self.set_once(field::HELPER_INFO) => self.rare().helper_info = value,
                _ => unknown.keep(child(path, kind), value),
            }
        }
        walk.finish(path)
    }

    fn decode_security(&mut self, payload: &'a [u8], unknown: &mut UnknownAttributes) -> Result<(), DecodeError> {
        let path = u64::from(flow::SECCTX);
        let mut walk = Attributes::new(payload);
        while let Some((kind, value)) = walk.next() {
            match kind {
                part::SECCTX_NAME if self.set_once(field::SECURITY_CONTEXT) => {
                    self.rare().security_context = string(value)
                }
                _ => unknown.keep(child(path, kind), value),
            }
        }
        walk.finish(path)
    }

    /// Decodes a nest of three 32-bit numbers that form one field; `None` if it has none of them or the field is
    /// already set.
    fn decode_triple(
        &mut self,
        bit: u64,
        kinds: [u16; 3],
        payload: &'a [u8],
        path: u64,
        unknown: &mut UnknownAttributes,
    ) -> Result<Option<[u32; 3]>, DecodeError> {
        let mut numbers = [None; 3];
        let mut walk = Attributes::new(payload);
        while let Some((kind, value)) = walk.next() {
            let place = kinds.iter().zip(&mut numbers).find(|(of, place)| **of == kind && place.is_none());
            match (place, be32(value)) {
                (Some((_, place)), number @ Some(_)) => *place = number,
                _ => unknown.keep(child(path, kind), value),
            }
        }
        walk.finish(path)?;
        if numbers.iter().all(Option::is_none) {
            return Ok(None);
        }
        if self.set_once(bit) {
            return Ok(Some(numbers.map(Option::unwrap_or_default)));
        }
        unknown.keep(path, payload);
        Ok(None)
    }

    fn decode_nat(
        &mut self,
        index: usize,
        payload: &'a [u8],
        path: u64,
        unknown: &mut UnknownAttributes,
    ) -> Result<(), DecodeError> {
        let (mut first, mut last, mut ports) = (None, None, [None; 2]);
        let mut walk = Attributes::new(payload);
        while let Some((kind, value)) = walk.next() {
            let inner = child(path, kind);
            match (kind, address(value), value.len()) {
                (part::NAT_V4_MINIP, found, 4) | (part::NAT_V6_MINIP, found, 16) if first.is_none() => first = found,
                (part::NAT_V4_MAXIP, found, 4) | (part::NAT_V6_MAXIP, found, 16) if last.is_none() => last = found,
                (part::NAT_PROTO, ..) => {
                    let mut walk = Attributes::new(value);
                    while let Some((kind, value)) = walk.next() {
                        match (kind, be16(value), &mut ports) {
                            (part::PROTONAT_PORT_MIN, port @ Some(_), [place @ None, _])
                            | (part::PROTONAT_PORT_MAX, port @ Some(_), [_, place @ None]) => *place = port,
                            _ => unknown.keep(child(inner, kind), value),
                        }
                    }
                    walk.finish(inner)?;
                }
                _ => unknown.keep(inner, value),
            }
        }
        walk.finish(path)?;
        let bit = if index == 0 { field::SOURCE_NAT } else { field::DESTINATION_NAT };
        let free = self.has & bit == 0;
        match self.rare().nat.get_mut(index) {
            Some(place) if free => {
                // A single end of a range means a single address or port.
                let first = first.or(last).unwrap_or_default();
                let [low, high] = ports;
                let low = low.or(high).unwrap_or_default();
                *place = Nat { first, last: last.unwrap_or(first), ports: [low, high.unwrap_or(low)] };
                self.has |= bit;
            }
            _ => unknown.keep(path, payload),
        }
        Ok(())
    }
}

/// Returns a bit set of labels, whose length is a multiple of four bytes (32-bit words).
fn label_words(payload: &[u8]) -> Option<&[u8]> {
    (!payload.is_empty() && payload.len().is_multiple_of(4)).then_some(payload)
}

/// Converts a bit set between the kernel's form and bytes in which label `n` is bit `n % 8` of byte `n / 8`; the
/// conversion is its own inverse. The kernel has words of type `long` in native byte order, which on little-endian
/// machines is the same.
pub(crate) fn normalise_labels(labels: &[u8]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        return Cow::Borrowed(labels);
    }
    let mut turned = labels.to_vec();
    let word = if labels.len().is_multiple_of(size_of::<usize>()) { size_of::<usize>() } else { 4 };
    for word in turned.chunks_mut(word) {
        word.reverse();
    }
    Cow::Owned(turned)
}
