//! Stock stage `create`: asks for every row that reaches it to be made an entry of the kernel's table.

use flowgate_sdk::{
    Description, ExpectationOutcome, ExpectationStage, Expectations, FlowStage, Flows, Outcome, Plugin, Setup, action,
    bindings::flowgate::conntrack::action::Actions,
};

struct Create {
    kind: u8,
}

impl Plugin for Create {
    fn describe() -> Description {
        Description::new("create", env!("CARGO_PKG_VERSION"), "Makes every row an entry")
            .option("or-update", "true|false", "change an entry that exists, instead of failing", Some("false"))
            .wants("create")
            .reads(0)
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let kind = if setup.switch("or-update")? { action::CREATE_OR_UPDATE } else { action::CREATE };
        Ok(Create { kind })
    }
}

impl Create {
    /// The row of the batch says it all.
    fn create(&self, rows: u32) -> Option<Actions> {
        let length = rows as usize;
        (rows > 0).then(|| Actions {
            kinds: vec![self.kind; length],
            rows: (0..rows).collect(),
            values: vec![action::NO_ROW; length],
        })
    }
}

impl FlowStage for Create {
    fn process(&mut self, batch: &Flows) -> Outcome {
        Outcome { actions: self.create(batch.length), ..Outcome::default() }
    }
}

impl ExpectationStage for Create {
    fn process(&mut self, batch: &Expectations) -> ExpectationOutcome {
        ExpectationOutcome { actions: self.create(batch.length), ..ExpectationOutcome::default() }
    }
}

flowgate_sdk::full_stage!(Create);

#[cfg(test)]
mod tests {
    use flowgate_sdk::bindings::flowgate::conntrack::setup::OptionValue;

    use super::*;

    #[test]
    fn the_kind_follows_the_option() {
        for (value, kind) in [("false", action::CREATE), ("true", action::CREATE_OR_UPDATE)] {
            let options = vec![OptionValue { name: "or-update".into(), value: value.into() }];
            let mut create = Create::configure(&Setup { options, ..Setup::default() }).unwrap();
            let batch = Flows { length: 2, ..Flows::default() };
            let actions = FlowStage::process(&mut create, &batch).actions.unwrap();
            assert_eq!(actions.kinds, [kind; 2]);
            assert_eq!(actions.rows, [0, 1]);
        }
        let options = vec![OptionValue { name: "or-update".into(), value: "perhaps".into() }];
        assert!(Create::configure(&Setup { options, ..Setup::default() }).is_err());
    }
}
