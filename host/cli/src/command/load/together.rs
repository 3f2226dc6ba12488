//! Lines that delete or update flows with given addresses: many of them share one listing of the table, instead of one
//! each.
//!
//! Such lines are consecutive, name the same fields, and differ in their values, so that no flow matches two of them
//! and none affects the flows of another. The listing is divided into the flows of each line first. Then each line is
//! carried out as usual, on these flows instead of the table.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::command::{
    Context,
    report::{self, CommandError},
    table::Row,
};
use flowgate_model::{Addresses, Direction, Flows, Masked, Network, Selection, at, field};
use flowgate_netlink::{
    Messages, RECEIVE_LENGTH,
    decode::{Arrival, FlowDecoder},
    source::{Datagram, Source, SourceError},
    wire::align,
};
use flowgate_pipeline::{entries::Entries as _, kernel, resync::append};
use flowgate_syntax::{Command, LoadedCommand, Settings, Table};

/// Minimum number of lines that share a listing. For fewer lines the kernel's filter is as fast: it walks through the
/// table for each, but returns few flows.
const FEWEST: usize = 8;
/// Maximum number of lines that share a listing, so that it is recent enough for the last line.
const MOST: usize = 2048;
/// Maximum number of bytes of these flows. Lines that match more flows do not gain from a shared listing.
const BYTES: usize = 16 << 20;

/// The fields for which a selection requires one value, and these values. All other conditions of the selection are
/// checked when its line is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Source and destination of the original direction, then of the reply direction, each as the two halves of the
    /// address.
    addresses: [Option<(u64, u64)>; 4],
    protocol: Option<u8>,
    /// Numbers of the original direction.
    numbers: [Option<u32>; 2],
}

impl Key {
    /// Returns the key of a selection; `None` if it names no address.
    fn of(selection: &Selection) -> Option<Self> {
        let Selection { original, reply, protocol, .. } = selection;
        let address = |network: Option<Network>| {
            let Network { value, mask } = network?;
            ((mask.hi, mask.lo) == (u64::MAX, u64::MAX)).then_some((value.hi, value.lo))
        };
        let number =
            |masked: Option<Masked>| masked.filter(|masked| masked.mask & 0xffff == 0xffff).map(|masked| masked.value);
        let of = |direction: &Direction| [address(direction.source), address(direction.destination)];
        let ([source, destination], [reply_source, reply_destination]) = (of(original), of(reply));
        let addresses = [source, destination, reply_source, reply_destination];
        let numbers = [number(original.source_l4), number(original.destination_l4)];
        addresses.iter().any(Option::is_some).then_some(Key { addresses, protocol: *protocol, numbers })
    }

    /// True if both keys name the same fields.
    fn is_like(&self, other: &Self) -> bool {
        let shape = |key: &Self| {
            (
                key.addresses.map(|address| address.is_some()),
                key.protocol.is_some(),
                key.numbers.map(|number| number.is_some()),
            )
        };
        shape(self) == shape(other)
    }

    /// Returns a key with the fields of this one and the values of a flow.
    fn with_values_of(&self, flows: &Flows, row: usize) -> Self {
        let [source, destination, reply_source, reply_destination] = self.addresses;
        let address =
            |named: Option<(u64, u64)>, column: &Addresses| named.map(|_| (at(&column.hi, row), at(&column.lo, row)));
        let number = |named: Option<u32>, column: &[u16]| named.map(|_| u32::from(at(column, row)));
        Key {
            addresses: [
                address(source, &flows.original.source),
                address(destination, &flows.original.destination),
                address(reply_source, &flows.reply.source),
                address(reply_destination, &flows.reply.destination),
            ],
            protocol: self.protocol.map(|_| at(&flows.protocol, row)),
            numbers: [
                number(self.numbers[0], &flows.original.source_l4),
                number(self.numbers[1], &flows.original.destination_l4),
            ],
        }
    }
}

/// Returns the keys of the first lines that can share a listing; empty if sharing is not worth it.
pub(super) fn keys(commands: &[LoadedCommand]) -> Vec<Key> {
    let Some(first) = commands.first() else { return Vec::new() };
    let mut seen = HashSet::new();
    let mut keys: Vec<Key> = Vec::new();
    for command in commands.iter().take(MOST).take_while(|command| suits(&command.settings, &first.settings)) {
        match Key::of(&command.settings.selection) {
            Some(key) if keys.first().is_none_or(|first| first.is_like(&key)) && seen.insert(key) => keys.push(key),
            _ => break,
        }
    }
    if keys.len() < FEWEST { Vec::new() } else { keys }
}

/// True if a line may share a listing with lines like `first`.
fn suits(settings: &Settings, first: &Settings) -> bool {
    matches!(settings.command, Command::Delete | Command::Update)
        && settings.table == Table::Conntrack
        && (settings.command, &settings.netns) == (first.command, &first.netns)
        && settings.plugins.is_empty()
        && !settings.explain
        && !settings.quiet
}

/// Messages of the flows that a line may match, in the order of the kernel's listing.
#[derive(Debug, Default)]
pub(super) struct LineFlows {
    datagrams: VecDeque<Vec<u8>>,
}

impl LineFlows {
    /// True if there are no messages.
    pub(super) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }
}

impl Source for LineFlows {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        datagram.clear();
        let Some(bytes) = self.datagrams.pop_front() else { return Ok(false) };
        datagram.fill(&bytes);
        Ok(true)
    }
}

/// Lists the table and divides it into the flows that each line may match, given the `keys` of the lines. Returns
/// `None` if the flows exceed the limit.
pub(super) fn divide(
    row: &Row,
    commands: &[LoadedCommand],
    keys: &[Key],
    context: &mut Context<'_>,
) -> Result<Option<Vec<LineFlows>>, CommandError> {
    let (Some(first), Some(shape)) = (commands.first(), keys.first()) else { return Ok(None) };
    let by_key: HashMap<Key, usize> = keys.iter().enumerate().map(|(line, key)| (*key, line)).collect();
    let mut lines: Vec<LineFlows> = keys.iter().map(|_| LineFlows::default()).collect();
    let failed = |error: SourceError| CommandError::of_errno(row, error.errno());

    let namespace = context.namespace(&first.settings)?;
    let mut table = kernel::open_flows(&common(commands), namespace.as_ref(), context.stop).map_err(failed)?;
    let (mut decoder, mut one) = (FlowDecoder::new(field::TUPLES), Flows::default());
    let mut datagram = Datagram::new();
    let mut bytes = 0;
    while table.next(&mut datagram).map_err(failed)? {
        for message in Messages::new(datagram.bytes()).map_while(Result::ok) {
            one.clear(&mut decoder);
            match one.push(&mut decoder, &message, Arrival::Entry) {
                Ok(()) if one.length == 1 => {}
                Ok(()) => continue,
                Err(error) => {
                    report::line(&format!("WARNING: {error}; skipped."));
                    continue;
                }
            }
            let Some(place) = by_key.get(&shape.with_values_of(&one, 0)).and_then(|&line| lines.get_mut(line)) else {
                continue;
            };
            bytes += message.body.len();
            if bytes > BYTES {
                return Ok(None);
            }
            let has_room = |last: &&mut Vec<u8>| last.len() + align(message.body.len()) + 64 < RECEIVE_LENGTH;
            match place.datagrams.back_mut().filter(has_room) {
                Some(last) => append(last, &message),
                None => {
                    let mut first = Vec::new();
                    append(&mut first, &message);
                    place.datagrams.push_back(first);
                }
            }
        }
    }
    if context.stop.is_stopped() {
        // The listing is incomplete, so nothing more is done.
        lines.iter_mut().for_each(|flows| flows.datagrams.clear());
    }
    Ok(Some(lines))
}

/// Returns the conditions that all lines share, for the kernel to check.
fn common(commands: &[LoadedCommand]) -> Selection {
    let mut selections = commands.iter().map(|command| &command.settings.selection);
    let Some(first) = selections.next() else { return Selection::default() };
    let (mut family, mut protocol) = (first.family, first.protocol);
    for other in selections {
        family = family.filter(|_| family == other.family);
        protocol = protocol.filter(|_| protocol == other.protocol);
    }
    Selection { family, protocol, ..Selection::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{self, Invocation};
    use std::ffi::OsStr;

    /// Returns the number of lines at the beginning of a file that share a listing.
    fn sharing(text: &str) -> usize {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, text).unwrap();
        let words = ["-R".into(), file.into_os_string()];
        match args::parse(
            &flowgate_syntax::ProgramName::of(OsStr::new("flowgate")),
            &words,
            &flowgate_syntax::SystemEnvironment,
        )
        .result
        .unwrap()
        {
            Invocation::Load(file) => keys(&file.commands).len(),
            other => panic!("{other:?}"),
        }
    }

    fn each(numbers: std::ops::Range<u32>, line: impl Fn(u32) -> String) -> String {
        numbers.map(|number| line(number) + "\n").collect()
    }

    #[test]
    fn lines_about_one_address_each_share_a_listing() {
        let deletes = |numbers| each(numbers, |number| format!("-D -s 10.0.0.{number}"));
        assert_eq!(sharing(&deletes(0..200)), 200);
        assert_eq!(sharing(&deletes(0..7)), 0, "too few");
        assert_eq!(sharing(&each(0..50, |number| format!("-U -s 2001:db8::{number:x} -m {number}"))), 50);
        let tuple = |number| format!("-D -p udp -s 10.0.0.1 -d 10.0.0.2 --sport {number} --dport 53");
        assert_eq!(sharing(&each(1..4000, tuple)), MOST);
        // Another command, another field, a flow that an earlier line names.
        for other in ["-U -s 10.0.0.99 -m 1", "-D -d 10.0.0.99", "-D -s 10.0.0.99 -p udp", "-D -s 10.0.0.5", "-F"] {
            assert_eq!(sharing(&(deletes(0..20) + other + "\n" + &deletes(30..50))), 20, "{other}");
        }
    }

    #[test]
    fn lines_that_may_mean_the_same_flows_do_not() {
        for line in [
            "-D -p udp",
            "-D -s 10.0.0.0/24",
            "-D -m 5",
            "-D -p tcp --dport 80",
            "-I -s 1.2.3.4 -d 1.2.3.5 -p 255 -t 9",
        ] {
            assert_eq!(sharing(&each(0..20, |_| line.to_string())), 0, "{line}");
        }
        assert_eq!(sharing(&each(0..20, |number| format!("-D -s 10.0.{number}.0/24"))), 0);
        assert_eq!(sharing(&each(1..20, |number| format!("-D -m {number}"))), 0);
        assert_eq!(sharing(""), 0);
    }
}
