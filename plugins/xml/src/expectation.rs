//! Expectations as elements, one per line.

use flowgate_sdk::{Direction, Expectation, Page, expectation_flag, family, protocol};

use crate::{
    Xml, escape,
    flow::{layer4, number, opening, text},
};

impl Xml {
    /// Writes the element of an expectation; `now` is in nanoseconds since 1970.
    pub(crate) fn expectation(&self, page: &mut Page, expectation: &Expectation<'_>, now: u64) {
        let (of_family, of_protocol) = (expectation.family(), expectation.protocol());
        let of_master = match expectation.master_protocol() {
            0 => of_protocol,
            master => master,
        };
        page.bytes(opening(expectation.event()));
        page.text(b"<layer3 protonum=\"");
        page.number(of_family.into());
        page.text(b"\" protoname=\"");
        page.bytes(family::name(of_family).unwrap_or("unknown").as_bytes());
        page.text(b"\">");
        let tuples: [(&[u8], Direction<'_>, u8); 3] = [
            (b"expected", expectation.expected(), of_protocol),
            (b"mask", expectation.mask(), of_protocol),
            (b"master", expectation.master(), of_master),
        ];
        for (name, direction, _) in tuples {
            element(page, name, |page| addresses(page, direction));
        }
        page.text(b"</layer3><layer4 protonum=\"");
        page.number(of_protocol.into());
        page.text(b"\" protoname=\"");
        page.bytes(protocol::name(of_protocol).unwrap_or("unknown").as_bytes());
        page.text(b"\">");
        for (name, direction, protocol) in tuples {
            element(page, name, |page| *page = layer4(std::mem::take(page), direction, protocol));
        }
        page.text(b"</layer4><meta>");
        *page = self.meta(std::mem::take(page), expectation, now);
        page.text(b"</meta>");
        escape::annotations(page, expectation.annotations());
        page.text(b"</flow>\n");
    }

    fn meta(&self, mut page: Page, expectation: &Expectation<'_>, now: u64) -> Page {
        if let Some(helper) = expectation.helper() {
            page = text(page, b"<helper-name>", helper, b"</helper-name>");
        }
        if let Some(timeout) = expectation.timeout() {
            page = number(page, b"<timeout>", timeout.into(), b"</timeout>");
        }
        if let Some(class) = expectation.class() {
            page = number(page, b"<class>", class.into(), b"</class>");
        }
        if let Some(zone) = expectation.zone() {
            page = number(page, b"<zone>", zone.into(), b"</zone>");
        }
        if self.timestamp {
            self.when(&mut page, now);
        }
        let flags = expectation.flags().unwrap_or_default();
        if flags & expectation_flag::PERMANENT != 0 {
            page.text(b"<permanent/>");
        }
        if flags & expectation_flag::INACTIVE != 0 {
            page.text(b"<inactive/>");
        }
        if flags & expectation_flag::USERSPACE != 0 {
            page.text(b"<userspace/>");
        }
        page
    }
}

fn element(page: &mut Page, name: &[u8], content: impl FnOnce(&mut Page)) {
    page.byte(b'<');
    page.bytes(name);
    page.byte(b'>');
    content(page);
    page.text(b"</");
    page.bytes(name);
    page.byte(b'>');
}

fn addresses(page: &mut Page, direction: Direction<'_>) {
    match direction.family() {
        family::IPV4 => {
            page.text(b"<src>");
            page.ipv4(direction.source_ipv4());
            page.text(b"</src><dst>");
            page.ipv4(direction.destination_ipv4());
            page.text(b"</dst>");
        }
        family::IPV6 => {
            page.text(b"<src>");
            page.ipv6(direction.source_bits());
            page.text(b"</src><dst>");
            page.ipv6(direction.destination_bits());
            page.text(b"</dst>");
        }
        _ => {}
    }
}
