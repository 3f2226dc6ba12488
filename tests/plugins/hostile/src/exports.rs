//! Exports written by hand: with those of the SDK, ticks and look-backs can only return actions on flows, and a plugin
//! is either a stage or a format.
#![allow(unsafe_code, reason = "what is generated for the exports has some")]

use std::cell::RefCell;

use flowgate_sdk::{
    Description, ExpectationOutcome, ExpectationStage, Expectations, FlowStage, Flows, Outcome, Plugin as _, Setup,
};

use crate::Hostile;

#[allow(missing_docs, unsafe_code, dead_code, unused, clippy::all, clippy::unwrap_used, clippy::panic)]
mod bindings {
    flowgate_sdk::wit_bindgen::generate!({
        path: "../../../wit",
        inline: "package flowgate:hostile;
            world plugin {
                include flowgate:conntrack/full-stage@0.1.1;
                export flowgate:conntrack/flow-tick@0.1.1;
                export flowgate:conntrack/flow-look-back@0.1.1;
                export flowgate:conntrack/flow-format@0.1.1;
            }",
        world: "flowgate:hostile/plugin",
        runtime_path: "::flowgate_sdk::wit_bindgen::rt",
        with: {
            "flowgate:conntrack/setup@0.1.1": ::flowgate_sdk::bindings::flowgate::conntrack::setup,
            "flowgate:conntrack/columns@0.1.1": ::flowgate_sdk::bindings::flowgate::conntrack::columns,
            "flowgate:conntrack/flow@0.1.1": ::flowgate_sdk::bindings::flowgate::conntrack::flow,
            "flowgate:conntrack/expectation@0.1.1": ::flowgate_sdk::bindings::flowgate::conntrack::expectation,
            "flowgate:conntrack/action@0.1.1": ::flowgate_sdk::bindings::flowgate::conntrack::action,
        },
    });
}

use bindings::exports::flowgate::conntrack as exports;

#[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
struct Component;

thread_local! {
    static PLUGIN: RefCell<Option<Hostile>> = const { RefCell::new(None) };
}

fn with<R>(call: impl FnOnce(&mut Hostile) -> R) -> R {
    PLUGIN.with_borrow_mut(|plugin| call(plugin.as_mut().expect("configured before it is called")))
}

impl exports::plugin::Guest for Component {
    fn describe() -> Description {
        Hostile::describe()
    }

    fn configure(setup: Setup) -> Result<(), String> {
        PLUGIN.set(Some(Hostile::configure(&setup)?));
        Ok(())
    }
}

impl exports::flow_stage::Guest for Component {
    fn process(batch: Flows) -> Outcome {
        with(|plugin| FlowStage::process(plugin, &batch))
    }

    fn finish() -> Outcome {
        with(FlowStage::finish)
    }
}

impl exports::expectation_stage::Guest for Component {
    fn process(batch: Expectations) -> ExpectationOutcome {
        with(|plugin| ExpectationStage::process(plugin, &batch))
    }

    fn finish() -> ExpectationOutcome {
        ExpectationOutcome::default()
    }
}

impl exports::flow_tick::Guest for Component {
    fn interval() -> u32 {
        1
    }

    fn tick(_time: u64) -> Outcome {
        with(|plugin| plugin.on("tick", 0))
    }
}

impl exports::flow_look_back::Guest for Component {
    fn begin(_reason: u8) {
        with(|plugin| plugin.on("look-back-begin", 0));
    }

    fn entries(batch: Flows) -> Outcome {
        with(|plugin| plugin.on("look-back", batch.length))
    }

    fn end() -> Outcome {
        with(|plugin| plugin.on("look-back-end", 0))
    }
}

impl exports::flow_format::Guest for Component {
    fn begin() -> Vec<u8> {
        with(|plugin| plugin.text("begin", 1))
    }

    fn render(batch: Flows) -> Vec<u8> {
        with(|plugin| plugin.text("batch", batch.length))
    }

    fn finish() -> Vec<u8> {
        with(|plugin| plugin.text("finish", 1))
    }
}

#[cfg(target_family = "wasm")]
bindings::export!(Component with_types_in bindings);
