//! Scans argv as GNU `getopt_long` does: permutation, clusters, abbreviations, optional values.
//!
//! getopt(3) defines what an option is and in which order options are found. Words move during the scan, and the
//! messages of `conntrack` name the word before the scan position; the permutation therefore takes the same steps here.

/// Defines if an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// No value; one attached to the long form is an error.
    None,
    /// One value: the rest of the word, or else the next word, whatever it looks like.
    Required,
    /// An optional value, attached to the word.
    Optional,
}

/// An option in its long form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LongOption<T> {
    /// Name without the two hyphens.
    pub name: &'static str,
    /// Defines if it takes a value.
    pub argument: Argument,
    /// True if the name must be written out. It then never makes the abbreviation of another option ambiguous.
    pub exact: bool,
    /// The id that is reported when the option is found. Names with equal ids are one option.
    pub id: T,
}

/// The options that the scanner accepts.
pub(crate) trait OptionSource<T> {
    /// Returns the option of this letter.
    fn short(&self, letter: u8) -> Option<(Argument, T)>;
    /// Returns all long options, in two parts.
    fn long(&self) -> (&[LongOption<T>], &[LongOption<T>]);
}

/// The result of one step of the scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ScannedOption<'a, T> {
    /// An option and its value.
    Option {
        /// Id of the option.
        id: T,
        /// The value; `None` also if an optional value is not attached.
        value: Option<&'a [u8]>,
    },
    /// An unknown or ambiguous option, or one with a value that it does not take. Holds the word before the scan
    /// position.
    Unknown(Vec<u8>),
    /// An option without its required value. Holds the word before the scan position.
    MissingValue(Vec<u8>),
}

/// A scan of the words of a command line, the first of which is the program's name.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    words: Vec<&'a [u8]>,
    /// Index of the next word to scan.
    index: usize,
    /// The words in `first..last` are not options and were skipped.
    first: usize,
    last: usize,
    /// Position in the word at `index` where a cluster of letters continues.
    cluster: Option<usize>,
    /// POSIXLY_CORRECT: options end at the first word that is not an option.
    posixly_correct: bool,
    /// The word of the last option found.
    current: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// Starts a scan.
    pub(crate) fn new(words: Vec<&'a [u8]>, posixly_correct: bool) -> Self {
        Self { words, index: 1, first: 1, last: 1, cluster: None, posixly_correct, current: b"" }
    }

    /// Takes the value of an option that may have it in the next word: if nothing was attached to the option, there is
    /// a next word, and it begins with neither `-` nor `!`. Inside a cluster the next word is the cluster itself.
    pub(crate) fn take_optional(&mut self, attached: Option<&[u8]>) -> Option<&'a [u8]> {
        if attached.is_some() {
            return None;
        }
        let word = *self.words.get(self.index)?;
        if matches!(word.first(), Some(b'-' | b'!')) {
            return None;
        }
        self.index += 1;
        Some(word)
    }

    /// Returns the word of the last option found.
    pub(crate) fn current(&self) -> &'a [u8] {
        self.current
    }

    /// Returns the words that are not options. Valid at the end of the scan.
    pub(crate) fn stray_words(&self) -> &[&'a [u8]] {
        let start = if self.posixly_correct { self.index } else { self.first };
        self.words.get(start..).unwrap_or_default()
    }

    /// Returns the next option, or `None` at the end of the options.
    pub(crate) fn next<T: Copy + PartialEq>(&mut self, options: &dyn OptionSource<T>) -> Option<ScannedOption<'a, T>> {
        if let Some(position) = self.cluster {
            return Some(self.letter(position, options));
        }
        // `take_optional` may have taken words.
        self.last = self.last.min(self.index);
        self.first = self.first.min(self.index);
        if self.posixly_correct {
            if !self.words.get(self.index).is_some_and(|word| looks_like_option(word)) {
                return None;
            }
        } else {
            self.pass_over();
        }
        if self.words.get(self.index).is_some_and(|word| *word == b"--") {
            self.index += 1;
            if self.posixly_correct {
                return None;
            }
            // `--` is moved before the skipped words.
            if self.first == self.last {
                self.first = self.index;
            } else {
                if let Some(part) = self.words.get_mut(self.first..self.index) {
                    part.rotate_right(1);
                }
                self.first += 1;
            }
            self.last = self.words.len();
            self.index = self.words.len();
        }
        let word = *self.words.get(self.index)?;
        if !looks_like_option(word) {
            return None;
        }
        self.current = word;
        Some(if word.starts_with(b"--") { self.long(options) } else { self.letter(1, options) })
    }

    /// Moves the options found since then before the skipped words, and skips further words that are not options.
    fn pass_over(&mut self) {
        if self.first != self.last && self.last != self.index {
            if let Some(part) = self.words.get_mut(self.first..self.index) {
                part.rotate_left(self.last - self.first);
            }
            self.first += self.index - self.last;
            self.last = self.index;
        } else if self.last != self.index {
            self.first = self.index;
        }
        while self.words.get(self.index).is_some_and(|word| !looks_like_option(word)) {
            self.index += 1;
        }
        self.last = self.index;
    }

    fn before(&self) -> Vec<u8> {
        self.index.checked_sub(1).and_then(|index| self.words.get(index)).map(|word| word.to_vec()).unwrap_or_default()
    }

    fn long<T: Copy + PartialEq>(&mut self, options: &dyn OptionSource<T>) -> ScannedOption<'a, T> {
        let word = self.words.get(self.index).copied().unwrap_or_default();
        self.index += 1;
        let body = word.get(2..).unwrap_or_default();
        let (name, attached) = match body.iter().position(|byte| *byte == b'=') {
            Some(equals) => (body.get(..equals).unwrap_or_default(), body.get(equals + 1..)),
            None => (body, None),
        };
        let (common, more) = options.long();
        let lookup = || common.iter().chain(more);
        let exact = lookup().find(|option| option.name.as_bytes() == name);
        let found = exact.or_else(|| {
            let mut candidates = lookup().filter(|option| !option.exact && option.name.as_bytes().starts_with(name));
            let first = candidates.next()?;
            candidates.all(|other| other.id == first.id && other.argument == first.argument).then_some(first)
        });
        let Some(option) = found else {
            return ScannedOption::Unknown(self.before());
        };
        match (option.argument, attached) {
            (Argument::None, Some(_)) => ScannedOption::Unknown(self.before()),
            (Argument::Required, None) => match self.words.get(self.index).copied() {
                Some(value) => {
                    self.index += 1;
                    ScannedOption::Option { id: option.id, value: Some(value) }
                }
                None => ScannedOption::MissingValue(self.before()),
            },
            (_, attached) => ScannedOption::Option { id: option.id, value: attached },
        }
    }

    fn letter<T: Copy + PartialEq>(&mut self, position: usize, options: &dyn OptionSource<T>) -> ScannedOption<'a, T> {
        let word = self.words.get(self.index).copied().unwrap_or_default();
        let rest = word.get(position + 1..).unwrap_or_default();
        let option = word.get(position).and_then(|letter| options.short(*letter));
        if rest.is_empty() {
            self.cluster = None;
            self.index += 1;
        } else {
            self.cluster = Some(position + 1);
        }
        let Some((argument, id)) = option else {
            return ScannedOption::Unknown(self.before());
        };
        let value = match argument {
            Argument::None => None,
            _ if !rest.is_empty() => {
                self.cluster = None;
                self.index += 1;
                Some(rest)
            }
            Argument::Optional => None,
            Argument::Required => match self.words.get(self.index).copied() {
                Some(value) => {
                    self.index += 1;
                    Some(value)
                }
                None => return ScannedOption::MissingValue(self.before()),
            },
        };
        ScannedOption::Option { id, value }
    }
}

/// A lone `-` is an ordinary word.
fn looks_like_option(word: &[u8]) -> bool {
    word.len() > 1 && word.first() == Some(&b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table(Vec<LongOption<char>>);

    impl OptionSource<char> for Table {
        fn short(&self, letter: u8) -> Option<(Argument, char)> {
            match letter {
                b'L' | b'z' => Some((Argument::None, char::from(letter))),
                b'm' => Some((Argument::Required, 'm')),
                b'n' => Some((Argument::Optional, 'n')),
                _ => None,
            }
        }

        fn long(&self) -> (&[LongOption<char>], &[LongOption<char>]) {
            self.0.split_at(self.0.len() / 2)
        }
    }

    fn table() -> Table {
        let option = |name, argument, id| LongOption { name, argument, exact: false, id };
        Table(vec![
            option("dump", Argument::Optional, 'L'),
            option("mark", Argument::Required, 'm'),
            option("src", Argument::Required, 's'),
            option("orig-src", Argument::Required, 's'),
            option("src-nat", Argument::Optional, 'n'),
            option("zero", Argument::None, 'z'),
            LongOption { name: "zeal", argument: Argument::None, exact: true, id: 'Z' },
        ])
    }

    fn scan(words: &[&str], posixly_correct: bool) -> String {
        let mut all = vec![b"prog".as_slice()];
        all.extend(words.iter().map(|word| word.as_bytes()));
        let mut scanner = Scanner::new(all, posixly_correct);
        let table = table();
        let mut seen = Vec::new();
        while let Some(found) = scanner.next(&table) {
            seen.push(match found {
                ScannedOption::Option { id, value } => {
                    let taken = matches!(id, 'L' | 'n').then(|| scanner.take_optional(value)).flatten();
                    let value = value.or(taken);
                    match value {
                        Some(value) => format!("{id}={}", String::from_utf8_lossy(value)),
                        None => id.to_string(),
                    }
                }
                ScannedOption::Unknown(word) => {
                    seen.push(format!("unknown {}", String::from_utf8_lossy(&word)));
                    break;
                }
                ScannedOption::MissingValue(word) => {
                    seen.push(format!("missing {}", String::from_utf8_lossy(&word)));
                    break;
                }
            });
        }
        seen.join(" ")
    }

    #[test]
    fn words_that_are_no_options_may_stand_anywhere() {
        assert_eq!(scan(&["foo", "-L", "expect", "bar", "-z"], false), "L=expect z");
        assert_eq!(scan(&["a", "b", "-z", "c", "-m", "5", "d", "-n"], false), "z m=5 n");
        assert_eq!(scan(&["foo", "-L"], true), "");
        assert_eq!(scan(&["-L", "expect", "foo", "-z"], true), "L=expect");
        assert_eq!(scan(&["-z", "--", "-L"], false), "z");
        assert_eq!(scan(&["-", "-z"], false), "z");
    }

    #[test]
    fn words_that_belong_to_no_option_are_known_at_the_end() {
        let left = |words: &[&str], posixly_correct| {
            let mut all = vec![b"prog".as_slice()];
            all.extend(words.iter().map(|word| word.as_bytes()));
            let mut scanner = Scanner::new(all, posixly_correct);
            let table = table();
            while let Some(found) = scanner.next(&table) {
                if let ScannedOption::Option { id: 'L' | 'n', value } = found {
                    scanner.take_optional(value);
                }
            }
            scanner.stray_words().iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ")
        };
        for (words, over) in [
            (&["-L", "expect", "-z"][..], ""),
            (&["a", "-L", "b", "c", "-z", "d"], "a c d"),
            (&["-z", "--"], ""),
            (&["-z", "--", "-L", "x"], "-L x"),
            (&["a", "-z", "--", "-L", "x"], "a -L x"),
            (&["-m", "5", "a", "--", "b"], "a b"),
        ] {
            assert_eq!(left(words, false), over, "{words:?}");
        }
        for (words, over) in
            [(&["-L", "expect", "-z"][..], ""), (&["-L", "expect", "a", "-z"], "a -z"), (&["-z", "--", "-L"], "-L")]
        {
            assert_eq!(left(words, true), over, "{words:?}");
        }
    }

    #[test]
    fn clusters_end_where_a_value_begins() {
        assert_eq!(scan(&["-zL", "expect"], false), "z L=expect");
        assert_eq!(scan(&["-Lz", "expect"], false), "L z");
        assert_eq!(scan(&["-zm5"], false), "z m=5");
        assert_eq!(scan(&["-zm", "-1"], false), "z m=-1");
        assert_eq!(scan(&["-n8.8.8.8", "x"], false), "n=8.8.8.8");
        assert_eq!(scan(&["-n", "-z"], false), "n z");
        assert_eq!(scan(&["-n", "!x"], false), "n");
        assert_eq!(scan(&["-n", ""], false), "n=");
    }

    #[test]
    fn messages_name_the_word_before_the_scan_position() {
        assert_eq!(scan(&["-xL"], false), "unknown prog");
        assert_eq!(scan(&["-z", "-xL"], false), "z unknown -z");
        assert_eq!(scan(&["-zx"], false), "z unknown -zx");
        assert_eq!(scan(&["--zero=1"], false), "unknown --zero=1");
        assert_eq!(scan(&["-zm"], false), "z missing -zm");
        assert_eq!(scan(&["--mark"], false), "missing --mark");
        assert_eq!(scan(&["foo", "-zx"], false), "z unknown -zx");
        assert_eq!(scan(&["foo", "-xz"], false), "unknown foo");
    }

    #[test]
    fn long_names_can_be_abbreviated_unless_they_must_be_exact() {
        assert_eq!(scan(&["--mar=7", "--orig", "a", "--src", "b"], false), "m=7 s=a s=b");
        assert_eq!(scan(&["--sr", "b"], false), "unknown --sr");
        assert_eq!(scan(&["--ze"], false), "z");
        assert_eq!(scan(&["--zea"], false), "unknown --zea");
        assert_eq!(scan(&["--zeal"], false), "Z");
        assert_eq!(scan(&["--dump=expect", "x"], false), "L=expect");
    }
}
