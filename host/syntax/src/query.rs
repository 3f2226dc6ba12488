//! The condition of `--where`, and the files with the names that it uses.

use std::cell::OnceCell;

use flowgate_query::{Context, Query, protocols, services};

use super::{
    aggregation::Aggregate,
    environment::Environment,
    error::CliError,
    labels::{DEFAULT_LABEL_MAP, LabelMap},
    options::AGGREGATING,
    parsed_options::ParsedOptions,
};

const SERVICES: &str = "/etc/services";
const PROTOCOLS: &str = "/etc/protocols";

/// What a command line asks for in the query language.
#[derive(Debug, Default)]
pub(crate) struct ParsedQuery {
    /// The condition.
    pub query: Option<Query>,
    /// The groups.
    pub aggregate: Option<Aggregate>,
    /// The names of labels, if they are used and could be read.
    pub map: Option<LabelMap>,
}

/// Returns the condition of a command line, the groups that it asks for, and the label map if they use labels and the
/// file can be read; otherwise a warning is added.
///
/// # Errors
/// [`CliError::Query`] if it is not a condition, or there are no such groups.
pub(crate) fn parse(
    parsed: &ParsedOptions,
    environment: &dyn Environment,
    warnings: &mut Vec<String>,
) -> Result<ParsedQuery, CliError> {
    let aggregates = parsed.given.contains_any(&AGGREGATING);
    if parsed.query.is_none() && !aggregates {
        return Ok(ParsedQuery::default());
    }
    let map = OnceCell::new();
    let path = parsed.label_map.as_deref().unwrap_or(DEFAULT_LABEL_MAP.as_bytes());
    let labels = |name: &str| {
        let map: &Result<LabelMap, String> = map.get_or_init(|| LabelMap::load(environment, path));
        map.as_ref().ok()?.bit(name.as_bytes())
    };
    let text_of = |file: &str| {
        environment.read(file.as_bytes()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    };
    let known_services = OnceCell::new();
    let known_protocols = OnceCell::new();
    let context = Context {
        labels: &labels,
        services: &|name| known_services.get_or_init(|| services::of_file(&text_of(SERVICES))).get(name).copied(),
        protocols: &|name| known_protocols.get_or_init(|| protocols::of_file(&text_of(PROTOCOLS))).get(name).copied(),
    };
    let query = parsed.query.as_ref().map(|text| Query::parse(text, &context)).transpose();
    let query = query.map_err(|error| CliError::Query("where", Box::new(error)))?;
    let aggregate = aggregates.then(|| parsed.aggregation.parse(&context)).transpose();
    let aggregate = aggregate.map_err(|(option, error)| CliError::Query(option, Box::new(error)))?;
    let reads = query.as_ref().map_or(0, |query| query.program.reads)
        | aggregate.as_ref().map_or(0, |aggregate| aggregate.aggregation.reads());
    // The plugins print the names of labels where they use their list.
    if reads & flowgate_model::field::LABELS != 0 {
        map.get_or_init(|| LabelMap::load(environment, path));
    }
    let map = match map.into_inner() {
        Some(Ok(map)) => Some(map),
        Some(Err(warning)) => {
            warnings.push(warning);
            None
        }
        None => None,
    };
    Ok(ParsedQuery { query, aggregate, map })
}
