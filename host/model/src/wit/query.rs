//! Queries: conditions on flows (`--where`), and groups of flows with their sums (`--by`), as typed programs.
//!
//! The host compiles an expression into a program and hands what the kernel's filter can check to the kernel; the
//! program as a whole is evaluated by a plugin, column by column.
//!
//! # Programs
//!
//! A program is a list of operations in postfix order. It works on a stack of columns, which have one element per row
//! of a batch: numbers (integers of 128 bits), addresses, texts, or truth values. An element of the first three kinds
//! may be absent, where the flow does not carry the field. An operation on an absent element has an absent result, as
//! have a division by zero and a result beyond 128 bits; a comparison or test of an absent element is false. Truth
//! values are never absent: `not` of a false comparison is true.
//!
//! The program of a condition leaves one column of truth values, that of a key or of a measure one of any other kind.
//! The host hands over programs that keep to this and that need at most 256 columns at a time.
//!
//! # Fields
//!
//! Names are those of the JSON output (docs/JSON.md). A field with a port, an ICMP word or a GRE key is carried only by
//! flows of a protocol that has it.
//!
//! | number | name                          | kind    | meaning                                                       |
//! |--------|-------------------------------|---------|---------------------------------------------------------------|
//! |   1    | event                         | number  | `events.kind`; absent in dumps                                |
//! |   2    | family                        | number  | 2 IPv4, 10 IPv6                                               |
//! |   3    | protocol                      | number  | layer-4 protocol                                              |
//! |   4    | state                         | number  | state of TCP, SCTP or DCCP                                    |
//! |   5    | timeout                       | number  | seconds                                                       |
//! |   6    | original.source               | address |                                                               |
//! |   7    | original.destination          | address |                                                               |
//! |   8    | reply.source                  | address |                                                               |
//! |   9    | reply.destination             | address |                                                               |
//! |  10    | original.source_port          | number  | TCP, UDP, UDP-Lite, SCTP, DCCP                                |
//! |  11    | original.destination_port     | number  |                                                               |
//! |  12    | reply.source_port             | number  |                                                               |
//! |  13    | reply.destination_port        | number  |                                                               |
//! |  14    | original.icmp_id              | number  | ICMP, ICMPv6                                                  |
//! |  15    | original.icmp_type            | number  |                                                               |
//! |  16    | original.icmp_code            | number  |                                                               |
//! |  17    | reply.icmp_id                 | number  |                                                               |
//! |  18    | reply.icmp_type               | number  |                                                               |
//! |  19    | reply.icmp_code               | number  |                                                               |
//! |  20    | original.source_key           | number  | GRE                                                           |
//! |  21    | original.destination_key      | number  |                                                               |
//! |  22    | reply.source_key              | number  |                                                               |
//! |  23    | reply.destination_key         | number  |                                                               |
//! |  24    | original.packets              | number  |                                                               |
//! |  25    | original.bytes                | number  |                                                               |
//! |  26    | reply.packets                 | number  |                                                               |
//! |  27    | reply.bytes                   | number  |                                                               |
//! |  28    | packets                       | number  | both directions; absent where neither is carried              |
//! |  29    | bytes                         | number  |                                                               |
//! |  30    | nat.source.address            | address | what the source is translated to, where the address differs   |
//! |  31    | nat.source.port               | number  | where the port (or GRE key) differs                           |
//! |  32    | nat.source.icmp_id            | number  | where the identifier differs                                  |
//! |  33    | nat.destination.address       | address |                                                               |
//! |  34    | nat.destination.port          | number  |                                                               |
//! |  35    | nat.destination.icmp_id       | number  | never carried: identifiers are translated with the source     |
//! |  36    | status                        | number  | IPS_* bits                                                    |
//! |  37    | mark                          | number  |                                                               |
//! |  38    | zone                          | number  | 0 where the kernel sends none; never absent                   |
//! |  39    | original.zone                 | number  | likewise                                                      |
//! |  40    | reply.zone                    | number  | likewise                                                      |
//! |  41    | use                           | number  |                                                               |
//! |  42    | id                            | number  |                                                               |
//! |  43    | start                         | number  | nanoseconds since 1970                                        |
//! |  44    | stop                          | number  | nanoseconds since 1970                                        |
//! |  45    | age                           | number  | whole seconds from `start` to `stop`, or to `flows.time`      |
//! |  46    | time                          | number  | `flows.time`                                                  |
//! |  47    | secmark                       | number  |                                                               |
//! |  48    | security_context              | text    |                                                               |
//! |  49    | helper                        | text    |                                                               |
//! |  50    | labels                        | text    | for `has`, `label` and output: names or numbers, with commas  |
//! |  51    | event_time                    | number  | nanoseconds since 1970                                        |
//! |  52    | received                      | number  | nanoseconds since 1970                                        |
//! |  53    | port_id                       | number  |                                                               |
//! |  54    | program                       | text    |                                                               |
//! |  55    | namespace_id                  | number  |                                                               |
//! |  56    | namespace_name                | text    |                                                               |
//! |  57    | synthetic                     | number  | 1 where the host made the event, absent elsewhere             |
//! |  58    | original.window_scale         | number  |                                                               |
//! |  59    | reply.window_scale            | number  |                                                               |
//! |  60    | original.tcp_flags            | number  | IP_CT_TCP_FLAG_*                                              |
//! |  61    | reply.tcp_flags               | number  |                                                               |
//! |  62    | original.vtag                 | number  |                                                               |
//! |  63    | reply.vtag                    | number  |                                                               |
//! |  64    | original.sequence.position    | number  |                                                               |
//! |  65    | original.sequence.before      | number  | signed                                                        |
//! |  66    | original.sequence.after       | number  | signed                                                        |
//! |  67    | reply.sequence.position       | number  |                                                               |
//! |  68    | reply.sequence.before         | number  |                                                               |
//! |  69    | reply.sequence.after          | number  |                                                               |
//! |  70    | synproxy.isn                  | number  |                                                               |
//! |  71    | synproxy.its                  | number  |                                                               |
//! |  72    | synproxy.tsoff                | number  |                                                               |
//! |  73    | dccp.role                     | number  | 0 client, 1 server                                            |
//! |  74    | dccp.handshake_sequence       | number  |                                                               |
//! |  75    | master.protocol               | number  |                                                               |
//! |  76    | master.source                 | address |                                                               |
//! |  77    | master.destination            | address |                                                               |
//! |  78    | master.source_port            | number  |                                                               |
//! |  79    | master.destination_port       | number  |                                                               |
//! |  80    | master.zone                   | number  | absent where it is 0                                          |
//! |  81    | state_name                    | text    |                                                               |
//! |  82    | protocol_name                 | text    |                                                               |
//! |  83    | family_name                   | text    | `ipv4` or `ipv6`                                              |
//! |  84    | event_name                    | text    | `new`, `update`, `destroy`, `gap` or `unknown`                |
//! |  85    | helper_info                   | text    | in hexadecimal digits                                         |
//!
//! A later version may add fields; a plugin refuses a program with a number that it does not know.

// Written from wit/ by tests/wit.rs: change it there, and set BLESS=1 when that test is run.

#[cfg(feature = "component")]
use wasmtime::component::{ComponentType, Lift, Lower};

use super::columns::Texts;
use super::selector::Address;

/// An integer of 128 bits in two's complement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Number {
    /// The upper half.
    pub hi: i64,
    /// The lower half.
    pub lo: u64,
}

/// The numbers from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct NumberRange {
    /// The smallest.
    pub first: Number,
    /// The largest.
    pub last: Number,
}

/// The addresses from `first` to `last`, both included, as 128-bit numbers in the form of `columns.addresses`. If
/// both are in the mapped form of IPv4, they are those of IPv4 flows, otherwise those of IPv6 flows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct AddressRange {
    /// The smallest.
    pub first: Address,
    /// The largest.
    pub last: Address,
}

/// An operation of a program.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(variant))]
pub enum Operation {
    /// Pushes a field, by its number.
    #[cfg_attr(feature = "component", component(name = "field"))]
    Field(u32),
    /// Pushes the value of an annotation, by its key: a text. Of several with the key, the last one.
    #[cfg_attr(feature = "component", component(name = "annotation"))]
    Annotation(String),
    /// Pushes a number.
    #[cfg_attr(feature = "component", component(name = "number"))]
    Number(Number),
    /// Pushes an address.
    #[cfg_attr(feature = "component", component(name = "address"))]
    Address(Address),
    /// Pushes a text.
    #[cfg_attr(feature = "component", component(name = "text"))]
    Text(String),
    /// Pushes a truth value.
    #[cfg_attr(feature = "component", component(name = "truth"))]
    Truth(bool),
    /// Pops two numbers, the right one first, and pushes the result: 0 `+`, 1 `-`, 2 `*`, 3 `/` (towards zero), 4 `%`
    /// (with the sign of the left one), 5 `&`, 6 `|`, 7 `^`, 8 `<<`, 9 `>>` (with the sign). Shifts by less than 0 or
    /// more than 127 have no result.
    #[cfg_attr(feature = "component", component(name = "arithmetic"))]
    Arithmetic(u8),
    /// Pops a number and pushes its negative.
    #[cfg_attr(feature = "component", component(name = "negate"))]
    Negate,
    /// Pops a number and pushes its bitwise complement.
    #[cfg_attr(feature = "component", component(name = "complement"))]
    Complement,
    /// Pops two numbers, two texts or two addresses, the right one first, and pushes whether they compare like this:
    /// 0 `==`, 1 `!=`, 2 `<`, 3 `<=`, 4 `>`, 5 `>=`. Texts compare by bytes. Addresses: only 0 and 1; a constant is of
    /// the family that it would be of in a range.
    #[cfg_attr(feature = "component", component(name = "compare"))]
    Compare(u8),
    /// Pops a number: whether it is in one of the ranges, which are ascending and do not overlap.
    #[cfg_attr(feature = "component", component(name = "number-in"))]
    NumberIn(Vec<NumberRange>),
    /// Pops an address: whether it is in one of the ranges: first those of IPv4, then those of IPv6, each ascending and
    /// without overlap.
    #[cfg_attr(feature = "component", component(name = "address-in"))]
    AddressIn(Vec<AddressRange>),
    /// Pops a text: whether it is one of these, which are ascending.
    #[cfg_attr(feature = "component", component(name = "text-in"))]
    TextIn(Vec<String>),
    /// Pops a text: whether it contains this one.
    #[cfg_attr(feature = "component", component(name = "contains"))]
    Contains(String),
    /// Pops a text: whether it starts with this one.
    #[cfg_attr(feature = "component", component(name = "starts-with"))]
    StartsWith(String),
    /// Pops a text: whether it ends with this one.
    #[cfg_attr(feature = "component", component(name = "ends-with"))]
    EndsWith(String),
    /// Pops a text: whether this regular expression (syntax of the Rust crate `regex-lite`) matches a part of it.
    #[cfg_attr(feature = "component", component(name = "matches"))]
    Matches(String),
    /// Pushes whether this connection label is set.
    #[cfg_attr(feature = "component", component(name = "label"))]
    Label(u16),
    /// Pops a number, an address or a text: whether it is present.
    #[cfg_attr(feature = "component", component(name = "has"))]
    Has,
    /// Pops as many truth values: whether all are true. At least 1.
    #[cfg_attr(feature = "component", component(name = "all"))]
    All(u32),
    /// Pops as many truth values: whether any is true. At least 1.
    #[cfg_attr(feature = "component", component(name = "any"))]
    Any(u32),
    /// Pops a truth value and pushes the other one.
    #[cfg_attr(feature = "component", component(name = "not"))]
    Not,
}

/// A program.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Program {
    /// The operations, in postfix order.
    pub operations: Vec<Operation>,
    /// The fields that it reads, as bits of `flow.flows.has`.
    pub reads: u64,
}

/// A key by which flows are grouped. Flows without a value form a group of their own.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Key {
    /// Its name, as in the heading of a table.
    pub name: String,
    /// The kind of its values, as in `cells.kind`.
    pub kind: u8,
    /// What computes it: a number, an address or a text.
    pub program: Program,
    /// Of IPv4 addresses, only the network of this prefix length; 32 leaves them.
    #[cfg_attr(feature = "component", component(name = "ipv4-prefix"))]
    pub ipv4_prefix: u8,
    /// Of IPv6 addresses, only the network of this prefix length; 128 leaves them.
    #[cfg_attr(feature = "component", component(name = "ipv6-prefix"))]
    pub ipv6_prefix: u8,
}

/// What is computed of a group.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Measure {
    /// Its name, as in the heading of a table.
    pub name: String,
    /// 0 number of flows, 1 sum, 2 minimum, 3 maximum, 4 mean, 5 number of distinct values. All but 0 are of the values
    /// of the program; a flow without a value does not count. Without any value, 2, 3 and 4 are absent.
    pub function: u8,
    /// The kind of its values, as in `cells.kind`.
    pub kind: u8,
    /// What computes the value of a flow: for 5 a number, an address or a text, otherwise a number.
    pub program: Option<Program>,
}

/// The order of groups.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Sort {
    /// The column of the result, from 0: first the keys, then the measures.
    pub column: u32,
    /// True if the largest come first. Absent values are last in any case.
    pub descending: bool,
}

/// An aggregation of flows.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Aggregation {
    /// The keys; without any, all flows are one group.
    pub keys: Vec<Key>,
    /// The measures.
    pub measures: Vec<Measure>,
    /// The order; groups that are equal in it are ordered by their keys, ascending.
    pub sorts: Vec<Sort>,
    /// The number of groups that are returned at most.
    pub top: Option<u32>,
    /// The number of groups that are kept at most; one more is an error, or the start of an approximation.
    #[cfg_attr(feature = "component", component(name = "max-groups"))]
    pub max_groups: u32,
    /// True if beyond that number the groups with the largest values of the first measure of `sorts` are found by the
    /// algorithm Space-Saving (Metwally, Agrawal, El Abbadi 2005), which knows the error of each.
    pub approximate: bool,
}

/// A column of a result.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Cells {
    /// Its name.
    pub name: String,
    /// The kind of its values: 0 text (in `texts`); 1 address (`hi`, `lo`), 2 network (`hi`, `lo`, and the prefix
    /// length in `reals`); numbers (`hi`, `lo`): 3 plain, 4 bytes, 5 seconds, 6 nanoseconds since 1970, 7 layer-4
    /// protocol, 8 family, 9 event, 10 bits in hexadecimal (mark), 11 status, 12 TCP state, 13 port, 14 nanoseconds; in
    /// `reals`: 15 mean, 16 mean of bytes, 17 rate per second, 18 bytes per second. Plugins print other numbers as 3.
    pub kind: u8,
    /// One byte per row: 1 if there is a value. Empty: all have one.
    pub has: Vec<u8>,
    /// Upper halves of numbers (two's complement) and addresses.
    pub hi: Vec<u64>,
    /// Lower halves of numbers and addresses.
    pub lo: Vec<u64>,
    /// Real numbers.
    pub reals: Vec<f64>,
    /// Texts, one per row.
    pub texts: Texts,
}

/// The result of an aggregation: a table with a column for each key and measure.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Groups {
    /// Number of rows.
    pub length: u32,
    /// The columns: first the keys, then the measures; in a window, then the rates of those measures that are numbers
    /// of flows or sums, with `/s` behind their names.
    pub columns: Vec<Cells>,
    /// The number of columns that are keys.
    pub keys: u32,
    /// The number of flows in all groups, also in those that are not returned.
    pub flows: u64,
    /// The number of groups, also of those that are not returned.
    pub total: u64,
    /// For an approximation, how much larger than the truth the value of the sorting measure may be, for each row;
    /// otherwise empty.
    pub errors: Vec<u64>,
    /// Beginning and end of the window in nanoseconds since 1970; both 0 for a whole stream.
    pub since: u64,
    /// The end of the window.
    pub until: u64,
}
