//! A stream of JetStream.
//!
//! It takes two requests alone: a message with an inbox for its acknowledgement, and, if it is wanted, the creation of
//! the stream. Nobody consumes here.

use std::{path::PathBuf, time::Duration};

use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, ServerError, StatusCode, Subscriber};
use flowgate_base::{Backoff, text::clean};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

use super::{Batch, GAP_HEADER, Link, Said, Stream, Token};
use crate::{
    bus::{Bus, BusError, ConnectError, reasons},
    config::Server,
    keys::ConnectKey,
    message, names, random,
};

/// How long a request to the server may take.
const REQUEST: Duration = Duration::from_secs(5);
/// Pauses between attempts to connect again.
const RECONNECT: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));
/// The most bytes of an acknowledgement.
const MAX_ANSWER: usize = 64 << 10;
/// Acknowledgements that wait.
const WAITING: usize = 1024;
/// Bytes of the headers of a message, at most.
const HEADERS: usize = 512;

/// Settings of a stream that is created: for how long messages are kept, how many bytes of them, and for how long their
/// ids are known.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
const MAX_BYTES: u64 = 256 << 20;
const KNOWN: Duration = Duration::from_secs(600);
/// Copies of a stream in a cluster, so that one server can fail.
const COPIES: u32 = 3;
/// What a server that is no cluster says to more than one copy.
const NO_CLUSTER: &str = "non-clustered";

/// A stream, and how to connect to it.
#[derive(Debug)]
pub struct StreamOptions {
    /// The servers, of which one is enough.
    pub servers: Vec<Server>,
    /// True if connections are encrypted.
    pub tls: bool,
    /// The certificate that the servers' are signed with; those of the system if there is none.
    pub ca: Option<PathBuf>,
    /// The key to connect with.
    pub key: Option<ConnectKey>,
    /// The name in the server's list of connections.
    pub name: String,
    /// The subject of all messages.
    pub subject: String,
    /// The stream that takes them.
    pub stream: Option<String>,
    /// True if it is created where it does not exist.
    pub create: bool,
}

/// A connection to a stream.
pub struct NatsStream {
    client: Client,
    /// Acknowledgements arrive at the subjects `inbox.ROUND.NUMBER`.
    inbox: String,
    acknowledgements: Subscriber,
    denied: mpsc::Receiver<String>,
    link: watch::Receiver<Link>,
    subject: String,
    stream: Option<String>,
    create: bool,
}

impl NatsStream {
    /// Connects once; a connection that breaks later is made again, for as long as it takes.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub async fn connect(options: &StreamOptions) -> Result<Self, ConnectError> {
        let shown = options.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let ca = options.ca.as_ref().map_or_else(|| "the system's files".into(), |ca| ca.display().to_string());
        let (linked, link) = watch::channel(Link::default());
        let (deny, denied) = mpsc::channel(16);
        let before = link.clone();
        // What another user may subscribe to is not known; a key may have permission for its own inboxes only.
        let owner = options.key.as_ref().map_or_else(random::id, |key| key.id().to_string());
        let inbox = names::inbox(&owner);
        let mut connect = ConnectOptions::new()
            .require_tls(options.tls)
            .name(&options.name)
            .custom_inbox_prefix(&inbox)
            .ignore_discovered_servers()
            .subscription_capacity(WAITING)
            .ping_interval(Duration::from_secs(15))
            .reconnect_delay_callback(move |attempts| match before.borrow().count {
                // Whoever connects for the first time waits for nobody; after a break of the server, all would.
                0 => Duration::ZERO,
                _ => random::jitter(RECONNECT.pause(u32::try_from(attempts).unwrap_or(u32::MAX).max(1))),
            })
            .event_callback(move |event| {
                match event {
                    Event::Connected => linked.send_modify(|link| *link = Link { count: link.count + 1, up: true }),
                    Event::Disconnected | Event::Closed => linked.send_modify(|link| link.up = false),
                    // More of them than fit say the same.
                    Event::ServerError(error @ (ServerError::Other(_) | ServerError::AuthorizationViolation)) => {
                        let _ = deny.try_send(format!("the server says: {}", clean(&error.to_string())));
                    }
                    _ => {}
                }
                async {}
            });
        if let Some(ca) = &options.ca {
            connect = connect.add_root_certificates(ca.clone());
        }
        if let Some(key) = &options.key {
            connect = connect.nkey(key.seed());
        }
        let scheme = if options.tls { "tls" } else { "nats" };
        let servers: Vec<String> = options.servers.iter().map(|server| format!("{scheme}://{server}")).collect();
        let client = connect.connect(servers).await;
        let client = client.map_err(|error| ConnectError::new(&error, shown.clone(), &ca))?;
        let inbox = format!("{inbox}.{}", random::id());
        let acknowledgements = client.subscribe(format!("{inbox}.*.*")).await;
        let acknowledgements = acknowledgements
            .map_err(|error| ConnectError::Unreachable { server: shown, reason: clean(&reasons(&error)) })?;
        Ok(NatsStream {
            client,
            inbox,
            acknowledgements,
            denied,
            link,
            subject: options.subject.clone(),
            stream: options.stream.clone(),
            create: options.create,
        })
    }

    /// Returns what a message at the inbox says; `None` if it is nothing that was waited for.
    fn answer(&self, message: &Message) -> Option<Said> {
        let token = message.subject.as_str().strip_prefix(&self.inbox)?.strip_prefix('.')?;
        let (round, number) = token.split_once('.')?;
        let token = Token { round: round.parse().ok()?, number: number.parse().ok()? };
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Some(Said::Refused(token, self.no_stream()));
        }
        Some(match message::read::<Stored>(&message.payload, MAX_ANSWER) {
            Ok(Stored { error: Some(error), .. }) => {
                Said::Refused(token, format!("the stream does not take it: {}", clean(&error.description)))
            }
            Ok(Stored { stream, .. }) if !stream.is_empty() => Said::Stored(token),
            // Somebody else has answered: what was sent is in no stream.
            _ => Said::Refused(token, format!("what answers at {} is no stream", clean(&self.subject))),
        })
    }

    fn no_stream(&self) -> String {
        let (subject, stream) = (clean(&self.subject), self.stream.as_deref().unwrap_or("EVENTS"));
        format!(
            "no stream takes {subject}; `create-stream = true` makes one, and so does `nats stream add {} --subjects \
             {subject} --storage file --dupe-window 10m --defaults`",
            clean(stream)
        )
    }
}

/// What is read of an acknowledgement.
#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    stream: String,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    description: String,
}

impl Stream for NatsStream {
    fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    async fn send(&self, token: Token, batch: &Batch) -> Result<(), String> {
        let (needed, most) = (batch.payload.len() + HEADERS, self.client.server_info().max_payload);
        if needed > most {
            return Err(format!("a batch needs {needed} bytes, and the server's `max_payload` is {most}; raise it"));
        }
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", batch.id.as_str());
        if let Some(stream) = &self.stream {
            headers.insert("Nats-Expected-Stream", stream.as_str());
        }
        if let Some(lines) = batch.gap {
            headers.insert(GAP_HEADER, lines.to_string().as_str());
        }
        let reply = format!("{}.{}.{}", self.inbox, token.round, token.number);
        let payload = batch.payload.clone().into();
        let sent = self.client.publish_with_reply_and_headers(self.subject.clone(), reply, headers, payload).await;
        sent.map_err(|error| clean(&reasons(&error)))
    }

    async fn said(&mut self) -> Option<Said> {
        loop {
            tokio::select! {
                message = self.acknowledgements.next() => {
                    let message = message?;
                    if let Some(said) = self.answer(&message) {
                        return Some(said);
                    }
                }
                Some(reason) = self.denied.recv() => return Some(Said::Denied(reason)),
            }
        }
    }

    async fn reconnect(&self) {
        // If it fails, the client has ended, which is noticed.
        let _ = self.client.force_reconnect().await;
    }

    async fn prepare(&self) -> Result<(), String> {
        let (Some(stream), true) = (&self.stream, self.create) else { return Ok(()) };
        let wrong = |reason: &str| format!("the stream {} cannot be created: {}", clean(stream), clean(reason));
        let create = async |copies| {
            let configuration = configuration(stream, &self.subject, copies);
            let request = async_nats::Request::new().payload(configuration.into()).timeout(Some(REQUEST));
            let answer = self.client.send_request(format!("$JS.API.STREAM.CREATE.{stream}"), request).await;
            created(&answer.map_err(|error| reasons(&error))?.payload)
        };
        let made = match create(COPIES).await {
            Err(reason) if reason.contains(NO_CLUSTER) => create(1).await,
            other => other,
        };
        made.map_err(|reason| wrong(&reason))
    }
}

/// Returns the settings of a stream that takes these subjects, as JetStream reads them.
fn configuration(stream: &str, subjects: &str, copies: u32) -> String {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let configuration = serde_json::json!({
        "name": stream,
        "subjects": [subjects],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_age": nanoseconds(MAX_AGE),
        "max_bytes": MAX_BYTES,
        "duplicate_window": nanoseconds(KNOWN),
        "num_replicas": copies,
    });
    configuration.to_string()
}

/// Reads the answer to the creation of a stream.
fn created(answer: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Created {
        error: Option<Refusal>,
    }
    let answer: Created = message::read(answer, MAX_ANSWER).map_err(|error| error.to_string())?;
    match answer.error {
        // With other settings: those of whoever made it hold.
        Some(error) if error.description.contains("already in use") => Ok(()),
        Some(error) => Err(error.description),
        None => Ok(()),
    }
}

/// Creates the stream of the events of a fleet's agents, if it does not exist.
///
/// # Errors
/// [`BusError`]
pub async fn create<B: Bus>(bus: &B) -> Result<(), BusError> {
    let create = async |copies| {
        let configuration = configuration(names::EVENTS, names::ALL_EVENTS, copies);
        let subject = format!("$JS.API.STREAM.CREATE.{}", names::EVENTS);
        created(&bus.request(subject, configuration.into_bytes(), REQUEST).await?)
            .map_err(|reason| BusError::Store(clean(&reason)))
    };
    match create(COPIES).await {
        Err(BusError::Store(text)) if text.contains(NO_CLUSTER) => create(1).await,
        other => other,
    }
}
