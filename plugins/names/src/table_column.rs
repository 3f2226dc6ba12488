//! Columns of tables (`--columns`): the fields of queries, and columns that join several fields.

use crate::query;

/// Source address and port of the original direction.
pub const FROM: u32 = 1001;
/// Destination address and port of the original direction.
pub const TO: u32 = 1002;
/// Source address and port of the reply direction.
pub const REPLY_FROM: u32 = 1003;
/// Destination address and port of the reply direction.
pub const REPLY_TO: u32 = 1004;
/// What source and destination are translated to.
pub const NAT: u32 = 1005;
/// The state by name, or a word for the status of a flow without a state.
pub const STATE_OR_STATUS: u32 = 1006;
/// The zone, or those of the two directions.
pub const ZONES: u32 = 1007;
/// All annotations.
pub const ANNOTATIONS: u32 = 1008;
/// The network namespace of an event, by name or number.
pub const NAMESPACE: u32 = 1009;
/// One annotation: its key follows [`ANNOTATION_PREFIX`].
pub const ANNOTATION: u32 = 1010;

/// The agent of a fleet that has sent the flow: the annotation [`AGENT_KEY`]. It is not chosen by a name.
pub const AGENT: u32 = 1011;

/// The key of the annotation with the agent.
pub const AGENT_KEY: &str = "agent";
/// The beginning of the name of a column with one annotation.
pub const ANNOTATION_PREFIX: &str = "annotations.";

/// The columns that are no fields, and their names.
pub const JOINED: [(u32, &str); 9] = [
    (FROM, "from"),
    (TO, "to"),
    (REPLY_FROM, "reply.from"),
    (REPLY_TO, "reply.to"),
    (NAT, "nat"),
    (STATE_OR_STATUS, "state_or_status"),
    (ZONES, "zones"),
    (ANNOTATIONS, "annotations"),
    (NAMESPACE, "namespace"),
];

/// Returns the number of a column by its name: that of a field, or one of the numbers above.
#[must_use]
pub fn by_name(name: &str) -> Option<u32> {
    if let Some(field) = query::by_name(name) {
        return Some(field.number);
    }
    if name.strip_prefix(ANNOTATION_PREFIX).is_some_and(|key| !key.is_empty()) {
        return Some(ANNOTATION);
    }
    JOINED.iter().find(|(_, joined)| *joined == name).map(|(number, _)| *number)
}

/// Returns the names of all columns except single annotations.
pub fn names() -> impl Iterator<Item = &'static str> {
    JOINED.iter().map(|(_, name)| *name).chain(query::ALL.iter().flat_map(|field| {
        // The short names are those that users type.
        field.aliases.iter().copied().chain([field.name])
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_column_has_the_name_of_a_field() {
        for (number, name) in JOINED {
            assert!(query::by_name(name).is_none(), "{name}");
            assert!(query::by_number(number).is_none(), "{name}");
            assert_eq!(by_name(name), Some(number));
        }
        assert_eq!(by_name("src"), Some(query::ORIGINAL_SOURCE));
        assert_eq!(by_name("annotations.country"), Some(ANNOTATION));
        assert_eq!(by_name("annotations."), None);
        assert_eq!(by_name("sourc"), None);
    }
}
