//! Hostile plugins, one for each kind of harm and each place where it can be done. A bomb is the plugin of a tenant:
//! its file, its keys in a policy, and what is known of it afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{hostile, plugins, wasm};
use wasm::{NOTHING, id, items, number, section};

/// A hostile plugin.
#[derive(Clone, Debug)]
pub struct Bomb {
    /// Where the harm is done and what it is, as the name of a tenant.
    pub name: String,
    /// What it is, for people.
    pub what: &'static str,
    /// Its file.
    pub file: PathBuf,
    /// Its options, as the content of a table of TOML.
    pub options: String,
    /// Its grants, as the content of an array of TOML.
    pub grants: &'static str,
    /// Its limits, as the content of a table of TOML.
    pub limits: &'static str,
    /// A part of what the service says about its tenant once it has gone off.
    pub sign: &'static str,
}

/// A way to misbehave: its word, what it is, a grant that it needs, and the sign.
type Kind = (&'static str, &'static str, &'static str, &'static str);

/// Core modules that misbehave in their start function, which runs before anything of the plugin is called: the body of
/// the function.
const STARTS: [(&str, &str, &[u8], &str); 4] = [
    ("loop", "never returns", &[0, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0b], "ran longer than"),
    ("trap", "traps", &[0, 0, 0x0b], "unreachable"),
    ("recurse", "calls itself without end", &[0, 0x10, 0, 0x0b], "used up its stack"),
    (
        "memory",
        "grows its memory by 4 MiB and writes all of it, until it gets no more",
        &[
            0, 0x03, 0x40, 0x41, 0xc0, 0, 0x40, 0, 0x41, 0x7f, 0x46, 0x04, 0x40, 0, 0x0b, 0x41, 0, 0x41, 1, 0x3f, 0,
            0x41, 16, 0x74, 0xfc, 0x0b, 0, 0x0c, 0, 0x0b, 0x0b,
        ],
        "bytes of memory; the limit is",
    ),
];

const DESCRIPTIONS: [Kind; 5] = [
    ("trap", "traps when it is to describe itself", "", "trapped: panicked"),
    ("loop", "never ends describing itself", "", "ran longer than"),
    ("recurse", "calls itself without end when it is to describe itself", "", "used up its stack"),
    ("memory", "takes all memory when it is to describe itself", "", "bytes of memory; the limit is"),
    ("options", "describes 100,000 options", "", "100001"),
];

const CONFIGURE: [Kind; 7] = [
    ("trap", "traps while it is configured", "", "trapped: panicked"),
    ("loop", "never ends being configured", "", "ran longer than"),
    ("recurse", "calls itself without end", "", "used up its stack"),
    ("memory", "takes all memory", "", "bytes of memory; the limit is"),
    ("refuse", "refuses its configuration with escape sequences", "", "refuses"),
    ("log-flood", "logs 100,000 lines", "log", "line 99 "),
    ("log-bytes", "logs 100 lines of 1 MiB each", "log", "\\u{1b}"),
];

const PROCESS: [Kind; 31] = [
    ("amplify-change", "sets a text of 20 MiB in each row", "", "such a value has at most 256"),
    ("slow-change", "changes one row 300,000 times", "", "such a value has at most 256"),
    ("one-change-too-many", "changes a row more often than a batch may be", "", "changes of a batch of"),
    ("amplify-notes", "annotates each row with 4,000 bytes", "", ""),
    ("escaped-notes", "annotates with bytes that are longer when they are shown", "", ""),
    ("empty-notes", "makes two million annotations without text", "", "more annotations for row 0"),
    ("amplify-actions", "asks for 60,000 updates of 20 MiB each", "", "such a value has at most 256"),
    ("raw-attributes", "returns an unknown attribute of 20 MiB", "", "at most 65531"),
    ("more-columns", "returns 100,000 columns", "", "100000 columns in `more`"),
    ("duplicate-rows", "names a row 1,000 times in a column", "", "for row 0 more than once"),
    ("huge-ends", "returns a text that ends beyond its bytes", "", "values end outside their 9 bytes"),
    ("overlapping-ends", "returns texts that end before they begin", "", "values end outside their 9 bytes"),
    ("log-flood", "logs 100,000 lines for each batch", "log", ""),
    ("log-bytes", "logs 100 lines of 1 MiB for each batch", "log", ""),
    ("amplify", "names a text of 1 MiB four million times", "", "4194304 rows but 1 values"),
    ("action-flood", "asks for 100,000 deletions in a call", "delete", "100000 actions in one call"),
    ("output", "returns 40 MiB of verdicts", "", "more than 33554432 bytes"),
    ("memory", "takes all memory", "", "bytes of memory; the limit is"),
    ("strange-table", "returns a table of 2^31 rows", "", "a table of 2147483648 rows"),
    ("trap", "traps", "", "trapped: panicked"),
    ("loop", "never returns", "", "ran longer than"),
    ("recurse", "calls itself without end", "", "used up its stack"),
    ("short-verdicts", "returns too few verdicts", "", ""),
    ("long-verdicts", "returns too many verdicts", "", "verdicts for a batch of"),
    ("strange-verdict", "returns verdicts that are none", "", "the verdict 7"),
    ("strange-row", "annotates a row that is not there", "", "an annotation` for row"),
    ("strange-texts", "annotates with a text that ends beyond its bytes", "", "values end outside their 3 bytes"),
    ("strange-change", "changes a row to values that are not there", "", "a change by values for row 5"),
    ("strange-action", "asks for an action on a row that is not there", "", "an action for row"),
    ("ungranted", "asks for deletions that it may not ask for", "", ""),
    ("escape", "annotates with escape sequences", "", ""),
];

const TICK: [Kind; 6] = [
    ("trap", "traps in a tick", "", "trapped: panicked"),
    ("loop", "never returns from a tick", "", "ran longer than"),
    ("recurse", "calls itself without end in a tick", "", "used up its stack"),
    ("memory", "takes all memory in a tick", "", "bytes of memory; the limit is"),
    ("action-flood", "asks for 100,000 deletions in each tick", "delete", "100000 actions in one call"),
    ("log-flood", "logs 100,000 lines in each tick", "log", ""),
];

const LOOK_BACK: [(&str, &str, &str, &str); 4] = [
    ("look-back-begin", "loop", "never returns when the table is about to be shown", "ran longer than"),
    ("look-back", "trap", "traps for an entry of the table", "trapped: panicked"),
    ("look-back", "action-flood", "asks for 100,000 deletions for an entry of the table", "100000 actions in one call"),
    ("look-back-end", "memory", "takes all memory once the table has been shown", "bytes of memory; the limit is"),
];

const FINISH: [Kind; 5] = [
    ("trap", "traps at the end of its events", "", ""),
    ("loop", "never returns from the end of its events", "", ""),
    ("memory", "takes all memory at the end of its events", "", ""),
    ("late-changes", "changes a row at the end of its events, where there is none", "", ""),
    ("action-flood", "asks for 100,000 deletions at the end of its events", "delete", ""),
];

const STATE: [Kind; 3] = [
    ("keys", "sets 100,000 keys for each batch", "state", ""),
    ("values", "sets values of up to 10 MiB", "state", ""),
    ("churn", "sets and removes a key 100,000 times for each batch", "state", ""),
];

/// Writes the files of all bombs into this directory, and returns the bombs. The tenants of those whose harm is done
/// when they end have names that begin with `finish-`.
///
/// # Panics
/// If a file cannot be written, or a plugin cannot be built.
pub fn bombs(directory: &Path) -> Vec<Bomb> {
    let mut all = Vec::new();
    let sound = fs::read(plugins::built_for("outside", "wasm32-wasip2")).expect("a plugin that is sound");
    let written = |name: &str, bytes: &[u8]| {
        let path = directory.join(format!("{name}.wasm"));
        fs::write(&path, bytes).expect("a file of a plugin");
        path
    };
    let bomb = |name: String, what, file: &Path, options: String, grants, sign| Bomb {
        name,
        what,
        file: file.into(),
        options,
        grants,
        limits: "start-up = \"500ms\", restarts = 2, window = \"1h\"",
        sign,
    };
    for (word, what, body, sign) in STARTS {
        let mut sections = vec![items(id::TYPES, 1, NOTHING), items(id::FUNCTIONS, 1, &[0])];
        if word == "memory" {
            sections.push(items(id::MEMORIES, 1, &[0, 1]));
        }
        sections.extend([section(8, &[0]), wasm::code([body])]);
        let name = format!("start-{word}");
        let file = written(&name, &wasm::with_module(&sound, &sections, 1));
        all.push(bomb(name, what, &file, String::new(), "", sign));
    }
    let hoarder = fs::read(plugins::built("hoarder")).expect("the plugin");
    let marker = b"describe:nothing        ";
    let at = hoarder.windows(marker.len()).position(|bytes| bytes == marker).expect("what it does in its description");
    for (word, what, grants, sign) in DESCRIPTIONS {
        let mut bytes = hoarder.clone();
        bytes[at..at + marker.len()].copy_from_slice(format!("{:24}", format!("describe:{word}")).as_bytes());
        let name = format!("describe-{word}");
        let file = written(&name, &bytes);
        let grants = if grants.is_empty() { "\"state\"" } else { grants };
        all.push(bomb(name, what, &file, String::new(), grants, sign));
    }
    let hostile = plugins::built("hostile");
    let granted = |grant: &str, place: &str| match (grant, place) {
        ("", "tick") => "\"tick\"",
        ("", "look-back") => "\"look-back\"",
        ("", _) => "",
        ("log", "tick") => "\"log\", \"tick\"",
        ("log", _) => "\"log\"",
        ("delete", "tick") => "\"delete\", \"tick\"",
        ("delete", "look-back") => "\"delete\", \"look-back\"",
        ("delete", _) => "\"delete\"",
        (other, _) => panic!("there is no grant {other} here"),
    };
    let places: [(&str, &str, &[Kind]); 4] = [
        ("configure", "configure", &CONFIGURE),
        ("process", "batch", &PROCESS),
        ("tick", "tick", &TICK),
        ("finish", "finish", &FINISH),
    ];
    for (place, when, kinds) in places {
        for (word, what, grant, sign) in kinds {
            let options = format!("do = \"{word}\", when = \"{when}\"");
            all.push(bomb(format!("{place}-{word}"), what, &hostile, options, granted(grant, place), sign));
        }
    }
    for (when, word, what, sign) in LOOK_BACK {
        let options = format!("do = \"{word}\", when = \"{when}\"");
        let grant = if word == "action-flood" { "delete" } else { "" };
        all.push(bomb(format!("{when}-{word}"), what, &hostile, options, granted(grant, "look-back"), sign));
    }
    let hoarder = plugins::built("hoarder");
    for (word, what, _, sign) in STATE {
        let options = format!("do = \"{word}\"");
        all.push(bomb(format!("state-{word}"), what, &hoarder, options, "\"state\"", sign));
    }
    for hostile::HostileFile { name, bytes, words } in hostile::files(&sound) {
        let name = format!("file-{}", name.replace(' ', "-"));
        let file = written(&name, &bytes);
        all.push(bomb(name, "a file that no toolchain produces", &file, String::new(), "", words));
    }
    let heavy = written("file-heavy", &heavy(&sound));
    for (name, what, limits, sign) in [
        ("file-compile-memory", "code that takes 400 MiB to compile", "compile-memory = \"64MiB\"", "compile-memory"),
        ("file-compile-time", "code that takes seconds to compile", "compile-time = \"1s\"", "compile-time"),
    ] {
        all.push(Bomb { limits, ..bomb(name.into(), what, &heavy, String::new(), "", sign) });
    }
    let file = written(
        "file-noise",
        &(0..1u32 << 20).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<u8>>(),
    );
    all.push(bomb("file-noise".into(), "4 MiB of noise", &file, String::new(), "", "file-noise.wasm"));
    let file = written("file-cut", &sound[..sound.len() / 2]);
    all.push(bomb("file-cut".into(), "the first half of a plugin", &file, String::new(), "", "file-cut.wasm"));
    all.push(bomb(
        "file-missing".into(),
        "a file that is not there",
        &directory.join("missing.wasm"),
        String::new(),
        "",
        "cannot read plugin",
    ));
    all
}

/// Returns a plugin with code that takes a compiler seconds and some 400 MiB: the maximum that is accepted.
pub fn heavy(sound: &[u8]) -> Vec<u8> {
    let loops = [&[1, 1, 0x7f][..], &[0x03, 0x40, 0x0b].repeat(3_900), &[0x0b]].concat();
    let functions = section(id::FUNCTIONS, &[number(4), vec![0; 4]].concat());
    let bodies = wasm::code([&loops[..], &loops, &loops, &loops]);
    wasm::with_module(sound, &[items(id::TYPES, 1, NOTHING), functions, bodies], 0)
}

impl Bomb {
    /// Returns the SHA-256 of its file, or that of nothing if there is no file.
    pub fn digest(&self) -> String {
        if self.file.exists() { plugins::digest(&self.file) } else { "0".repeat(64) }
    }
}
