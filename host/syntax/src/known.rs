//! Which options the scanner knows at a moment: all of the table, and those of the protocol that `-p` chose.

use std::sync::LazyLock;

use super::getopt::{Argument, LongOption, Options};
use super::options::{COMMANDS, Key, OPTIONS, Section};
use super::protocols::{HANDLERS, Handler, Protocol, ProtocolKey};
use super::settings::Command;

/// What the scanner reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Id {
    /// A command.
    Command(Command),
    /// An option of the table.
    Option(Key),
    /// An option of the protocol.
    Protocol(ProtocolKey),
}

/// The options that exist at the moment.
pub(crate) struct Known {
    /// All but those of protocols.
    common: &'static [LongOption<Id>],
    /// Those of the protocol.
    protocol: &'static [LongOption<Id>],
}

/// What does not depend on the line is made once: a file may have a million.
static CLASSIC: LazyLock<Vec<LongOption<Id>>> = LazyLock::new(|| common(false));
static OWN: LazyLock<Vec<LongOption<Id>>> = LazyLock::new(|| common(true));
/// The options of each protocol, with its number.
static PROTOCOLS: LazyLock<Vec<(u8, Vec<LongOption<Id>>)>> = LazyLock::new(|| {
    let of = |handler: &Handler| {
        let options = handler.options.iter().flat_map(|option| {
            option.long.iter().map(|name| LongOption {
                name,
                argument: Argument::Required,
                exact: false,
                id: Id::Protocol(option.key),
            })
        });
        (handler.number, options.collect())
    };
    HANDLERS.iter().map(of).collect()
});

/// All but the options of protocols.
fn common(own: bool) -> Vec<LongOption<Id>> {
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
    commands.chain(options).collect()
}

impl Known {
    /// All but those of protocols. `own` says whether those that the classic program does not have are among them.
    pub(crate) fn new(own: bool) -> Self {
        Self { common: if own { &OWN } else { &CLASSIC }, protocol: &[] }
    }

    /// Puts the options of a protocol in the place of those of another.
    pub(crate) fn set_protocol(&mut self, protocol: Protocol) {
        let number = protocol.handler.map(|handler| handler.number);
        let options = PROTOCOLS.iter().find(|(of, _)| Some(*of) == number);
        self.protocol = options.map_or(&[], |(_, options)| options);
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

    fn long(&self) -> (&[LongOption<Id>], &[LongOption<Id>]) {
        (self.common, self.protocol)
    }
}
