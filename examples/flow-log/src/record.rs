//! Flow records.

use std::net::IpAddr;

use flowgate_sdk::{Direction, Flow, Page, event, field, protocol, state};

/// flowEndReason of IPFIX.
mod end_reason {
    pub(super) const IDLE_TIMEOUT: u64 = 1;
    pub(super) const ACTIVE_TIMEOUT: u64 = 2;
    pub(super) const END_OF_FLOW: u64 = 3;
    pub(super) const FORCED_END: u64 = 4;
}

/// firewallEvent of IPFIX: the flow was deleted.
const FLOW_DELETED: u64 = 2;

/// Writes the record of a flow, and a newline.
pub(crate) fn write(page: &mut Page, flow: &Flow<'_>, observer: Option<&str>) {
    page.byte(b'{');
    times(page, flow);
    tuples(page, flow);
    counters(page, flow);
    if let Some(id) = flow.id() {
        number(page, "flowId", u64::from(id));
    }
    if let Some(zone) = flow.zone().or(flow.original_zone()) {
        number(page, "ingressVRFID", u64::from(zone));
    }
    number(page, "flowEndReason", end(flow));
    if flow.event() == event::DESTROY {
        number(page, "firewallEvent", FLOW_DELETED);
    }
    details(page, flow);
    if let Some(observer) = observer {
        text(page, "observationPointName", observer.as_bytes());
    }
    page.replace_last(b'}');
    page.byte(b'\n');
}

/// Writes start and end. The end is that of the entry; a listing has none, and the duration is that up to now.
fn times(page: &mut Page, flow: &Flow<'_>) {
    const MILLISECOND: u64 = 1_000_000;
    if let Some(start) = flow.start() {
        number(page, "flowStartMilliseconds", start / MILLISECOND);
    }
    let ended = flow.event() == event::DESTROY;
    let end = flow.stop().or(flow.event_time()).or(flow.received()).filter(|_| ended);
    if let Some(end) = end {
        number(page, "flowEndMilliseconds", end / MILLISECOND);
    }
    if let Some(start) = flow.start() {
        let end = end.unwrap_or(flow.batch().time);
        number(page, "flowDurationMilliseconds", end.saturating_sub(start) / MILLISECOND);
    }
}

/// Writes source and destination, and the addresses after NAT.
fn tuples(page: &mut Page, flow: &Flow<'_>) {
    number(page, "protocolIdentifier", u64::from(flow.protocol()));
    let (original, reply) = (flow.original(), flow.reply());
    if flow.has(field::ORIGINAL_ADDRESSES) {
        address(page, ["sourceIPv4Address", "sourceIPv6Address"], original.source());
        address(page, ["destinationIPv4Address", "destinationIPv6Address"], original.destination());
        ports(page, flow, &original);
    }
    // Replies come from where the flow really went, and go to the address it was seen as.
    if flow.has(field::ORIGINAL_ADDRESSES | field::REPLY_ADDRESSES) {
        let names = ["postNATSourceIPv4Address", "postNATSourceIPv6Address"];
        changed_address(page, names, original.source(), reply.destination());
        let names = ["postNATDestinationIPv4Address", "postNATDestinationIPv6Address"];
        changed_address(page, names, original.destination(), reply.source());
    }
    if protocol::has_ports(flow.protocol()) && flow.has(field::ORIGINAL_L4 | field::REPLY_L4) {
        let changed = |page: &mut Page, name, before: u16, after: u16| {
            if before != after {
                number(page, name, u64::from(after));
            }
        };
        changed(page, "postNAPTSourceTransportPort", original.source_port(), reply.destination_port());
        changed(page, "postNAPTDestinationTransportPort", original.destination_port(), reply.source_port());
    }
}

fn ports(page: &mut Page, flow: &Flow<'_>, original: &Direction<'_>) {
    if !flow.has(field::ORIGINAL_L4) {
        return;
    }
    match flow.protocol() {
        protocol::ICMP => number(page, "icmpTypeCodeIPv4", u64::from(original.destination_l4())),
        protocol::ICMPV6 => number(page, "icmpTypeCodeIPv6", u64::from(original.destination_l4())),
        number_ if protocol::has_ports(number_) => {
            number(page, "sourceTransportPort", u64::from(original.source_port()));
            number(page, "destinationTransportPort", u64::from(original.destination_port()));
        }
        _ => {}
    }
}

/// Writes the counters of both directions, in the terms of RFC 5103's biflows.
fn counters(page: &mut Page, flow: &Flow<'_>) {
    if let Some((packets, bytes)) = flow.original_counters() {
        number(page, "initiatorPackets", packets);
        number(page, "initiatorOctets", bytes);
    }
    if let Some((packets, bytes)) = flow.reply_counters() {
        number(page, "responderPackets", packets);
        number(page, "responderOctets", bytes);
    }
}

/// Returns why the flow ended.
fn end(flow: &Flow<'_>) -> u64 {
    if flow.event() != event::DESTROY {
        return end_reason::ACTIVE_TIMEOUT;
    }
    if flow.port_id().is_some_and(|port| port != 0) {
        return end_reason::FORCED_END;
    }
    let closed = flow.protocol() == protocol::TCP
        && flow.state().is_some_and(|number| number > state::TCP_ESTABLISHED && flow.state_name() != Some("SYN_SENT2"));
    if closed { end_reason::END_OF_FLOW } else { end_reason::IDLE_TIMEOUT }
}

/// Writes the members for which IPFIX has no element.
fn details(page: &mut Page, flow: &Flow<'_>) {
    if flow.status().is_some() {
        key(page, "answered");
        page.bytes(if flow.seen_reply() { b"true," } else { b"false," });
    }
    if let Some(state) = flow.state_name() {
        text(page, "state", state.as_bytes());
    }
    if let Some(mark) = flow.mark().filter(|&mark| mark != 0) {
        number(page, "mark", u64::from(mark));
    }
    if let Some(helper) = flow.helper() {
        text(page, "helper", helper);
    }
    if let Some(program) = flow.program() {
        text(page, "endedBy", program);
    }
    let mut notes = flow.annotations().peekable();
    if notes.peek().is_some() {
        key(page, "annotations");
        page.byte(b'{');
        for (name, value) in notes {
            page.json(name);
            page.byte(b':');
            page.json(value);
            page.byte(b',');
        }
        page.replace_last(b'}');
        page.byte(b',');
    }
}

fn key(page: &mut Page, name: &str) {
    page.byte(b'"');
    page.bytes(name.as_bytes());
    page.text(b"\":");
}

fn number(page: &mut Page, name: &str, value: u64) {
    key(page, name);
    page.number(value);
    page.byte(b',');
}

fn text(page: &mut Page, name: &str, value: &[u8]) {
    key(page, name);
    page.json(value);
    page.byte(b',');
}

/// Writes an address, with the name for its family.
fn address(page: &mut Page, [ipv4, ipv6]: [&str; 2], address: IpAddr) {
    let name = if address.is_ipv4() { ipv4 } else { ipv6 };
    key(page, name);
    page.byte(b'"');
    match address {
        IpAddr::V4(address) => page.ipv4(address.to_bits()),
        IpAddr::V6(address) => page.ipv6(address.to_bits()),
    }
    page.text(b"\",");
}

fn changed_address(page: &mut Page, names: [&str; 2], before: IpAddr, after: IpAddr) {
    if before != after {
        address(page, names, after);
    }
}

#[cfg(test)]
mod tests {
    use flowgate_sdk::{
        FlowFormat, Plugin, status,
        testing::{Row, batch, setup},
    };

    use super::*;
    use crate::FlowLog;

    const SECOND: u64 = 1_000_000_000;

    fn lines(options: &[(&str, &str)], rows: impl IntoIterator<Item = Row>) -> String {
        let mut flows = batch(rows);
        flows.time = 50 * SECOND;
        String::from_utf8(FlowLog::configure(&setup(options)).unwrap().render(&flows)).unwrap()
    }

    #[test]
    fn a_flow_that_has_ended_gives_a_whole_record() {
        let row = Row::ipv4(protocol::TCP)
            .original("10.0.0.1", "203.0.113.1", 4000, 80)
            .reply("10.1.0.7", "198.51.100.9", 8080, 61000)
            .set(field::COUNTERS, |row| (row.original_counters, row.reply_counters) = ((5, 500), (4, 4000)))
            .set(field::START | field::STOP, |row| (row.start, row.stop) = (10 * SECOND, 12 * SECOND + 5_000_000))
            .set(field::STATE, |row| row.state = state::TCP_TIME_WAIT)
            .set(field::STATUS, |row| row.status = status::SEEN_REPLY)
            .set(field::ID, |row| row.id = 77)
            .set(field::ANNOTATIONS, |row| row.annotations = vec![(b"who".into(), b"me \"too\"".into())])
            .event(event::DESTROY);
        assert_eq!(
            lines(&[("observer", "gw1")], [row]),
            concat!(
                r#"{"flowStartMilliseconds":10000,"flowEndMilliseconds":12005,"flowDurationMilliseconds":2005,"#,
                r#""protocolIdentifier":6,"sourceIPv4Address":"10.0.0.1","destinationIPv4Address":"203.0.113.1","#,
                r#""sourceTransportPort":4000,"destinationTransportPort":80,"#,
                r#""postNATSourceIPv4Address":"198.51.100.9","postNATDestinationIPv4Address":"10.1.0.7","#,
                r#""postNAPTSourceTransportPort":61000,"postNAPTDestinationTransportPort":8080,"#,
                r#""initiatorPackets":5,"initiatorOctets":500,"responderPackets":4,"responderOctets":4000,"#,
                r#""flowId":77,"flowEndReason":3,"firewallEvent":2,"answered":true,"state":"TIME_WAIT","#,
                r#""annotations":{"who":"me \"too\""},"observationPointName":"gw1"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_flow_of_a_listing_has_no_end() {
        let row = Row::ipv6(protocol::ICMPV6)
            .original("2001:db8::1", "2001:db8::2", 7, 0x8000)
            .reply("2001:db8::2", "2001:db8::1", 7, 0x8100)
            .set(field::START, |row| row.start = 20 * SECOND);
        assert_eq!(
            lines(&[], [row]),
            concat!(
                r#"{"flowStartMilliseconds":20000,"flowDurationMilliseconds":30000,"protocolIdentifier":58,"#,
                r#""sourceIPv6Address":"2001:db8::1","destinationIPv6Address":"2001:db8::2","#,
                r#""icmpTypeCodeIPv6":32768,"flowEndReason":2}"#,
                "\n"
            )
        );
    }

    #[test]
    fn the_end_has_a_reason() {
        let ended = |row: Row| lines(&[], [row.event(event::DESTROY)]);
        let udp = || Row::ipv4(protocol::UDP).original("10.0.0.1", "10.0.0.2", 1, 2);
        assert!(ended(udp()).contains(r#""flowEndReason":1,"#));
        let deleted = udp().set(field::PORT_ID | field::PROGRAM, |row| (row.port_id, row.program) = (9, b"x".into()));
        assert!(ended(deleted.clone()).contains(r#""flowEndReason":4,"#));
        assert!(ended(deleted).contains(r#""endedBy":"x""#));
    }

    #[test]
    fn other_events_and_gaps_give_none() {
        let row = || Row::ipv4(protocol::UDP).original("10.0.0.1", "10.0.0.2", 1, 2);
        assert_eq!(
            lines(&[], [row().event(event::NEW), row().event(event::UPDATE), Row::new(0, 0).event(event::GAP)]),
            ""
        );
    }
}
