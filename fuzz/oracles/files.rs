//! Arbitrary text as a pipeline file and as a policy: nothing panics, errors have positions within the text, and memory
//! and time for reading are proportional to the text.

use std::path::Path;

use flowgate_config::{Config, Diagnostic, SourceText};
use flowgate_policy::Policy;
use flowgate_syntax::LabelMap;

use super::{input::Input, linear::linear, text::text};

const EXAMPLES: &[&[u8]] = &[
    include_bytes!("../../examples/pipelines/archive.toml"),
    include_bytes!("../../examples/pipelines/close.toml"),
    include_bytes!("../../examples/pipelines/heavy.toml"),
    include_bytes!("../../examples/pipelines/ship.toml"),
    include_bytes!("../../examples/policy/policy.toml"),
    b"[source]\nkind = \"events\"\nselect = \"-p tcp --label a\"\n[[stage]]\nplugin = \"a.wasm\"\ngrants = \"delete\"\n[stage.options]\na = \"b\"\n\
      [stage.limits]\nmemory = \"1MiB\"\n[format]\nkind = \"json\"\n[[sink]]\nkind = \"file\"\npath = \"x\"\n",
    b"[[tenant]]\nname = \"blue\"\nmark-mask = \"0xff00\"\ntimeouts = \"10..600\"\nlabels = [3, 127]\nlimits = { actions-per-second = 10 }\n\
      [[tenant.scope]]\nsource = [\"10.1.0.0/16\", \"2001:db8::/32\"]\nports = [53, \"80-90\"]\nzones = [1]\n\
      [[tenant.plugin]]\nfile = \"a.wasm\"\nsha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\n\
      grants = [\"delete\", \"update.mark=0xff\"]\n[[tenant.sink]]\nkind = \"file\"\npath = \"x\"\n",
];

const WORDS: &[&str] = &[
    "[source]\n",
    "[[stage]]\n",
    "[stage.options]\n",
    "[stage.limits]\n",
    "[format]\n",
    "[[sink]]\n",
    "[service]\n",
    "[audit]\n",
    "[[tenant]]\n",
    "[[tenant.scope]]\n",
    "[[tenant.plugin]]\n",
    "[[tenant.sink]]\n",
    "a = 1\n",
    "a.b.c = 1\n",
    "\"\"\"",
    "'''",
    "1979-05-27",
    "2MiB",
    "10s",
    "1h",
    "10.0.0.0/8",
    "::/0",
    "10.0.0.1-10.0.0.9",
    "80-90",
    "90-80",
    "0..600",
    "0xff00/0xff",
    "delete",
    "update.mark",
    "create.translated",
    "source = ",
    "destination = ",
    "ports = ",
    "labels = ",
    "zones = ",
    "limits = { ",
    "select = ",
    "--label x",
    "-p tcp",
];

/// Fails if the position of an error is outside the text.
fn placed(diagnostics: &[Diagnostic], text: &str) {
    for diagnostic in diagnostics {
        let line = text.split('\n').nth(diagnostic.line.saturating_sub(1));
        let columns = line.map(|line| line.chars().count() + 1);
        assert!(
            columns.is_some_and(|columns| (1..=columns.max(1)).contains(&diagnostic.column)),
            "{diagnostic:?} in {text:?}"
        );
    }
}

/// Reads a text derived from the input.
///
/// # Panics
/// If one of these properties does not hold.
pub(crate) fn run(input: &[u8]) {
    let bytes = text(&mut Input(input), EXAMPLES, WORDS);
    let length = bytes.len();
    let path = Path::new("p.toml");
    let (_, diagnostics) = linear("pipeline", length, || Config::of_bytes(path, bytes.clone()));
    linear("outline", length, || Config::outline(&bytes));
    let text = String::from_utf8_lossy(&bytes).into_owned();
    placed(diagnostics.get(..20).unwrap_or(&diagnostics), &text);
    linear("kind", length, || Policy::is_one(&text));
    let (_, diagnostics, warnings) = linear("policy", length, || {
        Policy::parse(SourceText { path: path.into(), text: text.clone() }, LabelMap::default())
    });
    for list in [diagnostics, warnings] {
        placed(list.get(..20).unwrap_or(&list), &text);
    }
}
