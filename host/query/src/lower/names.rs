//! Names of numbers: protocols, services, states and the like; and what an unknown name may have been meant for.

use flowgate_model::Operation;
use flowgate_names::{
    event, family, protocol,
    query::{self, QueryField, kind},
    state, status,
};

use super::{Hint, Lowering};
use crate::{
    condition::{Condition, number},
    error::{Diagnostic, nearest, quoted},
    lexer,
    parser::{Id, NodeKind},
    protocols, services,
};

/// Kinds of event that have a name.
pub(crate) const EVENTS: [(&str, u8); 4] =
    [("new", event::NEW), ("update", event::UPDATE), ("destroy", event::DESTROY), ("gap", event::GAP)];

/// Protocols with states, and the names of these.
pub(super) const STATES: [(u8, &[&str]); 3] =
    [(protocol::TCP, &state::TCP), (protocol::SCTP, &state::SCTP), (protocol::DCCP, &state::DCCP)];

impl Lowering<'_> {
    /// Returns the message for a name that nothing has.
    pub(super) fn unknown(&self, id: Id, hint: Hint, condition: bool) -> Diagnostic {
        let name = self.word(id);
        let fields = query::ALL.iter().flat_map(|field| field.aliases.iter().copied().chain([field.name]));
        let mut known: Vec<&str> = fields.collect();
        let lower: Vec<String> = status::NAMES.iter().map(|(_, name)| name.to_ascii_lowercase()).collect();
        if condition {
            known.extend(lower.iter().map(String::as_str));
            known.extend(["true", "false"]);
        }
        let what = hint.and_then(names_of).unwrap_or("field");
        let wrong = Diagnostic::new(self.at(id), format!("there is no {what} {}", quoted(name)));
        if what == "service"
            && let Some(whole) = self.hyphenated(id)
        {
            return wrong.hint(format!("names with `-` are in quotation marks: \"{whole}\""));
        }
        if let Some(field) = hint {
            let symbols = symbols_of(field);
            if let Some(near) = nearest(name, symbols.iter().copied()) {
                let near = if near.contains('-') { format!("\"{near}\"") } else { near.to_owned() };
                return wrong.hint(format!("did you mean `{near}`?"));
            }
        }
        if status_bit(name).is_some() {
            return wrong.hint(format!("it is a status bit: status & {} != 0", name.to_ascii_uppercase()));
        }
        if let Some(near) = nearest(name, known.iter().copied()) {
            let text = hint.filter(|field| field.kind == kind::TEXT).map(|_| format!(", or \"{name}\" as a text"));
            return wrong.hint(format!("did you mean `{near}`{}?", text.unwrap_or_default()));
        }
        if hint.is_some_and(|field| field.kind == kind::TEXT) {
            return wrong.hint("texts are in quotation marks");
        }
        // The end of longer names: `source_address` or `country`.
        let last = name.rsplit('.').next().unwrap_or_default();
        let ends: Vec<String> = known
            .iter()
            .filter(|known| !last.is_empty() && known.rsplit('.').next() == Some(last))
            .map(|name| format!("`{name}`"))
            .collect();
        match (ends.is_empty(), what) {
            (false, _) => wrong.hint(format!("did you mean {}?", ends.join(" or "))),
            (true, "field") => wrong.hint("texts are in quotation marks, annotations are annotations.KEY, fields have the names of the JSON output"),
            (true, "service") => wrong.hint("a port by its number, or a name of /etc/services"),
            (true, "protocol") => wrong.hint("a protocol by its number, or a name of /etc/protocols"),
            (true, _) => {
                let symbols = hint.map(symbols_of).unwrap_or_default();
                wrong.hint(format!("there are {}", symbols.join(", ")))
            }
        }
    }

    /// Returns the whole of a name like `http-alt`, which is read as a difference; `None` if the name is no part of
    /// one.
    pub(super) fn hyphenated(&self, id: Id) -> Option<&str> {
        const LONGEST: usize = 40;
        let at = self.tree.node(id).inner.clone();
        let part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let (before, after) = (self.tree.text.get(..at.start)?, self.tree.text.get(at.end..)?);
        let start = at.start - before.bytes().rev().take(LONGEST).take_while(part).count();
        let end = at.end + after.bytes().take(LONGEST).take_while(part).count();
        let whole = self.tree.text.get(start..end)?;
        whole.trim_matches('-').contains('-').then_some(whole)
    }

    /// Returns the number of a name among the values of a field.
    pub(super) fn symbol(&self, field: &QueryField, name: &str) -> Option<i128> {
        match names_of(field)? {
            "protocol" => self.context.protocol(name).map(i128::from),
            "service" => self.context.service(name).map(i128::from),
            "family" => [family::IPV4, family::IPV6]
                .into_iter()
                .find(|number| family::name(*number).is_some_and(|known| known.eq_ignore_ascii_case(name)))
                .map(i128::from),
            "kind of event" => {
                EVENTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, number)| i128::from(*number))
            }
            "status bit" => status_bit(name).map(i128::from),
            _ => None,
        }
    }

    /// Returns protocols and states that a name stands for; `None` if the node is no name of a state.
    pub(super) fn states_of(&self, id: Id) -> Result<Option<Vec<(u8, u8)>>, Diagnostic> {
        let node = self.tree.node(id);
        let name = match &node.kind {
            NodeKind::Name if query::by_name(self.word(id)).is_none() && !self.word(id).starts_with("annotations") => {
                self.word(id).to_owned()
            }
            NodeKind::Text => lexer::content(self.tree.text, node.inner.clone())?,
            _ => return Ok(None),
        };
        let found = states(&name);
        if !found.is_empty() {
            return Ok(Some(found));
        }
        let known = STATES.iter().flat_map(|(_, names)| names.iter().copied());
        let wrong = Diagnostic::new(node.at.clone(), format!("there is no state {}", quoted(&name)));
        Err(match nearest(&name, known) {
            Some(near) => wrong.hint(format!("did you mean `{near}`?")),
            None => wrong.hint(format!("states of TCP are {}", state::TCP.join(", "))),
        })
    }
}

/// Returns what names of this field's values stand for, and what they are called.
pub(super) fn names_of(field: &QueryField) -> Option<&'static str> {
    match field.kind {
        kind::PROTOCOL => Some("protocol"),
        kind::PORT => Some("service"),
        kind::FAMILY => Some("family"),
        kind::EVENT => Some("kind of event"),
        kind::STATE => Some("state"),
        kind::STATUS => Some("status bit"),
        _ if matches!(field.number, query::NAT_SOURCE_PORT | query::NAT_DESTINATION_PORT) => Some("service"),
        _ => None,
    }
}

/// Returns the bit of a status by its name.
pub(super) fn status_bit(name: &str) -> Option<u32> {
    status::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(bit, _)| *bit)
}

/// Returns the bit of a status by its name in small letters, which alone is a truth value.
pub(super) fn status_truth(name: &str) -> Option<u32> {
    status_bit(name).filter(|_| query::by_name(name).is_none() && !name.bytes().any(|byte| byte.is_ascii_uppercase()))
}

/// Returns the test of a status bit.
pub(super) fn status_test(bit: u32) -> Condition {
    Condition::Test(vec![
        Operation::Field(query::STATUS),
        Operation::Number(number(bit.into())),
        Operation::Arithmetic(5),
        Operation::Number(number(0)),
        Operation::Compare(1),
    ])
}

/// Returns protocols and numbers of the states with this name.
pub(super) fn states(name: &str) -> Vec<(u8, u8)> {
    let mut found = Vec::new();
    for (protocol, names) in STATES {
        if let Some(number) = names.iter().position(|known| known.eq_ignore_ascii_case(name)) {
            found.push((protocol, number as u8));
        }
    }
    found
}

/// Returns the names of a field's values.
pub(super) fn symbols_of(field: &'static QueryField) -> Vec<&'static str> {
    match names_of(field) {
        Some("protocol") => protocols::names().collect(),
        Some("service") => services::names().collect(),
        Some("family") => [family::IPV4, family::IPV6].into_iter().filter_map(family::name).collect(),
        Some("kind of event") => EVENTS.iter().map(|(name, _)| *name).collect(),
        Some("state") => STATES.iter().flat_map(|(_, names)| names.iter().copied()).collect(),
        Some("status bit") => status::NAMES.iter().map(|(_, name)| *name).collect(),
        _ => Vec::new(),
    }
}
