//! Sinks that are streams of NATS.

use std::time::Duration;

use super::{
    diagnostic::Located,
    reader::{Fields, Reader},
};
use flowgate_base::{
    text::clean,
    units::{show_size, show_time},
};
use flowgate_pipeline::{
    sink::{
        nats::NatsOptions,
        spooled::{MIN_BATCH, SpoolOptions},
    },
    spool::{MAX_BATCH, MIN_LIMIT},
};

/// The port of NATS.
const PORT: u16 = 4222;
/// The most servers.
const MAX_SERVERS: usize = 16;
/// The most bytes of a subject.
const MAX_SUBJECT: usize = 255;
/// The most bytes of the name of a stream, and of an id.
const MAX_NAME: usize = 64;
/// Times for which lines may wait for others.
const BATCH_TIMES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(60)];

impl Reader<'_> {
    pub(super) fn nats(&mut self, fields: &Fields) -> Option<NatsOptions> {
        let path = |reader: &Self, name: &str| fields.text(name).map(|text| reader.path(&text.value));
        let agent = path(self, "agent");
        let servers = self.servers(fields);
        let missing = |name: &str| fields.key(name).is_none() && agent.is_none();
        for name in ["server", "subject"].into_iter().filter(|name| missing(name)) {
            self.wrong(fields.offset, format!("a sink of `nats` needs `{name}`, or the `agent` of a fleet"));
        }
        let tls = fields.switch("tls").unwrap_or(true);
        if let Some(offset) = fields.key("ca").filter(|_| !tls) {
            self.wrong(offset, "`ca` is for encrypted connections; leave out `tls = false`");
        }
        let stream = fields.text("stream");
        let create_stream = fields.switch("create-stream").unwrap_or(false);
        if let Some(offset) = fields.key("create-stream").filter(|_| create_stream && stream.is_none()) {
            self.wrong(offset, "`create-stream` needs the name of a `stream`");
        }
        let spool = self.spool(fields)?;
        Some(NatsOptions {
            servers: servers?,
            agent,
            tls,
            ca: path(self, "ca"),
            key: path(self, "key"),
            subject: self.subject(fields),
            stream: stream.and_then(|stream| self.plain_name("stream", stream)),
            create_stream,
            id: fields.text("id").and_then(|id| self.plain_name("id", id)),
            spool,
        })
    }

    fn servers(&mut self, fields: &Fields) -> Option<Vec<String>> {
        let words = fields.words("server").unwrap_or_default();
        if let Some(offset) = fields.key("server").filter(|_| words.is_empty() || words.len() > MAX_SERVERS) {
            self.wrong(offset, format!("`server` takes 1 to {MAX_SERVERS} servers, not {}", words.len()));
            return None;
        }
        words.iter().map(|word| self.host_and_port("server", word, &word.value, Some(PORT))).collect()
    }

    fn subject(&mut self, fields: &Fields) -> Option<String> {
        let subject = fields.text("subject")?;
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'>');
        let named = |token: &str| !token.is_empty() && token.bytes().all(plain);
        let text = subject.value.as_str();
        if text.len() > MAX_SUBJECT || text.starts_with('$') || !text.split('.').all(named) {
            let what =
                "`subject` takes words with dots between them, without blanks, `*` and `>`, such as `flows.web-1`";
            self.wrong(subject.offset, format!("{what}, not \"{}\"", clean(text)));
            return None;
        }
        Some(subject.value)
    }

    fn plain_name(&mut self, key: &str, name: Located<String>) -> Option<String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.value.is_empty() || name.value.len() > MAX_NAME || !name.value.bytes().all(plain) {
            let what = format!("`{key}` takes 1 to {MAX_NAME} letters, digits, `-` and `_`");
            self.wrong(name.offset, format!("{what}, not \"{}\"", clean(&name.value)));
            return None;
        }
        Some(name.value)
    }

    fn spool(&mut self, fields: &Fields) -> Option<SpoolOptions> {
        let mut spool = SpoolOptions::new(self.needed_path(fields, "spool", "sink", "nats")?);
        if let Some(size) = fields.count("spool-size") {
            spool.limit = self.at_least("spool-size", size, MIN_LIMIT);
        }
        if let Some(size) = fields.count("batch") {
            match usize::try_from(size.value).ok().filter(|size| (MIN_BATCH..=MAX_BATCH).contains(size)) {
                Some(size) => spool.batch = size,
                None => {
                    let (least, most) = (show_size(MIN_BATCH as u64), show_size(MAX_BATCH as u64));
                    self.wrong(size.offset, format!("`batch` must be {least} to {most}, not {}B", size.value));
                }
            }
        }
        if let Some(time) = fields.time("batch-time") {
            let [least, most] = BATCH_TIMES;
            if !(least..=most).contains(&time.value) {
                let (least, most, given) = (show_time(least), show_time(most), show_time(time.value));
                self.wrong(time.offset, format!("`batch-time` must be {least} to {most}, not {given}"));
            }
            spool.batch_time = time.value;
        }
        Some(spool)
    }
}
