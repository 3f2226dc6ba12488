//! Names of connection labels: the file connlabel.conf.

use std::collections::{BTreeMap, HashMap};

use super::environment::Environment;
use super::error::CliError;
use super::values;
use flowgate_base::io_error::error_text;

/// Default path of the label map.
pub const DEFAULT_LABEL_MAP: &str = "/etc/xtables/connlabel.conf";

/// Bits from this one on are not read from the file. The kernel keeps 128 labels.
const BITS: u64 = 1024;

/// Maximum length of a line; a longer line counts as several lines.
const LINE: usize = 1023;

/// Number of bytes of labels that the kernel keeps (NF_CT_LABELS_MAX_SIZE).
const KERNEL_BYTES: usize = 16;

/// Names of labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelMap {
    names: BTreeMap<u16, String>,
    bits: HashMap<String, u16>,
}

impl LabelMap {
    /// Parses the text of a label map; `None` if it has no valid line. Skips lines that are invalid or that repeat a
    /// bit or a name.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut map = Self::default();
        for whole in text.split_inclusive(|byte| *byte == b'\n') {
            for line in whole.chunks(LINE) {
                map.line(line);
            }
        }
        (!map.names.is_empty()).then_some(map)
    }

    fn line(&mut self, line: &[u8]) {
        if line.first() == Some(&b'#') {
            return;
        }
        let number = values::number(line, 0);
        if number.length == 0 || (number.negative && number.magnitude != 0) || number.magnitude >= BITS {
            return;
        }
        let Ok(bit) = u16::try_from(number.magnitude) else {
            return;
        };
        let blank = |byte: char| matches!(byte, ' ' | '\t' | '\r' | '\n' | '\x0b' | '\x0c');
        let name = line.get(number.length..).and_then(|rest| std::str::from_utf8(rest).ok());
        let Some(name) = name.map(|name| name.trim_matches(blank)) else {
            return;
        };
        let valid = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-'));
        if name.is_empty() || !valid || self.names.contains_key(&bit) || self.bits.contains_key(name) {
            return;
        }
        self.names.insert(bit, name.to_owned());
        self.bits.insert(name.to_owned(), bit);
    }

    /// Loads the file of this name. The error is the warning to print; the command then continues without names.
    pub fn load(environment: &dyn Environment, path: &[u8]) -> Result<Self, String> {
        match environment.read(path) {
            // `conntrack` prints the text of errno, which is 0 for a file without labels.
            Ok(text) => Self::parse(&text).ok_or_else(|| "nfct_labelmap_new: Success".to_owned()),
            Err(error) => Err(format!("nfct_labelmap_new: {}", error_text(&error))),
        }
    }

    /// Returns the bit of a name. Names are case-sensitive and must be complete.
    pub fn bit(&self, name: &[u8]) -> Option<u16> {
        self.bits.get(std::str::from_utf8(name).ok()?).copied()
    }

    /// Returns the name of a bit.
    pub fn name(&self, bit: u16) -> Option<&str> {
        self.names.get(&bit).map(String::as_str)
    }

    /// Returns bits and names, in ascending order of bits.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &str)> {
        self.names.iter().map(|(bit, name)| (*bit, name.as_str()))
    }

    /// Returns the names as plugins receive them.
    pub fn labels(&self) -> Vec<flowgate_model::Label> {
        self.iter().map(|(bit, name)| flowgate_model::Label { bit, name: name.to_owned() }).collect()
    }
}

/// Adds the labels of a comma-separated list to a set.
pub(crate) fn resolve(map: Option<&LabelMap>, list: &[u8], set: &mut LabelSet) -> Result<(), CliError> {
    for (name, _) in values::elements(list) {
        let bit = map.and_then(|map| map.bit(name));
        set.insert(bit.ok_or_else(|| CliError::UnknownLabel(name.into()))?);
    }
    Ok(())
}

/// A set of labels in the layout of `rare.labels`: label `n` is bit `n % 8` of byte `n / 8`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LabelSet(Vec<u8>);

impl LabelSet {
    /// Returns the set of all labels that the kernel can keep.
    pub(crate) fn all() -> Self {
        Self(vec![0xff; KERNEL_BYTES])
    }

    /// Returns the empty set in full length.
    pub(crate) fn none() -> Self {
        Self(vec![0; KERNEL_BYTES])
    }

    /// Returns the empty set with the length of `other`.
    pub(crate) fn cleared(other: &Self) -> Self {
        Self(vec![0; other.0.len()])
    }

    /// Adds a label.
    pub(crate) fn insert(&mut self, bit: u16) {
        let byte = usize::from(bit / 8);
        // The kernel expects words of 32 bits, and at least its full length.
        let length = ((byte / 4 + 1) * 4).max(KERNEL_BYTES).max(self.0.len());
        self.0.resize(length, 0);
        if let Some(byte) = self.0.get_mut(byte) {
            *byte |= 1 << (bit % 8);
        }
    }

    /// Returns true if it has no label.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Returns the bytes: none if no label was ever added, otherwise 16, or more if a bit needs it.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::environment::tests::FakeEnvironment;
    use super::*;

    const FILE: &str = "1 one\n2foo\n 3 th ree \n4\n5 bad_name\n6  \n0x7 seven\n08 eight\n9 one\n1 uno\n-1 neg\n10\tten\r\n\
        1024 big\n#11 x\n #12 y\n 13\n 14  -x-\n1023 last\nabc zero\n";

    #[test]
    fn lines_that_are_not_valid_are_passed_over() {
        let map = LabelMap::parse(FILE.as_bytes()).expect("labels");
        let all: Vec<_> = map.iter().collect();
        let expected = [
            (0, "8 eight"),
            (1, "one"),
            (2, "foo"),
            (3, "th ree"),
            (7, "seven"),
            (10, "ten"),
            (14, "-x-"),
            (1023, "last"),
        ];
        assert_eq!(all, expected);
        assert_eq!(map.bit(b"ten"), Some(10));
        assert_eq!(map.bit(b"Ten"), None);
        assert_eq!(map.name(3), Some("th ree"));
    }

    #[test]
    fn long_lines_are_several() {
        let text = format!("1 {}\n", "x".repeat(2000));
        let map = LabelMap::parse(text.as_bytes()).expect("a label");
        assert_eq!(map.name(1).map(str::len), Some(1021));
        assert_eq!(map.iter().count(), 1);
    }

    #[test]
    fn a_file_that_says_nothing_is_a_warning() {
        let environment = FakeEnvironment::with(&[("empty", "# nothing\n")]);
        assert_eq!(LabelMap::load(&environment, b"empty"), Err("nfct_labelmap_new: Success".to_owned()));
        let missing = LabelMap::load(&environment, b"missing");
        assert_eq!(missing, Err("nfct_labelmap_new: No such file or directory".to_owned()));
    }

    #[test]
    fn all_names_of_a_list_count() {
        let map = LabelMap::parse(FILE.as_bytes());
        let mut set = LabelSet::default();
        resolve(map.as_ref(), b"one,th ree", &mut set).expect("known names");
        resolve(map.as_ref(), b"ten", &mut set).expect("a known name");
        assert_eq!(set.clone().into_bytes().get(..3), Some(&[0b1010, 0b100, 0][..]));
        assert_eq!(set.into_bytes().len(), 16);
        let unknown = resolve(map.as_ref(), b"one,", &mut LabelSet::default());
        assert_eq!(unknown, Err(CliError::UnknownLabel("".into())));
        assert_eq!(resolve(None, b"one", &mut LabelSet::default()), Err(CliError::UnknownLabel("one".into())));
    }

    #[test]
    fn sets_grow_for_high_bits() {
        let mut set = LabelSet::default();
        assert!(set.is_empty());
        set.insert(1023);
        assert_eq!(set.into_bytes().len(), 128);
        let mut set = LabelSet::default();
        set.insert(127);
        assert_eq!(set.into_bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]);
    }
}
