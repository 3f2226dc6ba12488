//! The values that an update sets in a flow.

use crate::{
    AddressRange, Flow, Sequence, Synproxy, protocol,
    values::{LABEL_BYTES, Values},
};

/// Values to set in the kernel's entry of a flow. Values that are not given are not changed.
///
/// ```
/// use flowgate_sdk::{Update, status};
///
/// // Bit 4 of the mark, ten minutes to live and no more, and one label instead of another.
/// let update =
///     Update::new().mark_bits(0x10, 0x10).timeout(600).status(status::FIXED_TIMEOUT).add_label(3).remove_label(4);
/// assert!(!update.is_empty());
/// ```
///
/// The kernel applies helper, timeout, status, protocol state, mark, sequence adjustment, SYN proxy and labels, in this
/// order; values before a failure stay applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    values: Values,
    labels: Labels,
}

/// A change of labels: the new ones are `(old & !mask) ^ bits`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Labels {
    bits: Vec<u8>,
    mask: Vec<u8>,
    /// True if all bits are in the mask, however many labels the flow has.
    all: bool,
}

impl Labels {
    fn is_empty(&self) -> bool {
        !self.all && self.mask.is_empty() && self.bits.is_empty()
    }

    /// Sets or removes one label.
    fn change(&mut self, bit: u16, on: bool) {
        let (index, value) = (usize::from(bit / 8), 1 << (bit % 8));
        for set in [&mut self.bits, &mut self.mask] {
            if set.len() <= index {
                set.resize(index + 1, 0);
            }
        }
        if let Some(byte) = self.mask.get_mut(index) {
            *byte |= value;
        }
        if let Some(byte) = self.bits.get_mut(index) {
            *byte = if on { *byte | value } else { *byte & !value };
        }
    }

    /// Returns bits and mask in the length of the flow's labels `old`.
    ///
    /// The kernel clears words that are not sent, whatever the mask, so that all of them must be sent. A label beyond
    /// those that the kernel keeps extends them, so that the kernel can reject it (ERANGE); one that is only removed
    /// does not exist.
    fn fitted(&self, old: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
        let field = old.map_or(0, <[u8]>::len).max(LABEL_BYTES);
        let used = self.bits.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let length = field.max(used).next_multiple_of(4);
        let fit = |set: &[u8]| {
            let mut set = set.to_vec();
            set.resize(length, 0);
            set
        };
        (fit(&self.bits), if self.all { vec![0xff; length] } else { fit(&self.mask) })
    }
}

impl Update {
    /// Makes an update of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an update from a template (a row that [`crate::FlowTemplate`] receives), with the semantics of the kernel:
    /// the new mark is `(old & !mark_mask) ^ mark`, the new labels are `(old & !labels_mask) ^ labels`, where a missing
    /// mask is all ones; the new status is `old | status`; other values are replaced.
    #[must_use]
    pub fn of_template(template: &Flow<'_>) -> Self {
        let word = |(flags, mask)| u16::from_be_bytes([flags, mask]);
        let (original, reply) = template.tcp_flags();
        let labels = template.labels().map_or_else(Labels::default, |bits| {
            let mask = template.labels_mask();
            let all = |mask: &[u8]| mask.len() >= LABEL_BYTES && mask.iter().all(|&byte| byte == 0xff);
            Labels { bits: bits.to_vec(), mask: mask.unwrap_or_default().to_vec(), all: mask.is_none_or(all) }
        });
        Update {
            values: Values {
                timeout: template.timeout(),
                mark: template.mark(),
                mark_mask: template.mark().map(|_| template.mark_mask().unwrap_or(u32::MAX)),
                status: template.status(),
                state: template.state(),
                window_scales: template.window_scales(),
                tcp_flags: (original.map(word), reply.map(word)),
                vtags: template.vtags(),
                helper: template.helper().map(<[u8]>::to_vec),
                helper_info: template.helper_info().map(<[u8]>::to_vec),
                sequences: [template.original_sequence(), template.reply_sequence()],
                synproxy: template.synproxy(),
                dccp: template.dccp(),
                nat: [template.source_nat(), template.destination_nat()],
                ..Values::default()
            },
            labels,
        }
    }

    /// Sets the timeout in seconds; with 0 the entry expires at once. The kernel rejects it (EPERM) for a flow with
    /// [`crate::status::FIXED_TIMEOUT`].
    #[must_use]
    pub fn timeout(mut self, seconds: u32) -> Self {
        self.values.timeout = Some(seconds);
        self
    }

    /// Sets the mark.
    #[must_use]
    pub fn mark(self, mark: u32) -> Self {
        self.mark_bits(mark, u32::MAX)
    }

    /// Sets the bits of the mark that are in the mask. The kernel does it in one step: the other bits keep the value
    /// that they have at that moment.
    #[must_use]
    pub fn mark_bits(mut self, value: u32, mask: u32) -> Self {
        (self.values.mark, self.values.mark_mask) = (Some(value & mask), Some(mask));
        self
    }

    /// Adds status bits of [`crate::status`]: useful ones are ASSURED, SEEN_REPLY, FIXED_TIMEOUT and HELPER. Bits
    /// cannot be removed, and the kernel rejects (EBUSY) a status that lacks those of SEEN_REPLY, ASSURED and EXPECTED
    /// that the flow has. The plugin must therefore read [`crate::field::STATUS`]; [`crate::Notes::update`] adds the
    /// bits of the flow.
    #[must_use]
    pub fn status(mut self, bits: u32) -> Self {
        *self.values.status.get_or_insert_default() |= bits;
        self
    }

    /// Sets the protocol state, a number of the flow's protocol (see [`crate::state`]): for TCP, or for SCTP together
    /// with both verification tags. It has no effect on flows of other protocols.
    #[must_use]
    pub fn state(mut self, state: u8) -> Self {
        self.values.state = Some(state);
        self
    }

    /// Sets the TCP flags of each direction that are in a mask: flags (IP_CT_TCP_FLAG_* of
    /// linux/netfilter/nf_conntrack_tcp.h) and mask. The kernel accepts them only with a state.
    #[must_use]
    pub fn tcp_flags(mut self, original: (u8, u8), reply: (u8, u8)) -> Self {
        let word = |(flags, mask)| Some(u16::from_be_bytes([flags, mask]));
        self.values.tcp_flags = (word(original), word(reply));
        self
    }

    /// Sets the TCP window scales of both directions, 0 to 14 (RFC 7323). The kernel accepts them only with a state and
    /// with the flag IP_CT_TCP_FLAG_WINDOW_SCALE (1) of each direction.
    #[must_use]
    pub fn window_scales(mut self, original: u8, reply: u8) -> Self {
        self.values.window_scales = (Some(original), Some(reply));
        self
    }

    /// Sets the SCTP verification tags of both directions (RFC 9260). The kernel accepts them only with a state.
    #[must_use]
    pub fn vtags(mut self, original: u32, reply: u32) -> Self {
        self.values.vtags = (Some(original), Some(reply));
        self
    }

    /// Adds a label, 0 to 127; the others are kept. A flow that was created before the first rule with labels has no
    /// room for any (ENOSPC); the host skips such a flow.
    #[must_use]
    pub fn add_label(mut self, bit: u16) -> Self {
        self.labels.change(bit, true);
        self
    }

    /// Removes a label; the others are kept.
    #[must_use]
    pub fn remove_label(mut self, bit: u16) -> Self {
        self.labels.change(bit, false);
        self
    }

    /// Removes all labels. Labels that are added afterwards are then the only ones.
    #[must_use]
    pub fn clear_labels(mut self) -> Self {
        self.labels = Labels { all: true, ..Labels::default() };
        self
    }

    /// Sets the helper, with a name of at most 15 bytes. The kernel accepts only the one that the flow already has, or
    /// an empty name, which removes it.
    #[must_use]
    pub fn helper(mut self, name: &str) -> Self {
        self.values.helper = Some(name.as_bytes().to_vec());
        self
    }

    /// Sets the sequence adjustment of the original direction, for flows that have one.
    #[must_use]
    pub fn original_sequence(mut self, sequence: Sequence) -> Self {
        self.values.sequences[0] = Some(sequence);
        self
    }

    /// Sets the sequence adjustment of the reply direction, for flows that have one.
    #[must_use]
    pub fn reply_sequence(mut self, sequence: Sequence) -> Self {
        self.values.sequences[1] = Some(sequence);
        self
    }

    /// Sets the state of the SYN proxy, for flows that have one.
    #[must_use]
    pub fn synproxy(mut self, synproxy: Synproxy) -> Self {
        self.values.synproxy = Some(synproxy);
        self
    }

    /// Returns true if it sets nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values == Values::default() && self.labels.is_empty()
    }

    /// Returns the values for a flow: without those that do not apply to its protocol, with labels in the length of the
    /// flow's, and with its status.
    pub(crate) fn values_for(&self, flow: &Flow<'_>) -> Values {
        let mut values = self.values_at(flow.protocol(), flow.labels());
        values.status = values.status.map(|bits| bits | flow.status().unwrap_or(0));
        values
    }

    /// Returns the values for a flow that is not known.
    pub(crate) fn values_at(&self, number: u8, labels: Option<&[u8]>) -> Values {
        let mut values = self.values.clone();
        if !self.labels.is_empty() {
            let (bits, mask) = self.labels.fitted(labels);
            (values.labels, values.labels_mask) = (Some(bits), Some(mask));
        }
        if !matches!(number, protocol::TCP | protocol::SCTP | protocol::DCCP) {
            values.state = None;
        }
        if number != protocol::TCP || values.state.is_none() {
            (values.tcp_flags, values.window_scales) = Default::default();
        }
        if number != protocol::SCTP {
            values.vtags = (None, None);
        }
        if number != protocol::DCCP {
            values.dccp = None;
        }
        values
    }
}

impl AddressRange {
    /// Makes a range of one address, with any port.
    #[must_use]
    pub fn address(address: std::net::IpAddr) -> Self {
        let bits = crate::address::bits(address);
        AddressRange { first: bits, last: bits, first_port: 0, last_port: 0 }
    }

    /// Makes a range of addresses, with any port.
    #[must_use]
    pub fn addresses(first: std::net::IpAddr, last: std::net::IpAddr) -> Self {
        AddressRange { last: crate::address::bits(last), ..Self::address(first) }
    }

    /// Limits the range to ports from the first to the last.
    #[must_use]
    pub fn ports(mut self, first: u16, last: u16) -> Self {
        (self.first_port, self.last_port) = (first, last);
        self
    }
}
