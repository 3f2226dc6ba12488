//! Settings of a run from the environment: `FLOWS`, `ROUNDS`, `CASE`, `GROWTH`, `PLUGIN`, `FLOWGATE_UNDER_TEST`,
//! `BEFORE`, `TENANTS`, `TENANT_PLUGIN`.

use std::{
    env,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

/// Possible sizes of the table: the entries of [`flowgate_test_support::entries::busy`] differ in 24 bits.
const FLOWS: RangeInclusive<u32> = 1..=10_000_000;
/// Goal as a share of the time of an earlier flowgate.
const SLOWER: f64 = 1.03;
const ROUNDS: RangeInclusive<u32> = 1..=1_000;

/// The settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Number of flows in the table.
    pub flows: u32,
    /// Number of runs of each case for each program.
    pub rounds: u32,
    /// Part of the names of the cases to be run; all of them if absent.
    pub case: Option<String>,
    /// Directory for the table and the picture of `make growth`; if given, the cases are not run.
    pub growth: Option<PathBuf>,
    /// The example plugin.
    pub plugin: PathBuf,
    /// The measured program.
    pub program: String,
    /// An earlier flowgate, which is measured instead of `conntrack`.
    pub before: Option<String>,
    /// Numbers of tenants.
    pub tenants: Vec<u16>,
    /// The plugin of tenants that harm nobody, which passes everything: the stock plugin unless an earlier flowgate
    /// takes an earlier one.
    pub tenant_plugin: Option<PathBuf>,
}

impl Settings {
    /// Reads the environment. `built` is the program that cargo built, which is measured unless another is named.
    ///
    /// # Errors
    /// A message for the first variable with an invalid value.
    pub(crate) fn read(built: &str, target_directory: &Path) -> Result<Self, String> {
        let settings = Self {
            flows: number("FLOWS", 200_000, FLOWS)?,
            rounds: number("ROUNDS", 5, ROUNDS)?,
            case: text("CASE")?,
            growth: text("GROWTH")?.map(PathBuf::from),
            plugin: match text("PLUGIN")? {
                Some(path) => path.into(),
                None => target_directory.join("wasm32-unknown-unknown/plugin/heavy_tcp.wasm"),
            },
            program: text("FLOWGATE_UNDER_TEST")?.unwrap_or_else(|| built.to_owned()),
            before: text("BEFORE")?,
            tenants: numbers("TENANTS", &[1, 10, 100, 1000])?,
            tenant_plugin: text("TENANT_PLUGIN")?.map(PathBuf::from),
        };
        if settings.growth.is_some() && settings.before.is_some() {
            return Err("BEFORE has no meaning for the growth of a listing, which is that beside conntrack".to_owned());
        }
        if let Some(variable) = settings.growth.as_ref().and(["CASE", "FLOWS"].into_iter().find(|name| is_set(name))) {
            return Err(format!("{variable} has no meaning for the growth of a listing: its sizes are fixed"));
        }
        Ok(settings)
    }

    /// Returns the program that flowgate is compared with.
    pub(crate) fn other(&self) -> &str {
        self.before.as_deref().unwrap_or("conntrack")
    }

    /// Returns the name of [`Settings::other`] in tables.
    pub(crate) fn other_name(&self) -> &'static str {
        if self.before.is_some() { "before" } else { "conntrack" }
    }

    /// Returns the goal for a figure as a share of the other program's: the goal of the case for `conntrack`, and the
    /// same one for every case for an earlier flowgate.
    pub(crate) fn goal(&self, beside_conntrack: Option<f64>) -> Option<f64> {
        if self.before.is_some() { Some(SLOWER) } else { beside_conntrack }
    }

    /// Returns true if the case of this name is to be run.
    pub(crate) fn chooses(&self, name: &str) -> bool {
        self.case.as_ref().is_none_or(|part| name.contains(part.as_str()))
    }

    /// Checks that at least one case is selected.
    ///
    /// # Errors
    /// A message with the names of all cases.
    pub(crate) fn must_choose_one_of(&self, names: &[&str]) -> Result<(), String> {
        if names.iter().any(|name| self.chooses(name)) {
            return Ok(());
        }
        let part = self.case.as_deref().unwrap_or_default();
        Err(format!("CASE={part:?} is no part of the name of any case; there are:\n  {}", names.join("\n  ")))
    }
}

/// Returns the value of a variable, if it is set and not empty.
fn text(variable: &str) -> Result<Option<String>, String> {
    match env::var(variable) {
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(text)) => Err(format!("{variable}={text:?} is not UTF-8")),
    }
}

fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|text| !text.is_empty())
}

/// Returns the numbers in a variable, separated by commas.
fn numbers(variable: &str, usual: &[u16]) -> Result<Vec<u16>, String> {
    let Some(text) = text(variable)? else { return Ok(usual.to_vec()) };
    let numbers = text.split(',').map(|number| number.trim().parse().ok().filter(|number| (1..=1000).contains(number)));
    numbers.collect::<Option<_>>().ok_or_else(|| format!("{variable}={text:?} is not a list of numbers from 1 to 1000"))
}

fn number(variable: &str, usual: u32, range: RangeInclusive<u32>) -> Result<u32, String> {
    let Some(text) = text(variable)? else { return Ok(usual) };
    text.parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("{variable}={text:?} is not a number from {} to {}", range.start(), range.end()))
}
