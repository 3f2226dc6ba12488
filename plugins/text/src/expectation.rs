//! Expectations as lines.

use flowgate_sdk::{Direction, Expectation, Page, event, expectation_flag, family, time::SECOND};

use crate::{Plain, annotations, flow};

impl Plain {
    /// Writes the line of an expectation; `now` is in nanoseconds since 1970.
    pub(crate) fn expectation(&self, page: &mut Page, expectation: &Expectation<'_>, now: u64) {
        let kind = expectation.event();
        if kind == event::GAP {
            return;
        }
        if self.timestamp {
            // Unlike for flows, both numbers are padded with blanks on the right.
            page.byte(b'[');
            left(page, now / SECOND, 8);
            page.byte(b'.');
            left(page, now % SECOND / 1_000, 6);
            page.text(b"]\t");
        }
        if kind != event::NONE {
            page.text(flow::tag(kind));
        }
        if let Some(timeout) = expectation.timeout() {
            page.number(timeout.into());
            page.byte(b' ');
        }
        let protocol = expectation.protocol();
        page.text(b"proto=");
        page.number(protocol.into());
        page.byte(b' ');
        let master = match expectation.master_protocol() {
            0 => protocol,
            master => master,
        };
        tuple(page, b"", expectation.expected(), protocol);
        tuple(page, b"mask-", expectation.mask(), protocol);
        tuple(page, b"master-", expectation.master(), master);
        if let Some(zone) = expectation.zone() {
            page.text(b"zone=");
            page.number(zone.into());
            page.byte(b' ');
        }
        flags(page, expectation.flags().unwrap_or_default());
        if let Some(class) = expectation.class() {
            page.text(b"class=");
            page.number(class.into());
            page.byte(b' ');
        }
        if let Some(helper) = expectation.helper() {
            page.text(b"helper=");
            page.clean(helper);
            page.byte(b' ');
        }
        annotations(page, expectation.annotations());
        page.replace_last(b'\n');
    }
}

/// Writes a number, padded with blanks on the right.
fn left(page: &mut Page, number: u64, width: usize) {
    let start = page.len();
    page.number(number);
    while page.len() < start + width {
        page.byte(b' ');
    }
}

/// Writes one of the three tuples.
fn tuple(page: &mut Page, prefix: &[u8], direction: Direction<'_>, protocol: u8) {
    for (name, address, v4) in [
        (b"src=", direction.source_bits(), direction.source_ipv4()),
        (b"dst=", direction.destination_bits(), direction.destination_ipv4()),
    ] {
        match direction.family() {
            family::IPV4 => {
                page.bytes(prefix);
                page.text(name);
                page.ipv4(v4);
                page.byte(b' ');
            }
            family::IPV6 => {
                page.bytes(prefix);
                page.text(name);
                page.ipv6(address);
                page.byte(b' ');
            }
            _ => {}
        }
    }
    *page = flow::layer4(std::mem::take(page), direction, protocol);
}

/// Writes flags by name, after a blank if there is any flag, even without a name.
fn flags(page: &mut Page, flags: u32) {
    let mut first = true;
    for (_, name) in expectation_flag::NAMES.iter().filter(|(bit, _)| flags & bit != 0) {
        if !std::mem::take(&mut first) {
            page.byte(b',');
        }
        page.bytes(name.as_bytes());
    }
    if flags != 0 {
        page.byte(b' ');
    }
}
