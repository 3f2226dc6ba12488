//! Keeps the messages about flows of a scope, and drops all others.

use std::sync::Arc;

use super::listing::{Listed, Listings};
use crate::{Scope, ScopeView, scope};
use flowgate_model::{Flows, at, field, protocol};
use flowgate_netlink::{
    Message, Messages,
    decode::{Arrival, FlowDecoder},
    message::MessageKind,
    source::{Datagram, Source, SourceError},
    wire::{NETFILTER_HEADER, flow::TUPLE_MASTER},
};
use flowgate_pipeline::{
    entries::Entries as _,
    resync::{Kernel, append},
};

/// The original direction, as far as a tuple has it.
const ORIGINAL: u64 = field::SOURCE | field::DESTINATION | field::PROTOCOL;
/// `NLA_TYPE_MASK` of `linux/netlink.h`: an attribute's kind without its flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Decodes messages one by one, as far as scopes need it.
pub struct ScopeFilter {
    decoder: FlowDecoder,
    rows: Flows,
}

impl Default for ScopeFilter {
    fn default() -> Self {
        ScopeFilter { decoder: FlowDecoder::new(scope::READS | field::ID | field::MASTER), rows: Flows::default() }
    }
}

impl ScopeFilter {
    /// Returns the fields of a message that scopes check; `None` if it is not about a flow, or malformed.
    pub fn view(&mut self, message: &Message<'_>) -> Option<ScopeView> {
        if !matches!(message.kind(), MessageKind::Flow | MessageKind::FlowDestroyed) {
            return None;
        }
        self.rows.clear(&mut self.decoder);
        self.rows.push(&mut self.decoder, message, Arrival::Entry).ok()?;
        (self.rows.length == 1).then(|| ScopeView::of(&self.rows, 0))
    }

    /// Returns the id of the last flow.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        let has = self.rows.has.first().is_some_and(|has| has & field::ID != 0);
        self.rows.id.first().copied().filter(|_| has)
    }

    /// Returns the original direction of the last flow's master, if it has one.
    fn master(&self, flow: &ScopeView) -> Option<ScopeView> {
        let has = self.rows.has.first().is_some_and(|has| has & field::MASTER != 0);
        let masters = &self.rows.rare.as_ref().filter(|_| has)?.master;
        let number = at(&masters.protocol, 0);
        let l4 = protocol::has_ports(number) || protocol::is_icmp(number) || number == protocol::GRE;
        let of = Flows {
            length: 1,
            has: vec![ORIGINAL | if l4 { field::ORIGINAL_L4 } else { 0 }],
            family: self.rows.family.clone(),
            protocol: vec![number],
            original: masters.tuple.clone(),
            ..Flows::default()
        };
        // The kernel sends a zone here only if it is that of a direction; otherwise it is that of the flow.
        let zones = match at(&masters.zone, 0) {
            0 => flow.zones,
            zone => (zone, flow.zones.1),
        };
        Some(ScopeView { zones, ..ScopeView::of(&of, 0) })
    }

    /// Appends the message about the last flow as a tenant with this scope may see it: without the flow's master
    /// (CTA_TUPLE_MASTER) if that is not in the scope itself.
    pub fn append(&self, bytes: &mut Vec<u8>, message: &Message<'_>, scope: &Scope, flow: &ScopeView) {
        match self.master(flow) {
            Some(master) if !scope.contains_master(&master) => append_without(bytes, message, TUPLE_MASTER),
            _ => append(bytes, message),
        }
    }
}

/// Appends a message without the attributes of this type.
fn append_without(bytes: &mut Vec<u8>, message: &Message<'_>, without: u16) {
    let Some((header, mut rest)) = message.body.split_at_checked(NETFILTER_HEADER) else { return };
    let mut body = header.to_vec();
    while let Some((length, kind)) = rest
        .first_chunk::<4>()
        .map(|[a, b, c, d]| (usize::from(u16::from_ne_bytes([*a, *b])), u16::from_ne_bytes([*c, *d])))
    {
        // Bytes after the last whole attribute are not one.
        let Some(attribute) = rest.get(..length).filter(|attribute| attribute.len() >= 4) else { break };
        if kind & NLA_TYPE_MASK != without {
            body.extend_from_slice(attribute);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    append(bytes, &Message { body: &body, ..*message });
}

/// A listing of the table that keeps the flows of a scope.
struct Listing {
    inner: Box<dyn Source>,
    scope: Scope,
    scope_filter: ScopeFilter,
}

impl Source for Listing {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        if !self.inner.next(datagram)? {
            return Ok(false);
        }
        let mut kept = Vec::with_capacity(datagram.length);
        for message in Messages::new(datagram.bytes()).map_while(Result::ok) {
            if let Some(view) = self.scope_filter.view(&message)
                && self.scope.contains(&view)
            {
                self.scope_filter.append(&mut kept, &message, &self.scope, &view);
            }
        }
        datagram.fill(&kept);
        Ok(true)
    }
}

/// The table as a tenant sees it.
pub struct TenantTable<K> {
    /// The whole table.
    pub kernel: K,
    /// The scope.
    pub scope: Scope,
    /// Shared listings, used as long as the tenant's part has at most this many bytes; `None` if there are no other
    /// tenants, or the part is too long.
    pub together: Option<(Arc<Listings>, usize)>,
}

impl<K: Kernel> Kernel for TenantTable<K> {
    fn list(&mut self) -> Result<Box<dyn Source>, SourceError> {
        if let Some((listings, most)) = &self.together {
            if let Some(own) = listings.list(&self.scope, *most)? {
                return Ok(Box::new(Listed(own)));
            }
            self.together = None;
        }
        let inner = self.kernel.list()?;
        Ok(Box::new(Listing { inner, scope: self.scope.clone(), scope_filter: ScopeFilter::default() }))
    }

    fn look_up(&mut self, flows: &Flows, found: &mut dyn FnMut(&Message<'_>)) -> Result<(), SourceError> {
        let mut scope_filter = ScopeFilter::default();
        let scope = &self.scope;
        self.kernel.look_up(flows, &mut |message| {
            // A flow that has left the scope has ended for the tenant.
            let Some(view) = scope_filter.view(message).filter(|view| scope.contains(view)) else { return };
            let mut seen = Vec::new();
            scope_filter.append(&mut seen, message, scope, &view);
            Messages::new(&seen).map_while(Result::ok).for_each(|message| found(&message));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{scope::Rule, sets::PrefixSet};
    use flowgate_netlink_testing::{attribute, message, tuple};

    /// Returns a flow in zone 7 whose master is between these.
    fn related(master: [[u8; 4]; 2], master_zone: Option<u16>) -> Vec<u8> {
        let [source, destination] = [[10, 1, 0, 5], [192, 0, 2, 1]];
        let mut master = tuple(14, [&master[0], &master[1]], 6, [1000, 21]);
        if let Some(zone) = master_zone {
            // CTA_TUPLE_ZONE in the tuple, and its length.
            master.extend(attribute(3, &zone.to_be_bytes()));
            let length = u16::try_from(master.len()).unwrap();
            master[..2].copy_from_slice(&length.to_ne_bytes());
        }
        let attributes = [
            tuple(1, [&source, &destination], 17, [1000, 53]),
            tuple(2, [&destination, &source], 17, [53, 1000]),
            attribute(3, &9u32.to_be_bytes()),
            master,
            attribute(18, &7u16.to_be_bytes()),
            attribute(12, &77u32.to_be_bytes()),
        ];
        message(0x0100, 0x600, 0, 0, 2, &attributes)
    }

    fn seen(bytes: &[u8], rule: Rule) -> Flows {
        let scope = Scope::new(vec![rule]);
        let message = Messages::new(bytes).next().unwrap().unwrap();
        let mut scope_filter = ScopeFilter::default();
        let view = scope_filter.view(&message).unwrap();
        assert!(scope.contains(&view));
        assert_eq!(scope_filter.id(), Some(77));
        let mut copied = Vec::new();
        scope_filter.append(&mut copied, &message, &scope, &view);
        let copy = Messages::new(&copied).next().unwrap().unwrap();
        assert_eq!((copy.message_type, copy.flags), (message.message_type, message.flags));
        let mut rows = Flows::default();
        rows.push(&mut FlowDecoder::new(field::ALL), &copy, Arrival::Entry).unwrap();
        rows
    }

    #[test]
    fn a_master_outside_of_the_scope_is_not_shown() {
        let own = |text: &str| {
            let mut set = PrefixSet::default();
            set.add(text).unwrap();
            Rule { source: Some(set), ..Rule::default() }
        };
        let numbers = |text: &str| {
            let mut set = crate::sets::NumberSet::default();
            assert!(set.add(text));
            Some(set)
        };
        let ([mine, theirs], server) = ([[10, 1, 0, 9], [10, 2, 0, 9]], [192, 0, 2, 9]);
        let shown = |master: [u8; 4], zone: Option<u16>, rule: Rule| {
            let rows = seen(&related([master, server], zone), rule);
            assert_eq!((rows.id[0], rows.status[0], rows.zones.as_ref().unwrap().zone[0]), (77, 9, 7));
            assert_eq!(rows.has[0] & field::TUPLES, field::TUPLES);
            rows.has[0] & field::MASTER != 0
        };
        assert!(shown(mine, None, own("10.1.0.0/16")));
        assert!(!shown(theirs, None, own("10.1.0.0/16")));
        assert!(shown(theirs, None, Rule::default()), "everything is the tenant's");
        // Its zone is that of the flow unless the kernel sends another one.
        let zoned = || Rule { original_zones: numbers("7"), ..Rule::default() };
        assert!(shown(theirs, None, zoned()) && shown(theirs, Some(7), zoned()));
        assert!(!shown(theirs, Some(8), zoned()));
        // Unknown properties of a master are not assumed.
        let mut reply = PrefixSet::default();
        reply.add("192.0.2.0/24").unwrap();
        assert!(!shown(mine, None, Rule { reply_source: Some(reply), ..Rule::default() }));
        assert!(!shown(mine, None, Rule { marks: vec![(0, 1)], ..Rule::default() }));
        assert!(!shown(mine, None, Rule { ports: numbers("53"), ..Rule::default() }), "its port is 21");
    }
}
