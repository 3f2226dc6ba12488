//! Receiving what a request asks for: a dump's datagrams one after the other, or the one answer of a GET.

use thiserror::Error;

use super::message::{Content, Message, MessageError, Messages, Outcome};
use super::request::Request;
use super::socket::{Socket, SocketError};
use super::stop::Stop;

/// Why a dump ended before its end.
#[derive(Debug, Error)]
pub enum DumpError {
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The kernel refused the request, or broke the dump off.
    #[error("the kernel refused: {}{}", std::io::Error::from_raw_os_error(*errno), text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// The error number, as in `errno(3)`.
        errno: i32,
        /// What the kernel says of it.
        text: Option<String>,
    },
    /// The kernel says that the table changed under the dump, which is now inconsistent (NLM_F_DUMP_INTR).
    #[error("the table changed while it was dumped")]
    Interrupted,
    /// A datagram does not consist of messages.
    #[error(transparent)]
    Malformed(#[from] MessageError),
    /// The stop signal was given.
    #[error("stopped")]
    Stopped,
}

impl DumpError {
    /// The error number behind it, as in `errno(3)`; EINTR for a dump that was interrupted or stopped.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Socket(error) => error.errno(),
            Self::Refused { errno, .. } => *errno,
            Self::Interrupted | Self::Stopped => libc::EINTR,
            Self::Malformed(_) => libc::EBADMSG,
        }
    }

    fn refused(outcome: &Outcome<'_>) -> Self {
        Self::Refused { errno: outcome.errno, text: outcome.text.as_ref().map(ToString::to_string) }
    }
}

/// A dump (or another request that is answered with data) under way.
///
/// Its [`Dump::next`] only receives, so that one thread can receive while another decodes: the kernel makes the next
/// datagram of a dump inside the call that receives. One socket takes one dump at a time (EBUSY).
#[derive(Debug)]
pub struct Dump {
    socket: Socket,
    sequence: u32,
    /// The answer is one message without an end mark.
    single: bool,
    interrupted: bool,
    end: Option<Result<(), DumpError>>,
}

impl Dump {
    /// Sends the request.
    ///
    /// # Errors
    /// When it cannot be sent. What the kernel thinks of it is told by [`Dump::next`].
    pub fn start(socket: Socket, request: &Request) -> Result<Self, SocketError> {
        let sequence = socket.next_sequence();
        let mut datagram = Vec::with_capacity(request.len());
        request.append_to(&mut datagram, sequence, request.wants_acknowledgement());
        socket.send(&datagram)?;
        let single = !request.is_dump() && !request.wants_acknowledgement();
        Ok(Self { socket, sequence, single, interrupted: false, end: None })
    }

    /// The sequence number of its messages; see [`entries`].
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// The next datagram with data, into `buffer` (of [`super::RECEIVE_LENGTH`]): its length, or `None` at the end.
    ///
    /// # Errors
    /// See [`DumpError`]. After an error the next call says that the dump is over.
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

    /// Receives one datagram: its length, and whether there is data in it.
    fn receive(&mut self, buffer: &mut [u8], stop: Option<&Stop>) -> Result<(usize, bool), DumpError> {
        // The kernel makes the next datagram within the call that receives it: there is nothing to wait for.
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
            self.interrupted |= message.interrupted();
            match message.content() {
                Content::Netfilter(_) => {
                    data = true;
                    if self.single {
                        self.end = Some(Ok(()));
                    }
                }
                Content::Done(outcome) | Content::Result(outcome) => {
                    self.end = Some(if outcome.errno != 0 {
                        Err(DumpError::refused(&outcome))
                    } else if self.interrupted {
                        Err(DumpError::Interrupted)
                    } else {
                        Ok(())
                    });
                }
                Content::Overrun => return Err(SocketError::Overrun.into()),
                Content::Nothing => {}
            }
        }
        Ok((length, data))
    }

    /// The socket, for the next request. Only after the end; what else is under way is thrown away.
    ///
    /// # Errors
    /// When the socket failed.
    pub fn into_socket(self) -> Result<Socket, SocketError> {
        self.socket.discard()?;
        Ok(self.socket)
    }
}

/// The netfilter messages of a datagram that answer the request with this sequence number. Datagrams come from
/// [`Dump::next`], which has seen that they are whole.
pub fn entries(datagram: &[u8], sequence: u32) -> impl Iterator<Item = Message<'_>> {
    Messages::new(datagram)
        .map_while(Result::ok)
        .filter(move |message| message.sequence == sequence && matches!(message.content(), Content::Netfilter(_)))
}
