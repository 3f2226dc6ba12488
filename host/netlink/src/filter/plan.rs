//! Which conditions of a selection the kernel's dump filter checks, and why it does not check the others.

use super::{DumpFilter, ExactFilter, TupleFilter, flag};
use flowgate_model::{Direction, Masked, Network, Selection, family, protocol};

/// The kernel's part of a selection, and the reasons for the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterPlan {
    /// The filter for the kernel.
    pub filter: DumpFilter,
    /// The conditions of the selection, in a fixed order.
    pub conditions: Vec<Condition>,
}

/// A condition of a selection, for `--explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Name of the condition for people.
    pub name: String,
    /// Why the kernel does not check it, or not fully; `None` if it does.
    pub unchecked: Option<&'static str>,
}

impl FilterPlan {
    fn check_in_kernel(&mut self, what: &str) {
        self.conditions.push(Condition { name: what.to_string(), unchecked: None });
    }

    fn leave_to_stage(&mut self, what: &str, why: &'static str) {
        self.conditions.push(Condition { name: what.to_string(), unchecked: Some(why) });
    }
}

impl DumpFilter {
    /// Returns the part of `selection` that the kernel can check.
    #[must_use]
    pub fn plan(selection: &Selection) -> FilterPlan {
        let mut plan = FilterPlan::default();
        match selection.family {
            Some(number @ (family::IPV4 | family::IPV6)) => {
                plan.filter.family = number;
                plan.check_in_kernel("family");
            }
            Some(_) => plan.leave_to_stage("family", "it is neither IPv4 nor IPv6"),
            None => {}
        }
        if let Some(Masked { value, mask }) = selection.mark {
            if mask == 0 {
                plan.leave_to_stage("mark", "an empty mask says nothing to the kernel");
            } else {
                plan.filter.mark = Some((value, mask));
                plan.check_in_kernel("mark");
            }
        }
        if let Some(Masked { value, mask }) = selection.status {
            if mask == 0 {
                plan.leave_to_stage("status", "the kernel refuses an empty mask");
            } else {
                plan.filter.status = Some((value, mask));
                plan.check_in_kernel("status");
            }
        }
        plan_zones(&mut plan, selection);
        plan_protocol(&mut plan, selection);
        plan_direction(&mut plan, selection, false);
        plan_direction(&mut plan, selection, true);
        for (given, what) in [
            (selection.state.is_some(), "protocol state"),
            (!selection.labels.is_empty(), "labels"),
            (selection.source_nat.is_some(), "source NAT"),
            (selection.destination_nat.is_some(), "destination NAT"),
            (selection.any_nat.is_some(), "NAT"),
            (selection.id.is_some(), "id"),
            (selection.timeout.is_some(), "timeout"),
            (selection.secmark.is_some(), "security mark"),
        ] {
            if given {
                plan.leave_to_stage(what, "the kernel has no such filter");
            }
        }
        plan
    }

    /// Returns the filters of the dumps for a selection, and its conditions. There is one dump, or one for each family
    /// if the selection has none and the kernel can then check the protocol. Two walks through the table cost less than
    /// transferring entries that are not selected.
    #[must_use]
    pub fn plan_dumps(selection: &Selection) -> (Vec<DumpFilter>, Vec<Condition>) {
        let twice = selection.family.is_none() && selection.protocol.is_some_and(|number| !protocol::is_icmp(number));
        if !twice {
            let FilterPlan { filter, conditions } = Self::plan(selection);
            return (vec![filter], conditions);
        }
        let of = |family: u8| Self::plan(&Selection { family: Some(family), ..selection.clone() });
        let (four, six) = (of(family::IPV4), of(family::IPV6));
        // A condition is checked by the kernel only if both dumps check it.
        let conditions = four
            .conditions
            .into_iter()
            .zip(six.conditions)
            .map(|(four, six)| Condition { unchecked: four.unchecked.or(six.unchecked), ..four });
        (vec![four.filter, six.filter], conditions.filter(|condition| condition.name != "family").collect())
    }

    /// Returns filters that pass exactly the selected flows, for requests that modify what passes. Returns `None` if
    /// the kernel cannot check the whole selection, or if the selection is everything.
    #[must_use]
    pub fn exact(selection: &Selection) -> Option<Vec<ExactFilter>> {
        let (filters, conditions) = Self::plan_dumps(selection);
        let exact = conditions.iter().all(|condition| condition.unchecked.is_none());
        let narrow = |filter: &Self| {
            filter.original.flags | filter.reply.flags != 0 || filter.mark.is_some() || filter.status.is_some()
        };
        (exact && filters.iter().all(narrow)).then(|| filters.into_iter().map(ExactFilter).collect())
    }
}

/// The kernel compares the single zone number of an entry, whichever direction it applies to. A zone that is selected
/// in any of the three ways therefore narrows the dump, except for the default zone: an entry with a zone in one
/// direction has none in the other, and is not in the kernel's zone 0.
fn plan_zones(plan: &mut FilterPlan, selection: &Selection) {
    for (zone, what) in
        [(selection.zone, "zone"), (selection.original.zone, "original zone"), (selection.reply.zone, "reply zone")]
    {
        match zone {
            None => {}
            Some(0) => plan.leave_to_stage(what, "the kernel's zone 0 leaves out flows with a zone in one direction"),
            Some(zone) if plan.filter.zone.is_none() || plan.filter.zone == Some(zone) => {
                plan.filter.zone = Some(zone);
                plan.leave_to_stage(what, "the kernel checks that at least one direction has it");
            }
            Some(_) => plan.leave_to_stage(what, "the kernel checks another zone already"),
        }
    }
}

fn plan_protocol(plan: &mut FilterPlan, selection: &Selection) {
    let Some(number) = selection.protocol else {
        return;
    };
    if plan.filter.family == 0 {
        plan.leave_to_stage("protocol", "the kernel's filter for tuples needs a family");
        return;
    }
    plan.filter.original.flags |= flag::PROTOCOL;
    plan.filter.original.tuple.protocol = Some(number);
    plan.check_in_kernel("protocol");
}

fn plan_direction(plan: &mut FilterPlan, selection: &Selection, reply: bool) {
    let (direction, name) = if reply { (&selection.reply, "reply") } else { (&selection.original, "original") };
    let mut tuple_filter = if reply { plan.filter.reply } else { plan.filter.original };
    for (network, what, bit) in
        [(direction.source, "source", flag::SOURCE), (direction.destination, "destination", flag::DESTINATION)]
    {
        let Some(network) = network else {
            continue;
        };
        let what = format!("{name} {what} address");
        match single_ipv4(&network, plan.filter.family) {
            Ok(address) => {
                tuple_filter.flags |= bit;
                let place = if bit == flag::SOURCE {
                    &mut tuple_filter.tuple.source
                } else {
                    &mut tuple_filter.tuple.destination
                };
                *place = Some(address.into());
                plan.check_in_kernel(&what);
            }
            Err(why) => plan.leave_to_stage(&what, why),
        }
    }
    plan_l4(plan, &mut tuple_filter, direction, selection.protocol, name);
    *(if reply { &mut plan.filter.reply } else { &mut plan.filter.original }) = tuple_filter;
}

/// Returns the only IPv4 address of a network, or why the kernel cannot check it.
fn single_ipv4(network: &Network, number: u8) -> Result<std::net::Ipv4Addr, &'static str> {
    let Network { value, mask } = network;
    match number {
        0 => return Err("the kernel's filter for tuples needs a family"),
        family::IPV6 => return Err("the kernel's comparison of IPv6 addresses is not reliable"),
        _ => {}
    }
    if (mask.hi, mask.lo) != (u64::MAX, u64::MAX) {
        return Err("the kernel compares whole addresses only");
    }
    if value.hi != 0 || value.lo >> 32 != 0xffff {
        return Err("it is not an IPv4 address");
    }
    Ok(std::net::Ipv4Addr::from_bits(value.lo as u32))
}

/// Plans ports, or ICMP identifier, type and code.
fn plan_l4(
    plan: &mut FilterPlan,
    tuple_filter: &mut TupleFilter,
    direction: &Direction,
    number: Option<u8>,
    name: &str,
) {
    let (source, destination) = (direction.source_l4, direction.destination_l4);
    let known = match number {
        Some(number) if plan.filter.family != 0 => Ok(number),
        Some(_) => Err("the kernel's filter for tuples needs a family"),
        None => Err("the kernel's filter for ports needs a protocol"),
    };
    let mut ask = |given: Option<Masked>, what: &str, push: &mut dyn FnMut(Masked, u8) -> Result<(), &'static str>| {
        if let Some(masked) = given {
            let what = format!("{name} {what}");
            match known.and_then(|number| push(masked, number)) {
                Ok(()) => plan.check_in_kernel(&what),
                Err(why) => plan.leave_to_stage(&what, why),
            }
        }
    };
    const PORTS: &str = "the kernel compares ports of TCP and UDP only";
    const WHOLE: &str = "the kernel compares whole numbers only";
    let whole = |Masked { value, mask }: Masked| {
        if mask & 0xffff == 0xffff { u16::try_from(value).map_err(|_| "no flow has such a number") } else { Err(WHOLE) }
    };
    let what = if number.is_some_and(protocol::is_icmp) { "identifier" } else { "source port" };
    let mut pushed = *tuple_filter;
    ask(source, what, &mut |masked, number| {
        let bit = match number {
            protocol::TCP | protocol::UDP => flag::SOURCE_PORT,
            protocol::ICMP => flag::ICMP_ID,
            protocol::ICMPV6 => flag::ICMPV6_ID,
            _ => return Err(PORTS),
        };
        pushed.tuple.source_l4 = Some(whole(masked)?);
        pushed.tuple.protocol = Some(number);
        pushed.flags |= bit | flag::PROTOCOL;
        Ok(())
    });
    let what = if number.is_some_and(protocol::is_icmp) { "type and code" } else { "destination port" };
    ask(destination, what, &mut |masked, number| {
        let (bits, value) = match number {
            protocol::TCP | protocol::UDP => (flag::DESTINATION_PORT, whole(masked)?),
            protocol::ICMP => icmp(masked, flag::ICMP_TYPE, flag::ICMP_CODE, &[0, 8, 13, 14, 15, 16, 17, 18])?,
            protocol::ICMPV6 => icmp(masked, flag::ICMPV6_TYPE, flag::ICMPV6_CODE, &[128, 129, 139, 140])?,
            _ => return Err(PORTS),
        };
        pushed.tuple.destination_l4 = Some(value);
        pushed.tuple.protocol = Some(number);
        pushed.flags |= bits | flag::PROTOCOL;
        Ok(())
    });
    *tuple_filter = pushed;
}

/// Returns the flags for type and code that the kernel can compare, and both as one number. The kernel refuses types
/// without a reply type.
fn icmp(masked: Masked, of_type: u32, of_code: u32, types: &[u16]) -> Result<(u32, u16), &'static str> {
    let value = u16::try_from(masked.value).map_err(|_| "no flow has such a number")?;
    let bits = match masked.mask & 0xffff {
        0xffff => of_type | of_code,
        0xff00 if value & 0xff == 0 => of_type,
        0x00ff if value & 0xff00 == 0 => of_code,
        _ => return Err("the kernel compares type and code as a whole only"),
    };
    if bits & of_type != 0 && !types.contains(&(value >> 8)) {
        return Err("the kernel refuses types without an answer");
    }
    Ok((bits, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::flow;
    use flowgate_model::Address;
    use netlink_packet_core::Nla;

    fn plan(change: impl FnOnce(&mut Selection)) -> FilterPlan {
        let mut selection = Selection::default();
        change(&mut selection);
        DumpFilter::plan(&selection)
    }

    fn kinds(plan: &FilterPlan) -> Vec<u16> {
        plan.filter.attributes().iter().map(|attribute| attribute.kind() & 0x3fff).collect()
    }

    fn whole(hi: u64, lo: u64) -> Option<Network> {
        Some(Network { value: Address { hi, lo }, mask: Address { hi: u64::MAX, lo: u64::MAX } })
    }

    const PORT: Option<Masked> = Some(Masked { value: 80, mask: 0xffff });

    #[test]
    fn nothing_is_asked_of_the_kernel_that_it_gets_wrong() {
        assert_eq!(plan(|_| {}).filter, DumpFilter::default());
        // IPv6 addresses, prefixes, ports of SCTP, tuples without a family, types without an answer, default zones.
        let nothing: [fn(&mut Selection); 8] = [
            |selection| selection.original.source = whole(0x2001_0db8 << 32, 1),
            |selection| selection.original.source = whole(0, 0xffff_0102_0304),
            |selection| selection.original.source_l4 = PORT,
            |selection| selection.protocol = Some(6),
            |selection| (selection.protocol, selection.original.source_l4) = (Some(6), PORT),
            |selection| selection.zone = Some(0),
            |selection| selection.state = Some(3),
            |selection| selection.mark = Some(Masked { value: 0, mask: 0 }),
        ];
        for change in nothing {
            let plan = plan(change);
            assert_eq!(plan.filter, DumpFilter::default(), "{plan:?}");
            assert!(
                !plan.conditions.is_empty() && plan.conditions.iter().all(|condition| condition.unchecked.is_some())
            );
        }
        let with_family = plan(|selection| {
            selection.family = Some(family::IPV6);
            selection.original.source = whole(0x2001_0db8 << 32, 1);
        });
        assert_eq!((with_family.filter.family(), kinds(&with_family)), (10, vec![]));
        let sctp = plan(|selection| {
            (selection.family, selection.protocol) = (Some(2), Some(protocol::SCTP));
            selection.original.destination_l4 = PORT;
        });
        assert_eq!(sctp.filter.original.flags, flag::PROTOCOL);
        let odd = plan(|selection| {
            (selection.family, selection.protocol) = (Some(2), Some(protocol::ICMP));
            selection.original.destination_l4 = Some(Masked { value: 3 << 8, mask: 0xffff });
        });
        assert_eq!(odd.filter.original.flags, flag::PROTOCOL);
    }

    #[test]
    fn what_the_kernel_does_well_is_asked_of_it() {
        let plan = plan(|selection| {
            (selection.family, selection.protocol) = (Some(2), Some(protocol::TCP));
            selection.original.source = whole(0, 0xffff_0102_0304);
            selection.original.destination_l4 = PORT;
            selection.reply.destination = whole(0, 0xffff_0102_0304);
            selection.reply.source_l4 = PORT;
            selection.mark = Some(Masked { value: 1, mask: 3 });
            selection.status = Some(Masked { value: 0, mask: 4 });
        });
        assert_eq!(plan.filter.original.flags, flag::SOURCE | flag::PROTOCOL | flag::DESTINATION_PORT);
        assert_eq!(plan.filter.reply.flags, flag::DESTINATION | flag::PROTOCOL | flag::SOURCE_PORT);
        assert_eq!(
            kinds(&plan),
            [
                flow::TUPLE_ORIG,
                flow::TUPLE_REPLY,
                flow::STATUS,
                flow::STATUS_MASK,
                flow::MARK,
                flow::MARK_MASK,
                flow::FILTER
            ]
        );
        assert!(plan.conditions.iter().all(|condition| condition.unchecked.is_none()), "{plan:?}");
        assert_eq!(plan.conditions.len(), 8);
    }
}
