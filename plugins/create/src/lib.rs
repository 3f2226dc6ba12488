//! Stock stage `create`: requests that every row is created as an entry of the kernel's table.

use flowgate_sdk::{
    Description, ExpectationOutcome, ExpectationStage, Expectations, FlowStage, Flows, Outcome, Plugin, Setup, action,
    bindings::flowgate::conntrack::action::Actions, event,
};

struct Create {
    kind: u8,
}

impl Plugin for Create {
    fn describe() -> Description {
        Description::new("create", env!("CARGO_PKG_VERSION"), "Makes every row an entry")
            .option("or-update", "true|false", "change an entry that exists, instead of failing", Some("false"))
            .wants("create")
            .wants("update")
            .reads(0)
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let kind = if setup.switch("or-update")? { action::CREATE_OR_UPDATE } else { action::CREATE };
        Ok(Create { kind })
    }
}

impl Create {
    /// Returns the action for each of these rows, without values.
    fn create(&self, rows: Vec<u32>) -> Option<Actions> {
        let length = rows.len();
        (length > 0).then(|| Actions { kinds: vec![self.kind; length], rows, values: vec![action::NO_ROW; length] })
    }
}

impl FlowStage for Create {
    fn process(&mut self, batch: &Flows) -> Outcome {
        // A gap in the events is not a flow.
        let entries = batch.flows().filter(|flow| flow.event() != event::GAP).map(|flow| flow.row() as u32);
        Outcome { actions: self.create(entries.collect()), ..Outcome::default() }
    }
}

impl ExpectationStage for Create {
    fn process(&mut self, batch: &Expectations) -> ExpectationOutcome {
        let entries = batch.expectations().filter(|entry| entry.event() != event::GAP).map(|entry| entry.row() as u32);
        ExpectationOutcome { actions: self.create(entries.collect()), ..ExpectationOutcome::default() }
    }
}

flowgate_sdk::full_stage!(Create);

#[cfg(test)]
mod tests {
    use flowgate_sdk::{
        bindings::flowgate::conntrack::setup::OptionValue,
        family, protocol,
        testing::{Expected, Row, batch, expectations},
    };

    use super::*;

    fn create(or_update: &str) -> Result<Create, String> {
        let options = vec![OptionValue { name: "or-update".into(), value: or_update.into() }];
        Create::configure(&Setup { options, ..Setup::default() })
    }

    fn asked(actions: Option<Actions>) -> (Vec<u8>, Vec<u32>) {
        let actions = actions.unwrap();
        assert_eq!(actions.values, vec![action::NO_ROW; actions.rows.len()]);
        (actions.kinds, actions.rows)
    }

    #[test]
    fn the_kind_follows_the_option() {
        let entry = || Expected::new(family::IPV4, protocol::TCP);
        for (value, kind) in
            [("false", action::CREATE), ("true", action::CREATE_OR_UPDATE), ("", action::CREATE_OR_UPDATE)]
        {
            let mut create = create(value).unwrap();
            let outcome = FlowStage::process(&mut create, &batch([Row::ipv4(protocol::TCP), Row::ipv6(50)]));
            assert!(outcome.verdicts.is_empty() && outcome.values.is_none() && outcome.changes.is_none());
            assert_eq!(asked(outcome.actions), (vec![kind; 2], vec![0, 1]));
            let outcome = ExpectationStage::process(&mut create, &expectations([entry(), entry()]));
            assert!(outcome.verdicts.is_empty() && outcome.values.is_none());
            assert_eq!(asked(outcome.actions), (vec![kind; 2], vec![0, 1]));
        }
        assert_eq!(Create::configure(&Setup::default()).unwrap().kind, action::CREATE);
        let problem = create("perhaps").err().unwrap();
        assert!(problem.contains("or-update") && problem.contains("perhaps"), "{problem}");
    }

    #[test]
    fn gaps_are_no_entries() {
        let mut create = create("false").unwrap();
        let flows = batch([Row::default().event(event::GAP), Row::ipv4(protocol::UDP).event(event::NEW)]);
        assert_eq!(asked(FlowStage::process(&mut create, &flows).actions), (vec![action::CREATE], vec![1]));
        let gap = || Expected { event: event::GAP, ..Expected::default() };
        let rows = [Expected::new(family::IPV6, protocol::UDP), gap()];
        let outcome = ExpectationStage::process(&mut create, &expectations(rows));
        assert_eq!(asked(outcome.actions), (vec![action::CREATE], vec![0]));
        assert!(ExpectationStage::process(&mut create, &expectations([gap()])).actions.is_none());
        assert!(FlowStage::process(&mut create, &Flows::default()).actions.is_none());
    }
}
