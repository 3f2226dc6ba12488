//! The row view of expectations.

use crate::{
    Direction,
    bindings::flowgate::conntrack::{columns::SparseTexts, expectation::Expectations},
    columns::{annotations, at},
    event,
    expectation_field::{
        ANNOTATIONS, CLASS, FLAGS, FUNCTION, HELPER, ID, NAT, PORT_ID, PROGRAM, TIMEOUT, UNKNOWN, ZONE,
    },
    rare::unknown,
};

impl Expectations {
    /// Returns the expectations of the batch, in order.
    pub fn expectations(&self) -> impl ExactSizeIterator<Item = Expectation<'_>> {
        (0..self.length as usize).map(move |row| Expectation { batch: self, row })
    }
}

/// One expectation: a row of a batch.
///
/// Methods that return an `Option` return `None` if the expectation does not carry the field.
#[derive(Clone, Copy)]
pub struct Expectation<'a> {
    batch: &'a Expectations,
    row: usize,
}

/// The NAT of an expected flow.
#[derive(Clone, Copy)]
pub struct ExpectedTranslation<'a> {
    /// The direction of the master that it applies to: 0 original, 1 reply.
    pub direction: u32,
    /// Layer-4 protocol.
    pub protocol: u8,
    /// The tuple.
    pub tuple: Direction<'a>,
}

impl<'a> Expectation<'a> {
    /// Returns the row in the batch.
    #[must_use]
    pub fn row(&self) -> usize {
        self.row
    }

    /// Returns the batch.
    #[must_use]
    pub fn batch(&self) -> &'a Expectations {
        self.batch
    }

    /// Returns the fields that it carries: bits of [`crate::expectation_field`].
    #[must_use]
    pub fn fields(&self) -> u64 {
        at(&self.batch.has, self.row)
    }

    /// Returns true if it carries all of these fields.
    #[must_use]
    pub fn has(&self, fields: u64) -> bool {
        self.fields() & fields == fields
    }

    fn carried<T: Copy + Default>(&self, field: u64, column: &[T]) -> Option<T> {
        self.has(field).then(|| at(column, self.row))
    }

    fn text(&self, field: u64, column: &'a SparseTexts) -> Option<&'a [u8]> {
        if self.has(field) { column.get(self.row) } else { None }
    }

    /// Returns the layer-3 family, an AF_ number of [`crate::family`].
    #[must_use]
    pub fn family(&self) -> u8 {
        at(&self.batch.family, self.row)
    }

    /// Returns the layer-4 protocol of the expected flow.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        at(&self.batch.protocol, self.row)
    }

    /// Returns the layer-4 protocol of the master.
    #[must_use]
    pub fn master_protocol(&self) -> u8 {
        at(&self.batch.master_protocol, self.row)
    }

    /// Returns the layer-4 protocol in the mask, as a byte.
    #[must_use]
    pub fn mask_protocol(&self) -> u8 {
        at(&self.batch.mask_protocol, self.row)
    }

    /// Returns the flow that is expected.
    #[must_use]
    pub fn expected(&self) -> Direction<'a> {
        Direction::new(&self.batch.expected, self.row, self.family())
    }

    /// Returns the bits of it that must match.
    #[must_use]
    pub fn mask(&self) -> Direction<'a> {
        Direction::new(&self.batch.mask, self.row, self.family())
    }

    /// Returns the original tuple of the flow whose helper created the expectation.
    #[must_use]
    pub fn master(&self) -> Direction<'a> {
        Direction::new(&self.batch.master, self.row, self.family())
    }

    /// Returns the seconds until the expectation expires.
    #[must_use]
    pub fn timeout(&self) -> Option<u32> {
        self.carried(TIMEOUT, &self.batch.timeout)
    }

    /// Returns the opaque identifier.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.carried(ID, &self.batch.id)
    }

    /// Returns the zone; `None` means the default zone 0.
    #[must_use]
    pub fn zone(&self) -> Option<u16> {
        self.carried(ZONE, &self.batch.zone)
    }

    /// Returns the bits of [`crate::expectation_flag`].
    #[must_use]
    pub fn flags(&self) -> Option<u32> {
        self.carried(FLAGS, &self.batch.flags)
    }

    /// Returns the class within the helper.
    #[must_use]
    pub fn class(&self) -> Option<u32> {
        self.carried(CLASS, &self.batch.class_number)
    }

    /// Returns the helper's name.
    #[must_use]
    pub fn helper(&self) -> Option<&'a [u8]> {
        self.text(HELPER, &self.batch.helper)
    }

    /// Returns the name of the helper's function that will be called.
    #[must_use]
    pub fn function(&self) -> Option<&'a [u8]> {
        self.text(FUNCTION, &self.batch.function)
    }

    /// Returns the kind of event: [`event::NONE`] in a dump.
    #[must_use]
    pub fn event(&self) -> u8 {
        self.batch.event.get(self.row).copied().unwrap_or(event::NONE)
    }

    /// Returns the netlink port of the process that caused the event; 0 for packets and timeouts.
    #[must_use]
    pub fn port_id(&self) -> Option<u32> {
        self.carried(PORT_ID, &self.batch.port_id)
    }

    /// Returns the name of that process.
    #[must_use]
    pub fn program(&self) -> Option<&'a [u8]> {
        self.text(PROGRAM, &self.batch.program)
    }

    /// Returns the NAT of the expected flow.
    #[must_use]
    pub fn nat(&self) -> Option<ExpectedTranslation<'a>> {
        let all = self.batch.nat.as_ref().filter(|_| self.has(NAT))?;
        let item = all.rows.binary_search(&(self.row as u32)).ok()?;
        Some(ExpectedTranslation {
            direction: at(&all.direction, item),
            protocol: at(&all.protocol, item),
            tuple: Direction::new(&all.tuple, item, self.family()),
        })
    }

    /// Returns the attributes without a field of their own: the path of each, as in `columns.raw-attributes`, and its
    /// payload.
    pub fn unknown(&self) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        unknown(self.batch.unknown.as_ref().filter(|_| self.has(UNKNOWN)), self.row)
    }

    /// Returns the annotations of earlier stages: keys and values.
    pub fn annotations(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let carried = self.has(ANNOTATIONS);
        annotations(self.batch.annotations.as_ref().filter(|_| carried), self.row)
    }
}
