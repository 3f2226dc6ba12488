//! What hostile plugins try: all that `tests/plugins/hostile` does, and files that no toolchain produces.

use crate::wasm::{self, NOTHING, id, items, name, number};

/// An attack by the plugin `hostile`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attack {
    /// The options of the plugin: names and values.
    pub options: Vec<(String, String)>,
    /// The grant that it needs; empty if it needs none.
    pub grant: &'static str,
    /// True if it multiplies something.
    pub multiplies: bool,
}

impl Attack {
    /// Makes an attack of options as on a command line.
    fn new(options: &str, grant: &'static str, multiplies: bool) -> Self {
        let pairs = options.split(',').map(|option| option.split_once('=').expect("name=value"));
        let options = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Attack { options, grant, multiplies }
    }

    /// Returns the options as on a command line.
    pub fn text(&self) -> String {
        self.options.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
    }
}

/// The columns of text that can be multiplied.
pub const COLUMNS: [&str; 5] = ["helper", "helper-info", "labels", "labels-mask", "security-context"];

/// Returns the attacks in calls with a batch.
pub fn attacks() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for column in COLUMNS {
        // Far too much, the maximum for the values of an action, and the maximum for the kernel's own values.
        let kernels = if column == "security-context" { "4096" } else { "15" };
        for bytes in ["20000000", "256", kernels] {
            attacks.push(Attack::new(&format!("do=amplify-change,column={column},bytes={bytes}"), "", true));
        }
        attacks.push(Attack::new(&format!("do=slow-change,column={column}"), "", true));
    }
    for (options, grant) in [
        ("do=slow-change,column=security-context,bytes=4096", ""),
        ("do=one-change-too-many", ""),
        ("do=amplify-notes", ""),
        ("do=amplify-notes,bytes=200", ""),
        ("do=escaped-notes", ""),
        ("do=escaped-notes,bytes=100", ""),
        ("do=empty-notes", ""),
        ("do=amplify-actions", ""),
        ("do=amplify-actions,bytes=4096,column=security-context", "update"),
        ("do=raw-attributes", ""),
        ("do=more-columns", ""),
        ("do=duplicate-rows", ""),
        ("do=huge-ends", ""),
        ("do=overlapping-ends", ""),
        ("do=log-bytes", "log"),
        ("do=log-flood", "log"),
        ("do=amplify", ""),
        ("do=action-flood", "delete"),
        ("do=output", ""),
        ("do=memory", ""),
        ("do=strange-table", ""),
    ] {
        attacks.push(Attack::new(options, grant, true));
    }
    for what in [
        "trap",
        "loop",
        "recurse",
        "short-verdicts",
        "long-verdicts",
        "strange-verdict",
        "strange-row",
        "strange-texts",
        "strange-change",
        "strange-action",
        "ungranted",
        "escape",
    ] {
        attacks.push(Attack::new(&format!("do={what}"), "", false));
    }
    attacks
}

/// A file that makes a host compile or allocate far more than its size suggests, or whose names move a cursor.
#[derive(Debug)]
pub struct HostileFile {
    /// What it does.
    pub name: &'static str,
    /// The component.
    pub bytes: Vec<u8>,
    /// Why it is refused.
    pub words: &'static str,
}

/// Returns hostile files, made of a component that is a plugin.
pub fn files(plugin: &[u8]) -> Vec<HostileFile> {
    let function = || [items(id::TYPES, 1, NOTHING), items(id::FUNCTIONS, 1, &[0])];
    let export = [name("\x1b]0;owned by a plugin\x07\x1b[31mred\x1b[0m"), vec![0, 0]].concat();
    let [types, functions] = function();
    let names = [types, functions, items(id::EXPORTS, 2, &export), wasm::code([&[0, 0x0b][..]])];
    let globals = [items(id::GLOBALS, 1_000_000, &[0x7e, 0, 0x42, 1, 0x0b])];
    // 50 tables of 2^20 elements, each of them filled by the function that the module starts with.
    let fill = |table: usize| {
        let size = [0x41, 0x80, 0x80, 0xc0, 0];
        [&[0x41, 0, 0xd2, 0, 0x41][..], &size[1..], &[0xfc, 0x11], &number(table)].concat()
    };
    let filled = [vec![0], (0..50).flat_map(fill).collect(), vec![0x0b]].concat();
    let tables = [
        items(id::TYPES, 1, NOTHING),
        items(id::FUNCTIONS, 2, &[0]),
        items(id::TABLES, 50, &[&[0x70, 0][..], &number(1 << 20)].concat()),
        wasm::section(id::EXPORTS, &[vec![1], name("f"), vec![0, 0]].concat()),
        wasm::section(8, &[1]),
        wasm::code([&[0, 0x0b][..], &filled]),
    ];
    // 64 variables that stay alive through a function of 7.6 MB, with a branch at every step.
    let step = |variable: usize| {
        let (one, other) = (number(1 + variable), number(1 + (variable * 7 + 3) % 64));
        let condition = [&[0x20][..], &one, &[0xa7, 0x04, 0x40]].concat();
        let product = [&[0x20][..], &one, &[0x20], &other, &[0x7e, 0x20, 0, 0x7c, 0x21], &other, &[0x0b]].concat();
        [condition, product].concat()
    };
    let steps: Vec<u8> = (0..64).flat_map(step).collect();
    let long = [&[1, 64, 0x7e][..], &steps.repeat(7_600_000 / steps.len()), &[0x20, 1, 0x0b]].concat();
    let heavy = [
        items(id::TYPES, 1, &[0x60, 1, 0x7e, 1, 0x7e]),
        items(id::FUNCTIONS, 4, &[0]),
        wasm::code([&long[..], &long, &long, &long]),
    ];
    let with = |name, sections: &[Vec<u8>], times, words| HostileFile {
        name,
        bytes: wasm::with_module(plugin, sections, times),
        words,
    };
    vec![
        with("names", &names, 0, "duplicate export name `\\u{1b}]0;owned by a plugin\\u{7}"),
        with("globals", &globals, 50, "globals or more"),
        with("tables", &tables, 1, "elements of tables or more"),
        with("heavy code", &heavy, 0, "a function of "),
    ]
}
