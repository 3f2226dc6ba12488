use super::*;

fn files(names: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    names.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec())).collect()
}

fn bundle() -> Bundle {
    let content = [("policy.toml", "[service]\n"), ("plugins/a.wasm", "\0asm"), ("plugins/b/c.wasm", "")];
    Bundle::make(Kind::Policy, "policy.toml", files(&content)).unwrap()
}

#[test]
fn the_same_files_have_the_same_digest_and_are_read_back() {
    let made = bundle();
    let other = [("plugins/b/c.wasm", ""), ("plugins/a.wasm", "\0asm"), ("policy.toml", "[service]\n")];
    assert_eq!(Bundle::make(Kind::Policy, "policy.toml", files(&other)).unwrap().digest(), made.digest());
    assert_eq!(Bundle::read_as(made.bytes().to_vec(), &made.digest()).unwrap(), made);
    let another = Bundle::make(Kind::Pipeline, "policy.toml", files(&other)).unwrap();
    assert_ne!(another.digest(), made.digest());
    let wrong = Bundle::read_as(another.bytes().to_vec(), &made.digest());
    assert!(matches!(wrong, Err(BundleError::Digest { .. })));
}

#[test]
fn a_bundle_that_was_changed_or_cut_off_at_any_byte_is_none() {
    let made = bundle();
    for at in 0..made.bytes().len() {
        assert!(Bundle::read(made.bytes()[..at].to_vec()).is_err(), "{at}");
        let mut changed = made.bytes().to_vec();
        changed[at] ^= 1;
        assert!(Bundle::read_as(changed.clone(), &made.digest()).is_err(), "{at}");
        // Whatever it reads, it does not panic.
        let _ = Bundle::read(changed);
    }
    let more = [made.bytes(), b"x"].concat();
    assert!(matches!(Bundle::read(more), Err(BundleError::Broken(_))));
}

#[test]
fn names_stay_in_the_folder() {
    for good in ["a", "a/b", "a-b_c.d+e", "..a", "a/b/c/d/e/f/g/h"] {
        assert!(Bundle::make(Kind::Policy, good, files(&[(good, "")])).is_ok(), "{good}");
    }
    let long = "x".repeat(MAX_NAME + 1);
    for bad in
        ["", "/a", "../a", "a/../b", "a//b", "a/", ".", "a/.", "a b", "a\\b", "a\n", "ä", "a/b/c/d/e/f/g/h/i", &long]
    {
        assert!(matches!(Bundle::make(Kind::Policy, bad, files(&[(bad, "")])), Err(BundleError::Name(_))), "{bad:?}");
    }
    assert!(Bundle::make(Kind::Policy, "a", files(&[("a", ""), ("a/b", "")])).is_err(), "a file is no folder");
    assert!(Bundle::make(Kind::Policy, "b", files(&[("a", "")])).is_err(), "it is not in it");
    assert!(Bundle::make(Kind::Policy, "a", files(&[("a", ""), ("a", "x")])).is_err(), "twice");
    let many: Vec<_> = (0..=MAX_FILES).map(|number| (format!("f{number:03}"), Vec::new())).collect();
    assert!(matches!(Bundle::make(Kind::Policy, "f000", many), Err(BundleError::Size(_))));
}

#[test]
fn it_is_unpacked_as_a_whole_and_what_was_changed_shows() {
    let place = tempfile::tempdir().unwrap();
    let (made, folder) = (bundle(), place.path().join("out"));
    assert!(!made.is_unpacked(&folder));
    made.unpack(&folder).unwrap();
    assert!(made.is_unpacked(&folder));
    assert_eq!(fs::read(folder.join("plugins/a.wasm")).unwrap(), b"\0asm");
    fs::write(folder.join("plugins/a.wasm"), b"\0asn").unwrap();
    assert!(!made.is_unpacked(&folder));
    // What an unpacking left that was killed is in nobody's way.
    fs::create_dir_all(place.path().join("out.new/plugins")).unwrap();
    made.unpack(&folder).unwrap();
    assert!(made.is_unpacked(&folder));
    fs::remove_file(folder.join("policy.toml")).unwrap();
    std::os::unix::fs::symlink("plugins/a.wasm", folder.join("policy.toml")).unwrap();
    assert!(!made.is_unpacked(&folder), "a link is no file");
}

#[test]
fn folders_and_files_are_collected_and_links_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    fs::create_dir_all(path("d/plugins")).unwrap();
    fs::write(path("d/policy.toml"), "p").unwrap();
    fs::write(path("d/plugins/a.wasm"), "a").unwrap();
    fs::write(path("other"), "o").unwrap();
    let folder = collect(&[path("d")], None).unwrap();
    assert_eq!((folder.entry.as_str(), folder.entry_content()), ("policy.toml", &b"p"[..]));
    let listed = collect(&[path("d/policy.toml"), path("d/plugins")], None).unwrap();
    let sorted = |mut collected: Collected| {
        collected.files.sort();
        collected
    };
    assert_eq!(sorted(listed), sorted(folder));
    assert_eq!(collect(&[path("d")], Some("plugins/a.wasm")).unwrap().entry, "plugins/a.wasm");
    assert!(matches!(collect(&[path("d")], Some("x")), Err(BundleError::NoEntry { .. })));
    assert!(matches!(collect(&[path("d/plugins")], None), Err(BundleError::NoEntry { .. })));
    assert!(matches!(collect(&[path("d/policy.toml"), path("other")], None), Err(BundleError::Outside { .. })));
    assert!(matches!(collect(&[path("d/policy.toml"), path("d/nothing")], None), Err(BundleError::File { .. })));
    assert!(matches!(collect(&[], None), Err(BundleError::NoEntry { .. })));
    std::os::unix::fs::symlink("/etc/shadow", path("d/plugins/link")).unwrap();
    assert!(matches!(collect(&[path("d")], None), Err(BundleError::Kind { what: "a link", .. })));
}
