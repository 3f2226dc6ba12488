//! Output that cannot be written, is slow, or is closed.
