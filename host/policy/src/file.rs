//! What a policy file says, typed; or what is wrong with it, all of it, with places.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{keys::SECTIONS, neighbours, reading::Reading, scope::Scope};
use flowgate_base::text::clean;
use flowgate_config::{At, FormatConfig, Mistake, Plugin, SinkConfig, Text, reader::Reader};
use flowgate_model::grants::Updates;
use flowgate_pipeline::{loader::PluginSpec, sink::file::FileOptions};
use flowgate_syntax::{LabelMap, SystemEnvironment};

/// Where the control socket is unless the file says otherwise.
pub const SOCKET: &str = "/run/flowgate/policy.sock";
/// Where the audit is unless the file says otherwise.
pub const AUDIT: &str = "/var/log/flowgate/audit.jsonl";
/// Timeouts that a tenant may give unless the file says otherwise, in seconds.
pub(super) const TIMEOUTS: (u32, u32) = (1, 3600);

/// A policy file.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The file, for places.
    pub text: Text,
    /// The service as a whole.
    pub service: Service,
    /// The record of all actions.
    pub audit: FileOptions,
    /// What tenants leave of it to each other.
    pub audit_limits: AuditLimits,
    /// Names of labels.
    pub labels: LabelMap,
    /// Everybody, in the order of the file.
    pub tenants: Vec<Tenant>,
}

/// The service as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The control socket.
    pub socket: PathBuf,
    /// Receive buffer in bytes, if one is asked for.
    pub buffer: Option<u32>,
    /// How long the end waits for tenants.
    pub drain: Duration,
    /// Whether the file is reloaded when it has changed.
    pub reload_on_change: bool,
    /// Entries that all tenants of a network namespace may have made, in percent of nf_conntrack_max.
    pub table_share: u64,
}

/// What tenants leave of the audit to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditLimits {
    /// What was recorded within this time is not pushed out.
    pub history: Duration,
    /// Bytes that files of tenants leave free on its file system.
    pub reserve: u64,
}

/// Somebody with flows and plugins of its own.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Where its section is.
    pub at: usize,
    /// What it is called.
    pub name: String,
    /// The network namespace of its flows, by name; none for that of the process.
    pub namespace: Option<String>,
    /// Whether nothing is started unless it starts.
    pub required: bool,
    /// Which flows are its own.
    pub scope: Scope,
    /// Its plugins, in order.
    pub plugins: Vec<Guest>,
    /// What it may write into flows.
    pub bounds: Updates,
    /// Its share of the machine.
    pub share: Share,
    /// How its flows are shown.
    pub format: FormatConfig,
    /// Most rows of a batch.
    pub batch: u32,
    /// Where they are shown.
    pub sinks: Vec<SinkConfig>,
}

/// A plugin of a tenant.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The component, and what is decided about it.
    pub plugin: Plugin,
    /// SHA-256 of its file, in small hexadecimal digits.
    pub digest: At<String>,
    /// Its options.
    pub options: Vec<(At<String>, At<String>)>,
}

impl Tenant {
    /// What is loaded for a plugin.
    #[must_use]
    pub fn plugin(&self, guest: &Guest) -> PluginSpec {
        let (name, digest) = (Some(self.title(guest)), Some(guest.digest.value.clone()));
        PluginSpec { name, digest, ..guest.plugin.spec(&guest.options) }
    }

    /// What a plugin is called in messages and in the audit: its name behind that of the tenant.
    #[must_use]
    pub fn title(&self, guest: &Guest) -> String {
        format!("{}:{}", self.name, guest.name())
    }
}

impl Guest {
    /// What it is called: its name, or else that of its file without directory and extension.
    #[must_use]
    pub fn name(&self) -> String {
        let file = || self.plugin.file.value.file_stem().map(|stem| clean(&stem.to_string_lossy()));
        self.plugin.name.clone().or_else(file).unwrap_or_default()
    }
}

/// A tenant's share of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Actions in a second.
    pub actions: u64,
    /// Actions at once.
    pub in_flight: u64,
    /// Entries that it has made and that are alive.
    pub entries: u64,
    /// Time of its plugins in a second.
    pub time: Duration,
    /// Bytes that it writes in a second.
    pub output: u64,
    /// Bytes that wait for it.
    pub queue: u64,
}

impl Default for Share {
    fn default() -> Self {
        Share {
            actions: 100,
            in_flight: 256,
            entries: 1000,
            time: Duration::from_millis(500),
            output: 1 << 20,
            queue: 4 << 20,
        }
    }
}

impl Policy {
    /// Reads what was in a file. What could be understood is returned even if there are mistakes, so that plugins can be looked
    /// at all the same. Second: what is wrong; third: what is worth knowing.
    #[must_use]
    pub fn of_bytes(path: &Path, bytes: Vec<u8>) -> (Self, Vec<Mistake>, Vec<Mistake>) {
        let map = LabelMap::load(&SystemEnvironment, flowgate_syntax::DEFAULT_LABEL_MAP.as_bytes()).unwrap_or_default();
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(Text { path: path.into(), text }, map),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let text = Text { path: path.into(), text: String::from_utf8_lossy(error.as_bytes()).into_owned() };
                let mistake = text.mistake(valid, "this is not UTF-8, which TOML is written in");
                let (policy, _, _) = Self::parse(Text { path: path.into(), text: String::new() }, map);
                (policy, vec![mistake], Vec::new())
            }
        }
    }

    /// As [`Policy::of_bytes`], of a text that is at hand. Second: what is wrong; third: what is worth knowing.
    #[must_use]
    pub fn parse(text: Text, labels: LabelMap) -> (Self, Vec<Mistake>, Vec<Mistake>) {
        let mut reading = Reading { reader: Reader::read(&text, &SECTIONS), labels: &labels };
        let service = reading.service();
        let (audit, audit_limits) = reading.audit();
        let sections = reading.reader.sections.remove("tenant").unwrap_or_default();
        if sections.is_empty() && reading.reader.mistakes.is_empty() {
            reading.reader.wrong(0, "there is no `[[tenant]]`, so that nothing would run");
        }
        let mut tenants: Vec<Tenant> = Vec::new();
        for fields in &sections {
            let Some(tenant) = reading.tenant(fields) else { continue };
            if tenants.iter().any(|other| other.name == tenant.name) {
                let at = fields.text("name").map_or(fields.at, |name| name.at);
                reading.reader.wrong(at, format!("there is another tenant `{}`; names are unique", tenant.name));
            }
            tenants.push(tenant);
        }
        let mut mistakes = reading.reader.mistakes;
        let policy = Policy { service, audit, audit_limits, labels, tenants, text };
        let found = neighbours::compare(&policy);
        let mut notes = found.notes;
        mistakes.extend(found.mistakes);
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        notes.sort_by_key(|note| (note.line, note.column));
        (policy, mistakes, notes)
    }

    /// Whether what another generation says of the service as a whole is heeded only at the next start.
    #[must_use]
    pub fn needs_restart(&self, next: &Self) -> bool {
        let fixed = |policy: &Self| {
            (policy.service.socket.clone(), policy.service.buffer, policy.audit.clone(), policy.audit_limits)
        };
        fixed(self) != fixed(next)
    }

    /// Whether a text describes a policy rather than a pipeline: it has tenants.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        let (table, _) = toml::de::DeTable::parse_recoverable(text);
        table.get_ref().keys().any(|name| name.get_ref() == "tenant")
    }
}
