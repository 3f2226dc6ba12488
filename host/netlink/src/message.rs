//! Messages of a datagram: the headers (`struct nlmsghdr`), and netlink's control messages.

use std::borrow::Cow;

use thiserror::Error;

use super::decode::attribute::Attributes;
use super::wire::{
    self, ACK_ATTRIBUTES, CAPPED, CREATE, DUMP_INTERRUPTED, EXCLUSIVE, FIRST_SUBSYSTEM_TYPE, MESSAGE_HEADER,
    NETFILTER_HEADER, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, align,
};
use flowgate_model::event;

/// A datagram that does not consist of whole messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MessageError {
    /// Bytes are left, but too few for a message header.
    #[error("{left} bytes are left at {offset} of a netlink datagram, too few for a message header")]
    Header {
        /// Offset in the datagram.
        offset: usize,
        /// Number of bytes left.
        left: usize,
    },
    /// A message claims to be shorter than its header or longer than the datagram.
    #[error("the message at {offset} of a netlink datagram claims {length} bytes, but {left} are left")]
    Length {
        /// Offset in the datagram.
        offset: usize,
        /// The length in the message's header.
        length: u32,
        /// Number of bytes left.
        left: usize,
    },
}

/// A message: its header and its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`
    pub message_type: u16,
    /// `nlmsg_flags`
    pub flags: u16,
    /// `nlmsg_seq`: the sequence number of the request that it answers, 0 in events.
    pub sequence: u32,
    /// `nlmsg_pid`: in an event, the netlink port of the socket that caused it, 0 for packets and timeouts.
    pub port: u32,
    /// The bytes after the header.
    pub body: &'a [u8],
}

impl Message<'_> {
    /// Returns its length in a datagram, with its header and its padding.
    #[must_use]
    pub fn padded_length(&self) -> usize {
        align(MESSAGE_HEADER + self.body.len())
    }
}

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content<'a> {
    /// NLMSG_NOOP, or a control message that netlink may add in the future.
    Noop,
    /// NLMSG_ERROR: the result of a request.
    Result(Acknowledgement<'a>),
    /// NLMSG_DONE: the end of a dump.
    Done(Acknowledgement<'a>),
    /// NLMSG_OVERRUN: data was lost. The kernel does not send it.
    Overrun,
    /// A netfilter message.
    Netfilter(MessageKind),
}

/// The kind of a netfilter message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// A flow of a dump or a NEW or UPDATE event.
    Flow,
    /// A DESTROY event of a flow.
    FlowDestroyed,
    /// An expectation of a dump or a NEW event.
    Expectation,
    /// A DESTROY event of an expectation.
    ExpectationDestroyed,
    /// Statistics of one CPU (0x0104).
    CpuStatistics,
    /// Statistics of expectations of one CPU (0x0103: the kernel answers with the flow subsystem's number).
    ExpectationStatistics,
    /// Statistics of the table (0x0105).
    GlobalStatistics,
    /// Another type.
    Other(u16),
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acknowledgement<'a> {
    /// 0 for success, else a positive error number as in `errno(3)`.
    pub errno: i32,
    /// The kernel's message (NLMSGERR_ATTR_MSG), for policy errors.
    pub text: Option<Cow<'a, str>>,
    /// Offset of the cause in the request (NLMSGERR_ATTR_OFFS), in bytes from its header on.
    pub offset: Option<u32>,
}

/// The body of a netfilter message: `struct nfgenmsg` and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Netfilter<'a> {
    /// `nfgen_family`, an AF_ number.
    pub family: u8,
    /// `version`
    pub version: u8,
    /// `res_id`: the CPU in statistics.
    pub resource: u16,
    /// The attributes.
    pub attributes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Returns the content of the message.
    #[must_use]
    #[inline]
    pub fn content(&self) -> Content<'a> {
        match self.message_type {
            NLMSG_ERROR => Content::Result(self.acknowledgement(true)),
            NLMSG_DONE => Content::Done(self.acknowledgement(false)),
            NLMSG_OVERRUN => Content::Overrun,
            NLMSG_NOOP => Content::Noop,
            kind if kind < FIRST_SUBSYSTEM_TYPE => Content::Noop,
            _ => Content::Netfilter(self.kind()),
        }
    }

    /// Returns the kind of a netfilter message.
    #[must_use]
    #[inline]
    pub fn kind(&self) -> MessageKind {
        match self.message_type {
            0x0100 => MessageKind::Flow,
            0x0102 => MessageKind::FlowDestroyed,
            0x0200 => MessageKind::Expectation,
            0x0202 => MessageKind::ExpectationDestroyed,
            0x0103 => MessageKind::ExpectationStatistics,
            0x0104 => MessageKind::CpuStatistics,
            0x0105 => MessageKind::GlobalStatistics,
            other => MessageKind::Other(other),
        }
    }

    /// Returns the kind of event, a number of [`event`], for a message that is one.
    #[must_use]
    #[inline]
    pub fn event(&self) -> u8 {
        match self.kind() {
            MessageKind::FlowDestroyed | MessageKind::ExpectationDestroyed => event::DESTROY,
            _ if self.flags & (CREATE | EXCLUSIVE) != 0 => event::NEW,
            _ => event::UPDATE,
        }
    }

    /// Returns true if the kernel reports that the dump became inconsistent (NLM_F_DUMP_INTR).
    #[must_use]
    #[inline]
    pub fn is_interrupted(&self) -> bool {
        self.flags & DUMP_INTERRUPTED != 0 && self.message_type != NLMSG_ERROR
    }

    /// Returns the netfilter header and the attributes, or `None` if the body is too short for the header.
    #[must_use]
    #[inline]
    pub fn netfilter(&self) -> Option<Netfilter<'a>> {
        let (header, attributes) = self.body.split_first_chunk::<NETFILTER_HEADER>()?;
        let [family, version, high, low] = *header;
        Some(Netfilter { family, version, resource: u16::from_be_bytes([high, low]), attributes })
    }

    /// Returns the error number and the extended acknowledgement. An NLMSG_ERROR carries the request, an NLMSG_DONE
    /// does not.
    fn acknowledgement(&self, with_request: bool) -> Acknowledgement<'a> {
        let Some((code, rest)) = self.body.split_first_chunk::<4>() else {
            return Acknowledgement::default();
        };
        let mut acknowledgement =
            Acknowledgement { errno: i32::from_ne_bytes(*code).saturating_neg(), ..Acknowledgement::default() };
        if self.flags & ACK_ATTRIBUTES == 0 {
            return acknowledgement;
        }
        let skip = if !with_request {
            0
        } else if self.flags & CAPPED != 0 {
            MESSAGE_HEADER
        } else {
            let length = rest.first_chunk::<4>().map_or(0, |bytes| u32::from_ne_bytes(*bytes) as usize);
            align(length.max(MESSAGE_HEADER))
        };
        let mut attributes = Attributes::new(rest.get(skip..).unwrap_or_default());
        while let Some((kind, payload)) = attributes.next() {
            match kind {
                wire::ERROR_TEXT => {
                    acknowledgement.text =
                        Some(flowgate_base::text::line(payload.strip_suffix(&[0]).unwrap_or(payload)));
                }
                wire::ERROR_OFFSET => {
                    acknowledgement.offset = payload.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes));
                }
                _ => {}
            }
        }
        acknowledgement
    }
}

/// Iterates over the messages of a datagram. It ends after an error.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    datagram: &'a [u8],
    offset: usize,
}

impl<'a> Messages<'a> {
    /// Returns an iterator over the messages of `datagram`.
    #[must_use]
    #[inline]
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { datagram, offset: 0 }
    }

    fn fail(&mut self, error: MessageError) -> Option<Result<Message<'a>, MessageError>> {
        self.offset = self.datagram.len();
        Some(Err(error))
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, MessageError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.offset;
        let rest = self.datagram.get(offset..)?;
        if rest.is_empty() {
            return None;
        }
        let Some((header, _)) = rest.split_first_chunk::<MESSAGE_HEADER>() else {
            return self.fail(MessageError::Header { offset, left: rest.len() });
        };
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]);
        let Some(body) = rest.get(MESSAGE_HEADER..length as usize) else {
            return self.fail(MessageError::Length { offset, length, left: rest.len() });
        };
        // The padding of the last message may be missing.
        self.offset = offset.saturating_add(align(length as usize)).min(self.datagram.len());
        Some(Ok(Message {
            message_type: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            port: u32::from_ne_bytes([p0, p1, p2, p3]),
            body,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_netlink_testing::{attribute, raw_message};

    fn one(datagram: &[u8]) -> Content<'_> {
        Messages::new(datagram).next().unwrap().unwrap().content()
    }

    #[test]
    fn whole_messages_then_an_error() {
        let mut datagram = raw_message(0x0100, 2, 7, 8, &[2, 0, 0, 0, 1]);
        datagram.extend(raw_message(NLMSG_DONE, 2, 7, 8, &[0; 4]));
        datagram.extend([1, 2, 3]);
        let messages: Vec<_> = Messages::new(&datagram).collect();
        assert_eq!(messages.len(), 3);
        assert_eq!(messages[0].unwrap().body, [2, 0, 0, 0, 1]);
        assert_eq!((messages[0].unwrap().sequence, messages[0].unwrap().port), (7, 8));
        assert_eq!(messages[1].unwrap().content(), Content::Done(Acknowledgement::default()));
        assert_eq!(messages[2], Err(MessageError::Header { offset: 44, left: 3 }));
    }

    #[test]
    fn lengths_that_cannot_be() {
        for length in [0, 15, 21, u32::MAX] {
            let mut datagram = raw_message(0x0100, 0, 0, 0, &[0; 4]);
            datagram[..4].copy_from_slice(&length.to_ne_bytes());
            let messages: Vec<_> = Messages::new(&datagram).collect();
            assert_eq!(messages, [Err(MessageError::Length { offset: 0, length, left: 20 })]);
        }
        assert_eq!(Messages::new(&[]).count(), 0);
    }

    #[test]
    fn errors_and_what_the_kernel_adds() {
        let request = raw_message(0x0101, 5, 3, 0, &[2, 0, 0, 0, 9, 9, 9, 9]);
        let additions =
            [attribute(wire::ERROR_TEXT, b"no such\0"), attribute(wire::ERROR_OFFSET, &24u32.to_ne_bytes())];
        let body = |echo: &[u8]| [&(-22i32).to_ne_bytes()[..], echo, &additions.concat()].concat();
        let expected = Acknowledgement { errno: 22, text: Some(Cow::Borrowed("no such")), offset: Some(24) };
        let echoed = raw_message(NLMSG_ERROR, ACK_ATTRIBUTES, 3, 0, &body(&request));
        assert_eq!(one(&echoed), Content::Result(expected.clone()));
        let capped = raw_message(NLMSG_ERROR, ACK_ATTRIBUTES | CAPPED, 3, 0, &body(&request[..16]));
        assert_eq!(one(&capped), Content::Result(expected.clone()));
        let done = raw_message(NLMSG_DONE, ACK_ATTRIBUTES, 3, 0, &body(&[]));
        assert_eq!(one(&done), Content::Done(expected));
        let acknowledged = raw_message(NLMSG_ERROR, CAPPED, 3, 0, &[&[0; 4][..], &request[..16]].concat());
        assert_eq!(one(&acknowledged), Content::Result(Acknowledgement::default()));
        // Truncated or invalid.
        assert_eq!(one(&raw_message(NLMSG_DONE, 0, 3, 0, &[])), Content::Done(Acknowledgement::default()));
        let odd = raw_message(NLMSG_ERROR, ACK_ATTRIBUTES, 3, 0, &i32::MIN.to_ne_bytes());
        assert_eq!(one(&odd), Content::Result(Acknowledgement { errno: i32::MAX, ..Acknowledgement::default() }));
    }

    #[test]
    fn subjects_and_events() {
        let of = |kind, flags| {
            let datagram = raw_message(kind, flags, 0, 0, &[]);
            let message = Messages::new(&datagram).next().unwrap().unwrap();
            (message.kind(), message.event())
        };
        assert_eq!(of(0x0100, CREATE | EXCLUSIVE), (MessageKind::Flow, event::NEW));
        assert_eq!(of(0x0100, 0), (MessageKind::Flow, event::UPDATE));
        assert_eq!(of(0x0102, 0), (MessageKind::FlowDestroyed, event::DESTROY));
        assert_eq!(of(0x0200, CREATE), (MessageKind::Expectation, event::NEW));
        assert_eq!(of(0x0202, 0), (MessageKind::ExpectationDestroyed, event::DESTROY));
        assert_eq!(of(0x0103, 0).0, MessageKind::ExpectationStatistics);
        assert_eq!(of(0x0a00, 0).0, MessageKind::Other(0x0a00));
        assert_eq!(one(&raw_message(NLMSG_NOOP, 0, 0, 0, &[])), Content::Noop);
        assert_eq!(one(&raw_message(NLMSG_OVERRUN, 0, 0, 0, &[])), Content::Overrun);
    }
}
