//! A socket that preserves record boundaries.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, getsockopt, recv, send,
        sendmsg, setsockopt, shutdown, socketpair, sockopt,
    },
};

use super::{
    frame::{LONGEST, Violation},
    sys,
};

/// One end of a pair of `SOCK_SEQPACKET` sockets. A record arrives whole or not at all.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Creates a channel and returns both ends.
    ///
    /// # Errors
    /// If the kernel cannot create the sockets.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(io::Error::from)?;
        Ok((Channel(one), Channel(other)))
    }

    /// Takes over a descriptor passed by another process, provided it is a socket of this type.
    ///
    /// # Errors
    /// If the descriptor is not a `SOCK_SEQPACKET` socket.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        match getsockopt(&descriptor, sockopt::SockType) {
            Ok(SockType::SeqPacket) => Ok(Channel(descriptor)),
            Ok(_) => Err(io::Error::from(io::ErrorKind::InvalidInput)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sends a record together with descriptors. Blocks while the other end has too much unread data.
    ///
    /// # Errors
    /// If the other end is closed or the kernel refuses.
    pub fn send(&self, record: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let numbers: Vec<RawFd> = descriptors.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let (socket, flags) = (self.0.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
        loop {
            // A process that only computes has no system call for passing descriptors.
            let result = match numbers.is_empty() {
                true => send(socket, record, flags),
                false => sendmsg::<UnixAddr>(socket, &[IoSlice::new(record)], &rights, flags, None),
            };
            match result {
                Err(Errno::EINTR) => {}
                result => return result.map(|_| ()).map_err(io::Error::from),
            }
        }
    }

    /// Sends a record unless the other end has too much unread data; returns false if it has.
    ///
    /// # Errors
    /// If the other end is closed or the kernel refuses.
    pub fn try_send(&self, record: &[u8]) -> io::Result<bool> {
        loop {
            match send(self.0.as_raw_fd(), record, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
                Ok(_) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Sends a record, and blocks until `deadline` while the other end has too much unread data. Returns false if it
    /// still has.
    ///
    /// # Errors
    /// If the other end is closed or the kernel refuses.
    pub fn send_within(&self, record: &[u8], deadline: Instant) -> io::Result<bool> {
        while !self.try_send(record)? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            sys::writable(self.0.as_fd(), left)?;
        }
        Ok(true)
    }

    /// Blocks until a record can be received or the other end is closed, at most for this time. Returns true if so.
    ///
    /// # Errors
    /// If the kernel is out of memory.
    pub fn is_readable(&self, time: Duration) -> io::Result<bool> {
        sys::readable(self.0.as_fd(), time)
    }

    /// Sets the send buffer, in bytes. Beyond the limit of the system (`net.core.wmem_max`) this takes CAP_NET_ADMIN;
    /// without it that limit applies.
    pub fn set_buffer(&self, bytes: usize) {
        if setsockopt(&self.0, sockopt::SndBufForce, &bytes).is_err() {
            // A smaller buffer is only slower.
            let _ = setsockopt(&self.0, sockopt::SndBuf, &bytes);
        }
    }

    /// Returns another handle of the same end.
    ///
    /// # Errors
    /// The process may have no more descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Channel)
    }

    /// Shuts the channel down in both directions, which wakes everything that blocks on it.
    pub fn shut_down(&self) {
        // It may be closed already.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }

    /// Ends the stream of records to the other end, which still receives what is queued.
    pub fn finish(&self) {
        // It may be closed already.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Write);
    }

    /// Receives a record into a buffer, which bounds its length, and blocks until one arrives. The kernel discards
    /// descriptors sent with it. Returns `None` at the end of the stream; an empty record looks the same.
    ///
    /// # Errors
    /// InvalidData with [`Violation::Long`] if the record is longer than the buffer; an error of the socket if the
    /// other end was closed with unread records.
    pub fn receive<'a>(&self, buffer: &'a mut [u8; LONGEST]) -> io::Result<Option<&'a [u8]>> {
        self.receive_with(buffer, MsgFlags::empty())
    }

    /// Receives a record as [`Channel::receive`] does, but does not block.
    ///
    /// # Errors
    /// WouldBlock if no record waits, and the channel has not ended; the errors of [`Channel::receive`].
    pub fn try_receive<'a>(&self, buffer: &'a mut [u8; LONGEST]) -> io::Result<Option<&'a [u8]>> {
        self.receive_with(buffer, MsgFlags::MSG_DONTWAIT)
    }

    fn receive_with<'a>(&self, buffer: &'a mut [u8; LONGEST], flags: MsgFlags) -> io::Result<Option<&'a [u8]>> {
        let received = loop {
            match recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC | flags) {
                Err(Errno::EINTR) => {}
                result => break result.map_err(io::Error::from)?,
            }
        };
        match received {
            0 => Ok(None),
            length => {
                let long = || io::Error::new(io::ErrorKind::InvalidData, Violation::Long(length));
                buffer.get(..length).map(Some).ok_or_else(long)
            }
        }
    }

    /// Returns a buffer for [`Channel::receive`].
    #[must_use]
    pub fn buffer() -> Box<[u8; LONGEST]> {
        Box::new([0; LONGEST])
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stay_apart_and_end() {
        let (one, other) = Channel::pair().unwrap();
        one.send(b"first", &[]).unwrap();
        one.send(b"second", &[]).unwrap();
        let mut buffer = Channel::buffer();
        assert_eq!(other.receive(&mut buffer).unwrap(), Some(&b"first"[..]));
        assert_eq!(other.receive(&mut buffer).unwrap(), Some(&b"second"[..]));
        drop(one);
        assert_eq!(other.receive(&mut buffer).unwrap(), None);
    }

    #[test]
    fn nothing_blocks_that_only_tries() {
        let (one, other) = Channel::pair().unwrap();
        let mut buffer = Channel::buffer();
        assert_eq!(other.try_receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut sent = 0;
        while one.try_send(&[7; 10_000]).unwrap() {
            sent += 1;
        }
        assert!(sent > 0);
        for _ in 0..sent {
            assert_eq!(other.try_receive(&mut buffer).unwrap(), Some(&[7; 10_000][..]));
        }
        assert_eq!(other.try_receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(one);
        assert_eq!(other.try_receive(&mut buffer).unwrap(), None);
        assert!(other.try_send(b"x").is_err());
    }

    #[test]
    fn what_is_too_long_or_empty_is_no_record() {
        let (one, other) = Channel::pair().unwrap();
        let mut buffer = Channel::buffer();
        one.send(&vec![0; LONGEST + 1], &[]).unwrap();
        let error = other.receive(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(error.downcast::<Violation>().unwrap(), Violation::Long(LONGEST + 1));
        one.send(&[], &[]).unwrap();
        assert_eq!(other.receive(&mut buffer).unwrap(), None);
    }

    #[test]
    fn descriptors_that_nobody_asked_for_are_dropped() {
        let (one, other) = Channel::pair().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        one.send(b"x", &[writer.as_fd()]).unwrap();
        drop(writer);
        assert_eq!(other.receive(&mut Channel::buffer()).unwrap(), Some(&b"x"[..]));
        // Reaches the end of the pipe, since no process holds its other end.
        assert_eq!(io::read_to_string(reader).unwrap(), "");
    }

    #[test]
    fn another_kind_of_socket_is_refused() {
        let (stream, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Channel::from_descriptor(stream.into()).is_err());
        assert!(Channel::from_descriptor(io::pipe().unwrap().0.into()).is_err());
        assert!(Channel::from_descriptor(Channel::pair().unwrap().0.into()).is_ok());
    }
}
