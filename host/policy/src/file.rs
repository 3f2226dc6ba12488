//! The typed content of a policy file, or all of its mistakes with their places.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{keys::SECTIONS, neighbours, parser::PolicyParser, scope::Scope};
use flowgate_base::text::clean;
use flowgate_config::{
    Diagnostic, FormatConfig, FormatContext, Located, Plugin, SinkConfig, SourceText, pipeline::output, reader::Reader,
};
use flowgate_model::grants::Updates;
use flowgate_pipeline::{Spec, loader::PluginSpec, sink::file::FileOptions};
use flowgate_syntax::{LabelMap, SystemEnvironment};

/// Default path of the control socket.
pub const SOCKET: &str = "/run/flowgate/policy.sock";
/// Default path of the audit.
pub const AUDIT: &str = "/var/log/flowgate/audit.jsonl";
/// Default range of the timeouts that a tenant may set, in seconds.
pub(super) const TIMEOUTS: (u32, u32) = (1, 3600);

/// A policy file.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The file, for places.
    pub text: SourceText,
    /// The service as a whole.
    pub service: Service,
    /// The audit.
    pub audit: FileOptions,
    /// Limits of the tenants' use of the audit.
    pub audit_limits: AuditLimits,
    /// Names of labels.
    pub labels: LabelMap,
    /// The tenants, in the order of the file.
    pub tenants: Vec<Tenant>,
}

/// The service as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The control socket.
    pub socket: PathBuf,
    /// Receive buffer in bytes, if given.
    pub buffer: Option<u32>,
    /// Time that tenants have to finish at the end.
    pub drain: Duration,
    /// True if the file is reloaded when it has changed.
    pub reload_on_change: bool,
    /// Maximum number of created entries of all tenants in a network namespace, in percent of nf_conntrack_max.
    pub table_share: u64,
    /// The directory of compiled code, if the file names one.
    pub cache: Option<PathBuf>,
    /// The users of workers and compilers.
    pub worker_uids: WorkerUids,
}

/// The users of processes that run or compile plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkerUids {
    /// Users of their own where the service is started as root.
    #[default]
    Default,
    /// The user of the service.
    Shared,
    /// Users from the first to the last of these, or the service does not start.
    Range(u32, u32),
}

/// Limits of the tenants' use of the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditLimits {
    /// Time for which records are kept in any case.
    pub history: Duration,
    /// Bytes that the sinks of tenants leave free on its file system.
    pub reserve: u64,
}

/// A tenant: flows, plugins, and limits.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Offset of its section in the file.
    pub offset: usize,
    /// Its name.
    pub name: String,
    /// Name of the network namespace of its flows; `None` for that of the process.
    pub namespace: Option<String>,
    /// True if no tenant is started unless this one starts.
    pub required: bool,
    /// The scope: which flows are its own.
    pub scope: Scope,
    /// Its plugins, in order.
    pub plugins: Vec<TenantPlugin>,
    /// Bounds of what it may write into flows.
    pub bounds: Updates,
    /// Its limits.
    pub limits: TenantLimits,
    /// The format of its output.
    pub format: FormatConfig,
    /// Maximum number of rows in a batch.
    pub batch: u32,
    /// The sinks of its output.
    pub sinks: Vec<SinkConfig>,
}

/// A plugin of a tenant.
#[derive(Clone, Debug)]
pub struct TenantPlugin {
    /// The component, with its grants and limits.
    pub plugin: Plugin,
    /// SHA-256 of its file, in lowercase hexadecimal digits.
    pub digest: Located<String>,
    /// Its options.
    pub options: Vec<(Located<String>, Located<String>)>,
}

impl Tenant {
    /// Returns the pipeline of the tenant: its events through its plugins, in the network namespace of the process. Its
    /// source is fed by the service, which hands it only what is in its scope.
    #[must_use]
    pub fn spec(&self) -> Spec {
        let format = self.format.spec(output(&self.format), FormatContext::EVENTS);
        Spec {
            stages: self.plugins.iter().map(|plugin| self.plugin(plugin).into()).collect(),
            format: format.filter(|_| !self.sinks.is_empty()),
            sinks: self.sinks.iter().map(|sink| sink.spec.clone()).collect(),
            batch: self.batch as usize,
            ..Spec::events()
        }
    }

    /// Returns the specification of a plugin for the loader.
    #[must_use]
    pub fn plugin(&self, plugin: &TenantPlugin) -> PluginSpec {
        let (name, digest) = (Some(self.title(plugin)), Some(plugin.digest.value.clone()));
        PluginSpec { name, digest, ..plugin.plugin.spec(&plugin.options) }
    }

    /// Returns the name of a plugin in messages and in the audit: `TENANT:NAME`.
    #[must_use]
    pub fn title(&self, plugin: &TenantPlugin) -> String {
        format!("{}:{}", self.name, plugin.name())
    }
}

impl TenantPlugin {
    /// Returns its name, or that of its file without directory and extension.
    #[must_use]
    pub fn name(&self) -> String {
        let file = || self.plugin.file.value.file_stem().map(|stem| clean(&stem.to_string_lossy()));
        self.plugin.name.clone().or_else(file).unwrap_or_default()
    }
}

/// The limits of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantLimits {
    /// Actions per second.
    pub actions: u64,
    /// Burst of actions.
    pub in_flight: u64,
    /// Living entries that it has created.
    pub entries: u64,
    /// CPU time of its plugins per second.
    pub time: Duration,
    /// Bytes of output per second.
    pub output: u64,
    /// Bytes of queued events.
    pub queue: u64,
}

impl Default for TenantLimits {
    fn default() -> Self {
        TenantLimits {
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
    /// Parses the content of a file. Returns what could be understood even if there are mistakes, so that plugins can
    /// be checked as well; then the mistakes, and the notes.
    #[must_use]
    pub fn of_bytes(path: &Path, bytes: Vec<u8>) -> (Self, Vec<Diagnostic>, Vec<Diagnostic>) {
        let map = LabelMap::load(&SystemEnvironment, flowgate_syntax::DEFAULT_LABEL_MAP.as_bytes()).unwrap_or_default();
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(SourceText { path: path.into(), text }, map),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let text =
                    SourceText { path: path.into(), text: String::from_utf8_lossy(error.as_bytes()).into_owned() };
                let diagnostic = text.diagnostic(valid, "this is not UTF-8, which TOML is written in");
                let (policy, _, _) = Self::parse(SourceText { path: path.into(), text: String::new() }, map);
                (policy, vec![diagnostic], Vec::new())
            }
        }
    }

    /// The same as [`Policy::of_bytes`] for a text.
    #[must_use]
    pub fn parse(text: SourceText, labels: LabelMap) -> (Self, Vec<Diagnostic>, Vec<Diagnostic>) {
        let mut reading = PolicyParser { reader: Reader::read(&text, &SECTIONS), labels: &labels };
        let service = reading.service();
        let (audit, audit_limits) = reading.audit();
        let sections = reading.reader.sections.remove("tenant").unwrap_or_default();
        if sections.is_empty() && reading.reader.diagnostics.is_empty() {
            reading.reader.wrong(0, "there is no `[[tenant]]`, so that nothing would run");
        }
        let mut tenants: Vec<Tenant> = Vec::new();
        for fields in &sections {
            let Some(tenant) = reading.tenant(fields) else { continue };
            if tenants.iter().any(|other| other.name == tenant.name) {
                let offset = fields.text("name").map_or(fields.offset, |name| name.offset);
                reading.reader.wrong(offset, format!("there is another tenant `{}`; names are unique", tenant.name));
            }
            tenants.push(tenant);
        }
        let mut diagnostics = reading.reader.diagnostics;
        let policy = Policy { service, audit, audit_limits, labels, tenants, text };
        let found = neighbours::compare(&policy);
        let mut notes = found.notes;
        diagnostics.extend(found.diagnostics);
        diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        notes.sort_by_key(|note| (note.line, note.column));
        (policy, diagnostics, notes)
    }

    /// Returns true if another generation changes settings of the service that take effect only at the next start.
    #[must_use]
    pub fn needs_restart(&self, next: &Self) -> bool {
        let fixed = |policy: &Self| {
            let service = &policy.service;
            let directories = (service.socket.clone(), service.cache.clone());
            (directories, service.buffer, service.worker_uids, policy.audit.clone(), policy.audit_limits)
        };
        fixed(self) != fixed(next)
    }

    /// Returns true if a text is a policy rather than a pipeline: it has tenants.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        let (table, _) = toml::de::DeTable::parse_recoverable(text);
        table.get_ref().keys().any(|name| name.get_ref() == "tenant")
    }
}
