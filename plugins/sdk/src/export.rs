//! The macros that turn a type into a component's exports.

/// Exports a [`Filter`](crate::Filter) or a [`FlowStage`](crate::FlowStage) as the component's stage.
///
/// List the other traits that it implements after the type: `tick` ([`FlowTick`](crate::FlowTick)), `results`
/// ([`ActionResults`](crate::ActionResults)), `look_back` ([`FlowLookBack`](crate::FlowLookBack)), as in
/// `stage!(Reaper, tick, results)`.
#[macro_export]
macro_rules! stage {
    ($plugin:ty $(, $extra:ident)* $(,)?) => {
        $crate::__component!($plugin, stage [$($extra)*], [flow_stage $($extra)*]);
    };
}

/// Exports a [`Filter`](crate::Filter); see [`stage!`].
#[macro_export]
macro_rules! filter {
    ($plugin:ty $(, $extra:ident)* $(,)?) => {
        $crate::stage!($plugin $(, $extra)*);
    };
}

/// Exports a [`FlowStage`](crate::FlowStage) that is also a [`FlowSelection`](crate::FlowSelection) as the component's
/// stage.
#[macro_export]
macro_rules! selecting_stage {
    ($plugin:ty) => {
        $crate::__component!($plugin, selecting_stage [], [flow_stage flow_selection]);
    };
}

/// Exports a [`FlowStage`](crate::FlowStage) that is also a [`FlowSelection`](crate::FlowSelection) and a
/// [`FlowQuery`](crate::FlowQuery) as the component's stage.
#[macro_export]
macro_rules! querying_stage {
    ($plugin:ty) => {
        $crate::__component!($plugin, querying_stage [], [flow_stage flow_selection flow_query]);
    };
}

/// Exports a [`FlowAggregate`](crate::FlowAggregate).
#[macro_export]
macro_rules! aggregator {
    ($plugin:ty) => {
        $crate::__component!($plugin, aggregator [], [flow_aggregate]);
    };
}

/// Exports a [`FlowStage`](crate::FlowStage) that is also a [`FlowTemplate`](crate::FlowTemplate) as the component's
/// stage.
#[macro_export]
macro_rules! template_stage {
    ($plugin:ty) => {
        $crate::__component!($plugin, template_stage [], [flow_stage flow_template]);
    };
}

/// Exports a [`FlowStage`](crate::FlowStage) that is also an [`ExpectationStage`](crate::ExpectationStage) as the
/// component's stage. Other traits are listed as in [`stage!`].
#[macro_export]
macro_rules! full_stage {
    ($plugin:ty $(, $extra:ident)* $(,)?) => {
        $crate::__component!($plugin, full_stage [$($extra)*], [flow_stage expectation_stage $($extra)*]);
    };
}

/// Exports a [`FlowFormat`](crate::FlowFormat) as the component's format.
#[macro_export]
macro_rules! format {
    ($plugin:ty) => {
        $crate::__component!($plugin, format [], [flow_format]);
    };
}

/// Exports a format for flows and expectations.
#[macro_export]
macro_rules! table_format {
    ($plugin:ty) => {
        $crate::__component!($plugin, table_format [], [flow_format expectation_format]);
    };
}

/// Exports a format for flows, expectations and statistics.
#[macro_export]
macro_rules! full_format {
    ($plugin:ty) => {
        $crate::__component!($plugin, full_format [], [flow_format expectation_format statistics_format]);
    };
}

/// Exports a [`StatisticsFormat`](crate::StatisticsFormat) as the component's format.
#[macro_export]
macro_rules! statistics_format {
    ($plugin:ty) => {
        $crate::__component!($plugin, statistics_format [], [statistics_format]);
    };
}

/// Exports a format for flows, expectations, statistics and the results of aggregations.
#[macro_export]
macro_rules! any_format {
    ($plugin:ty) => {
        $crate::__component!(
            $plugin,
            any_format [],
            [flow_format expectation_format statistics_format groups_format]
        );
    };
}

/// The component: bindings of its world, the single instance of the plugin, and the exports that call it.
#[doc(hidden)]
#[macro_export]
macro_rules! __component {
    ($plugin:ty, $world:ident [$($extra:ident)*], [$($interface:ident)*]) => {
        #[allow(missing_docs, unsafe_code, dead_code, unused, clippy::all, clippy::unwrap_used, clippy::panic)]
        mod __flowgate {
            $crate::__bindings!($world [$($extra)*]);
        }

        #[allow(clippy::panic)]
        const _: () = {
            use __flowgate::exports::flowgate::conntrack as exports;

            #[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
            struct Component;

            ::std::thread_local! {
                static PLUGIN: ::std::cell::RefCell<::std::option::Option<$plugin>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }

            /// Calls the configured plugin. The host configures it before any other call, and calls never overlap.
            fn with<R>(call: impl ::std::ops::FnOnce(&mut $plugin) -> R) -> R {
                PLUGIN.with_borrow_mut(|plugin| match plugin {
                    ::std::option::Option::Some(plugin) => call(plugin),
                    ::std::option::Option::None => ::std::panic!("called before configure"),
                })
            }

            impl exports::plugin::Guest for Component {
                fn describe() -> $crate::Description {
                    <$plugin as $crate::Plugin>::describe()
                }

                fn configure(setup: $crate::Setup) -> ::std::result::Result<(), ::std::string::String> {
                    let plugin = <$plugin as $crate::Plugin>::configure(&setup)?;
                    PLUGIN.set(::std::option::Option::Some(plugin));
                    ::std::result::Result::Ok(())
                }
            }

            $($crate::__export!($interface, $plugin);)*

            // A native linker does not accept the names of the exports; natively, plugins are built for their tests
            // only.
            #[cfg(target_family = "wasm")]
            __flowgate::export!(Component with_types_in __flowgate);
        };
    };
}

/// Implements the functions of one interface by the plugin's trait.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    (flow_stage, $plugin:ty) => {
        impl exports::flow_stage::Guest for Component {
            fn process(batch: $crate::Flows) -> $crate::Outcome {
                with(|plugin| $crate::FlowStage::process(plugin, &batch))
            }
            fn finish() -> $crate::Outcome {
                with(|plugin| $crate::FlowStage::finish(plugin))
            }
        }
    };
    (tick, $plugin:ty) => {
        impl exports::flow_tick::Guest for Component {
            fn interval() -> u32 {
                with(|plugin| $crate::milliseconds($crate::FlowTick::interval(plugin)))
            }
            fn tick(time: u64) -> $crate::Outcome {
                with(|plugin| $crate::actions_of(|notes| $crate::FlowTick::tick(plugin, time, notes)))
            }
        }
    };
    (results, $plugin:ty) => {
        impl exports::action_results::Guest for Component {
            fn learn(results: $crate::Results) {
                with(|plugin| $crate::ActionResults::learn(plugin, &results))
            }
        }
    };
    (look_back, $plugin:ty) => {
        impl exports::flow_look_back::Guest for Component {
            fn begin(reason: u8) {
                with(|plugin| $crate::FlowLookBack::begin(plugin, reason))
            }
            fn entries(batch: $crate::Flows) -> $crate::Outcome {
                with(|plugin| {
                    $crate::actions_of(|notes| {
                        for flow in batch.flows() {
                            $crate::FlowLookBack::entry(plugin, &flow, notes);
                        }
                    })
                })
            }
            fn end() -> $crate::Outcome {
                with(|plugin| $crate::actions_of(|notes| $crate::FlowLookBack::end(plugin, notes)))
            }
        }
    };
    (flow_selection, $plugin:ty) => {
        impl exports::flow_selection::Guest for Component {
            fn select(selection: $crate::Selection) -> ::std::result::Result<(), ::std::string::String> {
                with(|plugin| $crate::FlowSelection::select(plugin, selection))
            }
        }
    };
    (flow_query, $plugin:ty) => {
        impl exports::flow_query::Guest for Component {
            fn query(condition: $crate::Program) -> ::std::result::Result<(), ::std::string::String> {
                with(|plugin| $crate::FlowQuery::query(plugin, condition))
            }
        }
    };
    (flow_aggregate, $plugin:ty) => {
        impl exports::flow_aggregate::Guest for Component {
            fn aggregate(aggregation: $crate::Aggregation) -> ::std::result::Result<(), ::std::string::String> {
                with(|plugin| $crate::FlowAggregate::aggregate(plugin, aggregation))
            }
            fn add(batch: $crate::Flows) -> ::std::result::Result<(), ::std::string::String> {
                with(|plugin| $crate::FlowAggregate::add(plugin, &batch))
            }
            fn take(since: u64, until: u64) -> $crate::Groups {
                with(|plugin| $crate::FlowAggregate::take(plugin, since, until))
            }
        }
    };
    (groups_format, $plugin:ty) => {
        impl exports::groups_format::Guest for Component {
            fn render(groups: $crate::Groups) -> ::std::vec::Vec<u8> {
                with(|plugin| $crate::GroupsFormat::render(plugin, &groups))
            }
        }
    };
    (flow_template, $plugin:ty) => {
        impl exports::flow_template::Guest for Component {
            fn template(values: $crate::Flows) -> ::std::result::Result<(), ::std::string::String> {
                with(|plugin| $crate::FlowTemplate::template(plugin, values))
            }
        }
    };
    (flow_format, $plugin:ty) => {
        impl exports::flow_format::Guest for Component {
            fn begin() -> ::std::vec::Vec<u8> {
                with(|plugin| $crate::FlowFormat::begin(plugin))
            }
            fn render(batch: $crate::Flows) -> ::std::vec::Vec<u8> {
                with(|plugin| $crate::FlowFormat::render(plugin, &batch))
            }
            fn finish() -> ::std::vec::Vec<u8> {
                with(|plugin| $crate::FlowFormat::finish(plugin))
            }
        }
    };
    (expectation_stage, $plugin:ty) => {
        impl exports::expectation_stage::Guest for Component {
            fn process(batch: $crate::Expectations) -> $crate::ExpectationOutcome {
                with(|plugin| $crate::ExpectationStage::process(plugin, &batch))
            }
            fn finish() -> $crate::ExpectationOutcome {
                with(|plugin| $crate::ExpectationStage::finish(plugin))
            }
        }
    };
    (expectation_format, $plugin:ty) => {
        impl exports::expectation_format::Guest for Component {
            fn begin() -> ::std::vec::Vec<u8> {
                with(|plugin| $crate::ExpectationFormat::begin(plugin))
            }
            fn render(batch: $crate::Expectations) -> ::std::vec::Vec<u8> {
                with(|plugin| $crate::ExpectationFormat::render(plugin, &batch))
            }
            fn finish() -> ::std::vec::Vec<u8> {
                with(|plugin| $crate::ExpectationFormat::finish(plugin))
            }
        }
    };
    (statistics_format, $plugin:ty) => {
        impl exports::statistics_format::Guest for Component {
            fn render(counts: $crate::Counts) -> ::std::vec::Vec<u8> {
                with(|plugin| $crate::StatisticsFormat::render(plugin, &counts))
            }
        }
    };
}
