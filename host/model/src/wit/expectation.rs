//! Expectations: flows that a helper (FTP, TFTP, SIP ...) has announced (`struct nf_conntrack_expect`), as the
//! attributes `CTA_EXPECT_*` of `linux/netfilter/nfnetlink_conntrack.h` describe them.
//!
//! Presence bits of `expectations.has`, used like those of `flow`:
//!
//! | bit | name            | field                    | attribute                               |
//! |-----|-----------------|--------------------------|-----------------------------------------|
//! |  0  | expected        | `expected`, `protocol`   | CTA_EXPECT_TUPLE                        |
//! |  1  | mask            | `mask`                   | CTA_EXPECT_MASK                         |
//! |  2  | master          | `master`, `master-protocol` | CTA_EXPECT_MASTER                    |
//! |  3  | expected-l4     | ports in `expected`      |                                         |
//! |  4  | mask-l4         | ports in `mask`          |                                         |
//! |  5  | master-l4       | ports in `master`        |                                         |
//! |  6  | timeout         | `timeout`                | CTA_EXPECT_TIMEOUT                      |
//! |  7  | id              | `id`                     | CTA_EXPECT_ID                           |
//! |  8  | zone            | `zone`                   | CTA_EXPECT_ZONE                         |
//! |  9  | flags           | `flags`                  | CTA_EXPECT_FLAGS                        |
//! | 10  | class           | `class-number`           | CTA_EXPECT_CLASS                        |
//! | 11  | helper          | `helper`                 | CTA_EXPECT_HELP_NAME                    |
//! | 12  | function        | `function`               | CTA_EXPECT_FN                           |
//! | 13  | nat             | `nat`                    | CTA_EXPECT_NAT                          |
//! | 14  | unknown         | `unknown`                | any other                               |
//! | 15  | annotations     | `annotations`            | none: from plugins                      |
//! | 16  | port-id         | `port-id`                | none: nlmsg_pid                         |
//! | 17  | program         | `program`                | none: from /proc                        |

// Written from wit/ by tests/wit.rs: change it there, and set BLESS=1 when that test is run.

#[cfg(feature = "component")]
use wasmtime::component::{ComponentType, Lift, Lower};

use super::columns::{Annotations, Column, RawAttributes, SparseTexts};
use super::flow::Tuples;

/// The translation that will be applied to the expected flow. CTA_EXPECT_NAT, sparse.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct ExpectedNat {
    /// The rows that carry a translation.
    pub rows: Vec<u32>,
    /// CTA_EXPECT_NAT_DIR: 0 original, 1 reply.
    pub direction: Vec<u32>,
    /// Layer-4 protocol number. CTA_PROTO_NUM in CTA_EXPECT_NAT_TUPLE.
    pub protocol: Vec<u8>,
    /// CTA_EXPECT_NAT_TUPLE.
    pub tuple: Tuples,
}

/// A batch of expectations.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Expectations {
    /// Number of rows. Dense columns that are not empty have as many elements.
    pub length: u32,
    /// Wall clock in nanoseconds since 1970, as the host read it when it handed the batch over.
    pub time: u64,
    /// The fields that each row carries: see the table above.
    pub has: Vec<u64>,
    /// The event: 0 none (an entry of a dump), 1 NEW, 2 UPDATE, 3 DESTROY, 4 a gap.
    pub event: Vec<u8>,
    /// Layer-3 family: 2 IPv4, 10 IPv6.
    pub family: Vec<u8>,
    /// Layer-4 protocol of the expected flow.
    pub protocol: Vec<u8>,
    /// The flow that is expected.
    pub expected: Tuples,
    /// The bits of it that must match.
    pub mask: Tuples,
    /// Layer-4 protocol of the mask: 0xffff truncated to a byte if the kernel sends it, otherwise 0.
    #[cfg_attr(feature = "component", component(name = "mask-protocol"))]
    pub mask_protocol: Vec<u8>,
    /// The flow whose helper created the expectation.
    pub master: Tuples,
    /// Layer-4 protocol of that flow.
    #[cfg_attr(feature = "component", component(name = "master-protocol"))]
    pub master_protocol: Vec<u8>,
    /// Seconds until the expectation expires.
    pub timeout: Vec<u32>,
    /// Opaque number.
    pub id: Vec<u32>,
    /// CTA_EXPECT_ZONE: the connection-tracking zone; 0 is the default zone.
    pub zone: Vec<u16>,
    /// 1 PERMANENT, 2 INACTIVE, 4 USERSPACE.
    pub flags: Vec<u32>,
    /// Class within the helper.
    #[cfg_attr(feature = "component", component(name = "class-number"))]
    pub class_number: Vec<u32>,
    /// nlmsg_pid of an event, 0 for packets and timeouts.
    #[cfg_attr(feature = "component", component(name = "port-id"))]
    pub port_id: Vec<u32>,
    /// Name of the helper.
    pub helper: SparseTexts,
    /// Name of the helper's function that will be called.
    pub function: SparseTexts,
    /// Name of the process with `port-id`, if it could be found.
    pub program: SparseTexts,
    /// Translations of the expected flows.
    pub nat: Option<ExpectedNat>,
    /// Attributes without a field of their own.
    pub unknown: Option<RawAttributes>,
    /// Notes of plugins.
    pub annotations: Option<Annotations>,
    /// Columns of later versions that the plugin asked for.
    pub more: Vec<Column>,
}
