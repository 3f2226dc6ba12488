//! An arbitrary file as a component: its sections are listed without a panic, at a cost proportional to its size.

use flowgate_runtime::outline::Outline;

use super::{input::Input, linear::linear};

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Encodes a number as LEB128.
fn number(mut number: u64, bytes: &mut Vec<u8>) {
    while number > 127 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Returns a module or a component with some sections, which may contain other modules and components.
fn file(input: &mut Input<'_>, depth: usize) -> Vec<u8> {
    let component = input.one_in(2);
    let mut bytes = if component { COMPONENT } else { MODULE }.to_vec();
    for _ in 0..input.up_to(6) {
        let id = input.up_to(13) as u8;
        let mut content = Vec::new();
        if component && depth > 0 && matches!(id, 1 | 4) {
            content = file(input, depth - 1);
        } else {
            let times = if input.one_in(4) { input.up_to(30_000) } else { input.up_to(8) };
            let claimed = if input.one_in(8) { input.bits() >> input.up_to(63) } else { times as u64 };
            let item: Vec<u8> = (0..1 + input.up_to(12)).map(|_| item_byte(input)).collect();
            if id == 0 {
                content.extend(input.pick(&[&b"\x04name"[..], b"\x0ecomponent-type", b"\x01x", b"\xff\xff"]));
            }
            number(claimed, &mut content);
            content.extend(item.repeat(times));
        }
        let length = if input.one_in(16) { input.bits() >> input.up_to(63) } else { content.len() as u64 };
        bytes.push(id);
        number(length, &mut bytes);
        bytes.extend(content);
        // Repeated sections.
        if input.one_in(16) && bytes.len() < 4096 {
            let again = bytes.get(8..).unwrap_or_default().repeat(input.up_to(300));
            bytes.extend(again);
        }
    }
    bytes
}

/// Returns a byte that has a meaning in WebAssembly, or an arbitrary one.
fn item_byte(input: &mut Input<'_>) -> u8 {
    const MEANT: &[u8] =
        &[0, 1, 2, 3, 4, 5, 0x60, 0x7f, 0x7e, 0x70, 0x6f, 0x40, 0x41, 0x42, 0x43, 0x0b, 0x50, 0x4e, b'a', b':', b'/'];
    if input.one_in(4) { input.byte() } else { input.pick(MEANT) }
}

/// Inspects a file derived from the input.
///
/// # Panics
/// If one of these properties does not hold.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let bytes = if input.one_in(8) { input.0.to_vec() } else { file(&mut input, 20) };
    if let Ok(outline) = linear("outline", bytes.len(), || Outline::of(&bytes)) {
        let names = outline.exports.iter().chain(&outline.imports);
        assert!(names.map(String::len).sum::<usize>() <= bytes.len(), "names that are longer than the file");
    }
}
