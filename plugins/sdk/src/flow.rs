//! The row view: reads a batch flow by flow.

use crate::{
    Direction,
    bindings::flowgate::conntrack::flow::Flows,
    columns::{annotations, at},
    event, field, protocol, state, status,
};

impl Flows {
    /// Returns the flows of the batch, in order.
    pub fn flows(&self) -> impl ExactSizeIterator<Item = Flow<'_>> {
        (0..self.length as usize).map(move |row| Flow { batch: self, row })
    }

    /// Returns the flow in a row; `None` if the batch is not that long.
    #[must_use]
    pub fn flow(&self, row: usize) -> Option<Flow<'_>> {
        (row < self.length as usize).then_some(Flow { batch: self, row })
    }
}

/// One flow: a row of a batch.
///
/// Methods that return an `Option` return `None` if the flow does not carry the field; a field that the plugin did not
/// ask for ([`crate::Description::reads`]) counts as not carried.
#[derive(Clone, Copy)]
pub struct Flow<'a> {
    pub(crate) batch: &'a Flows,
    pub(crate) row: usize,
}

impl<'a> Flow<'a> {
    /// Returns the row in the batch.
    #[inline]
    #[must_use]
    pub fn row(&self) -> usize {
        self.row
    }

    /// Returns the batch.
    #[inline]
    #[must_use]
    pub fn batch(&self) -> &'a Flows {
        self.batch
    }

    /// Returns the fields that the flow carries: bits of [`field`].
    #[inline]
    #[must_use]
    pub fn fields(&self) -> u64 {
        at(&self.batch.has, self.row)
    }

    /// Returns true if the flow carries all of these fields.
    #[inline]
    #[must_use]
    pub fn has(&self, fields: u64) -> bool {
        self.fields() & fields == fields
    }

    #[inline]
    pub(crate) fn carried<T: Copy + Default>(&self, fields: u64, column: &[T]) -> Option<T> {
        if self.has(fields) { Some(at(column, self.row)) } else { None }
    }

    /// Returns the layer-3 family: [`family::IPV4`](crate::family::IPV4), [`family::IPV6`](crate::family::IPV6) or
    /// another AF_ number.
    #[inline]
    #[must_use]
    pub fn family(&self) -> u8 {
        at(&self.batch.family, self.row)
    }

    /// Returns the layer-4 protocol number; 0 if not carried.
    #[inline]
    #[must_use]
    pub fn protocol(&self) -> u8 {
        at(&self.batch.protocol, self.row)
    }

    /// Returns the direction of the first packet.
    #[inline]
    #[must_use]
    pub fn original(&self) -> Direction<'a> {
        Direction::new(&self.batch.original, self.row, self.family())
    }

    /// Returns the direction of the answers.
    #[inline]
    #[must_use]
    pub fn reply(&self) -> Direction<'a> {
        Direction::new(&self.batch.reply, self.row, self.family())
    }

    /// Returns the status bits of [`status`].
    #[inline]
    #[must_use]
    pub fn status(&self) -> Option<u32> {
        self.carried(field::STATUS, &self.batch.status)
    }

    /// Returns true if packets were seen in both directions.
    #[inline]
    #[must_use]
    pub fn seen_reply(&self) -> bool {
        self.status().is_some_and(|bits| bits & status::SEEN_REPLY != 0)
    }

    /// Returns true if the flow will not be dropped early when the table is full.
    #[inline]
    #[must_use]
    pub fn assured(&self) -> bool {
        self.status().is_some_and(|bits| bits & status::ASSURED != 0)
    }

    /// Returns the seconds until the entry expires.
    #[inline]
    #[must_use]
    pub fn timeout(&self) -> Option<u32> {
        self.carried(field::TIMEOUT, &self.batch.timeout)
    }

    /// Returns the connection mark; `None` in an event means 0.
    #[inline]
    #[must_use]
    pub fn mark(&self) -> Option<u32> {
        self.carried(field::MARK, &self.batch.mark)
    }

    /// Returns the reference count.
    #[inline]
    #[must_use]
    pub fn use_count(&self) -> Option<u32> {
        self.carried(field::USE, &self.batch.use_count)
    }

    /// Returns the opaque identifier, the same for the life of the entry.
    #[inline]
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.carried(field::ID, &self.batch.id)
    }

    /// Returns the protocol state by number.
    #[inline]
    #[must_use]
    pub fn state(&self) -> Option<u8> {
        self.carried(field::STATE, &self.batch.state)
    }

    /// Returns the protocol state by name; `None` if there is none or its number is not known.
    #[must_use]
    pub fn state_name(&self) -> Option<&'static str> {
        state::name(self.protocol(), self.state()?)
    }

    /// Returns true if this is a TCP flow in state ESTABLISHED.
    #[must_use]
    pub fn established(&self) -> bool {
        self.protocol() == protocol::TCP && self.state() == Some(state::TCP_ESTABLISHED)
    }

    /// Returns the zone of both directions; `None` means the default zone 0.
    #[inline]
    #[must_use]
    pub fn zone(&self) -> Option<u16> {
        self.carried(field::ZONE, &self.batch.zones.as_ref()?.zone)
    }

    /// Returns the zone of the original direction alone.
    #[inline]
    #[must_use]
    pub fn original_zone(&self) -> Option<u16> {
        self.carried(field::ORIGINAL_ZONE, &self.batch.zones.as_ref()?.original)
    }

    /// Returns the zone of the reply direction alone.
    #[inline]
    #[must_use]
    pub fn reply_zone(&self) -> Option<u16> {
        self.carried(field::REPLY_ZONE, &self.batch.zones.as_ref()?.reply)
    }

    /// Returns the packets and bytes of the original direction, if accounting is on.
    #[inline]
    #[must_use]
    pub fn original_counters(&self) -> Option<(u64, u64)> {
        let counters = self.batch.counters.as_ref()?;
        self.has(field::ORIGINAL_COUNTERS)
            .then(|| (at(&counters.original_packets, self.row), at(&counters.original_bytes, self.row)))
    }

    /// Returns the packets and bytes of the reply direction, if accounting is on.
    #[inline]
    #[must_use]
    pub fn reply_counters(&self) -> Option<(u64, u64)> {
        let counters = self.batch.counters.as_ref()?;
        self.has(field::REPLY_COUNTERS)
            .then(|| (at(&counters.reply_packets, self.row), at(&counters.reply_bytes, self.row)))
    }

    /// Returns the bytes of both directions together, if accounting is on.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        let (_, original) = self.original_counters()?;
        let (_, reply) = self.reply_counters()?;
        Some(original.saturating_add(reply))
    }

    /// Returns the packets of both directions together, if accounting is on.
    #[must_use]
    pub fn packets(&self) -> Option<u64> {
        let (original, _) = self.original_counters()?;
        let (reply, _) = self.reply_counters()?;
        Some(original.saturating_add(reply))
    }

    /// Returns when the entry was created, in nanoseconds since 1970, if timestamps are on.
    #[inline]
    #[must_use]
    pub fn start(&self) -> Option<u64> {
        self.carried(field::START, &self.batch.times.as_ref()?.start)
    }

    /// Returns when the entry ended, in nanoseconds since 1970.
    #[inline]
    #[must_use]
    pub fn stop(&self) -> Option<u64> {
        self.carried(field::STOP, &self.batch.times.as_ref()?.stop)
    }

    /// Returns the age in nanoseconds, up to its end or to now, if timestamps are on.
    #[must_use]
    pub fn age(&self) -> Option<u64> {
        Some(self.stop().unwrap_or(self.batch.time).saturating_sub(self.start()?))
    }

    /// Returns the TCP window scales, original and reply.
    #[must_use]
    pub fn window_scales(&self) -> (Option<u8>, Option<u8>) {
        let Some(tcp) = self.batch.tcp.as_ref() else { return (None, None) };
        (
            self.carried(field::ORIGINAL_WINDOW_SCALE, &tcp.original_window_scale),
            self.carried(field::REPLY_WINDOW_SCALE, &tcp.reply_window_scale),
        )
    }

    /// Returns the TCP flags and their mask, original and reply.
    #[must_use]
    #[allow(clippy::type_complexity)] // Two pairs, each of which may be missing: a name would not say more.
    pub fn tcp_flags(&self) -> (Option<(u8, u8)>, Option<(u8, u8)>) {
        let Some(tcp) = self.batch.tcp.as_ref() else { return (None, None) };
        let split = |word: u16| ((word >> 8) as u8, word as u8);
        (
            self.carried(field::ORIGINAL_TCP_FLAGS, &tcp.original_flags).map(split),
            self.carried(field::REPLY_TCP_FLAGS, &tcp.reply_flags).map(split),
        )
    }

    /// Returns the SCTP verification tags, original and reply.
    #[must_use]
    pub fn vtags(&self) -> (Option<u32>, Option<u32>) {
        let Some(sctp) = self.batch.sctp.as_ref() else { return (None, None) };
        (self.carried(field::ORIGINAL_VTAG, &sctp.original_vtag), self.carried(field::REPLY_VTAG, &sctp.reply_vtag))
    }

    /// Returns the helper's name.
    #[must_use]
    pub fn helper(&self) -> Option<&'a [u8]> {
        if !self.has(field::HELPER) {
            return None;
        }
        self.batch.rare.as_ref()?.helper.get(self.row)
    }

    /// Returns the connection labels as a bit set: label `n` is bit `n % 8` of byte `n / 8`.
    #[must_use]
    pub fn labels(&self) -> Option<&'a [u8]> {
        if !self.has(field::LABELS) {
            return None;
        }
        self.batch.rare.as_ref()?.labels.get(self.row)
    }

    /// Returns true if a connection label is set.
    #[must_use]
    pub fn has_label(&self, bit: u16) -> bool {
        self.labels().and_then(|bits| bits.get(usize::from(bit / 8))).is_some_and(|byte| byte >> (bit % 8) & 1 != 0)
    }

    /// Returns the security mark (obsolete).
    #[must_use]
    pub fn secmark(&self) -> Option<u32> {
        self.carried(field::SECMARK, &self.batch.rare.as_ref()?.secmark)
    }

    /// Returns the security context.
    #[must_use]
    pub fn security_context(&self) -> Option<&'a [u8]> {
        if !self.has(field::SECURITY_CONTEXT) {
            return None;
        }
        self.batch.rare.as_ref()?.security_context.get(self.row)
    }

    /// Returns the annotations of earlier stages: keys and values.
    pub fn annotations(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        annotations(self.batch.rare.as_ref().map(|rare| &rare.annotations), self.row)
    }

    /// Returns the kind of event: [`event::NONE`] in a dump.
    #[inline]
    #[must_use]
    pub fn event(&self) -> u8 {
        self.batch.events.as_ref().map_or(event::NONE, |events| at(&events.kind, self.row))
    }

    /// Returns when the kernel generated the event, in nanoseconds since 1970.
    #[must_use]
    pub fn event_time(&self) -> Option<u64> {
        self.carried(field::EVENT_TIME, &self.batch.events.as_ref()?.time)
    }

    /// Returns when the host received the event, in nanoseconds since 1970.
    #[must_use]
    pub fn received(&self) -> Option<u64> {
        self.batch.events.as_ref()?.received.get(self.row).copied()
    }

    /// Returns the netlink port of the process that caused the event; 0 for packets and timeouts.
    #[must_use]
    pub fn port_id(&self) -> Option<u32> {
        self.carried(field::PORT_ID, &self.batch.events.as_ref()?.port_id)
    }

    /// Returns the name of that process.
    #[must_use]
    pub fn program(&self) -> Option<&'a [u8]> {
        if !self.has(field::PROGRAM) {
            return None;
        }
        self.batch.events.as_ref()?.program.get(self.row)
    }
}
