//! Formats flows for the audit, as in `-o json`.

use serde_json::Value;

use flowgate_base::clock::now;
use flowgate_model::{Flows, batch};
use flowgate_pipeline::{entries::Entries as _, format::Format};
use flowgate_runtime::deadline::Watch;

/// Number of rows that are formatted between two checks of the time.
const AT_ONCE: usize = 64;

/// Starts a new instance of the format; returns `None` if that fails.
pub type MakeFormat = Box<dyn Fn() -> Option<Format>>;

/// A format, and a function that replaces it after a failure: a failed instance is never entered again.
pub struct Recorder {
    format: Option<Format>,
    make: MakeFormat,
}

impl Recorder {
    /// Returns a recorder that uses `format`, and after a failure the instance that `make` returns.
    #[must_use]
    pub fn new(format: Format, make: MakeFormat) -> Self {
        Recorder { format: Some(format), make }
    }

    /// Returns all rows as JSON, in their order; `None` for a row that cannot be formatted or for which no time is
    /// left. A row on which the format fails does not affect the others.
    pub fn render(&mut self, watch: &mut Watch, flows: &Flows) -> Vec<Option<Value>> {
        let rows = flows.length as usize;
        let mut values = Vec::with_capacity(rows);
        for start in (0..rows).step_by(AT_ONCE) {
            if watch.check().is_err() {
                break;
            }
            self.append(batch::copy_rows(flows, start..rows.min(start + AT_ONCE)), &mut values);
        }
        values.resize(rows, None);
        values
    }

    /// Formats some rows, in one call if that is possible.
    fn append(&mut self, mut flows: Flows, values: &mut Vec<Option<Value>>) {
        if let Some(rows) = self.attempt(&mut flows) {
            values.extend(rows.into_iter().map(Some));
            return;
        }
        for row in 0..flows.length as usize {
            values.push(self.attempt(&mut batch::copy_row(&flows, row)).and_then(|mut rows| rows.pop()));
        }
    }

    /// Formats all rows as JSON; if that fails, the next attempt has a new instance.
    fn attempt(&mut self, flows: &mut Flows) -> Option<Vec<Value>> {
        let mut format = self.format.take().or_else(|| (self.make)())?;
        flows.stamp(now());
        let bytes = format.render(flows).ok()?;
        let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let values: Vec<Value> = lines.map(serde_json::from_slice).collect::<Result<_, _>>().ok()?;
        if values.len() != flows.length as usize {
            return None;
        }
        self.format = Some(format);
        Some(values)
    }
}
