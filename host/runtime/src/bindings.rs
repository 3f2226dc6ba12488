//! Bindings that call the exports of components and link their imports, generated from `wit/`. Data types are those of
//! the model.
#![allow(missing_docs, dead_code, clippy::all)]

wasmtime::component::bindgen!({
    path: "wit",
    interfaces: "include flowgate:conntrack/everything@0.1.1;",
    with: {
        "flowgate:conntrack/action": flowgate_model::wit::action,
        "flowgate:conntrack/columns": flowgate_model::wit::columns,
        "flowgate:conntrack/expectation": flowgate_model::wit::expectation,
        "flowgate:conntrack/flow": flowgate_model::wit::flow,
        "flowgate:conntrack/query": flowgate_model::wit::query,
        "flowgate:conntrack/selector": flowgate_model::wit::selector,
        "flowgate:conntrack/setup": flowgate_model::wit::setup,
        "flowgate:conntrack/statistics": flowgate_model::wit::statistics,
    },
});
