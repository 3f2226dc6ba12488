//! Annotations, actions and new expectations that a stage returns for expectations.

use std::{
    fmt::{Display, Write as _},
    net::IpAddr,
};

use crate::{
    Expectation, ExpectationOutcome, Expectations, Key, action,
    bindings::flowgate::conntrack::{action::Actions, columns::Annotations},
    expectation_field,
    values::put_tuple,
};

/// An expectation to create: the expected flow, and the master, which must have a helper.
///
/// The source port of the expected flow is arbitrary, as usual for FTP and TFTP; everything else must match.
///
/// ```
/// use flowgate_sdk::{Key, NewExpectation, protocol};
///
/// let control = Key::new(protocol::TCP, "10.0.0.1:2121".parse().unwrap(), "10.0.0.2:21".parse().unwrap());
/// let data = Key::new(protocol::TCP, "10.0.0.2:0".parse().unwrap(), "10.0.0.1:5000".parse().unwrap());
/// let expectation = NewExpectation::new(control, data, 300);
/// # let _ = expectation;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewExpectation {
    master: Key,
    expected: Key,
    timeout: u32,
    flags: Option<u32>,
    class: Option<u32>,
    helper: Option<String>,
    function: Option<String>,
}

impl NewExpectation {
    /// Makes an expectation with its master, the expected flow, and its timeout in seconds (which the helper may
    /// override).
    #[must_use]
    pub fn new(master: Key, expected: Key, timeout: u32) -> Self {
        NewExpectation { master, expected, timeout, flags: None, class: None, helper: None, function: None }
    }

    /// Sets flags; see [`crate::expectation_flag`].
    #[must_use]
    pub fn flags(mut self, flags: u32) -> Self {
        self.flags = Some(flags);
        self
    }

    /// Sets the class, a number of the helper.
    #[must_use]
    pub fn class(mut self, class: u32) -> Self {
        self.class = Some(class);
        self
    }

    /// Sets the helper that the expected flow gets.
    #[must_use]
    pub fn helper(mut self, name: &str) -> Self {
        self.helper = Some(name.into());
        self
    }

    /// Sets the kernel's function that is called for the expected flow, such as `nat-follow-master`.
    #[must_use]
    pub fn function(mut self, name: &str) -> Self {
        self.function = Some(name.into());
        self
    }
}

/// Annotations and actions for a batch of expectations. All of them are requests; see [`crate::Notes`].
#[derive(Default)]
pub struct ExpectationNotes {
    annotations: Annotations,
    actions: Actions,
    values: Expectations,
    scratch: String,
}

impl ExpectationNotes {
    /// Adds an annotation, a key and a value, to an expectation.
    pub fn annotate(&mut self, expectation: &Expectation<'_>, key: &str, value: impl Display) {
        self.scratch.clear();
        if write!(self.scratch, "{value}").is_err() {
            return;
        }
        self.annotations.rows.push(expectation.row() as u32);
        self.annotations.keys.push(key.as_bytes());
        self.annotations.values.push(self.scratch.as_bytes());
    }

    /// Requests that the expectation is deleted. Needs the grant `delete`.
    pub fn delete(&mut self, expectation: &Expectation<'_>) {
        self.action(action::DELETE, expectation.row() as u32, action::NO_ROW);
    }

    /// Requests that an expectation is created; the kernel rejects it if an equal one exists (EEXIST), if the master
    /// does not exist (ENOENT), or if the master has no helper (EOPNOTSUPP). Needs the grant `create`.
    pub fn create(&mut self, expectation: &NewExpectation) {
        use expectation_field::{
            CLASS, EXPECTED, EXPECTED_L4, FLAGS, FUNCTION, HELPER, MASK, MASK_L4, MASTER, MASTER_L4, TIMEOUT, ZONE,
        };
        let NewExpectation { master, expected, timeout, flags, class, helper, function } = expectation;
        let table = &mut self.values;
        let row = table.length as usize;
        let given = |bit: u64, given: bool| if given { bit } else { 0 };
        // No expectation has two families; it is written without tuples, so that it is rejected.
        let sound = expected.is_sound() && master.is_sound() && expected.family() == master.family();
        let tuples = EXPECTED | EXPECTED_L4 | MASK | MASK_L4 | MASTER | MASTER_L4;
        table.length += 1;
        table.has.push(
            TIMEOUT
                | given(tuples, sound)
                | given(ZONE, expected.zone != 0)
                | given(FLAGS, flags.is_some())
                | given(CLASS, class.is_some())
                | given(HELPER, helper.is_some())
                | given(FUNCTION, function.is_some()),
        );
        table.event.push(0);
        table.family.push(expected.family());
        table.protocol.push(expected.protocol);
        table.mask_protocol.push(u8::MAX);
        table.master_protocol.push(master.protocol);
        let all = match expected.source {
            IpAddr::V4(_) => IpAddr::V4(u32::MAX.into()),
            IpAddr::V6(_) => IpAddr::V6(u128::MAX.into()),
        };
        let mask = Key { source: all, destination: all, source_l4: 0, destination_l4: u16::MAX, ..*expected };
        put_tuple(&mut table.expected, row, expected);
        put_tuple(&mut table.mask, row, &mask);
        put_tuple(&mut table.master, row, master);
        table.timeout.push(*timeout);
        table.id.push(0);
        table.zone.push(expected.zone);
        table.flags.push(flags.unwrap_or(0));
        table.class_number.push(class.unwrap_or(0));
        table.port_id.push(0);
        for (column, name) in [(&mut table.helper, helper), (&mut table.function, function)] {
            if let Some(name) = name {
                column.push(row, name.as_bytes());
            }
        }
        self.action(action::CREATE, action::NO_ROW, row as u32);
    }

    fn action(&mut self, kind: u8, row: u32, value: u32) {
        self.actions.kinds.push(kind);
        self.actions.rows.push(row);
        self.actions.values.push(value);
    }

    /// Returns the outcome of a batch with these verdicts; empty ones keep all.
    #[must_use]
    pub fn outcome(self, verdicts: Vec<u8>) -> ExpectationOutcome {
        ExpectationOutcome {
            verdicts,
            annotations: (!self.annotations.rows.is_empty()).then_some(self.annotations),
            actions: (!self.actions.kinds.is_empty()).then_some(self.actions),
            values: (self.values.length > 0).then_some(self.values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol;

    #[test]
    fn a_new_expectation_is_a_row_with_all_that_the_kernel_needs() {
        let key = |source: &str, destination: &str| {
            Key::new(protocol::TCP, source.parse().unwrap(), destination.parse().unwrap())
        };
        let mut notes = ExpectationNotes::default();
        let new = NewExpectation::new(key("10.0.0.1:2121", "10.0.0.2:21"), key("10.0.0.2:0", "10.0.0.1:5000"), 60);
        notes.create(&new.clone().helper("ftp"));
        notes.create(&NewExpectation { master: key("[::1]:1", "[::2]:2"), ..new });
        let outcome = notes.outcome(Vec::new());
        let values = outcome.values.unwrap();
        assert_eq!((values.length, values.timeout.as_slice()), (2, &[60, 60][..]));
        assert_eq!(values.expected.destination_l4, [5000, 5000]);
        assert_eq!((values.mask.source_l4[0], values.mask.destination_l4[0]), (0, 65535));
        assert_eq!(values.helper.rows, [0]);
        assert_eq!(values.has[1] & expectation_field::EXPECTED, 0, "two families at once are none");
        assert_eq!(outcome.actions.unwrap().kinds, [action::CREATE; 2]);
    }
}
