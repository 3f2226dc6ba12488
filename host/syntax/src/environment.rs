//! What a command line needs of the outside: a few files and one variable.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use flowgate_base::files::{self, Limited};

/// The outside, as far as command lines depend on it. Tests put their own in its place.
pub trait Environment: Sync {
    /// Opens a file: the label map, the protocols database, a load file. The name is as typed.
    fn open(&self, name: &[u8]) -> io::Result<Box<dyn BufRead>>;

    /// Standard input, for `-R -`.
    fn standard_input(&self) -> io::Result<Box<dyn BufRead>>;

    /// Whether POSIXLY_CORRECT is set: options then end at the first word that is none.
    fn posixly_correct(&self) -> bool;

    /// The whole of a file of names or of a plugin's option, which has a limit.
    fn read(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        files::read_from(&mut self.open(name)?, files::MOST_OF_OPTION)
    }
}

/// The machine's own files and variables.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn open(&self, name: &[u8]) -> io::Result<Box<dyn BufRead>> {
        let file = std::fs::File::open(OsStr::from_bytes(name))?;
        Ok(Box::new(BufReader::new(Limited::new(file, files::MOST_OF_LOAD_FILE))))
    }

    fn standard_input(&self) -> io::Result<Box<dyn BufRead>> {
        Ok(Box::new(BufReader::new(Limited::new(io::stdin(), files::MOST_OF_LOAD_FILE))))
    }

    fn posixly_correct(&self) -> bool {
        // A file of `-R` asks for every line.
        static SET: OnceLock<bool> = OnceLock::new();
        *SET.get_or_init(|| std::env::var_os("POSIXLY_CORRECT").is_some())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Files in memory.
    #[derive(Debug, Default)]
    pub(crate) struct FakeEnvironment {
        pub files: HashMap<Vec<u8>, Vec<u8>>,
        pub input: Vec<u8>,
        pub posixly_correct: bool,
    }

    impl FakeEnvironment {
        pub(crate) fn with(files: &[(&str, &str)]) -> Self {
            let files = files.iter().map(|(name, text)| (name.as_bytes().to_vec(), text.as_bytes().to_vec()));
            Self { files: files.collect(), ..Self::default() }
        }
    }

    impl Environment for FakeEnvironment {
        fn open(&self, name: &[u8]) -> io::Result<Box<dyn BufRead>> {
            match self.files.get(name) {
                Some(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
                None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
            }
        }

        fn standard_input(&self) -> io::Result<Box<dyn BufRead>> {
            Ok(Box::new(io::Cursor::new(self.input.clone())))
        }

        fn posixly_correct(&self) -> bool {
            self.posixly_correct
        }
    }
}
