use std::{
    fs::{self, File, Permissions},
    io::Read,
    os::unix::fs::symlink,
};

use flate2::read::GzDecoder;

use super::*;

/// Returns the path of a rotated file.
fn numbered(path: &Path, number: u32, end: &str) -> PathBuf {
    path.with_file_name(super::numbered(path.file_name().unwrap(), number, end))
}

fn sink(path: &Path, append: bool, rotation: Option<Rotation>) -> FileSink {
    let options = FileOptions { path: path.into(), append, rotation, mode: None, trust: Trust::Sticky };
    FileSink::open(options, flowgate_base::Warnings::new(|warning| panic!("{warning}"))).unwrap()
}

fn by_size(size: u64, keep: u32, compress: bool) -> Option<Rotation> {
    Some(Rotation { size: Some(size), interval: None, keep, keep_time: None, compress })
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn files_are_put_aside_between_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    let mut sink = sink(&path, true, by_size(10, 3, false));
    sink.write(b"1111\n2222\n3333\n").unwrap();
    sink.write(b"4444\na line that is longer than a file may be\n55\n").unwrap();
    sink.finish().unwrap();
    assert_eq!(read(&path), "55\n");
    assert_eq!(read(&numbered(&path, 1, "")), "a line that is longer than a file may be\n");
    assert_eq!(read(&numbered(&path, 2, "")), "3333\n4444\n");
    assert_eq!(read(&numbered(&path, 3, "")), "1111\n2222\n");
    sink.write(b"666666666\n7\n").unwrap();
    assert_eq!(read(&numbered(&path, 3, "")), "a line that is longer than a file may be\n");
    assert!(!numbered(&path, 4, "").exists(), "no more are kept than there may be");
}

#[test]
fn a_line_that_was_cut_off_takes_no_other_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    for (before, after) in [("", "new\n"), ("one\n", "one\nnew\n"), ("one\ntw", "one\ntw\nnew\n"), ("o", "o\nnew\n")] {
        fs::write(&path, before).unwrap();
        sink(&path, true, None).write(b"new\n").unwrap();
        assert_eq!(read(&path), after);
        fs::write(&path, before).unwrap();
        sink(&path, false, None).write(b"new\n").unwrap();
        assert_eq!(read(&path), "new\n", "nothing is kept");
    }
    // Its end counts for the size.
    fs::write(&path, "one\ntw").unwrap();
    let mut rotated = sink(&path, true, by_size(7, 2, false));
    rotated.write(b"new\n").unwrap();
    assert_eq!((read(&numbered(&path, 1, "")), read(&path)), ("one\ntw\n".into(), "new\n".into()));
}

#[test]
fn no_line_is_lost_or_split_whatever_the_size() {
    let directory = tempfile::tempdir().unwrap();
    for size in 1..60 {
        let path = directory.path().join(size.to_string());
        let mut sink = sink(&path, true, by_size(size, 1000, false));
        let lines: Vec<String> = (0..100).map(|number| format!("{}\n", "x".repeat(number % 17))).collect();
        for batch in lines.chunks(7) {
            sink.write(batch.concat().as_bytes()).unwrap();
        }
        let mut all = String::new();
        for number in (1..1000).rev().filter(|&number| numbered(&path, number, "").exists()) {
            let part = read(&numbered(&path, number, ""));
            assert!(part.ends_with('\n'));
            assert!(part.len() as u64 <= size || part.lines().count() == 1, "{size}: {part}");
            all += &part;
        }
        assert_eq!(all + &read(&path), lines.concat());
    }
}

#[test]
fn files_that_were_put_aside_are_compressed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    let mut sink = sink(&path, true, by_size(4, 2, true));
    for line in ["111\n", "222\n", "333\n", "444\n"] {
        sink.write(line.as_bytes()).unwrap();
    }
    sink.finish().unwrap();
    for (number, content) in [(1, "333\n"), (2, "222\n")] {
        let mut text = String::new();
        let packed = File::open(numbered(&path, number, ".gz")).unwrap();
        GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        assert_eq!(text, content);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "and nothing else is left");
}

#[test]
fn one_who_does_not_wait_puts_the_file_aside_once_the_one_before_is_compressed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    let mut sink = sink(&path, true, by_size(4, 3, true)).postponing_rotation();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    sink.compression = Some(thread::spawn(move || {
        wait.recv().unwrap();
        Ok(())
    }));
    for line in ["111\n", "222\n", "333\n"] {
        sink.write(line.as_bytes()).unwrap();
    }
    assert_eq!(read(&path), "111\n222\n333\n", "nothing is put aside meanwhile");
    done.send(()).unwrap();
    while sink.compression.as_ref().is_some_and(|job| !job.is_finished()) {
        thread::yield_now();
    }
    sink.write(b"444\n").unwrap();
    sink.finish().unwrap();
    assert_eq!(read(&path), "444\n");
    let mut text = String::new();
    GzDecoder::new(File::open(numbered(&path, 1, ".gz")).unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "111\n222\n333\n");
}

#[test]
fn a_file_has_its_mode_and_keeps_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let options = FileOptions {
        path: path.clone(),
        append: true,
        rotation: by_size(4, 3, true),
        mode: Some(0o640),
        trust: Trust::Sticky,
    };
    let mut sink =
        FileSink::open(options.clone(), flowgate_base::Warnings::new(|warning| panic!("{warning}"))).unwrap();
    for line in ["111\n", "222\n", "333\n"] {
        sink.write(line.as_bytes()).unwrap();
    }
    sink.finish().unwrap();
    for path in [path.clone(), numbered(&path, 1, ".gz"), numbered(&path, 2, ".gz")] {
        assert_eq!(mode(&path), 0o640, "{}", path.display());
    }
    // A mode that was changed since is kept, also for the files that follow.
    fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
    drop(sink);
    let mut sink = FileSink::open(options, flowgate_base::Warnings::new(|warning| panic!("{warning}"))).unwrap();
    sink.write(b"444\n").unwrap();
    sink.finish().unwrap();
    assert_eq!((mode(&path), mode(&numbered(&path, 1, ".gz"))), (0o604, 0o604));
    assert_eq!(read(&path), "444\n");
}

#[test]
fn files_are_put_aside_when_their_time_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    let hour = Duration::from_secs(3600);
    let rotation = Some(Rotation { size: None, interval: Some(hour), keep: 2, keep_time: None, compress: false });
    let noon = UNIX_EPOCH + hour * 1_000_000;
    let mut sink = sink(&path, true, rotation);
    sink.write_at(b"1\n", noon).unwrap();
    sink.write_at(b"2\n", noon + hour - Duration::from_secs(1)).unwrap();
    sink.write_at(b"3\n", noon + hour).unwrap();
    assert_eq!((read(&numbered(&path, 1, "")), read(&path)), ("1\n2\n".into(), "3\n".into()));
    sink.write_at(b"", noon + hour * 3).unwrap();
    sink.write_at(b"4\n", noon + hour * 3).unwrap();
    assert_eq!((read(&numbered(&path, 2, "")), read(&path)), ("1\n2\n".into(), "4\n".into()));
}

#[test]
fn files_that_are_too_old_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    let (hour, now) = (Duration::from_secs(3600), SystemTime::now());
    let aged = |name: &str, age: Duration| {
        let path = directory.path().join(name);
        fs::write(&path, "old\n").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(now - age).unwrap();
    };
    let there = || {
        let mut names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    for (name, age) in [
        ("flows", hour * 9),
        ("flows.1", hour),
        ("flows.2.gz", hour * 2),
        ("flows.3", hour * 5),
        // From a run that kept a larger number.
        ("flows.4.gz", hour * 6),
        ("flows.x", hour * 9),
        ("other.1", hour * 9),
    ] {
        aged(name, age);
    }
    let rotation = Rotation { size: Some(100), interval: None, keep: 2, keep_time: Some(hour * 3), compress: false };
    let mut sink = sink(&path, true, Some(rotation));
    assert_eq!(there(), ["flows", "flows.1", "flows.2.gz", "flows.x", "other.1"], "when it is opened");
    // The next check is due only after a while.
    sink.write_at(b"1\n", now + hour + Duration::from_secs(1)).unwrap();
    assert_eq!(there(), ["flows", "flows.1", "flows.x", "other.1"], "and with what is written");
    aged("flows.2", hour * 9);
    sink.write_at(b"2\n", now + hour + Duration::from_secs(30)).unwrap();
    assert_eq!(there(), ["flows", "flows.1", "flows.2", "flows.x", "other.1"], "at most once a minute");
    sink.write_at(b"", now + hour + Duration::from_secs(90)).unwrap();
    assert_eq!(there(), ["flows", "flows.1", "flows.x", "other.1"], "also if nothing is written");
    // The current file is not a rotated one.
    sink.write_at(b"", now + hour * 100).unwrap();
    assert_eq!(there(), ["flows", "flows.x", "other.1"]);
    assert_eq!(read(&path), "old\n1\n2\n");
}

#[test]
fn a_compressed_file_is_as_old_as_its_last_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    fs::write(&path, "111\n").unwrap();
    let old = SystemTime::now() - Duration::from_secs(5000);
    File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    let mut sink = sink(&path, true, by_size(4, 3, true));
    sink.write(b"222\n").unwrap();
    sink.finish().unwrap();
    assert_eq!(fs::metadata(numbered(&path, 1, ".gz")).unwrap().modified().unwrap(), old);
}

#[test]
fn what_is_there_is_kept_or_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    fs::write(&path, "old\n").unwrap();
    sink(&path, true, None).write(b"new\n").unwrap();
    assert_eq!(read(&path), "old\nnew\n");
    sink(&path, true, by_size(8, 1, false)).write(b"more\n").unwrap();
    assert_eq!((read(&numbered(&path, 1, "")), read(&path)), ("old\nnew\n".into(), "more\n".into()));
    sink(&path, false, None).write(b"new\n").unwrap();
    assert_eq!(read(&path), "new\n");
}

#[test]
fn what_cannot_be_written_is_named() {
    let open = |path: &str, rotation| {
        FileSink::open(
            FileOptions { path: path.into(), append: true, rotation, mode: None, trust: Trust::Sticky },
            flowgate_base::Warnings::ignored(),
        )
    };
    let missing = open("/nowhere/flows", None).err().unwrap().to_string();
    assert!(missing.starts_with("cannot open /nowhere/flows for writing: No such file"), "{missing}");
    let device = open("/dev/null", by_size(1, 1, false)).err().unwrap().to_string();
    assert!(device.contains("/dev/null is no regular file"), "{device}");
    let full = open("/dev/full", None).unwrap().write(b"x\n").unwrap_err().to_string();
    assert!(full.starts_with("cannot write /dev/full: No space left"), "{full}");
}

#[test]
fn a_file_that_somebody_else_cuts_is_not_filled_with_nuls() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    let mut sink = sink(&path, true, by_size(12, 3, false));
    sink.write(b"1111\n2222\n").unwrap();
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    // The actual size of the file counts, not the number of bytes written.
    sink.write(b"3333\n4444\n").unwrap();
    assert_eq!(read(&path), "3333\n4444\n");
    assert!(!numbered(&path, 1, "").exists());
    // A line that cannot be written completely is removed again.
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    sink.take_off(7);
    assert_eq!(read(&path), "");
    sink.write(b"5555\n").unwrap();
    sink.take_off(3);
    assert_eq!(read(&path), "55");
}

#[test]
fn links_are_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (path, victim) = (directory.path().join("flows"), directory.path().join("victim"));
    let open = |path: &Path| {
        let options =
            FileOptions { path: path.into(), append: true, rotation: None, mode: Some(0o640), trust: Trust::Sticky };
        let checked = options.check().map_err(|error| error.to_string());
        let opened =
            FileSink::open(options, flowgate_base::Warnings::ignored()).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(checked, opened, "the check finds what opening finds");
        opened
    };
    fs::write(&victim, "untouched\n").unwrap();
    symlink(&victim, &path).unwrap();
    assert!(open(&path).unwrap_err().contains("is a symbolic link"));
    // A dangling symbolic link does not create a file either.
    fs::remove_file(&path).unwrap();
    symlink(directory.path().join("nowhere"), &path).unwrap();
    assert!(open(&path).unwrap_err().contains("is a symbolic link"));
    assert!(!directory.path().join("nowhere").exists());
    fs::remove_file(&path).unwrap();
    fs::hard_link(&victim, &path).unwrap();
    assert!(open(&path).unwrap_err().contains("has 2 names"));
    fs::remove_file(&path).unwrap();
    assert!(open(directory.path()).unwrap_err().contains("Is a directory"));
    assert_eq!(read(&victim), "untouched\n");
    // The file for the compressed data is always created, whatever exists there.
    symlink(&victim, numbered(&path, 1, ".gz.part")).unwrap();
    let mut sink = sink(&path, true, by_size(4, 2, true));
    sink.write(b"111\n").unwrap();
    sink.write(b"222\n").unwrap();
    sink.finish().unwrap();
    assert_eq!(read(&victim), "untouched\n");
    assert!(fs::symlink_metadata(numbered(&path, 1, ".gz")).unwrap().is_file());
}

#[test]
fn directories_that_others_can_write_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    let open_with = |mode: u32, trust: Trust| {
        fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
        let options = FileOptions { path: path.clone(), append: true, rotation: None, mode: None, trust };
        FileSink::open(options, flowgate_base::Warnings::ignored()).map(|_| ()).map_err(|error| error.to_string())
    };
    for trust in [Trust::Exclusive, Trust::Sticky] {
        let open = |mode: u32| open_with(mode, trust);
        assert!(
            open(0o777).unwrap_err().contains("can be written by everybody, so that others can replace files in it")
        );
        assert!(open(0o2775).unwrap_err().contains("can be written by group"));
    }
    // As the mode of /tmp.
    assert!(open_with(0o1777, Trust::Exclusive).unwrap_err().contains("everybody can put files into"));
    assert!(!path.exists());
    open_with(0o1777, Trust::Sticky).unwrap();
    open_with(0o755, Trust::Exclusive).unwrap();
}
