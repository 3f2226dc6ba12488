//! Builds a [`Description`], and reads the options of a [`Setup`].

use std::{fmt::Display, str::FromStr};

use crate::{
    bindings::flowgate::conntrack::setup::{Description, OptionSpec, OptionValue, Setup},
    field,
};

impl Description {
    /// Makes the description of a plugin that reads every field, without options and grants.
    #[must_use]
    pub fn new(name: &str, version: &str, summary: &str) -> Self {
        Description {
            name: name.into(),
            version: version.into(),
            summary: summary.into(),
            reads: field::ALL,
            ..Description::default()
        }
    }

    /// Declares the fields that are read (bits of [`field`]); other fields may not be decoded.
    #[must_use]
    pub fn reads(mut self, fields: u64) -> Self {
        self.reads = fields;
        self
    }

    /// Adds an option that may be omitted; `default` is its value then.
    #[must_use]
    pub fn option(mut self, name: &str, placeholder: &str, help: &str, default: Option<&str>) -> Self {
        self.options.push(OptionSpec {
            name: name.into(),
            help: help.into(),
            placeholder: placeholder.into(),
            default: default.map(Into::into),
            required: false,
        });
        self
    }

    /// Adds an option that is required.
    #[must_use]
    pub fn required(self, name: &str, placeholder: &str, help: &str) -> Self {
        let mut description = self.option(name, placeholder, help, None);
        if let Some(option) = description.options.last_mut() {
            option.required = true;
        }
        description
    }

    /// Adds a grant that the plugin asks for, such as `delete` or `update.mark`.
    #[must_use]
    pub fn wants(mut self, grant: &str) -> Self {
        self.grants.push(grant.into());
        self
    }

    /// Adds other information, such as the homepage.
    #[must_use]
    pub fn detail(mut self, name: &str, value: &str) -> Self {
        self.details.push(OptionValue { name: name.into(), value: value.into() });
        self
    }
}

impl Setup {
    /// Returns the text of an option; the last one counts if it was given several times.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|option| option.name == name).map(|option| option.value.as_str())
    }

    /// Returns the value of an option.
    ///
    /// # Errors
    /// Returns a message for the user if the value is not of type `T`.
    pub fn option<T>(&self, name: &str) -> Result<Option<T>, String>
    where
        T: FromStr,
        T::Err: Display,
    {
        match self.text(name) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(format!("option {name}: {text:?}: {error}")),
            },
        }
    }

    /// Returns true if a switch is on: given as `name` alone (an empty value), or as `true`, `yes`, `on` or `1`.
    ///
    /// # Errors
    /// Returns a message for the user if the value is neither on nor off.
    pub fn switch(&self, name: &str) -> Result<bool, String> {
        match self.text(name) {
            None | Some("false" | "no" | "off" | "0") => Ok(false),
            Some("" | "true" | "yes" | "on" | "1") => Ok(true),
            Some(other) => Err(format!("option {name}: {other:?} is neither `true` nor `false`")),
        }
    }

    /// Returns the name of a label, by its bit.
    #[must_use]
    pub fn label(&self, bit: u16) -> Option<&str> {
        let index = self.labels.binary_search_by_key(&bit, |label| label.bit).ok()?;
        Some(&self.labels[index].name)
    }
}
