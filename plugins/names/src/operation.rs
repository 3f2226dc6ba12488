//! Operations of queries by their codes: `operation` of the WIT interface `query`. The host computes constants with
//! them, and plugins columns.

use core::cmp::Ordering;

/// Maximum number of columns that a program needs at a time.
pub const COLUMNS: usize = 256;
/// Maximum compiled size of a regular expression in bytes.
pub const REGEX_SIZE: usize = 1 << 20;

/// A comparison, by its code in `operation.compare`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// All with their signs, by their code.
    pub const ALL: [(Comparison, &'static str); 6] = [
        (Comparison::Equal, "=="),
        (Comparison::NotEqual, "!="),
        (Comparison::Less, "<"),
        (Comparison::LessOrEqual, "<="),
        (Comparison::Greater, ">"),
        (Comparison::GreaterOrEqual, ">="),
    ];

    /// Returns the comparison of a code.
    #[must_use]
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).map(|(comparison, _)| *comparison)
    }

    /// Returns the comparison with its sides exchanged.
    #[must_use]
    pub fn mirrored(self) -> Self {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
            same => same,
        }
    }

    /// Returns its sign.
    #[must_use]
    pub fn sign(self) -> &'static str {
        Self::ALL.iter().find(|(comparison, _)| *comparison == self).map_or("", |(_, sign)| sign)
    }

    /// Returns true for an order of left and right that passes.
    #[inline]
    #[must_use]
    pub fn accepts(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// An operation on two numbers, by its code in `operation.arithmetic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`, towards zero.
    Divide,
    /// `%`, with the sign of the left number.
    Remainder,
    /// `&`
    And,
    /// `|`
    Or,
    /// `^`
    Xor,
    /// `<<`
    ShiftLeft,
    /// `>>`, with the sign.
    ShiftRight,
}

impl Arithmetic {
    /// Returns the operation of a code.
    #[must_use]
    pub fn of_code(code: u8) -> Option<Self> {
        use Arithmetic::{Add, And, Divide, Multiply, Or, Remainder, ShiftLeft, ShiftRight, Subtract, Xor};
        [Add, Subtract, Multiply, Divide, Remainder, And, Or, Xor, ShiftLeft, ShiftRight]
            .get(usize::from(code))
            .copied()
    }

    /// Returns the result; `None` if there is none within 128 bits.
    #[must_use]
    pub fn checked(self, left: i128, right: i128) -> Option<i128> {
        let shift = || u32::try_from(right).ok().filter(|bits| *bits < i128::BITS);
        match self {
            Arithmetic::Add => left.checked_add(right),
            Arithmetic::Subtract => left.checked_sub(right),
            Arithmetic::Multiply => left.checked_mul(right),
            Arithmetic::Divide => left.checked_div(right),
            Arithmetic::Remainder => left.checked_rem(right),
            Arithmetic::And => Some(left & right),
            Arithmetic::Or => Some(left | right),
            Arithmetic::Xor => Some(left ^ right),
            Arithmetic::ShiftLeft => {
                let bits = shift()?;
                let result = left << bits;
                (result >> bits == left).then_some(result)
            }
            Arithmetic::ShiftRight => shift().map(|bits| left >> bits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_positions() {
        for (code, (comparison, sign)) in (0..).zip(Comparison::ALL) {
            assert_eq!((comparison as u8, comparison.sign()), (code, sign));
            assert_eq!(Comparison::of_code(code), Some(comparison));
            assert_eq!(comparison.mirrored().mirrored(), comparison);
            for order in [Ordering::Less, Ordering::Equal, Ordering::Greater] {
                assert_eq!(comparison.mirrored().accepts(order.reverse()), comparison.accepts(order));
            }
        }
        for code in 0..10 {
            assert_eq!(Arithmetic::of_code(code).map(|operation| operation as u8), Some(code));
        }
        assert_eq!((Comparison::of_code(6), Arithmetic::of_code(10)), (None, None));
    }

    #[test]
    fn what_does_not_fit_has_no_result() {
        for (operation, left, right, result) in [
            (Arithmetic::Add, i128::MAX, 1, None),
            (Arithmetic::Subtract, i128::MIN, 1, None),
            (Arithmetic::Multiply, i128::MAX, 2, None),
            (Arithmetic::Divide, 7, 0, None),
            (Arithmetic::Divide, -7, 2, Some(-3)),
            (Arithmetic::Divide, i128::MIN, -1, None),
            (Arithmetic::Remainder, 7, 0, None),
            (Arithmetic::Remainder, -7, 2, Some(-1)),
            (Arithmetic::ShiftLeft, 1, 126, Some(1 << 126)),
            (Arithmetic::ShiftLeft, 1, 127, None),
            (Arithmetic::ShiftLeft, 0, 128, None),
            (Arithmetic::ShiftRight, -1, 127, Some(-1)),
            (Arithmetic::ShiftRight, 1, -1, None),
        ] {
            assert_eq!(operation.checked(left, right), result, "{operation:?} {left} {right}");
        }
    }
}
