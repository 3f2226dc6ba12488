//! A recorder of events in the background.

use flowgate_test_support::{Background, Program, until};
use std::path::Path;

/// Starts a recorder, and waits until it listens; `FILE` stands for the recording.
pub(super) fn listen(program: &Program, file: &Path, line: &str) -> Background {
    let file = file.display().to_string();
    let words: Vec<&str> =
        line.split_whitespace().map(|word| if word == "FILE" { file.as_str() } else { word }).collect();
    let recorder = Background::start(program, &words);
    recorder.wait_until_listening();
    recorder
}

/// Waits until a recording that is being written holds these bytes.
pub(super) fn until_recorded(file: &Path, what: &[u8]) {
    until("it is recorded", || {
        std::fs::read(file).is_ok_and(|bytes| bytes.windows(what.len()).any(|window| window == what))
    });
}
