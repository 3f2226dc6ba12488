//! The ids by which network namespaces refer to each other, from rtnetlink.

use std::{os::fd::AsRawFd as _, path::Path};

use netlink_packet_core::NlasIterator;
use netlink_sys::SocketAddr;

use super::{DIRECTORY, NETLINK_ROUTE, Namespace, NamespaceError, OWN, names, run_in};
use crate::{
    message::Messages,
    sys,
    wire::{MESSAGE_HEADER, NLMSG_ERROR, REQUEST},
};

/// `RTM_NEWNSID` of `linux/rtnetlink.h`, the answer to [`RTM_GETNSID`].
const RTM_NEWNSID: u16 = 88;
/// `RTM_GETNSID`: requests the id by which the socket's namespace knows another one.
const RTM_GETNSID: u16 = 90;
/// `NETNSA_NSID` of `linux/net_namespace.h`: the id as an int, -1 for none.
const NETNSA_NSID: u16 = 1;
/// `NETNSA_FD`: a descriptor of the other namespace.
const NETNSA_FD: u16 = 3;
/// Length of `struct rtgenmsg`, padded.
const RTGENMSG: usize = 4;

/// A named namespace and the id by which another namespace knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerNamespace {
    /// The namespace.
    pub namespace: Namespace,
    /// Its id, or `None` if it has none there; its events are not delivered there either in that case.
    pub id: Option<u32>,
    /// True if it is the other namespace itself.
    pub own: bool,
}

/// Returns the named namespaces with the ids by which `home` (or the calling thread's namespace) knows them. Files in
/// [`DIRECTORY`] that are no namespaces are left out.
///
/// # Errors
/// [`NamespaceError`] if `home` cannot be entered or the kernel does not answer.
pub fn peer_namespaces(home: Option<&Namespace>) -> Result<Vec<PeerNamespace>, NamespaceError> {
    let named: Vec<Namespace> =
        names().iter().filter_map(|name| Namespace::open(&Path::new(DIRECTORY).join(name), name).ok()).collect();
    run_in(home, || {
        let own = Namespace::open(Path::new(OWN), "own").ok();
        let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE).map_err(NamespaceError::Ids)?;
        socket.bind_auto().map_err(NamespaceError::Ids)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(NamespaceError::Ids)?;
        let mut peers = Vec::new();
        for namespace in named {
            if let Some(id) = request_id(&socket, &namespace)? {
                let own = own.as_ref() == Some(&namespace);
                peers.push(PeerNamespace { id: u32::try_from(id).ok(), own, namespace });
            }
        }
        Ok(peers)
    })?
}

/// Returns the id by which the socket's namespace knows another one, -1 for none; `None` if the other is no network
/// namespace.
fn request_id(socket: &netlink_sys::Socket, namespace: &Namespace) -> Result<Option<i32>, NamespaceError> {
    let mut request = Vec::with_capacity(MESSAGE_HEADER + RTGENMSG + 8);
    request.extend_from_slice(&((MESSAGE_HEADER + RTGENMSG + 8) as u32).to_ne_bytes());
    request.extend_from_slice(&RTM_GETNSID.to_ne_bytes());
    request.extend_from_slice(&REQUEST.to_ne_bytes());
    // Sequence number, port, and `struct rtgenmsg` with AF_UNSPEC.
    request.extend_from_slice(&[0; 8 + RTGENMSG]);
    request.extend_from_slice(&8u16.to_ne_bytes());
    request.extend_from_slice(&NETNSA_FD.to_ne_bytes());
    request.extend_from_slice(&namespace.file.as_raw_fd().to_ne_bytes());
    socket.send(&request, 0).map_err(NamespaceError::Ids)?;
    let mut answer = [0; 4096];
    let length = sys::receive(sys::borrow(socket), &mut answer, 0).map_err(NamespaceError::Ids)?.length;
    for message in Messages::new(answer.get(..length).unwrap_or_default()).flatten() {
        match message.message_type {
            RTM_NEWNSID => {
                let attributes = message.body.get(RTGENMSG..).unwrap_or_default();
                let id = NlasIterator::new(attributes).flatten().find(|attribute| attribute.kind() == NETNSA_NSID);
                let id = id.and_then(|attribute| attribute.value().try_into().ok()).map(i32::from_ne_bytes);
                return Ok(Some(id.unwrap_or(-1)));
            }
            NLMSG_ERROR => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}
