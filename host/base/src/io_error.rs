//! Texts of system errors.

use std::io;

/// Returns the text of an error as strerror(3) does, without the number that the standard library adds.
pub fn error_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text.get(..end).unwrap_or_default().to_owned(),
        None => text,
    }
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
