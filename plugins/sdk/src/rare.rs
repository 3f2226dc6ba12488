//! The row view of fields that few flows carry.

use crate::{
    Direction, Flow,
    bindings::flowgate::conntrack::{
        columns::{RawAttributes, SparseTexts},
        flow::Rare,
    },
    columns::at,
    field,
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
    /// Offset up to the position.
    pub before: i32,
    /// Offset after it.
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

/// Addresses and ports of a NAT that a create requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// First address, as a 128-bit number, IPv4 in its mapped form.
    pub first: u128,
    /// Last address.
    pub last: u128,
    /// First port; 0 with `last_port` 0 if the port is not changed.
    pub first_port: u16,
    /// Last port.
    pub last_port: u16,
}

impl<'a> Flow<'a> {
    /// Returns the group of rare columns, if the flow carries one of these fields.
    fn rare(&self, field: u64) -> Option<&'a Rare> {
        if self.has(field) { self.batch.rare.as_ref() } else { None }
    }

    fn rare_text(&self, field: u64, column: impl Fn(&'a Rare) -> &'a SparseTexts) -> Option<&'a [u8]> {
        column(self.rare(field)?).get(self.row)
    }

    /// Returns the helper's private data, opaque.
    #[must_use]
    pub fn helper_info(&self) -> Option<&'a [u8]> {
        self.rare_text(field::HELPER_INFO, |rare| &rare.helper_info)
    }

    /// Returns the labels that an update changes, as a bit set like [`Flow::labels`]. Never from the kernel.
    #[must_use]
    pub fn labels_mask(&self) -> Option<&'a [u8]> {
        self.rare_text(field::LABELS_MASK, |rare| &rare.labels_mask)
    }

    /// Returns the bits of the mark that an update changes. Never from the kernel.
    #[must_use]
    pub fn mark_mask(&self) -> Option<u32> {
        Some(at(&self.rare(field::MARK_MASK)?.mark_mask, self.row))
    }

    /// Returns the flow that created the expectation of this one.
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

    /// Returns the sequence adjustment of the original direction.
    #[must_use]
    pub fn original_sequence(&self) -> Option<Sequence> {
        self.sequence(field::ORIGINAL_SEQUENCE, 0)
    }

    /// Returns the sequence adjustment of the reply direction.
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

    /// Returns this row's item of a kind in a sparse column that may have two items for a row.
    fn item(&self, rows: &[u32], kinds: &[u8], kind: u8) -> Option<usize> {
        let row = self.row as u32;
        let first = rows.partition_point(|&of| of < row);
        (first..rows.len()).take_while(|&i| rows.get(i) == Some(&row)).find(|&i| kinds.get(i) == Some(&kind))
    }

    /// Returns the state of the SYN proxy.
    #[must_use]
    pub fn synproxy(&self) -> Option<Synproxy> {
        let all = &self.rare(field::SYNPROXY)?.synproxy;
        let item = all.rows.binary_search(&(self.row as u32)).ok()?;
        Some(Synproxy { isn: at(&all.isn, item), its: at(&all.its, item), tsoff: at(&all.tsoff, item) })
    }

    /// Returns the DCCP role (0 client, 1 server) and handshake sequence number.
    #[must_use]
    pub fn dccp(&self) -> Option<(u8, u64)> {
        let all = &self.rare(field::DCCP)?.dccp;
        let item = all.rows.binary_search(&(self.row as u32)).ok()?;
        Some((at(&all.role, item), at(&all.handshake, item)))
    }

    /// Returns the source NAT that a create requests. Never from the kernel; see [`Flow::source_translation`] for that
    /// of an existing flow.
    #[must_use]
    pub fn source_nat(&self) -> Option<AddressRange> {
        self.range(field::SOURCE_NAT, 0)
    }

    /// Returns the destination NAT that a create requests. Never from the kernel.
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

    /// Returns the attributes without a field of their own: the path of each, as in `columns.raw-attributes`, and its
    /// payload.
    pub fn unknown(&self) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        unknown(self.rare(field::UNKNOWN).map(|rare| &rare.unknown), self.row)
    }

    /// Returns the id of the event's network namespace; `None` for the host's own.
    #[must_use]
    pub fn namespace_id(&self) -> Option<u32> {
        self.carried(field::NAMESPACE, &self.batch.events.as_ref()?.namespace_id)
    }

    /// Returns the name of the event's network namespace.
    #[must_use]
    pub fn namespace_name(&self) -> Option<&'a [u8]> {
        if !self.has(field::NAMESPACE_NAME) {
            return None;
        }
        self.batch.events.as_ref()?.namespace_name.get(self.row)
    }

    /// Returns true if the host derived the event from a resync after a gap.
    #[must_use]
    pub fn synthetic(&self) -> bool {
        self.has(field::SYNTHETIC)
    }
}

/// Returns the paths and payloads of a row.
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
