//! The files of new projects, which are part of the binary: templates by language, the WIT package, the SDK for Rust,
//! and the row views and bindings for the other languages.
//!
//! A language is a directory of `host/cli/templates` with a file `INCLUDE`. In its other files, `{{name}}` and
//! similar variables are replaced. `INCLUDE` lists files that are copied unchanged, in lines of the form `PART ->
//! DIRECTORY`. The part `shared` is `host/cli/templates/shared`, with the fixture and the cases that are the same for
//! all languages; the other parts are collected by `host/cli/build.rs`. A path that begins with `dot-` begins with a
//! dot in the project.

use std::{io::Read as _, sync::LazyLock};

use flate2::read::DeflateDecoder;

include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// Path and content of a file.
type Embedded = (&'static str, Vec<u8>);

/// The files of the templates, and the files that several templates include.
static FILES: LazyLock<(Vec<Embedded>, Vec<Embedded>)> = LazyLock::new(|| {
    let mut packed = DeflateDecoder::new(PACKED);
    let mut files = |table: &[(&'static str, usize)]| {
        let file = |(name, length): &(&'static str, usize)| {
            let mut content = vec![0; *length];
            // The data come from the build script, so no file is shorter than its length.
            packed.read_exact(&mut content).ok()?;
            Some((*name, content))
        };
        table.iter().map_while(file).collect()
    };
    (files(TEMPLATES), files(PARTS))
});

/// A file of a project.
pub(super) struct File {
    /// Path relative to the project.
    pub path: String,
    /// Content of the file.
    pub content: Vec<u8>,
}

/// Returns the files of a project in a language. `variables` are names and values of the variables in double braces.
pub(super) fn project(language: &str, variables: &[(&str, &str)]) -> Vec<File> {
    let mut files = Vec::new();
    let prefix = format!("{language}/");
    for (path, content) in FILES.0.iter().filter_map(|(path, content)| Some((path.strip_prefix(&prefix)?, content))) {
        if path == "INCLUDE" {
            included(content, &mut files);
            continue;
        }
        files.push(File { path: filled(&dotted(path), variables), content: filled_bytes(content, variables) });
    }
    files
}

/// Appends the files of the parts that an INCLUDE lists.
fn included(list: &[u8], files: &mut Vec<File>) {
    for line in String::from_utf8_lossy(list).lines() {
        let Some((part, directory)) = line.split_once("->") else { continue };
        let (part, directory) = (format!("{}/", part.trim()), directory.trim());
        let all = FILES.1.iter().chain(&FILES.0);
        for (path, content) in all.filter_map(|(path, content)| Some((path.strip_prefix(&part)?, content))) {
            let path = if directory == "." { path.to_string() } else { format!("{directory}/{path}") };
            files.push(File { path, content: content.clone() });
        }
    }
}

/// Returns a path in which the prefix `dot-` of each part is replaced by a dot.
fn dotted(path: &str) -> String {
    let parts =
        path.split('/').map(|part| part.strip_prefix("dot-").map_or(part.to_string(), |rest| format!(".{rest}")));
    parts.collect::<Vec<_>>().join("/")
}

/// Returns a text with its variables replaced. Other text in braces stays as it is.
fn filled(text: &str, variables: &[(&str, &str)]) -> String {
    variables.iter().fold(text.to_string(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
}

/// Does the same as [`filled`]; content that is not UTF-8 stays as it is.
fn filled_bytes(content: &[u8], variables: &[(&str, &str)]) -> Vec<u8> {
    std::str::from_utf8(content).map_or_else(|_| content.to_vec(), |text| filled(text, variables).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::plugin_command::LANGUAGES;

    #[test]
    fn every_language_has_what_a_project_needs() {
        let there = TEMPLATES.iter().filter_map(|(path, _)| path.strip_suffix("/INCLUDE"));
        assert_eq!(there.collect::<Vec<_>>(), LANGUAGES);
        for language in LANGUAGES {
            let files = project(language, &[("name", "x-y"), ("crate", "x_y"), ("type", "XY"), ("version", "0.1.0")]);
            for needed in
                ["Makefile", "README.md", "flows.txt", "test.toml", ".gitignore", ".github/workflows/test.yml"]
            {
                assert!(files.iter().any(|file| file.path == needed), "{language}: {needed}");
            }
            assert!(files.iter().any(|file| file.path.ends_with("wit/flow.wit")), "{language}: the package");
            let mut paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
            paths.sort_unstable();
            let twice: Vec<_> = paths.windows(2).filter(|pair| pair[0] == pair[1]).collect();
            assert!(twice.is_empty(), "{language}: {twice:?}");
            for file in files {
                let text = String::from_utf8_lossy(&file.content).into_owned();
                let left =
                    ["{{name}}", "{{crate}}", "{{type}}", "{{version}}"].iter().find(|left| text.contains(**left));
                assert_eq!(left, None, "{language}: {}", file.path);
            }
        }
    }

    #[test]
    fn every_part_is_there() {
        assert_eq!((FILES.0.len(), FILES.1.len()), (TEMPLATES.len(), PARTS.len()));
        for (path, list) in FILES.0.iter().filter(|(path, _)| path.ends_with("/INCLUDE")) {
            for line in String::from_utf8_lossy(list).lines() {
                let mut files = Vec::new();
                included(line.as_bytes(), &mut files);
                assert!(!files.is_empty(), "{path}: {line}");
            }
        }
        for (language, view) in [("c", "flowgate.h"), ("zig", "flowgate.zig")] {
            let files = project(language, &[]);
            for needed in ["stage.h", "stage.c", "stage_component_type.o", view] {
                assert!(files.iter().any(|file| file.path == format!("vendor/{needed}")), "{language}: {needed}");
            }
        }
    }

    #[test]
    fn javascript_is_built_with_what_the_examples_are_built_with() {
        let pinned = |text: &str| -> serde_json::Value {
            let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
            let root = value.as_object_mut().unwrap();
            for own in ["name", "description", "license"] {
                root.remove(own);
            }
            if let Some(package) = root.get_mut("packages").and_then(|packages| packages.get_mut("")) {
                package.as_object_mut().unwrap().retain(|key, _| key == "dependencies");
            }
            value
        };
        let files = project("javascript", &[("name", "x-y")]);
        for (name, of_examples) in [
            ("package.json", include_str!("../../../../../examples/javascript/package.json")),
            ("package-lock.json", include_str!("../../../../../examples/javascript/package-lock.json")),
        ] {
            let file = files.iter().find(|file| file.path == name).unwrap();
            assert_eq!(pinned(&String::from_utf8_lossy(&file.content)), pinned(of_examples), "{name}");
        }
    }

    #[test]
    fn the_sdk_is_built_with_the_same_bindings_as_here() {
        let root = include_str!("../../../../../Cargo.toml");
        let here = root.lines().find(|line| line.starts_with("wit-bindgen = ")).unwrap();
        let files = project("rust", &[]);
        let sdk = files.iter().find(|file| file.path == "vendor/flowgate-sdk/Cargo.toml").unwrap();
        assert!(String::from_utf8_lossy(&sdk.content).contains(here), "{here}");
    }
}
