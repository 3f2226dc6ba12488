//! Without `/proc`, `/dev`, `/etc` and `HOME`, and with standard descriptors closed.

use std::{fs, path::Path};

use flowgate_test_support::{Namespace, Program, program::copy_executable};

use super::{behind, built, classic_commands_work, events_are_seen, in_good_order, run};

/// Returns the words that run one program after a script has changed the mounts.
fn mounted(script: &str) -> [String; 5] {
    let script = format!("{script} && exec \"$0\" \"$@\"");
    ["unshare".into(), "--mount".into(), "sh".into(), "-ec".into(), script]
}

#[test]
fn proc_is_empty_restricted_or_hidden() {
    Namespace::run(|namespace| {
        for script in [
            "mount -t tmpfs tmpfs /proc",
            "mount -t tmpfs tmpfs /proc/sys",
            "mount -t tmpfs tmpfs /proc/sys/net",
            "mount -t proc -o hidepid=2 proc /proc",
            "mount -t proc -o subset=pid proc /proc",
        ] {
            let words = mounted(script);
            let start = behind(&words.each_ref().map(String::as_str), &built());
            classic_commands_work(&start);
            events_are_seen(namespace, &start);
        }
    });
}

#[test]
fn etc_is_empty_and_so_is_the_environment() {
    Namespace::run(|_| {
        let words = mounted("mount -t tmpfs tmpfs /etc");
        classic_commands_work(&behind(&words.each_ref().map(String::as_str), &built()));
        classic_commands_work(&behind(&["env", "-i"], &built()));
        classic_commands_work(&behind(&["env", "-u", "HOME", "-u", "XDG_CACHE_HOME"], &built()));
    });
}

/// Creates a root directory with the program, and the libraries that it is linked with, if any.
fn root(directory: &Path) -> String {
    let root = directory.join("root");
    fs::create_dir(&root).unwrap();
    copy_executable(&built(), &root.join("flowgate"));
    // `ldd` rejects a statically linked program.
    let listed = Program::new("ldd").run(&[&built().display().to_string()]).text();
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        copy_executable(Path::new(library), &place);
    }
    root.display().to_string()
}

#[test]
fn case_34_a_root_without_dev() {
    Namespace::run(|namespace| {
        let root = root(namespace.directory());
        let start = |closed: &str| {
            let script = format!("exec chroot {root} \"$0\" \"$@\" {closed}");
            behind(&["sh", "-c", &script], Path::new("/flowgate"))
        };
        classic_commands_work(&start(""));
        for closed in ["<&-", "2>&-", "<&- 2>&-", "<&- >&- 2>&-"] {
            for line in ["-L", "-C", "-V", "-I -p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2 -t 9", "-D -p udp"]
            {
                let outcome = run(start(closed)(&line.split_whitespace().collect::<Vec<_>>()), b"");
                in_good_order(&format!("{line} {closed}"), &outcome);
            }
        }
    });
}

#[test]
fn case_34_closed_descriptors_are_no_place_for_sockets() {
    Namespace::run(|_| {
        let flow = "-I -p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2 -t 600";
        let start = |closed: &str| behind(&["sh", "-c", &format!("exec \"$0\" \"$@\" {closed}")], &built());
        for closed in ["<&-", "2>&-", "<&- 2>&-"] {
            let words = |line: &str| run(start(closed)(&line.split_whitespace().collect::<Vec<_>>()), b"");
            assert_eq!(words(flow).status, 0, "{closed}");
            let listed = words("-L");
            assert_eq!((listed.status, listed.text().lines().count()), (0, 1), "{closed}");
            let ended = words("-D -p udp");
            assert_eq!((ended.status, ended.text().lines().count()), (0, 1), "{closed}");
        }
        // Output to a closed standard output must not end up elsewhere, such as in a netlink socket that got its
        // number.
        assert_eq!(run(start("")(&flow.split_whitespace().collect::<Vec<_>>()), b"").status, 0);
        for line in ["-L", "-L -o xml", "-C", "-S", "-L -o json"] {
            let outcome = run(start("<&- >&-")(&line.split_whitespace().collect::<Vec<_>>()), b"");
            in_good_order(line, &outcome);
        }
        assert_eq!(run(start("")(&["-C"]), b"").text(), "1\n");
    });
}
