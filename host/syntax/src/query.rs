//! The condition of `--where`, and the files with the names that it uses.

use std::cell::OnceCell;

use flowgate_query::{Context, Query, protocols, services};

use super::{
    environment::Environment,
    error::CliError,
    labels::{DEFAULT_LABEL_MAP, LabelMap},
    parsed_options::ParsedOptions,
};

const SERVICES: &str = "/etc/services";
const PROTOCOLS: &str = "/etc/protocols";

/// Returns the condition of a command line, and the label map if it uses labels and the file can be read; otherwise a
/// warning is added.
///
/// # Errors
/// [`CliError::Where`] if it is not a condition.
pub(crate) fn parse(
    parsed: &ParsedOptions,
    environment: &dyn Environment,
    warnings: &mut Vec<String>,
) -> Result<(Option<Query>, Option<LabelMap>), CliError> {
    let Some(text) = &parsed.query else { return Ok((None, None)) };
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
    let query = Query::parse(text, &context).map_err(|error| CliError::Where(Box::new(error)))?;
    // The stage prints the names of labels where it compares their list.
    if query.program.reads & flowgate_model::field::LABELS != 0 {
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
    Ok((Some(query), map))
}
