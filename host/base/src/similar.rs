//! What a misspelt name may have been meant for.

/// Returns the known name that is most similar to a name, if any is similar enough. Known names are in lower case.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    let near = known
        .into_iter()
        // Comparing takes time and memory in proportion to the product of both lengths.
        .filter(|known| length.abs_diff(known.len()) <= 1 + known.len() / 4)
        .map(|known| (strsim::damerau_levenshtein(&name.to_lowercase(), known), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4);
    near.min().map(|(_, known)| known)
}
