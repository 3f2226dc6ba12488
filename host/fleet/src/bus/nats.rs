//! The bus on NATS.
//!
//! The registry is a key-value bucket of JetStream, as other clients see it too. It is used by its four requests alone:
//! without a consumer and without a watch, of which a server has no thousands.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Message, RequestErrorKind, ServerError, StatusCode,
};
use flowgate_base::{Backoff, text::clean};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::sync::watch;

use super::{Bus, BusError, Delivery, Subscription};
use crate::{
    config::{Server, Servers},
    keys::ConnectKey,
    message::MessageError,
    names, random,
};

/// How long a request to the server itself may take.
pub(super) const SERVER: Duration = Duration::from_secs(5);
/// The most bytes of an answer of the server.
const MAX_ANSWER: usize = 32 << 20;
/// What JetStream calls it if the last message of a subject is another one than was expected.
const WRONG_LAST: u64 = 10071;
/// Pauses between attempts to connect again.
const RECONNECT: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));
/// Copies of a stream in a cluster, so that one server can fail.
const COPIES: u32 = 3;
/// Keys of buckets in one answer of the server are at most this many.
const MAX_KEYS: usize = 100_000;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server cannot be reached.
    #[error("{} cannot be reached: {}", clean(server), clean(reason))]
    Unreachable {
        /// The server.
        server: String,
        /// Why.
        reason: String,
    },
    /// The server does not know the key.
    #[error(
        "{} does not let this key in; its configuration has the keys of `fleet enrol`, and takes them when it is reloaded",
        clean(server)
    )]
    Unknown {
        /// The server.
        server: String,
    },
    /// TLS failed.
    #[error("{}: no encrypted connection with the certificate in {}: {}", clean(server), clean(ca), clean(reason))]
    Tls {
        /// The server.
        server: String,
        /// The file with the certificate.
        ca: String,
        /// Why.
        reason: String,
    },
}

impl ConnectError {
    pub(crate) fn new(error: &async_nats::ConnectError, server: String, ca: &str) -> Self {
        let (reason, ca) = (clean(&reasons(error)), ca.to_owned());
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                ConnectError::Unknown { server }
            }
            ConnectErrorKind::Tls => ConnectError::Tls { server, ca, reason },
            // The server closes the connection on a user whom it does not know before it says so.
            _ if reason.contains("authorization violation") => ConnectError::Unknown { server },
            _ if reason.contains("ertificate") => ConnectError::Tls { server, ca, reason },
            _ => ConnectError::Unreachable { server, reason },
        }
    }
}

/// What it takes to connect.
#[derive(Clone, Debug)]
pub struct Connection<'a> {
    /// The servers, of which one is taken at random, and another when it fails.
    pub server: &'a Servers,
    /// The certificate that the server's is signed with.
    pub ca: &'a Path,
    /// The key.
    pub key: &'a ConnectKey,
    /// The name in the server's list of connections.
    pub name: &'a str,
    /// The most messages of a subscription that wait.
    pub waiting: usize,
}

/// What the server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version.
    pub version: String,
    /// True if it has JetStream.
    pub jetstream: bool,
    /// The most bytes of a message.
    pub max_payload: usize,
}

/// A connection to NATS.
#[derive(Clone, Debug)]
pub struct Nats {
    client: Client,
    inbox: String,
    connections: watch::Receiver<u64>,
    /// The last refusal of the server, which comes beside the answers.
    denied: watch::Receiver<String>,
}

impl Nats {
    /// Connects once; a connection that breaks later is made again, for as long as it takes.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub async fn connect(connection: &Connection<'_>) -> Result<Self, ConnectError> {
        let Connection { server, ca, key, name, waiting } = connection;
        let (connected, connections) = watch::channel(0);
        let before = connections.clone();
        let (told, denied) = watch::channel(String::new());
        let inbox = names::inbox(key.id().as_str());
        let options = ConnectOptions::with_nkey(key.seed())
            .add_root_certificates(PathBuf::from(ca))
            .require_tls(true)
            .name(name)
            .custom_inbox_prefix(&inbox)
            .ignore_discovered_servers()
            .subscription_capacity(*waiting)
            .ping_interval(Duration::from_secs(15))
            .reconnect_delay_callback(move |attempts| match *before.borrow() {
                // Whoever connects for the first time waits for nobody; after a break of the server, all would.
                0 => Duration::ZERO,
                _ => random::jitter(RECONNECT.pause(u32::try_from(attempts).unwrap_or(u32::MAX).max(1))),
            })
            .event_callback(move |event| {
                match event {
                    Event::Connected => connected.send_modify(|count| *count += 1),
                    Event::ServerError(ServerError::Other(text)) => {
                        told.send_replace(clean(&text));
                    }
                    _ => {}
                }
                async {}
            });
        let shown = server.to_string();
        let addresses: Vec<String> = server.all().iter().map(Server::url).collect();
        let client = options.connect(addresses).await;
        let client = client.map_err(|error| ConnectError::new(&error, shown, &ca.display().to_string()))?;
        Ok(Nats { client, inbox, connections, denied })
    }

    /// Returns what the server says about itself.
    #[must_use]
    pub fn server(&self) -> ServerFacts {
        let info = self.client.server_info();
        ServerFacts { version: clean(&info.version), jetstream: info.jetstream, max_payload: info.max_payload }
    }

    /// Returns the addresses of all servers, connections to which actions leave alone.
    ///
    /// # Errors
    /// If a name cannot be resolved.
    pub async fn addresses(servers: &Servers) -> std::io::Result<Vec<SocketAddr>> {
        let mut addresses = Vec::new();
        for server in servers.all() {
            addresses.extend(tokio::net::lookup_host((server.host(), server.port())).await?);
        }
        Ok(addresses)
    }

    pub(super) async fn ask(
        &self,
        subject: String,
        payload: Vec<u8>,
        headers: Option<HeaderMap>,
        within: Duration,
    ) -> Result<Message, BusError> {
        let mut request = async_nats::Request::new().payload(payload.into()).timeout(Some(within));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let mut denied = self.denied.clone();
        denied.mark_unchanged();
        let named = format!("\"{subject}\"");
        // A request that is not permitted is never answered.
        let refused = async {
            while denied.changed().await.is_ok() {
                let text = denied.borrow_and_update().clone();
                if text.contains(&named) {
                    return text;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            answer = self.client.send_request(subject, request) => answer.map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => BusError::Nobody,
                RequestErrorKind::TimedOut => BusError::TimedOut(within),
                _ => BusError::Other(clean(&reasons(&error))),
            }),
            text = refused => Err(BusError::Denied(text)),
        }
    }

    /// Sends a request to JetStream.
    pub(super) async fn store(
        &self,
        subject: String,
        payload: Vec<u8>,
        headers: Option<HeaderMap>,
    ) -> Result<StoreAnswer, BusError> {
        let message = self.ask(subject, payload, headers, SERVER).await.map_err(|error| match error {
            BusError::Nobody => {
                BusError::Store("nobody answers; it is switched off, or the bucket does not exist".into())
            }
            other => other,
        })?;
        let unreadable = |error: MessageError| BusError::Store(error.to_string());
        let answer: StoreAnswer = crate::message::read(&message.payload, MAX_ANSWER).map_err(unreadable)?;
        match answer.error {
            Some(error) if error.err_code == WRONG_LAST => Err(BusError::Conflict(clean(&error.description))),
            Some(error) => Err(BusError::Store(clean(&error.description))),
            None => Ok(answer),
        }
    }

    /// Creates a stream, with three copies in a cluster. What exists with the same settings is no error; with others,
    /// those of the owner of the server hold.
    pub(super) async fn create(&self, name: &str, mut configuration: serde_json::Value) -> Result<(), BusError> {
        let mut create = async |copies: u32| {
            configuration["num_replicas"] = copies.into();
            let payload = configuration.to_string().into();
            self.store(format!("$JS.API.STREAM.CREATE.{name}"), payload, None).await
        };
        // A server that is no cluster takes one copy alone, and says so.
        let created = match create(COPIES).await {
            Err(BusError::Store(text)) if text.contains("non-clustered") => create(1).await,
            other => other,
        };
        match created {
            Err(BusError::Store(text)) if text.contains("already in use") => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

/// Returns an error and its causes, where a cause says something that has not been said.
pub(crate) fn reasons(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

/// What is read of an answer of JetStream.
#[derive(Deserialize)]
pub(super) struct StoreAnswer {
    error: Option<StoreError>,
    #[serde(default)]
    pub(super) state: StoreState,
    #[serde(default)]
    total: usize,
    /// The number of a message that was stored.
    #[serde(default)]
    pub(super) seq: Option<u64>,
}

#[derive(Deserialize)]
struct StoreError {
    #[serde(default)]
    description: String,
    #[serde(default)]
    err_code: u64,
}

#[derive(Default, Deserialize)]
pub(super) struct StoreState {
    #[serde(default)]
    pub(super) first_seq: u64,
    #[serde(default)]
    pub(super) last_seq: u64,
    #[serde(default)]
    subjects: std::collections::BTreeMap<String, u64>,
}

/// Messages of a subject.
#[derive(Debug)]
pub struct NatsSubscription(async_nats::Subscriber);

impl Subscription for NatsSubscription {
    async fn next(&mut self) -> Option<Delivery> {
        let message = self.0.next().await?;
        Some(Delivery {
            subject: message.subject.to_string(),
            reply: message.reply.map(|reply| reply.to_string()),
            payload: message.payload.into(),
            nobody: message.status == Some(StatusCode::NO_RESPONDERS),
        })
    }
}

impl Bus for Nats {
    type Subscription = NatsSubscription;

    async fn publish(&self, subject: String, reply: Option<String>, payload: Vec<u8>) -> Result<(), BusError> {
        let sent = match reply {
            Some(reply) => self.client.publish_with_reply(subject, reply, payload.into()).await,
            None => self.client.publish(subject, payload.into()).await,
        };
        sent.map_err(|error| BusError::Other(clean(&reasons(&error))))
    }

    async fn subscribe(&self, subject: String) -> Result<NatsSubscription, BusError> {
        let subscriber = self.client.subscribe(subject).await;
        subscriber.map(NatsSubscription).map_err(|error| BusError::Other(clean(&reasons(&error))))
    }

    async fn flush(&self) -> Result<(), BusError> {
        self.client.flush().await.map_err(|error| BusError::Other(clean(&reasons(&error))))
    }

    async fn request(&self, subject: String, payload: Vec<u8>, within: Duration) -> Result<Vec<u8>, BusError> {
        self.ask(subject, payload, None, within).await.map(|message| message.payload.into())
    }

    fn inbox(&self) -> String {
        format!("{}.{}", self.inbox, random::id())
    }

    fn max_payload(&self) -> usize {
        self.client.server_info().max_payload
    }

    fn connections(&self) -> watch::Receiver<u64> {
        self.connections.clone()
    }

    async fn prepare(&self, bucket: &str) -> Result<(), BusError> {
        let configuration = serde_json::json!({
            "name": format!("KV_{bucket}"),
            "subjects": [format!("$KV.{bucket}.>")],
            "max_msgs_per_subject": 1,
            "max_msg_size": names::largest_value(bucket),
            "max_bytes": names::largest_bucket(bucket).map_or(-1, u64::cast_signed),
            "discard": "new",
            "storage": "file",
            "retention": "limits",
            "allow_direct": true,
            "allow_rollup_hdrs": true,
            "deny_delete": true,
        });
        self.create(&format!("KV_{bucket}"), configuration).await
    }

    async fn put(&self, bucket: &str, key: &str, value: Vec<u8>) -> Result<(), BusError> {
        self.store(format!("$KV.{bucket}.{key}"), value, None).await.map(|_| ())
    }

    async fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, BusError> {
        Ok(self.get_revision(bucket, key).await?.map(|(value, _)| value))
    }

    async fn get_revision(&self, bucket: &str, key: &str) -> Result<Option<(Vec<u8>, u64)>, BusError> {
        let subject = format!("$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}");
        let message = self.ask(subject, Vec::new(), None, SERVER).await?;
        let sequence = message.headers.as_ref().and_then(|headers| headers.get("Nats-Sequence"));
        let sequence = sequence.and_then(|text| text.as_str().parse().ok()).unwrap_or_default();
        match message.status {
            None | Some(StatusCode::OK) => Ok(Some((message.payload.into(), sequence))),
            Some(status) if status.as_u16() == 404 => Ok(None),
            Some(status) => Err(BusError::Store(format!("{status} for {key}"))),
        }
    }

    async fn replace(&self, bucket: &str, key: &str, value: Vec<u8>, revision: u64) -> Result<u64, BusError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", revision.to_string());
        let answer = self.store(format!("$KV.{bucket}.{key}"), value, Some(headers)).await?;
        Ok(answer.seq.unwrap_or_default())
    }

    async fn keys(&self, bucket: &str) -> Result<Vec<String>, BusError> {
        let prefix = format!("$KV.{bucket}.");
        let mut keys = Vec::new();
        loop {
            let question = serde_json::json!({ "subjects_filter": format!("{prefix}>"), "offset": keys.len() });
            let answer =
                self.store(format!("$JS.API.STREAM.INFO.KV_{bucket}"), question.to_string().into(), None).await?;
            let found = answer.state.subjects.len();
            keys.extend(
                answer.state.subjects.into_keys().filter_map(|subject| Some(subject.strip_prefix(&prefix)?.to_owned())),
            );
            if found == 0 || keys.len() >= answer.total || keys.len() >= MAX_KEYS {
                return Ok(keys);
            }
        }
    }

    async fn remove(&self, bucket: &str, key: &str) -> Result<(), BusError> {
        let question = serde_json::json!({ "filter": format!("$KV.{bucket}.{key}") });
        self.store(format!("$JS.API.STREAM.PURGE.KV_{bucket}"), question.to_string().into(), None).await.map(|_| ())
    }
}
