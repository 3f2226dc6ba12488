//! Building a [`Description`], and reading the options of a [`Setup`].

use std::{fmt::Display, str::FromStr};

use crate::{
    bindings::flowgate::conntrack::setup::{Description, OptionSpec, OptionValue, Setup},
    field,
};

impl Description {
    /// A plugin that reads every field, without options and without wanted grants.
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

    /// Only these fields (bits of [`field`]) are read; the others are not decoded for the plugin's sake.
    #[must_use]
    pub fn reads(mut self, fields: u64) -> Self {
        self.reads = fields;
        self
    }

    /// An option that may be left out; `default` is what holds then.
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

    /// An option that must be given.
    #[must_use]
    pub fn required(self, name: &str, placeholder: &str, help: &str) -> Self {
        let mut description = self.option(name, placeholder, help, None);
        if let Some(option) = description.options.last_mut() {
            option.required = true;
        }
        description
    }

    /// Something that the plugin would like to be allowed, such as `delete` or `update.mark`.
    #[must_use]
    pub fn wants(mut self, grant: &str) -> Self {
        self.grants.push(grant.into());
        self
    }

    /// Something else worth saying, such as the homepage.
    #[must_use]
    pub fn detail(mut self, name: &str, value: &str) -> Self {
        self.details.push(OptionValue { name: name.into(), value: value.into() });
        self
    }
}

impl Setup {
    /// The text of an option; the last one counts if it was given several times.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|option| option.name == name).map(|option| option.value.as_str())
    }

    /// The value of an option.
    ///
    /// # Errors
    /// A value that is not of the type `T`, in words for the user.
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

    /// Whether a switch is on: given as `name` alone (an empty value), or with `true`, `yes`, `on` or `1`.
    ///
    /// # Errors
    /// A value that is neither on nor off.
    pub fn switch(&self, name: &str) -> Result<bool, String> {
        match self.text(name) {
            None | Some("false" | "no" | "off" | "0") => Ok(false),
            Some("" | "true" | "yes" | "on" | "1") => Ok(true),
            Some(other) => Err(format!("option {name}: {other:?} is neither `true` nor `false`")),
        }
    }

    /// The name of a label, by its bit.
    #[must_use]
    pub fn label(&self, bit: u16) -> Option<&str> {
        let index = self.labels.binary_search_by_key(&bit, |label| label.bit).ok()?;
        Some(&self.labels[index].name)
    }
}
