//! The files and the variable that parsing a command line depends on.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use flowgate_base::files::{self, LimitedReader};

/// Access to files and variables. Tests substitute their own.
pub trait Environment: Sync {
    /// Opens the label map, the protocols database or a load file. The name is as typed.
    fn open(&self, name: &[u8]) -> io::Result<Box<dyn BufRead>>;

    /// Returns standard input, for `-R -`.
    fn standard_input(&self) -> io::Result<Box<dyn BufRead>>;

    /// Returns true if POSIXLY_CORRECT is set: options then end at the first word that is not an option.
    fn posixly_correct(&self) -> bool;

    /// Reads a label map, a protocols database or a file with a plugin option, up to the size limit.
    fn read(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        files::read_from(&mut self.open(name)?, files::MAX_OPTION_FILE)
    }
}

/// The files and variables of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn open(&self, name: &[u8]) -> io::Result<Box<dyn BufRead>> {
        let file = std::fs::File::open(OsStr::from_bytes(name))?;
        Ok(Box::new(BufReader::new(LimitedReader::new(file, files::MAX_LOAD_FILE))))
    }

    fn standard_input(&self) -> io::Result<Box<dyn BufRead>> {
        Ok(Box::new(BufReader::new(LimitedReader::new(io::stdin(), files::MAX_LOAD_FILE))))
    }

    fn posixly_correct(&self) -> bool {
        // Parsing a load file calls this for every line.
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
