//! What is wrong with a command line: the problems, their exact texts and their exit statuses.

use std::fmt;

use super::wrong_value::WrongValue;

/// A piece of the command line as it was typed. It need not be UTF-8.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Word(pub Vec<u8>);

impl AsRef<[u8]> for Word {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Word {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Display for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), formatter)
    }
}

/// The line that follows the message of a problem with exit status 2. The name in it is always `conntrack`.
pub const HINT: &str = "Try `conntrack -h' or 'conntrack --help' for more information.";

/// A problem of the command line. Its text ([`CliError::message`], `Display`) has no banner and no newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CliError {
    /// An unknown or ambiguous option, or a value given to an option that takes none.
    UnknownOption(Word),
    /// The last word is an option that needs a value.
    MissingValue(Word),
    /// The word after a command is no table.
    UnknownTable(Word),
    /// Two commands.
    CommandsCombined,
    /// Another command than `-L` on the tables dying and unconfirmed.
    ListOnly,
    /// `-A` on expectations.
    NoAddOnExpectations,
    /// `-U` on expectations.
    NoUpdateOnExpectations,
    /// An element of the list of `-u`, `-e` or `-o`; the value is the list from that element on.
    BadParameter(Word),
    /// Not an IP address.
    InvalidAddress(Word),
    /// An address of another family than an earlier one or `-f`.
    MismatchedFamily,
    /// A prefix length where only an address is taken. The value is the option's name.
    NoPrefixHere(&'static str),
    /// A prefix length that is no number or too long.
    InvalidNetmask,
    /// Value of `-p` or `-f`.
    UnsupportedProtocol(Word),
    /// `-o complete` without `save`.
    CompleteAlone,
    /// `-o complete` of expectations.
    CompleteExpectations,
    /// `--labels` with `--label-add` or `--label-del`.
    LabelsTwice,
    /// A line of a load file that is longer than lines may be.
    LineTooLong,
    /// `-F` in a file that is loaded with `--set-zone`.
    FlushWithZone,
    /// A number that is none, or out of its range.
    UnexpectedValue {
        /// What was given.
        value: Word,
        /// The option's letter.
        option: char,
    },
    /// A label that the map does not have.
    UnknownLabel(Word),
    /// `--label-add` with `--label-del`.
    LabelAddWithDelete,
    /// `--labelmap` twice.
    LabelMapTwice,
    /// `-o save` with another output.
    SaveWithOther,
    /// `[]` as the address of a translation.
    NoIpv6Address,
    /// `[` without `]` in the address of a translation.
    NoClosingBracket,
    /// A colon with nothing behind it.
    NoPort,
    /// Not a port.
    InvalidPort(Word),
    /// `-j` with `-n` or `-g`.
    AnyNatWithOther,
    /// The command needs the option of this name.
    Missing(&'static str),
    /// The command does not take the option of this name.
    Illegal(&'static str),
    /// One of two options is missing that go together only.
    Both(&'static str, &'static str),
    /// `-z` with a selection.
    ZeroWithFilter,
    /// `--mask-src` without `--src`, or the same of the destination.
    MaskAlone {
        /// Name of the mask's option.
        mask: &'static str,
        /// Name of the option that it belongs to.
        address: &'static str,
    },
    /// Value of `--state` with `-p tcp`.
    UnknownTcpState(Word),
    /// Value of `--state` with `-p sctp`.
    UnknownSctpState(Word),
    /// Value of `--state` with `-p dccp`.
    UnknownDccpState(Word),
    /// Value of `--role`.
    UnknownDccpRole(Word),
    /// The file of `-R` cannot be opened.
    CannotOpen(Word),
    /// The file of `-R` cannot be read to its end.
    CannotRead {
        /// The file.
        name: Word,
        /// Text of the error.
        error: String,
    },
    /// A word of a load file has more than 1023 bytes.
    WordTooLong,
    /// A line of a load file has too many words.
    TooManyWords,
    /// A command that load files cannot contain.
    NotInLoadFile(&'static str),

    /// A value that `conntrack` takes for another one.
    WrongValue(Box<WrongValue>),
    /// A word that belongs to no option.
    Stray {
        /// The word.
        word: Word,
        /// What may have been meant.
        hint: Option<String>,
    },
    /// A value that is attached to an option that takes it from the next word only.
    Attached {
        /// The option's name.
        option: &'static str,
        /// The value.
        value: Word,
        /// The next word in an example.
        example: String,
    },
    /// An option behind the file of `-R`, where `conntrack` ignores it.
    BehindFile(Word),
    /// An empty word in the place of a table.
    EmptyTable,
    /// An address behind a network of the same option.
    MaskedByAnother(&'static str),
    /// `-D -u` with a name that is ignored.
    StatusIgnored(Word),
    /// `-D` without a selector and without `--all`.
    NothingSelected,
    /// `--all` with a selector.
    AllWithSelector,
    /// A problem, and what would be right.
    Explained(Box<CliError>, String),
    /// The first word is no subcommand; the text is the whole message.
    NoSubcommand(String),
    /// The value of the variable that names the program.
    UnknownName(Word),
    /// `-z` with `--dry-run`.
    DryZero,
    /// `--plugin` with the same option twice.
    PluginOptionTwice {
        /// The whole value.
        value: Word,
        /// The option.
        option: String,
    },
    /// `-b` with more than `--buffer-max`.
    BufferAboveMax {
        /// `-b`
        size: u32,
        /// `--buffer-max`
        max: u32,
    },

    /// `-D -u` with nothing that a flow could be compared with.
    StatusSelectsAll(Word),
    /// `-o json` with xml or save.
    JsonWithOther(&'static str),
    /// Value of `--batch`.
    BatchRows(Word),
    /// Value of `--plugin` without a file.
    PluginWithoutFile(Word),
    /// Value of `--plugin` with an option that is not `name=value`.
    PluginOption {
        /// The whole value.
        value: Word,
        /// The part that is wrong.
        option: Word,
    },
    /// Value of `--plugin` with a double quote that is not closed.
    PluginQuote(Word),
    /// Value of `--plugin` with an option that is not UTF-8.
    PluginText(Word),
    /// `--dry-run` with a file that empties the table.
    DryFlush,
    /// `--grant` or `--on-error` before any `--plugin`.
    WithoutPlugin(&'static str),
    /// Value of `--grant`, and what is wrong with it.
    Grant(String),
    /// Value of `--on-error`.
    OnErrorValue(Word),
    /// Value of `--metrics`, and what is wrong with it.
    Metrics(String),
    /// `--netns` without a value.
    NoNetns,
    /// `--all-netns` with a plugin that may act.
    AllNetnsWithGrant,
    /// An option in a line of a load file that holds for all of the file.
    NotInLine(&'static str),
    /// A file that holds the value of a plugin's option, and why it cannot be read.
    PluginFile {
        /// The option.
        option: String,
        /// The file, as typed.
        file: Word,
        /// What the system says.
        reason: String,
    },
    /// A subcommand does not take what follows it; the whole text for standard error, of several lines.
    Subcommand(String),
}

/// Lays pieces of bytes and text end to end.
macro_rules! text {
    ($($piece:expr),* $(,)?) => {{
        let mut text: Vec<u8> = Vec::new();
        $( text.extend_from_slice(AsRef::<[u8]>::as_ref($piece)); )*
        text
    }};
}

impl CliError {
    /// Exit status: 2 for a problem of the command line; 1 for the few that the classic program counts as failures.
    pub fn status(&self) -> u8 {
        match self {
            Self::UnexpectedValue { .. }
            | Self::LabelAddWithDelete
            | Self::SaveWithOther
            | Self::JsonWithOther(_)
            | Self::CannotRead { .. } => 1,
            _ => 2,
        }
    }

    /// Whether the line [`HINT`] follows the message.
    pub fn has_hint(&self) -> bool {
        self.status() == 2 && !self.is_text()
    }

    /// Whether the message is the whole of what is to be printed, with neither banner nor hint: it has several lines.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Subcommand(_))
    }

    /// The message in bytes, with what was typed as it was typed.
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
            Self::CompleteAlone => text!("`complete' says more of what `save' writes; use -o save,complete"),
            Self::CompleteExpectations => {
                text!(
                    "there are no lines that make expectations again, and so no `complete' ones; -o json has all of their fields"
                )
            }
            Self::LabelsTwice => {
                text!("--labels says which labels there are; --label-add and --label-del cannot be used with it")
            }
            Self::LineTooLong => text!("the line has more than 10239 bytes"),
            Self::FlushWithZone => {
                text!("-F empties all zones, and --set-zone is about one; delete its flows by -D -w and its number")
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
            Self::Both(first, second) => text!("you have to specify `--", first, "' and `--", second, "'"),
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
            Self::Stray { word, hint } => {
                let hint = hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
                let empty = Word::from("an empty word");
                let word = if word.0.is_empty() { &empty } else { word };
                text!(word, " belongs to no option", hint.as_str())
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
            Self::BehindFile(word) => {
                text!("`", word, "' after the file of -R would be ignored; options belong into its lines")
            }
            Self::EmptyTable => text!("an empty word is no table; leave it out, or name one: conntrack or expect"),
            Self::MaskedByAnother(option) => text!(
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
                text!("--all deletes every flow, and does not go with options that select some; leave one of them out")
            }
            Self::Explained(error, hint) => text!(&error.message(), "; ", hint.as_str()),
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
            Self::JsonWithOther(other) => {
                text!("cannot combine json output with ", other, " output, use one of them only")
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
                text!("--", *option, " is about the --plugin before it, and there is none; write --plugin FILE first")
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
        formatter.write_str(&String::from_utf8_lossy(&self.message()))
    }
}

impl std::error::Error for CliError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_repeats_the_bytes_that_were_typed() {
        let error = CliError::InvalidAddress(Word(vec![b'x', 0xff]));
        assert_eq!(error.message(), b"Invalid IP address `x\xff'");
        assert_eq!(error.to_string(), "Invalid IP address `x\u{fffd}'");
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
