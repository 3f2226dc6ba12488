//! The attacks of `attacks.toml`, each on a new table.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Attacks {
    attack: Vec<Attack>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attack {
    name: String,
    act: String,
    code: String,
    result: String,
    scope: Option<String>,
    keys: Option<String>,
    grants: Option<String>,
}

/// Default grants and limits of the attacker.
const SCOPE: &str = "zones = 7\nsource = \"10.1.0.0/16\"";
const KEYS: &str = "mark-mask = \"0xff00\"\ntimeouts = \"10..600\"\nlabels = [3]";
const GRANTS: &str = "[\"delete\", \"create\", \"update.mark\", \"update.timeout\", \"update.labels\", \"log\"]";

fn tenant(act: &str, scope: &str, keys: &str, grants: &str) -> String {
    let act = act.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "[[tenant]]\nname = \"blue\"\n{keys}\n[[tenant.scope]]\n{scope}\n\
         [[tenant.plugin]]\nPLUGIN\ngrants = {grants}\noptions = {{ act = \"{act}\" }}\n"
    )
}

fn attacks() -> Vec<Attack> {
    toml::from_str::<Attacks>(include_str!("attacks.toml")).expect("a file of attacks").attack
}

/// Returns what the audit has about actions of the tenant. The life of its worker has the stage `service`.
fn actions(serving: &Serving) -> Vec<Value> {
    let mut lines = serving.audited("tenant", "blue");
    lines.retain(|line| line["stage"] != "service");
    lines
}

/// Runs an attack; returns what differs from the expected result, if anything does.
fn carried_out(namespace: &Namespace, attack: &Attack) -> Option<String> {
    entries::load(namespace, &fill());
    let before = table();
    let keys = match (&attack.keys, &attack.grants) {
        (Some(keys), _) => keys.clone(),
        _ => KEYS.into(),
    };
    let grants = match (&attack.grants, &attack.keys) {
        (Some(grants), _) => grants.clone(),
        // This tenant owns no labels.
        (None, Some(_)) => "[\"delete\", \"update.mark\", \"update.timeout\", \"log\"]".into(),
        (None, None) => GRANTS.into(),
    };
    let text = tenant(&attack.act, attack.scope.as_deref().unwrap_or(SCOPE), &keys, &grants);
    let serving = Serving::start(namespace, &text);
    serving.until(&attack.name, || !actions(&serving).is_empty());
    let lines = actions(&serving);
    let after = table();
    let Attack { name, code, result, .. } = attack;
    let wrong = |what: String| Some(format!("{name}: {what}"));
    if let Some(line) = lines.iter().find(|line| line["stage"] != "refused" || line["code"] != code.as_str()) {
        return wrong(format!("expected a refusal `{code}`: {line}"));
    }
    if lines.len() > 65 {
        return wrong(format!("{} lines in the audit", lines.len()));
    }
    if let Some(line) = lines.iter().find(|line| line.to_string().len() > 4096) {
        return wrong(format!("a line of {} bytes in the audit", line.to_string().len()));
    }
    let digest = attacker().1;
    let line = &lines[0];
    if line["plugin"] != "blue:attacker" || line["sha256"] != digest.as_str() || line["generation"] != 1 {
        return wrong(format!("the attacker is not named: {line}"));
    }
    if after != before {
        return wrong(format!("the table has changed: {before:#?}\n{after:#?}"));
    }
    // The next call passes the result to the plugin.
    entries::insert(namespace, "-t 3000 -w 7 -p udp -s 10.1.0.99 -d 192.0.2.1 --sport 1 --dport 53 -m 0x100");
    let (result, errno) = result.split_once(' ').unwrap();
    let expected = format!("(Some({result}), Some({errno}))");
    serving.until(name, || serving.errors().contains(" results: "));
    let errors = serving.end();
    if !errors.contains(&expected) {
        return wrong(format!("the plugin did not receive {expected}: {errors}"));
    }
    if errors.contains('\x1b') {
        return wrong(format!("an escape sequence on the terminal: {errors:?}"));
    }
    None
}

#[test]
fn every_attack_is_refused_and_recorded() {
    let attacks = attacks();
    assert!(attacks.len() >= 30);
    let only = std::env::var("ATTACK").unwrap_or_default();
    let chosen = attacks.iter().filter(|attack| attack.name.contains(&only));
    let failures: Vec<String> =
        chosen.filter_map(|attack| Namespace::run(|namespace| carried_out(namespace, attack))).collect();
    assert!(failures.is_empty(), "{} attacks:\n{}", failures.len(), failures.join("\n"));
}

/// Allowed actions are performed: the attacks do not fail for another reason.
#[test]
fn what_is_allowed_is_done_and_recorded_before_and_after() {
    for (act, changed) in [
        ("delete shown", "delete"),
        ("delete src=10.1.0.1 dst=192.0.2.1 sport=1001 dport=53 zone=7", "delete"),
        ("delete src=192.0.2.1 dst=10.1.0.1 sport=53 dport=1001 zone=7", "delete"),
        ("update shown mark=0x4200 mask=0xff00", "mark=1196544"),
        ("update shown timeout=600", ""),
        (
            "create src=10.1.0.20 dst=192.0.2.1 sport=1 dport=53 rsrc=192.0.2.1 rdst=10.1.0.20 rsport=53 rdport=1 zone=7 timeout=60 mark=0x500",
            "src=10.1.0.20",
        ),
        (
            "create src=10.1.0.20 dst=192.0.2.1 sport=1 dport=53 rsrc=192.0.2.1 rdst=10.1.0.20 rsport=53 rdport=1 zone=7 timeout=60 snat=10.1.0.21",
            "dst=10.1.0.21",
        ),
        (
            "create proto=6 src=10.1.0.20 dst=192.0.2.1 sport=1 dport=53 rsrc=192.0.2.1 rdst=10.1.0.20 rsport=53 rdport=1 zone=7 timeout=60 state=3 status=0xe",
            "ESTABLISHED",
        ),
        (
            "create-or-update src=10.1.0.1 dst=192.0.2.1 sport=1001 dport=53 rsrc=192.0.2.1 rdst=10.1.0.1 rsport=53 rdport=1001 zone=7 timeout=60 mark=0x500 mask=0xff00",
            "mark=1180928",
        ),
    ] {
        Namespace::run(|namespace| {
            // Only the tenant's own flow, and one that it must not see.
            entries::load(namespace, &fill()[..2]);
            let scope = format!("{SCOPE}\nreply-destination = \"10.1.0.0/16\"");
            let grants = GRANTS.replace("\"create\"", "\"create.translated\", \"create.established\"");
            let serving = Serving::start(namespace, &tenant(act, &scope, KEYS, &grants));
            serving.until(act, || !serving.audited("stage", "result").is_empty());
            let lines = actions(&serving);
            let stages: Vec<&str> = lines.iter().filter_map(|line| line["stage"].as_str()).collect();
            assert_eq!(stages, ["intent", "result"], "{act}: {lines:#?}");
            assert_eq!((&lines[0]["id"], &lines[1]["result"]), (&lines[1]["id"], &Value::from("done")), "{act}");
            let table = table();
            match changed {
                "delete" => {
                    assert!(table.len() == 1 && table[0].contains("zone=8"), "{act}: {table:?}");
                    assert!(lines[0]["before"]["zone"] == 7 && lines[0]["after"].is_null(), "{act}: {lines:#?}");
                }
                words => {
                    assert!(
                        table.iter().any(|line| line.contains(words) && line.contains("zone=7")),
                        "{act}: {table:?}"
                    );
                    assert!(lines[0]["after"].is_object(), "{act}: {lines:#?}");
                    assert!(lines[0]["request"].as_str().is_some_and(|hex| hex.len() >= 80), "{act}: {lines:#?}");
                    assert!(lines[1].get("request").is_none(), "{act}: {lines:#?}");
                }
            }
            assert!(table.iter().any(|line| line.contains("zone=8")), "{act}: {table:?}");
            serving.end();
        });
    }
}

/// Each of two updates alone keeps the flow in the scope, but both together move it out: mark bits 01 become 10, and
/// 11.
#[test]
fn one_call_does_not_move_a_flow_twice() {
    Namespace::run(|namespace| {
        entries::load(namespace, &["-I -t 3000 -p udp -s 10.1.0.1 -d 192.0.2.1 --sport 1 --dport 53 -m 0x100".into()]);
        let scope = "marks = [\"0x100/0x300\", \"0x200/0x300\"]";
        let act = "update shown mark=0x300 mask=0 times=2";
        let serving =
            Serving::start(namespace, &tenant(act, scope, "mark-mask = \"0x300\"", "[\"update.mark\", \"log\"]"));
        serving.until("the kernel has answered", || !serving.audited("stage", "result").is_empty());
        let refused = serving.audited("stage", "refused");
        assert!(refused.len() == 1 && refused[0]["code"] == "mark-twice", "{refused:#?}");
        assert!(table()[0].contains("mark=512 "), "{:?}", table());
        serving.end();
    });
}

/// The audit is on a full disk: no action is performed, and the plugin gets EIO. When there is room again, the audit
/// records this.
#[test]
fn what_cannot_be_recorded_is_not_done() {
    Namespace::run(|namespace| {
        let disk = namespace.directory().join("disk");
        fs::create_dir(&disk).unwrap();
        Program::new("mount").must(&["-t", "tmpfs", "-o", "size=64k", "tmpfs", &disk.display().to_string()]);
        // Bind-mounted, because the service would refuse a symbolic link.
        let (full, file) = (disk.join("audit"), namespace.directory().join("audit.jsonl"));
        for file in [&full, &file] {
            fs::write(file, "").unwrap();
        }
        Program::new("mount").must(&["--bind", &full.display().to_string(), &file.display().to_string()]);
        // Orders about another tenant fill the rest of the audit's last page.
        let red = "[[tenant]]\nname = \"red\"\n[[tenant.scope]]\nzones = 9\n[[tenant.plugin]]\nPLUGIN\n";
        let serving = Serving::start(namespace, &(tenant("delete shown", SCOPE, KEYS, GRANTS) + red));
        assert!(fs::write(disk.join("full"), vec![0; 64 << 10]).is_err(), "the disk has room for that");
        for reason in ["x".repeat(500), String::new()] {
            let warned = serving.errors().matches("WARNING: audit:").count();
            while serving.errors().matches("WARNING: audit:").count() == warned {
                serving.ask(&["pause", "red", "--reason", &reason]);
            }
        }
        entries::load(namespace, &fill()[..1]);
        let before = table();
        let expected = "received 1 results: (Some(3), Some(5))";
        serving.until("the plugin has the result", || {
            entries::insert(namespace, "-t 3000 -w 7 -p udp -s 10.1.0.99 -d 192.0.2.1 --sport 1 --dport 53");
            Program::new("conntrack").must(&["-D", "-s", "10.1.0.99"]);
            serving.errors().contains(expected)
        });
        assert_eq!(table(), before);
        fs::remove_file(disk.join("full")).unwrap();
        let directory = serving.directory.clone();
        serving.end();
        let audit = fs::read_to_string(directory.join("audit.jsonl")).unwrap();
        assert!(audit.contains(r#""code":"unrecorded""#) && !audit.contains(r#""stage":"intent""#), "{audit}");
        nix::mount::umount(&file).unwrap();
        nix::mount::umount(&disk).unwrap();
    });
}
