//! Plugins are compiled in separate processes: a hostile file causes a named error for its tenant and does not affect
//! the others, and neither the service nor the tools compile anything themselves.

use std::{
    collections::BTreeMap,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use flowgate_test_support::bombs;

use super::{
    service::{flow, output, tenant},
    *,
};

/// Returns a plugin that is expensive to compile.
fn heavy() -> Vec<u8> {
    bombs::heavy(&fs::read(plugins::built_for("outside", "wasm32-wasip2")).unwrap())
}

/// Writes a plugin that is expensive to compile into this directory, and returns its keys.
fn heavy_keys(directory: &Path, limits: &str) -> String {
    let path = directory.join("heavy.wasm");
    fs::write(&path, heavy()).unwrap();
    let digest = plugins::digest(&path);
    format!("file = \"{}\"\nsha256 = \"{digest}\"\nlimits = {{ {limits} }}\n", path.display())
}

/// Returns a tenant with this plugin.
fn bomb(name: &str, keys: &str) -> String {
    format!("[[tenant]]\nname = \"{name}\"\n[[tenant.scope]]\nzones = 7\n[[tenant.plugin]]\n{keys}")
}

/// Returns all processes, each with its parent and its name.
fn processes() -> BTreeMap<i32, (i32, String)> {
    let read = |process: i32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let mut words = rest.split_whitespace();
        let dead = words.next()? == "Z";
        (!dead).then_some((process, (words.next()?.parse().ok()?, name.to_owned())))
    };
    let numbers = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(read).collect()
}

/// Returns the descendants of a process.
pub(super) fn below(process: i32) -> BTreeMap<i32, (i32, String)> {
    let all = processes();
    let above = |mut number: i32| {
        while let Some((parent, _)) = all.get(&number) {
            if *parent == process {
                return true;
            }
            number = *parent;
        }
        false
    };
    all.clone().into_iter().filter(|(number, _)| above(*number)).collect()
}

/// Returns the compiling descendants of a process.
fn compilers(process: i32) -> Vec<i32> {
    let below = below(process);
    below.into_iter().filter(|(_, (_, name))| name.starts_with("flowgate-compil")).map(|(number, _)| number).collect()
}

/// Returns a field of a process's status; empty once the process has ended.
pub(super) fn status(process: i32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap_or_default();
    line.trim().to_owned()
}

/// Returns the peak memory of a process in MiB.
fn peak(process: i32) -> u64 {
    status(process, "VmHWM").trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

const MEMORY: &str = "that takes more than 67108864 bytes of memory (`compile-memory`)";
const TIME: &str = "that takes more than 1 s of CPU time (`compile-time`)";

#[test]
fn a_compile_bomb_has_a_name_and_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    for (limits, words) in [("compile-memory = \"64MiB\"", MEMORY), ("compile-time = \"1s\"", TIME)] {
        fs::write(&path, bomb("blue", &heavy_keys(directory.path(), limits))).unwrap();
        let before = Instant::now();
        let outcome = flowgate().run(&["policy", "check", path.to_str().unwrap()]);
        assert_eq!(outcome.status, 1, "{}", outcome.errors());
        let place = format!("policy.toml:6:8: plugin {}/heavy.wasm is not compiled: ", directory.path().display());
        assert!(outcome.errors().contains(&(place + words)), "{}", outcome.errors());
        assert!(before.elapsed() < Duration::from_secs(60), "{:?}", before.elapsed());
    }
    // Within its limits it is compiled like any other plugin.
    fs::write(&path, bomb("blue", &heavy_keys(directory.path(), ""))).unwrap();
    let outcome =
        flowgate().environment("XDG_CACHE_HOME", "/dev/null").run(&["policy", "check", path.to_str().unwrap()]);
    assert_eq!(outcome.status, 0, "{}", outcome.errors());
}

#[test]
fn a_compile_bomb_costs_its_tenant_alone() {
    Namespace::run(|namespace| {
        let red = tenant("red", 8, "", "");
        let serving = Serving::start(namespace, &red);
        let process = serving.background.process().as_raw();
        // By now the engine is initialized, and the plugin of the other tenant is loaded.
        let before = peak(process);
        for (generation, limits, words) in
            [(2, "compile-memory = \"64MiB\"", MEMORY), (3, "compile-time = \"1s\"", TIME)]
        {
            policy(namespace, &(bomb("blue", &heavy_keys(namespace.directory(), limits)) + &red));
            let answer = serving.ask(&["reload"]);
            assert!(
                answer.text().contains(&format!("generation {generation}")),
                "{}{}",
                answer.text(),
                answer.errors()
            );
            let ended = serving.audited("action", "ended");
            let reason = ended.last().unwrap()["reason"].to_string();
            assert!(reason.contains(words), "{ended:#?}");
            entries::insert(namespace, &flow(8, 80 + generation));
            serving.until("the other goes on", || {
                output(&serving, "red").contains(&format!("sport={} ", 80 + generation))
            });
        }
        serving.until("nothing is left that compiles", || compilers(process).is_empty());
        assert!(peak(process) < before + 32, "{before} MiB, then {}", peak(process));
        serving.end();
    });
}

/// Inspects the privileges and descriptors of a compiling process.
#[test]
fn a_compiler_has_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("heavy.wasm");
    fs::write(&path, heavy()).unwrap();
    let program = flowgate().environment("XDG_CACHE_HOME", "/dev/null");
    let mut running = Background::start(&program, &["plugin", "inspect", path.to_str().unwrap()]);
    let own = running.process().as_raw();
    let confined = || compilers(own).into_iter().find(|process| status(*process, "Seccomp") == "2");
    let mut found = None;
    until_or_explain(
        "it compiles",
        || {
            found = confined();
            found.is_some() || !running.runs()
        },
        String::new,
    );
    let process = found.expect("a process that compiles");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(process, set), "0000000000000000", "{set}");
    }
    assert_eq!((status(process, "NoNewPrivs"), status(process, "Threads")), ("1".into(), "1".into()));
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let open: Vec<String> =
        open.map(|entry| fs::read_link(entry.unwrap().path()).unwrap().display().to_string()).collect();
    for name in &open {
        let own = name == "/dev/null" || name.starts_with("socket:") || name.starts_with("/memfd:");
        assert!(own, "{open:?}");
    }
    assert!(open.len() <= 6 && open.iter().filter(|name| name.starts_with("socket:")).count() == 1, "{open:?}");
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    for (name, value) in [("Max data size", "1073741824"), ("Max cpu time", "60"), ("Max open files", "0")] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(line.split_whitespace().next(), Some(value), "{name}");
    }
    // Its only executable pages are those of the program that the kernel has loaded.
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let executable: Vec<&str> = maps.lines().filter(|line| line.split(' ').nth(1).unwrap().contains('x')).collect();
    assert!(
        executable.iter().all(|line| line.contains('/') || line.ends_with("[vdso]") || line.ends_with("[vsyscall]")),
        "{executable:#?}"
    );
    drop(running);
}

/// Neither a compiling process nor the spawner outlives the service, and a compiling process does not outlive the
/// spawner.
#[test]
fn nobody_outlives_the_service() {
    for victim in ["service", "spawner", "both"] {
        Namespace::run(|namespace| {
            let red = tenant("red", 8, "", "");
            let serving = Serving::start(namespace, &red);
            let own = serving.background.process().as_raw();
            policy(namespace, &(bomb("blue", &heavy_keys(namespace.directory(), "compile-time = \"50s\"")) + &red));
            std::thread::scope(|scope| {
                let reload = scope.spawn(|| serving.ask(&["reload"]));
                serving.until("it compiles", || !compilers(own).is_empty());
                let all: Vec<i32> = below(own).into_keys().collect();
                let spawner = below(own).into_iter().find(|(_, (parent, _))| *parent == own).unwrap().0;
                let kill = |process: i32| {
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), Signal::SIGKILL).unwrap();
                };
                match victim {
                    "service" => kill(own),
                    "spawner" => kill(spawner),
                    _ => [own, spawner].into_iter().for_each(kill),
                }
                let left = || processes().into_keys().filter(|process| all.contains(process)).count();
                serving.until("nobody is left", || left() == 0);
                let outcome = reload.join().unwrap();
                assert_ne!(outcome.status, 0, "{}{}", outcome.text(), outcome.errors());
                if victim == "spawner" {
                    // Without it there are no workers, and the service ends so that it is started again.
                    let reason = "the workers of all tenants with it";
                    serving.until("it ends and says why", || serving.errors().contains(reason));
                }
            });
        });
    }
}

/// Returns the names of compiled plugins in a directory, with their modification times.
fn stored(directory: &Path) -> BTreeMap<String, SystemTime> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().modified().unwrap()))
        .collect()
}

/// The description of a kind of damage, and how it is done to a file.
type Damage<'a> = (&'a str, &'a dyn Fn(&Path));

/// Compiled code is cached for its tenant, in a directory that nobody else can write to; a file that does not match is
/// compiled again.
#[test]
fn an_artifact_is_for_its_tenant() {
    Namespace::run(|namespace| {
        // A directory that is closed to other users on its whole path, unlike that of the test.
        Program::new("mount").must(&["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"]);
        let cache = PathBuf::from("/run/code");
        let start = |service: &str, text: &str| {
            fs::write(namespace.directory().join("policy.toml"), policy_text(namespace, service, text)).unwrap();
            let serving = Serving::launch(namespace, &flowgate(), &[]);
            serving.until("it runs", || serving.errors().contains("generation 1 runs"));
            serving.end();
        };
        let key = format!("cache = \"{}\"\n", cache.display());
        let blue = tenant("blue", 7, "", "");
        let both = blue.clone() + &tenant("red", 8, "", "");
        start("", &both);
        assert!(!cache.exists(), "without a directory there is none");
        start(&key, &blue);
        let one = stored(&cache);
        assert_eq!(one.len(), 1, "{one:?}");
        assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
        // The same plugin of another tenant is compiled again; the existing file is loaded.
        start(&key, &both);
        let two = stored(&cache);
        assert_eq!(two.len(), 2, "{two:?}");
        assert!(one.iter().all(|(name, time)| two.get(name) == Some(time)), "{one:?} {two:?}");
        start(&key, &both);
        assert_eq!(stored(&cache), two, "nothing is compiled");
        // One file in place of the other, a flipped bit, a link, another owner, another mode.
        let paths: Vec<PathBuf> = two.keys().map(|name| cache.join(name)).collect();
        let sound = fs::read(&paths[0]).unwrap();
        let other = fs::read(&paths[1]).unwrap();
        let mut flipped = sound.clone();
        flipped[sound.len() / 2] ^= 1;
        let damages: [Damage<'_>; 5] = [
            ("that of another tenant", &|path| fs::write(path, &other).unwrap()),
            ("a flipped bit", &|path| fs::write(path, &flipped).unwrap()),
            ("a link", &|path| {
                let copy = namespace.directory().join("copy");
                fs::write(&copy, &sound).unwrap();
                fs::remove_file(path).unwrap();
                symlink(copy, path).unwrap();
            }),
            ("another owner", &|path| std::os::unix::fs::chown(path, Some(65534), None).unwrap()),
            ("another mode", &|path| fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap()),
        ];
        for (what, damage) in damages {
            damage(&paths[0]);
            let damaged = fs::symlink_metadata(&paths[0]).unwrap();
            start(&key, &both);
            let now = fs::symlink_metadata(&paths[0]).unwrap();
            assert!(now.is_file() && now.permissions().mode() & 0o777 == 0o600, "{what}");
            assert!(
                std::os::unix::fs::MetadataExt::ino(&now) != std::os::unix::fs::MetadataExt::ino(&damaged),
                "{what}: it was not compiled again"
            );
            assert_eq!(fs::read(&paths[0]).unwrap()[..48], sound[..48], "{what}");
        }
    });
}
