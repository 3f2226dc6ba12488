//! What a run measures, from the environment: `FLOWS`, `ROUNDS`, `CASE`, `GROWTH`, `PLUGIN`, `FLOWGATE_UNDER_TEST`,
//! `BEFORE`.

use std::{
    env,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

/// Sizes of the table: the entries of [`flowgate_test_support::entries::busy`] have 24 bits to differ in.
const FLOWS: RangeInclusive<u32> = 1..=10_000_000;
/// How much of an earlier flowgate's time a case may take.
const SLOWER: f64 = 1.03;
const ROUNDS: RangeInclusive<u32> = 1..=1_000;

/// What is to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Flows in the table.
    pub flows: u32,
    /// How often each case is run for each program.
    pub rounds: u32,
    /// Part of the names of the cases to be run; all of them when absent.
    pub case: Option<String>,
    /// Where the table and the picture of `make growth` go; the cases are not run then.
    pub growth: Option<PathBuf>,
    /// The example plugin.
    pub plugin: PathBuf,
    /// The program that is measured.
    pub program: String,
    /// An earlier flowgate, which is measured in the place of `conntrack`.
    pub before: Option<String>,
}

impl Settings {
    /// Reads the environment. `built` is the program that cargo built, which is measured unless another is named.
    ///
    /// # Errors
    /// A sentence for the first variable whose value cannot be used.
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
        };
        if settings.growth.is_some() && settings.before.is_some() {
            return Err("BEFORE has no meaning for the growth of a listing, which is that beside conntrack".to_owned());
        }
        if let Some(variable) = settings.growth.as_ref().and(["CASE", "FLOWS"].into_iter().find(|name| is_set(name))) {
            return Err(format!("{variable} has no meaning for the growth of a listing: its sizes are fixed"));
        }
        Ok(settings)
    }

    /// The program beside which flowgate is measured.
    pub(crate) fn other(&self) -> &str {
        self.before.as_deref().unwrap_or("conntrack")
    }

    /// What tables call [`Settings::other`].
    pub(crate) fn other_name(&self) -> &'static str {
        if self.before.is_some() { "before" } else { "conntrack" }
    }

    /// The goal for a figure as a share of the other program's: that of the case beside `conntrack`, and beside an
    /// earlier flowgate the same for every case.
    pub(crate) fn goal(&self, beside_conntrack: Option<f64>) -> Option<f64> {
        if self.before.is_some() { Some(SLOWER) } else { beside_conntrack }
    }

    /// Whether the case of this name is to be run.
    pub(crate) fn chooses(&self, name: &str) -> bool {
        self.case.as_ref().is_none_or(|part| name.contains(part.as_str()))
    }

    /// Checks that there is something to measure.
    ///
    /// # Errors
    /// With the names of all cases, if none of them is chosen.
    pub(crate) fn must_choose_one_of(&self, names: &[&str]) -> Result<(), String> {
        if names.iter().any(|name| self.chooses(name)) {
            return Ok(());
        }
        let part = self.case.as_deref().unwrap_or_default();
        Err(format!("CASE={part:?} is no part of the name of any case; there are:\n  {}", names.join("\n  ")))
    }
}

/// The value of a variable that is set to something.
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

fn number(variable: &str, usual: u32, range: RangeInclusive<u32>) -> Result<u32, String> {
    let Some(text) = text(variable)? else { return Ok(usual) };
    text.parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("{variable}={text:?} is not a number from {} to {}", range.start(), range.end()))
}
