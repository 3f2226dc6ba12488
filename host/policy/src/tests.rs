//! Tests of policy files: all mistakes are reported with their places.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use super::*;
use flowgate_config::SourceText;
use flowgate_syntax::LabelMap;

const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF";

fn read(text: &str) -> (Policy, Vec<String>, Vec<String>) {
    let labels = LabelMap::parse(b"1 web\n2 mail\n").unwrap();
    let text = SourceText { path: "p.toml".into(), text: text.replace("DIGEST", DIGEST) };
    let (policy, diagnostics, notes) = Policy::parse(text, labels);
    let texts = |list: Vec<flowgate_config::Diagnostic>| list.iter().map(ToString::to_string).collect();
    (policy, texts(diagnostics), texts(notes))
}

fn good(text: &str) -> Policy {
    let (policy, diagnostics, _) = read(text);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    policy
}

const PLUGIN: &str = "[[tenant.plugin]]\nfile = \"a.wasm\"\nsha256 = \"DIGEST\"\n";

fn tenant(keys: &str, scope: &str, plugin: &str) -> String {
    format!("[[tenant]]\nname = \"blue\"\n{keys}\n[[tenant.scope]]\n{scope}\n{PLUGIN}{plugin}\n")
}

#[test]
fn what_is_not_said_is_safe() {
    let policy = good(&tenant("", "zones = 1", ""));
    let blue = &policy.tenants[0];
    assert_eq!((blue.bounds.mark, blue.bounds.labels, blue.bounds.timeout), (0, 0, (1, 3600)));
    let grants = &blue.plugins[0].plugin.grants.value;
    assert!(!grants.acts() && grants.state.is_none() && !grants.log && !grants.time);
    assert_eq!(blue.plugins[0].plugin.limits.restart.on_error, flowgate_model::OnError::Drop);
    assert_eq!(blue.plugins[0].digest.value, DIGEST.to_lowercase());
    assert_eq!((blue.limits, blue.sinks.len()), (TenantLimits::default(), 0));
    assert_eq!(policy.service.socket, Path::new(file::SOCKET));
    assert_eq!(policy.audit.path, Path::new(file::AUDIT));
}

#[test]
fn users_of_workers_are_a_range_or_none() {
    let with = |value: &str| format!("[service]\nworker-uids = \"{value}\"\n{}", tenant("", "zones = 1", ""));
    assert_eq!(good(&tenant("", "zones = 1", "")).service.worker_uids, WorkerUids::Default);
    for (value, users) in [
        ("none", WorkerUids::Shared),
        ("7-7", WorkerUids::Range(7, 7)),
        ("524288 - 589823", WorkerUids::Range(524_288, 589_823)),
        ("4294967294-4294967294", WorkerUids::Range(u32::MAX - 1, u32::MAX - 1)),
    ] {
        assert_eq!(good(&with(value)).service.worker_uids, users, "{value}");
    }
    let form = "`worker-uids` takes the first and the last user, such as \"524288-525287\", or \"none\"";
    let root = "`worker-uids` takes users from 1, since 0 is root, to 4294967294";
    let many = "`worker-uids` takes 1 to 65536 users";
    for (value, what) in [
        ("", form),
        ("5", form),
        ("-5", form),
        ("+5-9", form),
        ("5-9-11", form),
        ("5-4294967296", form),
        ("0-9", root),
        ("5-4294967295", root),
        ("9-5", many),
        ("1-65537", many),
    ] {
        assert_eq!(read(&with(value)).1, [format!("p.toml:2:15: {what}, not \"{value}\"")]);
    }
}

#[test]
fn the_audit_keeps_its_history_whatever_becomes_of_old_files() {
    let with = |keys: &str| format!("[audit]\n{keys}\n{}", tenant("", "zones = 1", ""));
    let kept = |keys: &str| good(&with(keys)).audit.rotation.unwrap().keep_time.map(flowgate_base::units::show_time);
    assert_eq!(kept(""), None);
    assert_eq!(kept("keep-time = \"30d\"").as_deref(), Some("30d"));
    assert_eq!(kept("keep-time = \"10m\"\nhistory = \"10m\"").as_deref(), Some("10m"));
    for (keys, diagnostic) in [
        ("keep-time = \"30m\"", "p.toml:2:13: `keep-time` must be at least `history`, which is 1h, not 30m"),
        ("history = \"1s\"\nkeep-time = \"59s\"", "p.toml:3:13: `keep-time` must be at least 1m, not 59s"),
    ] {
        assert_eq!(read(&with(keys)).1, [diagnostic]);
    }
}

#[test]
fn grants_stay_within_the_bounds() {
    let keys = "mark-mask = \"0xff00\"\nlabels = [\"web\", 9]\ntimeouts = \"10..600\"";
    let grants = |words: &str| {
        good(&tenant(keys, "zones = 1", &format!("grants = [{words}]"))).tenants[0].plugins[0]
            .plugin
            .grants
            .value
            .to_string()
    };
    assert_eq!(
        grants(r#""delete", "annotate", "update.mark", "update.labels=web", "update.timeout=20..30", "log""#),
        "delete,update.timeout=20..30,update.mark=0xff00,update.labels=1,log"
    );
    assert_eq!(
        grants(r#""update.labels", "create", "update.timeout""#),
        "create,update.timeout=10..600,update.labels=1|9"
    );
    for (word, what) in [
        ("update", "name the fields"),
        ("update.mark=0x1ff00", "owns the bits 0xff00"),
        ("update.labels=mail", "owns the labels"),
        ("update.labels=post", "there is no label `post`"),
        ("update.timeout=1..600", "timeouts from 10 to 600 s"),
        ("fly", "there is no grant `fly`"),
    ] {
        let (_, diagnostics, _) = read(&tenant(keys, "zones = 1", &format!("grants = [\"{word}\"]")));
        assert!(diagnostics.iter().any(|diagnostic| diagnostic.contains(what)), "{word}: {diagnostics:?}");
    }
    let (_, diagnostics, _) = read(&tenant("", "zones = 1", "grants = [\"update.mark\"]"));
    assert!(diagnostics[0].contains("owns the bits 0x0"), "{diagnostics:?}");
}

#[test]
fn mistakes_have_places() {
    let wrong = |keys: &str, scope: &str, plugin: &str| read(&tenant(keys, scope, plugin)).1.join("\n");
    for (keys, scope, plugin, what) in [
        ("colour = 1", "zones = 1", "", "p.toml:3:1: there is no key of `tenant` `colour`"),
        ("", "zone = 1", "", "p.toml:5:1: there is no key of `scope` `zone`; did you mean `zones`?"),
        ("", "zones = 65536", "", "p.toml:5:9: `zones` takes numbers from 0 to 65535"),
        ("", "zones = []", "", "p.toml:5:1: `zones` is empty"),
        ("", "source = [\"10.0.0.1/8\"]", "", "p.toml:5:11: `source`: `10.0.0.1/8` has bits set"),
        ("", "marks = \"0x11/0xf0\"", "", "p.toml:5:9: no mark under the mask 0xf0 is 0x11"),
        ("", "protocols = [\"tpc\"]", "", "p.toml:5:14: `protocols` takes names"),
        ("", "", "", "this rule has no criteria"),
        ("", "everything = true\nzones = 1", "", "a rule for `everything` has no criteria"),
        ("", "everything = false", "", "this rule has no criteria"),
        (
            "",
            "zones = 1",
            "limits = { memroy = \"1MiB\" }",
            "there is no key of `limits` `memroy`; did you mean `memory`?",
        ),
        ("mark-mask = \"red\"", "zones = 1", "", "p.toml:3:13: `mark-mask` takes bits"),
        ("timeouts = \"9..1\"", "zones = 1", "", "p.toml:3:12: `timeouts` takes"),
        ("limits = { time-per-second = \"2s\" }", "zones = 1", "", "`time-per-second` must be from 1ms to 1s"),
        ("limits = { queue = \"1B\" }", "zones = 1", "", "`queue` must be at least 65536B"),
        ("namespace = \"../x\"", "zones = 1", "", "`namespace` takes a name"),
    ] {
        let diagnostic = wrong(keys, scope, plugin);
        assert!(diagnostic.contains(what), "{keys} {scope} {plugin}: {diagnostic}");
    }
    let diagnostics =
        read("[[tenant]]\nname = \"a b\"\n[[tenant.plugin]]\nsha256 = \"12\"\n[audit]\nsize = 1\n[tennant]\n").1;
    for what in [
        "`name` takes 1 to 64 letters",
        "tenant `a b` needs a `[[tenant.scope]]`",
        "a plugin needs a `file`",
        "`sha256` takes 64 hexadecimal digits",
        "there is no key of `audit` `size`",
        "there is no section `tennant`; did you mean `tenant`?",
    ] {
        assert!(diagnostics.iter().any(|diagnostic| diagnostic.contains(what)), "{what}: {diagnostics:?}");
    }
    assert!(read("").1[0].contains("there is no `[[tenant]]`"));
    assert!(
        read(&format!("{}{}", tenant("", "zones=1", ""), tenant("", "zones=2", ""))).1[0].contains("another tenant")
    );
}

#[test]
fn what_two_tenants_own_both_is_a_mistake_where_they_can_meet() {
    let two = |one: &str, two: &str| {
        let other = tenant("mark-mask = \"0x300\"", two, "").replace("blue", "red");
        read(&(tenant("mark-mask = \"0x100\"", one, "") + &other))
    };
    assert!(two("zones = 1", "zones = 2").1.is_empty());
    assert!(two("zones = \"1-2\"", "zones = 2").1[0].contains("own the mark bits 0x100 both"));
    let apart = tenant("", "zones = 2", "").replace("blue", "red");
    let (_, diagnostics, notes) = read(&(tenant("", "source = \"10.0.0.0/8\"", "") + &apart));
    assert!(
        diagnostics.is_empty() && notes[0].contains("a flow may be in the scopes of both `blue` and `red`"),
        "{notes:?}"
    );
    let sink = "[[tenant.sink]]\nkind = \"file\"\npath = \"out\"\n";
    let same = tenant("", "zones = 1", sink) + &tenant("", "zones = 2", sink).replace("blue", "red");
    assert!(read(&same).1[0].contains("is written by somebody else already"));
}

/// The file that editors read follows the table of keys. `BLESS=1` rewrites it.
#[test]
fn the_schema_and_the_documentation_know_every_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join("docs/policy.schema.json");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, schema()).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == schema(), "{} is not up to date: run this test with BLESS=1", file.display());
    let page = std::fs::read_to_string(root.join("docs/POLICY.md")).unwrap();
    for section in &keys::SECTIONS {
        for key in section.keys {
            assert!(page.contains(&format!("`{}`", key.name)), "docs/POLICY.md does not mention `{}`", key.name);
        }
    }
}
