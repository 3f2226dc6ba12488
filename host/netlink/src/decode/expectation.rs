//! Decoding of expectations into the columns of a batch.

use super::attribute::{Attributes, DecodeError, be16, be32, child, string};
use super::columns::{ROW_LIMIT, TEXT_LIMIT, clear_expected_nat, clear_raw, clear_sparse, clear_tuples, push_sparse};
use super::flow::{Arrival, push_tuple};
use super::tuple::TupleRow;
use super::unknown::UnknownAttributes;
use crate::message::Message;
use crate::wire::expectation;
use flowgate_model::{Expectations, ExpectedNat, RawAttributes, event, expectation_field as bits, field};

/// Decodes expectation messages into a batch, whose columns and allocations are reused. Expectations are few, so that
/// all columns are always filled.
#[derive(Debug, Default)]
pub struct ExpectationDecoder {
    unknown: UnknownAttributes,
    spare_nat: Vec<ExpectedNat>,
    spare_unknown: Vec<RawAttributes>,
}

/// One expectation, before it is appended to the columns.
#[derive(Debug, Default)]
struct ExpectationRow<'a> {
    has: u64,
    expected: TupleRow,
    mask: TupleRow,
    master: TupleRow,
    timeout: u32,
    id: u32,
    zone: u16,
    flags: u32,
    class: u32,
    helper: &'a [u8],
    function: &'a [u8],
    nat_direction: u32,
    nat: TupleRow,
}

impl<'a> ExpectationRow<'a> {
    /// Sets a field's bit; returns false if it was set.
    fn set_once(&mut self, bit: u64) -> bool {
        let fresh = self.has & bit == 0;
        self.has |= bit;
        fresh
    }

    fn decode(&mut self, attributes: &'a [u8], unknown: &mut UnknownAttributes) -> Result<(), DecodeError> {
        let mut walk = Attributes::new(attributes);
        while let Some((kind, value)) = walk.next() {
            let path = u64::from(kind);
            match (kind, be32(value), be16(value)) {
                (expectation::MASTER, ..) => self.master.decode(value, path, unknown)?,
                (expectation::TUPLE, ..) => self.expected.decode(value, path, unknown)?,
                (expectation::MASK, ..) => self.mask.decode(value, path, unknown)?,
                (expectation::TIMEOUT, Some(number), _) if self.set_once(bits::TIMEOUT) => self.timeout = number,
                (expectation::ID, Some(number), _) if self.set_once(bits::ID) => self.id = number,
                (expectation::FLAGS, Some(number), _) if self.set_once(bits::FLAGS) => self.flags = number,
                (expectation::CLASS, Some(number), _) if self.set_once(bits::CLASS) => self.class = number,
                (expectation::ZONE, _, Some(number)) if self.set_once(bits::ZONE) => self.zone = number,
                (expectation::HELP_NAME, ..) if self.set_once(bits::HELPER) => self.helper = string(value),
                (expectation::FN, ..) if self.set_once(bits::FUNCTION) => self.function = string(value),
                (expectation::NAT, ..) if self.set_once(bits::NAT) => self.decode_nat(value, unknown)?,
                _ => unknown.keep(path, value),
            }
        }
        walk.finish(0)?;
        for (key, whole, l4) in [
            (&self.expected, bits::EXPECTED, bits::EXPECTED_L4),
            (&self.mask, bits::MASK, bits::MASK_L4),
            (&self.master, bits::MASTER, bits::MASTER_L4),
        ] {
            if key.has(u64::MAX) {
                self.has |= whole;
            }
            if key.has(field::ORIGINAL_L4) {
                self.has |= l4;
            }
        }
        Ok(())
    }

    fn decode_nat(&mut self, payload: &'a [u8], unknown: &mut UnknownAttributes) -> Result<(), DecodeError> {
        let path = u64::from(expectation::NAT);
        let mut direction = None;
        let mut walk = Attributes::new(payload);
        while let Some((kind, value)) = walk.next() {
            match (kind, be32(value)) {
                (expectation::NAT_DIR, Some(number)) if direction.is_none() => direction = Some(number),
                (expectation::NAT_TUPLE, _) => self.nat.decode(value, child(path, kind), unknown)?,
                _ => unknown.keep(child(path, kind), value),
            }
        }
        self.nat_direction = direction.unwrap_or_default();
        walk.finish(path)
    }
}

impl ExpectationDecoder {
    /// Returns a decoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the expectation of `message`. The time of its receipt is not kept: expectations have no column for it.
    ///
    /// # Errors
    /// The message is malformed, or the batch is full; the batch is unchanged.
    pub fn push(
        &mut self,
        batch: &mut Expectations,
        message: &Message<'_>,
        arrival: Arrival,
    ) -> Result<(), DecodeError> {
        let Some(body) = message.netfilter() else {
            return Err(DecodeError::Header { length: message.body.len() });
        };
        Self::check_space(batch)?;
        let mut row = ExpectationRow::default();
        self.unknown.begin(true);
        row.decode(body.attributes, &mut self.unknown)?;
        if !self.unknown.is_empty() {
            row.has |= bits::UNKNOWN;
        }
        let (kind, port) = match arrival {
            Arrival::Entry => (event::NONE, 0),
            Arrival::Event { .. } => {
                row.has |= bits::PORT_ID;
                (message.event(), message.port)
            }
        };
        self.append(batch, &row, body.family, kind, port);
        Ok(())
    }

    /// Appends a gap: a row without an expectation, before which events were lost.
    ///
    /// # Errors
    /// The batch is full.
    pub fn push_gap(&mut self, batch: &mut Expectations) -> Result<(), DecodeError> {
        Self::check_space(batch)?;
        self.unknown.begin(false);
        self.append(batch, &ExpectationRow::default(), 0, event::GAP, 0);
        Ok(())
    }

    fn check_space(batch: &Expectations) -> Result<(), DecodeError> {
        let texts = [&batch.helper.texts, &batch.function.texts].map(|texts| texts.bytes.len());
        let unknown = batch.unknown.as_ref().map_or(0, |column| column.payloads.bytes.len());
        let longest = texts.into_iter().max().unwrap_or_default().max(unknown);
        if batch.length >= ROW_LIMIT || longest >= TEXT_LIMIT { Err(DecodeError::Full) } else { Ok(()) }
    }

    fn append(&mut self, batch: &mut Expectations, row: &ExpectationRow<'_>, family: u8, kind: u8, port: u32) {
        let number = batch.length;
        batch.has.push(row.has);
        batch.event.push(kind);
        batch.family.push(family);
        batch.protocol.push(row.expected.protocol);
        push_tuple(&mut batch.expected, &row.expected);
        push_tuple(&mut batch.mask, &row.mask);
        batch.mask_protocol.push(row.mask.protocol);
        push_tuple(&mut batch.master, &row.master);
        batch.master_protocol.push(row.master.protocol);
        batch.timeout.push(row.timeout);
        batch.id.push(row.id);
        batch.zone.push(row.zone);
        batch.flags.push(row.flags);
        batch.class_number.push(row.class);
        batch.port_id.push(port);
        if row.has & bits::HELPER != 0 {
            push_sparse(&mut batch.helper, number, row.helper);
        }
        if row.has & bits::FUNCTION != 0 {
            push_sparse(&mut batch.function, number, row.function);
        }
        if row.has & bits::NAT != 0 {
            let nat = batch.nat.get_or_insert_with(|| self.spare_nat.pop().unwrap_or_default());
            nat.rows.push(number);
            nat.direction.push(row.nat_direction);
            nat.protocol.push(row.nat.protocol);
            push_tuple(&mut nat.tuple, &row.nat);
        }
        if row.has & bits::UNKNOWN != 0 {
            let column = batch.unknown.get_or_insert_with(|| self.spare_unknown.pop().unwrap_or_default());
            self.unknown.append_to(column, number);
        }
        batch.length = batch.length.saturating_add(1);
    }

    /// Clears the batch but keeps its allocations.
    pub fn clear(&mut self, batch: &mut Expectations) {
        let Expectations {
            length,
            time,
            has,
            event,
            family,
            protocol,
            expected,
            mask,
            mask_protocol,
            master,
            master_protocol,
            timeout,
            id,
            zone,
            flags,
            class_number,
            port_id,
            helper,
            function,
            program,
            nat,
            unknown,
            annotations,
            more,
        } = batch;
        (*length, *time) = (0, 0);
        has.clear();
        zone.clear();
        for column in [event, family, protocol, mask_protocol, master_protocol] {
            column.clear();
        }
        for column in [timeout, id, flags, class_number, port_id] {
            column.clear();
        }
        for tuples in [expected, mask, master] {
            clear_tuples(tuples);
        }
        for column in [helper, function, program] {
            clear_sparse(column);
        }
        if let Some(mut column) = nat.take() {
            clear_expected_nat(&mut column);
            self.spare_nat.push(column);
        }
        if let Some(mut column) = unknown.take() {
            clear_raw(&mut column);
            self.spare_unknown.push(column);
        }
        *annotations = None;
        more.clear();
    }
}
