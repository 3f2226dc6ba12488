//! The types in `src/wit/` are generated from the WIT package by this test, which fails if they differ.
//!
//! `BLESS=1 cargo test -p flowgate-model --test wit` regenerates the files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use wit_parser::{Docs, Interface, Record, Resolve, Type, TypeDefKind, TypeId, TypeOwner, Variant};

/// Directory of the WIT package.
const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");

/// Returns the directory of the types.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wit")
}

/// Returns the type name of a WIT name: `raw-attributes` is `RawAttributes`.
fn camel(name: &str) -> String {
    let words = name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]);
    words.collect()
}

/// Returns the module or field name of a WIT name: `source-l4` is `source_l4`.
fn snake(name: &str) -> String {
    name.replace('-', "_")
}

/// Returns comments as in the WIT package, with `start` before each line.
fn comment(docs: &Docs, start: &str, what: &str) -> String {
    let text = docs.contents.as_ref().unwrap_or_else(|| panic!("{what} has no comment in wit/"));
    text.trim_end().lines().map(|line| format!("{start} {line}").trim_end().to_owned() + "\n").collect()
}

/// Returns the Rust type of a WIT type, and true if it is `Copy`.
fn rust(resolve: &Resolve, of: &Type) -> (String, bool) {
    let number = |name: &str| (name.to_owned(), true);
    match of {
        Type::Bool => number("bool"),
        Type::U8 => number("u8"),
        Type::U16 => number("u16"),
        Type::U32 => number("u32"),
        Type::U64 => number("u64"),
        Type::S32 => number("i32"),
        Type::S64 => number("i64"),
        Type::F64 => number("f64"),
        Type::String => ("String".to_owned(), false),
        Type::Id(id) => match &resolve.types[*id].kind {
            TypeDefKind::List(of) => (format!("Vec<{}>", rust(resolve, of).0), false),
            TypeDefKind::Option(of) => {
                let (name, copied) = rust(resolve, of);
                (format!("Option<{name}>"), copied)
            }
            TypeDefKind::Record(record) => {
                let copied = record.fields.iter().all(|field| rust(resolve, &field.ty).1);
                (camel(resolve.types[*id].name.as_ref().unwrap()), copied)
            }
            TypeDefKind::Variant(_) => (camel(resolve.types[*id].name.as_ref().unwrap()), false),
            TypeDefKind::Type(of) => rust(resolve, of),
            other => panic!("a {} has no counterpart here so far", other.as_str()),
        },
        other => panic!("a {other:?} has no counterpart here so far"),
    }
}

/// Returns a record as a struct.
fn structure(resolve: &Resolve, id: TypeId, record: &Record) -> String {
    let name = resolve.types[id].name.as_ref().unwrap();
    let mut text = comment(&resolve.types[id].docs, "///", name);
    let copied = rust(resolve, &Type::Id(id)).1;
    let derived = if copied { "Clone, Copy, Debug, Default, PartialEq" } else { "Clone, Debug, Default, PartialEq" };
    writeln!(text, "#[derive({derived})]").unwrap();
    text.push_str("#[cfg_attr(feature = \"component\", derive(ComponentType, Lift, Lower), component(record))]\n");
    writeln!(text, "pub struct {} {{", camel(name)).unwrap();
    for field in &record.fields {
        text.push_str(&comment(&field.docs, "    ///", &format!("{name}.{}", field.name)));
        if field.name.contains('-') {
            writeln!(text, "    #[cfg_attr(feature = \"component\", component(name = \"{}\"))]", field.name).unwrap();
        }
        writeln!(text, "    pub {}: {},", snake(&field.name), rust(resolve, &field.ty).0).unwrap();
    }
    text + "}\n"
}

/// Returns a variant as an enum.
fn enumeration(resolve: &Resolve, id: TypeId, variant: &Variant) -> String {
    let name = resolve.types[id].name.as_ref().unwrap();
    let mut text = comment(&resolve.types[id].docs, "///", name);
    text.push_str("#[derive(Clone, Debug, PartialEq)]\n");
    text.push_str("#[cfg_attr(feature = \"component\", derive(ComponentType, Lift, Lower), component(variant))]\n");
    writeln!(text, "pub enum {} {{", camel(name)).unwrap();
    for case in &variant.cases {
        text.push_str(&comment(&case.docs, "    ///", &format!("{name}.{}", case.name)));
        writeln!(text, "    #[cfg_attr(feature = \"component\", component(name = \"{}\"))]", case.name).unwrap();
        match &case.ty {
            Some(of) => writeln!(text, "    {}({}),", camel(&case.name), rust(resolve, of).0).unwrap(),
            None => writeln!(text, "    {},", camel(&case.name)).unwrap(),
        }
    }
    text + "}\n"
}

/// Returns the imports for types of other interfaces.
fn imports(resolve: &Resolve, interface: &Interface) -> String {
    let mut from: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for id in interface.types.values() {
        if let TypeDefKind::Type(Type::Id(of)) = &resolve.types[*id].kind
            && let TypeOwner::Interface(owner) = resolve.types[*of].owner
        {
            let module = snake(resolve.interfaces[owner].name.as_ref().unwrap());
            from.entry(module).or_default().insert(camel(resolve.types[*of].name.as_ref().unwrap()));
        }
    }
    from.iter()
        .map(|(module, names)| {
            let list = names.iter().cloned().collect::<Vec<_>>().join(", ");
            let list = if names.len() == 1 { list } else { format!("{{{list}}}") };
            format!("use super::{module}::{list};\n")
        })
        .collect()
}

/// Returns the files of `src/wit/`: a module for each interface with records, and the list of these modules.
fn files(resolve: &Resolve) -> BTreeMap<String, String> {
    const BLESS: &str =
        "// Written from wit/ by tests/wit.rs: change it there, and set BLESS=1 when that test is run.\n";
    let mut files = BTreeMap::new();
    let mut modules = String::new();
    for (_, interface) in &resolve.interfaces {
        let name = interface.name.as_ref().unwrap();
        let structures: Vec<String> = interface
            .types
            .values()
            .filter_map(|id| match &resolve.types[*id].kind {
                TypeDefKind::Record(record) => Some(structure(resolve, *id, record)),
                TypeDefKind::Variant(variant) => Some(enumeration(resolve, *id, variant)),
                _ => None,
            })
            .collect();
        if structures.is_empty() {
            continue;
        }
        let mut text = comment(&interface.docs, "//!", name);
        write!(text, "\n{BLESS}\n").unwrap();
        text.push_str("#[cfg(feature = \"component\")]\nuse wasmtime::component::{ComponentType, Lift, Lower};\n\n");
        let imports = imports(resolve, interface);
        if !imports.is_empty() {
            writeln!(text, "{imports}").unwrap();
        }
        text.push_str(&structures.join("\n"));
        files.insert(format!("{}.rs", snake(name)), text);
    }
    for name in files.keys() {
        writeln!(modules, "pub mod {};", name.trim_end_matches(".rs")).unwrap();
    }
    let head = "//! The types of the WIT package `flowgate:conntrack`: a module for each of its interfaces, with its comments.\n\
                //!\n\
                //! A name in backticks is that of WIT, where words are joined by hyphens: `tuples.source-l4` is the field\n\
                //! `source_l4` of `Tuples`.\n";
    files.insert("mod.rs".to_owned(), format!("{head}\n{BLESS}\n{modules}"));
    files
}

#[test]
fn the_types_are_those_of_the_wit_package() {
    let mut resolve = Resolve::default();
    resolve.push_dir(PACKAGE).unwrap();
    let expected = files(&resolve);
    assert!(expected.len() > 7, "{:?}", expected.keys());
    let present: BTreeSet<String> =
        fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    if std::env::var_os("BLESS").is_some() {
        for name in present.iter().filter(|name| !expected.contains_key(*name)) {
            fs::remove_file(directory().join(name)).unwrap();
        }
        for (name, text) in &expected {
            fs::write(directory().join(name), text).unwrap();
        }
        return;
    }
    assert_eq!(present, expected.keys().cloned().collect(), "the files of src/wit/; BLESS=1 updates them");
    for (name, text) in &expected {
        let found = fs::read_to_string(directory().join(name)).unwrap();
        let line = found.lines().zip(text.lines()).position(|(found, expected)| found != expected);
        assert!(found == *text, "src/wit/{name} is not what wit/ says, from line {line:?}; BLESS=1 updates it");
    }
}
