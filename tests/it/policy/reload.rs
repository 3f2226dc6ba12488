//! The file is reloaded when it has changed, in whatever way, and only then.

use std::os::unix::fs::symlink;

use super::{
    service::{flow, output, tenant},
    *,
};

/// Starts a service that follows changes of its file.
fn following(namespace: &Namespace, text: &str) -> Serving {
    fs::write(namespace.directory().join("policy.toml"), policy_text(namespace, "", text)).unwrap();
    let serving = Serving::launch(namespace, &flowgate(), &[]);
    serving.until("it runs", || serving.errors().contains("generation 1 runs"));
    serving
}

fn runs(serving: &Serving, generation: u64) {
    serving.until("it is loaded", || serving.errors().contains(&format!("generation {generation} runs")));
}

#[test]
fn a_file_that_is_written_or_renamed_is_loaded_and_a_broken_one_or_the_same_is_not() {
    Namespace::run(|namespace| {
        let blue = |zone: u16| policy_text(namespace, "", &tenant("blue", zone, "", ""));
        let path = namespace.directory().join("policy.toml");
        let beside = namespace.directory().join("policy.toml.new");
        let serving = following(namespace, &tenant("blue", 7, "", ""));
        fs::write(&path, blue(8)).unwrap();
        runs(&serving, 2);
        entries::insert(namespace, &flow(8, 80));
        serving.until("the new scope holds", || output(&serving, "blue").contains("sport=80 "));
        // The same once more, in place and by another file; then another one.
        fs::write(&path, blue(8)).unwrap();
        fs::write(&beside, blue(8)).unwrap();
        fs::rename(&beside, &path).unwrap();
        fs::write(&beside, blue(9)).unwrap();
        fs::rename(&beside, &path).unwrap();
        runs(&serving, 3);
        // A file with mistakes is reported once, and the old generation continues.
        fs::write(&path, blue(9) + "colour = 1\n").unwrap();
        serving.until("it is refused", || serving.errors().contains("generation 3 stays in force"));
        assert!(serving.errors().contains("there is no key of `sink` `colour`"), "{}", serving.errors());
        entries::insert(namespace, &flow(9, 90));
        serving.until("the old one goes on", || output(&serving, "blue").contains("sport=90 "));
        // The old content again is no change; neither is a missing file.
        fs::write(&path, blue(9)).unwrap();
        serving.until("it is known", || serving.errors().contains("is again that of generation 3"));
        fs::remove_file(&path).unwrap();
        serving.until("it is missed", || serving.errors().contains("cannot read"));
        fs::write(&path, blue(7)).unwrap();
        runs(&serving, 4);
        let failed = serving.audited("action", "reload-failed");
        let reloads = serving.audited("action", "reload");
        assert_eq!((failed.len(), reloads.len()), (2, 3), "{failed:#?} {reloads:#?}");
        // It can be switched off.
        fs::write(&path, policy_text(namespace, "reload-on-change = false\n", &tenant("red", 7, "", ""))).unwrap();
        runs(&serving, 5);
        fs::write(&path, blue(8)).unwrap();
        assert_eq!(serving.ask(&["reload"]).text(), "generation 6\n", "nobody was faster");
        let errors = serving.end();
        assert!(!errors.contains("until the service is restarted"), "{errors}");
    });
}

#[test]
fn a_config_map_that_is_replaced_is_loaded() {
    Namespace::run(|namespace| {
        let at = |name: &str| namespace.directory().join(name);
        for (name, zone) in [("one", 7), ("two", 8)] {
            fs::create_dir(at(name)).unwrap();
            let text = policy_text(namespace, "", &tenant("blue", zone, "", ""));
            fs::write(at(name).join("policy.toml"), text).unwrap();
        }
        symlink("one", at("..data")).unwrap();
        symlink("..data/policy.toml", at("policy.toml")).unwrap();
        let serving = Serving::launch(namespace, &flowgate(), &[]);
        runs(&serving, 1);
        symlink("two", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        runs(&serving, 2);
        entries::insert(namespace, &flow(8, 80));
        serving.until("the new scope holds", || output(&serving, "blue").contains("sport=80 "));
        serving.end();
    });
}
