//! Numbers derived from the input of a fuzzer. Beyond its end all bytes are zero.

/// The rest of an input.
pub(crate) struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    /// Returns the next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// Returns the next 64 bits.
    #[allow(dead_code, reason = "not every target has a use for it")]
    pub(crate) fn bits(&mut self) -> u64 {
        (0..8).fold(0, |bits, _| bits << 8 | u64::from(self.byte()))
    }

    /// Returns a number from 0 to `most`, from as few bytes as possible.
    pub(crate) fn up_to(&mut self, most: usize) -> usize {
        let (mut number, mut left) = (0usize, most);
        while left > 0 {
            number = number << 8 | usize::from(self.byte());
            left >>= 8;
        }
        if most == usize::MAX { number } else { number % (most + 1) }
    }

    /// Returns true once in this many times.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.up_to(times - 1) == 0
    }

    /// Returns one of the items.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.up_to(items.len() - 1)]
    }
}
