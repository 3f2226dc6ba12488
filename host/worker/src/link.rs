//! One end of a channel with its sequence numbers.

use std::{
    io,
    time::{Duration, Instant},
};

use flowgate_isolation::{Channel, Frame, Record, Violation, frame::LONGEST};

/// Why nothing can be received any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other end is closed.
    #[error("the other process has ended")]
    Ended,
    /// The socket failed.
    #[error("the channel failed: {}", flowgate_base::io_error::error_text(.0))]
    Socket(io::Error),
    /// A record breaks the protocol.
    #[error("{0}")]
    Violation(#[from] Violation),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Violation>() {
            Ok(violation) => LinkError::Violation(violation),
            Err(error) => LinkError::Socket(error),
        }
    }
}

/// One end of a channel.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    sent: u64,
    received: u64,
    buffer: Box<[u8; LONGEST]>,
}

impl Link {
    /// Returns the end of a channel through which nothing has been sent.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Link { channel, sent: 0, received: 0, buffer: Channel::buffer() }
    }

    /// Returns the channel.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Returns an empty frame of this kind, which is the next one to be sent.
    #[must_use]
    pub fn frame(&self, kind: u16) -> Record {
        Record::new(kind, self.sent)
    }

    /// Sends the next frame. Blocks while the other end has too much unread data.
    ///
    /// # Errors
    /// The other end is closed, or the frame is too long.
    pub fn send(&mut self, frame: Record) -> io::Result<()> {
        let record = frame.finish().map_err(io::Error::other)?;
        self.channel.send(&record, &[])?;
        self.sent += 1;
        Ok(())
    }

    /// Sends the next frame, if the other end has room for it before the deadline. Returns false if not.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn send_within(&mut self, frame: Record, deadline: Instant) -> io::Result<bool> {
        let record = frame.finish().map_err(io::Error::other)?;
        let sent = self.channel.send_within(&record, deadline)?;
        self.sent += u64::from(sent);
        Ok(sent)
    }

    /// Sends the next frame unless the other end has too much unread data. Returns false if it has.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn try_send(&mut self, frame: Record) -> io::Result<bool> {
        let record = frame.finish().map_err(io::Error::other)?;
        let sent = self.channel.try_send(&record)?;
        self.sent += u64::from(sent);
        Ok(sent)
    }

    /// Receives the next frame, and blocks until there is one.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn receive(&mut self) -> Result<Frame<'_>, LinkError> {
        let record = self.channel.receive(&mut self.buffer)?.ok_or(LinkError::Ended)?;
        numbered(record, &mut self.received)
    }

    /// Receives the next frame; returns `None` if there is none yet.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn try_receive(&mut self) -> Result<Option<Frame<'_>>, LinkError> {
        match self.channel.try_receive(&mut self.buffer) {
            Ok(record) => numbered(record.ok_or(LinkError::Ended)?, &mut self.received).map(Some),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns true if a frame, or the end, can be received before this much time has passed.
    ///
    /// # Errors
    /// The kernel is out of memory.
    pub fn is_readable(&self, time: Duration) -> io::Result<bool> {
        self.channel.is_readable(time)
    }
}

/// Reads the frame with this sequence number, which is the next one's then.
fn numbered<'a>(record: &'a [u8], number: &mut u64) -> Result<Frame<'a>, LinkError> {
    let frame = Frame::read(record, *number)?;
    *number += 1;
    Ok(frame)
}
