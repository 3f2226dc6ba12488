//! What conntrack's own lines leave out, as options that load it all the same: for actions that are printed.

use flowgate_sdk::{AddressRange, Flow, Page, field, protocol};

use crate::{Command, Save};

/// Fields besides those that every line may need.
pub(crate) const READS: u64 = field::MARK
    | field::MARK_MASK
    | field::LABELS
    | field::LABELS_MASK
    | field::HELPER
    | field::SOURCE_NAT
    | field::DESTINATION_NAT;

impl Save {
    /// Writes mark, labels, translations to be made; and a remark about a helper, for which there is no option.
    #[inline(never)]
    pub(crate) fn complete(&self, page: &mut Page, flow: Flow<'_>) {
        let making = matches!(self.command, Command::Add | Command::Create);
        if making && flow.protocol() == protocol::TCP && flow.state().is_none() {
            // The option is required, and this is what the kernel makes of its absence.
            page.text(b" --state NONE");
        }
        if let Some(mark) = flow.mark() {
            page.text(b" -m ");
            page.number(mark.into());
            if let Some(mask) = flow.mark_mask().filter(|&mask| mask != u32::MAX) {
                page.byte(b'/');
                page.number(mask.into());
            }
        }
        for (option, range) in [(b" -n ", flow.source_nat()), (b" -g ", flow.destination_nat())] {
            if let Some(range) = range {
                page.text(option);
                translation(page, flow, range);
            }
        }
        self.labels(page, flow);
        if let Some(helper) = flow.helper() {
            page.text(b" # helper=");
            page.clean(helper);
        }
    }

    /// Labels that are added, or removed: the new ones are `(old & !mask) ^ labels`.
    fn labels(&self, page: &mut Page, flow: Flow<'_>) {
        let Some(labels) = flow.labels() else { return };
        let bits = |bytes: &[u8]| -> Vec<usize> {
            (0..bytes.len() * 8)
                .filter(|bit| bytes.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 != 0))
                .collect()
        };
        let set = bits(labels);
        let cleared: Vec<usize> = match flow.labels_mask() {
            // All of them go when none is to stay, which has a form of its own.
            Some(mask) if mask.len() >= 16 && mask.iter().all(|&byte| byte == 0xff) && set.is_empty() => {
                page.text(b" --label-del");
                return;
            }
            Some(mask) => bits(mask).into_iter().filter(|bit| !set.contains(bit)).collect(),
            None => Vec::new(),
        };
        for (option, bits) in [(b" --label-add ", &set), (b" --label-del ", &cleared)] {
            if bits.is_empty() {
                continue;
            }
            page.text(option);
            for (index, &bit) in bits.iter().enumerate() {
                if index > 0 {
                    page.byte(b',');
                }
                match self.labels.get(bit).and_then(Option::as_deref) {
                    Some(name) => page.bytes(name.as_bytes()),
                    None => page.number(bit as u64),
                }
            }
        }
    }
}

/// `ADDRESS` or `ADDRESS:PORT`, in IPv6 `[ADDRESS]:PORT`.
fn translation(page: &mut Page, flow: Flow<'_>, range: AddressRange) {
    let (ipv4, port) = (flow.family() == flowgate_sdk::family::IPV4, range.first_port);
    if ipv4 {
        page.ipv4(range.first as u32);
    } else {
        if port != 0 {
            page.byte(b'[');
        }
        page.ipv6(range.first);
        if port != 0 {
            page.byte(b']');
        }
    }
    if port != 0 {
        page.byte(b':');
        page.number(port.into());
    }
}
