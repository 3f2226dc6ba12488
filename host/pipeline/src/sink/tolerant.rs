//! A sink in front of another one, for a run that changes entries and shows the changes.

use super::{Sink, SinkError};
use flowgate_base::Warnings;

/// Passes bytes on until the sink behind it fails. Then nothing more is written, the run continues, and the failure is
/// the result of [`Sink::finish`]: the purpose of the run is the change, and its listing is a by-product.
///
/// A closed pipe still ends the run at once, unless the process was started with SIGPIPE ignored.
pub struct Tolerant<S> {
    sink: S,
    failure: Option<SinkError>,
    warnings: Option<Warnings>,
}

impl<S> Tolerant<S> {
    /// Returns a sink in front of `sink`. `warnings` receives a failure when it occurs, for runs that may never end.
    pub fn new(sink: S, warnings: Option<Warnings>) -> Self {
        Tolerant { sink, failure: None, warnings }
    }
}

impl<S: Sink> Sink for Tolerant<S> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        if self.failure.is_some() {
            return Ok(());
        }
        match self.sink.write(bytes) {
            Err(error) if !error.is_broken_pipe() => {
                if let Some(warnings) = &self.warnings {
                    warnings.line(&format!("WARNING: {error}; its output ends here, and the actions continue."));
                }
                self.failure = Some(error);
                Ok(())
            }
            written => written,
        }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let finished = self.sink.finish();
        self.failure.take().map_or(finished, Err)
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        (**self).write(bytes)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        (**self).finish()
    }
}

impl<S: Sink + ?Sized> Sink for Box<S> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        (**self).write(bytes)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        (**self).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    struct Full(u32);

    impl Sink for Full {
        fn write(&mut self, _: &[u8]) -> Result<(), SinkError> {
            self.0 += 1;
            Err(SinkError::Stdout(io::Error::from_raw_os_error(libc::ENOSPC)))
        }
    }

    #[test]
    fn the_first_failure_is_kept_for_the_end() {
        let mut full = Full(0);
        let mut sink = Tolerant::new(&mut full, None);
        sink.write(b"1\n").unwrap();
        sink.write(b"2\n").unwrap();
        assert_eq!(sink.finish().unwrap_err().to_string(), "cannot write: No space left on device");
        assert!(sink.finish().is_ok(), "the error is reported once");
        assert_eq!(full.0, 1);
        let mut kept = Vec::new();
        let mut sink = Tolerant::new(&mut kept, None);
        sink.write(b"1\n").unwrap();
        sink.finish().unwrap();
        assert_eq!(kept, b"1\n");
    }
}
