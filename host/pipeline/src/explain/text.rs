//! An explanation for people: headings in the first column, what belongs to them beside.

use std::fmt::Write as _;

use super::{Explanation, PluginExplanation};

/// The width of the first column.
const HEADING: usize = 10;

impl Explanation {
    /// Returns the explanation as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (heading, line) in &self.title.lines {
            section(&mut text, heading, [line.clone()]);
        }
        section(&mut text, "namespace", self.namespace.clone());
        section(&mut text, "source", self.source_lines());
        let selector = self.selector.iter().map(|check| match check.reason {
            None => format!("{}: checked by the kernel", check.condition),
            Some(reason) => format!("{}: checked by the stage match ({reason})", check.condition),
        });
        section(&mut text, "selector", selector);
        let stages = self.stages.iter().enumerate().flat_map(|(index, stage)| {
            let mut lines = stage.lines();
            if let Some(first) = lines.first_mut() {
                first.insert_str(0, &format!("{}. ", index + 1));
            }
            lines
        });
        section(&mut text, "stages", if self.stages.is_empty() { vec!["none".into()] } else { stages.collect() });
        section(&mut text, "actions", self.actions.clone());
        section(&mut text, "groups", self.aggregation.iter().flat_map(PluginExplanation::lines));
        section(&mut text, "metrics", self.metrics.iter().flat_map(PluginExplanation::lines));
        let format = self.format.as_ref().map_or_else(|| vec!["nothing is shown".into()], PluginExplanation::lines);
        section(&mut text, "format", format);
        if matches!(self.source.kind, "dump" | "events" | "recording") {
            section(&mut text, "batches", [format!("of at most {} entries", self.batch)]);
        }
        let sinks = self.sinks.iter().flat_map(|sink| {
            let to = if sink.kind == "stdout" { String::new() } else { format!(" {}", sink.to) };
            let first = format!("{}{to}", sink.kind);
            std::iter::once(first).chain(sink.details.iter().map(|detail| format!("   {detail}"))).collect::<Vec<_>>()
        });
        section(&mut text, "sinks", sinks);
        section(&mut text, "end", self.end.clone());
        text
    }

    fn source_lines(&self) -> Vec<String> {
        let source = &self.source;
        let family = match source.family {
            "both" => String::new(),
            family if matches!(source.kind, "dump" | "recording") => format!(", of {family} only"),
            _ => String::new(),
        };
        let mut lines = vec![format!("{}{family}", source.text)];
        lines.extend(source.requests.iter().map(|request| format!("asks: {request}")));
        lines
    }
}

/// Appends a section, if it has lines.
fn section(text: &mut String, heading: &str, lines: impl IntoIterator<Item = String>) {
    for (index, line) in lines.into_iter().enumerate() {
        let heading = if index == 0 { heading } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{heading:<HEADING$} {line}");
    }
}

impl PluginExplanation {
    fn lines(&self) -> Vec<String> {
        let given =
            |option: &super::OptionExplanation| option.value.as_ref().map(|value| format!("{}={value}", option.name));
        if self.stock {
            let mut first = format!("{}: {}", self.plugin, self.summary);
            let options: Vec<String> = self.options.iter().filter_map(given).collect();
            if !options.is_empty() {
                let _ = write!(first, " ({})", options.join(", "));
            }
            let input = self.input.as_ref().filter(|input| !input.is_empty());
            return std::iter::once(first).chain(input.map(|input| format!("   {input}"))).collect();
        }
        let mut lines = vec![format!("{} ({} {}): {}", self.plugin, self.name, self.version, self.summary)];
        let mut detail = |text: String| lines.push(format!("   {text}"));
        if let Some(file) = self.file.as_ref().filter(|file| **file != self.plugin) {
            detail(format!("file: {file}"));
        }
        if let Some(digest) = &self.sha256 {
            detail(format!("sha256: {digest}"));
        }
        detail(format!("interfaces: {}", self.interfaces.join(", ")));
        if !self.services.is_empty() {
            detail(format!("services: {}", self.services.join(", ")));
        }
        for option in &self.options {
            let value = option.value.as_deref().unwrap_or("(not given)");
            detail(format!("option {} = {value} ({})", option.name, option.help));
        }
        detail(format!("grants: {}", self.grants));
        if let Some(limits) = &self.limits {
            detail(format!(
                "limits: memory {}, call {}, start-up {}, output {}, {} actions a call, state {}",
                limits.memory, limits.call, limits.start_up, limits.output, limits.actions, limits.state
            ));
            detail(format!(
                "on error: {}; quarantined after {} failures within {}",
                self.on_error, limits.restarts, limits.window
            ));
        }
        lines
    }
}
