//! The options that `-o save,complete` writes beyond those of `conntrack`: labels by number, the helper, the master
//! flow, TCP state.

use std::net::IpAddr;

use super::{
    environment::Environment,
    error::CliError,
    options::{OPTIONS, OptionKey},
    protocols::{Database, Protocol},
    settings::Command,
    template::put_address,
    values,
    wrong_value::WrongValue,
};
use flowgate_model::{Flows, batch, field, put};

/// The values of these options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ExtraFields {
    /// `--labels`: label `n` is bit `n`. The second value is the mask of labels that an update changes, `None` for all.
    labels: Option<(u128, Option<u128>)>,
    /// `--helper`
    helper: Option<Vec<u8>>,
    /// `--orig-seqadj`, `--reply-seqadj`: position, offset before, offset after.
    sequences: [Option<[u32; 3]>; 2],
    /// `--orig-tcp-flags`, `--reply-tcp-flags`: flags in the high byte, mask in the low byte.
    tcp_flags: [Option<u16>; 2],
    /// `--orig-wscale`, `--reply-wscale`
    window_scales: [Option<u8>; 2],
    /// `--synproxy`: initial sequence number, initial timestamp, timestamp offset.
    synproxy: Option<[u32; 3]>,
    /// `--master`
    master: Option<Master>,
}

/// The flow that created the expectation of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Master {
    protocol: u8,
    addresses: [IpAddr; 2],
    words: [u16; 2],
}

impl ExtraFields {
    /// Parses the value of an option.
    ///
    /// # Errors
    /// Returns an error if the option does not accept the value.
    pub(crate) fn set(&mut self, key: OptionKey, text: &[u8], environment: &dyn Environment) -> Result<(), CliError> {
        let takes = match key {
            OptionKey::Labels => {
                self.labels = labels(text);
                unless_valid(
                    self.labels.is_some(),
                    "a set of bits such as 0x5 for the labels 0 and 2, with -U also 0x5/0xf",
                )
            }
            OptionKey::Helper => {
                let valid = (1..=15).contains(&text.len()) && !text.contains(&0);
                self.helper = valid.then(|| text.to_vec());
                unless_valid(valid, "the name of a helper, such as ftp, of at most 15 bytes")
            }
            OptionKey::OriginalSequence | OptionKey::ReplySequence => {
                let [original, reply] = &mut self.sequences;
                let place = if key == OptionKey::OriginalSequence { original } else { reply };
                *place = triple(text, [false, true, true]);
                unless_valid(place.is_some(), "POSITION:BEFORE:AFTER, such as 2863311530:0:-4")
            }
            OptionKey::OriginalTcpFlags | OptionKey::ReplyTcpFlags => {
                let [original, reply] = &mut self.tcp_flags;
                let place = if key == OptionKey::OriginalTcpFlags { original } else { reply };
                *place = flags(text);
                unless_valid(place.is_some(), "FLAGS or FLAGS/MASK, each a number from 0 to 0xff")
            }
            OptionKey::OriginalWindowScale | OptionKey::ReplyWindowScale => {
                let [original, reply] = &mut self.window_scales;
                let place = if key == OptionKey::OriginalWindowScale { original } else { reply };
                *place = exact_number(text, u8::MAX.into()).map(|number| number as u8);
                unless_valid(place.is_some(), "a number from 0 to 255")
            }
            OptionKey::Synproxy => {
                self.synproxy = triple(text, [false; 3]);
                unless_valid(self.synproxy.is_some(), "ISN:ITS:TSOFF, three numbers from 0 to 4294967295")
            }
            _ => {
                self.master = master(text, environment);
                unless_valid(
                    self.master.is_some(),
                    "PROTOCOL,SOURCE,DESTINATION and for protocols with ports ,PORT,PORT of the original direction",
                )
            }
        };
        match takes {
            None => Ok(()),
            Some(takes) => Err(wrong(key, text, takes)),
        }
    }

    /// Checks the options against each other and against the flow.
    ///
    /// # Errors
    /// Returns an error if they contradict each other, the protocol or the family.
    pub(crate) fn check(&self, command: Command, protocol: Option<u8>, family: Option<u8>) -> Result<(), CliError> {
        if protocol != Some(flowgate_model::protocol::TCP) {
            for (key, given) in [
                (OptionKey::OriginalSequence, self.sequences[0].is_some()),
                (OptionKey::ReplySequence, self.sequences[1].is_some()),
                (OptionKey::OriginalTcpFlags, self.tcp_flags[0].is_some()),
                (OptionKey::ReplyTcpFlags, self.tcp_flags[1].is_some()),
                (OptionKey::OriginalWindowScale, self.window_scales[0].is_some()),
                (OptionKey::ReplyWindowScale, self.window_scales[1].is_some()),
                (OptionKey::Synproxy, self.synproxy.is_some()),
            ] {
                if given {
                    return Err(CliError::Illegal(name(key)));
                }
            }
        }
        if let Some(master) = &self.master
            && family.is_some_and(|family| family != values::family(&master.addresses[0]))
        {
            return Err(CliError::MismatchedFamily);
        }
        match self.labels {
            Some((value, Some(mask))) if command != Command::Update => Err(wrong(
                OptionKey::Labels,
                format!("{value:#x}/{mask:#x}").as_bytes(),
                "a mask with -U only: a flow that is made has no labels yet",
            )),
            Some((value, Some(mask))) if value & !mask != 0 => {
                Err(wrong(OptionKey::Labels, format!("{value:#x}/{mask:#x}").as_bytes(), "labels that are in the mask"))
            }
            _ => Ok(()),
        }
    }

    /// Writes the values into a row and returns the field bits that it now has. `updates` is true if the row holds the
    /// new values of an existing entry.
    pub(crate) fn put(&self, flows: &mut Flows, row: usize, updates: bool) -> u64 {
        let mut has = 0;
        if let Some((value, mask)) = self.labels {
            let rare = flows.rare.get_or_insert_default();
            batch::push_sparse(&mut rare.labels, row, &value.to_le_bytes());
            has |= field::LABELS;
            if updates {
                batch::push_sparse(&mut rare.labels_mask, row, &mask.unwrap_or(u128::MAX).to_le_bytes());
                has |= field::LABELS_MASK;
            }
        }
        if let Some(helper) = &self.helper {
            batch::push_sparse(&mut flows.rare.get_or_insert_default().helper, row, helper);
            has |= field::HELPER;
        }
        for (reply, bit) in [(0, field::ORIGINAL_SEQUENCE), (1, field::REPLY_SEQUENCE)] {
            if let Some([position, before, after]) = self.sequences.get(usize::from(reply)).copied().flatten() {
                let sequence = &mut flows.rare.get_or_insert_default().sequence;
                sequence.rows.push(row as u32);
                sequence.reply.push(reply);
                sequence.position.push(position);
                sequence.before.push(before);
                sequence.after.push(after);
                has |= bit;
            }
        }
        let [original, reply] = self.tcp_flags;
        for (flags, bit) in [(original, field::ORIGINAL_TCP_FLAGS), (reply, field::REPLY_TCP_FLAGS)] {
            if let Some(flags) = flags {
                let tcp = flows.tcp.get_or_insert_default();
                let original = bit == field::ORIGINAL_TCP_FLAGS;
                put(if original { &mut tcp.original_flags } else { &mut tcp.reply_flags }, row, flags);
                has |= bit;
            }
        }
        let [original, reply] = self.window_scales;
        for (scale, bit) in [(original, field::ORIGINAL_WINDOW_SCALE), (reply, field::REPLY_WINDOW_SCALE)] {
            if let Some(scale) = scale {
                let tcp = flows.tcp.get_or_insert_default();
                let original = bit == field::ORIGINAL_WINDOW_SCALE;
                put(if original { &mut tcp.original_window_scale } else { &mut tcp.reply_window_scale }, row, scale);
                has |= bit;
            }
        }
        if let Some([isn, its, tsoff]) = self.synproxy {
            let synproxy = &mut flows.rare.get_or_insert_default().synproxy;
            synproxy.rows.push(row as u32);
            synproxy.isn.push(isn);
            synproxy.its.push(its);
            synproxy.tsoff.push(tsoff);
            has |= field::SYNPROXY;
        }
        if let Some(master) = &self.master {
            let masters = &mut flows.rare.get_or_insert_default().master;
            let item = masters.rows.len();
            masters.rows.push(row as u32);
            masters.protocol.push(master.protocol);
            masters.zone.push(0);
            put_address(&mut masters.tuple.source, item, master.addresses[0]);
            put_address(&mut masters.tuple.destination, item, master.addresses[1]);
            put(&mut masters.tuple.source_l4, item, master.words[0]);
            put(&mut masters.tuple.destination_l4, item, master.words[1]);
            has |= field::MASTER;
        }
        has
    }
}

/// Returns `takes`, the description of valid values, if the value is not valid.
fn unless_valid(valid: bool, takes: &'static str) -> Option<&'static str> {
    (!valid).then_some(takes)
}

/// Returns the error for a value that an option does not accept.
fn wrong(key: OptionKey, value: &[u8], takes: &str) -> CliError {
    WrongValue::new(None, name(key), value, takes.to_owned()).into()
}

/// Returns the name of an option.
fn name(key: OptionKey) -> &'static str {
    OPTIONS.iter().find(|spec| spec.key == key).map_or("", |spec| spec.name())
}

/// Parses a number in base 10, or in the base of its prefix (`0x`, `0`). It must be the whole text, and at most
/// `maximum`.
pub(crate) fn exact_number(text: &[u8], maximum: u64) -> Option<u64> {
    let number = values::number(text, 0);
    let valid = text.first().is_some_and(u8::is_ascii_digit) && number.length == text.len();
    (valid && number.magnitude <= maximum).then_some(number.magnitude)
}

/// Parses a set of 128 bits.
fn bits(text: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_alphanumeric()))?;
    match text.strip_prefix("0x") {
        Some(digits) => u128::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn labels(text: &[u8]) -> Option<(u128, Option<u128>)> {
    match text.iter().position(|byte| *byte == b'/') {
        None => Some((bits(text)?, None)),
        Some(slash) => Some((bits(text.get(..slash)?)?, Some(bits(text.get(slash + 1..)?)?))),
    }
}

fn flags(text: &[u8]) -> Option<u16> {
    let (flags, mask) = match text.iter().position(|byte| *byte == b'/') {
        None => (exact_number(text, 0xff)?, 0xff),
        Some(slash) => (exact_number(text.get(..slash)?, 0xff)?, exact_number(text.get(slash + 1..)?, 0xff)?),
    };
    Some((flags as u16) << 8 | mask as u16)
}

/// Parses three numbers separated by colons; those with `signed` may be negative.
fn triple(text: &[u8], signed: [bool; 3]) -> Option<[u32; 3]> {
    let mut numbers = [0; 3];
    let mut parts = text.split(|byte| *byte == b':');
    for (number, signed) in numbers.iter_mut().zip(signed) {
        let part = parts.next()?;
        *number = match part.strip_prefix(b"-") {
            Some(part) if signed => (exact_number(part, 1 << 31)? as u32).wrapping_neg(),
            _ => exact_number(part, if signed { i32::MAX as u64 } else { u32::MAX.into() })? as u32,
        };
    }
    parts.next().is_none().then_some(numbers)
}

/// Parses `PROTOCOL,SOURCE,DESTINATION[,WORD,WORD]`. The words are ports or keys, and present exactly if the protocol
/// has them.
fn master(text: &[u8], environment: &dyn Environment) -> Option<Master> {
    let parts: Vec<&[u8]> = text.split(|byte| *byte == b',').collect();
    let [protocol, source, destination, words @ ..] = parts.as_slice() else { return None };
    let protocol = Protocol::find(protocol, || Database::load(environment)).ok()?.number;
    let addresses = [plain_address(source)?, plain_address(destination)?];
    if values::family(&addresses[0]) != values::family(&addresses[1]) {
        return None;
    }
    use flowgate_model::protocol::{GRE, has_ports, is_icmp};
    let words = match (words, has_ports(protocol) || protocol == GRE || is_icmp(protocol)) {
        ([], false) => [0; 2],
        ([first, second], true) => [exact_number(first, 0xffff)? as u16, exact_number(second, 0xffff)? as u16],
        _ => return None,
    };
    Some(Master { protocol, addresses, words })
}

/// Parses an address without a prefix that cannot be mistaken for another one.
fn plain_address(text: &[u8]) -> Option<IpAddr> {
    let network = values::network(text).ok().filter(|network| network.prefix.is_none())?;
    values::address_flaw(text, &network, None).is_none().then_some(network.address)
}

#[cfg(test)]
mod tests {
    use super::super::environment::tests::FakeEnvironment;
    use super::*;

    fn set(key: OptionKey, text: &str) -> Result<ExtraFields, String> {
        let mut extra = ExtraFields::default();
        let result = extra.set(key, text.as_bytes(), &FakeEnvironment::with(&[]));
        result.map(|()| extra).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_whole_and_in_range() {
        assert_eq!(set(OptionKey::Labels, "0x5").map(|extra| extra.labels), Ok(Some((5, None))));
        assert_eq!(
            set(OptionKey::Labels, "0xffffffffffffffffffffffffffffffff").unwrap().labels,
            Some((u128::MAX, None))
        );
        assert_eq!(set(OptionKey::Labels, "3/0xf").unwrap().labels, Some((3, Some(15))));
        assert_eq!(set(OptionKey::OriginalSequence, "4294967295:-2147483648:7").unwrap().sequences[0], {
            Some([u32::MAX, 1 << 31, 7])
        });
        assert_eq!(set(OptionKey::ReplyTcpFlags, "0x2b").unwrap().tcp_flags[1], Some(0x2bff));
        assert_eq!(set(OptionKey::OriginalTcpFlags, "0x01/3").unwrap().tcp_flags[0], Some(0x0103));
        assert_eq!(set(OptionKey::ReplyWindowScale, "14").unwrap().window_scales[1], Some(14));
        assert_eq!(set(OptionKey::Synproxy, "1:2:3").unwrap().synproxy, Some([1, 2, 3]));
        assert_eq!(set(OptionKey::Master, "tcp,10.0.0.1,10.0.0.2,4000,21").unwrap().master, {
            let addresses = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
            Some(Master { protocol: 6, addresses, words: [4000, 21] })
        });
        assert_eq!(set(OptionKey::Master, "50,::1,::2").unwrap().master.map(|master| master.protocol), Some(50));
    }

    #[test]
    fn other_values_are_refused_with_what_would_be_right() {
        for (key, wrong) in [
            (OptionKey::Labels, vec!["", "x", "0x", "-1", "+1", "5/", "/5", "0x100000000000000000000000000000000"]),
            (OptionKey::Helper, vec!["", "0123456789abcdef"]),
            (
                OptionKey::OriginalSequence,
                vec!["", "1", "1:2", "1:2:3:4", "-1:2:3", "1:2147483648:3", "1:--2:3", "1:2:x"],
            ),
            (OptionKey::ReplyTcpFlags, vec!["", "256", "1/256", "1/", "x", "-1", " 1"]),
            (OptionKey::OriginalWindowScale, vec!["", "256", "7x", "-7"]),
            (OptionKey::Synproxy, vec!["", "1:2", "1:-2:3", "4294967296:1:1"]),
            (
                OptionKey::Master,
                vec![
                    "",
                    "tcp",
                    "tcp,10.0.0.1,10.0.0.2",
                    "tcp,10.0.0.1,::1,1,2",
                    "tcp,10.1,10.0.0.2,1,2",
                    "tcp,10.0.0.010,10.0.0.2,1,2",
                    "tcp,10.0.0.1/8,10.0.0.2,1,2",
                    "50,10.0.0.1,10.0.0.2,1,2",
                    "x,::1,::2",
                ],
            ),
        ] {
            for wrong in wrong {
                let error = set(key, wrong).unwrap_err();
                assert!(error.contains(&format!("'{wrong}' with --{}", name(key))), "{error}");
            }
        }
    }

    #[test]
    fn details_of_tcp_are_for_tcp() {
        let extra = set(OptionKey::OriginalWindowScale, "7").unwrap();
        assert_eq!(extra.check(Command::Create, Some(17), None), Err(CliError::Illegal("orig-wscale")));
        assert_eq!(extra.check(Command::Create, Some(6), None), Ok(()));
        let master = set(OptionKey::Master, "tcp,::1,::2,1,2").unwrap();
        assert_eq!(master.check(Command::Create, Some(6), Some(2)), Err(CliError::MismatchedFamily));
        let labels = set(OptionKey::Labels, "1/3").unwrap();
        assert!(labels.check(Command::Add, Some(6), None).is_err());
        assert_eq!(labels.check(Command::Update, None, None), Ok(()));
    }
}
