//! Fast text: numbers and addresses written into a byte buffer without the formatting machinery of `std`.

use std::io::Write as _;
use std::net::Ipv6Addr;

/// Writing text into a buffer of bytes.
pub trait Text {
    /// An unsigned number in decimal.
    fn number(&mut self, number: u64);
    /// An unsigned number in lower-case hexadecimal without a prefix.
    fn hex(&mut self, number: u64);
    /// An IPv4 address in dotted-quad form.
    fn ipv4(&mut self, address: u32);
    /// An IPv6 address as `inet_ntop` writes it (RFC 5952, and dotted-quad tails of mapped and compatible addresses).
    fn ipv6(&mut self, address: u128);
}

/// The numbers from 00 to 99, two digits each.
static PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

impl Text for Vec<u8> {
    fn number(&mut self, mut number: u64) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        while number >= 100 {
            let pair = (number % 100) as usize * 2;
            number /= 100;
            at -= 2;
            digits[at] = PAIRS[pair];
            digits[at + 1] = PAIRS[pair + 1];
        }
        if number >= 10 {
            let pair = number as usize * 2;
            at -= 2;
            digits[at] = PAIRS[pair];
            digits[at + 1] = PAIRS[pair + 1];
        } else {
            at -= 1;
            digits[at] = b'0' + number as u8;
        }
        self.extend_from_slice(&digits[at..]);
    }

    fn hex(&mut self, number: u64) {
        // Writing to a Vec cannot fail.
        let _ = write!(self, "{number:x}");
    }

    fn ipv4(&mut self, address: u32) {
        let mut text = [0u8; 15];
        let mut length = 0;
        for (i, octet) in address.to_be_bytes().into_iter().enumerate() {
            if i > 0 {
                text[length] = b'.';
                length += 1;
            }
            if octet >= 100 {
                text[length] = b'0' + octet / 100;
                length += 1;
            }
            if octet >= 10 {
                text[length] = b'0' + octet / 10 % 10;
                length += 1;
            }
            text[length] = b'0' + octet % 10;
            length += 1;
        }
        self.extend_from_slice(&text[..length]);
    }

    fn ipv6(&mut self, address: u128) {
        // `inet_ntop` of glibc writes the IPv4-compatible form (::a.b.c.d) in dotted quads too, unless only the last group
        // or nothing is set; std writes only the mapped form so.
        let compatible = address >> 32 == 0 && address >> 16 != 0;
        if compatible {
            self.extend_from_slice(b"::");
            self.ipv4(address as u32);
        } else {
            let _ = write!(self, "{}", Ipv6Addr::from_bits(address));
        }
    }
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
}
