//! Errors of a command line, with their exact texts and exit statuses.

use std::fmt;

use flowgate_base::text::{line, message};
use flowgate_query::QueryError;

use super::wrong_value::WrongValue;

/// A word, or part of one, as it was typed; not necessarily UTF-8.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RawArg(pub Vec<u8>);

impl AsRef<[u8]> for RawArg {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for RawArg {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<&str> for RawArg {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Display for RawArg {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&line(&self.0))
    }
}

impl fmt::Debug for RawArg {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), formatter)
    }
}

/// The line that follows the message of an error with exit status 2. It always names `conntrack`.
pub const HINT: &str = "Try `conntrack -h' or 'conntrack --help' for more information.";

/// An error in the command line. Its text has no banner and no newline: as bytes ([`CliError::message`]), in which
/// words are repeated as they were typed, as `conntrack` does, and cleaned (`Display`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CliError {
    /// An unknown or ambiguous option, or a value attached to an option that takes none.
    UnknownOption(RawArg),
    /// The last word is an option that requires a value.
    MissingValue(RawArg),
    /// The word after a command does not name a table.
    UnknownTable(RawArg),
    /// Two commands.
    CommandsCombined,
    /// A command other than `-L` on the tables dying and unconfirmed.
    ListOnly,
    /// `-A` on expectations.
    NoAddOnExpectations,
    /// `-U` on expectations.
    NoUpdateOnExpectations,
    /// An invalid element in the list of `-u`, `-e` or `-o`; holds the list from that element on.
    BadParameter(RawArg),
    /// Not an IP address.
    InvalidAddress(RawArg),
    /// An address whose family differs from that of an earlier one or of `-f`.
    MismatchedFamily,
    /// A prefix length with an option that takes an address only. Holds the option's name.
    NoPrefixHere(&'static str),
    /// A prefix length that is not a number or too long.
    InvalidNetmask,
    /// Invalid value of `-p` or `-f`.
    UnsupportedProtocol(RawArg),
    /// `-o complete` without `save`.
    CompleteAlone,
    /// `-o complete` of expectations.
    CompleteExpectations,
    /// `--labels` with `--label-add` or `--label-del`.
    LabelsTwice,
    /// A line of a load file that exceeds the maximum length.
    LineTooLong,
    /// `-F` in a file that is loaded with `--set-zone`.
    FlushWithZone,
    /// A value that is not a number or out of range.
    UnexpectedValue {
        /// The value as typed.
        value: RawArg,
        /// The option's letter.
        option: char,
    },
    /// A label that is not in the label map.
    UnknownLabel(RawArg),
    /// `--label-add` with `--label-del`.
    LabelAddWithDelete,
    /// `--labelmap` twice.
    LabelMapTwice,
    /// `-o save` with another output.
    SaveWithOther,
    /// `[]` as the address of a NAT option.
    NoIpv6Address,
    /// `[` without `]` in the address of a NAT option.
    NoClosingBracket,
    /// A colon without a port after it.
    NoPort,
    /// Not a port.
    InvalidPort(RawArg),
    /// `-j` with `-n` or `-g`.
    AnyNatWithOther,
    /// The command requires the option of this name.
    Missing(&'static str),
    /// The command does not accept the option of this name.
    Illegal(&'static str),
    /// Only one of two options was given that must be given together.
    IncompletePair(&'static str, &'static str),
    /// `-z` with a selection.
    ZeroWithFilter,
    /// `--mask-src` without `--src`, or `--mask-dst` without `--dst`.
    MaskAlone {
        /// Name of the mask's option.
        mask: &'static str,
        /// Name of the option that it applies to.
        address: &'static str,
    },
    /// Invalid value of `--state` with `-p tcp`.
    UnknownTcpState(RawArg),
    /// Invalid value of `--state` with `-p sctp`.
    UnknownSctpState(RawArg),
    /// Invalid value of `--state` with `-p dccp`.
    UnknownDccpState(RawArg),
    /// Invalid value of `--role`.
    UnknownDccpRole(RawArg),
    /// The file of `-R` cannot be opened.
    CannotOpen(RawArg),
    /// Reading the file of `-R` failed.
    CannotRead {
        /// The file.
        name: RawArg,
        /// Text of the I/O error.
        error: String,
    },
    /// A word of a load file is longer than 1023 bytes.
    WordTooLong,
    /// A line of a load file has too many words.
    TooManyWords,
    /// A command that is not allowed in load files.
    NotInLoadFile(&'static str),

    /// A value that `conntrack` would interpret as a different one.
    WrongValue(Box<WrongValue>),
    /// A word that does not belong to any option.
    StrayWord {
        /// The word.
        word: RawArg,
        /// A suggestion, if there is one.
        hint: Option<String>,
    },
    /// A value attached to an option that takes it only from the next word.
    Attached {
        /// The option's name.
        option: &'static str,
        /// The value.
        value: RawArg,
        /// The next word, for an example.
        example: String,
    },
    /// An option after the file of `-R`, which `conntrack` ignores.
    AfterFile(RawArg),
    /// An empty word where a table is expected.
    EmptyTable,
    /// An address given after a network with the same option, whose mask would still apply.
    StaleMask(&'static str),
    /// `-D -u` with a name that is ignored.
    StatusIgnored(RawArg),
    /// `-D` without a selecting option and without `--all`.
    NothingSelected,
    /// `--all` with a selecting option.
    AllWithSelector,
    /// An error with an explanation of what would be valid.
    WithHint(Box<CliError>, String),
    /// The first word is not a subcommand; holds the whole message.
    NoSubcommand(String),
    /// Invalid value of the variable that names the program.
    UnknownName(RawArg),
    /// `-z` with `--dry-run`.
    DryZero,
    /// `--plugin` with the same plugin option twice.
    PluginOptionTwice {
        /// The whole value.
        value: RawArg,
        /// The option.
        option: String,
    },
    /// `-b` with a larger value than `--buffer-max`.
    BufferAboveMax {
        /// `-b`
        size: u32,
        /// `--buffer-max`
        max: u32,
    },

    /// `-D -u` without any bit to compare.
    StatusSelectsAll(RawArg),
    /// Two types of `-o` of which there can be one only, at least one of which `conntrack` does not have.
    OutputsCombined(&'static str, &'static str),
    /// `--columns` or `--no-header` with a type of `-o` that has no columns.
    NoColumns(&'static str),
    /// Invalid value of `--batch`.
    BatchRows(RawArg),
    /// Value of `--plugin` without a file.
    PluginWithoutFile(RawArg),
    /// Value of `--plugin` with a plugin option that is not `name=value`.
    PluginOption {
        /// The whole value.
        value: RawArg,
        /// The invalid part.
        option: RawArg,
    },
    /// Value of `--plugin` with an unclosed double quote.
    PluginQuote(RawArg),
    /// Value of `--plugin` with a plugin option that is not UTF-8.
    PluginText(RawArg),
    /// `--dry-run` with a load file that contains `-F`.
    DryFlush,
    /// `--grant` or `--on-error` before any `--plugin`.
    WithoutPlugin(&'static str),
    /// Invalid value of `--where`, or of an option that asks for groups.
    Query(&'static str, Box<QueryError>),
    /// `--where` twice.
    WhereTwice,
    /// A value of an option that is not UTF-8.
    NoUtf8(RawArg, &'static str),
    /// An option that can be given once only.
    GivenTwice(&'static str),
    /// `--columns` with options that ask for groups.
    ColumnsOfGroups,
    /// An output that groups do not have.
    GroupsAs(&'static str),
    /// Invalid value of `--grant`; holds the reason.
    Grant(String),
    /// Invalid value of `--on-error`.
    OnErrorValue(RawArg),
    /// Invalid value of `--metrics`; holds the reason.
    Metrics(String),
    /// `--netns` with an empty value.
    NoNetns,
    /// `--all-netns` with a plugin that has a grant to act.
    AllNetnsWithGrant,
    /// An option in a line of a load file that is only accepted for the whole file.
    NotInLine(&'static str),
    /// The file that holds the value of a plugin option cannot be read.
    PluginFile {
        /// The option.
        option: String,
        /// The file, as typed.
        file: RawArg,
        /// Text of the I/O error.
        reason: String,
    },
    /// A subcommand rejects its arguments; holds the whole text for standard error, several lines long.
    Subcommand(String),
}

/// Concatenates bytes and text.
macro_rules! text {
    ($($piece:expr),* $(,)?) => {{
        let mut text: Vec<u8> = Vec::new();
        $( text.extend_from_slice(AsRef::<[u8]>::as_ref($piece)); )*
        text
    }};
}

impl CliError {
    /// Returns the exit status: 2 for an error in the command line, 1 for the few that `conntrack` counts as failures.
    pub fn status(&self) -> u8 {
        match self {
            Self::UnexpectedValue { .. }
            | Self::LabelAddWithDelete
            | Self::SaveWithOther
            | Self::OutputsCombined(..)
            | Self::CannotRead { .. } => 1,
            _ => 2,
        }
    }

    /// Returns true if the line [`HINT`] follows the message.
    pub fn has_hint(&self) -> bool {
        self.status() == 2 && !self.is_text() && !matches!(self, Self::Query(..))
    }

    /// Returns true if the message is printed alone, with neither banner nor hint: it is several lines long.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Subcommand(_))
    }

    /// Returns the message in bytes, with what was typed unchanged.
    pub fn message(&self) -> Vec<u8> {
        match self {
            Self::UnknownOption(word) => text!("unknown option `", word, "'"),
            Self::MissingValue(word) => text!("option `", word, "' requires an argument"),
            Self::UnknownTable(word) => text!("unknown type `", word, "'"),
            Self::CommandsCombined => text!("Invalid commands combination"),
            Self::ListOnly => text!("Can't do that command with tables `dying' and `unconfirmed'"),
            Self::NoAddOnExpectations => text!("Can't do --add on expectations"),
            Self::NoUpdateOnExpectations => text!("Can't do --update on expectations"),
            Self::BadParameter(rest) => text!("Bad parameter `", rest, "'"),
            Self::InvalidAddress(word) => text!("Invalid IP address `", word, "'"),
            Self::MismatchedFamily => text!("mismatched address family"),
            Self::NoPrefixHere(name) => text!("CIDR notation unavailable for `--", name, "'"),
            Self::InvalidNetmask => text!("Invalid netmask"),
            Self::UnsupportedProtocol(word) => text!("`", word, "' unsupported protocol"),
            Self::CompleteAlone => text!("`complete' extends `save'; use -o save,complete"),
            Self::CompleteExpectations => {
                text!(
                    "no command line can restore an expectation, so that `complete' is not available; -o json has all fields"
                )
            }
            Self::LabelsTwice => {
                text!("--labels replaces the set of labels; --label-add and --label-del cannot be combined with it")
            }
            Self::LineTooLong => text!("the line has more than 10239 bytes"),
            Self::FlushWithZone => {
                text!("-F empties all zones, and --set-zone applies to one; delete its flows with -D -w ZONE")
            }
            Self::UnexpectedValue { value, option } => {
                text!("unexpected value '", value, "' with -", &option.to_string(), " option")
            }
            Self::UnknownLabel(name) => text!("unknown label '", name, "'"),
            Self::LabelAddWithDelete => text!("cannot use --label-add and --label-del at the same time"),
            Self::LabelMapTwice => text!("option `--labelmap' can only be specified once"),
            Self::SaveWithOther => {
                text!("cannot combine save output with any other output type, use -o save only")
            }
            Self::NoIpv6Address => text!("No IPv6 address specified"),
            Self::NoClosingBracket => text!("No closing ']' around IPv6 address"),
            Self::NoPort => text!("No port specified after `:'"),
            Self::InvalidPort(word) => text!("Invalid port `", word, "'"),
            Self::AnyNatWithOther => text!("cannot specify `--src-nat' or `--dst-nat' with `--any-nat'"),
            Self::Missing(name) => text!("You need to supply the `--", name, "' option for this command"),
            Self::Illegal(name) => text!("Illegal option `--", name, "' with this command"),
            Self::IncompletePair(first, second) => text!("you have to specify `--", first, "' and `--", second, "'"),
            Self::ZeroWithFilter => text!("Can't use -z with filtering parameters"),
            Self::MaskAlone { mask, address } => text!("Can't use --", mask, " without --", address),
            Self::UnknownTcpState(word) => text!("unknown TCP state `", word, "'"),
            Self::UnknownSctpState(word) => text!("unknown SCTP state `", word, "'"),
            Self::UnknownDccpState(word) => text!("Unknown DCCP state `", word, "'"),
            Self::UnknownDccpRole(word) => text!("Unknown DCCP role `", word, "'"),
            Self::CannotOpen(name) => text!("Failed to open file ", name, " for reading"),
            Self::CannotRead { name, error } => text!("Failed to read file ", name, ": ", error),
            Self::WordTooLong => text!("Parameter too long!"),
            Self::TooManyWords => text!("too many arguments"),
            Self::NotInLoadFile(command) => text!("Cannot use command `", command, "' with --load-file"),
            Self::WrongValue(wrong) => wrong.message(),
            Self::StrayWord { word, hint } => {
                let hint = hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
                let empty = RawArg::from("an empty word");
                let word = if word.0.is_empty() { &empty } else { word };
                text!(word, " does not belong to any option", hint.as_str())
            }
            Self::Attached { option, value, example } => text!(
                "--",
                *option,
                " takes no attached value `",
                value,
                "'; it takes the next word: --",
                *option,
                " ",
                example.as_str(),
            ),
            Self::AfterFile(word) => {
                text!("`", word, "' after the file of -R would be ignored; options belong in its lines")
            }
            Self::EmptyTable => text!("an empty word is not a table; leave it out, or name one: conntrack or expect"),
            Self::StaleMask(option) => text!(
                "--",
                *option,
                " is given twice, and the prefix of the first network would hold for the second address",
            ),
            Self::StatusIgnored(word) => text!(
                "status `",
                word,
                "' has a name that is ignored, so that more would be deleted than it says; use --src-nat or --dst-nat",
            ),
            Self::NothingSelected => text!(
                "nothing selects the flows that are to be deleted; to delete all of them: -D --all, or -F to empty the table"
            ),
            Self::AllWithSelector => {
                text!(
                    "--all deletes every flow and cannot be combined with options that select some; leave one of them out"
                )
            }
            Self::WithHint(error, hint) => text!(&error.message(), "; ", hint.as_str()),
            Self::NoSubcommand(text) => text!(text.as_str()),
            Self::UnknownName(word) => text!("FLOWGATE_AS is `", word, "'; it takes conntrack or flowgate"),
            Self::DryZero => {
                text!("--dry-run cannot print what -z would do, which sets counters to zero; leave one of them out")
            }
            Self::PluginOptionTwice { value, option } => {
                text!("option '", option.as_str(), "' is given twice in '", value, "' with --plugin option")
            }
            Self::BufferAboveMax { size, max } => text!(
                "--buffer-size ",
                &size.to_string(),
                " is above --buffer-max ",
                &max.to_string(),
                "; the buffer begins with the one and grows to the other",
            ),
            Self::StatusSelectsAll(word) => text!(
                "status `",
                word,
                "' names no bit to compare, so that it would not narrow what is deleted; leave -u out to delete regardless",
            ),
            Self::OutputsCombined(first, second) => {
                text!("cannot combine ", first, " output with ", second, " output, use one of them only")
            }
            Self::NoColumns(option) => {
                text!("--", option, " is for the output types table, csv and tsv, not for the one of -o")
            }
            Self::BatchRows(word) => {
                text!("unexpected value '", word, "' with --batch option, it takes a number of rows from 1 to 65536")
            }
            Self::PluginWithoutFile(word) => {
                text!("no file in '", word, "' with --plugin option, it takes FILE[,name=value...]")
            }
            Self::PluginOption { value, option } => text!(
                "'",
                option,
                "' in '",
                value,
                "' with --plugin option is not of the form name=value; a comma inside a value is written \\, or in \"\"",
            ),
            Self::PluginQuote(word) => {
                text!("no closing '\"' in '", word, "' with --plugin option; a quote inside a value is written \\\"")
            }
            Self::Subcommand(text) => text!(text.as_str()),
            Self::DryFlush => text!("--dry-run cannot print what -F would do; take that line out of the file"),
            Self::WithoutPlugin(option) => {
                text!("--", *option, " applies to the --plugin before it, but there is none; give --plugin FILE first")
            }
            Self::Metrics(problem) => text!("--metrics: ", problem.as_str()),
            Self::NoNetns => {
                text!("--netns takes the name of a network namespace, the number of a process in it, or a path")
            }
            Self::AllNetnsWithGrant => text!(
                "--all-netns cannot be combined with --grant of delete, update or create: \
                 what a plugin asks for would be done in this network namespace, whichever one the event is of"
            ),
            Self::NotInLine(option) => text!(
                "--",
                *option,
                " is not accepted in a line of a load file; give it after the file: -R FILE --",
                *option
            ),
            Self::Query(option, error) => {
                let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
                text!("--", *option, ": ", error.message.as_str(), hint.as_str())
            }
            Self::NoUtf8(word, option) => text!("'", word, "' with --", *option, " option is not UTF-8"),
            Self::GivenTwice(option) => text!("--", *option, " is given twice; join both lists by a comma in one"),
            Self::ColumnsOfGroups => {
                text!("--columns is of flows; groups have the columns of --by and of the measures")
            }
            Self::GroupsAs(output) => {
                text!("groups of flows have no output `", *output, "'; use -o table, csv, tsv or json")
            }
            Self::WhereTwice => text!("--where is given twice; join both conditions by `and' in one"),
            Self::Grant(problem) => text!("--grant: ", problem.as_str()),
            Self::OnErrorValue(word) => text!("'", word, "' with --on-error option is not one of skip, drop and stop"),
            Self::PluginFile { option, file, reason } => text!(
                "cannot read '",
                file,
                "', the value of the option '",
                option.as_str(),
                "' of a plugin: ",
                reason.as_str(),
                "; a value that begins with @ is written @@",
            ),
            Self::PluginText(word) => text!("'", word, "' with --plugin option is not UTF-8"),
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.message();
        formatter.write_str(&if self.is_text() { message(&bytes) } else { line(&bytes) })
    }
}

impl std::error::Error for CliError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_repeats_the_bytes_that_were_typed() {
        let error = CliError::InvalidAddress(RawArg(vec![b'x', 0xff]));
        assert_eq!(error.message(), b"Invalid IP address `x\xff'");
        assert_eq!(error.to_string(), "Invalid IP address `x\\xff'");
    }

    #[test]
    fn numbers_out_of_range_are_failures_and_have_no_hint() {
        let error = CliError::UnexpectedValue { value: "abc".into(), option: '(' };
        assert_eq!(error.to_string(), "unexpected value 'abc' with -( option");
        assert_eq!(error.status(), 1);
        assert!(!error.has_hint());
        assert!(CliError::InvalidNetmask.has_hint());
    }
}
