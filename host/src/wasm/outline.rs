//! What a module or a component has, found by its sections before anything of it is compiled: what it exports and imports, and
//! how much of everything. Compiling takes time and memory that depend on the kind of code and not on its size, so that what
//! cannot run here, or is of no kind that a tool makes, is not compiled at all.

use wasmparser::{BinaryReaderError, ElementItems, FunctionBody, Operator, Parser, Payload};

/// The exports and imports of the outermost component.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    pub exports: Vec<String>,
    pub imports: Vec<String>,
}

/// Why something is not compiled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// It is no WebAssembly, or broken.
    Malformed(String),
    /// There is too much of something: the rest of a sentence that begins with "it".
    Excessive(String),
}

impl From<BinaryReaderError> for Rejection {
    fn from(error: BinaryReaderError) -> Self {
        Rejection::Malformed(error.to_string())
    }
}

/// What is counted, over all that is nested in a file.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Modules,
    Components,
    Instances,
    Types,
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

/// Names of the kinds, in their order, and how many of each a plugin may have. A plugin in Python, the largest that there are, has
/// 38 core modules, 13,500 functions, 8,400 imports and exports, 1,500 types, 900 globals and 48,000 local variables.
const MOST: [(&str, u64); 13] = [
    ("core modules", 128),
    ("components", 128),
    ("instances", 1024),
    ("types", 16_384),
    ("functions", 131_072),
    ("imports and exports", 65_536),
    ("tables", 64),
    ("elements of tables", 1 << 20),
    ("memories", 32),
    ("globals", 8192),
    ("elements that tables begin with", 256 << 10),
    ("data segments", 16_384),
    ("local variables", 1 << 20),
];

/// Bytes of a function, at most; the longest of Python's interpreter has 427,000.
const FUNCTION: usize = 1 << 20;
/// Local variables of a function, at most.
const LOCALS: u64 = 16_384;
/// Components within components.
const DEPTH: usize = 16;
/// Types within types: what could begin one in a section of types, at most. Readers of types go down by recursion, on a stack that
/// is large enough for this.
const NESTED: usize = 2048;

/// What is known so far.
struct Counter {
    counts: [u64; MOST.len()],
    depth: usize,
}

impl Counter {
    fn add(&mut self, kind: Kind, number: u64) -> Result<(), Rejection> {
        let index = kind as usize;
        if let (Some(count), Some((name, most))) = (self.counts.get_mut(index), MOST.get(index)) {
            *count = count.saturating_add(number);
            if *count > *most {
                return Err(too_many(*count, name, *most));
            }
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<(), Rejection> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(too_many(self.depth as u64, "components within each other", DEPTH as u64));
        }
        Ok(())
    }

    fn function(&mut self, body: &FunctionBody<'_>) -> Result<(), Rejection> {
        let length = body.range().len();
        if length > FUNCTION {
            let excess = format!("has a function of {length} bytes, and {FUNCTION} are the most that one may have");
            return Err(Rejection::Excessive(excess));
        }
        let mut locals = 0u64;
        for group in body.get_locals_reader()? {
            locals = locals.saturating_add(u64::from(group?.0));
        }
        if locals > LOCALS {
            return Err(too_many(locals, "local variables in a function", LOCALS));
        }
        self.add(Kind::Locals, locals)
    }
}

fn too_many(number: u64, what: &str, most: u64) -> Rejection {
    Rejection::Excessive(format!("has {number} {what} or more, and {most} are the most that a plugin may have"))
}

/// Whether a section of types could hold more types within each other than there is stack for: each level takes a byte of these
/// two.
fn nesting(section: &[u8]) -> Result<(), Rejection> {
    let levels = section.iter().filter(|byte| matches!(byte, 0x41 | 0x42)).count();
    if levels > NESTED { Err(too_many(levels as u64, "types within each other", NESTED as u64)) } else { Ok(()) }
}

impl Outline {
    /// Reads the sections of a module or a component, without looking into types and code.
    ///
    /// # Errors
    /// It is broken, or has more of something than any tool makes.
    pub fn of(bytes: &[u8]) -> Result<Self, Rejection> {
        use Kind::{
            Components, Data, Elements, Functions, Globals, Instances, Memories, Modules, Names, TableElements, Tables,
            Types,
        };
        let mut outline = Outline::default();
        let mut counter = Counter { counts: [0; MOST.len()], depth: 0 };
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
                Payload::TypeSection(section) => counter.add(Types, section.count().into())?,
                Payload::CoreTypeSection(section) => {
                    nesting(bytes.get(section.range()).unwrap_or_default())?;
                    counter.add(Types, section.count().into())?;
                }
                Payload::ComponentTypeSection(section) => {
                    nesting(bytes.get(section.range()).unwrap_or_default())?;
                    counter.add(Types, section.count().into())?;
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

/// Places of a function where paths of execution meet, times its local variables: what the compiler's notes on them grow with.
const MEETINGS: u64 = 16 << 20;
/// Destinations of all `br_table` of a function.
const DESTINATIONS: u64 = 256 << 10;

/// Looks at the code itself, for functions that take a compiler far more than their size.
///
/// # Errors
/// As [`Outline::of`].
pub(super) fn weigh(bytes: &[u8]) -> Result<(), Rejection> {
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::CodeSectionEntry(body) = payload? {
            function(&body)?;
        }
    }
    Ok(())
}

fn function(body: &FunctionBody<'_>) -> Result<(), Rejection> {
    let mut locals = 0u64;
    for group in body.get_locals_reader()? {
        locals = locals.saturating_add(u64::from(group?.0));
    }
    let (mut blocks, mut destinations) = (1u64, 0u64);
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        match operators.read()? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::Else => blocks += 1,
            Operator::BrIf { .. } => blocks += 1,
            Operator::BrTable { targets } => {
                blocks += 1;
                destinations += u64::from(targets.len());
            }
            _ => {}
        }
    }
    if destinations > DESTINATIONS {
        return Err(too_many(destinations, "destinations of br_table in a function", DESTINATIONS));
    }
    let meetings = blocks.saturating_mul(locals.max(1));
    if meetings > MEETINGS {
        return Err(Rejection::Excessive(format!(
            "has a function of {blocks} blocks and {locals} local variables, and {MEETINGS} is the most that the product of both may be"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    /// A number as WebAssembly writes it.
    fn leb(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let byte = (number & 0x7f) as u8;
            number >>= 7;
            bytes.push(byte | if number == 0 { 0 } else { 0x80 });
            if number == 0 {
                return bytes;
            }
        }
    }

    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        [&[id][..], &leb(content.len() as u64), content].concat()
    }

    /// A section of `count` items.
    fn items(id: u8, count: u64, item: &[u8]) -> Vec<u8> {
        section(id, &[leb(count), item.repeat(usize::try_from(count).unwrap())].concat())
    }

    /// A component of one module with these sections.
    fn component(sections: &[Vec<u8>]) -> Vec<u8> {
        [COMPONENT, &section(1, &[MODULE, &sections.concat()].concat())].concat()
    }

    /// A module whose only function, of no parameters, has this body.
    fn code(body: &[u8]) -> Vec<u8> {
        let code = [leb(1), leb(body.len() as u64), body.to_vec()].concat();
        component(&[items(1, 1, &[0x60, 0, 0]), items(3, 1, &[0]), section(10, &code)])
    }

    fn excess(bytes: &[u8]) -> String {
        match Outline::of(bytes).and_then(|_| weigh(bytes)) {
            Err(Rejection::Excessive(excess)) => excess,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn exports_and_imports_are_those_of_the_outermost_component() {
        assert_eq!(Outline::of(COMPONENT), Ok(Outline::default()));
        let export = [leb(1), vec![0, 1, b'a', 0x04], leb(0), leb(0)].concat();
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
        assert!(excess(&component(&[items(6, 40_000, &global)])).contains("40000 globals"));
        assert!(excess(&component(&[items(1, 40_000, &[0x60, 0, 0])])).contains("40000 types"));
        assert!(excess(&component(&[items(3, 140_000, &[0])])).contains("140000 functions"));
        let table = [&[0x70, 0x00][..], &leb(1 << 20)].concat();
        assert!(excess(&component(&[items(4, 2, &table)])).contains("2097152 elements of tables"));
        assert!(excess(&component(&[items(4, 200, &[0x70, 0x00, 0])])).contains("200 tables"));
        assert!(excess(&component(&[items(5, 40, &[0x00, 1])])).contains("40 memories"));
        assert!(excess(&component(&[items(11, 70_000, &[1, 0])])).contains("70000 data segments"));
        let modules = section(1, MODULE).repeat(200);
        assert!(excess(&[COMPONENT, &modules].concat()).contains("129 core modules"));
        let instances = items(2, 3000, &[0, 0, 0]);
        assert!(excess(&[COMPONENT, &section(1, MODULE), &instances].concat()).contains("3000 instances"));
        let export = [&[1, b'f', 0x03][..], &leb(0)].concat();
        assert!(excess(&component(&[items(7, 70_000, &export)])).contains("70000 imports and exports"));
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
        let types = [leb(1), [0x42, 1, 1].repeat(levels), vec![0x42, 0]].concat();
        assert!(excess(&[COMPONENT, &section(7, &types)].concat()).contains("20001 types within each other"));
        let custom = [&[14][..], b"component-type", &[COMPONENT, &section(7, &types)].concat()].concat();
        assert!(excess(&[MODULE, &section(0, &custom)].concat()).contains("types within each other"));
    }

    #[test]
    fn functions_that_are_hard_to_compile_are_refused() {
        let long = [&[0][..], &[0x01].repeat(FUNCTION + 1), &[0x0b]].concat();
        assert!(excess(&code(&long)).contains("a function of 1048579 bytes"));
        let many = [&[1][..], &leb(20_000), &[0x7e, 0x0b]].concat();
        assert!(excess(&code(&many)).contains("20000 local variables in a function"));
        let blocks = [&[1][..], &leb(10_000), &[0x7e], &[0x02, 0x40, 0x0b].repeat(2000), &[0x0b]].concat();
        assert!(excess(&code(&blocks)).contains("2001 blocks and 10000 local variables"));
        let table = [&[0x41, 0, 0x0e][..], &leb(300_000), &[0].repeat(300_000), &[0, 0x0b]].concat();
        assert!(excess(&code(&[&[0][..], &table].concat())).contains("300000 destinations of br_table"));
        assert!(Outline::of(&code(&[0, 0x0b])).is_ok_and(|_| weigh(&code(&[0, 0x0b])).is_ok()));
    }
}
