//! `plugin inspect`: the kind of a plugin file, its requirements, and the result of a start on this machine.

use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    super::{CommandError, Exit},
    error::ToolError,
};
use crate::args::Report;
use flowgate_base::text::{self, clean};
use flowgate_model::{Description, Setup, UtcOffset};
use flowgate_pipeline::{loader::options, sink::Sink};
use flowgate_runtime::{
    ComponentInfo, Execution, ImportKind, Instance, Limits, LoadError, PluginComponent, PluginEngine, services,
};

/// Names of the fields by their bit in `reads`, as in the table in `wit/flow.wit`.
const FIELDS: [&str; 51] = [
    "source",
    "destination",
    "reply-source",
    "reply-destination",
    "protocol",
    "reply-protocol",
    "source-l4",
    "destination-l4",
    "reply-source-l4",
    "reply-destination-l4",
    "original-zone",
    "reply-zone",
    "zone",
    "status",
    "timeout",
    "mark",
    "secmark",
    "use",
    "id",
    "original-counters",
    "reply-counters",
    "start",
    "stop",
    "event-time",
    "state",
    "original-window-scale",
    "reply-window-scale",
    "original-tcp-flags",
    "reply-tcp-flags",
    "original-vtag",
    "reply-vtag",
    "helper",
    "helper-info",
    "labels",
    "labels-mask",
    "mark-mask",
    "security-context",
    "master",
    "original-sequence",
    "reply-sequence",
    "synproxy",
    "dccp",
    "source-nat",
    "destination-nat",
    "unknown",
    "annotations",
    "port-id",
    "program",
    "namespace",
    "namespace-name",
    "synthetic",
];

/// Results of the inspection.
#[derive(Default)]
struct Findings {
    /// Size of the file in bytes and its SHA-256, if it was read.
    content: Option<(usize, String)>,
    /// Execution mode of plugins in this process.
    execution: Option<Execution>,
    survey: Option<ComponentInfo>,
    compiling: Duration,
    description: Option<Description>,
    /// Bytes of linear memory after the start, and its duration.
    started: Option<(usize, Duration)>,
    /// The reason why the start was not completed.
    unstarted: Option<String>,
    /// The reason why the plugin does not run here; `None` if it does.
    problem: Option<String>,
}

/// Runs the subcommand.
pub(super) fn run(file: &Path, output: Report, sink: &mut dyn Sink) -> Result<Exit, CommandError> {
    let engine = super::super::compiling::engine(None)?;
    let findings = match PluginComponent::read(file) {
        Ok(bytes) => examine(&engine, file, &bytes),
        Err(LoadError::Read { path, source }) => return Err(ToolError::Read { path, source }.into()),
        // A file that is not a plugin is not read to its end.
        Err(error) => Findings { problem: Some(error.to_string()), ..Findings::default() },
    };
    let findings = Findings { execution: Some(engine.execution()?), ..findings };
    let text = match output {
        Report::Text => page(file, &findings),
        Report::Json => text::json(&format!("{}\n", object(file, &findings))).into_owned(),
    };
    sink.write(text.as_bytes())?;
    Ok(if findings.problem.is_some() { Exit::Failure } else { Exit::Success })
}

/// Collects as many results as possible.
fn examine(engine: &PluginEngine, file: &Path, bytes: &[u8]) -> Findings {
    let digest = PluginComponent::digest(bytes);
    let mut findings = Findings { content: Some((bytes.len(), digest)), ..Findings::default() };
    match ComponentInfo::of(engine, file, bytes) {
        Ok(survey) => findings.survey = Some(survey),
        Err(error) => {
            findings.problem = Some(error.to_string());
            return findings;
        }
    }
    let begun = Instant::now();
    let component = match PluginComponent::from_bytes(engine, file, bytes) {
        Ok(component) => component,
        Err(error) => {
            findings.problem = Some(error.to_string());
            return findings;
        }
    };
    findings.compiling = begun.elapsed();
    if let Err(problem) = start(&component, &mut findings) {
        findings.problem = Some(problem);
    }
    findings
}

/// Starts the plugin with its defaults.
fn start(component: &PluginComponent, findings: &mut Findings) -> Result<(), String> {
    let said = |error: flowgate_runtime::PluginError| error.to_string();
    let begun = Instant::now();
    let mut instance = Instance::new(component, Limits::default()).map_err(said)?;
    let description = instance.describe().map_err(said)?;
    let options = options::with_defaults(&description, &[]);
    let problem = options::problems(&component.name, &description, &[]).into_iter().next();
    findings.description = Some(description);
    match problem {
        None => {
            let offsets = vec![UtcOffset { since: 0, offset: 0 }];
            let host = concat!("flowgate ", env!("CARGO_PKG_VERSION")).into();
            instance.configure(&Setup { options, offsets, host, ..Setup::default() }).map_err(said)?;
        }
        // The plugin runs, but needs options.
        Some(needed) => findings.unstarted = Some(needed.to_string()),
    }
    findings.started = Some((instance.memory(), begun.elapsed()));
    Ok(())
}

/// Returns the names of the fields in `reads`.
fn fields(reads: u64) -> Vec<&'static str> {
    FIELDS.iter().enumerate().filter(|(bit, _)| reads >> bit & 1 != 0).map(|(_, name)| *name).collect()
}

/// Returns the names of the exported interfaces of the package. A plugin without any can do nothing.
fn interfaces(survey: &ComponentInfo) -> Vec<&str> {
    survey.exports.iter().filter_map(|name| name.strip_prefix("flowgate:conntrack/")).collect()
}

/// Returns the grant that a service of the host needs; `None` if it needs none.
fn grant(interface: &str) -> Option<&'static str> {
    let name = interface.strip_prefix("flowgate:conntrack/")?.split('@').next()?;
    services::required_grant(name)
}

fn provided(provision: ImportKind) -> &'static str {
    match provision {
        ImportKind::Service => "service",
        ImportKind::Harmless => "harmless",
        ImportKind::Refused => "refused",
    }
}

/// Returns the results for people.
fn page(file: &Path, findings: &Findings) -> String {
    let mut page = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(page, "{name:<12}{value}");
    };
    line("file", &clean(&file.display().to_string()));
    if let Some((size, digest)) = &findings.content {
        line("size", &format!("{size} bytes"));
        line("sha256", digest);
    }
    if let Some(description) = &findings.description {
        line("name", &clean(&description.name));
        line("version", &clean(&description.version));
        line("summary", &clean(&description.summary));
    }
    if let Some(survey) = &findings.survey {
        let kind = if survey.module { "core module, which the host makes a component of" } else { "component" };
        line("kind", kind);
        let versions = survey.versions();
        if !versions.is_empty() {
            line(
                "package",
                &format!("flowgate:conntrack {} (this host offers {})", versions.join(", "), ComponentInfo::offered()),
            );
        }
        let ours = interfaces(survey);
        let others = survey.exports.iter().filter(|name| !name.starts_with("flowgate:conntrack/"));
        let all: Vec<String> = ours.iter().copied().chain(others.map(String::as_str)).map(clean).collect();
        line("exports", &if all.is_empty() { "nothing".into() } else { all.join(", ") });
        if survey.imports.iter().all(|import| import.functions.is_empty()) {
            line("imports", "nothing");
        }
        for import in survey.imports.iter().filter(|import| !import.functions.is_empty()) {
            let mut parts = Vec::new();
            let service = match grant(&import.interface) {
                Some(grant) => format!("provided if it is granted, by --grant {grant}"),
                None => "provided by this host".to_string(),
            };
            for (provision, words) in [
                (ImportKind::Service, service.as_str()),
                (ImportKind::Harmless, "answered harmlessly"),
                (ImportKind::Refused, "ends the plugin if it is called"),
            ] {
                let names: Vec<String> =
                    import.functions.iter().filter(|(_, of)| *of == provision).map(|(name, _)| clean(name)).collect();
                if !names.is_empty() {
                    parts.push(format!("{}: {words}", names.join(", ")));
                }
            }
            line("imports", &format!("{} ({})", clean(&import.interface), parts.join("; ")));
        }
    }
    if let Some(description) = &findings.description {
        if description.options.is_empty() {
            line("options", "none");
        }
        for option in &description.options {
            let value = match (&option.default, option.required) {
                (Some(default), _) => format!("; {} if not given", clean(default)),
                (None, true) => "; required".into(),
                (None, false) => String::new(),
            };
            let name = match option.placeholder.as_str() {
                "" => clean(&option.name),
                placeholder => format!("{}={}", clean(&option.name), clean(placeholder)),
            };
            line("option", &format!("{name}  {}{value}", clean(&option.help)));
        }
        let grants: Vec<String> = description.grants.iter().map(|grant| clean(grant)).collect();
        line(
            "grants",
            &if grants.is_empty() { "it asks for none".into() } else { format!("it asks for {}", grants.join(", ")) },
        );
        let reads = fields(description.reads);
        line("reads", &if reads.is_empty() { "no fields".into() } else { reads.join(", ") });
        for detail in &description.details {
            line("detail", &format!("{}: {}", clean(&detail.name), clean(&detail.value)));
        }
    }
    if let Some((memory, time)) = findings.started {
        line(
            "memory",
            &format!("{} KiB after start-up (the limit is {} KiB)", memory >> 10, Limits::default().memory >> 10),
        );
        let (start, compile) = (milliseconds(time), milliseconds(findings.compiling));
        line("start-up", &format!("{start} ms, and {compile} ms to compile it the first time"));
    }
    if let Some(execution) = findings.execution.filter(|execution| execution.is_slowed()) {
        line("runs as", &execution.to_string());
    }
    if let Some(needed) = &findings.unstarted {
        line("note", &format!("it was not configured: {needed}"));
    }
    match &findings.problem {
        None => line("runs here", "yes"),
        Some(problem) => line("runs here", &format!("no: {}", clean(problem))),
    }
    page
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

/// Returns the results for programs.
fn object(file: &Path, findings: &Findings) -> Value {
    let mut object = json!({
        "type": "plugin",
        "file": file.display().to_string(),
        "offered": ComponentInfo::offered(),
        "runs": findings.problem.is_none(),
    });
    let Some(members) = object.as_object_mut() else { return object };
    let mut put = |name: &str, value: Value| members.insert(name.to_string(), value);
    if let Some((size, digest)) = &findings.content {
        put("size", (*size).into());
        put("sha256", digest.as_str().into());
    }
    if let Some(execution) = findings.execution {
        put("execution", execution.name().into());
    }
    if let Some(problem) = &findings.problem {
        put("problem", problem.as_str().into());
    }
    if let Some(note) = &findings.unstarted {
        put("unconfigured", note.as_str().into());
    }
    if let Some(survey) = &findings.survey {
        put("kind", if survey.module { "module" } else { "component" }.into());
        put("wants", survey.versions().into());
        put("exports", survey.exports.clone().into());
        let imports = survey.imports.iter().filter(|import| !import.functions.is_empty()).map(|import| {
            let functions: Vec<Value> =
                import.functions.iter().map(|(name, of)| json!({"name": name, "provision": provided(*of)})).collect();
            json!({"interface": import.interface, "grant": grant(&import.interface), "functions": functions})
        });
        put("imports", imports.collect());
    }
    if let Some(description) = &findings.description {
        put("name", description.name.as_str().into());
        put("version", description.version.as_str().into());
        put("summary", description.summary.as_str().into());
        let options = description.options.iter().map(|option| {
            json!({
                "name": option.name,
                "help": option.help,
                "placeholder": option.placeholder,
                "default": option.default,
                "required": option.required,
            })
        });
        put("options", options.collect());
        put("grants", description.grants.clone().into());
        put("reads", fields(description.reads).into());
        let details = description.details.iter().map(|detail| (detail.name.clone(), detail.value.as_str().into()));
        put("details", Value::Object(details.collect()));
    }
    if let Some((memory, time)) = findings.started {
        put("memory", memory.into());
        put("start_up_ns", u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).into());
        put("compile_ns", u64::try_from(findings.compiling.as_nanos()).unwrap_or(u64::MAX).into());
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_model::{OptionSpec, OptionValue};

    #[test]
    fn what_a_plugin_says_of_itself_moves_no_cursor() {
        let hostile = || "a\u{1b}[2J\n\u{9b}2J\u{202e}b".to_string();
        let option = OptionSpec {
            name: hostile(),
            help: hostile(),
            placeholder: hostile(),
            default: Some(hostile()),
            required: true,
        };
        let description = Description {
            name: hostile(),
            version: hostile(),
            summary: hostile(),
            options: vec![option],
            grants: vec![hostile()],
            details: vec![OptionValue::new(hostile(), hostile())],
            ..Description::default()
        };
        let findings = Findings {
            description: Some(description),
            problem: Some(hostile()),
            unstarted: Some(clean(&hostile())),
            ..Findings::default()
        };
        let page = page(Path::new("p\u{1b}.wasm"), &findings);
        assert_eq!(text::message(page.as_bytes()), page);
        let object = object(Path::new("p.wasm"), &findings);
        assert_eq!(object["summary"], hostile().as_str(), "a program reads what the plugin said");
        let json = text::json(&object.to_string()).into_owned();
        assert_eq!(text::message(json.as_bytes()), json);
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), object);
    }

    #[test]
    fn fields_have_the_names_of_the_interface() {
        let wit = include_str!("../../../../../wit/flow.wit");
        for (bit, name) in FIELDS.iter().enumerate() {
            let row = wit.lines().find(|line| {
                let mut cells = line.split('|').map(str::trim);
                cells.nth(1) == Some(&bit.to_string()) && cells.next() == Some(name)
            });
            assert!(row.is_some(), "{bit} {name}");
        }
    }
}
