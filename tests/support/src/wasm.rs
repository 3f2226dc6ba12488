//! WebAssembly encoded by hand: modules and components that no toolchain produces.

/// The preamble of a core module.
pub const MODULE: &[u8] = b"\0asm\x01\0\0\0";
/// The preamble of a component.
pub const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
/// The type of a function without parameters and results.
pub const NOTHING: &[u8] = &[0x60, 0, 0];
/// Numbers of the sections of a core module.
pub mod id {
    /// Types of functions.
    pub const TYPES: u8 = 1;
    /// Types of the functions that the module has.
    pub const FUNCTIONS: u8 = 3;
    /// Tables.
    pub const TABLES: u8 = 4;
    /// Memories.
    pub const MEMORIES: u8 = 5;
    /// Global variables.
    pub const GLOBALS: u8 = 6;
    /// Exports.
    pub const EXPORTS: u8 = 7;
    /// Bodies of functions.
    pub const CODE: u8 = 10;
    /// Data segments.
    pub const DATA: u8 = 11;
}

/// Encodes a number as LEB128.
pub fn number(mut number: usize) -> Vec<u8> {
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

/// Encodes a text, prefixed with its length.
pub fn name(text: &str) -> Vec<u8> {
    [number(text.len()), text.as_bytes().to_vec()].concat()
}

/// Encodes a section with this content.
pub fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &number(content.len()), content].concat()
}

/// Encodes a section of `count` equal items.
pub fn items(id: u8, count: usize, item: &[u8]) -> Vec<u8> {
    section(id, &[number(count), item.repeat(count)].concat())
}

/// Encodes a code section of these bodies.
pub fn code<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let bodies: Vec<Vec<u8>> = bodies.into_iter().map(|body| [number(body.len()), body.to_vec()].concat()).collect();
    section(id::CODE, &[number(bodies.len()), bodies.concat()].concat())
}

/// Encodes the type of a function with this many parameters and results, all of them i32.
pub fn function_type(parameters: usize, results: usize) -> Vec<u8> {
    let values = |count: usize| [number(count), vec![0x7f; count]].concat();
    [vec![0x60], values(parameters), values(results)].concat()
}

/// Returns a core module of these sections.
pub fn module(sections: &[Vec<u8>]) -> Vec<u8> {
    [MODULE, &sections.concat()].concat()
}

/// Returns a component with one core module of these sections.
pub fn component(sections: &[Vec<u8>]) -> Vec<u8> {
    [COMPONENT, &section(1, &module(sections))].concat()
}

/// Returns a component with an additional core module of these sections, which is instantiated this many times.
///
/// # Panics
/// If the bytes are not a component.
pub fn with_module(component: &[u8], sections: &[Vec<u8>], times: usize) -> Vec<u8> {
    assert!(component.starts_with(COMPONENT), "these bytes are no component");
    let index = core_modules(component);
    let instances = items(2, times, &[&[0][..], &number(index), &[0]].concat());
    [component.to_vec(), section(1, &module(sections)), if times == 0 { Vec::new() } else { instances }].concat()
}

/// Returns the number of core modules at the outermost level of a component.
fn core_modules(component: &[u8]) -> usize {
    let (mut at, mut modules) = (COMPONENT.len(), 0);
    while at < component.len() {
        modules += usize::from(component[at] == 1);
        at += 1;
        let (mut size, mut shift) = (0, 0);
        loop {
            let byte = component[at];
            at += 1;
            size |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        at += size;
    }
    modules
}
