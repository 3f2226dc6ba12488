//! Compares a file with the table of keys, and collects all mistakes.

use std::{collections::BTreeMap, time::Duration};

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    diagnostic::{Diagnostic, Located, SourceText, list, no_such},
    keys::{Key, Kind, Section},
};
use flowgate_base::{
    text::clean,
    units::{self, SIZE, TIME},
};

/// A value of the type that its key requires.
#[derive(Clone, Debug)]
pub enum Value {
    /// Of `Text`, `Path` and `OneOf`.
    Text(String),
    /// Of `Switch`.
    Switch(bool),
    /// Of `Count` and `Size`.
    Count(u64),
    /// Of `Time`.
    Time(Duration),
    /// Of `Some`, `Words` and `Items`.
    Words(Vec<Located<String>>),
    /// Of `Values`.
    Values(Vec<(Located<String>, Located<String>)>),
    /// Of `Table`.
    Table(Fields),
    /// Of `Tables`.
    Tables(Vec<Fields>),
}

/// A section of the file.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// Offset of its beginning.
    pub offset: usize,
    fields: BTreeMap<&'static str, Located<Value>>,
    /// Offsets of the keys.
    keys: BTreeMap<&'static str, usize>,
}

impl Fields {
    /// Returns the offset of a key, if it is given.
    pub fn key(&self, name: &str) -> Option<usize> {
        self.keys.get(name).copied()
    }

    /// Returns the text of a key, if it is given.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Located<String>> {
        match self.fields.get(name) {
            Some(Located { value: Value::Text(text), offset }) => Some(Located::new(text.clone(), *offset)),
            _ => None,
        }
    }

    /// Returns the value of a switch, if it is given.
    #[must_use]
    pub fn switch(&self, name: &str) -> Option<bool> {
        match self.fields.get(name)?.value {
            Value::Switch(on) => Some(on),
            _ => None,
        }
    }

    /// Returns a number, or a size in bytes, if it is given.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<Located<u64>> {
        match self.fields.get(name) {
            Some(Located { value: Value::Count(count), offset }) => Some(Located::new(*count, *offset)),
            _ => None,
        }
    }

    /// Returns a time, if it is given.
    #[must_use]
    pub fn time(&self, name: &str) -> Option<Located<Duration>> {
        match self.fields.get(name) {
            Some(Located { value: Value::Time(time), offset }) => Some(Located::new(*time, *offset)),
            _ => None,
        }
    }

    /// Returns a list of words, if it is given.
    #[must_use]
    pub fn words(&self, name: &str) -> Option<&[Located<String>]> {
        match &self.fields.get(name)?.value {
            Value::Words(words) => Some(words),
            _ => None,
        }
    }

    /// Returns names and values; none if they are not given.
    #[must_use]
    pub fn values(&self, name: &str) -> &[(Located<String>, Located<String>)] {
        match self.fields.get(name).map(|field| &field.value) {
            Some(Value::Values(values)) => values,
            _ => &[],
        }
    }

    /// Returns the fields of a nested table, if it is given.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Fields> {
        match &self.fields.get(name)?.value {
            Value::Table(fields) => Some(fields),
            _ => None,
        }
    }

    /// Returns the fields of each table in a nested list.
    #[must_use]
    pub fn tables(&self, name: &str) -> &[Fields] {
        match self.fields.get(name).map(|field| &field.value) {
            Some(Value::Tables(tables)) => tables,
            _ => &[],
        }
    }
}

/// The sections of a file by name, and its mistakes.
pub struct Reader<'a> {
    /// The file.
    pub text: &'a SourceText,
    /// Its mistakes.
    pub diagnostics: Vec<Diagnostic>,
    /// The fields of the sections, by the name of the section.
    pub sections: BTreeMap<&'static str, Vec<Fields>>,
}

impl<'a> Reader<'a> {
    /// Reads all sections, which must be among `known`.
    pub fn read(text: &'a SourceText, known: &'static [Section]) -> Self {
        let mut reader = Reader { text, diagnostics: Vec::new(), sections: BTreeMap::new() };
        let (table, errors) = DeTable::parse_recoverable(&text.text);
        for error in errors {
            let offset = error.span().map_or(0, |span| span.start);
            reader.wrong(offset, error.message().lines().collect::<Vec<_>>().join("; "));
        }
        if !reader.diagnostics.is_empty() {
            // The apparent content of a file with syntax errors would only add mistakes that are none.
            return reader;
        }
        for (name, value) in ordered(table.get_ref()) {
            match known.iter().find(|section| section.name == name.get_ref()) {
                Some(section) => reader.section(section, name, value),
                None => {
                    let known: Vec<&str> = known.iter().map(|section| section.name).collect();
                    reader.wrong(name.span().start, no_such("section", name.get_ref(), &known));
                }
            }
        }
        reader
    }

    /// Adds a mistake at this place ([`SourceText::report`]).
    pub fn wrong(&mut self, offset: usize, what: impl Into<String>) {
        self.text.report(&mut self.diagnostics, offset, what);
    }

    fn section(&mut self, section: &Section, name: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) {
        let offset = name.span().start;
        let tables: Vec<(usize, &DeTable<'_>)> = match (value.get_ref(), section.several) {
            (DeValue::Table(table), several) => {
                if several {
                    self.wrong(offset, format!("write `[[{0}]]`, since there may be several", section.name));
                }
                vec![(offset, table)]
            }
            (DeValue::Array(array), several) => {
                if !several {
                    self.wrong(offset, format!("write `[{0}]`, since there is only one", section.name));
                }
                let mut tables = Vec::new();
                for item in array {
                    match item.get_ref() {
                        DeValue::Table(table) => tables.push((item.span().start, table)),
                        other => self.wrong(item.span().start, takes(section.name, "a table", other)),
                    }
                }
                tables
            }
            (other, _) => {
                self.wrong(value.span().start, takes(section.name, "a table", other));
                return;
            }
        };
        for (offset, table) in tables {
            let mut fields = Fields { offset, ..Fields::default() };
            self.fields(section.name, section.keys, table, &mut fields);
            self.sections.entry(section.name).or_default().push(fields);
        }
    }

    fn fields(&mut self, of: &str, keys: &'static [Key], table: &DeTable<'_>, fields: &mut Fields) {
        for (name, value) in ordered(table) {
            let offset = name.span().start;
            let Some(key) = keys.iter().find(|key| key.name == name.get_ref()) else {
                let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
                self.wrong(offset, no_such(&format!("key of `{of}`"), name.get_ref(), &known));
                continue;
            };
            fields.keys.insert(key.name, offset);
            if let Some(read) = self.value(key, value) {
                fields.fields.insert(key.name, Located::new(read, value.span().start));
            }
        }
    }

    fn value(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let offset = value.span().start;
        let name = key.name;
        let wrong = match (key.kind, value.get_ref()) {
            (Kind::Text, DeValue::String(text)) => return Some(Value::Text(text.to_string())),
            (Kind::Path, DeValue::String(text)) if !text.is_empty() && !text.contains('\0') => {
                return Some(Value::Text(text.to_string()));
            }
            (Kind::Switch, DeValue::Boolean(on)) => return Some(Value::Switch(*on)),
            (Kind::OneOf(words), DeValue::String(text)) => match words.iter().find(|word| *word == text) {
                Some(word) => return Some(Value::Text((*word).to_string())),
                None => no_such(name, text, words),
            },
            (Kind::Count(least, most), other) => match whole(other).filter(|count| (least..=most).contains(count)) {
                Some(count) => return Some(Value::Count(count)),
                None => takes(name, &format!("a whole number from {least} to {most}"), other),
            },
            (Kind::Size, other) => match measure(other).and_then(|text| units::size(&text)) {
                Some(size) => return Some(Value::Count(size)),
                None => takes(name, SIZE, other),
            },
            (Kind::Time, other) => match measure(other).and_then(|text| units::time(&text)) {
                Some(time) => return Some(Value::Time(time)),
                None => takes(name, TIME, other),
            },
            (Kind::Some(known), DeValue::Array(array)) => {
                let mut words = Vec::new();
                for item in array {
                    match item.get_ref() {
                        DeValue::String(text) if known.contains(&text.as_ref()) => {
                            words.push(Located::new(text.to_string(), item.span().start));
                        }
                        DeValue::String(text) => {
                            self.wrong(item.span().start, no_such(&format!("word of `{name}`"), text, known));
                        }
                        other => self.wrong(item.span().start, takes(name, &list(known), other)),
                    }
                }
                return Some(Value::Words(words));
            }
            (Kind::Words, DeValue::String(text)) => {
                let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
                return Some(Value::Words(words.map(|word| Located::new(word.to_string(), offset)).collect()));
            }
            (Kind::Words, DeValue::Array(array)) => {
                let mut words = Vec::new();
                for item in array {
                    match item.get_ref() {
                        DeValue::String(text) => words.push(Located::new(text.trim().to_string(), item.span().start)),
                        other => self.wrong(item.span().start, takes(name, "texts", other)),
                    }
                }
                return Some(Value::Words(words));
            }
            (Kind::Items, DeValue::String(_) | DeValue::Integer(_)) => {
                let item = plain(value.get_ref()).unwrap_or_default();
                return Some(Value::Words(vec![Located::new(item.trim().to_string(), offset)]));
            }
            (Kind::Items, DeValue::Array(array)) => {
                let mut words = Vec::new();
                for item in array {
                    match (item.get_ref(), plain(item.get_ref())) {
                        (DeValue::String(_) | DeValue::Integer(_), Some(text)) => {
                            words.push(Located::new(text.trim().to_string(), item.span().start));
                        }
                        (other, _) => self.wrong(item.span().start, takes(name, "texts or whole numbers", other)),
                    }
                }
                return Some(Value::Words(words));
            }
            (Kind::Tables(keys), DeValue::Array(array)) => {
                let mut tables = Vec::new();
                for item in array {
                    match item.get_ref() {
                        DeValue::Table(table) => {
                            let mut fields = Fields { offset: item.span().start, ..Fields::default() };
                            self.fields(name, keys, table, &mut fields);
                            tables.push(fields);
                        }
                        other => self.wrong(item.span().start, takes(name, "tables", other)),
                    }
                }
                return Some(Value::Tables(tables));
            }
            (Kind::Values, DeValue::Table(table)) => {
                let mut values = Vec::new();
                for (option, value) in ordered(table) {
                    let option = Located::new(option.get_ref().to_string(), option.span().start);
                    match plain(value.get_ref()) {
                        Some(text) => values.push((option, Located::new(text, value.span().start))),
                        None => {
                            let wanted = "a text, a whole number, `true` or `false`";
                            self.wrong(value.span().start, takes(&option.value, wanted, value.get_ref()));
                        }
                    }
                }
                return Some(Value::Values(values));
            }
            (Kind::Table(keys), DeValue::Table(table)) => {
                let mut fields = Fields { offset, ..Fields::default() };
                self.fields(name, keys, table, &mut fields);
                return Some(Value::Table(fields));
            }
            (kind, other) => {
                let wanted = match kind {
                    Kind::Text => "a text".to_string(),
                    Kind::Path => "the path of a file".to_string(),
                    Kind::Switch => "`true` or `false`".to_string(),
                    Kind::OneOf(words) => format!("one of {}", list(words)),
                    Kind::Some(words) => format!("a list of some of {}", list(words)),
                    Kind::Words => "a list of texts".to_string(),
                    Kind::Items => "a list of texts or whole numbers".to_string(),
                    Kind::Tables(_) => format!("several tables, each below `[[...{name}]]`"),
                    Kind::Values => "a table such as `{ name = \"value\" }`".to_string(),
                    Kind::Table(_) | Kind::Count(..) | Kind::Size | Kind::Time => "a table".to_string(),
                };
                takes(name, &wanted, other)
            }
        };
        self.wrong(offset, wrong);
        None
    }
}

/// Returns `` `name` takes X, not Y ``.
fn takes(name: &str, wanted: &str, given: &DeValue<'_>) -> String {
    let given = match given {
        DeValue::String(text) => format!("\"{}\"", clean(text)),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_string(),
        DeValue::Boolean(on) => on.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".to_string(),
        DeValue::Table(_) => "a table".to_string(),
    };
    format!("`{}` takes {wanted}, not {given}", clean(name))
}

fn whole(value: &DeValue<'_>) -> Option<u64> {
    match value {
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    }
}

/// Reads a size or a time as options have it.
fn measure(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Float(number) => Some(number.as_str().to_string()),
        DeValue::Boolean(_) => None,
        other => plain(other),
    }
}

/// Returns a plain value as the text that a plugin gets.
fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
        }
        DeValue::Boolean(on) => Some(on.to_string()),
        _ => None,
    }
}

/// Returns the entries in the order of the file, so that mistakes are in that order too.
fn ordered<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}
