//! Hash tables of indices: what is found by its hash lies elsewhere.

/// Hashes words and bytes, by multiplying with secrets.
///
/// Senders of packets choose addresses and ports: without the secrets, none of them can find out which ones collide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hasher([u64; 3]);

impl Hasher {
    /// Returns the function that belongs to a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed;
        let [first, second, third] = [(); 3].map(|()| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed(state)
        });
        // Products with odd numbers lose nothing.
        Hasher([first, second | 1, third | 1])
    }

    /// Hashes words. The upper half of the result is the better one.
    #[inline]
    pub(crate) fn words(&self, words: &[u64]) -> u64 {
        let [first, second, third] = self.0;
        let hash = words.iter().fold(first, |hash, word| {
            let product = (hash ^ word).wrapping_mul(second);
            product ^ product >> 32
        });
        hash.wrapping_mul(third)
    }

    /// Hashes a text.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> u64 {
        let mut hash = self.words(&[bytes.len() as u64]);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = self.words(&[hash, u64::from_le_bytes(word)]);
        }
        hash
    }
}

/// Mixes all bits with each other, as SplitMix64 does.
pub(crate) fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

/// A hash table of indices with linear probing. A slot has the upper half of the hash, and the index plus 1; 0 is an
/// empty one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<u64>,
    used: usize,
}

/// The smallest table.
const SMALLEST: usize = 64;

impl Slots {
    /// Returns the index with this hash that is the same.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut same: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = hash >> 32;
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = tag as usize & mask;
        loop {
            let slot = *self.slots.get(at)?;
            if slot == 0 {
                return None;
            }
            let index = (slot as u32).wrapping_sub(1);
            if slot >> 32 == tag && same(index) {
                return Some(index);
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds an index that is not there.
    #[inline]
    pub(crate) fn insert(&mut self, hash: u64, index: u32) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        self.used += 1;
        self.place(hash & !0xffff_ffff | u64::from(index + 1));
    }

    /// Puts a slot into the first free place.
    #[inline]
    fn place(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut at = (slot >> 32) as usize & mask;
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    #[cold]
    fn grow(&mut self) {
        let larger = vec![0; (self.slots.len() * 2).max(SMALLEST)];
        for slot in std::mem::replace(&mut self.slots, larger) {
            if slot != 0 {
                self.place(slot);
            }
        }
    }

    /// Removes an index that is there.
    pub(crate) fn remove(&mut self, hash: u64, index: u32) {
        let mask = self.slots.len() - 1;
        let removed = hash & !0xffff_ffff | u64::from(index + 1);
        let mut hole = (hash >> 32) as usize & mask;
        while self.slots[hole] != removed {
            hole = (hole + 1) & mask;
        }
        // What follows moves up, unless it would come to lie before its place.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot == 0 {
                break;
            }
            let place = (slot >> 32) as usize & mask;
            if at.wrapping_sub(place) & mask >= at.wrapping_sub(hole) & mask {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = 0;
        self.used -= 1;
    }
}
