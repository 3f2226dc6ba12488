//! The options that the scanner accepts: those of the table, and those of the protocol that `-p` selected.

use std::sync::LazyLock;

use super::getopt::{Argument, LongOption, OptionSource};
use super::options::{COMMANDS, HelpSection, OPTIONS, OptionKey};
use super::protocols::{PROTOCOLS, Protocol, ProtocolKey, ProtocolSpec};
use super::settings::Command;

/// The id of an option, as the scanner reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OptionId {
    /// A command.
    Command(Command),
    /// An option of the table.
    Option(OptionKey),
    /// An option of the protocol.
    Protocol(ProtocolKey),
}

/// The options that are accepted at this point of the command line.
pub(crate) struct OptionLookup {
    /// All options except those of protocols.
    common: &'static [LongOption<OptionId>],
    /// The options of the protocol.
    protocol: &'static [LongOption<OptionId>],
}

/// Built once, since they do not depend on the line and a load file may have a million lines.
static CLASSIC: LazyLock<Vec<LongOption<OptionId>>> = LazyLock::new(|| common(false));
static OWN: LazyLock<Vec<LongOption<OptionId>>> = LazyLock::new(|| common(true));
/// The options of each protocol, by its number.
static PROTOCOL_OPTIONS: LazyLock<Vec<(u8, Vec<LongOption<OptionId>>)>> = LazyLock::new(|| {
    let of = |spec: &ProtocolSpec| {
        let options = spec.options.iter().flat_map(|option| {
            option.long.iter().map(|name| LongOption {
                name,
                argument: Argument::Required,
                exact: false,
                id: OptionId::Protocol(option.key),
            })
        });
        (spec.number, options.collect())
    };
    PROTOCOLS.iter().map(of).collect()
});

/// Returns all options except those of protocols.
fn common(own_name: bool) -> Vec<LongOption<OptionId>> {
    let commands = COMMANDS.iter().map(|spec| LongOption {
        name: spec.long,
        argument: spec.arguments.1,
        exact: false,
        id: OptionId::Command(spec.command),
    });
    let options = OPTIONS.iter().filter(|spec| own_name || spec.section != HelpSection::Flowgate).flat_map(|spec| {
        spec.long.iter().map(|name| LongOption {
            name,
            argument: spec.argument,
            exact: spec.section == HelpSection::Flowgate,
            id: OptionId::Option(spec.key),
        })
    });
    commands.chain(options).collect()
}

impl OptionLookup {
    /// Returns all options except those of protocols. `own_name` adds those that `conntrack` does not have.
    pub(crate) fn new(own_name: bool) -> Self {
        Self { common: if own_name { &OWN } else { &CLASSIC }, protocol: &[] }
    }

    /// Replaces the options of the protocol.
    pub(crate) fn set_protocol(&mut self, protocol: Protocol) {
        let number = protocol.spec.map(|spec| spec.number);
        let options = PROTOCOL_OPTIONS.iter().find(|(of, _)| Some(*of) == number);
        self.protocol = options.map_or(&[], |(_, options)| options);
    }
}

impl OptionSource<OptionId> for OptionLookup {
    fn short(&self, letter: u8) -> Option<(Argument, OptionId)> {
        let command = COMMANDS.iter().find(|spec| spec.short == letter);
        let option = OPTIONS.iter().find(|spec| spec.short == Some(letter));
        command
            .map(|spec| (spec.arguments.0, OptionId::Command(spec.command)))
            .or(option.map(|spec| (spec.argument, OptionId::Option(spec.key))))
    }

    fn long(&self) -> (&[LongOption<OptionId>], &[LongOption<OptionId>]) {
        (self.common, self.protocol)
    }
}
