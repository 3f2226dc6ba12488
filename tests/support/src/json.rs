//! Files of JSON lines that a program is still writing.

use std::{fs, io::ErrorKind, path::Path};

use serde_json::Value;

/// Returns the complete lines of a file, each of which must be JSON; none if the file does not exist yet.
///
/// # Panics
///
/// If the file cannot be read, or a complete line is not JSON in UTF-8.
#[must_use]
pub fn lines_so_far(path: &Path) -> Vec<Value> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => panic!("{} cannot be read: {error}", path.display()),
    };
    // A line that is being written may end in the middle of a character.
    let complete = &text[..text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)];
    let parsed = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    std::str::from_utf8(complete).expect("JSON lines are UTF-8").lines().map(parsed).collect()
}
