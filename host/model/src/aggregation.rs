//! What aggregations read.

use crate::Aggregation;

impl Aggregation {
    /// Returns the fields that keys and measures read.
    #[must_use]
    pub fn reads(&self) -> u64 {
        let of_keys = self.keys.iter().map(|key| &key.program);
        let of_measures = self.measures.iter().filter_map(|measure| measure.program.as_ref());
        of_keys.chain(of_measures).fold(0, |all, program| all | program.reads)
    }
}
