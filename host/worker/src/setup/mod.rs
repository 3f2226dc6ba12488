//! What a worker is given at its start: the pipeline of a tenant, compiled code, and the entries of states.
//!
//! It is a file in memory that nobody can change any more: the length of the description (8 bytes), the description
//! (`field`), and the compiled code of the plugins.

mod field;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use field::{Field, structure};
use flowgate_model::{
    Label, OnError, OptionValue, UtcOffset,
    grants::{Grants, StateStorage, Updates},
};
use flowgate_pipeline::{
    Spec,
    loader::{PluginLimits, PluginSpec},
    spec::{FormatSpec, StageSpec},
    supervisor,
};
use flowgate_runtime::{
    CompileLimits, Limits,
    compiler::build,
    memory_file::{FromStart, read_in_parts, sealed_after},
};

/// Names of the stock formats that write flows.
const FORMATS: [&str; 5] = ["json", "save", "table", "text", "xml"];

/// The description.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Both processes run the same program. This is for tests, and for an update of the program's file at a bad moment.
    pub build: String,
    /// Maximum number of rows of a batch.
    pub batch: usize,
    /// The plugins, in order.
    pub plugins: Vec<PluginSetup>,
    /// The format, if there is a sink.
    pub format: Option<FormatSetup>,
    /// Labels: their bits and names.
    pub labels: Vec<(u16, String)>,
    /// Offsets of local time.
    pub offsets: Vec<(i64, i32)>,
    /// True if compiled code is for the interpreter.
    pub interpreted: bool,
    /// True if compiled code checks each access to memory.
    pub checked: bool,
    /// CPU time of the plugins in each second, in nanoseconds.
    pub time: u64,
    /// Number of actions of a call for which requests are made.
    pub actions: usize,
    /// True if the plugins are only started. The worker then also reports the grants that each would use and does not
    /// have, as output: the number of the plugin and the grant.
    pub check: bool,
    /// What the worker does instead of running the pipeline.
    pub job: Option<Vec<u8>>,
    /// Minimum interval between two reports of what has been processed, in nanoseconds.
    pub interval: u64,
}

/// A plugin.
#[derive(Clone, Debug)]
pub struct PluginSetup {
    /// Path of its file, for messages.
    file: PathBuf,
    /// Its full name.
    pub name: String,
    /// SHA-256 of its file.
    digest: String,
    options: Vec<(String, String)>,
    grants: GrantsSetup,
    limits: LimitsSetup,
    /// Entries of its state.
    pub state: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Length of its compiled code in bytes.
    code: u64,
}

/// A stock format.
#[derive(Clone, Debug)]
pub struct FormatSetup {
    name: String,
    options: Vec<(String, String)>,
    labels: bool,
}

#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "as in `Grants`")]
struct GrantsSetup {
    delete: bool,
    create: bool,
    translated: bool,
    established: bool,
    fields: u64,
    mark: u32,
    status: u32,
    timeout: (u32, u32),
    labels: u128,
    log: bool,
    state: bool,
    time: bool,
    tick: bool,
    look_back: bool,
}

#[derive(Clone, Copy, Debug)]
struct LimitsSetup {
    memory: usize,
    call: Duration,
    start_up: Duration,
    output: usize,
    actions: usize,
    on_error: u8,
    failures: u32,
    window: Duration,
    state: usize,
}

/// Reactions to a failure, in the order of their numbers.
const ON_ERROR: [OnError; 3] = [OnError::Stop, OnError::Skip, OnError::Drop];

impl Setup {
    /// Returns the description of a pipeline, without the states of its plugins.
    #[must_use]
    pub fn of(spec: &Spec, labels: &[Label], offsets: &[UtcOffset]) -> Self {
        let plugins = spec.stages.iter().filter_map(|stage| match stage {
            StageSpec::Plugin(plugin) => Some(PluginSetup::of(plugin)),
            StageSpec::Stock(_) => None,
        });
        let format = spec.format.as_ref().and_then(|format| match format {
            FormatSpec::Stock { name, options, labels } => {
                Some(FormatSetup { name: (*name).into(), options: pairs(options), labels: *labels })
            }
            FormatSpec::Plugin(_) => None,
        });
        Setup {
            build: build(),
            batch: spec.batch,
            plugins: plugins.collect(),
            format,
            labels: labels.iter().map(|label| (label.bit, label.name.clone())).collect(),
            offsets: offsets.iter().map(|offset| (offset.since, offset.offset)).collect(),
            ..Setup::default()
        }
    }

    /// Returns the pipeline.
    #[must_use]
    pub fn spec(&self) -> Spec {
        let format = self.format.as_ref().and_then(|format| {
            let name = FORMATS.into_iter().find(|name| *name == format.name)?;
            Some(FormatSpec::Stock { name, options: values(&format.options), labels: format.labels })
        });
        Spec {
            stages: self.plugins.iter().map(|plugin| plugin.spec().into()).collect(),
            format,
            batch: self.batch,
            ..Spec::events()
        }
    }

    /// Returns the labels.
    #[must_use]
    pub fn labels(&self) -> Vec<Label> {
        self.labels.iter().map(|(bit, name)| Label { bit: *bit, name: name.clone() }).collect()
    }

    /// Returns the offsets of local time.
    #[must_use]
    pub fn offsets(&self) -> Vec<UtcOffset> {
        self.offsets.iter().map(|&(since, offset)| UtcOffset { since, offset }).collect()
    }

    /// Returns the file: the description and the compiled code, which is copied from these files, one for each plugin.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn to_file(&mut self, code: &[File]) -> io::Result<File> {
        for (plugin, code) in self.plugins.iter_mut().zip(code) {
            plugin.code = code.metadata()?.len();
        }
        let mut description = Vec::new();
        self.put(&mut description);
        sealed_after("setup", |file| {
            file.write_all(&(description.len() as u64).to_ne_bytes())?;
            file.write_all(&description)?;
            code.iter().try_for_each(|code| read_in_parts(FromStart::of(code), |part| file.write_all(part)))
        })
    }

    /// Reads the description; the code follows in the file. The file is the owner's, and believed.
    ///
    /// # Errors
    /// The file is something else.
    pub fn read(file: &mut File) -> io::Result<Self> {
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let mut description = Vec::new();
        file.take(u64::from_ne_bytes(length)).read_to_end(&mut description)?;
        let setup = Setup::take(&mut description.as_slice())?;
        if setup.build != build() {
            return Err(io::Error::other("it is from another build of the program"));
        }
        Ok(setup)
    }
}

impl PluginSetup {
    fn of(plugin: &PluginSpec) -> Self {
        let Grants { delete, create, translated, established, update, log, state, time, tick, look_back } =
            plugin.grants.clone();
        let Updates { fields, mark, status, timeout, labels } = update;
        let PluginLimits { instance, restart, state: capacity, compile: _ } = plugin.limits;
        let on_error = ON_ERROR.iter().position(|on_error| *on_error == restart.on_error).unwrap_or_default();
        PluginSetup {
            file: plugin.file.clone(),
            name: plugin.name.clone().unwrap_or_else(|| plugin.file.display().to_string()),
            digest: plugin.digest.clone().unwrap_or_default(),
            options: pairs(&plugin.options),
            grants: GrantsSetup {
                delete,
                create,
                translated,
                established,
                fields,
                mark,
                status,
                timeout,
                labels,
                log,
                state: state.is_some(),
                time,
                tick,
                look_back,
            },
            limits: LimitsSetup {
                memory: instance.memory,
                call: instance.call,
                start_up: instance.start_up,
                output: instance.output,
                actions: instance.actions,
                on_error: u8::try_from(on_error).unwrap_or_default(),
                failures: restart.failures,
                window: restart.window,
                state: capacity,
            },
            state: BTreeMap::new(),
            code: 0,
        }
    }

    fn spec(&self) -> PluginSpec {
        let given = self.grants;
        let limits = self.limits;
        PluginSpec {
            file: self.file.clone(),
            name: Some(self.name.clone()),
            digest: Some(self.digest.clone()),
            options: values(&self.options),
            grants: Grants {
                delete: given.delete,
                create: given.create,
                translated: given.translated,
                established: given.established,
                update: Updates {
                    fields: given.fields,
                    mark: given.mark,
                    status: given.status,
                    timeout: given.timeout,
                    labels: given.labels,
                },
                log: given.log,
                state: given.state.then_some(StateStorage::Memory),
                time: given.time,
                tick: given.tick,
                look_back: given.look_back,
            },
            limits: PluginLimits {
                compile: CompileLimits::default(),
                instance: Limits {
                    memory: limits.memory,
                    call: limits.call,
                    start_up: limits.start_up,
                    output: limits.output,
                    actions: limits.actions,
                },
                restart: supervisor::Policy {
                    on_error: ON_ERROR.get(usize::from(limits.on_error)).copied().unwrap_or(OnError::Stop),
                    failures: limits.failures,
                    window: limits.window,
                },
                state: limits.state,
            },
        }
    }

    /// Returns an option of the plugin.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(option, _)| option == name).map(|(_, value)| value.as_str())
    }

    /// Returns the path and the digest of its file.
    pub(crate) fn file(&self) -> (&PathBuf, &str) {
        (&self.file, &self.digest)
    }

    /// Reads its compiled code from the file of the setup.
    ///
    /// # Errors
    /// The file is shorter.
    pub(crate) fn read_code(&self, file: &mut File) -> io::Result<Vec<u8>> {
        let mut code = Vec::with_capacity(usize::try_from(self.code).unwrap_or_default());
        let length = file.take(self.code).read_to_end(&mut code)?;
        if length as u64 == self.code { Ok(code) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn pairs(options: &[OptionValue]) -> Vec<(String, String)> {
    options.iter().map(|option| (option.name.clone(), option.value.clone())).collect()
}

fn values(options: &[(String, String)]) -> Vec<OptionValue> {
    options.iter().map(|(name, value)| OptionValue::new(name, value)).collect()
}

structure!(Setup {
    build,
    batch,
    plugins,
    format,
    labels,
    offsets,
    interpreted,
    checked,
    time,
    actions,
    check,
    job,
    interval,
});
structure!(PluginSetup { file, name, digest, options, grants, limits, state, code });
structure!(FormatSetup { name, options, labels });
structure!(GrantsSetup {
    delete,
    create,
    translated,
    established,
    fields,
    mark,
    status,
    timeout,
    labels,
    log,
    state,
    time,
    tick,
    look_back,
});
structure!(LimitsSetup { memory, call, start_up, output, actions, on_error, failures, window, state });

#[cfg(test)]
mod tests {
    use flowgate_runtime::memory_file::sealed;

    use super::*;

    /// A worker does with a tenant's pipeline what the policy says, so nothing may be lost on the way.
    #[test]
    fn a_pipeline_comes_back_as_it_was() {
        let every: Grants = "delete,create,create.translated,create.established,update.mark=0xf0,update.timeout=5..9,\
                             update.labels=1|99,log,state,time,tick,look-back"
            .parse()
            .unwrap();
        for on_error in ON_ERROR {
            let instance = Limits {
                memory: 1,
                call: Duration::from_nanos(2),
                start_up: Duration::from_secs(3),
                output: 4,
                actions: 5,
            };
            let restart = supervisor::Policy { on_error, failures: 6, window: Duration::from_secs(7) };
            let limits = PluginLimits { instance, restart, state: 8, ..PluginLimits::default() };
            let plugin = PluginSpec {
                file: "/a/b.wasm".into(),
                name: Some("blue:b".into()),
                digest: Some("ab".into()),
                options: vec![OptionValue::new("name", "value \u{e9}")],
                grants: every.clone(),
                limits,
            };
            let format =
                FormatSpec::Stock { name: "json", options: vec![OptionValue::new("event", "true")], labels: true };
            let spec = Spec {
                stages: vec![plugin.clone().into(), PluginSpec { digest: Some("cd".into()), ..plugin }.into()],
                format: Some(format),
                batch: 77,
                ..Spec::events()
            };
            let mut setup = Setup::of(
                &spec,
                &[Label { bit: 99, name: "ninety-nine".into() }],
                &[UtcOffset { since: -1, offset: 3600 }],
            );
            setup.plugins[1].state = [(vec![0xff], vec![0, 1])].into();
            (setup.check, setup.job) = (true, Some(vec![1, 0, 255]));
            (setup.time, setup.interval) = (11, 13);
            let code = [b"first".as_slice(), b"second one"].map(|code| sealed("code", code).unwrap());
            let mut file = setup.to_file(&code).unwrap();
            let read = Setup::read(&mut file).unwrap();
            assert_eq!(format!("{:?}", read.spec()), format!("{spec:?}"));
            assert_eq!((read.plugins[0].option("name"), read.plugins[0].option("x")), (Some("value \u{e9}"), None));
            assert_eq!((read.labels().len(), read.offsets()[0].since), (1, -1));
            assert_eq!((read.time, read.interval), (11, 13));
            assert_eq!((read.check, read.job.as_deref()), (true, Some(&[1, 0, 255][..])));
            assert_eq!(read.plugins[1].state, setup.plugins[1].state);
            assert_eq!(read.plugins[0].read_code(&mut file).unwrap(), b"first");
            assert_eq!(read.plugins[1].read_code(&mut file).unwrap(), b"second one");
            assert!(read.plugins[0].read_code(&mut file).is_err(), "there is no more");
        }
    }

    #[test]
    fn another_build_is_refused() {
        let mut setup = Setup::of(&Spec::events(), &[], &[]);
        setup.build = "0.0.0 other".into();
        assert!(Setup::read(&mut setup.to_file(&[]).unwrap()).unwrap_err().to_string().contains("another build"));
    }
}
