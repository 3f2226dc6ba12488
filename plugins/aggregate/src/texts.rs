//! Texts as numbers, so that keys and values have a fixed size.

use crate::slots::{Hasher, Slots};

/// The texts that have been seen, numbered in the order of their appearance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interner {
    slots: Slots,
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl Interner {
    /// Returns the number of a text.
    pub(crate) fn number(&mut self, text: &[u8], hasher: &Hasher) -> u32 {
        let hash = hasher.bytes(text);
        if let Some(found) = self.slots.find(hash, |index| self.text(index) == text) {
            return found;
        }
        let number = self.ends.len() as u32;
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
        self.slots.insert(hash, number);
        number
    }

    /// Returns the text of a number.
    pub(crate) fn text(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = number.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default();
        let end = self.ends.get(number).copied().unwrap_or_default();
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
}
