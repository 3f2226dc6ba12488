//! Options whose values are lists: `-u`, `-e` and `-o`.

use super::super::error::CliError;
use super::super::options::OptionKey;
use super::super::parsed_options::{EVENT_NAMES, STATUS_NAMES};
use super::super::settings::{EventGroups, Output};
use super::super::values;
use super::super::wrong_value::WrongValue;
use super::{OptionReader, strict};

impl OptionReader<'_> {
    /// Returns true for an element of a list that requests NAT, which is ignored with a warning.
    fn ignored(&mut self, element: &[u8]) -> bool {
        let ignored = values::IgnoredName::of(element);
        self.warnings.extend(ignored.map(|ignored| ignored.warning().to_owned()));
        ignored.is_some()
    }

    pub(super) fn status(&mut self, list: &[u8]) -> Result<(), CliError> {
        self.parsed.status_text = list.into();
        for (element, rest) in values::elements(list) {
            if element.starts_with(b"UNREPLIED") {
                if element.len() > b"UNREPLIED".len() {
                    let (letter, name) = strict::option_names(OptionKey::Status);
                    self.report_flaw(|| {
                        WrongValue::new(letter, name, element, "names such as UNREPLIED".to_owned()).into()
                    });
                }
                self.parsed.status.clear |= flowgate_model::status::SEEN_REPLY;
                continue;
            }
            let (negated, name, rest) = match element {
                [b'!', name @ ..] => (true, name, rest.get(1..).unwrap_or_default()),
                name => (false, name, rest),
            };
            if self.ignored(name) {
                self.parsed.status_ignored = true;
                continue;
            }
            let found = STATUS_NAMES.iter().find(|(full, _)| !name.is_empty() && values::abbreviates(name, full));
            let (full, bit) = found.ok_or_else(|| values::bad_parameter(rest))?;
            if *full == "UNSET" && values::abbreviates(name, "UNREPLIED") {
                let (letter, option) = strict::option_names(OptionKey::Status);
                self.report_flaw(|| {
                    WrongValue::new(letter, option, name, "UNSET or UNREPLIED, written out".to_owned()).into()
                });
            }
            self.parsed.status.unset |= !negated && *full == "UNSET";
            let set = if negated { &mut self.parsed.status.clear } else { &mut self.parsed.status.set };
            *set |= bit;
        }
        Ok(())
    }

    pub(super) fn events(&mut self, list: &[u8]) -> Result<(), CliError> {
        for (name, rest) in values::elements(list) {
            if self.ignored(name) {
                self.parsed.events.get_or_insert(EventGroups::NONE);
                continue;
            }
            let groups = self.parsed.events.get_or_insert(EventGroups::NONE);
            let found = EVENT_NAMES.iter().find(|(full, _)| !name.is_empty() && values::abbreviates(name, full));
            let (_, more) = found.ok_or_else(|| values::bad_parameter(rest))?;
            groups.new |= more.new;
            groups.update |= more.update;
            groups.destroy |= more.destroy;
        }
        Ok(())
    }

    pub(super) fn output(&mut self, list: &[u8]) -> Result<(), CliError> {
        for (name, rest) in values::elements(list) {
            if self.ignored(name) {
                continue;
            }
            let found = Output::NAMES.iter().find(|(_, full)| !name.is_empty() && values::abbreviates(name, full));
            let own_name =
                Output::OWN_NAMES.iter().find(|(_, full)| self.own_name && name.eq_ignore_ascii_case(full.as_bytes()));
            let bit = found.or(own_name).map(|(bit, _)| *bit);
            self.parsed.output.insert(bit.ok_or_else(|| values::bad_parameter(rest))?);
        }
        let output = self.parsed.output;
        let with_save =
            [Output::XML, Output::EXTENDED, Output::TIMESTAMP, Output::ID, Output::KERNEL_TIMESTAMP, Output::LABELS];
        let own = Output::OWN_NAMES.iter().any(|(own, _)| *own != Output::COMPLETE && output.contains(*own));
        if let Some((first, second)) = output.conflict().filter(|_| own) {
            return Err(CliError::OutputsCombined(first, second));
        }
        if output.contains(Output::SAVE) && with_save.iter().any(|other| output.contains(*other)) {
            return Err(CliError::SaveWithOther);
        }
        Ok(())
    }
}
