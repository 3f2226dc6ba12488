//! The program under test.

use crate::Program;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::SystemTime,
};

/// The command that builds it.
const BUILD: &str = "cargo build --release --workspace";

/// Returns the flowgate in the test's build directory, or the one that `FLOWGATE_UNDER_TEST` names.
///
/// # Panics
/// If it is not built, or was built before one of its sources was changed.
pub fn flowgate() -> Program {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    Program::new(PATH.get_or_init(find))
}

/// Returns the directory that this test was built in, usually `target/PROFILE`.
///
/// # Panics
/// If the test is not where cargo puts it.
pub fn profile_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("a test lies in `deps`, in the build directory").to_path_buf()
}

/// Returns the root of the source tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the source is there")
}

fn find() -> PathBuf {
    if let Some(path) = std::env::var_os("FLOWGATE_UNDER_TEST") {
        return fs::canonicalize(&path)
            .unwrap_or_else(|error| panic!("FLOWGATE_UNDER_TEST={}: {error}", path.display()));
    }
    let program = profile_directory().join("flowgate");
    let built = changed(&program).unwrap_or_else(|| panic!("{} is not built: {BUILD}", program.display()));
    let list = program.with_extension("d");
    let list = fs::read_to_string(&list).unwrap_or_else(|error| panic!("{}: {error}: {BUILD}", list.display()));
    if let Some(source) = newer(&list, built) {
        panic!("{} is older than {}: {BUILD}", program.display(), source.display());
    }
    program
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// Returns the first source that was changed or removed since then. `list` is cargo's list, in which the sources follow
/// `PROGRAM:`.
fn newer(list: &str, built: SystemTime) -> Option<PathBuf> {
    // A space in a path is written as `\ `.
    let list = list.replace("\\ ", "\0");
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources).split_whitespace();
    sources
        .map(|source| PathBuf::from(source.replace('\0', " ")))
        .find(|source| changed(source).is_none_or(|changed| changed > built))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_source_that_was_changed_later_is_found() {
        let directory = crate::namespace::temporary_directory().join("two words");
        fs::create_dir(&directory).unwrap();
        let [program, old, new] = ["program", "old.rs", "new.rs"].map(|name| directory.join(name));
        let list = |sources: &[&PathBuf]| {
            let escaped = |path: &&PathBuf| path.display().to_string().replace(' ', "\\ ");
            format!("{}: {}\n", escaped(&&program), sources.iter().map(escaped).collect::<Vec<_>>().join(" "))
        };
        let now = SystemTime::now();
        for (path, age) in [(&old, 20), (&program, 10), (&new, 0)] {
            let file = fs::File::create(path).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        let built = changed(&program).unwrap();
        assert_eq!(newer(&list(&[&old]), built), None);
        assert_eq!(newer(&list(&[&old, &new]), built), Some(new.clone()));
        fs::remove_file(&old).unwrap();
        assert_eq!(newer(&list(&[&old]), built), Some(old));
        fs::remove_dir_all(directory.parent().unwrap()).unwrap();
    }
}
