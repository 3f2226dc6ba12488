//! Tenants that see a flow, their permissions for it, and the rules that decide: for people, or as JSON.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    os::unix::ffi::OsStrExt as _,
};

use serde::Serialize;

use super::PolicyError;
use crate::{
    args::Report,
    command::report::{CommandError, Exit},
};
use flowgate_base::text::json;
use flowgate_model::Flows;
use flowgate_pipeline::sink::Sink;
use flowgate_policy::{Policy, ScopeView, Tenant, scope::Outside};

/// The explanation of a flow.
#[derive(Debug, Serialize)]
struct FlowReport {
    /// The flow as given on the command line.
    flow: String,
    tenants: Vec<TenantReport>,
}

#[derive(Debug, Serialize)]
struct TenantReport {
    tenant: String,
    /// True if the flow is in the scope.
    sees: bool,
    /// True if the tenant may act on it.
    acts: bool,
    /// The reason why the tenant may not act on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    rules: Vec<RuleReport>,
    plugins: Vec<PluginReport>,
}

#[derive(Debug, Serialize)]
struct RuleReport {
    /// Number of the rule, from 1.
    rule: usize,
    /// Line of the file.
    line: usize,
    holds: bool,
    /// The first criterion that does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    misses: Option<&'static str>,
    /// The end whose address is translated to one that the rule does not cover.
    #[serde(skip_serializing_if = "Option::is_none")]
    translated: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct PluginReport {
    plugin: String,
    sha256: String,
    /// Grants that apply to this flow.
    may: Vec<String>,
}

/// Runs the subcommand.
pub(super) fn run(
    policy: &Policy,
    namespace: Option<&str>,
    output: Report,
    words: &[OsString],
    stdout: &mut dyn Sink,
) -> Result<Exit, CommandError> {
    let line = line(words);
    let view = ScopeView::of(&flow(policy, &line)?, 0);
    let report = FlowReport {
        flow: line,
        tenants: policy.tenants.iter().map(|tenant| tenant_report(tenant, namespace, &view)).collect(),
    };
    let text = match output {
        // This value can always be serialized.
        Report::Json => json(&(serde_json::to_string_pretty(&report).unwrap_or_default() + "\n")).into_owned(),
        Report::Text => text(&report, &policy.text.path.display().to_string()),
    };
    stdout.write(text.as_bytes())?;
    Ok(Exit::Success)
}

/// Returns the words as a line of a fixture. If they are only options, they become those of a command that creates a
/// flow.
fn line(words: &[OsString]) -> String {
    let is = |word: &OsStr, names: &[&str]| names.iter().any(|name| word == *name);
    let first = words.first().map(OsString::as_os_str).unwrap_or_default();
    let mut line = Vec::new();
    if first.as_bytes().starts_with(b"-") {
        if !is(first, &["-A", "-I", "--add", "--create"]) {
            line.push("-A".to_string());
        }
        if !words.iter().any(|word| is(word, &["-t", "--timeout"])) {
            line.push("-t 60".to_string());
        }
    }
    line.extend(words.iter().map(|word| word.to_string_lossy().into_owned()));
    line.join(" ")
}

fn flow(policy: &Policy, line: &str) -> Result<Flows, CommandError> {
    let wrong = |wrong: String, right: &str| CommandError::Policy(PolicyError::Flow { wrong, right: right.into() });
    let flows = flowgate_fixture::flows("flow", line.as_bytes(), &policy.labels.labels());
    let flows = flows.map_err(|error| wrong(error.wrong, &error.right))?;
    match flows.length {
        1 => Ok(flows),
        count => Err(wrong(format!("there are {count} flows in it"), "give one, as conntrack -L prints it")),
    }
}

fn tenant_report(tenant: &Tenant, namespace: Option<&str>, view: &ScopeView) -> TenantReport {
    let of_it = || flowgate_netlink::namespace::identity(namespace);
    let here = tenant.namespace.as_deref() == namespace
        || (of_it().is_some() && of_it() == flowgate_netlink::namespace::identity(tenant.namespace.as_deref()));
    let rules: Vec<RuleReport> = tenant
        .scope
        .rules()
        .iter()
        .enumerate()
        .map(|(index, rule)| {
            let misses = if here { rule.first_mismatch(view) } else { Some("namespace") };
            let translated = misses.is_none().then(|| rule.uncovered_translation(view)).flatten();
            RuleReport { rule: index + 1, line: rule.line, holds: misses.is_none(), misses, translated }
        })
        .collect();
    let sees = rules.iter().any(|rule| rule.holds);
    let acts = if here { tenant.scope.may_act(view).map(|_| ()) } else { Err(Outside::Scope) };
    let plugins = tenant.plugins.iter().filter(|_| sees).map(|plugin| {
        let grants = plugin.plugin.grants.value.to_string();
        let granted = grants.split(',').filter(|word| {
            let action = ["delete", "create", "update"].iter().any(|action| word.starts_with(action));
            action && acts.is_ok()
        });
        let may = std::iter::once("annotate").chain(granted).map(str::to_string).collect();
        PluginReport { plugin: plugin.name(), sha256: plugin.digest.value.clone(), may }
    });
    TenantReport {
        tenant: tenant.name.clone(),
        sees,
        acts: acts.is_ok(),
        reason: acts.err().map(|outside| outside.to_string()),
        plugins: plugins.collect(),
        rules,
    }
}

fn text(report: &FlowReport, file: &str) -> String {
    let mut text = format!("{}\n", report.flow);
    // Writing to a string cannot fail.
    for tenant in &report.tenants {
        let verb = match (tenant.sees, tenant.acts) {
            (false, _) => "does not see it",
            (true, false) => "sees it, and may not act on it",
            (true, true) => "sees it, and may act on it",
        };
        let _ = writeln!(text, "\ntenant {}: {verb}", tenant.tenant);
        for rule in &tenant.rules {
            let says = match (rule.misses, rule.translated) {
                (Some(criterion), _) => format!("does not hold: `{criterion}`"),
                (None, Some(end)) => {
                    format!("holds, but the {end} is translated to an address that it does not cover")
                }
                (None, None) => "holds".into(),
            };
            let _ = writeln!(text, "  rule {} ({file}:{}) {says}", rule.rule, rule.line);
        }
        for plugin in &tenant.plugins {
            let _ = writeln!(text, "  plugin {} may {}", plugin.plugin, plugin.may.join(", "));
        }
    }
    text
}
