//! Which options the scanner knows at a moment: all of the table, and those of the protocol that `-p` chose.

use super::getopt::{Argument, LongOption, Options};
use super::options::{COMMANDS, Key, OPTIONS, Section};
use super::protocols::{Protocol, ProtocolKey};
use super::settings::Command;

/// What the scanner reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    /// A command.
    Command(Command),
    /// An option of the table.
    Option(Key),
    /// An option of the protocol.
    Protocol(ProtocolKey),
}

/// The options that exist at the moment.
pub struct Known {
    long: Vec<LongOption<Id>>,
}

impl Known {
    /// All but those of protocols. `own` says whether those that the classic program does not have are among them.
    pub fn new(own: bool) -> Self {
        let commands = COMMANDS.iter().map(|spec| LongOption {
            name: spec.long,
            argument: spec.arguments.1,
            exact: false,
            id: Id::Command(spec.command),
        });
        let options = OPTIONS.iter().filter(|spec| own || spec.section != Section::Flowgate).flat_map(|spec| {
            spec.long.iter().map(|name| LongOption {
                name,
                argument: spec.argument,
                exact: spec.section == Section::Flowgate,
                id: Id::Option(spec.key),
            })
        });
        Self { long: commands.chain(options).collect() }
    }

    /// Puts the options of a protocol in the place of those of another.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.long.retain(|option| !matches!(option.id, Id::Protocol(_)));
        for option in protocol.handler.map_or(&[][..], |handler| handler.options) {
            self.long.extend(option.long.iter().map(|name| LongOption {
                name,
                argument: Argument::Required,
                exact: false,
                id: Id::Protocol(option.key),
            }));
        }
    }
}

impl Options<Id> for Known {
    fn short(&self, letter: u8) -> Option<(Argument, Id)> {
        let command = COMMANDS.iter().find(|spec| spec.short == letter);
        let option = OPTIONS.iter().find(|spec| spec.short == Some(letter));
        command
            .map(|spec| (spec.arguments.0, Id::Command(spec.command)))
            .or(option.map(|spec| (spec.argument, Id::Option(spec.key))))
    }

    fn long(&self) -> &[LongOption<Id>] {
        &self.long
    }
}
