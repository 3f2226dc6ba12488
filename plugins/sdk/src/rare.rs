//! The row view of what few flows carry.

use crate::{
    Direction, Flow,
    bindings::flowgate::conntrack::{
        columns::{RawAttributes, SparseTexts},
        flow::Rare,
    },
    field,
    flow::at,
};

/// The flow that a related flow belongs to.
#[derive(Clone, Copy)]
pub struct Master<'a> {
    /// Layer-4 protocol.
    pub protocol: u8,
    /// Its original tuple.
    pub tuple: Direction<'a>,
    /// Zone of that direction; 0 is the default zone.
    pub zone: u16,
}

/// TCP sequence adjustment of one direction, made by a NAT helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Sequence number of the last correction.
    pub position: u32,
    /// What is added up to the position.
    pub before: i32,
    /// What is added after it.
    pub after: i32,
}

/// State of the SYN proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synproxy {
    /// Initial sequence number.
    pub isn: u32,
    /// Initial timestamp.
    pub its: u32,
    /// Timestamp offset.
    pub tsoff: u32,
}

/// Addresses and ports that a create asks for as a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// First address, as a 128-bit number, IPv4 in its mapped form.
    pub first: u128,
    /// Last address.
    pub last: u128,
    /// First port; 0 with `last_port` 0 where the port is left alone.
    pub first_port: u16,
    /// Last port.
    pub last_port: u16,
}

impl<'a> Flow<'a> {
    /// The group of rare columns, if the flow carries one of these fields.
    fn rare(&self, field: u64) -> Option<&'a Rare> {
        if self.has(field) { self.batch.rare.as_ref() } else { None }
    }

    fn rare_text(&self, field: u64, column: impl Fn(&'a Rare) -> &'a SparseTexts) -> Option<&'a [u8]> {
        column(self.rare(field)?).get(self.row)
    }

    /// The helper's private data, opaque.
    #[must_use]
    pub fn helper_info(&self) -> Option<&'a [u8]> {
        self.rare_text(field::HELPER_INFO, |rare| &rare.helper_info)
    }

    /// Which labels an update changes, as a bit set like [`Flow::labels`]. Never from the kernel.
    #[must_use]
    pub fn labels_mask(&self) -> Option<&'a [u8]> {
        self.rare_text(field::LABELS_MASK, |rare| &rare.labels_mask)
    }

    /// Which bits of the mark an update changes. Never from the kernel.
    #[must_use]
    pub fn mark_mask(&self) -> Option<u32> {
        Some(at(&self.rare(field::MARK_MASK)?.mark_mask, self.row))
    }

    /// The flow that this one was expected by.
    #[must_use]
    pub fn master(&self) -> Option<Master<'a>> {
        let masters = &self.rare(field::MASTER)?.master;
        let item = masters.rows.binary_search(&(self.row as u32)).ok()?;
        Some(Master {
            protocol: at(&masters.protocol, item),
            tuple: Direction::new(&masters.tuple, item, self.family()),
            zone: at(&masters.zone, item),
        })
    }

    /// Sequence adjustment of the original direction.
    #[must_use]
    pub fn original_sequence(&self) -> Option<Sequence> {
        self.sequence(field::ORIGINAL_SEQUENCE, 0)
    }

    /// Sequence adjustment of the reply direction.
    #[must_use]
    pub fn reply_sequence(&self) -> Option<Sequence> {
        self.sequence(field::REPLY_SEQUENCE, 1)
    }

    fn sequence(&self, field: u64, direction: u8) -> Option<Sequence> {
        let all = &self.rare(field)?.sequence;
        let item = self.item(&all.rows, &all.reply, direction)?;
        Some(Sequence {
            position: at(&all.position, item),
            before: at(&all.before, item).cast_signed(),
            after: at(&all.after, item).cast_signed(),
        })
    }

    /// Which item of a sparse column, of which a row may have two, is this row's of a kind.
    fn item(&self, rows: &[u32], kinds: &[u8], kind: u8) -> Option<usize> {
        let row = self.row as u32;
        let first = rows.partition_point(|&of| of < row);
        (first..rows.len()).take_while(|&i| rows.get(i) == Some(&row)).find(|&i| kinds.get(i) == Some(&kind))
    }

    /// State of the SYN proxy.
    #[must_use]
    pub fn synproxy(&self) -> Option<Synproxy> {
        let all = &self.rare(field::SYNPROXY)?.synproxy;
        let item = all.rows.binary_search(&(self.row as u32)).ok()?;
        Some(Synproxy { isn: at(&all.isn, item), its: at(&all.its, item), tsoff: at(&all.tsoff, item) })
    }

    /// DCCP role (0 client, 1 server) and handshake sequence number.
    #[must_use]
    pub fn dccp(&self) -> Option<(u8, u64)> {
        let all = &self.rare(field::DCCP)?.dccp;
        let item = all.rows.binary_search(&(self.row as u32)).ok()?;
        Some((at(&all.role, item), at(&all.handshake, item)))
    }

    /// Source translation that a create asks for. Never from the kernel; see [`Flow::source_translation`] for what is.
    #[must_use]
    pub fn source_nat(&self) -> Option<AddressRange> {
        self.range(field::SOURCE_NAT, 0)
    }

    /// Destination translation that a create asks for. Never from the kernel.
    #[must_use]
    pub fn destination_nat(&self) -> Option<AddressRange> {
        self.range(field::DESTINATION_NAT, 1)
    }

    fn range(&self, field: u64, destination: u8) -> Option<AddressRange> {
        let all = &self.rare(field)?.nat;
        let item = self.item(&all.rows, &all.destination, destination)?;
        Some(AddressRange {
            first: all.first.bits(item),
            last: all.last.bits(item),
            first_port: at(&all.first_port, item),
            last_port: at(&all.last_port, item),
        })
    }

    /// Attributes without a field of their own: where each stood, as in `columns.raw-attributes`, and its payload.
    pub fn unknown(&self) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        unknown(self.rare(field::UNKNOWN).map(|rare| &rare.unknown), self.row)
    }

    /// Id of the event's network namespace; none for the host's own.
    #[must_use]
    pub fn namespace_id(&self) -> Option<u32> {
        self.carried(field::NAMESPACE, &self.batch.events.as_ref()?.namespace_id)
    }

    /// Name of the event's network namespace.
    #[must_use]
    pub fn namespace_name(&self) -> Option<&'a [u8]> {
        if !self.has(field::NAMESPACE_NAME) {
            return None;
        }
        self.batch.events.as_ref()?.namespace_name.get(self.row)
    }

    /// Whether the host made the event from a resync after a gap.
    #[must_use]
    pub fn synthetic(&self) -> bool {
        self.has(field::SYNTHETIC)
    }
}

/// Paths and payloads of a row.
pub(crate) fn unknown<'a>(
    attributes: Option<&'a RawAttributes>,
    row: usize,
) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
    let row = row as u32;
    attributes.into_iter().flat_map(move |all| {
        let (first, last) = (all.rows.partition_point(|&of| of < row), all.rows.partition_point(|&of| of <= row));
        (first..last).filter_map(|i| Some((*all.paths.get(i)?, all.payloads.get(i)?)))
    })
}
