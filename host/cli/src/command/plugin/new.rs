//! `plugin new`: creates a project that builds and passes its tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    super::{CommandError, Exit},
    error::ToolError,
    templates,
};
use flowgate_pipeline::sink::Sink;

/// Creates a project.
pub(super) fn run(
    name: &str,
    language: &str,
    directory: Option<&Path>,
    sink: &mut dyn Sink,
) -> Result<Exit, CommandError> {
    check(name)?;
    let directory = directory.map_or_else(|| PathBuf::from(name), Path::to_path_buf);
    let taken = fs::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_some()) || directory.is_file();
    if taken {
        return Err(ToolError::Taken { path: directory }.into());
    }
    let underscored = name.replace('-', "_");
    let of_type = camel_case(name);
    let variables = [
        ("name", name),
        ("crate", underscored.as_str()),
        ("type", of_type.as_str()),
        ("version", env!("CARGO_PKG_VERSION")),
        ("repository", env!("CARGO_PKG_REPOSITORY")),
    ];
    let files = templates::project(language, &variables);
    for file in &files {
        let path = directory.join(&file.path);
        let failed = |source| ToolError::Write { path: path.clone(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(&path, &file.content).map_err(failed)?;
    }
    let shown = flowgate_base::text::path_text(&directory);
    let mut text = format!("{shown}: a plugin in {language}, {} files\n\n", files.len());
    text.push_str(&format!(
        "  cd {shown}\n  make          # build it\n  make test     # and run it on flows.txt, without root\n"
    ));
    text.push_str("\nREADME.md says what is where.\n");
    sink.write(text.as_bytes())?;
    Ok(Exit::Success)
}

/// Checks that a name can be that of a package, of a file and of a type.
fn check(name: &str) -> Result<(), ToolError> {
    let wrong = |problem| Err(ToolError::Name { name: name.into(), problem });
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return wrong("it begins with a small letter, as in `no-telnet`");
    }
    if !name.chars().all(allowed) || name.ends_with('-') || name.contains("--") {
        return wrong("it consists of small letters, digits and single hyphens, as in `no-telnet`");
    }
    if name.len() > 64 {
        return wrong("it has at most 64 characters");
    }
    // Names that cargo refuses for packages, and names that a program in C cannot have.
    if matches!(
        name,
        "test" | "core" | "std" | "alloc" | "self" | "crate" | "super" | "main" | "build" | "deps" | "examples"
    ) {
        return wrong("it is a word that compilers keep for themselves; add another, as in `my-test`");
    }
    Ok(())
}

/// Returns `NoTelnet` for `no-telnet`.
fn camel_case(name: &str) -> String {
    name.split('-')
        .flat_map(|part| {
            let mut letters = part.chars();
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_everywhere() {
        for good in ["a", "no-telnet", "x2", "a-1-b"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a--b", "A", "1a", "a_b", "a/b", "../x", "ä", "test", "a b"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert_eq!(camel_case("no-telnet2-x"), "NoTelnet2X");
    }
}
