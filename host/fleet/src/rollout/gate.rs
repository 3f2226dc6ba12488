//! The gate between stages: what agents may report.

use std::{collections::BTreeMap, fmt, str::FromStr};

use flowgate_base::text::clean;
use serde::{Deserialize, Serialize};

use crate::running::Health;

/// Why a gate is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{}` is no gate; it is NAME=NUMBER or NAME=any, with the names quarantined, restarts, failures, gaps, lost, refused \
     and cpu",
    clean(.text)
)]
pub struct GateError {
    /// What was given.
    text: String,
}

impl GateError {
    /// Returns the error for a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        GateError { text: text.chars().take(100).collect() }
    }
}

/// Something that agents report as a number, since the release began there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Plugins in quarantine.
    Quarantined,
    /// Restarts of the service or of workers.
    Restarts,
    /// Failures of plugins.
    Failures,
    /// Gaps in the events.
    Gaps,
    /// Events that were lost.
    Lost,
    /// Actions that were refused.
    Refused,
    /// CPU time of plugins, in milliseconds.
    Cpu,
}

impl Measure {
    /// All of them.
    pub const ALL: [Measure; 7] = [
        Measure::Quarantined,
        Measure::Restarts,
        Measure::Failures,
        Measure::Gaps,
        Measure::Lost,
        Measure::Refused,
        Measure::Cpu,
    ];

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Measure::Quarantined => "quarantined",
            Measure::Restarts => "restarts",
            Measure::Failures => "failures",
            Measure::Gaps => "gaps",
            Measure::Lost => "lost",
            Measure::Refused => "refused",
            Measure::Cpu => "cpu",
        }
    }

    fn of(self, health: &Health) -> u64 {
        match self {
            Measure::Quarantined => health.quarantined.len() as u64,
            Measure::Restarts => health.restarts,
            Measure::Failures => health.failures,
            Measure::Gaps => health.gaps,
            Measure::Lost => health.lost,
            Measure::Refused => health.refused,
            Measure::Cpu => health.cpu,
        }
    }
}

/// What each agent may report at most. Without another word, no plugin may be in quarantine, and nothing may have been
/// started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gate(BTreeMap<Measure, u64>);

impl Default for Gate {
    fn default() -> Self {
        Gate(BTreeMap::from([(Measure::Quarantined, 0), (Measure::Restarts, 0)]))
    }
}

/// One limit of a gate; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(Measure, Option<u64>);

impl FromStr for Limit {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Self, GateError> {
        let wrong = || GateError::new(text);
        let (name, most) = text.split_once('=').ok_or_else(wrong)?;
        let measure = Measure::ALL.into_iter().find(|measure| measure.name() == name).ok_or_else(wrong)?;
        match most {
            "any" => Ok(Limit(measure, None)),
            number => Ok(Limit(measure, Some(number.parse().map_err(|_| wrong())?))),
        }
    }
}

impl Gate {
    /// Returns the gate with other limits.
    #[must_use]
    pub fn with(limits: &[Limit]) -> Self {
        let mut gate = Gate::default();
        for Limit(measure, most) in limits {
            match most {
                Some(most) => gate.0.insert(*measure, *most),
                None => gate.0.remove(measure),
            };
        }
        gate
    }

    /// Returns what a health is beyond; `None` if it passes.
    #[must_use]
    pub fn judge(&self, health: &Health) -> Option<String> {
        let beyond = self.0.iter().find(|(measure, most)| measure.of(health) > **most);
        beyond.map(|(measure, most)| {
            let found = measure.of(health);
            let which = match measure {
                Measure::Quarantined => format!(" ({})", health.quarantined.join(", ")),
                _ => String::new(),
            };
            format!("{} is {found}{which}, and may be {most}", measure.name())
        })
    }
}

/// As it is given on a command line.
impl fmt::Display for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = self.0.iter().map(|(measure, most)| format!("{}={most}", measure.name()));
        formatter.write_str(&limits.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_named_numbers() {
        let gate = |texts: &[&str]| Gate::with(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>());
        assert_eq!(gate(&[]).to_string(), "quarantined=0,restarts=0");
        assert_eq!(gate(&["restarts=any", "gaps=3"]).to_string(), "quarantined=0,gaps=3");
        for bad in ["", "gaps", "gaps=", "gaps=-1", "gaps=x", "holes=1", "=1"] {
            assert!(bad.parse::<Limit>().is_err(), "{bad}");
        }
        let health = Health { gaps: 4, restarts: 9, ..Health::default() };
        let said = gate(&["restarts=any", "gaps=3"]).judge(&health).unwrap();
        assert_eq!(said, "gaps is 4, and may be 3");
        assert_eq!(gate(&["restarts=9", "gaps=4"]).judge(&health), None);
        let quarantined = Health { quarantined: vec!["blue:p".into()], ..Health::default() };
        assert!(Gate::default().judge(&quarantined).unwrap().contains("1 (blue:p)"));
        assert_eq!(serde_json::to_string(&Gate::default()).unwrap(), r#"{"quarantined":0,"restarts":0}"#);
    }
}
