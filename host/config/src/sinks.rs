//! The sinks of a pipeline file.

use std::time::Duration;

use super::{
    diagnostic::Located,
    reader::{Fields, Reader},
};
use flowgate_base::{files::Trust, units::show_time};
use flowgate_pipeline::sink::{
    BufferSpec, SinkKind, SinkSpec,
    file::{FileOptions, Rotation},
    outbox::WhenFull,
    syslog::{FACILITIES, LOCAL, MAX_APP_NAME, MAX_MESSAGE, SEVERITIES, Target},
};

/// Minimum size of a socket's buffer.
const LEAST_BUFFER: u64 = 4 << 10;
/// Minimum age at which rotated files are removed; they are searched once a minute.
const LEAST_AGE: Duration = Duration::from_secs(60);
/// Minimum for the maximum length of messages of the system log (RFC 5424, section 6.1).
const LEAST_MESSAGE: u64 = 480;
/// Maximum length of a message in a UDP datagram, with some room for headers.
const MOST_UDP: u64 = 65_000;

/// A sink of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    /// The place of its section.
    pub offset: usize,
    /// The specification of the sink.
    pub spec: SinkSpec,
}

impl SinkConfig {
    /// Returns standard output.
    #[must_use]
    pub fn stdout() -> Self {
        SinkConfig { offset: 0, spec: SinkSpec::stdout() }
    }
}

impl Reader<'_> {
    /// Returns all valid sinks; standard output if the file has none.
    pub(super) fn sinks(&mut self) -> Vec<SinkConfig> {
        match self.sections.remove("sink") {
            Some(sections) => self.sinks_of(&sections),
            None => vec![SinkConfig::stdout()],
        }
    }

    /// Returns the sinks of these sections.
    pub fn sinks_of(&mut self, sections: &[Fields]) -> Vec<SinkConfig> {
        let mut sinks: Vec<SinkConfig> = Vec::new();
        for fields in sections {
            let Some(kind) = self.kind(fields, "sink") else { continue };
            self.only("sink", fields, &kind.value);
            let Some(sink) = self.sink(fields, &kind.value) else { continue };
            let output = sink.spec.output();
            let twin = |other: &SinkConfig| match (&output, other.spec.output()) {
                (Some(one), Some(two)) => one.clashes_with(&two),
                _ => sink.spec.kind == SinkKind::Stdout && other.spec.kind == SinkKind::Stdout,
            };
            if sinks.iter().any(twin) {
                self.wrong(fields.offset, "another sink has the same destination; each can be given once");
            }
            sinks.push(sink);
        }
        sinks
    }

    fn sink(&mut self, fields: &Fields, kind: &str) -> Option<SinkConfig> {
        let buffer = self.buffer(fields);
        let kind = match kind {
            "stdout" => SinkKind::Stdout,
            "file" => SinkKind::File(FileOptions {
                path: self.needed_path(fields, "path", "sink", kind)?,
                append: fields.switch("append").unwrap_or(true),
                rotation: self.rotation(fields),
                mode: None,
                trust: Trust::Sticky,
            }),
            "unix" => SinkKind::Unix(self.needed_path(fields, "path", "sink", kind)?),
            "tcp" => {
                let address = self.needed(fields, "address", "sink", kind)?;
                SinkKind::Tcp(self.host_and_port("address", &address, &address.value, None)?)
            }
            "nats" => SinkKind::Nats(self.nats(fields)?),
            _ => self.syslog(fields)?,
        };
        Some(SinkConfig { offset: fields.offset, spec: SinkSpec { kind, buffer } })
    }

    fn buffer(&mut self, fields: &Fields) -> BufferSpec {
        let default = BufferSpec::default();
        let capacity = fields.count("buffer").map(|size| self.at_least("buffer", size, LEAST_BUFFER));
        BufferSpec {
            capacity: capacity.and_then(|size| usize::try_from(size).ok()).unwrap_or(default.capacity),
            when_full: fields.text("when-full").map(|word| match word.value.as_str() {
                "wait" => WhenFull::Wait,
                _ => WhenFull::Drop,
            }),
            linger: fields.time("linger").map_or(default.linger, |time| time.value),
            optional: fields.switch("optional").unwrap_or(false),
        }
    }

    pub(super) fn at_least(&mut self, name: &str, size: Located<u64>, least: u64) -> u64 {
        if size.value < least {
            self.wrong(size.offset, format!("`{name}` must be at least {least}B, not {}B", size.value));
        }
        size.value
    }

    /// Reads when a file is rotated, if it is.
    pub fn rotation(&mut self, fields: &Fields) -> Option<Rotation> {
        let size = fields.count("rotate-size").map(|size| self.at_least("rotate-size", size, 1));
        let time = fields.time("rotate-time");
        if let Some(time) = time.as_ref().filter(|time| time.value < Duration::from_secs(1)) {
            self.wrong(time.offset, "`rotate-time` must be at least 1s");
        }
        if size.is_none() && time.is_none() {
            for name in ["keep", "keep-time", "compress"] {
                if let Some(offset) = fields.key(name) {
                    self.wrong(offset, format!("`{name}` needs `rotate-size` or `rotate-time`"));
                }
            }
            return None;
        }
        Some(Rotation {
            size,
            interval: time.map(|time| time.value),
            keep: fields.count("keep").and_then(|keep| u32::try_from(keep.value).ok()).unwrap_or(7),
            keep_time: self.keep_time(fields),
            compress: fields.switch("compress").unwrap_or(false),
        })
    }

    /// Reads the maximum age of rotated files.
    pub fn keep_time(&mut self, fields: &Fields) -> Option<Duration> {
        let time = fields.time("keep-time")?;
        if time.value < LEAST_AGE {
            let what = format!("`keep-time` must be at least {}, not {}", show_time(LEAST_AGE), show_time(time.value));
            self.wrong(time.offset, what);
        }
        Some(time.value)
    }

    fn syslog(&mut self, fields: &Fields) -> Option<SinkKind> {
        let address = fields.text("address").unwrap_or_else(|| Located::new(LOCAL.into(), fields.offset));
        let target = match address.value.split_once("://") {
            Some(("udp", host)) => Target::Udp(self.host_and_port("address", &address, host, Some(514))?),
            Some(("tcp", host)) => Target::Tcp(self.host_and_port("address", &address, host, Some(601))?),
            None if !address.value.is_empty() => Target::Local(self.path(&address.value)),
            _ => {
                let what = "`address` takes the path of a socket, `udp://HOST[:PORT]` or `tcp://HOST[:PORT]`";
                self.wrong(address.offset, format!("{what}, not \"{}\"", flowgate_base::text::clean(&address.value)));
                return None;
            }
        };
        let max_message = fields.count("max-message").map(|size| {
            if matches!(target, Target::Udp(_)) && size.value > MOST_UDP {
                self.wrong(size.offset, format!("with udp `max-message` is at most {MOST_UDP}B"));
            }
            self.at_least("max-message", size, LEAST_MESSAGE)
        });
        let app_name = fields.text("app-name").unwrap_or_else(|| Located::new("flowgate".into(), fields.offset));
        let graphic = app_name.value.bytes().all(|byte| byte.is_ascii_graphic());
        if !graphic || app_name.value.is_empty() || app_name.value.len() > MAX_APP_NAME {
            self.wrong(
                app_name.offset,
                format!("`app-name` takes 1 to {MAX_APP_NAME} printable characters of ASCII without blanks"),
            );
        }
        let number = |name: &str, table: &[(&str, u8)], default: u8| {
            let word = fields.text(name);
            word.and_then(|word| table.iter().find(|(known, _)| *known == word.value).map(|(_, number)| *number))
                .unwrap_or(default)
        };
        Some(SinkKind::Syslog {
            facility: number("facility", &FACILITIES, 3),
            severity: number("severity", &SEVERITIES, 6),
            app_name: app_name.value,
            max_message: max_message.and_then(|size| usize::try_from(size).ok()).unwrap_or(MAX_MESSAGE),
            target,
        })
    }

    /// Parses `HOST:PORT`, or `HOST` if there is a default port; IPv6 addresses are in brackets.
    pub(super) fn host_and_port(
        &mut self,
        key: &str,
        place: &Located<String>,
        text: &str,
        port: Option<u16>,
    ) -> Option<String> {
        let complete = match port {
            Some(port) if !text.contains(':') || text.ends_with(']') => format!("{text}:{port}"),
            _ => text.to_string(),
        };
        let parts = complete.rsplit_once(':').filter(|(host, port)| {
            let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            let named = match bracketed {
                Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
                None => !host.is_empty() && !host.contains([':', '/', ' ', '[', ']']),
            };
            named && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if parts.is_none() {
            let what = "a host and a port from 1 to 65535, as in `log.example.org:5000` or `[2001:db8::1]:5000`";
            self.wrong(place.offset, format!("`{key}` needs {what}, not \"{}\"", flowgate_base::text::clean(text)));
            return None;
        }
        Some(complete)
    }
}
