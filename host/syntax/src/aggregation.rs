//! The options that ask for groups of flows: `--by`, `--sum`, `--sort`, and the like.

use std::time::Duration;

use flowgate_base::units;
use flowgate_model::Aggregation;
use flowgate_query::{Context, QueryError, aggregation::AggregationArguments};

use super::{error::CliError, options::OptionKey, values::digits, wrong_value::WrongValue};

/// Default number of groups that are kept at most.
pub const DEFAULT_MAX_GROUPS: u32 = 1_000_000;
/// The shortest window.
pub const SHORTEST_WINDOW: Duration = Duration::from_millis(100);

/// The options, as given. Lists have commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AggregationOptions {
    /// `--by`
    pub by: Option<String>,
    /// `--count`
    pub count: bool,
    /// `--sum`
    pub sum: Vec<String>,
    /// `--min`
    pub min: Vec<String>,
    /// `--max`
    pub max: Vec<String>,
    /// `--avg`
    pub avg: Vec<String>,
    /// `--distinct`
    pub distinct: Vec<String>,
    /// `--sort`
    pub sort: Option<String>,
    /// `--top`
    pub top: Option<u32>,
    /// `--every`
    pub every: Option<Duration>,
    /// `--max-groups`
    pub max_groups: Option<u32>,
    /// `--approximate`
    pub approximate: bool,
}

/// Groups of flows, which are shown in place of the flows.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// What is computed.
    pub aggregation: Aggregation,
    /// The length of a window of events; `None` for one result at the end.
    pub every: Option<Duration>,
    /// The options as text.
    pub text: String,
}

/// A list of texts, as a part of [`AggregationArguments`].
fn texts(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

impl AggregationOptions {
    /// Takes the value of an option.
    ///
    /// # Errors
    /// The value is wrong, or the option was given before.
    pub(crate) fn set(&mut self, key: OptionKey, value: &[u8]) -> Result<(), CliError> {
        let name = name(key);
        let text = || String::from_utf8(value.to_vec()).map_err(|_| CliError::NoUtf8(value.into(), name));
        let count = || {
            let number = digits(value).and_then(|text| text.parse().ok()).filter(|number| *number > 0);
            let takes = "a number of groups, at least 1".to_owned();
            number.ok_or_else(|| WrongValue::new(None, name, value, takes))
        };
        let once = |place: &mut Option<String>| match place.replace(text()?) {
            Some(_) => Err(CliError::GivenTwice(name)),
            None => Ok(()),
        };
        match key {
            OptionKey::By => once(&mut self.by)?,
            OptionKey::Sort => once(&mut self.sort)?,
            OptionKey::CountFlows => self.count = true,
            OptionKey::Sum => self.sum.push(text()?),
            OptionKey::Min => self.min.push(text()?),
            OptionKey::Max => self.max.push(text()?),
            OptionKey::Avg => self.avg.push(text()?),
            OptionKey::Distinct => self.distinct.push(text()?),
            OptionKey::Top => self.top = Some(count()?),
            OptionKey::MaxGroups => self.max_groups = Some(count()?),
            OptionKey::Approximate => self.approximate = true,
            OptionKey::Every => {
                let every = std::str::from_utf8(value).ok().and_then(units::time);
                let takes = "a time of at least 100ms: 10s, 1min".to_owned();
                let every = every.filter(|every| *every >= SHORTEST_WINDOW);
                self.every = Some(every.ok_or_else(|| WrongValue::new(None, name, value, takes))?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns what is computed.
    ///
    /// # Errors
    /// The option that is wrong, and what is wrong with it.
    pub(crate) fn parse(&self, context: &Context<'_>) -> Result<Aggregate, (&'static str, QueryError)> {
        let lists = [&self.sum, &self.min, &self.max, &self.avg, &self.distinct].map(|list| texts(list));
        let [sum, min, max, avg, distinct] = &lists;
        let arguments = AggregationArguments {
            by: self.by.as_deref(),
            count: self.count,
            sum,
            min,
            max,
            avg,
            distinct,
            sort: self.sort.as_deref(),
            top: self.top,
            max_groups: self.max_groups.unwrap_or(DEFAULT_MAX_GROUPS),
            approximate: self.approximate,
        };
        let aggregation = arguments.parse(context).map_err(|error| (self.option_of(&error), error))?;
        Ok(Aggregate { aggregation, every: self.every, text: self.text() })
    }

    /// Returns the option that an error is about.
    fn option_of(&self, error: &QueryError) -> &'static str {
        let is = |text: &str| text == error.text;
        let lists = [
            (&self.sum, OptionKey::Sum),
            (&self.min, OptionKey::Min),
            (&self.max, OptionKey::Max),
            (&self.avg, OptionKey::Avg),
            (&self.distinct, OptionKey::Distinct),
        ];
        let key = match lists.iter().find(|(list, _)| list.iter().any(|text| is(text))) {
            _ if self.by.as_deref().is_some_and(is) => OptionKey::By,
            Some((_, key)) => *key,
            None if self.sort.as_deref().is_some_and(is) => OptionKey::Sort,
            None => OptionKey::Approximate,
        };
        name(key)
    }

    /// Returns the options as text.
    fn text(&self) -> String {
        let mut words = Vec::new();
        let mut add = |key: OptionKey, value: &str| words.push(format!("--{} {value}", name(key)));
        self.by.iter().for_each(|by| add(OptionKey::By, by));
        if self.count {
            add(OptionKey::CountFlows, "");
        }
        for (list, key) in [
            (&self.sum, OptionKey::Sum),
            (&self.min, OptionKey::Min),
            (&self.max, OptionKey::Max),
            (&self.avg, OptionKey::Avg),
            (&self.distinct, OptionKey::Distinct),
        ] {
            list.iter().for_each(|text| add(key, text));
        }
        self.sort.iter().for_each(|sort| add(OptionKey::Sort, sort));
        self.top.iter().for_each(|top| add(OptionKey::Top, &top.to_string()));
        self.every.iter().for_each(|every| add(OptionKey::Every, &units::show_time(*every)));
        self.max_groups.iter().for_each(|most| add(OptionKey::MaxGroups, &most.to_string()));
        if self.approximate {
            add(OptionKey::Approximate, "");
        }
        words.iter().map(|word| word.trim_end()).collect::<Vec<_>>().join(" ")
    }
}

/// Returns the name of an option.
fn name(key: OptionKey) -> &'static str {
    super::options::OPTIONS.get(key as usize).map_or("", super::options::OptionSpec::name)
}
