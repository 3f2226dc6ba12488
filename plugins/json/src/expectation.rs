//! Expectations as objects.

use flowgate_sdk::{Direction, Expectation, Page, event, expectation_field, expectation_flag, protocol};

use crate::{
    Json,
    value::{Parts, annotations, close, direction, event_kind, family, named, names, object, plain, text, unknown},
};

impl Json {
    /// Writes the object of an expectation.
    pub(crate) fn expectation(&mut self, page: &mut Page, row: &Expectation<'_>) {
        page.text(b"{\"type\":\"expectation\",");
        plain(page, b"time", row.batch().time);
        let kind = row.event();
        if kind != event::NONE {
            event_kind(page, kind);
        }
        if let Some(port) = row.port_id() {
            plain(page, b"port_id", port.into());
        }
        if let Some(program) = row.program() {
            text(page, b"program", program);
        }
        if kind != event::GAP {
            *page = family(std::mem::take(page), row.family());
        }
        if row.has(expectation_field::EXPECTED) {
            *page = self.protocol(std::mem::take(page), row.protocol());
        }
        if let Some(timeout) = row.timeout() {
            plain(page, b"timeout", timeout.into());
        }
        if row.has(expectation_field::EXPECTED) {
            let l4 = row.has(expectation_field::EXPECTED_L4);
            object(page, b"expected", |page| tuple(page, row.expected(), row.protocol(), l4));
        }
        if row.has(expectation_field::MASK) {
            // The members of the mask have the names of those that they mask.
            let l4 = row.has(expectation_field::MASK_L4);
            object(page, b"mask", |page| {
                plain(page, b"protocol", row.mask_protocol().into());
                tuple(page, row.mask(), row.protocol(), l4);
            });
        }
        if row.has(expectation_field::MASTER) {
            let (number, l4) = (row.master_protocol(), row.has(expectation_field::MASTER_L4));
            object(page, b"master", |page| {
                named(page, b"protocol", number.into(), protocol::name(number));
                tuple(page, row.master(), number, l4);
            });
        }
        if let Some(zone) = row.zone() {
            plain(page, b"zone", zone.into());
        }
        if let Some(flags) = row.flags() {
            plain(page, b"flags", flags.into());
            let set = expectation_flag::NAMES.iter().filter(|(bit, _)| flags & bit != 0);
            names(page, b"flag_names", set.map(|(_, name)| *name));
        }
        if let Some(class) = row.class() {
            plain(page, b"class", class.into());
        }
        if let Some(id) = row.id() {
            plain(page, b"id", id.into());
        }
        if let Some(helper) = row.helper() {
            text(page, b"helper", helper);
        }
        if let Some(function) = row.function() {
            text(page, b"function", function);
        }
        nat(page, row);
        unknown(page, row.unknown());
        annotations(page, row.annotations());
        close(page, b'}');
        page.byte(b'\n');
    }
}

/// Writes the NAT of the expected flow.
fn nat(page: &mut Page, row: &Expectation<'_>) {
    let Some(nat) = row.nat() else { return };
    let name = match nat.direction {
        0 => Some("original"),
        1 => Some("reply"),
        _ => None,
    };
    object(page, b"nat", |page| {
        named(page, b"direction", nat.direction.into(), name);
        named(page, b"protocol", nat.protocol.into(), protocol::name(nat.protocol));
        let known =
            protocol::has_ports(nat.protocol) || protocol::is_icmp(nat.protocol) || nat.protocol == protocol::GRE;
        tuple(page, nat.tuple, nat.protocol, known);
    });
}

fn tuple(page: &mut Page, of: Direction<'_>, protocol: u8, with_l4: bool) {
    *page = direction(std::mem::take(page), of, protocol, Parts::all(with_l4));
}
