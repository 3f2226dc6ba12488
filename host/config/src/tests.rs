//! Diagnostics in pipeline files: a file, and the message about it.

use std::path::Path;

use super::*;
use flowgate_model::OnError;
use flowgate_pipeline::sink::SinkKind;
use flowgate_pipeline::sink::outbox::WhenFull;
use flowgate_syntax::{Output, Table};

fn parse(text: &str) -> (Option<Config>, Vec<String>) {
    let (config, diagnostics) = Config::parse(SourceText { path: "dir/p.toml".into(), text: text.into() });
    (config, diagnostics.iter().map(ToString::to_string).collect())
}

fn right(text: &str) -> Config {
    let (config, diagnostics) = parse(text);
    assert_eq!(diagnostics, [""; 0], "{text}");
    config.expect("a pipeline")
}

const START: &str = "[source]\nkind = 'dump'\n";

/// Files without their first two lines, each with the mistake that is found in it, without the file's name.
const MISTAKES: &[(&str, &str)] = &[
    ("[sorce]", "3:2: there is no section `sorce`; did you mean `source`?"),
    (
        "[pipeline]\nx = 1",
        "3:2: there is no section `pipeline`; there are `source`, `stage`, `aggregate`, `metric`, `format` and `sink`",
    ),
    ("selct = '-p tcp'", "3:1: there is no key of `source` `selct`; did you mean `select`?"),
    (
        "colour = 1",
        "3:1: there is no key of `source` `colour`; there are `kind`, `table`, `select`, `where`, `events`, `buffer`, `buffer-max`, `reliable`, `resync`, `netns`, `file` and `speed`",
    ),
    ("table = 'conntrak'", "3:9: there is no table `conntrak`; did you mean `conntrack`?"),
    ("table = 5", "3:9: `table` takes one of `conntrack`, `expect`, `dying` and `unconfirmed`, not 5"),
    ("events = ['new']", "3:1: `events` is no key of a source of kind `dump`, only of `events` and `recording`"),
    ("select = '-p tcp --dprt 1'", "3:10: `select`: unknown option `--dprt'"),
    ("select = '-p tcp 10.0.0.1'", "3:10: `select`: `10.0.0.1` is not an option; options begin with a hyphen"),
    ("where = 'proto == tpc'", "3:19: `where`: there is no protocol `tpc`; did you mean `tcp`?"),
    (
        "where = \"src == 'x'\"",
        "3:17: `where`: `'x'` is a text; `original.source` is an address; an address such as 10.0.0.1 or 2001:db8::1",
    ),
    ("where = \"\"\"dport = 5\"\"\"", "3:18: `where`: unexpected `=`; `==` compares"),
    (
        "select = '--where mark==1'\nwhere = 'mark == 2'",
        "3:10: `select`: --where is given twice; join both conditions by `and' in one",
    ),
    ("table = 'expect'\nwhere = 'mark == 2'", "4:9: `where` is about flows, and the source yields expectations"),
    (
        "select = '-L'",
        "3:10: `select`: a command, such as -L, does not belong here; this takes the options that select flows, such as -p tcp --dport 443",
    ),
    (
        "select = '-o xml'",
        "3:10: `select`: --output does not belong here; this takes the options that select flows, such as -p tcp --dport 443",
    ),
    (
        "table = 'expect'\nselect = '-p tcp'",
        "4:10: `select`: --protonum does not belong here; this takes -f ipv4 or -f ipv6; expectations cannot be selected otherwise",
    ),
    ("[stage]\nstock = 'delete'", "3:2: write `[[stage]]`, since there may be several"),
    ("[[format]]", "3:3: write `[format]`, since there is only one"),
    ("[[stage]]", "3:1: a stage needs a `plugin = \"FILE\"`, or `stock` and the name of one that there is"),
    ("[[stage]]\nstock = 'delete'\nplugin = 'x.wasm'", "4:1: a stage is either a `plugin` or a `stock` one, not both"),
    ("[[stage]]\nstock = 'deleet'", "4:9: there is no stock `deleet`; did you mean `delete`?"),
    ("[[stage]]\nplugin = ''", "4:10: `plugin` takes the path of a file, not \"\""),
    (
        "[[stage]]\nstock = 'delete'\ngrants = 'delete'",
        "5:1: `grants` is no key of a stage of `delete`, only of `plugin`",
    ),
    ("[[stage]]\nstock = 'match'", "3:1: a stage of `match` needs `select`"),
    (
        "[[stage]]\nstock = 'update'\nset = '-s 10.0.0.1'",
        "5:7: `set`: --src does not belong here; this takes the options that say what flows are given: --mark, --timeout, --status, --label-add, --label-del, and -p with --state",
    ),
    (
        "[[stage]]\nplugin = 'x'\ngrants = ['delete', 'fly']",
        "5:21: there is no grant `fly`; there are delete, create, update, update.timeout[=LEAST..MOST], update.mark[=MASK], update.status[=BIT|BIT...], update.labels[=BIT|BIT...], update.helper, update.state, update.sequence, create.translated, create.established, log, state[=FILE], time, tick, look-back",
    ),
    ("[[stage]]\nplugin = 'x'\ngrants = [1]", "5:11: `grants` takes texts, not 1"),
    (
        "[[stage]]\nplugin = 'x'\ngrants = 'state=a'\nstate = 'b'",
        "6:9: the file of the state is in `grants` already; leave out one of the two",
    ),
    (
        "[[stage]]\nplugin = 'x'\non-error = 'ignore'",
        "5:12: there is no on-error `ignore`; there are `skip`, `drop` and `stop`",
    ),
    (
        "[[stage]]\nplugin = 'x'\nlimits = { memry = '1MiB' }",
        "5:12: there is no key of `limits` `memry`; did you mean `memory`?",
    ),
    (
        "[[stage]]\nplugin = 'x'\nlimits = { memory = '64mib' }",
        "5:21: `memory` takes a size such as \"64MiB\" (bytes without a unit; B, k, M, G, T or KiB, MiB, GiB, TiB), not \"64mib\"",
    ),
    ("[[stage]]\nplugin = 'x'\nlimits = { memory = '1KiB' }", "5:21: `memory` must be at least 65536, not 1024"),
    (
        "[[stage]]\nplugin = 'x'\nlimits = { call = true }",
        "5:19: `call` takes a time such as \"10s\" (seconds without a unit; ms, s, m, h, d), not true",
    ),
    ("[[stage]]\nplugin = 'x'\nlimits = { call = '1ms' }", "5:19: `call` must be at least 10 ms"),
    (
        "[[stage]]\nplugin = 'x'\nlimits = { restarts = 0 }",
        "5:23: `restarts` takes a whole number from 1 to 1000, not 0",
    ),
    ("[[stage]]\nplugin = 'x'\nlimits = 5", "5:10: `limits` takes a table, not 5"),
    (
        "[[stage]]\nplugin = 'x'\noptions = { a = [1] }",
        "5:17: `a` takes a text, a whole number, `true` or `false`, not a list",
    ),
    ("[[stage]]\nplugin = 'x'\noptions-file = { a = 'none' }", "5:22: cannot read dir/none: No such file or directory"),
    ("[[stage]]\nplugin = 'x'\nname = \"a\\nb\"", "5:8: `name` takes a text of printable characters"),
    ("[aggregate]\nby = 'sorce'", "4:6: `by`: there is no field `sorce`; did you mean `source`?"),
    (
        "[aggregate]\ncount = true\nsort = 'bytes'",
        "5:8: `sort`: `bytes` is neither a key nor a measure; add it as a measure: --sum bytes; there are count",
    ),
    ("[aggregate]\nevery = '1s'", "4:1: `every` is for events; a dump has one result"),
    ("[aggregate]\n[format]\nkind = 'xml'", "3:2: groups have no format `xml`; use `table`, `csv`, `tsv` or `json`"),
    ("table = 'expect'\n[aggregate]\nby = 'src'", "4:2: expectations are not grouped; the table is `conntrack`"),
    ("[[metric]]\nby = 'src'", "3:1: a metric needs a `name`"),
    ("[[metric]]\nname = 'A'", "4:8: `name` takes small letters, digits and underscores, as in `bytes_by_port`"),
    ("[[metric]]\nname = 'a'\n[[metric]]\nname = 'a'", "6:8: there is a metric `a` already"),
    (
        "[[metric]]\nname = 'a'\nsum = 'bytes'\ncount = true",
        "6:1: a metric has either `count` or `sum`; write another one for the other",
    ),
    ("[[metric]]\nname = 'a'\ncount = false", "5:1: a metric without `count` needs a `sum`"),
    (
        "[[metric]]\nname = 'a'\nsum = 'bytes,packets'",
        "5:7: `sum` takes one expression; write another metric for another one",
    ),
    ("[[metric]]\nname = 'a'\nby = 'mark&1,mark|1'", "5:6: `by`: two keys have the label `mark_1`"),
    (
        "[format]\nkind = 'yaml'",
        "4:8: there is no kind `yaml`; there are `text`, `xml`, `save`, `json`, `table`, `csv`, `tsv` and `none`",
    ),
    ("[format]\nkind = 'text'\nplugin = 'x'", "5:1: a format has either a `kind` or is a `plugin`, not both"),
    (
        "[format]\nkind = 'save'\nshow = ['id']",
        "5:1: `show` is no key of a format of kind `save`, only of `text`, `xml`, `json` and `table`",
    ),
    ("[format]\nkind = 'csv'\ncolumns = ['src', 'dpor']", "5:19: there is no column `dpor`; did you mean `dport`?"),
    (
        "[format]\nkind = 'json'\nheader = false",
        "5:1: `header` is no key of a format of kind `json`, only of `table`, `csv` and `tsv`",
    ),
    ("[format]\nshow = ['di']", "4:9: there is no word of `show` `di`; did you mean `id`?"),
    (
        "[format]\nshow = 'id'",
        "4:8: `show` takes a list of some of `extended`, `id`, `timestamp`, `ktimestamp` and `labels`, not \"id\"",
    ),
    ("[format]\nbatch = 0", "4:9: `batch` takes a whole number from 1 to 65536, not 0"),
    ("[[sink]]", "3:1: `sink` needs a `kind`: one of `stdout`, `file`, `unix`, `tcp`, `syslog` and `nats`"),
    ("[[sink]]\nkind = 'fiel'", "4:8: there is no kind `fiel`; did you mean `file`?"),
    ("[[sink]]\nkind = 'file'", "3:1: a sink of `file` needs `path`"),
    (
        "[[sink]]\nkind = 'stdout'\npath = 'x'",
        "5:1: `path` is no key of a sink of kind `stdout`, only of `file` and `unix`",
    ),
    ("[[sink]]\nkind = 'file'\npath = 'x'\nkeep = 3", "6:1: `keep` needs `rotate-size` or `rotate-time`"),
    ("[[sink]]\nkind = 'file'\npath = 'x'\nkeep-time = '7d'", "6:1: `keep-time` needs `rotate-size` or `rotate-time`"),
    (
        "[[sink]]\nkind = 'file'\npath = 'x'\nrotate-time = '1d'\nkeep-time = '5s'",
        "7:13: `keep-time` must be at least 1m, not 5s",
    ),
    (
        "[[sink]]\nkind = 'file'\npath = 'x'\nrotate-time = '1d'\nkeep-time = '1w'",
        "7:13: `keep-time` takes a time such as \"10s\" (seconds without a unit; ms, s, m, h, d), not \"1w\"",
    ),
    ("[[sink]]\nkind = 'file'\npath = 'x'\nappend = 'yes'", "6:10: `append` takes `true` or `false`, not \"yes\""),
    (
        "[[sink]]\nkind = 'tcp'\naddress = 'host'",
        "5:11: `address` needs a host and a port from 1 to 65535, as in `log.example.org:5000` or `[2001:db8::1]:5000`, not \"host\"",
    ),
    (
        "[[sink]]\nkind = 'tcp'\naddress = '2001:db8::1:80'",
        "5:11: `address` needs a host and a port from 1 to 65535, as in `log.example.org:5000` or `[2001:db8::1]:5000`, not \"2001:db8::1:80\"",
    ),
    (
        "[[sink]]\nkind = 'tcp'\naddress = 'h:0'",
        "5:11: `address` needs a host and a port from 1 to 65535, as in `log.example.org:5000` or `[2001:db8::1]:5000`, not \"h:0\"",
    ),
    ("[[sink]]\nkind = 'tcp'\naddress = 'h:1'\nbuffer = '1KiB'", "6:10: `buffer` must be at least 4096B, not 1024B"),
    (
        "[[sink]]\nkind = 'syslog'\naddress = 'ftp://h'",
        "5:11: `address` takes the path of a socket, `udp://HOST[:PORT]` or `tcp://HOST[:PORT]`, not \"ftp://h\"",
    ),
    (
        "[[sink]]\nkind = 'syslog'\naddress = 'udp://h'\nmax-message = '1MiB'",
        "6:15: with udp `max-message` is at most 65000B",
    ),
    ("[[sink]]\nkind = 'syslog'\nmax-message = '100B'", "5:15: `max-message` must be at least 480B, not 100B"),
    (
        "[[sink]]\nkind = 'syslog'\nseverity = 'warn'",
        "5:12: there is no severity `warn`; there are `emerg`, `alert`, `crit`, `err`, `warning`, `notice`, `info` and `debug`",
    ),
    (
        "[[sink]]\nkind = 'syslog'\napp-name = 'a b'",
        "5:12: `app-name` takes 1 to 48 printable characters of ASCII without blanks",
    ),
    (
        "[[sink]]\nkind = 'stdout'\n[[sink]]\nkind = 'stdout'",
        "5:1: another sink has the same destination; each can be given once",
    ),
    (
        "[[sink]]\nkind = 'file'\npath = 'a'\n[[sink]]\nkind = 'file'\npath = 'a'",
        "6:1: another sink has the same destination; each can be given once",
    ),
];

#[test]
fn mistakes_are_told_with_their_place() {
    let mut wrong = Vec::new();
    for (text, expected) in MISTAKES {
        let (_, diagnostics) = parse(&format!("{START}{text}\n"));
        let expected = [format!("dir/p.toml:{expected}")];
        if diagnostics != expected {
            wrong.push(format!("{text}\n  expected {expected:#?}\n  found {diagnostics:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn files_without_a_source_are_told_so() {
    let first = |text: &str| parse(text).1.into_iter().next().unwrap();
    assert_eq!(first(""), "dir/p.toml:1:1: there is no `[source]`, which says where entries come from");
    assert_eq!(first("[source]"), "dir/p.toml:1:2: `source` needs a `kind`: one of `dump`, `events` and `recording`");
    assert_eq!(first("source = 5"), "dir/p.toml:1:10: `source` takes a table, not 5");
    let recording = "[source]\nkind = 'recording'\n";
    assert_eq!(first(recording), "dir/p.toml:1:2: a source of `recording` needs `file`");
    let missing = first(&format!("{recording}file = 'none.pcap'"));
    assert!(missing.starts_with("dir/p.toml:3:8: ") && missing.contains("dir/none.pcap"), "{missing}");
    assert!(first(&format!("{recording}file = 'none.pcap'\nspeed = 'slow'")).starts_with("dir/p.toml:3:8: "));
    let events = "[source]\nkind = 'events'\n";
    assert_eq!(
        first(&format!("{events}table = 'dying'")),
        "dir/p.toml:3:9: the kernel has no events of the table `dying`, only dumps"
    );
    assert!(first(&format!("{events}events = []")).starts_with("dir/p.toml:3:1: no events are chosen"));
    assert!(first(&format!("{events}table = 'expect'\nevents = ['new']")).starts_with("dir/p.toml:4:1: events of exp"));
}

#[test]
fn broken_toml_has_a_place_too() {
    let broken = parse("[source]\nkind = 'dump\n").1;
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(broken[0].starts_with("dir/p.toml:2:"), "{broken:?}");
    let twice = parse("[source]\nkind = 'dump'\nkind = 'events'\n").1;
    assert!(twice[0].starts_with("dir/p.toml:3:1: duplicate key"), "{twice:?}");
}

#[test]
fn all_mistakes_are_found_in_the_order_of_the_file() {
    let text = "[source]\nkind = 'dump'\nfoo = 1\n[[sink]]\nkind = 'x'\n[[stage]]\nstock = 'y'\n[format]\nbatch = 0\n";
    let lines: Vec<String> =
        parse(text).1.iter().map(|diagnostic| diagnostic.split(':').nth(1).unwrap().to_owned()).collect();
    assert_eq!(lines, ["3", "5", "7", "9"]);
}

#[test]
fn columns_count_characters() {
    let diagnostics = parse("[source]\nkind = 'dump'\n[[stage]]\nplugin = 'x'\noptions = { 'é' = 'ü', b = [] }\n").1;
    assert!(diagnostics[0].starts_with("dir/p.toml:5:28: "), "{diagnostics:?}");
}

#[test]
fn a_whole_file_is_understood() {
    let config = right(
        r#"
[source]
kind = "events"
select = "-p tcp --dport 443 -s 10.0.0.0/8"
events = ["new", "destroy"]
buffer = "16MiB"

[[stage]]
plugin = "a.wasm"
name = "first"
options = { bytes = 1000, name = "x", quick = true }
grants = ["delete", "update.mark=0xff00"]
on-error = "skip"
limits = { memory = "1MiB", call = "20ms", restarts = 3, window = "10s", state = "2KiB" }
state = "state/a"

[[stage]]
stock = "update"
set = "--mark 5"

[format]
kind = "json"
show = ["labels"]
batch = 64

[[sink]]
kind = "file"
path = "/var/log/flows"
rotate-size = "1MiB"
rotate-time = "1d"
compress = true

[[sink]]
kind = "syslog"
address = "udp://[2001:db8::1]"
facility = "local0"
when-full = "wait"
"#,
    );
    assert!(config.live());
    assert_eq!((config.batch, config.source.buffer), (64, Some(16 << 20)));
    assert!(config.source.events.new && !config.source.events.update && config.source.events.destroy);
    assert_eq!(config.selection.protocol, Some(6));
    assert!(config.output.contains(Output::JSON) && config.output.contains(Output::LABELS));
    let StageKind::Plugin(plugin) = &config.stages[0].kind else { panic!("a plugin") };
    assert_eq!(plugin.file.value, Path::new("dir/a.wasm"));
    assert_eq!(plugin.grants.value.to_string(), "delete,update.mark=0xff00,state=dir/state/a");
    assert_eq!((plugin.limits.restart.on_error, plugin.limits.restart.failures), (OnError::Skip, 3));
    assert_eq!((plugin.limits.instance.memory, plugin.limits.state), (1 << 20, 2048));
    let options: Vec<(String, String)> = crate::plugin::option_values(&config.stages[0].options)
        .into_iter()
        .map(|option| (option.name, option.value))
        .collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(options, [pair("bytes", "1000"), pair("name", "x"), pair("quick", "true")]);
    assert!(matches!(config.stages[1].kind, StageKind::Update(_)));
    let SinkKind::File(file) = &config.sinks[0].spec.kind else { panic!("a file") };
    assert_eq!((file.path.as_path(), file.rotation.unwrap().keep), (Path::new("/var/log/flows"), 7));
    let SinkKind::Syslog { target, facility, max_message, .. } = &config.sinks[1].spec.kind else { panic!("the log") };
    assert_eq!(*target, flowgate_pipeline::sink::syslog::Target::Udp("[2001:db8::1]:514".into()));
    assert_eq!((*facility, *max_message, config.sinks[1].spec.when_full(true)), (16, 2048, WhenFull::Wait));
}

#[test]
fn little_is_needed() {
    let config = right(START);
    assert_eq!((config.source.kind, config.source.table), (SourceKind::Dump, Table::Conntrack));
    assert_eq!(config.sinks, [SinkConfig::stdout()]);
    assert!(config.stages.is_empty());
    assert_eq!(config.sinks[0].spec.when_full(false), WhenFull::Wait);
}

/// The schema for editors and the documentation follow the table of keys. `BLESS=1` rewrites the schema.
#[test]
fn the_schema_and_the_documentation_know_every_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join("docs/pipeline.schema.json");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, schema::text()).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == schema::text(), "{} is not up to date: run this test with BLESS=1", file.display());
    let guide = std::fs::read_to_string(root.join("docs/PIPELINES.md")).expect("docs/PIPELINES.md");
    for section in &keys::SECTIONS {
        for key in section.keys {
            let row = guide.lines().any(|line| {
                line.starts_with(&format!("| `{}` |", key.name)) && line.contains(&key.help.replace('|', "\\|"))
            });
            assert!(row, "docs/PIPELINES.md has no row | `{}` | with: {}", key.name, key.help);
        }
    }
}

#[test]
fn of_many_mistakes_the_first_are_reported() {
    let keys: String = (0..500).map(|number| format!("key{number} = 1\n")).collect();
    let diagnostics = parse(&format!("[source]\nkind = 'dump'\n{keys}")).1;
    assert_eq!(diagnostics.len(), 101);
    assert!(diagnostics[0].starts_with("dir/p.toml:3:1: there is no key of `source` `key0`"), "{}", diagnostics[0]);
    assert!(
        diagnostics[100].starts_with("dir/p.toml:503:1: there are more than 100 of these lines"),
        "{}",
        diagnostics[100]
    );
}
