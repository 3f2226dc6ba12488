//! Reads one direction of a flow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    proposal::{ProposalError, walk::Walk},
    tuple::TupleFields,
    wire::tuple,
};
use flowgate_model::{family, protocol};

/// Takes an address of this family; the types are those for IPv4 and for IPv6.
pub(super) fn address(walk: &mut Walk<'_>, of_family: u8, [v4, v6]: [u16; 2]) -> Result<Option<IpAddr>, ProposalError> {
    Ok(if of_family == family::IPV4 {
        walk.array(v4)?.map(|bytes: [u8; 4]| Ipv4Addr::from(bytes).into())
    } else {
        walk.array(v6)?.map(|bytes: [u8; 16]| Ipv6Addr::from(bytes).into())
    })
}

/// Reads one direction.
pub(super) fn direction(mut walk: Walk<'_>, of_family: u8) -> Result<TupleFields, ProposalError> {
    let mut fields = TupleFields::default();
    if let Some(mut addresses) = walk.nest(tuple::IP)? {
        fields.source = address(&mut addresses, of_family, [tuple::V4_SRC, tuple::V6_SRC])?;
        fields.destination = address(&mut addresses, of_family, [tuple::V4_DST, tuple::V6_DST])?;
        addresses.end()?;
    }
    if let Some(mut words) = walk.nest(tuple::PROTO)? {
        fields.protocol = words.array(tuple::NUM)?.map(|[number]: [u8; 1]| number);
        let icmp = match fields.protocol {
            Some(protocol::ICMP) => Some([tuple::ICMP_ID, tuple::ICMP_TYPE, tuple::ICMP_CODE]),
            Some(protocol::ICMPV6) => Some([tuple::ICMPV6_ID, tuple::ICMPV6_TYPE, tuple::ICMPV6_CODE]),
            _ => None,
        };
        if let Some([id, kind, code]) = icmp {
            fields.source_l4 = words.array(id)?.map(u16::from_be_bytes);
            if let Some([high]) = words.array(kind)? {
                let [low] = words.required(code)?;
                fields.destination_l4 = Some(u16::from_be_bytes([high, low]));
            }
        } else {
            fields.source_l4 = words.array(tuple::SRC_PORT)?.map(u16::from_be_bytes);
            fields.destination_l4 = words.array(tuple::DST_PORT)?.map(u16::from_be_bytes);
        }
        words.end()?;
    }
    fields.zone = walk.array(tuple::ZONE)?.map(u16::from_be_bytes);
    walk.end()?;
    Ok(fields)
}

/// Takes a direction, which must be there and complete.
pub(super) fn complete(walk: &mut Walk<'_>, kind: u16, of_family: u8) -> Result<TupleFields, ProposalError> {
    let path = walk.path(kind);
    let fields = direction(walk.nest(kind)?.ok_or(ProposalError::Missing { path })?, of_family)?;
    match fields.missing() {
        0 => Ok(fields),
        missing => Err(ProposalError::IncompleteTuple { path, missing }),
    }
}
