//! Sends many requests with few system calls: the kernel executes the messages of a datagram in order and reports which
//! of them failed.
//!
//! Only the last message of a datagram requests an acknowledgement, which more than halves the cost of each message.
//! The others are answered only if they fail; when the answer to the last message has arrived, all errors of the
//! datagram have.

use std::time::Duration;

use super::message::{Content, Message, Messages};
use super::request::Request;
use super::socket::{RECEIVE_LENGTH, Socket, SocketError, WakeReason};
use super::wire::flow_message;

/// Maximum number of requests in one datagram. A larger number is not faster.
pub const MAX_REQUESTS: usize = 512;
/// Upper bound of the receive-buffer space that one answer takes: an error without echo takes 832 bytes, a flow 1,280.
const MAX_ANSWER_CHARGE: usize = 1280;
/// Maximum number of bytes in one datagram; the default send buffer takes 212,960.
const MAX_BYTES: usize = 128 * 1024;
/// The kernel answers before the send returns; an answer that has not arrived after this time will not arrive.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestResult {
    /// The kernel has executed it.
    Done,
    /// The kernel has refused it.
    Refused {
        /// The error number, as in `errno(3)`.
        errno: i32,
        /// The kernel's message (extended acknowledgement), for malformed attributes.
        text: Option<String>,
    },
    /// The request was sent and perhaps executed, but its answer is lost (ENOBUFS).
    Unknown,
}

/// Sends requests in batches and matches the answers to them.
#[derive(Debug)]
pub struct BatchSender {
    socket: Socket,
    max_requests: usize,
    datagram: Vec<u8>,
    buffer: Vec<u8>,
}

impl BatchSender {
    /// Sends over `socket`, which must have no other use. A larger receive buffer allows larger batches: 8 MiB are
    /// plenty, the system's default is sufficient.
    #[must_use]
    pub fn new(socket: Socket) -> Self {
        // The answers must fit even if every request of a batch fails; half of the buffer stays in reserve.
        let max_requests = (socket.receive_buffer() / MAX_ANSWER_CHARGE / 2).clamp(1, MAX_REQUESTS);
        Self { socket, max_requests, datagram: Vec::new(), buffer: vec![0; RECEIVE_LENGTH] }
    }

    /// Returns the maximum number of requests in one datagram.
    #[must_use]
    pub fn max_requests(&self) -> usize {
        self.max_requests
    }

    /// Returns the socket's netlink port id, which events carry as their cause.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Executes the requests in order and appends a result for each to `results`. Requests after a failed one are still
    /// executed.
    ///
    /// # Errors
    /// A send failed. None of its requests has been executed, and `results` has those of the earlier sends.
    pub fn submit(&mut self, requests: &[Request], results: &mut Vec<RequestResult>) -> Result<(), SocketError> {
        self.exchange(requests, results, &mut |_, _| {})
    }

    /// Executes the requests as [`BatchSender::submit`] does, and passes the messages that answer them to `answer`,
    /// with the index of the request; see [`super::encode::flows::get`].
    ///
    /// # Errors
    /// The same as [`BatchSender::submit`].
    pub fn exchange(
        &mut self,
        requests: &[Request],
        results: &mut Vec<RequestResult>,
        answer: &mut dyn FnMut(usize, &Message<'_>),
    ) -> Result<(), SocketError> {
        let mut rest = requests;
        let mut done = 0;
        while !rest.is_empty() {
            let count = self.count_fitting(rest);
            let (batch, after) = rest.split_at(count);
            self.send_batch(batch, done, results, answer)?;
            done += count;
            rest = after;
        }
        Ok(())
    }

    /// Executes the requests in order, one datagram each, until one is refused; the requests after it are not sent.
    /// Appends a result for each request that was sent to `results`.
    ///
    /// The kernel executes a request and queues its answer before the send returns. Therefore only the last request
    /// asks for an acknowledgement: an earlier one without a queued answer has succeeded.
    ///
    /// # Errors
    /// A send failed; its request has not been executed.
    pub fn submit_until_refused(
        &mut self,
        requests: &[Request],
        results: &mut Vec<RequestResult>,
    ) -> Result<(), SocketError> {
        let Some((last, rest)) = requests.split_last() else { return Ok(()) };
        for request in rest {
            if is_get(request) {
                self.send_batch(std::slice::from_ref(request), 0, results, &mut |_, _| {})?;
            } else {
                let sequence = self.socket.next_sequence();
                self.datagram.clear();
                request.append_to(&mut self.datagram, sequence, false);
                self.socket.send(&self.datagram)?;
                let result = match self.socket.has_answer() {
                    Ok(false) => RequestResult::Done,
                    Ok(true) => self.read_result(sequence),
                    Err(_) => RequestResult::Unknown,
                };
                results.push(result);
            }
            if results.last() != Some(&RequestResult::Done) {
                return Ok(());
            }
        }
        self.send_batch(std::slice::from_ref(last), 0, results, &mut |_, _| {})
    }

    /// Returns the result of a request without acknowledgement, and reads the queue empty.
    fn read_result(&mut self, sequence: u32) -> RequestResult {
        let mut result = RequestResult::Done;
        loop {
            let length = match self.socket.try_receive(&mut self.buffer) {
                Ok(Some(received)) => received.length,
                Ok(None) => return result,
                Err(_) => return RequestResult::Unknown,
            };
            for message in Messages::new(self.buffer.get(..length).unwrap_or_default()).map_while(Result::ok) {
                if let (true, Content::Result(acknowledgement)) = (message.sequence == sequence, message.content())
                    && acknowledgement.errno != 0
                {
                    let text = acknowledgement.text.map(|text| text.into_owned());
                    result = RequestResult::Refused { errno: acknowledgement.errno, text };
                }
            }
        }
    }

    /// Returns the number of requests at the front that fit into one datagram, at least one.
    fn count_fitting(&self, requests: &[Request]) -> usize {
        let mut bytes = 0;
        requests
            .iter()
            .take(self.max_requests)
            .take_while(|request| {
                bytes += request.len();
                bytes <= MAX_BYTES
            })
            .count()
            .max(1)
    }

    fn send_batch(
        &mut self,
        batch: &[Request],
        first_index: usize,
        results: &mut Vec<RequestResult>,
        answer: &mut dyn FnMut(usize, &Message<'_>),
    ) -> Result<(), SocketError> {
        let Some(last) = batch.len().checked_sub(1) else {
            return Ok(());
        };
        self.datagram.clear();
        let mut sequences = Vec::with_capacity(batch.len());
        for (index, request) in batch.iter().enumerate() {
            let sequence = self.socket.next_sequence();
            sequences.push(sequence);
            // A GET is always answered, by the flow or an error.
            request.append_to(&mut self.datagram, sequence, index == last && !is_get(request));
        }
        self.socket.send(&self.datagram)?;

        let start = results.len();
        results.resize(start + batch.len(), RequestResult::Done);
        let mut answered = vec![false; batch.len()];
        let mut lost = false;
        let mut complete = false;
        while !complete {
            let length = match self.socket.try_receive(&mut self.buffer) {
                Ok(Some(received)) => received.length,
                // After an overrun the queue is read empty; answers that are missing then are lost.
                Ok(None) if lost => break,
                Ok(None) if refuse_whole(results.get_mut(start..).unwrap_or_default(), &answered) => return Ok(()),
                Ok(None) => match self.socket.wait(None, Some(ANSWER_TIMEOUT)) {
                    Ok(WakeReason::Readable) => continue,
                    Ok(_) | Err(_) => {
                        lost = true;
                        break;
                    }
                },
                Err(_) => {
                    // The requests have been executed, so this is not an error of theirs.
                    if lost {
                        break;
                    }
                    lost = true;
                    continue;
                }
            };
            for message in Messages::new(self.buffer.get(..length).unwrap_or_default()).map_while(Result::ok) {
                let Some(index) = sequence_index(&sequences, message.sequence) else {
                    // A late answer to an earlier send.
                    continue;
                };
                match message.content() {
                    Content::Result(acknowledgement) => {
                        set_answered(&mut answered, index);
                        if acknowledgement.errno != 0
                            && let Some(result) = results.get_mut(start + index)
                        {
                            let text = acknowledgement.text.map(|text| text.into_owned());
                            *result = RequestResult::Refused { errno: acknowledgement.errno, text };
                        }
                        complete |= index == last;
                    }
                    Content::Netfilter(_) => {
                        set_answered(&mut answered, index);
                        answer(first_index + index, &message);
                        complete |= index == last && batch.get(index).is_some_and(is_get);
                    }
                    _ => {}
                }
            }
        }
        if lost {
            for (result, answered) in results.iter_mut().skip(start).zip(&answered) {
                if !answered {
                    *result = RequestResult::Unknown;
                }
            }
        }
        Ok(())
    }

    /// Returns the socket for other uses.
    #[must_use]
    pub fn into_socket(self) -> Socket {
        self.socket
    }
}

/// Returns true if the request is answered with data instead of an acknowledgement.
fn is_get(request: &Request) -> bool {
    matches!(request.message_type() as u8, flow_message::GET | flow_message::GET_AND_ZERO)
}

/// Returns true if the kernel has refused a whole batch, and sets the result of each of its requests. For want of
/// CAP_NET_ADMIN it reads no further than the first message of a datagram, and answers no other one.
fn refuse_whole(results: &mut [RequestResult], answered: &[bool]) -> bool {
    let Some((RequestResult::Refused { errno: libc::EPERM, .. }, rest)) = results.split_first_mut() else {
        return false;
    };
    if answered.iter().skip(1).any(|&answered| answered) {
        return false;
    }
    rest.fill(RequestResult::Refused { errno: libc::EPERM, text: None });
    true
}

/// Returns the index of a sequence number among those of a batch, which ascend except at the wrap-around.
fn sequence_index(sequences: &[u32], sequence: u32) -> Option<usize> {
    let guess = sequence.wrapping_sub(*sequences.first()?) as usize;
    // The wrap-around skips 0, so that the index may be lower by one.
    [guess, guess.wrapping_sub(1)].into_iter().find(|index| sequences.get(*index) == Some(&sequence))
}

fn set_answered(answered: &mut [bool], index: usize) {
    if let Some(answered) = answered.get_mut(index) {
        *answered = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_around_the_wrap() {
        let sequences = [u32::MAX - 1, u32::MAX, 1, 2];
        for (index, sequence) in sequences.into_iter().enumerate() {
            assert_eq!(sequence_index(&sequences, sequence), Some(index));
        }
        for other in [0, 3, u32::MAX - 2, 1 << 31] {
            assert_eq!(sequence_index(&sequences, other), None);
        }
        assert_eq!(sequence_index(&[], 1), None);
    }
}
