//! Fast text: writes numbers and addresses into a byte buffer without the formatting machinery of `std`.
//!
//! [`Page`](crate::Page) is even faster for whole batches.

pub use flowgate_names::text::is_hidden;

/// Writes text into a buffer of bytes.
pub trait Text {
    /// Writes an unsigned number in decimal.
    fn number(&mut self, number: u64);
    /// Writes an unsigned number in lower-case hexadecimal without a prefix.
    fn hex(&mut self, number: u64);
    /// Writes an IPv4 address in dotted-quad form.
    fn ipv4(&mut self, address: u32);
    /// Writes an IPv6 address as `inet_ntop` does (RFC 5952, with dotted-quad tails of mapped and compatible
    /// addresses).
    fn ipv6(&mut self, address: u128);
}

/// Returns the decimal digits of a number below 10^8 (garbage for larger ones): the first one in the lowest byte, zero
/// bytes after the last one.
///
/// Two, then four, then eight digits are split at once by multiplication with the reciprocals of 100 and 10 in the
/// lanes of one word, without loops and branches.
#[inline(never)]
pub(crate) fn digits(number: u32) -> u64 {
    let (high, low) = (number / 10_000, number % 10_000);
    let fours = u64::from(high) | u64::from(low) << 32;
    let hundreds = (fours.wrapping_mul(10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | fours.wrapping_sub(hundreds.wrapping_mul(100)) << 16;
    let tens = (twos.wrapping_mul(103) >> 10) & 0x000f_000f_000f_000f;
    let ones = tens | twos.wrapping_sub(tens.wrapping_mul(10)) << 8;
    let leading = (ones | 1 << 56).trailing_zeros() & !7;
    (ones | 0x3030_3030_3030_3030) >> leading
}

/// `N.` for every octet: the first digit in the lowest byte, zero bytes after the dot.
static OCTETS: [u32; 256] = {
    let mut octets = [0; 256];
    let mut i = 0;
    while i < 256 {
        let n = i as u32;
        let ones = 0x30 + n % 10;
        let tens = 0x30 + n / 10 % 10;
        let hundreds = 0x30 + n / 100;
        octets[i] = if n >= 100 {
            hundreds | tens << 8 | ones << 16 | 0x2e00_0000
        } else if n >= 10 {
            tens | ones << 8 | 0x2e_0000
        } else {
            ones | 0x2e00
        };
        i += 1;
    }
    octets
};

/// Returns two octets as `A.B.`: the first digit in the lowest byte, zero bytes after the last dot.
#[inline(always)]
pub(crate) fn quad(octets: u16) -> u64 {
    let [first, second] = octets.to_be_bytes();
    let (first, second) = (OCTETS[usize::from(first)], OCTETS[usize::from(second)]);
    u64::from(first) | u64::from(second) << (32 - (first.leading_zeros() & !7))
}

/// Length of a buffer for any IPv6 address (45 bytes), and for the bytes that [`colons`] writes past it.
pub(crate) const COLONS: usize = 56;

/// Writes an IPv6 address, and returns its length.
#[inline(never)]
pub(crate) fn colons(address: u128, text: &mut [u8; COLONS]) -> usize {
    // As in glibc's `inet_ntop`, the mapped form has a dotted quad, and so has the compatible form, unless at most the
    // last group is set.
    let (front, back) = ((address >> 64) as u64, address as u64);
    if front == 0 && (back >> 32 == 0xffff || back >> 32 == 0 && back >> 16 != 0) {
        let mut at = 0;
        at = put(text, at, u64::from_le_bytes(*b"::ffff:\0"), if back >> 32 == 0 { 2 } else { 7 });
        let (first, second) = (quad((back >> 16) as u16), quad(back as u16));
        at = put(text, at, first, 8 - (first.leading_zeros() / 8) as usize);
        at = put(text, at, second, 8 - (second.leading_zeros() / 8) as usize);
        return at - 1;
    }
    // The longest run of two or more zero groups, the first one of equal runs, becomes `::`.
    let (mut best, mut best_length, mut run) = (8, 1, 0);
    for i in 0..8usize {
        let group = (address >> (112 - 16 * i)) as u16;
        run = if group == 0 { run + 1 } else { 0 };
        if run > best_length {
            (best, best_length) = (i + 1 - run, run);
        }
    }
    let mut at = 0;
    let mut i = 0;
    while i < 8 {
        if i == best {
            // The previous group, if there is one, has already written a colon.
            at = put(text, at, 0x3a3a, if i == 0 { 2 } else { 1 });
            i += best_length;
            continue;
        }
        let group = u32::from((address >> (112 - 16 * i)) as u16);
        let nibbles = group >> 12 | group & 0x0f00 | (group & 0x00f0) << 12 | (group & 0x000f) << 24;
        let letters = (nibbles + 0x0606_0606) >> 4 & 0x0101_0101;
        let ascii = nibbles + 0x3030_3030 + letters * 39;
        let leading = (nibbles | 1 << 24).trailing_zeros() & !7;
        let length = 4 - leading as usize / 8;
        at = put(text, at, u64::from(ascii >> leading) | 0x3a << (8 * length), length + 1);
        i += 1;
    }
    // No colon after the last group, except in `...::`.
    if best + best_length == 8 { at } else { at - 1 }
}

/// Writes eight bytes, of which `length` count; returns the position of the next ones.
#[inline(always)]
fn put(text: &mut [u8; COLONS], at: usize, bytes: u64, length: usize) -> usize {
    if let Some(place) = text.get_mut(at..at + 8) {
        place.copy_from_slice(&bytes.to_le_bytes());
    }
    at + length
}

impl Text for Vec<u8> {
    fn number(&mut self, number: u64) {
        if number >= 100_000_000 {
            self.number(number / 100_000_000);
            let rest = digits((number % 100_000_000) as u32);
            let length = 8 - rest.leading_zeros() as usize / 8;
            self.extend_from_slice(&b"00000000"[length..]);
            append(self, &rest.to_le_bytes(), length);
        } else {
            let text = digits(number as u32);
            append(self, &text.to_le_bytes(), 8 - text.leading_zeros() as usize / 8);
        }
    }

    fn hex(&mut self, number: u64) {
        use std::io::Write as _;
        // Writing to a Vec cannot fail.
        let _ = write!(self, "{number:x}");
    }

    fn ipv4(&mut self, address: u32) {
        for pair in [(address >> 16) as u16, address as u16] {
            let text = quad(pair);
            append(self, &text.to_le_bytes(), 8 - text.leading_zeros() as usize / 8);
        }
        self.pop();
    }

    fn ipv6(&mut self, address: u128) {
        let mut text = [0; COLONS];
        let length = colons(address, &mut text);
        append(self, &text, length);
    }
}

/// Appends the first `length` bytes: storing all of them and truncating is faster than a copy of variable length.
fn append<const N: usize>(buffer: &mut Vec<u8>, text: &[u8; N], length: usize) {
    buffer.extend_from_slice(text);
    buffer.truncate(buffer.len() - N + length);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut buffer = Vec::new();
        write(&mut buffer);
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn numbers() {
        for number in [0, 9, 10, 99, 100, 101, 999, 1000, 65535, 4294967295, u64::MAX] {
            assert_eq!(text(|b| b.number(number)), number.to_string());
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(text(|b| b.ipv4(0x0a00_01ff)), "10.0.1.255");
        assert_eq!(text(|b| b.ipv4(0)), "0.0.0.0");
        assert_eq!(text(|b| b.ipv4(u32::MAX)), "255.255.255.255");
        assert_eq!(text(|b| b.ipv6(1)), "::1");
        assert_eq!(text(|b| b.ipv6(0)), "::");
        assert_eq!(text(|b| b.ipv6(0x0102_0304)), "::1.2.3.4");
        assert_eq!(text(|b| b.ipv6(0xffff_0102_0304)), "::ffff:1.2.3.4");
        assert_eq!(text(|b| b.ipv6(0x2001_0db8 << 96 | 1)), "2001:db8::1");
    }

    /// Returns what `inet_ntop` writes: the same as the standard library, except for compatible addresses.
    fn expected(address: u128) -> String {
        if address >> 32 == 0 && address >> 16 != 0 {
            format!("::{}", std::net::Ipv4Addr::from_bits(address as u32))
        } else {
            std::net::Ipv6Addr::from_bits(address).to_string()
        }
    }

    #[test]
    fn addresses_of_all_shapes() {
        let mut random = 0x0123_4567_89ab_cdef_u64;
        for shape in 0..256u32 {
            for _ in 0..40 {
                let mut address = 0u128;
                for group in 0..8 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let word = if shape >> group & 1 == 0 { 0 } else { (random >> 32) as u16 >> (random >> 60 & 15) };
                    address = address << 16 | u128::from(word);
                }
                assert_eq!(text(|b| b.ipv6(address)), expected(address));
                let v4 = (random >> 32) as u32;
                assert_eq!(text(|b| b.ipv4(v4)), std::net::Ipv4Addr::from_bits(v4).to_string());
                assert_eq!(
                    text(|b| b.ipv6(0xffff_0000_0000 | u128::from(v4))),
                    format!("::ffff:{}", std::net::Ipv4Addr::from_bits(v4))
                );
            }
        }
    }
}
