//! Writes the macros that generate a plugin's bindings, one per world of the WIT package.
//!
//! `wit_bindgen::generate!` must run in the plugin's own crate (the symbols that it exports are the component's), and
//! takes nothing but literals, so the literal path of the package is written into the macros here.

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

/// World, and the interfaces of data types that its exports use.
const WORLDS: &[(&str, &[&str])] = &[
    ("stage", &["setup", "columns", "flow", "expectation", "action"]),
    ("selecting-stage", &["setup", "columns", "flow", "expectation", "action", "selector"]),
    ("template-stage", &["setup", "columns", "flow", "expectation", "action"]),
    ("full-stage", &["setup", "columns", "flow", "expectation", "action"]),
    ("format", &["setup", "columns", "flow"]),
    ("table-format", &["setup", "columns", "flow", "expectation"]),
    ("full-format", &["setup", "columns", "flow", "expectation", "statistics"]),
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = env::var("CARGO_MANIFEST_DIR")?;
    let out = env::var("OUT_DIR")?;
    let wit = Path::new(&root).join("wit");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", wit.display());

    let mut text = String::new();
    for (world, interfaces) in WORLDS {
        let name = world.replace('-', "_");
        let remap: String = interfaces
            .iter()
            .map(|i| format!("\"flowgate:conntrack/{i}@0.1.0\": ::flowgate_sdk::bindings::flowgate::conntrack::{i},\n"))
            .collect();
        write!(
            text,
            "/// Generates the bindings of the world `{world}` in the module where it stands.
            #[doc(hidden)]
            #[macro_export]
            macro_rules! __bindings_{name} {{ () => {{
                $crate::wit_bindgen::generate!({{
                    path: {wit:?},
                    world: \"{world}\",
                    runtime_path: \"::flowgate_sdk::wit_bindgen::rt\",
                    with: {{ {remap} }},
                }});
            }} }}\n",
        )?;
    }
    fs::write(Path::new(&out).join("worlds.rs"), text)?;
    Ok(())
}
