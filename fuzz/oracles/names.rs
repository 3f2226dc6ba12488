//! Arbitrary names in a plugin: imports and exports of modules and components, and the name of the file. The error
//! message contains no characters that a terminal interprets or hides.

use std::{
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use flowgate_base::text;
use flowgate_runtime::{PluginComponent, PluginEngine};

use super::input::Input;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Parts of names: those that the host knows, fragments of them, and characters that a terminal interprets.
const PARTS: &[&str] = &[
    "flowgate:conntrack/flow-stage@0.1.1",
    "flowgate:conntrack/log@0.1.1",
    "flowgate:conntrack/",
    "wasi:cli/environment@0.2.0",
    "env",
    "memory",
    "setup",
    "@0.9.0",
    "@",
    "a-b",
    "\u{1b}]0;title\u{7}",
    "\u{1b}[31m",
    "\u{9b}2J",
    "\u{202e}",
    "\u{200b}",
    "\u{e0041}",
    "\n",
    "\r",
    "\0",
    "`",
    "ä",
];

/// Number of messages with escaped characters.
static ESCAPED: AtomicUsize = AtomicUsize::new(0);

/// Returns the number of messages with escaped characters.
#[allow(dead_code, reason = "an engine for fuzzing has no use for it")]
pub(crate) fn escaped() -> usize {
    ESCAPED.load(Ordering::Relaxed)
}

/// Encodes a number as LEB128.
fn number(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn section(id: u8, items: &[Vec<u8>]) -> Vec<u8> {
    let content = [number(items.len()), items.concat()].concat();
    [vec![id], number(content.len()), content].concat()
}

/// Returns a name, prefixed with its length.
fn name(input: &mut Input<'_>) -> Vec<u8> {
    let mut name = Vec::new();
    for _ in 0..1 + input.up_to(3) {
        match input.one_in(6) {
            true => name.extend((0..input.up_to(5)).map(|_| input.byte())),
            false => name.extend_from_slice(input.pick(PARTS).as_bytes()),
        }
    }
    // Messages truncate long names.
    let name = if input.one_in(16) { name.repeat(input.up_to(200)) } else { name };
    [number(name.len()), name].concat()
}

/// Returns a module that imports and exports functions.
fn module(input: &mut Input<'_>) -> Vec<u8> {
    let imports: Vec<_> = (0..1 + input.up_to(2)).map(|_| [name(input), name(input), vec![0, 0]].concat()).collect();
    let exports: Vec<_> = (0..input.up_to(2)).map(|_| [name(input), vec![0, 0]].concat()).collect();
    [MODULE.to_vec(), section(1, &[vec![0x60, 0, 0]]), section(2, &imports), section(7, &exports)].concat()
}

/// Returns a component that imports and exports instances.
fn component(input: &mut Input<'_>) -> Vec<u8> {
    let sound = b"flowgate:conntrack/flow-stage@0.1.1";
    let imports: Vec<_> = (0..1 + input.up_to(2)).map(|_| [vec![0], name(input), vec![5, 0]].concat()).collect();
    let mut exports: Vec<_> = (0..input.up_to(2)).map(|_| [vec![0], name(input), vec![5, 0, 0]].concat()).collect();
    if input.one_in(2) {
        exports.push([&[0][..], &number(sound.len()), sound, &[5, 0, 0]].concat());
    }
    [COMPONENT.to_vec(), section(7, &[vec![0x42, 0]]), section(10, &imports), section(11, &exports)].concat()
}

/// Loads a plugin with names derived from the input.
///
/// # Panics
/// If its message has characters that must be escaped.
pub(crate) fn run(input: &[u8]) {
    static ENGINE: OnceLock<PluginEngine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| PluginEngine::new(None).expect("an engine"));
    let mut input = Input(input);
    let bytes = if input.one_in(2) { module(&mut input) } else { component(&mut input) };
    let file = format!("{}.wasm", String::from_utf8_lossy(&name(&mut input)));
    if let Err(error) = PluginComponent::from_bytes(engine, Path::new(&file), &bytes) {
        let message = error.to_string();
        assert_eq!(text::line(message.as_bytes()), message, "not escaped");
        ESCAPED.fetch_add(usize::from(message.contains("\\u{")), Ordering::Relaxed);
    }
}
