//! How fields of a description are written: numbers in the byte order of the machine, sequences behind their length.
//!
//! Derived code for a general format would have ten times the size.

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

/// A value that is written as bytes, and read from them.
pub(super) trait Field: Sized {
    /// Appends the value.
    fn put(&self, bytes: &mut Vec<u8>);

    /// Takes the value off the beginning.
    ///
    /// # Errors
    /// The bytes end early, or mean nothing.
    fn take(bytes: &mut &[u8]) -> io::Result<Self>;
}

/// Implements [`Field`] for a structure: its fields, in order.
macro_rules! structure {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl Field for $name {
            fn put(&self, bytes: &mut Vec<u8>) {
                let $name { $($field),* } = self;
                $($field.put(bytes);)*
            }

            fn take(bytes: &mut &[u8]) -> io::Result<Self> {
                $(let $field = Field::take(bytes)?;)*
                Ok($name { $($field),* })
            }
        }
    };
}
pub(super) use structure;

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Field for $number {
            fn put(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_ne_bytes());
            }

            fn take(bytes: &mut &[u8]) -> io::Result<Self> {
                let (taken, rest) = bytes.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
                *bytes = rest;
                Ok(<$number>::from_ne_bytes(*taken))
            }
        })*
    };
}

numbers!(u8, u16, u32, u64, u128, usize, i32, i64);

impl Field for bool {
    fn put(&self, bytes: &mut Vec<u8>) {
        u8::from(*self).put(bytes);
    }

    fn take(bytes: &mut &[u8]) -> io::Result<Self> {
        match u8::take(bytes)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Field for String {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.len().put(bytes);
        bytes.extend_from_slice(self.as_bytes());
    }

    fn take(bytes: &mut &[u8]) -> io::Result<Self> {
        let length = usize::take(bytes)?;
        let (taken, rest) = bytes.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        *bytes = rest;
        String::from_utf8(taken.to_vec()).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

/// A path is for messages only: what is not UTF-8 is replaced.
impl Field for PathBuf {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.to_string_lossy().into_owned().put(bytes);
    }

    fn take(bytes: &mut &[u8]) -> io::Result<Self> {
        String::take(bytes).map(PathBuf::from)
    }
}

impl Field for Duration {
    fn put(&self, bytes: &mut Vec<u8>) {
        (self.as_secs(), self.subsec_nanos()).put(bytes);
    }

    fn take(bytes: &mut &[u8]) -> io::Result<Self> {
        // As many nanoseconds as make a second would be added to the seconds, which may overflow.
        let (seconds, nanoseconds) = <(u64, u32)>::take(bytes)?;
        Duration::from_secs(seconds)
            .checked_add(Duration::from_nanos(nanoseconds.into()))
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.0.put(bytes);
        self.1.put(bytes);
    }

    fn take(bytes: &mut &[u8]) -> io::Result<Self> {
        Ok((A::take(bytes)?, B::take(bytes)?))
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.is_some().put(bytes);
        self.iter().for_each(|value| value.put(bytes));
    }

    fn take(bytes: &mut &[u8]) -> io::Result<Self> {
        if bool::take(bytes)? { T::take(bytes).map(Some) } else { Ok(None) }
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.len().put(bytes);
        self.iter().for_each(|value| value.put(bytes));
    }

    fn take(bytes: &mut &[u8]) -> io::Result<Self> {
        let length = usize::take(bytes)?;
        (0..length).map(|_| T::take(bytes)).collect()
    }
}

impl<K: Field + Ord, V: Field> Field for BTreeMap<K, V> {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.len().put(bytes);
        for (key, value) in self {
            key.put(bytes);
            value.put(bytes);
        }
    }

    fn take(bytes: &mut &[u8]) -> io::Result<Self> {
        let length = usize::take(bytes)?;
        (0..length).map(|_| <(K, V)>::take(bytes)).collect()
    }
}
