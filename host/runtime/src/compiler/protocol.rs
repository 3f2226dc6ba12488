//! The protocol between the host and a compiling process: one task, one answer.

use std::path::{Path, PathBuf};

use flowgate_isolation::{Frame, Record, Violation};

use super::{super::error::LoadError, no_memory};

/// Frame kind of a task.
const TASK: u16 = 1;
/// Frame kind of the answer that the plugin has been compiled.
const COMPILED: u16 = 2;
/// Frame kind of the answer that the plugin cannot be compiled.
const REFUSED: u16 = 3;
/// Protocol version. Both ends are the same program; the number is for tests, and detects an end of another program
/// that was started by mistake.
const VERSION: u32 = 1;
/// Maximum length in bytes of a file name, and of an explanation.
const TEXT: usize = 4096;
/// Maximum length of a build's name in bytes.
const BUILD: usize = 256;

/// A plugin to compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// The plugin's file, for error messages.
    pub path: PathBuf,
    /// Size of its content in bytes.
    pub length: u64,
    /// True if its code is to be interpreted.
    pub interpreted: bool,
    /// True if each memory access is to be checked.
    pub checked: bool,
}

impl Task {
    pub(super) fn write(&self) -> Result<Vec<u8>, Violation> {
        Record::new(TASK, 0)
            .u32(VERSION)
            .text(&build(), BUILD)
            .u64(self.length)
            .bool(self.interpreted)
            .bool(self.checked)
            .text(&self.path.to_string_lossy(), TEXT)
            .finish()
    }

    pub(super) fn read(record: &[u8]) -> Result<Self, Violation> {
        let frame = Frame::read(record, 0)?;
        if frame.kind != TASK || frame.more {
            return Err(Violation::Kind(frame.kind));
        }
        let mut body = frame.body;
        let version = body.u32()?;
        if version != VERSION || body.text(BUILD)? != build() {
            return Err(Violation::Value(version.into()));
        }
        let (length, interpreted, checked) = (body.u64()?, body.bool()?, body.bool()?);
        let path = body.text(TEXT)?.into();
        body.end()?;
        Ok(Task { path, length, interpreted, checked })
    }
}

/// Returns the build identifier, which must be equal at both ends.
#[must_use]
pub fn build() -> String {
    format!("{} {}", env!("CARGO_PKG_VERSION"), flowgate_stock::BUILD)
}

/// Encodes the answer to a task.
pub(super) fn write_answer(result: &Result<u64, LoadError>) -> Result<Vec<u8>, Violation> {
    match result {
        Ok(length) => Record::new(COMPILED, 0).u64(*length).finish(),
        Err(error) => {
            let (code, text) = match error {
                LoadError::NotWasm { found, .. } => (1, found.as_str()),
                LoadError::NotComponent { said, .. } => (2, said.as_str()),
                LoadError::Excessive { excess, .. } => (3, excess.as_str()),
                LoadError::Compile { said, .. } => (4, said.as_str()),
                LoadError::Mismatch { reason, .. } => (5, reason.as_str()),
                LoadError::Engine(said) => (6, said.as_str()),
                LoadError::Panicked(said) => (7, said.as_str()),
                LoadError::Memory { .. } => (8, ""),
                other => return Record::new(REFUSED, 0).u8(9).text(&other.to_string(), TEXT).finish(),
            };
            Record::new(REFUSED, 0).u8(code).text(text, TEXT).finish()
        }
    }
}

/// Decodes the answer about a file: the length of its compiled code, or why it has none. `memory` is the memory limit
/// of the process that compiled it.
pub(super) fn read_answer(record: &[u8], path: &Path, memory: u64) -> Result<Result<u64, LoadError>, Violation> {
    let frame = Frame::read(record, 0)?;
    let mut body = frame.body;
    match frame.kind {
        COMPILED if !frame.more => {
            let length = body.u64()?;
            body.end()?;
            Ok(Ok(length))
        }
        REFUSED if !frame.more => {
            let (code, text) = (body.u8()?, body.text(TEXT)?.to_string());
            body.end()?;
            let path = path.to_path_buf();
            Ok(Err(match code {
                1 => LoadError::NotWasm { path, found: text },
                2 => LoadError::NotComponent { path, said: text },
                3 => LoadError::Excessive { path, excess: text },
                4 => LoadError::Compile { path, said: text },
                5 => LoadError::Mismatch { path, reason: text },
                6 => LoadError::Engine(text),
                7 => LoadError::Panicked(text),
                8 => no_memory(&path, memory),
                9 => LoadError::Compiler { path, what: text },
                other => return Err(Violation::Value(other.into())),
            }))
        }
        kind => Err(Violation::Kind(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_comes_back() {
        let task = Task { path: "a/b.wasm".into(), length: 1 << 40, interpreted: true, checked: false };
        let record = task.write().unwrap();
        assert_eq!(Task::read(&record), Ok(task));
        assert!(read_answer(&record, Path::new("x"), 1).is_err(), "a task is no answer");
        for end in 0..record.len() {
            assert!(Task::read(&record[..end]).is_err());
        }
    }

    #[test]
    fn another_build_is_refused() {
        let record = Record::new(TASK, 0).u32(VERSION).text("0.0.0 other", BUILD).u64(0).bool(false).bool(false);
        assert_eq!(Task::read(&record.text("x", TEXT).finish().unwrap()), Err(Violation::Value(VERSION.into())));
    }

    #[test]
    fn answers_come_back() {
        let path = Path::new("p");
        let answer = |result| read_answer(&write_answer(&result).unwrap(), path, 7).unwrap();
        assert_eq!(answer(Ok(5)).unwrap(), 5);
        let text = || "why \u{e9}".to_string();
        for error in [
            LoadError::NotWasm { path: path.into(), found: text() },
            LoadError::NotComponent { path: path.into(), said: text() },
            LoadError::Excessive { path: path.into(), excess: text() },
            LoadError::Compile { path: path.into(), said: text() },
            LoadError::Mismatch { path: path.into(), reason: text() },
            LoadError::Engine(text()),
            LoadError::Panicked(text()),
        ] {
            let said = error.to_string();
            assert_eq!(answer(Err(error)).unwrap_err().to_string(), said);
        }
        let memory = answer(Err(LoadError::Memory { path: path.into(), limit: None })).unwrap_err();
        assert!(matches!(memory, LoadError::CompileMemory { limit: 7, .. }), "{memory}");
        let long = answer(Err(LoadError::Engine("x".repeat(100_000)))).unwrap_err();
        assert!(long.to_string().len() < 2 * TEXT);
    }

    /// An answer comes from a process that foreign code may have taken over.
    #[test]
    fn a_forged_answer_is_a_violation_and_no_more() {
        let forged = |record: Record| read_answer(&record.finish().unwrap(), Path::new("p"), 7);
        assert!(forged(Record::new(REFUSED, 0).u8(77).text("x", TEXT)).is_err());
        assert!(forged(Record::new(REFUSED, 0).u8(1).u32(u32::MAX)).is_err());
        assert!(forged(Record::new(REFUSED, 0).u8(1).bytes(&vec![b'x'; TEXT + 1])).is_err());
        assert!(forged(Record::new(REFUSED, 0).u8(1).bytes(&[0xff])).is_err());
        assert!(forged(Record::new(COMPILED, 0).u64(1).u8(0)).is_err());
        assert!(forged(Record::new(COMPILED, 1).u64(1)).is_err());
        assert!(forged(Record::new(COMPILED, 0).more().u64(1)).is_err());
        assert!(forged(Record::new(99, 0)).is_err());
        let moving = forged(Record::new(REFUSED, 0).u8(4).text("\x1b]0;x\x07", TEXT)).unwrap().unwrap_err();
        assert!(!moving.to_string().contains('\x1b'), "{moving}");
    }
}
