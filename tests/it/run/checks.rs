//! `--check` and `--explain`: errors that are found before anything runs.

use crate::run::{file, flowgate, plugins};

/// Checks a file; returns the status and the lines of standard error, without the directory.
fn check(text: &str) -> (i32, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), text);
    let outcome = flowgate().run(&["run", path.to_str().unwrap(), "--check"]);
    let prefix = format!("{}/", directory.path().display());
    (outcome.status, outcome.errors().lines().map(|line| line.replace(&prefix, "")).collect())
}

fn dump(rest: &str) -> String {
    format!("[source]\nkind = 'dump'\n{rest}")
}

#[test]
fn examples_have_no_mistakes() {
    let examples = flowgate_test_support::built::root().join("examples/pipelines");
    let heavy = plugins::built("heavy-tcp");
    let mut count = 0;
    for entry in std::fs::read_dir(&examples).expect("the examples") {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let made = "../../target/wasm32-unknown-unknown/plugin/heavy_tcp.wasm";
        let (status, errors) = check(&text.replace(made, heavy.to_str().unwrap()));
        assert_eq!((status, errors.as_slice()), (0, &[][..]), "{}", path.display());
        count += 1;
    }
    assert!(count >= 4, "there are {count} examples");
}

#[test]
fn all_mistakes_about_plugins_are_found_at_their_place() {
    let heavy = plugins::built("heavy-tcp").display().to_string();
    let active = plugins::built("active").display().to_string();
    let text = dump(&format!(
        "selct = 'x'\n\
         [[stage]]\nplugin = '{heavy}'\noptions = {{ bites = 5 }}\n\
         [[stage]]\nplugin = 'missing.wasm'\n\
         [[stage]]\nplugin = 'pipeline.toml'\n\
         [[stage]]\nplugin = '{active}'\ngrants = ['log']\n\
         [[stage]]\nplugin = '{heavy}'\noptions = {{ bytes = 'many' }}\n\
         [[stage]]\nstock = 'delete'\noptions = {{ quick = true }}\n\
         [format]\nplugin = '{heavy}'\n\
         [[sink]]\nkind = 'file'\npath = 'nowhere/flows'\n"
    ));
    let (status, errors) = check(&text);
    assert_eq!(status, 1);
    let expected = [
        ("3:1: there is no key of `source` `selct`", "did you mean `select`?"),
        ("6:13: plugin ", "it has no option `bites`; it has bytes=N (keep flows"),
        ("8:10: cannot read plugin missing.wasm", "No such file or directory"),
        ("10:10: pipeline.toml is not a WebAssembly component", "it begins with `[source]`"),
        ("13:1: plugin ", "cannot start without the grant `"),
        ("16:21: plugin ", "bytes"),
        ("19:13: plugin delete: it has no option `quick`", "it has none"),
        ("21:10: ", "does not export flowgate:conntrack/flow-format, which this place needs; it exports flow-stage"),
        ("22:1: there is no directory nowhere", "in which the file is to be"),
    ];
    // The plugin `active` requires two services, each of which is reported.
    let mut lines = errors.iter().filter(|line| !line.contains("the grant `time`") || !line.contains("13:1"));
    for (start, part) in expected {
        let line = lines.next().unwrap_or_else(|| panic!("no line for {start}: {errors:#?}"));
        assert!(
            line.starts_with(&format!("pipeline.toml:{start}")) && line.contains(part),
            "{start} {part}: {errors:#?}"
        );
    }
    assert!(lines.next().unwrap().ends_with("pipeline.toml has 10 mistakes"), "{errors:#?}");
    assert!(lines.next().is_none(), "{errors:#?}");
}

#[test]
fn grants_that_a_plugin_would_like_are_notes() {
    let active = plugins::built("active").display().to_string();
    let grants = "['state', 'time', 'delete', 'update']";
    let (status, errors) = check(&dump(&format!("[[stage]]\nplugin = '{active}'\ngrants = {grants}\n")));
    assert_eq!((status, errors.len()), (0, 1), "{errors:#?}");
    assert!(
        errors[0].starts_with("pipeline.toml:5:1: note: plugin ") && errors[0].contains("would like"),
        "{errors:#?}"
    );
    assert!(errors[0].contains("\"create\"") && !errors[0].contains("\"delete\""), "{errors:#?}");
}

#[test]
fn checks_leave_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let active = plugins::built("active").display().to_string();
    let text = dump(&format!(
        "[[stage]]\nplugin = '{active}'\ngrants = 'time'\nstate = 'state'\n[[sink]]\nkind = 'file'\npath = 'flows'\n"
    ));
    let path = file(directory.path(), &text);
    for option in ["--check", "--explain"] {
        let outcome = flowgate().run(&["run", path.to_str().unwrap(), option]);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "the pipeline file and nothing else");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let outcome = flowgate().run(&["run", "/nowhere/x.toml", "--check"]);
    assert_eq!(outcome.status, 1);
    assert!(
        outcome.errors().ends_with("cannot read /nowhere/x.toml: No such file or directory\n"),
        "{}",
        outcome.errors()
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    std::fs::write(&path, b"[source]\nkind = '\xff'\n").unwrap();
    let outcome = flowgate().run(&["run", path.to_str().unwrap()]);
    assert!(outcome.errors().contains("x.toml:2:9: this is not UTF-8"), "{}", outcome.errors());
    assert_eq!(flowgate().run(&["run"]).status, 2);
}

#[test]
fn what_would_run_is_explained() {
    let heavy = plugins::built("heavy-tcp").display().to_string();
    let directory = tempfile::tempdir().unwrap();
    let text = dump(&format!(
        "select = '-p tcp -f ipv4 --state ESTABLISHED'\n\
         [[stage]]\nplugin = '{heavy}'\nname = 'heavy'\nlimits = {{ memory = '8MiB' }}\non-error = 'skip'\n\
         [[stage]]\nstock = 'update'\nset = '--mark 5'\n\
         [[sink]]\nkind = 'tcp'\naddress = 'localhost:5000'\n\
         [[sink]]\nkind = 'file'\npath = 'flows'\nrotate-time = '1d'\nkeep-time = '30d'\ncompress = true\n"
    ));
    let path = file(directory.path(), &text);
    let text = flowgate().must(&["run", path.to_str().unwrap(), "--explain"]);
    for part in [
        "source     a dump of the flows, of IPv4 only\n",
        "selector   family: checked by the kernel\n           protocol: checked by the kernel\n           protocol state: checked by the stage match (",
        "stages     1. match: ",
        "2. heavy (heavy-tcp 1.0.0): ",
        "   option bytes = 1000000 (",
        "   limits: memory 8MiB, call 1s,",
        "   on error: skip;",
        "3. update: ",
        "   --mark 5\n",
        "sinks      tcp localhost:5000\n              a buffer of 1MiB, the pipeline waits when it is full\n",
        "   rotated every 1d, 7 kept, none older than 30d, compressed\n",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let json = flowgate().must(&["run", path.to_str().unwrap(), "--explain", "-o", "json"]);
    let explained: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(explained["stages"][1]["limits"]["memory"], "8MiB");
    assert_eq!(explained["stages"][1]["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(explained["stages"][1]["options"][0]["value"], "1000000");
    assert_eq!(explained["stages"][1]["on-error"], "skip");
    assert_eq!(explained["sinks"][0]["kind"], "tcp");
    assert_eq!(explained["format"]["name"], "text");
}

/// A command line and an equivalent pipeline file are explained as the same pipeline.
#[test]
fn the_same_pipeline_has_the_same_explanation() {
    let directory = tempfile::tempdir().unwrap();
    let explained = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(&flowgate().must(words)).expect("one object of JSON")
    };
    for (line, text) in [
        (
            vec!["-L", "-p", "tcp", "-f", "ipv4", "-o", "id"],
            dump("select = '-p tcp -f ipv4'\n[format]\nshow = ['id']\n"),
        ),
        (vec!["-L", "-s", "10.0.0.0/8", "-o", "xml"], dump("select = '-s 10.0.0.0/8'\n[format]\nkind = 'xml'\n")),
        (vec!["-L", "expect"], dump("table = 'expect'\n")),
        (
            vec!["-E", "-e", "NEW", "--resync", "-o", "timestamp"],
            "[source]\nkind = 'events'\nevents = ['new']\n[format]\nshow = ['timestamp']\n".into(),
        ),
    ] {
        let path = file(directory.path(), &text);
        let of_file = explained(&["run", path.to_str().unwrap(), "--explain", "-o", "json"]);
        // `-o json` would change the explained pipeline.
        let text_of = |text: String| -> Vec<String> {
            let own = ["command ", "pipeline ", "sinks ", "end "];
            text.lines().filter(|line| !own.iter().any(|own| line.starts_with(own))).map(str::to_owned).collect()
        };
        let of_line = text_of(flowgate().must(&[line.as_slice(), &["--explain"]].concat()));
        assert_eq!(of_line, text_of(flowgate().must(&["run", path.to_str().unwrap(), "--explain"])), "{line:?}");
        assert_eq!(of_file["file"], path.to_str().unwrap());
    }
}
