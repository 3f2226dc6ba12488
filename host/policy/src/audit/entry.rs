//! Entries as JSON, as the stock plugin `json` formats them (`docs/JSON.md`), in ordinary Rust: the process with the
//! guard runs no WebAssembly, and nothing that a plugin returns can make the format of the audit fail.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use serde_json::{Map, Value};

use flowgate_model::{
    Addresses, Flows, Label, SparseTexts, Tuples, at, batch, event, family, field, protocol, state, status,
};

/// The members of an object.
type Members = Map<String, Value>;

/// Names of labels by bit.
#[derive(Clone, Debug, Default)]
pub struct LabelNames(BTreeMap<usize, String>);

impl LabelNames {
    /// Returns the names of a label map; of several names for a bit the last one.
    #[must_use]
    pub fn new(labels: &[Label]) -> Self {
        LabelNames(labels.iter().map(|label| (usize::from(label.bit), label.name.clone())).collect())
    }

    /// Returns an array of the labels that are set: their names, or the numbers of those without a name.
    fn array(&self, set: &[u8]) -> Value {
        let bits = set.iter().enumerate().flat_map(|(index, byte)| {
            (0..8).filter(move |bit| byte >> bit & 1 != 0).map(move |bit| index.saturating_mul(8).saturating_add(bit))
        });
        bits.map(|bit| self.0.get(&bit).map_or_else(|| Value::from(bit), |name| Value::from(name.as_str()))).collect()
    }
}

/// Returns a row as an object. `time` is when it is recorded, in nanoseconds since 1970.
#[must_use]
pub fn entry(flows: &Flows, row: usize, labels: &LabelNames, time: u64) -> Value {
    let row = Row { flows, row, has: at(&flows.has, row) };
    let mut members = Members::new();
    members.insert("type".into(), "flow".into());
    members.insert("time".into(), time.into());
    row.event(&mut members);
    row.common(&mut members);
    row.rare(&mut members, labels);
    Value::Object(members)
}

/// A row of a batch.
#[derive(Clone, Copy)]
struct Row<'a> {
    flows: &'a Flows,
    row: usize,
    has: u64,
}

/// The presence bits of one direction.
struct DirectionBits {
    source: u64,
    destination: u64,
    source_l4: u64,
    destination_l4: u64,
}

const ORIGINAL: DirectionBits = DirectionBits {
    source: field::SOURCE,
    destination: field::DESTINATION,
    source_l4: field::SOURCE_L4,
    destination_l4: field::DESTINATION_L4,
};

const REPLY: DirectionBits = DirectionBits {
    source: field::REPLY_SOURCE,
    destination: field::REPLY_DESTINATION,
    source_l4: field::REPLY_SOURCE_L4,
    destination_l4: field::REPLY_DESTINATION_L4,
};

/// Inserts a value if there is one.
fn put(members: &mut Members, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        members.insert(name.into(), value.into());
    }
}

/// Inserts a number, and the member `NAME_name` if the number has a name.
fn put_named(members: &mut Members, name: &str, number: u8, word: Option<&str>) {
    put(members, name, Some(number));
    put(members, &format!("{name}_name"), word);
}

/// Inserts an object unless it is empty.
fn put_object(members: &mut Members, name: &str, object: Members) {
    put(members, name, (!object.is_empty()).then_some(object));
}

/// Returns a text that need not be UTF-8.
fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into()
}

fn hex(bytes: &[u8]) -> Value {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// Returns the address at `item` as a 128-bit number.
fn bits(column: &Addresses, item: usize) -> u128 {
    u128::from(at(&column.hi, item)) << 64 | u128::from(at(&column.lo, item))
}

/// Returns an address in the notation of the family, IPv6 for others than IPv4.
fn address(of_family: u8, bits: u128) -> String {
    let v4 = Ipv4Addr::from_bits(bits as u32);
    if of_family == family::IPV4 {
        v4.to_string()
    } else if bits >> 32 == 0 && bits >> 16 != 0 {
        // The IPv4-compatible form of `inet_ntop`, which the standard library does not have.
        format!("::{v4}")
    } else {
        Ipv6Addr::from_bits(bits).to_string()
    }
}

/// Inserts the layer-4 words by the names that the protocol has for them.
fn put_words(members: &mut Members, of_protocol: u8, source: Option<u16>, destination: Option<u16>) {
    if protocol::is_icmp(of_protocol) {
        put(members, "icmp_id", source);
        put(members, "icmp_type", destination.map(|word| word >> 8));
        put(members, "icmp_code", destination.map(|word| word & 0xff));
        return;
    }
    let [source_name, destination_name] = match of_protocol {
        protocol::GRE => ["source_key", "destination_key"],
        _ if protocol::has_ports(of_protocol) => ["source_port", "destination_port"],
        _ => ["source_l4", "destination_l4"],
    };
    put(members, source_name, source);
    put(members, destination_name, destination);
}

impl<'a> Row<'a> {
    /// Returns true if it has all of these fields.
    fn has(&self, fields: u64) -> bool {
        self.has & fields == fields
    }

    /// Returns its value in a dense column, if it has the field.
    fn dense<T: Copy + Default>(&self, fields: u64, column: &[T]) -> Option<T> {
        self.has(fields).then(|| at(column, self.row))
    }

    /// Returns its text in a sparse column.
    fn sparse(&self, fields: u64, column: &'a SparseTexts) -> Option<&'a [u8]> {
        let item = column.rows.binary_search(&self.number()).ok().filter(|_| self.has(fields))?;
        column.texts.ends.get(item).map(|_| batch::text(&column.texts, item))
    }

    /// Returns the index of its item in a sparse group that has at most one for a row.
    fn item(&self, fields: u64, rows: &[u32]) -> Option<usize> {
        rows.binary_search(&self.number()).ok().filter(|_| self.has(fields))
    }

    /// Returns the index of its first item of a kind in a sparse group that may have two for a row.
    fn item_of(&self, fields: u64, rows: &[u32], kinds: &[u8], kind: u8) -> Option<usize> {
        let number = self.number();
        let first = rows.partition_point(|&row| row < number);
        let mut items = (first..rows.len()).take_while(|&item| rows.get(item) == Some(&number));
        items.find(|&item| kinds.get(item) == Some(&kind)).filter(|_| self.has(fields))
    }

    fn number(&self) -> u32 {
        u32::try_from(self.row).unwrap_or(u32::MAX)
    }

    fn family(&self) -> u8 {
        at(&self.flows.family, self.row)
    }

    fn protocol(&self) -> u8 {
        at(&self.flows.protocol, self.row)
    }

    fn event_kind(&self) -> u8 {
        self.flows.events.as_ref().map_or(event::NONE, |events| at(&events.kind, self.row))
    }

    /// Inserts the fields of an event.
    fn event(&self, members: &mut Members) {
        let Some(events) = &self.flows.events else { return };
        let kind = self.event_kind();
        let name = match kind {
            event::NEW => "new",
            event::UPDATE => "update",
            event::DESTROY => "destroy",
            event::GAP => "gap",
            _ => "unknown",
        };
        if kind != event::NONE {
            put(members, "event", Some(name));
            put(members, "event_kind", Some(kind));
        }
        if kind == event::GAP {
            put(members, "lost", self.lost());
        }
        put(members, "synthetic", self.has(field::SYNTHETIC).then_some(true));
        put(members, "event_time", self.dense(field::EVENT_TIME, &events.time));
        put(members, "received", events.received.get(self.row).copied());
        put(members, "port_id", self.dense(field::PORT_ID, &events.port_id));
        put(members, "program", self.sparse(field::PROGRAM, &events.program).map(text));
        put(members, "namespace_id", self.dense(field::NAMESPACE, &events.namespace_id));
        put(members, "namespace_name", self.sparse(field::NAMESPACE_NAME, &events.namespace_name).map(text));
    }

    /// Inserts the fields that most flows have, and the directions.
    fn common(&self, members: &mut Members) {
        let flows = self.flows;
        if self.event_kind() != event::GAP {
            put_named(members, "family", self.family(), family::name(self.family()));
        }
        if self.has & (field::PROTOCOL | field::REPLY_PROTOCOL) != 0 {
            put_named(members, "protocol", self.protocol(), protocol::name(self.protocol()));
        }
        if let Some(value) = self.dense(field::STATE, &flows.state) {
            put_named(members, "state", value, state::name(self.protocol(), value));
        }
        put(members, "timeout", self.dense(field::TIMEOUT, &flows.timeout));
        put_object(members, "original", self.direction(false));
        put_object(members, "reply", self.direction(true));
        put_object(members, "nat", self.nat());
        if let Some(bits) = self.dense(field::STATUS, &flows.status) {
            let names = status::NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name);
            put(members, "status", Some(bits));
            put(members, "status_names", Some(names.collect::<Value>()));
        }
        put(members, "mark", self.dense(field::MARK, &flows.mark));
        put(members, "zone", flows.zones.as_ref().and_then(|zones| self.dense(field::ZONE, &zones.zone)));
        put(members, "use", self.dense(field::USE, &flows.use_count));
        put(members, "id", self.dense(field::ID, &flows.id));
        if let Some(times) = &flows.times {
            put(members, "start", self.dense(field::START, &times.start));
            put(members, "stop", self.dense(field::STOP, &times.stop));
        }
    }

    /// Returns the members of one direction.
    fn direction(&self, reply: bool) -> Members {
        let flows = self.flows;
        let (tuples, bits) = if reply { (&flows.reply, REPLY) } else { (&flows.original, ORIGINAL) };
        let mut members = Members::new();
        self.put_addresses(&mut members, tuples, self.row, [self.has(bits.source), self.has(bits.destination)]);
        let words =
            (self.dense(bits.source_l4, &tuples.source_l4), self.dense(bits.destination_l4, &tuples.destination_l4));
        put_words(&mut members, self.protocol(), words.0, words.1);
        let one = |original: u64, answer: u64| if reply { answer } else { original };
        if let Some(zones) = &flows.zones {
            let column = if reply { &zones.reply } else { &zones.original };
            put(&mut members, "zone", self.dense(one(field::ORIGINAL_ZONE, field::REPLY_ZONE), column));
        }
        if let Some(counters) = &flows.counters {
            let (packets, bytes) = match reply {
                true => (&counters.reply_packets, &counters.reply_bytes),
                false => (&counters.original_packets, &counters.original_bytes),
            };
            let bit = one(field::ORIGINAL_COUNTERS, field::REPLY_COUNTERS);
            put(&mut members, "packets", self.dense(bit, packets));
            put(&mut members, "bytes", self.dense(bit, bytes));
        }
        if let Some(tcp) = &flows.tcp {
            let (scales, flags) = match reply {
                true => (&tcp.reply_window_scale, &tcp.reply_flags),
                false => (&tcp.original_window_scale, &tcp.original_flags),
            };
            let bit = one(field::ORIGINAL_WINDOW_SCALE, field::REPLY_WINDOW_SCALE);
            put(&mut members, "window_scale", self.dense(bit, scales));
            let flags = self.dense(one(field::ORIGINAL_TCP_FLAGS, field::REPLY_TCP_FLAGS), flags);
            put(&mut members, "tcp_flags", flags.map(|flags| flags >> 8));
            put(&mut members, "tcp_flags_mask", flags.map(|flags| flags & 0xff));
        }
        if let Some(sctp) = &flows.sctp {
            let tags = if reply { &sctp.reply_vtag } else { &sctp.original_vtag };
            put(&mut members, "vtag", self.dense(one(field::ORIGINAL_VTAG, field::REPLY_VTAG), tags));
        }
        put_object(&mut members, "sequence", self.sequence(reply));
        members
    }

    fn put_addresses(&self, members: &mut Members, tuples: &Tuples, item: usize, [source, destination]: [bool; 2]) {
        let of = |column: &Addresses| address(self.family(), bits(column, item));
        put(members, "source", source.then(|| of(&tuples.source)));
        put(members, "destination", destination.then(|| of(&tuples.destination)));
    }

    /// Returns the TCP sequence adjustment of a direction.
    fn sequence(&self, reply: bool) -> Members {
        let mut members = Members::new();
        let bit = if reply { field::REPLY_SEQUENCE } else { field::ORIGINAL_SEQUENCE };
        if let Some(all) = self.flows.rare.as_ref().map(|rare| &rare.sequence)
            && let Some(item) = self.item_of(bit, &all.rows, &all.reply, reply.into())
        {
            put(&mut members, "position", Some(at(&all.position, item)));
            put(&mut members, "before", Some(at(&all.before, item).cast_signed()));
            put(&mut members, "after", Some(at(&all.after, item).cast_signed()));
        }
        members
    }

    /// Returns the translations of source and destination, as far as tuples and status show them.
    fn nat(&self) -> Members {
        let (original, reply, row) = (&self.flows.original, &self.flows.reply, self.row);
        let icmp = protocol::is_icmp(self.protocol());
        let status = self.dense(field::STATUS, &self.flows.status);
        let done = |bit: u32| status.is_none_or(|status| status & bit != 0);
        let changed = |fields: u64, before: u16, after: u16| (self.has(fields) && before != after).then_some(after);
        let moved = |fields: u64, before: &Addresses, after: &Addresses| {
            let (before, after) = (bits(before, row), bits(after, row));
            (self.has(fields) && before != after).then(|| address(self.family(), after))
        };
        let word = |column: &[u16]| at(column, row);
        let mut members = Members::new();
        if done(status::SRC_NAT_DONE) {
            let mut source = Members::new();
            let fields = field::SOURCE | field::REPLY_DESTINATION;
            put(&mut source, "address", moved(fields, &original.source, &reply.destination));
            if icmp {
                let fields = field::SOURCE_L4 | field::REPLY_SOURCE_L4;
                put(&mut source, "icmp_id", changed(fields, word(&original.source_l4), word(&reply.source_l4)));
            } else {
                let fields = field::SOURCE_L4 | field::REPLY_DESTINATION_L4;
                put(&mut source, "port", changed(fields, word(&original.source_l4), word(&reply.destination_l4)));
            }
            put_object(&mut members, "source", source);
        }
        if done(status::DST_NAT_DONE) {
            let mut destination = Members::new();
            let fields = field::DESTINATION | field::REPLY_SOURCE;
            put(&mut destination, "address", moved(fields, &original.destination, &reply.source));
            if !icmp {
                let fields = field::DESTINATION_L4 | field::REPLY_SOURCE_L4;
                put(&mut destination, "port", changed(fields, word(&original.destination_l4), word(&reply.source_l4)));
            }
            put_object(&mut members, "destination", destination);
        }
        members
    }

    /// Inserts the fields that few flows have.
    fn rare(&self, members: &mut Members, labels: &LabelNames) {
        let Some(rare) = &self.flows.rare else { return };
        put(members, "mark_mask", self.dense(field::MARK_MASK, &rare.mark_mask));
        put(members, "secmark", self.dense(field::SECMARK, &rare.secmark));
        put(members, "security_context", self.sparse(field::SECURITY_CONTEXT, &rare.security_context).map(text));
        put(members, "helper", self.sparse(field::HELPER, &rare.helper).map(text));
        put(members, "helper_info", self.sparse(field::HELPER_INFO, &rare.helper_info).map(hex));
        put(members, "labels", self.sparse(field::LABELS, &rare.labels).map(|set| labels.array(set)));
        put(members, "labels_mask", self.sparse(field::LABELS_MASK, &rare.labels_mask).map(|set| labels.array(set)));
        put_object(members, "master", self.master());
        if let Some(item) = self.item(field::SYNPROXY, &rare.synproxy.rows) {
            let mut synproxy = Members::new();
            put(&mut synproxy, "isn", Some(at(&rare.synproxy.isn, item)));
            put(&mut synproxy, "its", Some(at(&rare.synproxy.its, item)));
            put(&mut synproxy, "tsoff", Some(at(&rare.synproxy.tsoff, item)));
            put_object(members, "synproxy", synproxy);
        }
        if let Some(item) = self.item(field::DCCP, &rare.dccp.rows) {
            let role = at(&rare.dccp.role, item);
            let name = match role {
                0 => Some("client"),
                1 => Some("server"),
                _ => None,
            };
            let mut dccp = Members::new();
            put_named(&mut dccp, "role", role, name);
            put(&mut dccp, "handshake_sequence", Some(at(&rare.dccp.handshake, item)));
            put_object(members, "dccp", dccp);
        }
        put_object(members, "nat_request", self.nat_request());
        let unknown = self.unknown();
        put(members, "unknown", (!unknown.is_empty()).then_some(unknown));
        // The number of lost events has a member of its own.
        let lost = |key: &[u8]| self.event_kind() == event::GAP && key == event::LOST.as_bytes();
        let notes = self.annotations().filter(|(key, _)| !lost(key));
        // Of equal keys the last one counts.
        let notes = notes.map(|(key, value)| (String::from_utf8_lossy(key).into_owned(), text(value))).collect();
        put_object(members, "annotations", notes);
    }

    /// Returns the flow by which this one was expected.
    fn master(&self) -> Members {
        let mut members = Members::new();
        let Some(masters) = self.flows.rare.as_ref().map(|rare| &rare.master) else { return members };
        let Some(item) = self.item(field::MASTER, &masters.rows) else { return members };
        let number = at(&masters.protocol, item);
        put_named(&mut members, "protocol", number, protocol::name(number));
        self.put_addresses(&mut members, &masters.tuple, item, [true, true]);
        if protocol::has_ports(number) || protocol::is_icmp(number) || number == protocol::GRE {
            let words = (at(&masters.tuple.source_l4, item), at(&masters.tuple.destination_l4, item));
            put_words(&mut members, number, Some(words.0), Some(words.1));
        }
        let zone = at(&masters.zone, item);
        put(&mut members, "zone", (zone != 0).then_some(zone));
        members
    }

    /// Returns the translations that a creation requests.
    fn nat_request(&self) -> Members {
        let mut members = Members::new();
        let Some(nat) = self.flows.rare.as_ref().map(|rare| &rare.nat) else { return members };
        for (name, bit, end) in [("source", field::SOURCE_NAT, 0), ("destination", field::DESTINATION_NAT, 1)] {
            if let Some(item) = self.item_of(bit, &nat.rows, &nat.destination, end) {
                let mut range = Members::new();
                put(&mut range, "first", Some(address(self.family(), bits(&nat.first, item))));
                put(&mut range, "last", Some(address(self.family(), bits(&nat.last, item))));
                put(&mut range, "first_port", Some(at(&nat.first_port, item)));
                put(&mut range, "last_port", Some(at(&nat.last_port, item)));
                put_object(&mut members, name, range);
            }
        }
        members
    }

    /// Returns the attributes without a field: the path of each, the outermost type first, and its payload.
    fn unknown(&self) -> Vec<Value> {
        let Some(all) = self.flows.rare.as_ref().map(|rare| &rare.unknown).filter(|_| self.has(field::UNKNOWN)) else {
            return Vec::new();
        };
        let attribute = |item: usize| {
            let path = all.paths.get(item)?;
            let types = [path >> 48, path >> 32 & 0xffff, path >> 16 & 0xffff, path & 0xffff];
            let mut members = Members::new();
            put(&mut members, "path", Some(types.into_iter().filter(|kind| *kind != 0).collect::<Value>()));
            put(&mut members, "payload", Some(hex(batch::text(&all.payloads, item))));
            Some(Value::Object(members))
        };
        self.items(&all.rows).filter_map(attribute).collect()
    }

    fn annotations(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let all = self.flows.rare.as_ref().map(|rare| &rare.annotations).filter(|_| self.has(field::ANNOTATIONS));
        let items = all.map(|all| self.items(&all.rows)).unwrap_or_default();
        items.filter_map(move |item| all.map(|all| (batch::text(&all.keys, item), batch::text(&all.values, item))))
    }

    /// Returns the number of events that were lost before a gap.
    fn lost(&self) -> Option<u64> {
        let (_, number) = self.annotations().find(|(key, _)| *key == event::LOST.as_bytes())?;
        std::str::from_utf8(number).ok()?.parse().ok()
    }

    /// Returns the items of the row in a sparse column that may have any number for a row.
    fn items(&self, rows: &[u32]) -> std::ops::Range<usize> {
        let number = self.number();
        rows.partition_point(|&row| row < number)..rows.partition_point(|&row| row <= number)
    }
}
