//! Writes flows for the audit, as `-o json` has them.

use serde_json::Value;

use flowgate_base::clock::now;
use flowgate_model::{Flows, batch};
use flowgate_pipeline::{format::Format, table::Table as _};
use flowgate_runtime::deadline::Watch;

/// Rows that are written between two looks at the time.
const AT_ONCE: usize = 64;

/// Makes a new instance of the format; none if that fails.
pub type MakeFormat = Box<dyn Fn() -> Option<Format>>;

/// A format, and what makes another one when it has failed: a failed instance is never entered again.
pub struct Recorder {
    format: Option<Format>,
    make: MakeFormat,
}

impl Recorder {
    /// Writes with `format`, and after its failure with what `make` returns.
    #[must_use]
    pub fn new(format: Format, make: MakeFormat) -> Self {
        Recorder { format: Some(format), make }
    }

    /// All rows as JSON, in their order; none in place of a row that cannot be written, and of those that there is no time left for.
    /// A row that makes the format fail does not affect the others.
    pub fn render(&mut self, watch: &mut Watch, flows: &Flows) -> Vec<Option<Value>> {
        let rows = flows.length as usize;
        let mut values = Vec::with_capacity(rows);
        for start in (0..rows).step_by(AT_ONCE) {
            if watch.check().is_err() {
                break;
            }
            self.append(batch::part(flows, start..rows.min(start + AT_ONCE)), &mut values);
        }
        values.resize(rows, None);
        values
    }

    /// Some rows, together if that is possible.
    fn append(&mut self, mut flows: Flows, values: &mut Vec<Option<Value>>) {
        if let Some(rows) = self.attempt(&mut flows) {
            values.extend(rows.into_iter().map(Some));
            return;
        }
        for row in 0..flows.length as usize {
            values.push(self.attempt(&mut batch::pick(&flows, row)).and_then(|mut rows| rows.pop()));
        }
    }

    /// All rows as JSON, or nothing; then the next attempt has a new instance.
    fn attempt(&mut self, flows: &mut Flows) -> Option<Vec<Value>> {
        let mut format = self.format.take().or_else(|| (self.make)())?;
        flows.stamp(now());
        let bytes = flows.render(&mut format).ok()?;
        let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let values: Vec<Value> = lines.map(serde_json::from_slice).collect::<Result<_, _>>().ok()?;
        if values.len() != flows.length as usize {
            return None;
        }
        self.format = Some(format);
        Some(values)
    }
}
