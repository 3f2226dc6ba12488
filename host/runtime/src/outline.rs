//! The contents of a module or component, read from its sections before anything is compiled: exports and imports, and
//! the number of its items. The time and memory of a compilation depend on the kind of code and not on its size; a file
//! that cannot run here, or that is unlike the output of any tool, is not compiled.

use wasmparser::{BinaryReaderError, ElementItems, FunctionBody, Parser, Payload};

/// The exports and imports of the outermost component.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Names of exports, in their order.
    pub exports: Vec<String>,
    /// Names of imports, in their order.
    pub imports: Vec<String>,
}

/// Why a file is not compiled.
#[derive(Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It is not WebAssembly, or damaged.
    Malformed(String),
    /// It has too much of something: the rest of a sentence that begins with "it".
    Excessive(String),
}

impl From<BinaryReaderError> for Rejection {
    fn from(error: BinaryReaderError) -> Self {
        Rejection::Malformed(error.to_string())
    }
}

/// Kinds of items, which are counted over everything that is nested in a file.
#[derive(Clone, Copy, Debug)]
enum ItemKind {
    Modules,
    Components,
    Instances,
    Types,
    TypeBytes,
    Functions,
    Names,
    Tables,
    TableElements,
    Memories,
    Globals,
    Elements,
    Data,
    Locals,
}

/// Names of the kinds in their order, and the maximum of each in a plugin. A plugin in Python, the largest kind, has 38
/// core modules, 13,500 functions, 8,400 imports and exports, 1,500 types, 900 globals and 48,000 local variables.
const MAX_ITEMS: [(&str, u64); 14] = [
    ("core modules", 128),
    ("components", 128),
    ("instances", 1024),
    ("types", 16_384),
    ("bytes of types", 4 << 20),
    ("functions", 65_536),
    ("imports and exports", 65_536),
    ("tables", 64),
    ("elements of tables", 1 << 20),
    ("memories", 32),
    ("globals", 8192),
    ("elements that tables begin with", 256 << 10),
    ("data segments", 16_384),
    ("local variables", 1 << 20),
];

/// Maximum size of a function in bytes; the largest of Python's interpreter has 427,000.
const MAX_FUNCTION: usize = 1 << 20;
/// Maximum number of local variables of a function.
const MAX_LOCALS: u64 = 16_384;
/// Maximum nesting of components.
const MAX_DEPTH: usize = 16;
/// Maximum number of nested types, counted by the bytes in a section of types that could begin one. Parsers of types
/// recurse, on a stack that is large enough for this.
const MAX_NESTED_TYPES: usize = 2048;

/// The counts so far.
struct ItemCounter {
    counts: [u64; MAX_ITEMS.len()],
    depth: usize,
}

impl ItemCounter {
    fn add(&mut self, kind: ItemKind, number: u64) -> Result<(), Rejection> {
        let index = kind as usize;
        if let (Some(count), Some((name, most))) = (self.counts.get_mut(index), MAX_ITEMS.get(index)) {
            *count = count.saturating_add(number);
            if *count > *most {
                return Err(too_many(*count, name, *most));
            }
        }
        Ok(())
    }

    /// Counts the types in these bytes. Parsers keep about twenty times as much memory.
    fn types(&mut self, count: u32, bytes: &[u8]) -> Result<(), Rejection> {
        self.add(ItemKind::Types, count.into())?;
        self.add(ItemKind::TypeBytes, bytes.len() as u64)
    }

    fn enter(&mut self) -> Result<(), Rejection> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_many(self.depth as u64, "components within each other", MAX_DEPTH as u64));
        }
        Ok(())
    }

    fn function(&mut self, body: &FunctionBody<'_>) -> Result<(), Rejection> {
        let length = body.range().len();
        if length > MAX_FUNCTION {
            let excess = format!("has a function of {length} bytes, and {MAX_FUNCTION} are the most that one may have");
            return Err(Rejection::Excessive(excess));
        }
        let mut locals = 0u64;
        for group in body.get_locals_reader()? {
            locals = locals.saturating_add(u64::from(group?.0));
        }
        if locals > MAX_LOCALS {
            return Err(too_many(locals, "local variables in a function", MAX_LOCALS));
        }
        self.add(ItemKind::Locals, locals)
    }
}

pub(super) fn too_many(number: u64, what: &str, limit: u64) -> Rejection {
    Rejection::Excessive(format!("has {number} {what} or more, and {limit} are the most that a plugin may have"))
}

/// Checks that the types of a section cannot be nested more deeply than the stack permits: each level takes a byte with
/// one of these two values.
fn nesting(section: &[u8]) -> Result<(), Rejection> {
    let levels = section.iter().filter(|byte| matches!(byte, 0x41 | 0x42)).count();
    if levels > MAX_NESTED_TYPES {
        Err(too_many(levels as u64, "types within each other", MAX_NESTED_TYPES as u64))
    } else {
        Ok(())
    }
}

impl Outline {
    /// Reads the sections of a module or component, without parsing types and code.
    ///
    /// # Errors
    /// It is damaged, or has more of something than any tool produces.
    pub fn of(bytes: &[u8]) -> Result<Self, Rejection> {
        use ItemKind::{
            Components, Data, Elements, Functions, Globals, Instances, Memories, Modules, Names, TableElements, Tables,
        };
        let mut outline = Outline::default();
        let mut counter = ItemCounter { counts: [0; MAX_ITEMS.len()], depth: 0 };
        for payload in Parser::new(0).parse_all(bytes) {
            let outermost = counter.depth == 0;
            match payload? {
                Payload::ModuleSection { .. } => {
                    counter.add(Modules, 1)?;
                    counter.enter()?;
                }
                Payload::ComponentSection { .. } => {
                    counter.add(Components, 1)?;
                    counter.enter()?;
                }
                Payload::End(_) => counter.depth = counter.depth.saturating_sub(1),
                Payload::TypeSection(section) => {
                    counter.types(section.count(), bytes.get(section.range()).unwrap_or_default())?;
                }
                Payload::CoreTypeSection(section) => {
                    nesting(bytes.get(section.range()).unwrap_or_default())?;
                    counter.types(section.count(), bytes.get(section.range()).unwrap_or_default())?;
                }
                Payload::ComponentTypeSection(section) => {
                    nesting(bytes.get(section.range()).unwrap_or_default())?;
                    counter.types(section.count(), bytes.get(section.range()).unwrap_or_default())?;
                }
                Payload::ImportSection(section) => counter.add(Names, section.count().into())?,
                Payload::ExportSection(section) => counter.add(Names, section.count().into())?,
                Payload::ComponentAliasSection(section) => counter.add(Names, section.count().into())?,
                Payload::FunctionSection(section) => counter.add(Functions, section.count().into())?,
                Payload::ComponentCanonicalSection(section) => counter.add(Functions, section.count().into())?,
                Payload::InstanceSection(section) => counter.add(Instances, section.count().into())?,
                Payload::ComponentInstanceSection(section) => counter.add(Instances, section.count().into())?,
                Payload::TableSection(section) => {
                    counter.add(Tables, section.count().into())?;
                    for table in section {
                        counter.add(TableElements, table?.ty.initial)?;
                    }
                }
                Payload::MemorySection(section) => counter.add(Memories, section.count().into())?,
                Payload::GlobalSection(section) => counter.add(Globals, section.count().into())?,
                Payload::ElementSection(section) => {
                    counter.add(Elements, section.count().into())?;
                    for element in section {
                        let items = match element?.items {
                            ElementItems::Functions(items) => items.count(),
                            ElementItems::Expressions(_, items) => items.count(),
                        };
                        counter.add(Elements, items.into())?;
                    }
                }
                Payload::DataSection(section) => counter.add(Data, section.count().into())?,
                Payload::CodeSectionEntry(body) => counter.function(&body)?,
                Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                    nesting(section.data())?;
                    counter.types(0, section.data())?;
                }
                Payload::ComponentImportSection(section) => {
                    counter.add(Names, section.count().into())?;
                    if outermost {
                        for import in section {
                            outline.imports.push(import?.name.name.to_string());
                        }
                    }
                }
                Payload::ComponentExportSection(section) => {
                    counter.add(Names, section.count().into())?;
                    if outermost {
                        for export in section {
                            outline.exports.push(export?.name.name.to_string());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }
}

#[cfg(test)]
mod tests {
    use flowgate_test_support::wasm::{self, COMPONENT, MODULE, NOTHING, component, id, items, number, section};

    use super::*;

    /// Returns a component with a function of this body.
    fn code(body: &[u8]) -> Vec<u8> {
        component(&[items(id::TYPES, 1, NOTHING), items(id::FUNCTIONS, 1, &[0]), wasm::code([body])])
    }

    fn excess(bytes: &[u8]) -> String {
        match Outline::of(bytes) {
            Err(Rejection::Excessive(excess)) => excess,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn exports_and_imports_are_those_of_the_outermost_component() {
        assert_eq!(Outline::of(COMPONENT), Ok(Outline::default()));
        let export = [number(1), vec![0, 1, b'a', 0x04], number(0), number(0)].concat();
        let inner = [COMPONENT, &section(11, &export)].concat();
        assert_eq!(Outline::of(&inner).unwrap().exports, ["a"]);
        let outer = [COMPONENT, &section(4, &inner)].concat();
        assert_eq!(Outline::of(&outer), Ok(Outline::default()));
    }

    #[test]
    fn what_is_broken_is_said_to_be() {
        for broken in [&b"\0asm\xff\0\0\0"[..], b"\0asm\x0d\0\x01\0garbage", b"\0asm\x01\0\0\0\x01"] {
            assert!(matches!(Outline::of(broken), Err(Rejection::Malformed(_))), "{broken:?}");
        }
    }

    #[test]
    fn too_much_of_anything_is_refused_by_its_name() {
        let global = [0x7e, 0x00, 0x42, 0x01, 0x0b];
        assert!(excess(&component(&[items(id::GLOBALS, 40_000, &global)])).contains("40000 globals"));
        assert!(excess(&component(&[items(id::TYPES, 40_000, NOTHING)])).contains("40000 types"));
        let long = items(id::TYPES, 10_000, &wasm::function_type(500, 500));
        assert!(excess(&component(&[long])).contains("bytes of types"));
        assert!(excess(&component(&[items(id::FUNCTIONS, 70_000, &[0])])).contains("70000 functions"));
        let table = [&[0x70, 0x00][..], &number(1 << 20)].concat();
        assert!(excess(&component(&[items(id::TABLES, 2, &table)])).contains("2097152 elements of tables"));
        assert!(excess(&component(&[items(id::TABLES, 200, &[0x70, 0x00, 0])])).contains("200 tables"));
        assert!(excess(&component(&[items(id::MEMORIES, 40, &[0x00, 1])])).contains("40 memories"));
        assert!(excess(&component(&[items(id::DATA, 70_000, &[1, 0])])).contains("70000 data segments"));
        let modules = section(1, MODULE).repeat(200);
        assert!(excess(&[COMPONENT, &modules].concat()).contains("129 core modules"));
        let components = section(4, COMPONENT).repeat(200);
        assert!(excess(&[COMPONENT, &components].concat()).contains("129 components"));
        let elements = [&[0, 0x41, 0, 0x0b][..], &number(300_000), &vec![0; 300_000]].concat();
        assert!(excess(&component(&[items(9, 1, &elements)])).contains("300001 elements that tables begin with"));
        let locals = [&[1][..], &number(16_000), &[0x7e, 0x0b]].concat();
        let bodies = wasm::code(std::iter::repeat_n(&locals[..], 70));
        let functions = component(&[items(id::TYPES, 1, NOTHING), items(id::FUNCTIONS, 70, &[0]), bodies]);
        assert!(excess(&functions).contains("local variables or more"));
        let instances = items(2, 3000, &[0, 0, 0]);
        assert!(excess(&[COMPONENT, &section(1, MODULE), &instances].concat()).contains("3000 instances"));
        let export = [&[1, b'f', 0x03][..], &number(0)].concat();
        assert!(excess(&component(&[items(id::EXPORTS, 70_000, &export)])).contains("70000 imports and exports"));
    }

    #[test]
    fn components_and_types_within_each_other_are_counted() {
        let mut nested = COMPONENT.to_vec();
        for _ in 0..20 {
            nested = [COMPONENT, &section(4, &nested)].concat();
        }
        assert!(excess(&nested).contains("17 components within each other"));
        // Instance types, each of which declares the next.
        let levels = 20_000;
        let types = [number(1), [0x42, 1, 1].repeat(levels), vec![0x42, 0]].concat();
        assert!(excess(&[COMPONENT, &section(7, &types)].concat()).contains("20001 types within each other"));
        let custom = [&[14][..], b"component-type", &[COMPONENT, &section(7, &types)].concat()].concat();
        assert!(excess(&[MODULE, &section(0, &custom)].concat()).contains("types within each other"));
    }

    #[test]
    fn functions_that_are_hard_to_compile_are_refused() {
        let long = [&[0][..], &[0x01].repeat(MAX_FUNCTION + 1), &[0x0b]].concat();
        assert!(excess(&code(&long)).contains("a function of 1048579 bytes"));
        let many = [&[1][..], &number(20_000), &[0x7e, 0x0b]].concat();
        assert!(excess(&code(&many)).contains("20000 local variables in a function"));
        assert!(Outline::of(&code(&[0, 0x0b])).is_ok());
    }
}
