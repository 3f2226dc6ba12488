//! The stages of a pipeline file.

use super::{
    diagnostic::Located,
    plugin::Plugin,
    reader::{Fields, Reader},
    selector::Selector,
    source::{SourceConfig, SourceKind},
};
use flowgate_model::{Flows, Selection};
use flowgate_query::Query;
use flowgate_syntax::{Command, Output, Table};

/// A stage.
#[derive(Clone, Debug)]
pub struct StageConfig {
    /// Offset of its section.
    pub offset: usize,
    /// Its kind.
    pub kind: StageKind,
    /// Its options, by name.
    pub options: Vec<(Located<String>, Located<String>)>,
    /// The selector of `match`, or the values of `update`, as written.
    pub text: Option<String>,
}

/// The kind of a stage.
#[derive(Clone, Debug)]
pub enum StageKind {
    /// A component.
    Plugin(Box<Plugin>),
    /// The stock stage `match`, its selector and its condition.
    Match(Box<Selection>, Option<Box<Query>>),
    /// The stock stage `update`, and its values as a batch of one row.
    Update(Box<Flows>),
    /// The stock stage `delete`.
    Delete,
    /// The stock stage `create`.
    Create,
}

impl Reader<'_> {
    pub(super) fn stages(&mut self, source: Option<&SourceConfig>) -> Vec<StageConfig> {
        let sections = self.sections.remove("stage").unwrap_or_default();
        sections.into_iter().filter_map(|fields| self.stage(&fields, source)).collect()
    }

    fn stage(&mut self, fields: &Fields, source: Option<&SourceConfig>) -> Option<StageConfig> {
        let stock = fields.text("stock");
        let kind = match (fields.key("plugin"), fields.key("stock")) {
            (Some(_), Some(offset)) => {
                self.wrong(offset, "a stage is either a `plugin` or a `stock` one, not both");
                return None;
            }
            (None, None) => {
                self.wrong(
                    fields.offset,
                    "a stage needs a `plugin = \"FILE\"`, or `stock` and the name of one that there is",
                );
                return None;
            }
            (Some(_), None) => "plugin".to_string(),
            (None, Some(_)) => stock?.value,
        };
        self.only("stage", fields, &kind);
        let flows = source.is_none_or(|source| source.table != Table::Expect);
        if !flows && matches!(kind.as_str(), "match" | "update") {
            self.wrong(
                fields.offset,
                format!("the stock stage `{kind}` is about flows, and the source yields expectations"),
            );
            return None;
        }
        let kind = match kind.as_str() {
            "match" => {
                if fields.key("where").is_none() {
                    self.needed(fields, "select", "stage", "match")?;
                }
                let command = match source.map(|source| source.kind) {
                    Some(SourceKind::Events) => Command::Events,
                    _ => Command::List,
                };
                match Selector::of(fields).parse((command, Table::Conntrack), Output::default(), None, self.text) {
                    Ok(settings) => StageKind::Match(Box::new(settings.selection), settings.query.map(Box::new)),
                    Err((offset, error)) => {
                        self.wrong(offset, error);
                        return None;
                    }
                }
            }
            "update" => {
                let set = self.needed(fields, "set", "stage", "update")?;
                match flowgate_syntax::fragment::parse_update(&set.value, &flowgate_syntax::SystemEnvironment) {
                    Ok(settings) => StageKind::Update(Box::new(settings.template)),
                    Err(error) => {
                        self.wrong(set.offset, format!("`set`: {error}"));
                        return None;
                    }
                }
            }
            "delete" => StageKind::Delete,
            "create" => StageKind::Create,
            _ => StageKind::Plugin(self.plugin(fields, "plugin", true)?),
        };
        let written = ["select", "where", "set"].into_iter().filter_map(|key| fields.text(key)).map(|key| key.value);
        let text = written.reduce(|first, second| format!("{first} and {second}"));
        Some(StageConfig { offset: fields.offset, kind, options: self.options(fields), text })
    }
}
