//! Flows that a plugin creates.

use crate::{
    AddressRange, Key, Sequence, Synproxy,
    address::MAPPED,
    values::{Values, Zones},
};

/// A flow to create in the kernel's table.
///
/// ```
/// use flowgate_sdk::{Key, NewFlow, protocol, state, status};
///
/// let key = Key::new(protocol::TCP, "10.0.0.1:40000".parse()?, "192.0.2.1:443".parse()?);
/// let flow =
///     NewFlow::new(key, 3600).state(state::TCP_ESTABLISHED).status(status::SEEN_REPLY | status::ASSURED).mark(7);
/// # let _ = flow;
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFlow {
    pub(crate) original: Key,
    pub(crate) reply: Option<Key>,
    pub(crate) zones: Zones,
    pub(crate) values: Values,
}

impl NewFlow {
    /// Makes a flow with this original direction, and the reverse of it as its reply, that expires after `timeout`
    /// seconds. Its zone is that of the key.
    #[must_use]
    pub fn new(original: Key, timeout: u32) -> Self {
        NewFlow {
            original,
            // An ICMP type without an answer has no reply, and the kernel rejects the flow (EINVAL).
            reply: original.reversed(),
            zones: Zones { both: original.zone, ..Zones::default() },
            values: Values { timeout: Some(timeout), ..Values::default() },
        }
    }

    /// Sets the reply direction, if it is not the reverse of the original one. Protocol and zone of the key are
    /// ignored: the protocol is the same, and zones have methods of their own.
    ///
    /// This does not set up NAT; [`NewFlow::source_nat`] and [`NewFlow::destination_nat`] do, and change the reply
    /// accordingly.
    #[must_use]
    pub fn reply(mut self, reply: Key) -> Self {
        self.reply = Some(Key { protocol: self.original.protocol, ..reply });
        self
    }

    /// Puts the original direction alone into a zone; the reply stays in the default zone.
    #[must_use]
    pub fn original_zone(mut self, zone: u16) -> Self {
        self.zones = Zones { original: zone, ..Zones::default() };
        self
    }

    /// Puts the reply direction alone into a zone; the original direction stays in the default zone.
    #[must_use]
    pub fn reply_zone(mut self, zone: u16) -> Self {
        self.zones = Zones { reply: zone, ..Zones::default() };
        self
    }

    /// Sets status bits of [`crate::status`]; CONFIRMED is set in any case.
    #[must_use]
    pub fn status(mut self, bits: u32) -> Self {
        *self.values.status.get_or_insert_default() |= bits;
        self
    }

    /// Sets the mark.
    #[must_use]
    pub fn mark(mut self, mark: u32) -> Self {
        self.values.mark = Some(mark);
        self
    }

    /// Sets the protocol state, a number of the flow's protocol: see [`crate::state`].
    #[must_use]
    pub fn state(mut self, state: u8) -> Self {
        self.values.state = Some(state);
        self
    }

    /// Sets TCP flags; see [`crate::Update::tcp_flags`]. SACK_PERM (2) and BE_LIBERAL (8) keep the kernel from checking
    /// packets against a window that it has not seen.
    #[must_use]
    pub fn tcp_flags(mut self, original: (u8, u8), reply: (u8, u8)) -> Self {
        let word = |(flags, mask)| Some(u16::from_be_bytes([flags, mask]));
        self.values.tcp_flags = (word(original), word(reply));
        self
    }

    /// Sets the TCP window scales; see [`crate::Update::window_scales`].
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

    /// Sets the DCCP role of the original direction (0 client, 1 server) and the handshake sequence number, on kernels
    /// that track DCCP.
    #[must_use]
    pub fn dccp(mut self, role: u8, handshake: u64) -> Self {
        self.values.dccp = Some((role, handshake));
        self
    }

    /// Adds a label, 0 to 127. The kernel silently drops it if no rule uses labels.
    #[must_use]
    pub fn label(mut self, bit: u16) -> Self {
        let labels = self.values.labels.get_or_insert_with(|| vec![0; crate::values::LABEL_BYTES]);
        let index = usize::from(bit / 8);
        if labels.len() <= index {
            // The kernel rejects it, in whole words.
            labels.resize((index + 1).next_multiple_of(4), 0);
        }
        if let Some(byte) = labels.get_mut(index) {
            *byte |= 1 << (bit % 8);
        }
        self
    }

    /// Assigns a helper, with a name of at most 15 bytes, such as `ftp`; the kernel must have it for the
    /// family and the protocol.
    #[must_use]
    pub fn helper(mut self, name: &str) -> Self {
        self.values.helper = Some(name.as_bytes().to_vec());
        self
    }

    /// Sets the helper's private data, opaque.
    #[must_use]
    pub fn helper_info(mut self, info: &[u8]) -> Self {
        self.values.helper_info = Some(info.to_vec());
        self
    }

    /// Makes it a related flow of another one, which must be in the table; this sets the status EXPECTED.
    #[must_use]
    pub fn master(mut self, master: Key) -> Self {
        self.values.master = Some(master);
        self
    }

    /// Translates the source to one of these addresses and ports.
    #[must_use]
    pub fn source_nat(mut self, range: AddressRange) -> Self {
        self.values.nat[0] = Some(range);
        self
    }

    /// Translates the destination to one of these addresses and ports.
    #[must_use]
    pub fn destination_nat(mut self, range: AddressRange) -> Self {
        self.values.nat[1] = Some(range);
        self
    }

    /// Sets the sequence adjustment of the original direction.
    #[must_use]
    pub fn original_sequence(mut self, sequence: Sequence) -> Self {
        self.values.sequences[0] = Some(sequence);
        self
    }

    /// Sets the sequence adjustment of the reply direction.
    #[must_use]
    pub fn reply_sequence(mut self, sequence: Sequence) -> Self {
        self.values.sequences[1] = Some(sequence);
        self
    }

    /// Sets the state of the SYN proxy.
    #[must_use]
    pub fn synproxy(mut self, synproxy: Synproxy) -> Self {
        self.values.synproxy = Some(synproxy);
        self
    }

    /// Returns true if all addresses are of one family.
    pub(crate) fn is_sound(&self) -> bool {
        let v4 = self.original.source.is_ipv4();
        let keys = [Some(self.original), self.reply, self.values.master].into_iter().flatten();
        let ranges = self.values.nat.into_iter().flatten();
        keys.flat_map(|key| [key.source, key.destination]).all(|address| address.is_ipv4() == v4)
            && ranges.flat_map(|range| [range.first, range.last]).all(|bits| (bits >> 32 == MAPPED >> 32) == v4)
    }
}
