//! A flow on the screen: the fields kept of a row of a batch, and its conversion to a table of one row for deletion.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flowgate_base::text::clean;
use flowgate_model::{Addresses, Flows, Texts, Tuples, Zones, at, event, family, field, protocol, state};

/// The fields of flows that are read.
pub const READS: u64 = field::TUPLES
    | field::ZONES
    | field::STATUS
    | field::TIMEOUT
    | field::MARK
    | field::ID
    | field::COUNTERS
    | field::START
    | field::STOP
    | field::STATE
    | field::ANNOTATIONS;

/// The fields that identify an entry.
const NAMES: u64 = field::TUPLES | field::ZONES | field::ID;

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address, as in `columns.addresses`.
    pub source: (u64, u64),
    /// Destination address.
    pub destination: (u64, u64),
    /// Source port, key or ICMP identifier.
    pub source_l4: u16,
    /// Destination port or key, or ICMP type times 256 plus code.
    pub destination_l4: u16,
}

/// The identity of an entry of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowIdentity {
    /// Layer-3 family.
    pub family: u8,
    /// Layer-4 protocol.
    pub protocol: u8,
    /// The direction of the first packet.
    pub original: Tuple,
    /// The direction of the answers.
    pub reply: Tuple,
    /// Zone of both directions, of the original direction, of the reply direction.
    pub zones: [u16; 3],
    /// The kernel's id.
    pub id: u32,
}

/// The rate of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Bytes per second, both directions.
    pub bytes: f64,
    /// Packets per second, both directions.
    pub packets: f64,
}

/// A flow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowRow {
    /// The fields that it carries, as in `flows.has`.
    pub has: u64,
    /// Its identity.
    pub name: FlowIdentity,
    /// Status bits.
    pub status: u32,
    /// Seconds until the entry expires.
    pub timeout: u32,
    /// Mark.
    pub mark: u32,
    /// Protocol state, by the kernel's number.
    pub state: u8,
    /// Bytes of both directions.
    pub bytes: u64,
    /// Packets of both directions.
    pub packets: u64,
    /// Its rate, if known.
    pub rate: Option<Rate>,
    /// When it started, nanoseconds since 1970.
    pub since: u64,
    /// True if it started then, false if it may have started earlier.
    pub born: bool,
    /// When it ended, if it has.
    pub ended: Option<u64>,
    /// Annotations.
    pub notes: Vec<(String, String)>,
}

fn address(column: &Addresses, row: usize) -> (u64, u64) {
    (at(&column.hi, row), at(&column.lo, row))
}

fn tuple(tuples: &Tuples, row: usize) -> Tuple {
    Tuple {
        source: address(&tuples.source, row),
        destination: address(&tuples.destination, row),
        source_l4: at(&tuples.source_l4, row),
        destination_l4: at(&tuples.destination_l4, row),
    }
}

/// Returns item `index` of byte strings.
fn text(texts: &Texts, index: usize) -> String {
    let start = index.checked_sub(1).map_or(0, |before| at(&texts.ends, before) as usize);
    let bytes = texts.bytes.get(start..at(&texts.ends, index) as usize).unwrap_or_default();
    clean(&String::from_utf8_lossy(bytes))
}

/// Returns the annotations of a row.
fn notes(flows: &Flows, row: usize) -> Vec<(String, String)> {
    let Some(notes) = flows.rare.as_ref().map(|rare| &rare.annotations) else { return Vec::new() };
    let of_row = notes.rows.iter().enumerate().filter(|&(_, &of)| of as usize == row);
    of_row.map(|(index, _)| (text(&notes.keys, index), text(&notes.values, index))).collect()
}

impl FlowIdentity {
    /// Returns the identity of a row of a batch.
    #[must_use]
    pub fn of(flows: &Flows, row: usize) -> Self {
        let zones = flows
            .zones
            .as_ref()
            .map_or([0; 3], |zones| [at(&zones.zone, row), at(&zones.original, row), at(&zones.reply, row)]);
        Self {
            family: at(&flows.family, row),
            protocol: at(&flows.protocol, row),
            original: tuple(&flows.original, row),
            reply: tuple(&flows.reply, row),
            zones,
            id: at(&flows.id, row),
        }
    }
}

/// Returns the kind of event of a row of a batch: [`event`].
#[must_use]
pub fn kind(flows: &Flows, row: usize) -> u8 {
    flows.events.as_ref().map_or(event::NONE, |events| at(&events.kind, row))
}

/// Returns bytes and packets of a row of a batch, both directions; `None` without accounting.
#[must_use]
pub fn counts(flows: &Flows, row: usize) -> Option<(u64, u64)> {
    let counters = flows.counters.as_ref().filter(|_| at(&flows.has, row) & field::COUNTERS != 0)?;
    let bytes = at(&counters.original_bytes, row).saturating_add(at(&counters.reply_bytes, row));
    let packets = at(&counters.original_packets, row).saturating_add(at(&counters.reply_packets, row));
    Some((bytes, packets))
}

/// Returns the kernel's start time of a row of a batch; `None` without time stamps.
#[must_use]
pub fn start(flows: &Flows, row: usize) -> Option<u64> {
    let times = flows.times.as_ref().filter(|_| at(&flows.has, row) & field::START != 0)?;
    Some(at(&times.start, row))
}

/// Returns the kernel's end time of a row of a batch.
#[must_use]
pub fn stop(flows: &Flows, row: usize) -> Option<u64> {
    let times = flows.times.as_ref().filter(|_| at(&flows.has, row) & field::STOP != 0)?;
    Some(at(&times.stop, row))
}

impl FlowRow {
    /// Makes a row of a batch's row. The model adds its start and its rate.
    #[must_use]
    pub fn of(flows: &Flows, row: usize, name: FlowIdentity) -> Self {
        let has = at(&flows.has, row);
        let (bytes, packets) = counts(flows, row).unwrap_or_default();
        Self {
            has,
            name,
            status: at(&flows.status, row),
            timeout: at(&flows.timeout, row),
            mark: at(&flows.mark, row),
            state: at(&flows.state, row),
            bytes,
            packets,
            notes: if has & field::ANNOTATIONS != 0 { notes(flows, row) } else { Vec::new() },
            ..Self::default()
        }
    }

    /// Applies an event; fields that it lacks are kept.
    pub fn update(&mut self, newer: Self) {
        let (old, new) = (self.has, newer.has);
        self.status = newer.status;
        if new & field::TIMEOUT != 0 {
            self.timeout = newer.timeout;
        }
        if new & field::STATE != 0 {
            self.state = newer.state;
        }
        // An event without a mark means that it is 0.
        self.mark = newer.mark;
        if new & field::COUNTERS != 0 {
            (self.bytes, self.packets) = (newer.bytes, newer.packets);
        }
        if !newer.notes.is_empty() {
            self.notes = newer.notes;
        }
        self.has = old & !field::MARK | new;
    }

    /// Returns true if packets and bytes are counted.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.has & field::COUNTERS != 0
    }

    /// Returns its age at `now`, in nanoseconds.
    #[must_use]
    pub fn age(&self, now: u64) -> u64 {
        self.ended.unwrap_or(now).saturating_sub(self.since)
    }

    /// Returns the protocol's name, such as `tcp`, or its number if it has none.
    #[must_use]
    pub fn protocol(&self) -> String {
        protocol::name(self.name.protocol).map_or_else(|| self.name.protocol.to_string(), str::to_owned)
    }

    /// Returns the protocol state, or else a state derived from the status.
    #[must_use]
    pub fn state(&self) -> &'static str {
        use flowgate_model::status::{ASSURED, HW_OFFLOAD, OFFLOAD, SEEN_REPLY};
        let state = (self.has & field::STATE != 0).then(|| state::name(self.name.protocol, self.state)).flatten();
        match state {
            _ if self.ended.is_some() => "ended",
            Some(state) => state,
            None if self.status & (OFFLOAD | HW_OFFLOAD) != 0 => "OFFLOAD",
            None if self.status & SEEN_REPLY == 0 => "UNREPLIED",
            None if self.status & ASSURED != 0 => "ASSURED",
            None => "REPLIED",
        }
    }

    fn address(&self, (hi, lo): (u64, u64)) -> IpAddr {
        if self.name.family == family::IPV6 {
            IpAddr::V6(Ipv6Addr::from_bits(u128::from(hi) << 64 | u128::from(lo)))
        } else {
            #[allow(clippy::cast_possible_truncation, reason = "the mapped form has the address in its low half")]
            IpAddr::V4(Ipv4Addr::from_bits(lo as u32))
        }
    }

    /// Returns the addresses of a direction.
    #[must_use]
    pub fn addresses(&self, tuple: &Tuple) -> [IpAddr; 2] {
        [self.address(tuple.source), self.address(tuple.destination)]
    }

    /// Returns source and destination of a direction, each an address with its port, if the protocol has ports; for
    /// ICMP with the identifier, and with type and code.
    #[must_use]
    pub fn ends(&self, tuple: &Tuple) -> [String; 2] {
        let [source, destination] = self.addresses(tuple);
        let with = |address: IpAddr, port: u16| match address {
            IpAddr::V4(address) => format!("{address}:{port}"),
            IpAddr::V6(address) => format!("[{address}]:{port}"),
        };
        match self.name.protocol {
            number if protocol::has_ports(number) || number == protocol::GRE => {
                [with(source, tuple.source_l4), with(destination, tuple.destination_l4)]
            }
            number if protocol::is_icmp(number) => {
                let [kind, code] = tuple.destination_l4.to_be_bytes();
                [format!("{source} id {}", tuple.source_l4), format!("{destination} type {kind}/{code}")]
            }
            _ => [source.to_string(), destination.to_string()],
        }
    }

    /// Returns a table of one row that identifies this entry, for the stock stage that deletes.
    #[must_use]
    pub fn table(&self) -> Flows {
        let FlowIdentity { family, protocol, original, reply, zones, id } = self.name;
        let addresses = |(hi, lo)| Addresses { hi: vec![hi], lo: vec![lo] };
        let tuples = |tuple: Tuple| Tuples {
            source: addresses(tuple.source),
            destination: addresses(tuple.destination),
            source_l4: vec![tuple.source_l4],
            destination_l4: vec![tuple.destination_l4],
        };
        let zones = (self.has & field::ZONES != 0).then(|| {
            let [zone, original, reply] = zones.map(|zone| vec![zone]);
            Zones { zone, original, reply }
        });
        Flows {
            length: 1,
            has: vec![self.has & NAMES],
            family: vec![family],
            protocol: vec![protocol],
            original: tuples(original),
            reply: tuples(reply),
            id: vec![id],
            zones,
            ..Flows::default()
        }
    }
}
