//! Delivering what pipelines write into sinks that have a spool: joins the spool of the pipeline with the stream of the
//! fleet.

use flowgate_pipeline::sink::{Shippers, SinkKind, SinkSpec};

/// Returns what makes the shippers of sinks.
#[cfg(feature = "fleet")]
pub(super) fn shippers() -> Shippers {
    Shippers(nats::shipper)
}

/// Returns what makes the shippers of sinks.
#[cfg(not(feature = "fleet"))]
pub(super) fn shippers() -> Shippers {
    Shippers(|options| {
        let (sink, reason) = (options.name(), WITHOUT.into());
        Err(flowgate_pipeline::sink::SinkError::Unavailable { sink, reason })
    })
}

/// What is said of sinks without the client of NATS.
#[cfg(not(feature = "fleet"))]
const WITHOUT: &str = "this program was built without the feature `fleet`, which has the client of NATS";

/// Returns the problem that would make opening a sink fail, as far as it can be found without opening or creating
/// anything.
pub(super) fn problem(sink: &SinkSpec) -> Option<String> {
    sink.problem().or_else(|| match &sink.kind {
        #[cfg(feature = "fleet")]
        SinkKind::Nats(options) => nats::options(options).err(),
        #[cfg(not(feature = "fleet"))]
        SinkKind::Nats(_) => Some(WITHOUT.into()),
        _ => None,
    })
}

#[cfg(feature = "fleet")]
mod nats {
    use std::{
        future::poll_fn,
        task::{Context, Poll},
        time::Duration,
    };

    use flowgate_base::{Backoff, Warnings, clock::now, text::clean, units::show_time};
    use flowgate_fleet::{
        config::AgentFile,
        events::{Batch, Batches, NatsStream, StreamOptions, ship},
        keys::ConnectKey,
        names, random,
    };
    use flowgate_pipeline::{
        sink::{
            SinkError, keep_to_built_in_services,
            nats::NatsOptions,
            spooled::{Change, Content, Outgoing, Parcel, Shipper},
        },
        spool::Gap,
    };

    /// Pauses between attempts to connect for the first time.
    const CONNECT: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));

    /// Returns what delivers into a stream of NATS.
    pub(super) fn shipper(options: &NatsOptions) -> Result<Box<dyn Shipper>, SinkError> {
        let failed = |reason| SinkError::Unavailable { sink: options.name(), reason };
        let (id, stream) = self::options(options).map_err(failed)?;
        Ok(Box::new(NatsShipper { name: options.name(), id, options: stream }))
    }

    /// Reads the files that the options name. Returns who sends as well.
    pub(super) fn options(options: &NatsOptions) -> Result<(String, StreamOptions), String> {
        let agent = options.agent.as_deref().map(AgentFile::read).transpose().map_err(|error| error.to_string())?;
        let agent = agent.map(|(file, _)| file);
        let servers: Result<Vec<_>, String> = options.servers.iter().map(|server| server.parse()).collect();
        let mut servers = servers?;
        if servers.is_empty() {
            servers.extend(agent.iter().flat_map(|file| file.server.all()).cloned());
        }
        let of_agent = agent.as_ref();
        let ca = options.ca.clone().or_else(|| of_agent.map(|file| file.ca.clone())).filter(|_| options.tls);
        let key = options.key.clone().or_else(|| of_agent.map(|file| file.key.clone()));
        let key = key.map(|path| ConnectKey::read(&path)).transpose().map_err(|error| error.to_string())?;
        let subject = match (&options.subject, &key) {
            (Some(subject), _) => subject.clone(),
            (None, Some(key)) => names::events(&key.id(), &pipeline(options)?),
            (None, None) => return Err("it needs a `subject`".into()),
        };
        let in_fleet = options.subject.is_none().then(|| names::EVENTS.to_owned());
        let host = || -> String {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            name.trim().chars().filter(|character| character.is_ascii_alphanumeric() || *character == '-').collect()
        };
        let id = options.id.clone().or_else(|| key.as_ref().map(|key| key.id().to_string())).unwrap_or_else(host);
        let stream = StreamOptions {
            servers,
            tls: options.tls,
            ca,
            key,
            name: format!("flowgate {id}"),
            subject,
            stream: options.stream.clone().or(in_fleet),
            create: options.create_stream,
        };
        Ok((id, stream))
    }

    /// Returns the name of the directory of the spool, which is the last word of the subject.
    fn pipeline(options: &NatsOptions) -> Result<String, String> {
        let name = options.spool.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        match !name.is_empty() && name.len() <= names::MAX_NAME && name.bytes().all(plain) {
            true => Ok(name.to_owned()),
            false => Err(format!(
                "it needs a `subject`: the last word of its own would be the name of the spool's directory, \"{}\", \
                 which has other characters than letters, digits, `-` and `_`",
                clean(name)
            )),
        }
    }

    struct NatsShipper {
        name: String,
        /// Who sends.
        id: String,
        options: StreamOptions,
    }

    impl Shipper for NatsShipper {
        fn name(&self) -> String {
            self.name.clone()
        }

        fn run(self: Box<Self>, outgoing: Outgoing, warnings: &Warnings) {
            keep_to_built_in_services();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    let error = flowgate_base::io_error::error_text(&error);
                    warnings.line(&format!("WARNING: sink {}: nothing is delivered: {error}.", self.name));
                    return;
                }
            };
            let mut batches = Spooled { id: self.id.clone(), outgoing };
            // The log is that of plugins; what the client of NATS has to say is in warnings.
            tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), || {
                runtime.block_on(self.deliver(&mut batches, warnings));
            });
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
        }
    }

    impl NatsShipper {
        /// Connects and delivers until it is over.
        async fn deliver(&self, batches: &mut Spooled, warnings: &Warnings) {
            let (mut failures, mut told) = (0, String::new());
            loop {
                let connected = tokio::select! {
                    _ = poll_fn(|context| batches.poll_more(context, false)) => return,
                    connected = NatsStream::connect(&self.options) => connected.map_err(|error| error.to_string()),
                };
                let ended = match connected {
                    Ok(mut stream) => {
                        if !std::mem::take(&mut told).is_empty() {
                            warnings.line(&format!("NOTICE: sink {}: connected.", self.name));
                        }
                        failures = 0;
                        match ship(&mut stream, batches, &self.name, warnings).await {
                            Ok(()) => return,
                            Err(reason) => reason,
                        }
                    }
                    Err(reason) => reason,
                };
                failures += 1;
                let pause = random::jitter(CONNECT.pause(failures));
                if told != ended {
                    let next = show_time(pause);
                    warnings.line(&format!(
                        "WARNING: sink {}: {ended}; next attempt in {next}, and what is written is in its spool.",
                        self.name
                    ));
                    told = ended;
                }
                tokio::select! {
                    _ = poll_fn(|context| batches.poll_more(context, false)) => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }

    /// The batches of a spool as messages.
    struct Spooled {
        id: String,
        outgoing: Outgoing,
    }

    impl Batches for Spooled {
        fn next(&mut self) -> Result<Option<Batch>, String> {
            let parcel = self.outgoing.next_parcel().map_err(|error| error.to_string())?;
            Ok(parcel.map(|parcel| message(&self.id, parcel)))
        }

        fn acknowledge(&mut self, number: u64) -> Result<(), String> {
            self.outgoing.acknowledge(number).map_err(|error| error.to_string())
        }

        fn rewind(&mut self) {
            self.outgoing.rewind();
        }

        fn poll_more(&mut self, context: &mut Context<'_>, more: bool) -> Poll<bool> {
            self.outgoing.poll_change(context, more).map(|change| change == Change::More)
        }
    }

    /// Returns a message.
    fn message(id: &str, parcel: Parcel) -> Batch {
        let Parcel { number, epoch, content } = parcel;
        let (payload, gap) = match content {
            Content::Lines(lines) => (lines, None),
            Content::Gap(gap) => (gap_row(gap), Some(gap.lines)),
        };
        Batch { number, id: format!("{id}-{epoch:016x}-{number}"), payload, gap }
    }

    /// Returns a gap as the stock format `json` shows one, whatever the format of the rows is: most have no gaps.
    fn gap_row(gap: Gap) -> Vec<u8> {
        let time = if gap.time == 0 { now() } else { gap.time };
        let mut row = serde_json::json!({ "type": "flow", "time": time, "event": "gap", "event_kind": 4 });
        if let (Some(row), true) = (row.as_object_mut(), gap.lines > 0) {
            row.insert("lost".into(), gap.lines.into());
        }
        if let Some(row) = row.as_object_mut() {
            row.insert("batches".into(), gap.batches.into());
        }
        format!("{row}\n").into_bytes()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn messages_have_ids_that_stay_the_same_and_gaps_are_rows() {
            let lines = |number, epoch| Parcel { number, epoch, content: Content::Lines(b"row\n".to_vec()) };
            let one = message("host", lines(7, 255));
            assert_eq!((one.id.as_str(), one.gap), ("host-00000000000000ff-7", None));
            assert_eq!(message("host", lines(7, 255)), one);
            assert_ne!(message("host", lines(7, 256)).id, one.id);
            let gap = Gap { batches: 2, lines: 31, time: 5 };
            let row = message("host", Parcel { number: 8, epoch: 255, content: Content::Gap(gap) });
            let value: serde_json::Value = serde_json::from_slice(&row.payload).unwrap();
            let expected = serde_json::json!({
                "type": "flow", "time": 5, "event": "gap", "event_kind": 4, "lost": 31, "batches": 2
            });
            assert_eq!((value, row.gap), (expected, Some(31)));
            let unknown = gap_row(Gap { batches: 1, lines: 0, time: 5 });
            assert!(!String::from_utf8(unknown).unwrap().contains("lost"));
        }
    }
}
