//! System calls that netlink-sys does not provide: `recvmsg` with control data, `poll`, forced buffer sizes, memory
//! information, namespaces. The `unsafe` calls into libc pass memory that is borrowed here.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Control message type of `NETLINK_LISTEN_ALL_NSID` at level `SOL_NETLINK`: the namespace id of the datagram.
const CONTROL_NAMESPACE: libc::c_int = libc::NETLINK_LISTEN_ALL_NSID;
/// `SK_MEMINFO_RMEM_ALLOC`: index of the bytes queued in what `SO_MEMINFO` returns.
const MEMINFO_QUEUED: usize = 0;
/// `SK_MEMINFO_RCVBUF`: index of the limit on them.
const MEMINFO_LIMIT: usize = 1;
/// `SK_MEMINFO_DROPS`: index of the number of dropped datagrams in what `SO_MEMINFO` returns.
const MEMINFO_DROPS: usize = 8;
/// `SO_MEMINFO` of `asm-generic/socket.h`, where libc has no name for it.
const SO_MEMINFO: libc::c_int = 55;

/// `SIOCGSKNS` of `linux/sockios.h`.
const SIOCGSKNS: libc::Ioctl = 0x894C;

/// A received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReceivedDatagram {
    /// Bytes in the buffer.
    pub length: usize,
    /// The datagram was longer than the buffer, and its tail is lost.
    pub truncated: bool,
    /// Netlink port of the sender: 0 for the kernel.
    pub sender: u32,
    /// Id of the network namespace that it came from, if it is not the socket's own.
    pub namespace: Option<u32>,
}

/// Buffer for the control messages of a datagram, aligned for `struct cmsghdr`.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Receives one datagram into `buffer` without allocating. `flags`: `MSG_DONTWAIT` or 0. Repeats interrupted calls.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: libc::c_int) -> io::Result<ReceivedDatagram> {
    // SAFETY: all-zero bytes are valid values of these plain C structures.
    let mut sender: libc::sockaddr_nl = unsafe { zeroed() };
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: as above.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = (&raw mut sender).cast();
    header.msg_namelen = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of::<Control>() as _;
    let length = loop {
        // SAFETY: every pointer in `header` is to a local or to `buffer`, with its true size, and outlives the call.
        let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        match usize::try_from(length) {
            Ok(length) => break length,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    };
    Ok(ReceivedDatagram {
        length: length.min(buffer.len()),
        truncated: header.msg_flags & libc::MSG_TRUNC != 0,
        sender: sender.nl_pid,
        namespace: namespace(&header),
    })
}

/// Returns the namespace id among the control messages of a header that `recvmsg` has filled in.
fn namespace(header: &libc::msghdr) -> Option<u32> {
    // SAFETY: the kernel has set `msg_controllen` to what it wrote of the control buffer, and the CMSG functions stay
    // within that; the data of a message is read only if its length says that an int is there.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = message.as_ref() {
            if control.cmsg_level == libc::SOL_NETLINK
                && control.cmsg_type == CONTROL_NAMESPACE
                && control.cmsg_len >= libc::CMSG_LEN(size_of::<i32>() as u32) as _
            {
                // A negative id means that none is assigned.
                return u32::try_from(libc::CMSG_DATA(message).cast::<i32>().read_unaligned()).ok();
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

/// Waits until one of the descriptors is readable; returns for each whether it is. A timeout of `None` waits for ever.
///
/// # Errors
/// Those of `poll(2)`.
pub fn poll<const N: usize>(sources: [BorrowedFd<'_>; N], timeout: Option<Duration>) -> io::Result<[bool; N]> {
    let mut entries = sources.map(|source| libc::pollfd { fd: source.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let milliseconds = match timeout {
        None => -1,
        // Rounded up, so that a wait of less than a millisecond is not a busy loop.
        Some(timeout) => i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
    };
    // SAFETY: the array has N entries and outlives the call.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), N as libc::nfds_t, milliseconds) };
    if ready < 0 { Err(io::Error::last_os_error()) } else { Ok(entries.map(|entry| entry.revents != 0)) }
}

/// Sets an option of level `SOL_SOCKET` whose value is an int.
fn set_int(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer is to a local int and the length is its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Converts a size to the int that `setsockopt` takes. The kernel raises values below its minimum to the minimum (2,304
/// bytes for the receive buffer). A size whose sign bit is set after the cast is negative for the kernel and results in
/// the minimum instead of gigabytes; `-b -5` is an example.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "the wrapping is what is wanted")]
const fn as_int(bytes: usize) -> libc::c_int {
    bytes as u32 as libc::c_int
}

/// Sets the receive buffer beyond `net.core.rmem_max` (`SO_RCVBUFFORCE`, needs CAP_NET_ADMIN in the initial user
/// namespace), or else up to it (`SO_RCVBUF`).
pub(super) fn set_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let bytes = as_int(bytes);
    set_int(socket, libc::SO_RCVBUFFORCE, bytes).or_else(|_| set_int(socket, libc::SO_RCVBUF, bytes))
}

/// Sets the send buffer beyond `net.core.wmem_max` (`SO_SNDBUFFORCE`), or else up to it (`SO_SNDBUF`).
pub(super) fn set_send_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let bytes = as_int(bytes);
    set_int(socket, libc::SO_SNDBUFFORCE, bytes).or_else(|_| set_int(socket, libc::SO_SNDBUF, bytes))
}

/// Usage of a socket's receive buffer (`SO_MEMINFO`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketMemory {
    /// Bytes that the queued datagrams take (`SK_MEMINFO_RMEM_ALLOC`).
    pub queued: u32,
    /// Limit of these bytes (`SK_MEMINFO_RCVBUF`).
    pub limit: u32,
    /// Number of datagrams dropped since the socket was opened because the buffer was full (`SK_MEMINFO_DROPS`); wraps
    /// around.
    pub dropped: u32,
}

/// Returns the usage of a socket's receive buffer.
pub(super) fn memory(socket: BorrowedFd<'_>) -> io::Result<SocketMemory> {
    let mut information = [0u32; 16];
    let mut length = size_of::<[u32; 16]>() as libc::socklen_t;
    // SAFETY: the pointer is to a local array, `length` is its size, and the kernel writes at most that much.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            information.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let of = |index: usize| information.get(index).copied().unwrap_or_default();
    Ok(SocketMemory { queued: of(MEMINFO_QUEUED), limit: of(MEMINFO_LIMIT), dropped: of(MEMINFO_DROPS) })
}

/// Returns a descriptor of the network namespace that a socket belongs to (`SIOCGSKNS`, Linux 4.9; needs CAP_NET_ADMIN
/// there).
pub(super) fn namespace_of(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: this request takes no argument.
    let descriptor = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has made this descriptor for the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Returns the descriptor of a netlink-sys socket, which provides it only as a number.
pub(super) fn borrow(socket: &netlink_sys::Socket) -> BorrowedFd<'_> {
    // SAFETY: the socket owns an open descriptor as long as it lives, and the result borrows the socket.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}
