//! The keys `select` and `where`, which a source and the stage `match` have.

use flowgate_model::Table;
use flowgate_syntax::{
    CliError, Command, Output, Settings, SystemEnvironment,
    fragment::{self, FragmentError},
};

use super::{
    aggregate::AggregateConfig,
    diagnostic::{Located, SourceText},
    reader::Fields,
};

/// What is selected, as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// The options of `select`; empty if the key is not there.
    pub select: Located<String>,
    /// The condition of `where`.
    pub condition: Option<Located<String>>,
}

impl Selector {
    /// Returns the selector of a section.
    pub(super) fn of(fields: &Fields) -> Selector {
        let none = || Located { value: String::new(), offset: fields.offset };
        Selector { select: fields.text("select").unwrap_or_else(none), condition: fields.text("where") }
    }

    /// Parses it, for a command on a table.
    ///
    /// # Errors
    /// The place of the mistake in the file, and what is wrong.
    pub(super) fn parse(
        &self,
        (command, table): (Command, Table),
        output: Output,
        aggregate: Option<&AggregateConfig>,
        file: &SourceText,
    ) -> Result<Settings, (usize, String)> {
        let condition = self.condition.as_ref().map(|condition| condition.value.as_str());
        let environment = &SystemEnvironment;
        let options = aggregate.map(|aggregate| aggregate.options.clone());
        let selector = fragment::SelectorText { options: &self.select.value, condition, aggregation: options };
        fragment::parse_selector(command, table, selector, output, environment).map_err(|error| {
            match (error, &self.condition) {
                (FragmentError::Cli(CliError::Query(key, error)), _) if key != "where" => {
                    let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
                    let offset = aggregate.map_or(self.select.offset, |aggregate| aggregate.place(key));
                    (offset, format!("`{key}`: {}{hint}", error.message))
                }
                (FragmentError::Cli(CliError::Query(_, error)), Some(condition)) if error.text == condition.value => {
                    // The place in the text, if it stands in the file as it is, behind one quotation mark or three.
                    let stands = |quotes: &usize| {
                        let rest = file.text.get(condition.offset + quotes..);
                        rest.is_some_and(|rest| rest.starts_with(&condition.value))
                    };
                    let place = [1, 3].iter().find(|quotes| stands(quotes)).map_or(0, |quotes| quotes + error.at.start);
                    let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
                    (condition.offset + place, format!("`where`: {}{hint}", error.message))
                }
                (error, _) => (self.select.offset, format!("`select`: {error}")),
            }
        })
    }
}
