//! Keeps everything and does nothing. Its cost is that of any stage: tests and benchmarks load it from its file.

use flowgate_sdk::{Description, FlowStage, Flows, Outcome, Plugin, Setup};

/// The plugin.
pub struct Pass;

impl Plugin for Pass {
    fn describe() -> Description {
        Description::new("pass", env!("CARGO_PKG_VERSION"), "Keeps everything")
    }

    fn configure(_setup: &Setup) -> Result<Self, String> {
        Ok(Pass)
    }
}

impl FlowStage for Pass {
    fn process(&mut self, _batch: &Flows) -> Outcome {
        Outcome::default()
    }
}

flowgate_sdk::stage!(Pass);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_kept() {
        let outcome = Pass.process(&Flows::default());
        assert!(outcome.verdicts.is_empty() && outcome.actions.is_none() && outcome.changes.is_none());
    }
}
