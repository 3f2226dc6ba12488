//! The declaration of a plugin, and the data that it receives before it starts.

// Written from wit/ by tests/wit.rs: change it there, and set BLESS=1 when that test is run.

#[cfg(feature = "component")]
use wasmtime::component::{ComponentType, Lift, Lower};

/// An option that the plugin accepts, given as `--plugin FILE,name=value`.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct OptionSpec {
    /// Its name, left of `=` on the command line.
    pub name: String,
    /// One line of help.
    pub help: String,
    /// Placeholder of the value in help, such as `BYTES` or `CIDR`.
    pub placeholder: String,
    /// The value if the option is not given; `none` if the option may be absent.
    pub default: Option<String>,
    /// True if the plugin cannot start without it.
    pub required: bool,
}

/// An option and its value.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct OptionValue {
    /// Name of the option.
    pub name: String,
    /// Its value, as the user wrote it.
    pub value: String,
}

/// The plugin's declaration.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Description {
    /// Short name, as in messages: letters, digits and hyphens.
    pub name: String,
    /// The plugin's own version.
    pub version: String,
    /// One line of help.
    pub summary: String,
    /// The options that it accepts; any other is refused before it starts.
    pub options: Vec<OptionSpec>,
    /// The grants that it asks for: `annotate`, `delete`, `update`, `create`, or `update.mark` and the like.
    pub grants: Vec<String>,
    /// The fields of flows that it reads, as bits of `flow.flows.has`; other fields may not be decoded.
    pub reads: u64,
    /// The columns of later versions that it reads: `columns.column.number`.
    pub more: Vec<u32>,
    /// Anything else worth saying: homepage, author, licence.
    pub details: Vec<OptionValue>,
}

/// A connection label's name, from connlabel.conf.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Label {
    /// Number of the label, as in `rare.labels`.
    pub bit: u16,
    /// Name of the label.
    pub name: String,
}

/// From when on local time differs how much from UTC, east positive.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct UtcOffset {
    /// Seconds since 1970.
    pub since: i64,
    /// Seconds to add.
    pub offset: i32,
}

/// What the host passes to a plugin before the first batch. A plugin has no clock, no files and no environment: it
/// has no other information about its surroundings.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
pub struct Setup {
    /// The options that the user gave, and the defaults of the others.
    pub options: Vec<OptionValue>,
    /// Label names by ascending bit; empty if no map is loaded.
    pub labels: Vec<Label>,
    /// The host's time zone, ascending; the first holds for all earlier times too.
    pub offsets: Vec<UtcOffset>,
    /// Name and version of the host, such as `flowgate 0.1.0`.
    pub host: String,
}
