use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

use super::*;
use crate::memory_file::{content, sealed};

const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
/// An unprivileged user (nobody).
const OTHER: u32 = 65534;

/// Returns a cache whose path begins in a fresh directory, because the real path depends on the machine.
fn cache() -> (TempDir, Cache) {
    let root = tempfile::tempdir().unwrap();
    let cache = Cache { root: root.path().into(), directory: "/home/user/.cache/flowgate".into() };
    (root, cache)
}

fn engine() -> Engine {
    Engine::new(&crate::execution::Execution::detect().config().unwrap()).unwrap()
}

/// Compiles and stores a component; returns the path of the file.
fn kept(root: &TempDir, cache: &Cache, engine: &Engine, component: &[u8]) -> PathBuf {
    let key = key(cache, engine, "", component);
    let code = Component::from_binary(engine, component).unwrap().serialize().unwrap();
    cache.store(&key, &sealed("code", &code).unwrap());
    root.path().join("home/user/.cache/flowgate").join(key.file())
}

/// Returns the key of a component's code.
fn key(cache: &Cache, engine: &Engine, owner: &str, component: &[u8]) -> CacheKey {
    cache.key(engine, owner, &Sha256::digest(component).into())
}

/// Returns true if the code is found, by those who load it and by those who do not.
fn hit(cache: &Cache, engine: &Engine) -> bool {
    let key = key(cache, engine, "", EMPTY);
    let found = cache.read(&key).is_some();
    assert_eq!(found, cache.load(engine, &key).is_some());
    found
}

/// Returns a component that is not empty: it has a custom section with this name.
fn named(name: u8) -> Vec<u8> {
    [EMPTY, &[0, 3, 1, name, 0]].concat()
}

#[test]
fn what_was_kept_is_found_and_is_for_the_user_alone() {
    let ((root, cache), engine) = (cache(), engine());
    assert!(!hit(&cache, &engine));
    assert!(!root.path().join("home").exists(), "to look makes no directory");
    let file = kept(&root, &cache, &engine, EMPTY);
    assert!(hit(&cache, &engine));
    let code = cache.read(&key(&cache, &engine, "", EMPTY)).unwrap();
    assert!(content(&code).unwrap() == fs::read(&file).unwrap()[HEADER..]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no part of a file is left");
}

#[test]
fn another_file_engine_or_owner_has_another_key() {
    let ((_root, cache), engine) = (cache(), engine());
    let other = Engine::new(flowgate_stock::config::common().epoch_interruption(false)).unwrap();
    let key = |engine: &Engine, owner: &str, content: &[u8]| key(&cache, engine, owner, content).0;
    let first = key(&engine, "blue", EMPTY);
    assert_eq!(first, key(&engine, "blue", EMPTY));
    let others = [key(&engine, "blue", &named(b'a')), key(&other, "blue", EMPTY), key(&engine, "red", EMPTY)];
    assert!(others.iter().all(|other| *other != first), "{others:?}");
}

#[test]
fn a_flipped_bit_is_a_miss_wherever_it_is() {
    let ((root, cache), engine) = (cache(), engine());
    let file = kept(&root, &cache, &engine, EMPTY);
    let sound = fs::read(&file).unwrap();
    for at in (0..HEADER).chain((HEADER..sound.len()).step_by(97)).chain([sound.len() - 1]) {
        let mut flipped = sound.clone();
        flipped[at] ^= 1;
        fs::write(&file, flipped).unwrap();
        assert!(!hit(&cache, &engine), "byte {at}");
    }
    for length in [0, 1, HEADER - 1, HEADER, sound.len() - 1] {
        fs::write(&file, &sound[..length]).unwrap();
        assert!(!hit(&cache, &engine), "{length} bytes");
    }
    fs::write(&file, [&sound[..], b"x"].concat()).unwrap();
    assert!(!hit(&cache, &engine), "longer");
    fs::write(&file, &sound).unwrap();
    assert!(hit(&cache, &engine));
}

#[test]
fn one_plugins_file_under_the_name_of_another_is_a_miss() {
    let ((root, cache), engine) = (cache(), engine());
    let file = kept(&root, &cache, &engine, EMPTY);
    let other = kept(&root, &cache, &engine, &named(b'a'));
    fs::rename(other, file).unwrap();
    assert!(!hit(&cache, &engine));
}

#[test]
fn a_directory_that_others_can_write_is_not_used() {
    let ((root, cache), engine) = (cache(), engine());
    let file = kept(&root, &cache, &engine, EMPTY);
    for part in ["", "home", "home/user", "home/user/.cache", "home/user/.cache/flowgate"] {
        let part = root.path().join(part);
        let before = fs::metadata(&part).unwrap().permissions();
        for mode in [0o777, 0o1777, 0o770, 0o702] {
            fs::set_permissions(&part, fs::Permissions::from_mode(mode)).unwrap();
            assert!(!hit(&cache, &engine), "{} {mode:o}", part.display());
            fs::remove_file(&file).unwrap();
            assert_eq!(kept(&root, &cache, &engine, EMPTY), file);
            assert!(!file.exists(), "{} {mode:o}: nothing is written there either", part.display());
            fs::set_permissions(&part, before.clone()).unwrap();
            kept(&root, &cache, &engine, EMPTY);
        }
        assert!(hit(&cache, &engine), "{}", part.display());
    }
}

#[test]
fn a_file_that_others_can_write_is_a_miss() {
    let ((root, cache), engine) = (cache(), engine());
    let file = kept(&root, &cache, &engine, EMPTY);
    for mode in [0o602, 0o620, 0o666] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert!(!hit(&cache, &engine), "{mode:o}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(hit(&cache, &engine));
}

#[test]
fn what_belongs_to_somebody_else_is_not_used() {
    assert!(flowgate_base::files::effective_user() == 0, "this test gives files to another user: run it as root");
    let ((root, cache), engine) = (cache(), engine());
    let file = kept(&root, &cache, &engine, EMPTY);
    for part in [root.path().join("home/user"), file.parent().unwrap().into(), file.clone()] {
        chown(&part, Some(OTHER), None).unwrap();
        assert!(!hit(&cache, &engine), "{}", part.display());
        chown(&part, Some(0), None).unwrap();
        assert!(hit(&cache, &engine), "{}", part.display());
    }
}

/// The environment of a process whose effective user or group is not its real one may be that of either.
#[test]
#[allow(unsafe_code, reason = "libc's own functions would apply to the threads of all tests")]
fn a_process_that_acts_for_another_has_no_cache() {
    assert!(flowgate_base::files::effective_user() == 0, "this test becomes another user: run it as root");
    assert!(Cache::of_environment().is_some(), "HOME or XDG_CACHE_HOME must be set here");
    for call in [libc::SYS_setresuid, libc::SYS_setresgid] {
        let acting = std::thread::spawn(move || {
            // SAFETY: both system calls take three numbers and touch no memory; -1 leaves an identity as it is.
            assert_eq!(unsafe { libc::syscall(call, libc::uid_t::MAX, OTHER, libc::uid_t::MAX) }, 0);
            Cache::of_environment().is_some()
        });
        assert!(!acting.join().unwrap(), "system call {call}");
    }
}

#[test]
fn links_are_followed_only_if_they_are_ours() {
    assert!(flowgate_base::files::effective_user() == 0, "this test gives files to another user: run it as root");
    let ((root, cache), engine) = (cache(), engine());
    let file = kept(&root, &cache, &engine, EMPTY);
    let (user, moved) = (root.path().join("home/user"), root.path().join("elsewhere"));
    fs::rename(&user, &moved).unwrap();
    for target in ["../elsewhere", "/elsewhere", "/home/../elsewhere/./"] {
        symlink(target, &user).unwrap();
        assert!(hit(&cache, &engine), "{target}");
        std::os::unix::fs::lchown(&user, Some(OTHER), None).unwrap();
        assert!(!hit(&cache, &engine), "{target}");
        fs::remove_file(&user).unwrap();
    }
    symlink("user", &user).unwrap();
    assert!(!hit(&cache, &engine), "a link to itself");
    fs::remove_file(&user).unwrap();
    fs::rename(&moved, &user).unwrap();
    // The file itself must not be a link.
    let copy = root.path().join("copy");
    fs::rename(&file, &copy).unwrap();
    symlink(&copy, &file).unwrap();
    assert!(!hit(&cache, &engine));
    // Nothing is written through a link either.
    let victim = root.path().join("victim");
    fs::write(&victim, "").unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&victim, &file).unwrap();
    kept(&root, &cache, &engine, EMPTY);
    assert!(hit(&cache, &engine), "a file took the link's place");
    assert_eq!(fs::read(&victim).unwrap(), b"");
}

#[test]
fn what_is_no_file_is_a_miss() {
    let ((root, cache), engine) = (cache(), engine());
    let file = kept(&root, &cache, &engine, EMPTY);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(!hit(&cache, &engine));
    fs::remove_dir(&file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RWXU).unwrap();
    assert!(!hit(&cache, &engine), "a pipe, which nobody writes into, is not waited for");
}

#[test]
fn the_oldest_files_go_first_and_what_writers_left_behind() {
    let ((root, cache), engine) = (cache(), engine());
    let file = kept(&root, &cache, &engine, EMPTY);
    let directory = file.parent().unwrap();
    let put = |name: &str, age: u64| {
        let path = directory.join(name);
        fs::write(&path, [0; 1000]).unwrap();
        let time = SystemTime::now() - Duration::from_secs(age);
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        path
    };
    let (oldest, older) = (put("a.code", 9000), put("b.code", 8000));
    let (left, busy, foreign) = (put(".c.code.1.0.part", 7200), put(".d.code.1.0.part", 5), put("notes.txt", 90_000));
    let room = 1500 + fs::metadata(&file).unwrap().len();
    CacheDirectory::open(&cache.root, &cache.directory, false).unwrap().shrink(room);
    assert!(!oldest.exists() && older.exists() && file.exists());
    assert!(!left.exists() && busy.exists() && foreign.exists());
}
