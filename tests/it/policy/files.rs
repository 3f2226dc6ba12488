//! Where the service writes: only where nobody else can, however the directory came to be open to others.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path};

use super::{service::tenant, *};

/// Writes a policy in which one kind of file is in the directory `shared`.
fn policy_with(namespace: &Namespace, what: &str, shared: &str) -> String {
    let text = tenant("blue", 7, "", "");
    let text = match what {
        "sink" => text.replace("DIR/blue.log", &format!("DIR/{shared}/blue.log")),
        "state" => text
            .replace("grants = [", "grants = [\"state\", ")
            .replace("PLUGIN", &format!("PLUGIN\nstate = \"DIR/{shared}/state\"")),
        _ => text,
    };
    let path = policy(namespace, &text);
    let name = if what == "audit" { "audit.jsonl" } else { "socket" };
    let text = fs::read_to_string(&path).unwrap();
    if what == "audit" || what == "socket" {
        let directory = namespace.directory().display();
        let (from, to) = (format!("{directory}/{name}"), format!("{directory}/{shared}/{name}"));
        fs::write(&path, text.replace(&from, &to)).unwrap();
    }
    path.display().to_string()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_service_writes_only_where_nobody_else_can() {
    Namespace::run(|namespace| {
        let (shared, own) = (namespace.directory().join("shared"), namespace.directory().join("shared/own"));
        fs::create_dir_all(&own).unwrap();
        let refused = |what: &str, within: &str, words: &str| {
            let path = policy_with(namespace, what, within);
            let outcome = flowgate().run(&["run", &path]);
            let errors = outcome.errors();
            assert!(outcome.status == 1 && errors.contains(words), "{what}, {words}: {errors}");
            assert!(errors.contains("; use a directory that belongs to root or user "), "{what}: {errors}");
            // The socket is made by the user who runs the service.
            if what != "socket" {
                let checked = flowgate().run(&["policy", "check", &path]);
                assert!(checked.status == 1 && checked.errors().contains(words), "{what}: {}", checked.errors());
            }
        };
        for what in ["audit", "sink", "state", "socket"] {
            // As the mode of /tmp, of a directory that somebody has forgotten, and of /var/log on Ubuntu.
            for (bits, words) in [
                (0o1777, "everybody can put files into "),
                (0o777, "shared can be written by everybody"),
                (0o2775, "shared can be written by group 0"),
            ] {
                mode(&shared, bits);
                refused(what, "shared", words);
            }
            mode(&shared, 0o777);
            refused(what, "shared/own", "shared can be written by everybody");
            let left: Vec<_> = fs::read_dir(&shared).unwrap().chain(fs::read_dir(&own).unwrap()).collect();
            assert_eq!(left.len(), 1, "{what}: {left:?}");
            // Nobody else can replace its own directory in one with the sticky bit.
            for (bits, within) in [(0o1777, "shared/own"), (0o755, "shared")] {
                mode(&shared, bits);
                policy_with(namespace, what, within);
                let serving = Serving::launch(namespace, &flowgate(), &[]);
                serving.until("it runs", || serving.errors().contains("generation 1 runs"));
                serving.end();
            }
            for directory in [&own, &shared] {
                for entry in fs::read_dir(directory).unwrap().map(Result::unwrap).filter(|entry| entry.path() != own) {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
        }
    });
}
