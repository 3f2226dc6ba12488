//! Streams: messages that the server keeps. They are used by four requests alone, without a consumer: create, append,
//! and get the last message of a subject or the one with a number.

use std::{future::Future, time::Duration};

use super::{Bus, BusError, Memory, Nats, memory::Kept, nats::SERVER};

/// What a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name.
    pub name: &'static str,
    /// The subjects whose messages it keeps.
    pub subjects: &'static [&'static str],
    /// For how long; for ever if there is none.
    pub age: Option<Duration>,
    /// True if it keeps the last message of each subject only.
    pub last_only: bool,
    /// True if no message can be deleted.
    pub permanent: bool,
    /// The most bytes of a message.
    pub max_message: usize,
    /// The most bytes of all messages; 0 if the server's own limit is enough.
    pub max_bytes: u64,
}

/// A message that a stream has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its number in the stream, from 1.
    pub sequence: u64,
    /// The subject that it was sent to.
    pub subject: String,
    /// The content.
    pub payload: Vec<u8>,
}

/// The streams of a bus.
pub trait Streams: Send + Sync {
    /// Creates a stream if it does not exist.
    fn prepare_stream(&self, stream: &Stream) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Appends a message to the stream that keeps its subject, if the last one of this subject has the number `after`; 0
    /// if there is none. Returns the number of the new one. When this returns, the server has stored it.
    ///
    /// # Errors
    /// [`BusError::Conflict`] if the last one is another.
    fn append(
        &self,
        subject: String,
        payload: Vec<u8>,
        after: u64,
    ) -> impl Future<Output = Result<u64, BusError>> + Send;

    /// Returns the last message of a subject.
    fn last(&self, stream: &str, subject: &str) -> impl Future<Output = Result<Option<Stored>, BusError>> + Send;

    /// Returns the message with a number; `None` if there is none, or none any more.
    fn at(&self, stream: &str, sequence: u64) -> impl Future<Output = Result<Option<Stored>, BusError>> + Send;

    /// Returns the numbers of the first and the last message of a stream; the last is smaller if there are none.
    fn extent(&self, stream: &str) -> impl Future<Output = Result<(u64, u64), BusError>> + Send;
}

impl Nats {
    /// Asks for a message of a stream.
    async fn get_stored(&self, subject: String, question: Vec<u8>) -> Result<Option<Stored>, BusError> {
        let message = self.ask(subject, question, None, SERVER).await?;
        match message.status {
            None | Some(async_nats::StatusCode::OK) => {}
            Some(status) if status.as_u16() == 404 => return Ok(None),
            Some(status) => return Err(BusError::Store(format!("{status} for a message of a stream"))),
        }
        let header =
            |name: &str| message.headers.as_ref().and_then(|headers| headers.get(name)).map(ToString::to_string);
        let sequence = header("Nats-Sequence").and_then(|text| text.parse().ok());
        let (Some(sequence), Some(subject)) = (sequence, header("Nats-Subject")) else {
            return Err(BusError::Store("a message of a stream has no number or subject".into()));
        };
        Ok(Some(Stored { sequence, subject, payload: message.payload.into() }))
    }
}

impl Streams for Nats {
    async fn prepare_stream(&self, stream: &Stream) -> Result<(), BusError> {
        let configuration = serde_json::json!({
            "name": stream.name,
            "subjects": stream.subjects,
            "max_age": stream.age.map_or(0, |age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX >> 1)),
            "max_msgs_per_subject": if stream.last_only { 1 } else { -1 },
            "max_msg_size": stream.max_message,
            "max_bytes": if stream.max_bytes == 0 { -1 } else { i64::try_from(stream.max_bytes).unwrap_or(i64::MAX) },
            "discard": "new",
            "storage": "file",
            "retention": "limits",
            "allow_direct": true,
            "deny_delete": stream.permanent,
            "deny_purge": stream.permanent,
        });
        self.create(stream.name, configuration).await
    }

    async fn append(&self, subject: String, payload: Vec<u8>, after: u64) -> Result<u64, BusError> {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", after.to_string());
        let answer = self.store(subject, payload, Some(headers)).await?;
        answer.seq.ok_or_else(|| BusError::Store("it does not say under which number it has stored the message".into()))
    }

    async fn last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, BusError> {
        self.get_stored(format!("$JS.API.DIRECT.GET.{stream}.{subject}"), Vec::new()).await
    }

    async fn at(&self, stream: &str, sequence: u64) -> Result<Option<Stored>, BusError> {
        let question = serde_json::json!({ "seq": sequence }).to_string();
        self.get_stored(format!("$JS.API.DIRECT.GET.{stream}"), question.into()).await
    }

    async fn extent(&self, stream: &str) -> Result<(u64, u64), BusError> {
        let state = self.store(format!("$JS.API.STREAM.INFO.{stream}"), Vec::new(), None).await?.state;
        Ok((state.first_seq.max(1), state.last_seq))
    }
}

impl Streams for Memory {
    async fn prepare_stream(&self, stream: &Stream) -> Result<(), BusError> {
        self.kept().entry(stream.name.to_owned()).or_insert_with(|| Kept::new(*stream));
        Ok(())
    }

    async fn append(&self, subject: String, payload: Vec<u8>, after: u64) -> Result<u64, BusError> {
        let (sequence, lost) = {
            let mut kept = self.kept();
            let stream = kept.values_mut().find(|stream| stream.takes(&subject)).ok_or(BusError::Nobody)?;
            stream.append(&subject, &payload, after)?
        };
        self.publish(subject, None, payload).await?;
        if lost {
            return Err(BusError::TimedOut(SERVER));
        }
        Ok(sequence)
    }

    async fn last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, BusError> {
        let kept = self.kept();
        let messages = &kept.get(stream).ok_or(BusError::Nobody)?.messages;
        Ok(messages.values().rev().find(|stored| stored.subject == subject).cloned())
    }

    async fn at(&self, stream: &str, sequence: u64) -> Result<Option<Stored>, BusError> {
        Ok(self.kept().get(stream).ok_or(BusError::Nobody)?.messages.get(&sequence).cloned())
    }

    async fn extent(&self, stream: &str) -> Result<(u64, u64), BusError> {
        let kept = self.kept();
        let stream = kept.get(stream).ok_or(BusError::Nobody)?;
        let first = stream.messages.keys().next().copied().unwrap_or(stream.last + 1);
        Ok((first, stream.last))
    }
}
