//! A plugin in a file: its keys, and the places of its mistakes.

use std::{path::PathBuf, time::Duration};

use super::{
    diagnostic::{Diagnostic, Located, SourceText},
    reader::{Fields, Reader},
};
use flowgate_base::{
    files,
    text::{clean, path_text},
};
use flowgate_model::{
    OnError, OptionValue,
    grants::{Grants, StateStorage},
};
use flowgate_pipeline::loader::{LoadPluginError, PluginLimits, PluginSpec, ProblemPlace};

/// A component, with its grants and limits.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// The file.
    pub file: Located<PathBuf>,
    /// Its name in messages, unless that is the file's name.
    pub name: Option<String>,
    /// Its grants.
    pub grants: Located<Grants>,
    /// Its limits, and the reaction to its failures.
    pub limits: PluginLimits,
}

/// The options of a plugin, by name.
pub type Options = [(Located<String>, Located<String>)];

impl Plugin {
    /// Returns the specification for the loader.
    #[must_use]
    pub fn spec(&self, options: &Options) -> PluginSpec {
        PluginSpec {
            file: self.file.value.clone(),
            name: self.name.clone(),
            digest: None,
            options: option_values(options),
            grants: self.grants.value.clone(),
            limits: self.limits,
        }
    }

    /// Returns a problem of the plugin as a mistake with its place in the file. `digest` is the place of its digest, if
    /// it has one.
    #[must_use]
    pub fn diagnostic(
        &self,
        text: &SourceText,
        options: &Options,
        digest: Option<usize>,
        problem: &LoadPluginError,
    ) -> Diagnostic {
        self.diagnostic_at(text, options, digest, &problem.place(), problem.to_string())
    }

    /// As [`Plugin::diagnostic`], for a problem about this part of the plugin.
    #[must_use]
    pub fn diagnostic_at(
        &self,
        text: &SourceText,
        options: &Options,
        digest: Option<usize>,
        place: &ProblemPlace,
        what: String,
    ) -> Diagnostic {
        let file = self.file.offset;
        match place {
            ProblemPlace::Digest => text.diagnostic(digest.unwrap_or(file), what),
            ProblemPlace::Grants(grant) => {
                text.diagnostic(self.grants.offset, format!("{what}; to allow it: grants = [\"{grant}\"]"))
            }
            ProblemPlace::Option(index) => text.diagnostic(option_offset(options, *index).unwrap_or(file), what),
            ProblemPlace::Named => text.diagnostic(mentioned_option_offset(&what, options).unwrap_or(file), what),
            ProblemPlace::File => text.diagnostic(file, what),
        }
    }

    /// Returns a note of the grants that the plugin would use and was not given, if there are any.
    #[must_use]
    pub fn note(&self, text: &SourceText, name: &str, ungranted: &[String]) -> Option<Diagnostic> {
        let list: Vec<String> = ungranted.iter().map(|grant| format!("\"{grant}\"")).collect();
        let what = format!("note: plugin {name} would like grants = [{}]", list.join(", "));
        (!list.is_empty()).then(|| text.diagnostic(self.grants.offset, what))
    }
}

/// Returns the offset of the option at this index, if there is one.
#[must_use]
pub fn option_offset(options: &Options, index: Option<usize>) -> Option<usize> {
    options.get(index?).map(|(name, _)| name.offset)
}

/// Returns the offset of the option that the message of a plugin names, which did not start, if it names one.
fn mentioned_option_offset(message: &str, options: &Options) -> Option<usize> {
    let own = message.split_once(": ").map_or(message, |(_, own)| own);
    let words: Vec<&str> = own.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').collect();
    options.iter().find(|(name, _)| words.contains(&name.value.as_str())).map(|(_, value)| value.offset)
}

impl Reader<'_> {
    /// Reads a component with its grants and limits; `key` names its file. `grants` is true if its grants are read
    /// here.
    pub fn plugin(&mut self, fields: &Fields, key: &str, grants: bool) -> Option<Box<Plugin>> {
        let file = fields.text(key)?;
        let name = fields.text("name");
        if let Some(name) = name.as_ref().filter(|name| name.value.is_empty() || clean(&name.value) != name.value) {
            self.wrong(name.offset, "`name` takes a text of printable characters");
        }
        let name = name.map(|name| clean(&name.value));
        let words = if grants { fields.words("grants").unwrap_or_default() } else { &[] };
        let mut grants = Grants::NONE;
        for word in words {
            if let Err(error) = grants.add(&word.value) {
                self.wrong(word.offset, error.to_string());
            }
        }
        if let Some(StateStorage::File(path)) = &grants.state {
            grants.state = Some(StateStorage::File(self.path(&path.to_string_lossy())));
        }
        if let Some(state) = fields.text("state") {
            if matches!(grants.state, Some(StateStorage::File(_))) {
                self.wrong(state.offset, "the file of the state is in `grants` already; leave out one of the two");
            }
            grants.state = Some(StateStorage::File(self.path(&state.value)));
        }
        let mut limits = self.limits(fields);
        if let Some(policy) = fields.text("on-error").and_then(|word| word.value.parse::<OnError>().ok()) {
            limits.restart.on_error = policy;
        }
        let offset = fields.key("grants").unwrap_or(file.offset);
        let path = self.path(&file.value);
        Some(Box::new(Plugin {
            file: Located::new(path, file.offset),
            name,
            grants: Located::new(grants, offset),
            limits,
        }))
    }

    fn limits(&mut self, fields: &Fields) -> PluginLimits {
        let mut limits = PluginLimits::default();
        let Some(fields) = fields.table("limits") else { return limits };
        let mut size = |name: &str, to: &mut usize, least: usize| {
            let Some(given) = fields.count(name) else { return };
            match usize::try_from(given.value).ok().filter(|size| *size >= least) {
                Some(size) => *to = size,
                None => self.wrong(given.offset, format!("`{name}` must be at least {least}, not {}", given.value)),
            }
        };
        size("memory", &mut limits.instance.memory, 64 << 10);
        size("output", &mut limits.instance.output, 1 << 10);
        size("actions", &mut limits.instance.actions, 0);
        size("state", &mut limits.state, 1);
        let mut compiling = usize::try_from(limits.compile.memory).unwrap_or(usize::MAX);
        size("compile-memory", &mut compiling, 64 << 20);
        limits.compile.memory = compiling as u64;
        let mut time = |name: &str, to: &mut Duration, least: Duration| {
            let Some(given) = fields.time(name) else { return };
            if given.value < least {
                self.wrong(given.offset, format!("`{name}` must be at least {} ms", least.as_millis()));
            }
            *to = given.value;
        };
        time("call", &mut limits.instance.call, Duration::from_millis(10));
        time("start-up", &mut limits.instance.start_up, Duration::from_millis(10));
        time("window", &mut limits.restart.window, Duration::from_secs(1));
        time("compile-time", &mut limits.compile.time, Duration::from_secs(1));
        if let Some(count) = fields.count("restarts").and_then(|count| u32::try_from(count.value).ok()) {
            limits.restart.failures = count;
        }
        limits
    }

    /// Reads the options, and those whose values are in files.
    pub fn options(&mut self, fields: &Fields) -> Vec<(Located<String>, Located<String>)> {
        let mut options = fields.values("options").to_vec();
        for (name, file) in fields.values("options-file") {
            if options.iter().any(|(other, _)| other.value == name.value) {
                self.wrong(name.offset, format!("the option `{}` is given in `options` already", clean(&name.value)));
                continue;
            }
            let path = self.path(&file.value);
            let content =
                files::read(&path, files::MAX_OPTION_FILE).map_err(|error| flowgate_base::io_error::error_text(&error));
            match content.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".into())) {
                Ok(content) => options.push((name.clone(), Located::new(content, file.offset))),
                Err(reason) => self.wrong(file.offset, format!("cannot read {}: {reason}", path_text(&path))),
            }
        }
        options
    }
}

/// Converts options to those that plugins get.
#[must_use]
pub fn option_values(options: &Options) -> Vec<OptionValue> {
    let value = |(name, value): &(Located<String>, Located<String>)| OptionValue::new(&name.value, &value.value);
    options.iter().map(value).collect()
}
