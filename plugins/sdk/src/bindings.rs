//! The data types of the WIT package, generated from `wit/*.wit` with its names and comments.
#![allow(missing_docs, clippy::all)]

wit_bindgen::generate!({
    path: "wit",
    inline: "package flowgate:sdk; world types {
        import flowgate:conntrack/setup@0.1.1;
        import flowgate:conntrack/columns@0.1.1;
        import flowgate:conntrack/flow@0.1.1;
        import flowgate:conntrack/expectation@0.1.1;
        import flowgate:conntrack/statistics@0.1.1;
        import flowgate:conntrack/selector@0.1.1;
        import flowgate:conntrack/query@0.1.1;
        import flowgate:conntrack/action@0.1.1;
    }",
    world: "flowgate:sdk/types",
    generate_all,
    additional_derives: [Default],
    additional_derives_ignore: ["operation"],
});

/// The host's services. A service that a plugin does not call is not imported by its component.
pub mod services {
    wit_bindgen::generate!({
        path: "wit",
        inline: "package flowgate:sdk; world services { include flowgate:conntrack/services@0.1.1; }",
        world: "flowgate:sdk/services",
        generate_all,
    });
}
