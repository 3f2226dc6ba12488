use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;

fn opened(path: &Path, trust: Trust) -> Result<(), String> {
    let result = Directory::of(path, trust).and_then(|(directory, name)| directory.append(&name, None));
    result.map(|_| ()).map_err(|error| error.to_string())
}

#[test]
fn links_on_the_way_are_followed_where_nobody_else_can_put_them() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["real", "shared"] {
        fs::create_dir(at(name)).unwrap();
    }
    symlink(at("real"), at("link")).unwrap();
    symlink("../real", at("shared/link")).unwrap();
    symlink("loop", at("loop")).unwrap();
    for trust in [Trust::Exclusive, Trust::Sticky] {
        opened(&at("link/file"), trust).unwrap();
        opened(&at("shared/link/file"), trust).unwrap();
        opened(&at("shared/../link/./file"), trust).unwrap();
    }
    assert!(opened(&at("loop/file"), Trust::Typed).unwrap_err().contains("symbolic links"));
    fs::set_permissions(at("shared"), fs::Permissions::from_mode(0o777)).unwrap();
    for trust in [Trust::Sticky, Trust::Typed] {
        let error = opened(&at("shared/link/file"), trust).unwrap_err();
        assert!(error.contains("shared/link is a symbolic link in a directory that others can write"), "{error}");
    }
    // A directory of another user is accepted for paths that a user types, but no link in it.
    opened(&at("shared/file"), Trust::Typed).unwrap();
    for trust in [Trust::Exclusive, Trust::Sticky] {
        for file in ["shared/file", "shared/link/file"].iter().take(1 + usize::from(trust == Trust::Exclusive)) {
            let error = opened(&at(file), trust).unwrap_err();
            assert!(error.contains("shared can be written by everybody"), "{trust:?}: {error}");
        }
    }
    symlink(at("real/file"), at("shared/other")).unwrap();
    assert!(opened(&at("shared/other"), Trust::Typed).unwrap_err().contains("is a symbolic link"));
    for path in ["/", "real/", ".."] {
        assert!(opened(&at(path), Trust::Typed).is_err(), "{path}");
    }
}

#[test]
fn a_file_of_somebody_else_in_a_sticky_directory_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "").unwrap();
    if std::os::unix::fs::chown(&path, Some(65534), None).is_ok() {
        for trust in [Trust::Sticky, Trust::Typed] {
            let error = opened(&path, trust).unwrap_err();
            assert!(error.contains("it belongs to user 65534"), "{error}");
        }
    }
    // Not even one's own by a service: the next one may be somebody else's.
    for file in ["file", "own"] {
        let error = opened(&directory.path().join(file), Trust::Exclusive).unwrap_err();
        assert!(error.contains("everybody can put files into ") && error.contains("use a directory that"), "{error}");
    }
    assert!(!directory.path().join("own").exists());
    opened(&directory.path().join("own"), Trust::Sticky).unwrap();
}

/// What others can put into the place of a directory, where they can write above it.
#[test]
fn a_directory_that_others_have_replaced_is_not_entered() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    for above in ["sticky", "open"] {
        for name in [above.to_owned(), format!("{above}/own"), format!("{above}/foreign")] {
            fs::create_dir(at(&name)).unwrap();
        }
        fs::set_permissions(at(above), fs::Permissions::from_mode(if above == "open" { 0o777 } else { 0o1777 }))
            .unwrap();
        symlink(place.path(), at(&format!("{above}/link"))).unwrap();
    }
    opened(&at("sticky/own/file"), Trust::Exclusive).unwrap();
    let error = opened(&at("open/own/file"), Trust::Exclusive).unwrap_err();
    assert!(error.contains("open can be written by everybody"), "{error}");
    opened(&at("open/own/file"), Trust::Sticky).unwrap();
    let foreign = |path: &Path| std::os::unix::fs::lchown(path, Some(65534), None).is_ok();
    for above in ["sticky", "open"] {
        if !foreign(&at(&format!("{above}/foreign"))) || !foreign(&at(&format!("{above}/link"))) {
            continue;
        }
        for trust in [Trust::Exclusive, Trust::Sticky] {
            let errors =
                ["foreign", "link"].map(|name| opened(&at(&format!("{above}/{name}/file")), trust).unwrap_err());
            if (above, trust) == ("open", Trust::Exclusive) {
                continue;
            }
            assert!(errors[0].contains("foreign belongs to user 65534"), "{errors:?}");
            assert!(errors[1].contains("link is a symbolic link in a directory that others can write"), "{errors:?}");
        }
    }
}

#[test]
fn what_is_replaced_is_emptied_only_once_it_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("victim"), "kept").unwrap();
    fs::hard_link(at("victim"), at("twin")).unwrap();
    let replaced = |name: &str| {
        let (directory, name) = Directory::of(&at(name), Trust::Typed).unwrap();
        directory.replace(&name)
    };
    assert!(replaced("twin").unwrap_err().to_string().contains("it has 2 names"));
    assert_eq!(fs::read(at("victim")).unwrap(), b"kept");
    fs::remove_file(at("twin")).unwrap();
    replaced("victim").unwrap();
    assert_eq!(fs::read(at("victim")).unwrap(), b"");
}

/// Two names that are exchanged all the time, while `attempt` is repeated with one of them until it has met both.
fn exchanged(one: &Path, other: &Path, mut attempt: impl FnMut() -> bool) {
    /// Ends the exchange, also if the test fails.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = End(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let (cwd, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
                rustix::fs::renameat_with(cwd, one, cwd, other, flags).unwrap();
            }
        });
        while !attempt() {}
    });
}

/// A file that has become a link since it was examined: the kernel refuses to open it.
#[test]
fn a_file_that_becomes_a_link_while_it_is_opened_is_not_opened() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::write(at("file"), "").unwrap();
    fs::write(at("victim"), "").unwrap();
    symlink("victim", at("link")).unwrap();
    let victim = fs::metadata(at("victim")).unwrap().ino();
    let (directory, name) = Directory::of(&at("file"), Trust::Exclusive).unwrap();
    for read in [false, true] {
        let (mut opened, mut late) = (0, 0);
        exchanged(&at("file"), &at("link"), || {
            match if read { directory.read(&name) } else { directory.append(&name, None) } {
                Ok(file) => {
                    assert_ne!(file.metadata().unwrap().ino(), victim, "{read}");
                    opened += 1;
                }
                // It was a file when it was examined.
                Err(error) if error.raw_os_error() == Some(libc::ELOOP) => late += 1,
                Err(error) => assert!(error.to_string().contains("is a symbolic link"), "{error}"),
            }
            opened > 20 && late > 20
        });
    }
}

/// A file that is not regular is not even opened for reading, and nothing is read from one that became one
/// meanwhile.
#[test]
fn what_is_no_regular_file_is_not_opened_to_be_read() {
    use rustix::fs::{CWD, Mode, inotify, mkfifoat};
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::write(at("file"), "").unwrap();
    mkfifoat(CWD, at("pipe"), Mode::RWXU).unwrap();
    let (directory, name) = Directory::of(&at("pipe"), Trust::Exclusive).unwrap();
    let opened = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&opened, at("pipe"), inotify::WatchFlags::OPEN).unwrap();
    assert!(directory.read(&name).unwrap_err().to_string().contains("no regular file"));
    let mut buffer = [0; 256];
    assert_eq!(rustix::io::read(&opened, &mut buffer), Err(rustix::io::Errno::AGAIN), "it has been opened");
    drop(sys::open(&c_name(at("pipe").as_os_str()).unwrap(), libc::O_RDONLY | libc::O_NONBLOCK).unwrap());
    assert!(rustix::io::read(&opened, &mut buffer).unwrap() > 0, "that would have been noticed");
    let (mut read, mut late) = (0, 0);
    exchanged(&at("file"), &at("pipe"), || {
        match directory.read(&name) {
            Ok(file) => {
                assert!(file.metadata().unwrap().is_file());
                read += 1;
            }
            // It was a file when it was looked at.
            Err(error) if error.to_string().contains("no regular file any more") => late += 1,
            Err(error) => assert!(error.to_string().contains("no regular file"), "{error}"),
        }
        read > 20 && late > 20
    });
}

/// The same for a directory of the path.
#[test]
fn a_directory_that_becomes_a_link_while_it_is_entered_is_not_entered() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    for name in ["shared", "shared/way", "elsewhere"] {
        fs::create_dir(at(name)).unwrap();
    }
    symlink("../elsewhere", at("shared/link")).unwrap();
    fs::set_permissions(at("shared"), fs::Permissions::from_mode(0o777)).unwrap();
    let elsewhere = fs::metadata(at("elsewhere")).unwrap().ino();
    let (mut entered, mut late) = (0, 0);
    exchanged(&at("shared/way"), &at("shared/link"), || {
        match Directory::walk(&at("shared/way"), WalkOptions::trusting(Trust::Typed)) {
            Ok(directory) => {
                assert_ne!(directory.descriptor.metadata().unwrap().ino(), elsewhere);
                entered += 1;
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENOTDIR)) => late += 1,
            Err(error) => assert!(error.to_string().contains("is a symbolic link"), "{error}"),
        }
        entered > 20 && late > 20
    });
}

#[test]
fn what_is_to_be_new_is_not_there() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::write(at("file"), "kept").unwrap();
    symlink("file", at("link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    let directory = Directory::walk(place.path(), WalkOptions::trusting(Trust::Exclusive)).unwrap();
    for name in ["file", "link", "dangling"] {
        let error = directory.create_new(OsStr::new(name), 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{name}");
    }
    assert!(fs::read(at("file")).unwrap() == b"kept" && !at("nowhere").exists());
    directory.create_new(OsStr::new("new"), 0o600).unwrap();
}
