//! Writes the macros that generate a plugin's bindings, one for each world of the WIT package.
//!
//! `wit_bindgen::generate!` must run in the plugin's own crate (the symbols that it exports are the component's) and
//! accepts only literals; the macros therefore contain the path of the package as a literal.

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

/// Worlds, and the interfaces of data types that their exports use.
const WORLDS: &[(&str, &[&str])] = &[
    ("stage", &["setup", "columns", "flow", "expectation", "action"]),
    ("selecting-stage", &["setup", "columns", "flow", "expectation", "action", "selector"]),
    ("querying-stage", &["setup", "columns", "flow", "expectation", "action", "selector", "query"]),
    ("aggregator", &["setup", "columns", "flow", "selector", "query"]),
    ("template-stage", &["setup", "columns", "flow", "expectation", "action"]),
    ("full-stage", &["setup", "columns", "flow", "expectation", "action"]),
    ("format", &["setup", "columns", "flow"]),
    ("table-format", &["setup", "columns", "flow", "expectation"]),
    ("full-format", &["setup", "columns", "flow", "expectation", "statistics"]),
    ("statistics-format", &["setup", "columns", "statistics"]),
    ("any-format", &["setup", "columns", "flow", "expectation", "statistics", "selector", "query"]),
];

/// Worlds that the package does not name, with their definitions.
const UNNAMED: &[(&str, &str)] = &[(
    "statistics-format",
    "export flowgate:conntrack/plugin@0.1.1; export flowgate:conntrack/statistics-format@0.1.1;",
)];

/// Interfaces that a stage may export in addition: the word in the macro, and the interface.
const EXTRA: &[(&str, &str)] = &[("tick", "flow-tick"), ("results", "action-results"), ("look_back", "flow-look-back")];

/// Returns all selections of these, in all orders.
fn orders<'a>(all: &[(&'a str, &'a str)]) -> Vec<Vec<(&'a str, &'a str)>> {
    let mut found = vec![Vec::new()];
    for (index, first) in all.iter().enumerate() {
        let mut others = all.to_vec();
        others.remove(index);
        for mut rest in orders(&others) {
            rest.insert(0, *first);
            found.push(rest);
        }
    }
    found
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = env::var("CARGO_MANIFEST_DIR")?;
    let out = env::var("OUT_DIR")?;
    let wit = Path::new(&root).join("wit");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", wit.display());

    let mut text = String::from(
        "/// Generates the bindings of a world, with further exports, in the module where it stands.
        #[doc(hidden)]
        #[macro_export]
        macro_rules! __bindings {\n",
    );
    for (world, interfaces) in WORLDS {
        let unnamed = UNNAMED.iter().find(|(name, _)| name == world);
        let content = unnamed.map_or_else(
            || format!("include flowgate:conntrack/{world}@0.1.1;"),
            |(_, exports)| (*exports).to_string(),
        );
        let takes_more = world.ends_with("stage");
        let orders = if takes_more { orders(EXTRA) } else { vec![Vec::new()] };
        for extra in orders {
            let names: Vec<&str> = extra.iter().map(|(name, _)| *name).collect();
            let exports: String =
                extra.iter().map(|(_, export)| format!("export flowgate:conntrack/{export}@0.1.1; ")).collect();
            let remap: String = interfaces
                .iter()
                .map(|i| {
                    format!("\"flowgate:conntrack/{i}@0.1.1\": ::flowgate_sdk::bindings::flowgate::conntrack::{i},\n")
                })
                .collect();
            let name = world.replace('-', "_");
            let names = names.join(" ");
            write!(
                text,
                "({name} [{names}]) => {{
                    $crate::wit_bindgen::generate!({{
                        path: {wit:?},
                        inline: \"package flowgate:plugin; world plugin {{
                            {content}
                            {exports}
                        }}\",
                        world: \"flowgate:plugin/plugin\",
                        runtime_path: \"::flowgate_sdk::wit_bindgen::rt\",
                        with: {{ {remap} }},
                    }});
                }};\n",
            )?;
        }
    }
    text.push_str("}\n");
    fs::write(Path::new(&out).join("worlds.rs"), text)?;
    Ok(())
}
