//! Selectors: which flows a command or a pipeline applies to.
//!
//! The host compiles what it can of a selector into the kernel's own filter, and gives the whole of it to the stage
//! that exports `flow-selection`, which alone decides.

// Written from wit/ by tests/wit.rs: change it there, and set BLESS=1 when that test is run.

#[cfg(feature = "component")]
use wasmtime::component::{ComponentType, Lift, Lower};

/// An address as a number in two halves, as in `columns.addresses`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Address {
    /// The first eight bytes of the address.
    pub hi: u64,
    /// The last eight bytes of the address.
    pub lo: u64,
}

/// The addresses `a` with `a & mask == value & mask`. IPv4 in its mapped form, with the first 96 bits of the mask
/// set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Network {
    /// An address of the network.
    pub value: Address,
    /// The bits of an address that belong to the network.
    pub mask: Address,
}

/// The numbers `n` with `n & mask == value`. A value with bits outside the mask matches nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Masked {
    /// The value of the bits in the mask.
    pub value: u32,
    /// The bits that are compared.
    pub mask: u32,
}

/// Conditions on one direction of a flow; all that are given must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Direction {
    /// On `tuples.source`.
    pub source: Option<Network>,
    /// On `tuples.destination`.
    pub destination: Option<Network>,
    /// On `tuples.source-l4`: port, key or ICMP identifier.
    #[cfg_attr(feature = "component", component(name = "source-l4"))]
    pub source_l4: Option<Masked>,
    /// On `tuples.destination-l4`: port, key, or ICMP type times 256 plus code.
    #[cfg_attr(feature = "component", component(name = "destination-l4"))]
    pub destination_l4: Option<Masked>,
    /// Zone of this direction alone; 0 also matches flows without one.
    pub zone: Option<u16>,
}

/// A flow with NAT, recognized by its status (SRC_NAT_DONE or DST_NAT_DONE) and by the difference between its tuples.
/// Without address and port: either of the two is translated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Translation {
    /// The address after the translation.
    pub address: Option<Address>,
    /// The port after the translation.
    pub port: Option<u16>,
}

/// Conditions on a flow; all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Selection {
    /// Layer-3 family, 2 or 10.
    pub family: Option<u8>,
    /// Layer-4 protocol number.
    pub protocol: Option<u8>,
    /// On the tuple of the first packet.
    pub original: Direction,
    /// On the tuple of the answers.
    pub reply: Direction,
    /// Protocol state by number, as in `flows.state`.
    pub state: Option<u8>,
    /// On the status.
    pub status: Option<Masked>,
    /// On the mark; an event without a mark counts as not matching.
    pub mark: Option<Masked>,
    /// Security mark. No kernel since 2.6.37 sends one, and a flow without one does not match.
    pub secmark: Option<u32>,
    /// Zone of both directions; 0 also matches flows without one.
    pub zone: Option<u16>,
    /// Labels that must all be set, as a bit set like `rare.labels`; empty: no condition.
    pub labels: Vec<u8>,
    /// Source translated.
    #[cfg_attr(feature = "component", component(name = "source-nat"))]
    pub source_nat: Option<Translation>,
    /// Destination translated.
    #[cfg_attr(feature = "component", component(name = "destination-nat"))]
    pub destination_nat: Option<Translation>,
    /// Source or destination translated.
    #[cfg_attr(feature = "component", component(name = "any-nat"))]
    pub any_nat: Option<Translation>,
    /// The entry's opaque number.
    pub id: Option<u32>,
    /// Seconds until the entry expires, exactly.
    pub timeout: Option<u32>,
}
