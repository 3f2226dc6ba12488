//! A stream of NATS as a sink, as a value. What connects to NATS is a [`Shipper`](super::spooled::Shipper) that the
//! program brings ([`Shippers`](super::Shippers)).

use std::{io::ErrorKind, path::PathBuf, time::Duration};

use super::{outbox::WhenFull, spooled::SpoolOptions};
use crate::spool::{MAX_BATCH, MIN_LIMIT};
use flowgate_base::{
    files::{Directory, Trust, WalkOptions},
    io_error::error_text,
    text::{clean, path_text},
    units::{show_size, show_time},
};

/// A stream of NATS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsOptions {
    /// The servers, as `HOST:PORT`, of which one is enough; those of the agent if there are none.
    pub servers: Vec<String>,
    /// The file of an agent of a fleet, from which servers, `ca` and `key` are taken where they are not given.
    pub agent: Option<PathBuf>,
    /// True if connections are encrypted.
    pub tls: bool,
    /// The certificate that the servers' are signed with; those of the system if there is none.
    pub ca: Option<PathBuf>,
    /// The file with the nkey to connect with.
    pub key: Option<PathBuf>,
    /// The subject; that of the agent's events if there is none.
    pub subject: Option<String>,
    /// The stream that takes the subject.
    pub stream: Option<String>,
    /// True if the stream is created where it does not exist.
    pub create_stream: bool,
    /// Who sends, as the beginning of the ids of messages; the public key, or the name of the host, if it is not given.
    pub id: Option<String>,
    /// Where batches are until they are acknowledged.
    pub spool: SpoolOptions,
}

impl NatsOptions {
    /// Returns the name of the sink in messages.
    #[must_use]
    pub fn name(&self) -> String {
        format!("nats {}", self.servers())
    }

    /// Returns the servers as text.
    #[must_use]
    pub fn servers(&self) -> String {
        match &self.agent {
            Some(agent) if self.servers.is_empty() => format!("of {}", path_text(agent)),
            _ => clean(&self.servers.join(", ")),
        }
    }

    /// Returns the subject as text.
    #[must_use]
    pub fn subject(&self) -> String {
        self.subject.as_deref().map_or_else(|| "of the agent's events".into(), clean)
    }

    /// Returns what would make opening it fail, as far as that can be found without opening or creating anything.
    pub(super) fn problem(&self) -> Option<String> {
        let files = [&self.agent, &self.ca, &self.key];
        let missing = files.into_iter().flatten().find(|path| !path.is_file());
        if let Some(path) = missing {
            return Some(format!("there is no file {}", path_text(path)));
        }
        let SpoolOptions { path, limit, batch, .. } = &self.spool;
        if *limit < MIN_LIMIT || *batch > MAX_BATCH {
            return Some(format!(
                "a spool has at least {}, and batches of at most {}",
                show_size(MIN_LIMIT),
                show_size(MAX_BATCH as u64)
            ));
        }
        // It is created where it does not exist.
        let trusted = Directory::walk(path, WalkOptions::trusting(Trust::Exclusive));
        let refused = trusted.err().filter(|error| error.kind() != ErrorKind::NotFound);
        refused.map(|error| format!("the spool {}: {}", path_text(path), error_text(&error)))
    }

    /// Returns its properties, for people.
    pub(crate) fn details(&self, when_full: WhenFull, linger: Duration) -> Vec<String> {
        let SpoolOptions { path, limit, batch, batch_time } = &self.spool;
        let stream = self.stream.as_ref().map(|stream| {
            let made = if self.create_stream { ", which is created if it does not exist" } else { "" };
            format!(" of the stream {}{made}", clean(stream))
        });
        let full = match when_full {
            WhenFull::Drop => "batches are dropped and told as gaps when it is full",
            WhenFull::Wait => "the pipeline waits when it is full",
        };
        let tls = if self.tls { "encrypted" } else { "not encrypted" };
        vec![
            format!("subject {}{}; {tls}", self.subject(), stream.unwrap_or_default()),
            format!("batches of at most {}, after {} at the latest", show_size(*batch as u64), show_time(*batch_time)),
            format!("a spool of {} in {}, {full}", show_size(*limit), path_text(path)),
            format!("the end waits up to {} for acknowledgements; the rest stays in the spool", show_time(linger)),
        ]
    }
}
