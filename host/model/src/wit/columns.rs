//! The kinds of column that tables are made of.
//!
//! Everything that crosses between host and plugin in numbers crosses as columns: one list per field, one
//! element per row, as in Apache Arrow. Lists of integers are copied as blocks of memory, which is why a row
//! costs a few nanoseconds and not a few hundred.
//!
//! Two rules hold for every column of every table:
//!
//! * A *dense* column has either one element per row or none at all. An empty one means that no row carries the
//!   field, or that the plugin did not ask for it (`setup.description.reads`).
//! * A *sparse* column has a `rows` list beside its values. Rows are in ascending order; a row that is not named
//!   does not carry the field; a row may be named several times only where the comment says so.

// Written from wit/ by tests/wit.rs: change it there, and set BLESS=1 when that test is run.

#[cfg(feature = "component")]
use wasmtime::component::{ComponentType, Lift, Lower};

/// IP addresses, one per row, as 128-bit numbers in two halves.
///
/// `hi` holds the first eight bytes of the address on the wire, `lo` the last eight, each read as a big-endian
/// number (so `2001:db8::1` is `hi = 0x20010db8_00000000`, `lo = 1`). IPv4 is kept in its mapped form,
/// `::ffff:a.b.c.d`: `hi = 0`, `lo = 0x0000ffff_aabbccdd`. The row's family says which of the two it is. `hi` may
/// be empty where all rows are IPv4.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Addresses {
    /// The first eight bytes of each address.
    pub hi: Vec<u64>,
    /// The last eight bytes of each address.
    pub lo: Vec<u64>,
}

/// Byte strings laid end to end: item `i` is `bytes[ends[i-1]..ends[i]]`, with 0 for `ends[-1]`.
///
/// Text from the kernel or the network need not be UTF-8; the host cleans text from a plugin before it is displayed.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Texts {
    /// For each item, the position in `bytes` after its last byte; ascending.
    pub ends: Vec<u32>,
    /// The bytes of all items.
    pub bytes: Vec<u8>,
}

/// A sparse column of byte strings: `texts` has one item per element of `rows`.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct SparseTexts {
    /// The rows that carry a text.
    pub rows: Vec<u32>,
    /// The text of each.
    pub texts: Texts,
}

/// Attributes of the kernel for which this version of the package has no field, unchanged, so that no information of
/// the kernel is lost. A row may be named several times.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct RawAttributes {
    /// The row of each attribute.
    pub rows: Vec<u32>,
    /// The path of the attribute: its type in bits 0-15, the type of the enclosing attribute in bits 16-31, those of
    /// the next ones in bits 32-47 and 48-63; 0 if there is none (no attribute type is 0). Flag bits are masked.
    pub paths: Vec<u64>,
    /// The payloads, without header and padding, in the byte order of the wire.
    pub payloads: Texts,
}

/// Notes of plugins on rows: key and value in UTF-8. A row may be named several times.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Annotations {
    /// The row of each note.
    pub rows: Vec<u32>,
    /// The key of each note.
    pub keys: Texts,
    /// The value of each note.
    pub values: Texts,
}

/// A column that a later version of the package added. Records are closed in WIT, so that one more field
/// would break every compiled plugin; new columns arrive here instead, and only for the plugins that name
/// them in `setup.description.more`. One of the lists of values is filled, the others are empty.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Column {
    /// The number of the column, listed in `VERSIONING.md` (empty in 0.1.0).
    pub number: u32,
    /// The rows that carry a value; empty means a dense column, with a value for each row.
    pub rows: Vec<u32>,
    /// Values of 8 bits.
    pub bytes: Vec<u8>,
    /// Values of 16 bits.
    pub words: Vec<u16>,
    /// Values of 32 bits.
    pub numbers: Vec<u32>,
    /// Values of 64 bits.
    pub longs: Vec<u64>,
    /// Values that are byte strings.
    pub texts: Texts,
}
