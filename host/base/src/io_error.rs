//! Texts of system errors.

use std::io;

use crate::text::line;

/// Returns the text of an error as strerror(3) does, without the number that the standard library adds. The text is
/// cleaned: an error that was made by a library or a reader may repeat names and contents of files.
pub fn error_text(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error ").unwrap_or(text.len());
    line(text.as_bytes().get(..end).unwrap_or_default()).into_owned()
}

/// Returns the text of an error number, as strerror(3) does.
pub fn errno_text(errno: i32) -> String {
    error_text(&io::Error::from_raw_os_error(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_have_no_number() {
        assert_eq!(error_text(&io::Error::from_raw_os_error(libc::ENOENT)), "No such file or directory");
        assert_eq!(error_text(&io::Error::other("why")), "why");
        assert_eq!(errno_text(libc::EPERM), "Operation not permitted");
    }
}
