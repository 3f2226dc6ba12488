//! Converts the sections of a policy file to their typed content, and checks each value.

use std::time::Duration;

use super::{
    file::{AUDIT, AuditLimits, SOCKET, Service, TIMEOUTS, Tenant, TenantLimits, TenantPlugin, WorkerUids},
    scope::{Rule, Scope},
    sets::{NumberSet, PrefixSet},
};
use flowgate_base::{
    files::Trust,
    text::clean,
    units::{range_of_seconds, show_time},
};
use flowgate_config::{
    Located,
    reader::{Fields, Reader},
};
use flowgate_model::{
    OnError, family, field,
    grants::{Grants, StateStorage, Updates},
    protocol,
};
use flowgate_pipeline::sink::{
    SinkKind,
    file::{FileOptions, Rotation},
};
use flowgate_syntax::LabelMap;

/// Mode of the audit: its owner writes it, and its group, for example that of log readers, reads it.
const MODE: u32 = 0o640;
/// The largest number of users of workers.
const USERS: u32 = 65_536;

/// The state of a conversion.
pub(super) struct PolicyParser<'a> {
    pub reader: Reader<'a>,
    pub labels: &'a LabelMap,
}

impl PolicyParser<'_> {
    fn section(&mut self, name: &str) -> Fields {
        self.reader.sections.remove(name).and_then(|sections| sections.into_iter().next()).unwrap_or_default()
    }

    pub(crate) fn service(&mut self) -> Service {
        let fields = self.section("service");
        let buffer = self.reader.receive_buffer(&fields, "buffer", 1);
        Service {
            socket: fields.text("socket").map_or_else(|| SOCKET.into(), |path| self.reader.path(&path.value)),
            buffer,
            drain: fields.time("drain").map_or(Duration::from_secs(2), |time| time.value),
            reload_on_change: fields.switch("reload-on-change").unwrap_or(true),
            table_share: fields.count("table-share").map_or(25, |percent| percent.value),
            cache: fields.text("cache").map(|path| self.reader.path(&path.value)),
            worker_uids: self.worker_uids(&fields),
        }
    }

    fn worker_uids(&mut self, fields: &Fields) -> WorkerUids {
        let Some(text) = fields.text("worker-uids") else { return WorkerUids::Default };
        if text.value == "none" {
            return WorkerUids::Shared;
        }
        let given = clean(&text.value);
        let bounds = text.value.split_once('-').map(|(first, last)| (number_of(first), number_of(last)));
        let mut wrong = |what: &str| self.reader.wrong(text.offset, format!("{what}, not \"{given}\""));
        match bounds {
            Some((Some(first), Some(last))) if first == 0 || last == u32::MAX => {
                wrong("`worker-uids` takes users from 1, since 0 is root, to 4294967294");
            }
            Some((Some(first), Some(last))) if first > last || last - first >= USERS => {
                wrong("`worker-uids` takes 1 to 65536 users");
            }
            Some((Some(first), Some(last))) => return WorkerUids::Range(first, last),
            _ => wrong("`worker-uids` takes the first and the last user, such as \"524288-525287\", or \"none\""),
        }
        WorkerUids::Default
    }

    pub(crate) fn audit(&mut self) -> (FileOptions, AuditLimits) {
        let fields = self.section("audit");
        let path = fields.text("path").map_or_else(|| AUDIT.into(), |path| self.reader.path(&path.value));
        let size = fields.count("rotate-size").map_or(64 << 20, |size| {
            if size.value < 64 << 10 {
                self.reader.wrong(size.offset, "`rotate-size` of the audit must be at least 64KiB");
            }
            size.value
        });
        let interval = fields.time("rotate-time").map(|time| {
            if time.value < Duration::from_secs(1) {
                self.reader.wrong(time.offset, "`rotate-time` must be at least 1s");
            }
            time.value
        });
        let keep = fields.count("keep").and_then(|keep| u32::try_from(keep.value).ok()).unwrap_or(9);
        let compress = fields.switch("compress").unwrap_or(false);
        let keep_time = self.reader.keep_time(&fields);
        let rotation = Some(Rotation { size: Some(size), interval, keep, keep_time, compress });
        let history = fields.time("history").map_or(Duration::from_secs(3600), |time| {
            if time.value < Duration::from_secs(1) {
                self.reader.wrong(time.offset, "`history` must be at least 1s");
            }
            time.value
        });
        if let Some(least) = keep_time.filter(|time| *time < history) {
            let (least, history) = (show_time(least), show_time(history));
            let offset = fields.time("keep-time").map_or(fields.offset, |time| time.offset);
            let what = format!("`keep-time` must be at least `history`, which is {history}, not {least}");
            self.reader.wrong(offset, what);
        }
        let reserve = fields.count("reserve").map_or(64 << 20, |size| size.value);
        (
            FileOptions { path, append: true, rotation, mode: Some(MODE), trust: Trust::Exclusive },
            AuditLimits { history, reserve },
        )
    }

    pub(crate) fn tenant(&mut self, fields: &Fields) -> Option<Tenant> {
        let name = match fields.text("name") {
            Some(name) => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
                if name.value.is_empty() || name.value.len() > 64 || !name.value.bytes().all(plain) {
                    let what = "`name` takes 1 to 64 letters, digits, `-`, `_` and `.`";
                    self.reader.wrong(name.offset, format!("{what}, not \"{}\"", clean(&name.value)));
                }
                clean(&name.value)
            }
            None => {
                if fields.key("name").is_none() {
                    self.reader.wrong(fields.offset, "a tenant needs a `name`");
                }
                return None;
            }
        };
        let bounds = self.bounds(fields);
        let namespace = fields.text("namespace").map(|name| {
            if name.value.is_empty() || name.value.contains(['/', '\0']) || matches!(name.value.as_str(), "." | "..") {
                self.reader.wrong(name.offset, "`namespace` takes a name, as `ip netns` lists them");
            }
            name.value
        });
        let rules: Vec<Rule> = fields.tables("scope").iter().map(|rule| self.rule(rule)).collect();
        if rules.is_empty() && fields.key("scope").is_none() {
            let what = format!("tenant `{name}` needs a `[[tenant.scope]]`, which says which flows are its own");
            self.reader.wrong(fields.offset, what);
        }
        let sections = fields.tables("plugin");
        if sections.is_empty() && fields.key("plugin").is_none() {
            self.reader.wrong(fields.offset, format!("tenant `{name}` needs a `[[tenant.plugin]]`"));
        }
        let mut plugins: Vec<TenantPlugin> = Vec::new();
        for fields in sections {
            let Some(plugin) = self.tenant_plugin(fields, &bounds) else { continue };
            if plugins.iter().any(|other| other.name() == plugin.name()) {
                let what = format!("another plugin of tenant `{name}` is called `{}`; give it a `name`", plugin.name());
                self.reader.wrong(fields.offset, what);
            }
            plugins.push(plugin);
        }
        let limits = self.limits(fields.table("limits"));
        if let Some(offset) = fields.table("format").and_then(|format| format.key("plugin")) {
            self.reader.wrong(offset, "the format of a tenant is a stock one, of a `kind`");
        }
        let (format, batch) = self.reader.format_of(fields.table("format"));
        let mut sinks = self.reader.sinks_of(fields.tables("sink"));
        for sink in &mut sinks {
            if let SinkKind::File(options) = &mut sink.spec.kind {
                options.trust = Trust::Exclusive;
            }
        }
        Some(Tenant {
            offset: fields.offset,
            name,
            namespace,
            required: fields.switch("required").unwrap_or(false),
            scope: Scope::new(rules),
            plugins,
            bounds,
            limits,
            format,
            batch,
            sinks,
        })
    }

    /// Reads what a tenant may write into flows.
    fn bounds(&mut self, fields: &Fields) -> Updates {
        let mark = fields.text("mark-mask").map_or(0, |mask| {
            number(&mask.value).unwrap_or_else(|| {
                let given = clean(&mask.value);
                self.reader.wrong(mask.offset, format!("`mark-mask` takes bits such as \"0xff00\", not \"{given}\""));
                0
            })
        });
        let timeout = fields.text("timeouts").map_or(TIMEOUTS, |text| {
            range_of_seconds(&text.value, None).unwrap_or_else(|| {
                let given = clean(&text.value);
                let what =
                    "`timeouts` takes the least and the most in whole seconds, such as \"1..3600\" or \"1s..1h\"";
                self.reader.wrong(text.offset, format!("{what}, not \"{given}\""));
                TIMEOUTS
            })
        });
        let mut labels = 0u128;
        for word in fields.words("labels").unwrap_or_default() {
            match self.label(&word.value) {
                Ok(bit) => labels |= 1 << bit,
                Err(what) => self.reader.wrong(word.offset, what),
            }
        }
        Updates { fields: field::ALL, mark, status: u32::MAX, timeout, labels }
    }

    /// Returns the bit of a label, by name or number.
    fn label(&self, word: &str) -> Result<u32, String> {
        let bit = word.parse::<u16>().ok().or_else(|| self.labels.bit(word.as_bytes()));
        match bit {
            Some(bit) if bit < 128 => Ok(bit.into()),
            Some(bit) => Err(format!("the kernel keeps labels 0 to 127, and `{}` is {bit}", clean(word))),
            None => Err(format!("there is no label `{}` in {}", clean(word), flowgate_syntax::DEFAULT_LABEL_MAP)),
        }
    }

    fn rule(&mut self, fields: &Fields) -> Rule {
        let line = self.reader.text.diagnostic(fields.offset, "").line;
        let mut rule = Rule { offset: fields.offset, line, ..Rule::default() };
        rule.family = fields.text("family").map(|name| if name.value == "ipv4" { family::IPV4 } else { family::IPV6 });
        for word in self.items(fields, "protocols").unwrap_or_default() {
            match protocol_of(&word.value) {
                Some(number) => rule.protocols.push(number),
                None => {
                    let what = "`protocols` takes names of layer-4 protocols, or numbers from 0 to 255";
                    self.reader.wrong(word.offset, format!("{what}, not `{}`", clean(&word.value)));
                }
            }
        }
        rule.zones = self.numbers(fields, "zones");
        rule.original_zones = self.numbers(fields, "original-zones");
        rule.reply_zones = self.numbers(fields, "reply-zones");
        rule.source = self.prefixes(fields, "source");
        rule.destination = self.prefixes(fields, "destination");
        rule.reply_source = self.prefixes(fields, "reply-source");
        rule.reply_destination = self.prefixes(fields, "reply-destination");
        rule.source_ports = self.numbers(fields, "source-ports");
        rule.ports = self.numbers(fields, "ports");
        for word in self.items(fields, "marks").unwrap_or_default() {
            let (value, mask) = word.value.split_once('/').unwrap_or((&word.value, "0xffffffff"));
            match (number(value.trim()), number(mask.trim())) {
                (Some(value), Some(mask)) if value & !mask == 0 => rule.marks.push((value, mask)),
                (Some(value), Some(mask)) => {
                    let what = format!("no mark under the mask {mask:#x} is {value:#x}, which has other bits");
                    self.reader.wrong(word.offset, what);
                }
                _ => {
                    let what = "`marks` takes marks with their mask, such as \"0x10/0xf0\"";
                    self.reader.wrong(word.offset, format!("{what}, not `{}`", clean(&word.value)));
                }
            }
        }
        rule.act_on_translated = fields.text("translated").is_some_and(|word| word.value == "act");
        let bare = Rule { offset: rule.offset, line, act_on_translated: rule.act_on_translated, ..Rule::default() };
        let everything = fields.switch("everything").unwrap_or(false);
        let criteria = SCOPED.iter().any(|name| fields.key(name).is_some());
        if everything && criteria {
            self.reader.wrong(fields.offset, "a rule for `everything` has no criteria; leave out one or the other");
        } else if !everything && !criteria && rule == bare {
            let what = "this rule has no criteria; if every flow is meant, say `everything = true`";
            self.reader.wrong(fields.offset, what);
        }
        rule
    }

    /// Returns the items of a criterion. An empty list is a mistake: it would drop the criterion.
    fn items(&mut self, fields: &Fields, name: &str) -> Option<Vec<Located<String>>> {
        let words = fields.words(name)?.to_vec();
        if words.is_empty() {
            let offset = fields.key(name).unwrap_or(fields.offset);
            self.reader.wrong(offset, format!("`{name}` is empty; leave it out if it does not matter"));
        }
        Some(words)
    }

    fn numbers(&mut self, fields: &Fields, name: &str) -> Option<NumberSet> {
        let mut set = NumberSet::default();
        for word in self.items(fields, name)? {
            if !set.add(&word.value) {
                let what = format!("`{name}` takes numbers from 0 to 65535 and ranges such as \"10-20\"");
                self.reader.wrong(word.offset, format!("{what}, not `{}`", clean(&word.value)));
            }
        }
        Some(set)
    }

    fn prefixes(&mut self, fields: &Fields, name: &str) -> Option<PrefixSet> {
        let mut set = PrefixSet::default();
        for word in self.items(fields, name)? {
            if let Err(error) = set.add(&word.value) {
                self.reader.wrong(word.offset, format!("`{name}`: {error}"));
            }
        }
        Some(set)
    }

    fn tenant_plugin(&mut self, fields: &Fields, bounds: &Updates) -> Option<TenantPlugin> {
        if fields.key("file").is_none() {
            self.reader.wrong(fields.offset, "a plugin needs a `file`");
        }
        let digest = match fields.text("sha256") {
            Some(digest) => {
                let hexadecimal = digest.value.bytes().all(|byte| byte.is_ascii_hexdigit());
                if digest.value.len() != 64 || !hexadecimal {
                    self.reader
                        .wrong(digest.offset, "`sha256` takes 64 hexadecimal digits, as `sha256sum FILE` prints");
                }
                Located::new(digest.value.to_ascii_lowercase(), digest.offset)
            }
            None => {
                if fields.key("sha256").is_none() {
                    let what = "a plugin needs the `sha256` of its file, so that no other one is run in its place";
                    self.reader.wrong(fields.offset, what);
                }
                Located::new(String::new(), fields.offset)
            }
        };
        let words: Vec<Located<String>> = fields.words("grants").unwrap_or_default().to_vec();
        let mut plugin = *self.reader.plugin(fields, "file", false)?;
        let state = plugin.grants.value.state.clone();
        let mut grants = Grants::NONE;
        for word in &words {
            if let Err(what) = self.grant(&word.value, bounds, &mut grants) {
                self.reader.wrong(word.offset, what);
            }
        }
        if let Some(StateStorage::File(path)) = &grants.state {
            if let (Some(_), Some(offset)) = (&state, fields.key("state")) {
                self.reader.wrong(offset, "the file of the state is in `grants` already; leave out one of the two");
            }
            grants.state = Some(StateStorage::File(self.reader.path(&path.to_string_lossy())));
        } else if state.is_some() {
            grants.state = state;
        }
        grants.update.timeout =
            (grants.update.timeout.0.max(bounds.timeout.0), grants.update.timeout.1.min(bounds.timeout.1));
        plugin.grants.value = grants;
        if fields.key("on-error").is_none() {
            plugin.limits.restart.on_error = OnError::Drop;
        }
        let options = self.reader.options(fields);
        Some(TenantPlugin { plugin, digest, options })
    }

    /// Adds a grant within the tenant's bounds.
    fn grant(&self, word: &str, bounds: &Updates, grants: &mut Grants) -> Result<(), String> {
        let (name, value) =
            word.split_once('=').map_or((word, None), |(name, value)| (name.trim(), Some(value.trim())));
        let mut one = Grants::NONE;
        match (name, value) {
            // Granted to all.
            ("annotate", None) => return Ok(()),
            ("update", _) => {
                return Err("name the fields that may be updated: `update.mark`, `update.timeout` and so on".into());
            }
            ("update.labels", Some(list)) => {
                let bits: Result<Vec<String>, String> =
                    list.split('|').map(|word| self.label(word.trim()).map(|bit| bit.to_string())).collect();
                one.add(&format!("update.labels={}", bits?.join("|"))).map_err(|error| error.to_string())?;
            }
            _ => one.add(word).map_err(|error| error.to_string())?,
        }
        let update = &mut one.update;
        if name == "update.mark" && value.is_none() {
            update.mark = bounds.mark;
        }
        if name == "update.labels" && value.is_none() {
            update.labels = bounds.labels;
        }
        if name == "update.mark" && (update.mark == 0 || update.mark & !bounds.mark != 0) {
            return Err(format!("the tenant owns the bits {:#x} of marks (`mark-mask`), and no others", bounds.mark));
        }
        if name == "update.labels" && (update.labels == 0 || update.labels & !bounds.labels != 0) {
            return Err("the tenant owns the labels of its `labels`, and no others".into());
        }
        if name == "update.timeout" {
            let (least, most) = bounds.timeout;
            match value {
                None => update.timeout = bounds.timeout,
                Some(_) if update.timeout.0 < least || update.timeout.1 > most => {
                    return Err(format!("the tenant may give timeouts from {least} to {most} s (`timeouts`)"));
                }
                Some(_) => {}
            }
            grants.update.timeout = update.timeout;
        }
        grants.delete |= one.delete;
        grants.create |= one.create;
        grants.translated |= one.translated;
        grants.established |= one.established;
        grants.log |= one.log;
        grants.time |= one.time;
        grants.tick |= one.tick;
        grants.look_back |= one.look_back;
        grants.state = grants.state.take().or(one.state);
        grants.update.fields |= one.update.fields;
        grants.update.mark |= one.update.mark;
        grants.update.status |= one.update.status;
        grants.update.labels |= one.update.labels;
        Ok(())
    }

    fn limits(&mut self, fields: Option<&Fields>) -> TenantLimits {
        let mut limits = TenantLimits::default();
        let Some(fields) = fields else { return limits };
        let mut count = |name: &str, to: &mut u64, least: u64| {
            let Some(given) = fields.count(name) else { return };
            if given.value < least {
                self.reader.wrong(given.offset, format!("`{name}` must be at least {least}B, not {}B", given.value));
            }
            *to = given.value;
        };
        count("actions-per-second", &mut limits.actions, 0);
        count("actions-in-flight", &mut limits.in_flight, 0);
        count("entries", &mut limits.entries, 0);
        count("output-per-second", &mut limits.output, 1 << 10);
        count("queue", &mut limits.queue, 64 << 10);
        if let Some(time) = fields.time("time-per-second") {
            if time.value < Duration::from_millis(1) || time.value > Duration::from_secs(1) {
                self.reader.wrong(time.offset, "`time-per-second` must be from 1ms to 1s");
            }
            limits.time = time.value;
        }
        limits
    }
}

/// Returns a decimal number.
fn number_of(text: &str) -> Option<u32> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Reads the criteria of a rule.
const SCOPED: [&str; 12] = [
    "family",
    "protocols",
    "zones",
    "original-zones",
    "reply-zones",
    "source",
    "destination",
    "reply-source",
    "reply-destination",
    "source-ports",
    "ports",
    "marks",
];

/// Parses a number, decimal or with `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with('+') => u32::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    }
}

/// Parses a protocol, by name or number.
fn protocol_of(text: &str) -> Option<u8> {
    text.parse().ok().or_else(|| {
        let text = text.to_ascii_lowercase();
        (0..=u8::MAX).find(|&number| protocol::name(number) == Some(text.as_str()))
    })
}
