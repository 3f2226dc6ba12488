//! Options whose values are addresses.

use std::net::IpAddr;

use super::super::error::CliError;
use super::super::options::OptionKey;
use super::super::parsed_options::{Nat, ParsedOptions};
use super::super::values::{self, AddressFlaw};
use super::super::wrong_value::WrongValue;
use super::{OptionReader, strict};

impl OptionReader<'_> {
    /// Parses an address and, where it is accepted, the mask of its prefix length.
    fn address(&mut self, key: OptionKey, text: &[u8]) -> Result<(IpAddr, Option<IpAddr>), CliError> {
        let name = strict::option_names(key).1;
        let explained = |own_name: bool, error, is_ipv4| match own_name {
            true => strict::with_hint(error, name, text, is_ipv4),
            false => error,
        };
        let network = values::network(text).map_err(|error| explained(self.own_name, error, true))?;
        self.fix_family(values::family(&network.address))?;
        let mask = match &network.prefix {
            None => None,
            Some(_)
                if !matches!(
                    key,
                    OptionKey::Source | OptionKey::Destination | OptionKey::TupleSource | OptionKey::TupleDestination
                ) =>
            {
                return Err(CliError::NoPrefixHere(name));
            }
            Some(prefix) => values::netmask(prefix, &network.address)
                .map_err(|error| explained(self.own_name, error, network.address.is_ipv4()))?,
        };
        if let Some(flaw) = values::address_flaw(text, &network, mask.as_ref()) {
            self.report_flaw(|| strict::wrong_address(key, text, flaw).into());
        }
        Ok((network.address, mask))
    }

    /// Keeps the mask given by a prefix or a mask option; the two must not differ.
    fn keep_mask(&mut self, key: OptionKey, text: &[u8], address: IpAddr, mask: Option<IpAddr>) {
        let [prefixes, masks] = &mut self.parsed.masks;
        let ([source, destination], said) = match key {
            OptionKey::MaskSource | OptionKey::MaskDestination => (masks, Some(address)),
            _ => (prefixes, text.contains(&b'/').then(|| mask.unwrap_or(values::full_mask(&address)))),
        };
        match key {
            OptionKey::Source | OptionKey::TupleSource | OptionKey::MaskSource => *source = said.or(*source),
            OptionKey::Destination | OptionKey::TupleDestination | OptionKey::MaskDestination => {
                *destination = said.or(*destination)
            }
            _ => return,
        }
        let [prefixes, masks] = self.parsed.masks;
        if prefixes
            .iter()
            .zip(masks)
            .any(|(prefix, mask)| prefix.is_some_and(|prefix| mask.is_some_and(|mask| mask != prefix)))
        {
            self.report_flaw(|| strict::wrong_address(key, text, AddressFlaw::TwoMasks).into());
        }
    }

    pub(super) fn address_option(&mut self, key: OptionKey, text: &[u8]) -> Result<(), CliError> {
        let (address, mask) = self.address(key, text)?;
        self.keep_mask(key, text, address, mask);
        let parsed = &mut self.parsed;
        let place = match key {
            OptionKey::Source => &mut parsed.source,
            OptionKey::Destination => &mut parsed.destination,
            OptionKey::ReplySource => &mut parsed.reply_source,
            OptionKey::ReplyDestination => &mut parsed.reply_destination,
            OptionKey::TupleSource => &mut parsed.tuple_source,
            OptionKey::TupleDestination => &mut parsed.tuple_destination,
            OptionKey::MaskSource => &mut parsed.mask_source,
            _ => &mut parsed.mask_destination,
        };
        let before = place.replace(address);
        let (masks, left) = match key {
            OptionKey::Source | OptionKey::TupleSource => (OptionKey::MaskSource, parsed.mask_source),
            OptionKey::Destination | OptionKey::TupleDestination => {
                (OptionKey::MaskDestination, parsed.mask_destination)
            }
            _ => (key, None),
        };
        if before.is_some_and(|before| before != address)
            && mask.is_none()
            && left.is_some()
            && parsed.given.contains(masks)
        {
            parsed.stale_mask.get_or_insert(strict::option_names(key).1);
        }
        if mask.is_some() {
            if matches!(key, OptionKey::Source | OptionKey::TupleSource) {
                parsed.mask_source = mask;
                parsed.given.insert(OptionKey::MaskSource);
            } else {
                parsed.mask_destination = mask;
                parsed.given.insert(OptionKey::MaskDestination);
            }
        }
        Ok(())
    }

    pub(super) fn nat(
        &mut self,
        key: OptionKey,
        text: Option<&[u8]>,
        place: impl FnOnce(&mut ParsedOptions) -> &mut Nat,
    ) -> Result<(), CliError> {
        let Some(text) = text else {
            return Ok(());
        };
        let (host, port) = values::split_port(text)?;
        let (address, _) = self.address(key, host)?;
        if values::has_text_around_brackets(text) {
            let (letter, name) = strict::option_names(key);
            self.report_flaw(|| {
                WrongValue::new(letter, name, text, "ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT".to_owned()).into()
            });
        }
        *place(&mut self.parsed) = Nat { address: Some(address), port };
        Ok(())
    }
}
