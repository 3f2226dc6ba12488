//! Expectations as command lines that create or delete them.

use flowgate_sdk::{Direction, Expectation, Page, event, family, protocol};

use crate::{Command, Save};

impl Save {
    /// Writes the line of an expectation. A family that the options cannot express is left out.
    pub(crate) fn expectation(&self, page: &mut Page, expectation: &Expectation<'_>) {
        let kind = expectation.event();
        let expected = expectation.expected();
        if kind == event::GAP || family::name(expected.family()).is_none() {
            return;
        }
        let number = expectation.protocol();
        if matches!((self.command, kind), (Command::Delete, _) | (Command::Event, event::DESTROY)) {
            page.text(b"-D expect");
            direction(page, expected, [b" -s ", b" -d "]);
            layer4(page, number);
            // The options of the reply are required, but have no effect.
            direction(page, expected, [b" -q ", b" -r "]);
            ports(page, expected, number, [b" --sport ", b" --dport "]);
            ports(page, expected, number, [b" --reply-port-dst ", b" --reply-port-src "]);
        } else {
            page.text(b"-I expect");
            if let Some(timeout) = expectation.timeout() {
                page.text(b" -t ");
                page.number(timeout.into());
            }
            direction(page, expectation.master(), [b" -s ", b" -d "]);
            layer4(page, number);
            ports(page, expectation.master(), number, [b" --sport ", b" --dport "]);
            direction(page, expected, [b" --tuple-src ", b" --tuple-dst "]);
            ports(page, expected, number, [b" --tuple-port-src ", b" --tuple-port-dst "]);
            direction(page, expectation.mask(), [b" --mask-src ", b" --mask-dst "]);
        }
        page.byte(b'\n');
    }
}

fn layer4(page: &mut Page, number: u8) {
    page.text(b" -p ");
    match protocol::name(number) {
        Some(name) => page.bytes(name.as_bytes()),
        None => page.number(number.into()),
    }
}

fn direction(page: &mut Page, direction: Direction<'_>, names: [&[u8]; 2]) {
    for (name, bits, ipv4) in [
        (names[0], direction.source_bits(), direction.source_ipv4()),
        (names[1], direction.destination_bits(), direction.destination_ipv4()),
    ] {
        match direction.family() {
            family::IPV4 => {
                page.bytes(name);
                page.ipv4(ipv4);
            }
            family::IPV6 => {
                page.bytes(name);
                page.ipv6(bits);
            }
            _ => {}
        }
    }
}

fn ports(page: &mut Page, direction: Direction<'_>, number: u8, names: [&[u8]; 2]) {
    if !protocol::has_ports(number) {
        return;
    }
    for (name, port) in [(names[0], direction.source_l4()), (names[1], direction.destination_l4())] {
        page.bytes(name);
        page.number(port.into());
    }
}
