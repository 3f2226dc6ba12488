//! Receives the answer to a request: the datagrams of a dump in order, or the single answer of a GET.

use thiserror::Error;

use super::message::{Acknowledgement, Content, Message, MessageError, Messages};
use super::request::Request;
use super::socket::{Socket, SocketError};
use super::stop::Stop;

/// Why a dump ended early.
#[derive(Debug, Error)]
pub enum DumpError {
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The kernel refused the request or aborted the dump.
    #[error("the kernel refused: {}{}", flowgate_base::io_error::errno_text(*errno), flowgate_base::text::in_brackets(text.as_deref()))]
    Refused {
        /// The error number, as in `errno(3)`.
        errno: i32,
        /// The kernel's message (extended acknowledgement).
        text: Option<String>,
    },
    /// The kernel reports that the table changed during the dump, which is therefore inconsistent (NLM_F_DUMP_INTR).
    #[error("the table changed while it was dumped")]
    Interrupted,
    /// A datagram does not consist of whole messages.
    #[error(transparent)]
    Malformed(#[from] MessageError),
    /// The stop signal was given.
    #[error("stopped")]
    Stopped,
}

impl DumpError {
    /// Returns the underlying error number, as in `errno(3)`; EINTR for a dump that was interrupted or stopped.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Socket(error) => error.errno(),
            Self::Refused { errno, .. } => *errno,
            Self::Interrupted | Self::Stopped => libc::EINTR,
            Self::Malformed(_) => libc::EBADMSG,
        }
    }

    fn refused(acknowledgement: &Acknowledgement<'_>) -> Self {
        Self::Refused { errno: acknowledgement.errno, text: acknowledgement.text.as_ref().map(ToString::to_string) }
    }
}

/// A dump, or another request that is answered with data, in progress.
///
/// [`Dump::next`] only receives, so that one thread can receive while another decodes: the kernel produces the next
/// datagram of a dump in the system call that receives it. A socket serves one dump at a time (EBUSY).
#[derive(Debug)]
pub struct Dump {
    socket: Socket,
    sequence: u32,
    /// True if the answer is one message without an end mark.
    single: bool,
    interrupted: bool,
    end: Option<Result<(), DumpError>>,
}

impl Dump {
    /// Sends the request.
    ///
    /// # Errors
    /// The request cannot be sent. The kernel's answer is reported by [`Dump::next`].
    pub fn start(socket: Socket, request: &Request) -> Result<Self, SocketError> {
        let sequence = socket.next_sequence();
        let mut datagram = Vec::with_capacity(request.len());
        request.append_to(&mut datagram, sequence, request.wants_acknowledgement());
        socket.send(&datagram)?;
        let single = !request.is_dump() && !request.wants_acknowledgement();
        Ok(Self { socket, sequence, single, interrupted: false, end: None })
    }

    /// Returns the sequence number of the dump's messages; see [`entries`].
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Receives the next datagram with data into `buffer` (of [`super::RECEIVE_LENGTH`] bytes) and returns its length,
    /// or `None` at the end.
    ///
    /// # Errors
    /// See [`DumpError`]. After an error the next call returns `None`.
    pub fn next(&mut self, buffer: &mut [u8], stop: Option<&Stop>) -> Result<Option<usize>, DumpError> {
        loop {
            if let Some(end) = &mut self.end {
                return std::mem::replace(end, Ok(())).map(|()| None);
            }
            match self.receive(buffer, stop) {
                Ok((length, true)) => return Ok(Some(length)),
                Ok((_, false)) => {}
                Err(error) => {
                    self.end = Some(Ok(()));
                    return Err(error);
                }
            }
        }
    }

    /// Receives one datagram; returns its length, and whether it has data.
    fn receive(&mut self, buffer: &mut [u8], stop: Option<&Stop>) -> Result<(usize, bool), DumpError> {
        // The kernel produces the next datagram in the receiving call; there is nothing to wait for.
        if stop.is_some_and(Stop::is_stopped) {
            return Err(DumpError::Stopped);
        }
        let length = self.socket.receive(buffer)?.length;
        let mut data = false;
        for message in Messages::new(buffer.get(..length).unwrap_or_default()) {
            let message = message?;
            if message.sequence != self.sequence {
                continue;
            }
            self.interrupted |= message.is_interrupted();
            match message.content() {
                Content::Netfilter(_) => {
                    data = true;
                    if self.single {
                        self.end = Some(Ok(()));
                    }
                }
                Content::Done(acknowledgement) | Content::Result(acknowledgement) => {
                    self.end = Some(if acknowledgement.errno != 0 {
                        Err(DumpError::refused(&acknowledgement))
                    } else if self.interrupted {
                        Err(DumpError::Interrupted)
                    } else {
                        Ok(())
                    });
                }
                Content::Overrun => return Err(SocketError::Overrun.into()),
                Content::Noop => {}
            }
        }
        Ok((length, data))
    }

    /// Returns the socket for the next request, after the end of the dump. Datagrams that are still queued are
    /// discarded.
    ///
    /// # Errors
    /// The socket failed.
    pub fn into_socket(self) -> Result<Socket, SocketError> {
        self.socket.discard()?;
        Ok(self.socket)
    }
}

/// Returns the netfilter messages of a datagram that answer the request with this sequence number. The datagram comes
/// from [`Dump::next`], which has checked that its messages are whole.
pub fn entries(datagram: &[u8], sequence: u32) -> impl Iterator<Item = Message<'_>> {
    Messages::new(datagram)
        .map_while(Result::ok)
        .filter(move |message| message.sequence == sequence && matches!(message.content(), Content::Netfilter(_)))
}
