//! Notes: information that is not in the kernel's messages, as messages of type NLMSG_NOOP whose body is a line of
//! text.

use flowgate_model::Table;
use flowgate_netlink::wire::{MESSAGE_HEADER, NLMSG_NOOP, align};

/// Prefix of every note.
const PREFIX: &[u8] = b"flowgate ";
/// Stands for the recorder's own namespace.
const OWN_NAMESPACE: &[u8] = b"own";

/// How the datagrams of a recording arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingKind {
    /// As the entries of one dump.
    Dump,
    /// As events.
    Events,
}

/// The names of [`RecordingKind`] in the file.
const KINDS: [(RecordingKind, &str); 2] = [(RecordingKind::Dump, "dump"), (RecordingKind::Events, "events")];
/// A note of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// `VERSION dump|events TABLE [pauses]`: the first note, which describes the recording.
    Title {
        /// How the datagrams arrived.
        kind: RecordingKind,
        /// The table that they are about.
        table: Table,
        /// True if there are [`Note::Pause`]s, which are then the only places where rows are handed on before a batch
        /// is full.
        pauses: bool,
    },
    /// `program PORT NAME`: the name of the process that owns a netlink port, from here on.
    Program {
        /// The port.
        port: u32,
        /// The name, any bytes.
        name: Vec<u8>,
    },
    /// `namespace ID [NAME]` or `namespace own`: the network namespace of the datagrams and of the processes' ports,
    /// from here on.
    Namespace {
        /// The id; `None` for the recorder's own namespace.
        id: Option<u32>,
        /// The name, any bytes, if it is known.
        name: Option<Vec<u8>>,
    },
    /// `pause`: the queue was empty, so that rows were handed on.
    Pause,
}

impl Note {
    /// Encodes the note as a datagram.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let mut body = PREFIX.to_vec();
        match self {
            Note::Title { kind, table, pauses } => {
                let kind = KINDS.iter().find(|(known, _)| known == kind).map_or("", |(_, name)| name);
                let pauses = if *pauses { " pauses" } else { "" };
                body.extend_from_slice(format!("{} {kind} {table}{pauses}", env!("CARGO_PKG_VERSION")).as_bytes());
            }
            Note::Program { port, name } => {
                body.extend_from_slice(format!("program {port} ").as_bytes());
                body.extend_from_slice(name);
            }
            Note::Namespace { id: Some(id), name } => {
                body.extend_from_slice(format!("namespace {id}").as_bytes());
                if let Some(name) = name {
                    body.push(b' ');
                    body.extend_from_slice(name);
                }
            }
            Note::Namespace { id: None, .. } => {
                body.extend_from_slice(b"namespace ");
                body.extend_from_slice(OWN_NAMESPACE);
            }
            Note::Pause => body.extend_from_slice(b"pause"),
        }
        control(NLMSG_NOOP, &body)
    }

    /// Parses the body of an NLMSG_NOOP message; returns `None` if it is not a note, or one of a later version.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        let text = body.strip_prefix(PREFIX)?;
        let mut words = text.splitn(3, |&byte| byte == b' ');
        let (first, second, rest) = (words.next()?, words.next(), words.next());
        match first {
            b"pause" => Some(Note::Pause),
            b"program" => Some(Note::Program { port: number(second?)?, name: rest?.to_vec() }),
            b"namespace" if second? == OWN_NAMESPACE => Some(Note::Namespace { id: None, name: None }),
            b"namespace" => Some(Note::Namespace { id: Some(number(second?)?), name: rest.map(<[u8]>::to_vec) }),
            version if version.first().is_some_and(u8::is_ascii_digit) => {
                let kind = KINDS.iter().find(|(_, name)| Some(name.as_bytes()) == second)?.0;
                let mut words = rest?.split(|&byte| byte == b' ');
                let table = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
                Some(Note::Title { kind, table, pauses: words.any(|word| word == b"pauses") })
            }
            _ => None,
        }
    }
}

/// Parses a decimal number.
fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Encodes a control message of netlink as a datagram: `struct nlmsghdr` without flags, sequence number and port,
/// padded.
pub(super) fn control(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = MESSAGE_HEADER + body.len();
    let mut bytes = Vec::with_capacity(align(length));
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.resize(MESSAGE_HEADER, 0);
    bytes.extend_from_slice(body);
    bytes.resize(align(length), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_netlink::{Content, Messages};

    #[test]
    fn notes_survive() {
        let mut notes = vec![
            Note::Program { port: 4711, name: b"a b\xff".to_vec() },
            Note::Program { port: 0, name: Vec::new() },
            Note::Namespace { id: Some(7), name: None },
            Note::Namespace { id: Some(7), name: Some(b"a b\xff".to_vec()) },
            Note::Namespace { id: None, name: None },
            Note::Pause,
        ];
        for (kind, _) in KINDS {
            for table in Table::ALL {
                notes.extend([true, false].map(|pauses| Note::Title { kind, table, pauses }));
            }
        }
        for note in notes {
            let datagram = note.message();
            let messages: Vec<_> = Messages::new(&datagram).collect();
            let [Ok(message)] = messages[..] else { panic!("{note:?}: {messages:?}") };
            assert_eq!(message.content(), Content::Noop, "readers of netlink pass over it");
            assert_eq!(Note::parse(message.body), Some(note));
        }
    }

    #[test]
    fn the_file_says_it_in_words() {
        let title = Note::Title { kind: RecordingKind::Events, table: Table::Conntrack, pauses: true };
        let words = format!("flowgate {} events conntrack pauses", env!("CARGO_PKG_VERSION"));
        assert_eq!(&title.message()[MESSAGE_HEADER..][..words.len()], words.as_bytes());
    }

    #[test]
    fn what_is_no_note_is_none() {
        for body in [
            &b""[..],
            b"flowgate",
            b"flowgate ",
            b"flowgate program",
            b"flowgate program x y",
            b"flowgate program 1",
            b"flowgate namespace",
            b"flowgate namespace -1",
            b"flowgate 0.1.0",
            b"flowgate 0.1.0 dump",
            b"flowgate 0.1.0 dump tables",
            b"flowgate 0.1.0 dumps conntrack",
            b"flowgate later 1",
            b"other pause",
        ] {
            assert_eq!(Note::parse(body), None, "{}", String::from_utf8_lossy(body));
        }
        let later = Note::parse(b"flowgate 9.1.0 dump expect something new");
        assert_eq!(later, Some(Note::Title { kind: RecordingKind::Dump, table: Table::Expect, pauses: false }));
    }
}
