//! Keys: what rows are grouped by, as words of a fixed number.

use flowgate_plugin_query::{Column, Expression, LabelNames, Numbers, Presence};
use flowgate_sdk::{Flows, bindings::flowgate::conntrack::query as wit, event, family::is_ipv4, query::kind};

use crate::{
    distinct::Store,
    figures::Figures,
    sketch,
    slots::{Hasher, Slots},
    texts::Interner,
};

/// The greatest number of keys: their presence is a word.
pub(crate) const MOST: usize = 64;

/// A key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) kind: u8,
    expression: Expression,
    prefixes: (u8, u8),
}

impl Key {
    pub(crate) fn new(key: wit::Key) -> Result<Self, String> {
        let wit::Key { name, kind, program, ipv4_prefix, ipv6_prefix } = key;
        let expression = Expression::compile(program).map_err(|error| format!("the key {name}: {error}"))?;
        if ipv4_prefix > 32 || ipv6_prefix > 128 {
            return Err(format!("the key {name} has a prefix length of {ipv4_prefix} or {ipv6_prefix} bits"));
        }
        Ok(Key { name, kind, expression, prefixes: (ipv4_prefix, ipv6_prefix) })
    }

    /// Returns the prefix length of an address.
    pub(crate) fn prefix(&self, bits: u128) -> u8 {
        if is_ipv4(bits) { self.prefixes.0 } else { self.prefixes.1 }
    }

    fn truncated(&self, bits: u128) -> u128 {
        let (ipv4, ipv6) = self.prefixes;
        let host = if is_ipv4(bits) { 32 - u32::from(ipv4) } else { 128 - u32::from(ipv6) };
        bits & u128::MAX.checked_shl(host).unwrap_or_default()
    }
}

/// The words of rows: for each key the lower and the upper half of its value, then one with a bit for each key that is
/// absent, whose halves are 0.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    stride: usize,
    words: Vec<u64>,
}

impl Rows {
    pub(crate) fn new(stride: usize) -> Self {
        Rows { stride, words: Vec::new() }
    }

    /// Evaluates the keys.
    pub(crate) fn fill(&mut self, keys: &[Key], batch: &Flows, labels: &LabelNames, store: &mut Store) {
        let length = batch.length as usize;
        self.words.clear();
        self.words.resize(length * self.stride, 0);
        for (index, key) in keys.iter().enumerate() {
            let at = index * 2;
            let stride = self.stride;
            let absent = |words: &mut [u64], presence: &Presence| {
                if *presence != Presence::All {
                    for (row, present) in words.chunks_exact_mut(stride).zip(presence.rows(batch)) {
                        if present == 0 {
                            row[at..at + 2].fill(0);
                            row[stride - 1] |= 1 << index;
                        }
                    }
                }
            };
            match key.expression.column(batch, labels) {
                Column::Numbers(Numbers { values, presence }) => {
                    let words = &mut self.words;
                    Figures::of(values, length).each(|row, low, high| {
                        words[row * stride + at] = low;
                        words[row * stride + at + 1] = high;
                    });
                    absent(words, &presence);
                }
                Column::Addresses(addresses) => {
                    let rows = self.words.chunks_exact_mut(stride);
                    rows.zip(&*addresses.lo).for_each(|(row, half)| row[at] = *half);
                    let rows = self.words.chunks_exact_mut(stride);
                    rows.zip(&*addresses.hi).for_each(|(row, half)| row[at + 1] = *half);
                    if key.prefixes != (32, 128) {
                        for row in self.words.chunks_exact_mut(stride) {
                            let bits = key.truncated(u128::from(row[at + 1]) << 64 | u128::from(row[at]));
                            (row[at], row[at + 1]) = (bits as u64, (bits >> 64) as u64);
                        }
                    }
                    absent(&mut self.words, &addresses.presence);
                }
                Column::Texts(column) => {
                    for (row, text) in self.words.chunks_exact_mut(stride).zip(&column) {
                        match text {
                            Some(text) => row[at] = store.texts.number(text, &store.hasher).into(),
                            None => row[stride - 1] |= 1 << index,
                        }
                    }
                }
            }
        }
    }

    /// Returns the words of a row.
    #[inline]
    pub(crate) fn row(&self, row: usize) -> &[u64] {
        &self.words[row * self.stride..][..self.stride]
    }
}

/// The groups, by the words of their keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    stride: usize,
    words: Vec<u64>,
    slots: Slots,
}

impl Found {
    pub(crate) fn new(stride: usize) -> Self {
        Found { stride, ..Found::default() }
    }

    /// Returns how many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.words.len() / self.stride
    }

    /// Returns the words of a group.
    #[inline]
    pub(crate) fn words(&self, group: u32) -> &[u64] {
        &self.words[group as usize * self.stride..][..self.stride]
    }

    /// Returns the group with these words, `N` of them; it is made if there are fewer than `most`.
    #[inline]
    fn place<const N: usize>(&mut self, words: &[u64; N], most: usize, hasher: &Hasher) -> Option<u32> {
        let hash = hasher.words(words);
        let all = self.words.as_chunks::<N>().0;
        if let Some(found) = self.slots.find(hash, |group| all[group as usize] == *words) {
            return Some(found);
        }
        self.add(words, hash, most)
    }

    /// As [`place`](Self::place), for any number of words.
    #[inline]
    fn place_any(&mut self, words: &[u64], most: usize, hasher: &Hasher) -> Option<u32> {
        let hash = hasher.words(words);
        match self.find(words, hash) {
            Some(found) => Some(found),
            None => self.add(words, hash, most),
        }
    }

    /// Returns the group with these words.
    #[inline]
    pub(crate) fn find(&self, words: &[u64], hash: u64) -> Option<u32> {
        self.slots.find(hash, |group| self.words(group).iter().zip(words).all(|(one, two)| one == two))
    }

    #[cold]
    fn add(&mut self, words: &[u64], hash: u64, most: usize) -> Option<u32> {
        let group = self.len();
        if group >= most {
            return None;
        }
        self.words.extend_from_slice(words);
        self.slots.insert(hash, group as u32);
        Some(group as u32)
    }

    /// Finds the group of each row, up to the first one that would be one too many. Rows of these `kinds` that are gaps
    /// have none.
    pub(crate) fn locate(&mut self, rows: &Rows, kinds: &[u8], groups: &mut Vec<u32>, most: usize, hasher: &Hasher) {
        macro_rules! each {
            ($rows:expr, $place:ident) => {
                for (row, words) in $rows.enumerate() {
                    let gap = kinds.get(row) == Some(&event::GAP);
                    let group = if gap { Some(NONE) } else { self.$place(words, most, hasher) };
                    match group {
                        Some(group) => groups.push(group),
                        None => return,
                    }
                }
            };
        }
        groups.clear();
        match self.stride {
            // One key, as most often.
            3 => each!(rows.words.as_chunks::<3>().0.iter(), place),
            stride => each!(rows.words.chunks_exact(stride), place_any),
        }
    }

    /// Makes the only group, which has no keys.
    pub(crate) fn only(&mut self, hasher: &Hasher) {
        self.place_any(&[0], 1, hasher);
    }

    /// Gives a group other words.
    pub(crate) fn replace(&mut self, group: u32, words: &[u64], hash: u64, hasher: &Hasher) {
        let before = hasher.words(self.words(group));
        self.slots.remove(before, group);
        let start = group as usize * self.stride;
        self.words[start..start + self.stride].copy_from_slice(words);
        self.slots.insert(hash, group);
    }

    /// Numbers the texts of keys again, so that those of groups that no longer exist are forgotten.
    pub(crate) fn renumber(&mut self, keys: &[Key], store: &mut Store) {
        let old = std::mem::take(&mut store.texts);
        let stride = self.stride;
        self.slots = Slots::default();
        for (group, words) in self.words.chunks_exact_mut(stride).enumerate() {
            let absent = words[stride - 1];
            for (index, _) in texts(keys).filter(|(index, _)| absent >> index & 1 == 0) {
                words[index * 2] = store.texts.number(old.text(words[index * 2] as u32), &store.hasher).into();
            }
            self.slots.insert(store.hasher.words(words), group as u32);
        }
    }
}

/// Returns the keys that are texts, with their indices.
fn texts(keys: &[Key]) -> impl Iterator<Item = (usize, &Key)> {
    keys.iter().enumerate().filter(|(_, key)| key.kind == kind::TEXT)
}

/// Returns a hash of a group's keys that is the same in all runs.
pub(crate) fn stable_hash(keys: &[Key], words: &[u64], known: &Interner) -> u64 {
    let hasher = sketch::hasher();
    let absent = words.last().copied().unwrap_or_default();
    if texts(keys).next().is_none() {
        return hasher.words(words);
    }
    let mut words = words.to_vec();
    for (index, _) in texts(keys).filter(|(index, _)| absent >> index & 1 == 0) {
        words[index * 2] = hasher.bytes(known.text(words[index * 2] as u32));
    }
    hasher.words(&words)
}

/// The group of a row that is in none.
pub(crate) const NONE: u32 = u32::MAX;
