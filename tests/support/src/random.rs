//! A small random generator whose whole state is one printed number, so that a failure can be run again.

/// Xorshift64*: good enough to pick test cases, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that always gives the same sequence for the same seed.
    pub fn new(seed: u64) -> Self {
        // Mixing keeps neighbouring seeds apart; the state must not be zero.
        Self(seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }

    /// The seed named by the environment variable, or one from the clock. Print it.
    pub fn seed(variable: &str) -> u64 {
        match std::env::var(variable) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is not a decimal number")),
            Err(_) => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                now.map_or(1, |since| since.as_nanos() as u64 % 1_000_000_007)
            }
        }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from 0 up to, not including, `limit` (which must not be 0).
    pub fn below(&mut self, limit: usize) -> usize {
        ((self.bits() >> 16) % limit as u64) as usize
    }

    /// True `parts` times out of `of`.
    pub fn chance(&mut self, parts: usize, of: usize) -> bool {
        self.below(of) < parts
    }

    /// One of the items.
    pub fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}
