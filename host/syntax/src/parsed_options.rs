//! The options of one command line as given, before they are checked against each other and interpreted.

use std::net::IpAddr;

use super::aggregation::AggregationOptions;
use super::error::{CliError, RawArg};
use super::extra_fields::ExtraFields;
use super::options::KeySet;
use super::protocols::{Protocol, ProtocolValues};
use super::settings::{ColorChoice, Command, DEFAULT_BATCH, EventGroups, Output, PluginArgument, Table};
#[cfg(doc)]
use super::strict;
use flowgate_base::address::ListenAddress;

/// The names that `-u` accepts, in the order in which abbreviations are looked up, with bits of
/// [`flowgate_model::status`]. UNREPLIED, which stands for `!SEEN_REPLY`, is missing because it has no abbreviation.
pub const STATUS_NAMES: [(&str, u32); 7] = [
    ("ASSURED", flowgate_model::status::ASSURED),
    ("SEEN_REPLY", flowgate_model::status::SEEN_REPLY),
    ("UNSET", 0),
    ("FIXED_TIMEOUT", flowgate_model::status::FIXED_TIMEOUT),
    ("EXPECTED", flowgate_model::status::EXPECTED),
    ("OFFLOAD", flowgate_model::status::OFFLOAD),
    ("HW_OFFLOAD", flowgate_model::status::HW_OFFLOAD),
];

/// The names that `-e` accepts, in the order in which abbreviations are looked up.
pub const EVENT_NAMES: [(&str, EventGroups); 4] = [
    ("ALL", EventGroups::ALL),
    ("NEW", EventGroups { new: true, ..EventGroups::NONE }),
    ("UPDATES", EventGroups { update: true, ..EventGroups::NONE }),
    ("DESTROY", EventGroups { destroy: true, ..EventGroups::NONE }),
];

/// The value of `-u`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Bits named without `!`.
    pub set: u32,
    /// Bits named with `!`.
    pub clear: u32,
    /// True if UNSET was named without `!`.
    pub unset: bool,
}

/// A NAT given with `-n`, `-g` or `-j`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Nat {
    /// The address, if one was given.
    pub address: Option<IpAddr>,
    /// The port, if one was given.
    pub port: Option<u16>,
}

/// The option that a list of labels was given with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LabelUse {
    /// `-l`
    Match,
    /// `--label-add`
    Add,
    /// `--label-del`
    Delete,
}

/// The options as given.
#[derive(Debug, Clone)]
pub(crate) struct ParsedOptions {
    /// True under flowgate's own name, false under the name `conntrack`.
    pub own_name: bool,
    /// The command and its table.
    pub command: Option<(Command, Table)>,
    /// The options given. A prefix length counts as a mask option.
    pub given: KeySet,
    /// The family of `-f` or of the first address.
    pub family: Option<u8>,
    /// `-s`
    pub source: Option<IpAddr>,
    /// `-d`
    pub destination: Option<IpAddr>,
    /// `-r`
    pub reply_source: Option<IpAddr>,
    /// `-q`
    pub reply_destination: Option<IpAddr>,
    /// `--tuple-src`
    pub tuple_source: Option<IpAddr>,
    /// `--tuple-dst`
    pub tuple_destination: Option<IpAddr>,
    /// `--mask-src`, or the prefix length of `-s` or `--tuple-src`
    pub mask_source: Option<IpAddr>,
    /// `--mask-dst`, or the prefix length of `-d` or `--tuple-dst`
    pub mask_destination: Option<IpAddr>,
    /// `-p`
    pub protocol: Option<Protocol>,
    /// The options of the protocol.
    pub protocol_values: ProtocolValues,
    /// An option of a protocol that was discarded by a later `-p`.
    pub discarded_option: Option<&'static str>,
    /// `-t`
    pub timeout: u32,
    /// `-u`
    pub status: Status,
    /// The last `-u` as typed.
    pub status_text: RawArg,
    /// `-e`
    pub events: Option<EventGroups>,
    /// `-m`
    pub mark: flowgate_model::Masked,
    /// `-i`
    pub id: u32,
    /// `-n`
    pub source_nat: Nat,
    /// `-g`
    pub destination_nat: Nat,
    /// `-j`
    pub any_nat: Nat,
    /// `-o`
    pub output: Output,
    /// `-c`
    pub secmark: u32,
    /// `-b`
    pub buffer_size: u32,
    /// `-w`
    pub zone: u16,
    /// `--orig-zone`
    pub original_zone: u16,
    /// `--reply-zone`
    pub reply_zone: u16,
    /// The lists of `-l`, `--label-add` and `--label-del`, in order.
    pub labels: Vec<(LabelUse, Vec<u8>)>,
    /// `--labelmap`
    pub label_map: Option<Vec<u8>>,
    /// `--plugin`
    pub plugins: Vec<PluginArgument>,
    /// `--batch`
    pub batch: u32,
    /// `--metrics`
    pub metrics: Option<ListenAddress>,
    /// Words that do not belong to an option; `conntrack` ignores them.
    pub stray_words: Vec<Vec<u8>>,
    /// The first value that `conntrack` interprets leniently, as the error that it is in a [strict] reading.
    pub flaw: Option<CliError>,
    /// The option of an address that was given with a prefix and then without, so that the mask of the first address
    /// applies to the second.
    pub stale_mask: Option<&'static str>,
    /// The masks of source and destination, first from prefixes, then from mask options.
    pub masks: [[Option<IpAddr>; 2]; 2],
    /// True if `-u` has a name that is ignored with a warning.
    pub status_ignored: bool,
    /// `--buffer-max`
    pub buffer_max: u32,
    /// `--netns`
    pub netns: Option<Vec<u8>>,
    /// The options beyond those of `conntrack` that `-o save,complete` writes.
    pub extra: Option<Box<ExtraFields>>,
    /// `--set-zone`
    pub set_zone: u16,
    /// `--where`
    pub query: Option<String>,
    /// `--columns`
    pub columns: Option<String>,
    /// `--color`
    pub color: ColorChoice,
    /// `--confirm-above`
    pub confirm_above: Option<u64>,
    /// `--by` and the like
    pub aggregation: AggregationOptions,
}

impl Default for ParsedOptions {
    fn default() -> Self {
        Self {
            own_name: false,
            command: None,
            given: KeySet::default(),
            family: None,
            source: None,
            destination: None,
            reply_source: None,
            reply_destination: None,
            tuple_source: None,
            tuple_destination: None,
            mask_source: None,
            mask_destination: None,
            protocol: None,
            protocol_values: ProtocolValues::default(),
            discarded_option: None,
            timeout: 0,
            status: Status::default(),
            status_text: RawArg::default(),
            events: None,
            mark: flowgate_model::Masked { value: 0, mask: u32::MAX },
            id: 0,
            source_nat: Nat::default(),
            destination_nat: Nat::default(),
            any_nat: Nat::default(),
            output: Output::default(),
            secmark: 0,
            buffer_size: 0,
            zone: 0,
            original_zone: 0,
            reply_zone: 0,
            labels: Vec::new(),
            label_map: None,
            plugins: Vec::new(),
            batch: DEFAULT_BATCH,
            metrics: None,
            stray_words: Vec::new(),
            flaw: None,
            stale_mask: None,
            masks: [[None; 2]; 2],
            status_ignored: false,
            buffer_max: 0,
            netns: None,
            extra: None,
            set_zone: 0,
            query: None,
            columns: None,
            color: ColorChoice::default(),
            confirm_above: None,
            aggregation: AggregationOptions::default(),
        }
    }
}
