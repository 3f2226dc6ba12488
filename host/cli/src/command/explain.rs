//! `--explain`: the requests of a command to the kernel and to plugins, and its output, without carrying it out.

use super::{
    Context, long_name, lower,
    report::{CommandError, Exit},
    table::{Nothing, Row, Summary},
};
use flowgate_netlink::Namespace;
use flowgate_pipeline::{
    Spec,
    explain::{Explanation, Title},
    loader::{PluginLoader, Purpose},
    spec::{OnRefusal, RecordingSpec, Source},
};
use flowgate_syntax::{Output, Settings};

impl Context<'_> {
    /// Explains a command. `recording` replaces the kernel as source. `loading` is true for a line of a load file.
    pub(super) fn explain(
        &mut self,
        row: &Row,
        settings: &Settings,
        recording: Option<RecordingSpec>,
        loading: bool,
    ) -> Result<Exit, CommandError> {
        let namespace: Option<Namespace> = self.namespace(settings)?;
        let mut spec = match recording {
            Some(recording) => Spec { source: Source::Recording(recording), ..lower::entries(row, settings, None) },
            None => lower::command(row, settings, namespace)?,
        };
        if loading {
            spec.on_refusal = OnRefusal::StopAtOnce;
        }
        let loader = self.loader(settings)?;
        let command = long_name(settings.command);
        let mut explanation = explanation(row, spec, &loader)?;
        explanation.title = Title::default()
            .line("command", format!("--{command} {}", settings.table))
            .field("command", command)
            .field("table", settings.table.name());
        explanation.end = Some(match loading {
            true => "nothing on standard error; the next line follows unless the kernel refuses something".into(),
            false => end(row, settings),
        });
        let text = if settings.output.contains(Output::JSON) {
            explanation.json()
        } else {
            explanation.text() + if loading { "\n" } else { "" }
        };
        self.sink.write(text.as_bytes())?;
        Ok(Exit::Success)
    }
}

/// Loads the plugins of a spec and explains it.
fn explanation(row: &Row, spec: Spec, loader: &PluginLoader) -> Result<Explanation, CommandError> {
    let loaded = spec.load(loader, Purpose::Inspect)?;
    Explanation::new(&loaded).map_err(|error| CommandError::of_errno(row, error.errno()))
}

/// Returns the description of how a command ends.
fn end(row: &Row, settings: &Settings) -> String {
    if settings.dry_run {
        return "`N actions have been printed, none was done.` on standard error".into();
    }
    if settings.quiet {
        return "nothing on standard error; exit status 0 also if nothing was found".into();
    }
    match row.summary {
        Summary::None => "nothing on standard error".into(),
        Summary::Always(text) => format!("`{text}` on standard error, in any case"),
        Summary::Done(text) => format!("`N {text}` on standard error"),
        Summary::Shown(text, Nothing::Failure) => {
            format!("`N {text}` on standard error; exit status 1 if there is none")
        }
        Summary::Shown(text, Nothing::Success) => format!("`N {text}` on standard error"),
    }
}
