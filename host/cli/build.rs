//! Packs the files that `plugin new` makes projects of.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::DeflateEncoder};

/// What projects in other languages than Rust have in common with the examples: name of the part, and file.
const VIEWS: &[(&str, &str)] = &[
    ("c-view", "examples/c/flowgate.h"),
    ("javascript-view", "examples/javascript/flowgate.js"),
    ("python-view", "examples/python/flowgate.py"),
    ("zig-view", "examples/zig/flowgate.zig"),
    ("python-tools", "examples/python/requirements.txt"),
    ("zig-tools", "examples/zig/requirements.txt"),
];

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../..");
    let views = VIEWS.iter().map(|(_, path)| *path);
    for input in ["plugins/sdk", "plugins/names", "wit"].into_iter().chain(views) {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    for input in ["build.rs", "templates"] {
        println!("cargo::rerun-if-changed={input}");
    }
    templates(&root, &PathBuf::from(variable("OUT_DIR")?))
}

/// Writes the files of new plugin projects: tables of their names and lengths, and their content, compressed (0.1 MB
/// instead of 0.6 MB, in a program that rarely needs them).
fn templates(root: &Path, out: &Path) -> Result<(), Failure> {
    let mut files = Vec::new();
    gather(&root.join("host/cli/templates"), "", &mut files)?;
    let templates = files.len();
    for (part, directory) in [("wit", "wit"), ("sdk", "plugins/sdk/src"), ("names", "plugins/names/src")] {
        gather(&root.join(directory), &format!("{part}/"), &mut files)?;
    }
    let bindings = out.join("bindings");
    write_bindings(&root.join("wit"), &bindings)?;
    gather(&bindings, "bindings/", &mut files)?;
    for (part, file) in VIEWS.iter().chain(&[("sdk-build", "plugins/sdk/build.rs")]) {
        let path = root.join(file);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        files.push((format!("{part}/{name}"), fs::read(&path)?));
    }

    let mut packer = DeflateEncoder::new(Vec::new(), Compression::best());
    for (_, content) in &files {
        packer.write_all(content)?;
    }
    let packed = out.join("templates.deflate");
    fs::write(&packed, packer.finish()?)?;

    let (templates, parts) = files.split_at(templates);
    let entries = |files: &[(String, Vec<u8>)]| -> String {
        files.iter().map(|(name, content)| format!("    ({name:?}, {}),\n", content.len())).collect()
    };
    let text = format!(
        "/// Files of the templates: path below `host/cli/templates`, and length.\n\
         const TEMPLATES: &[(&str, usize)] = &[\n{}];\n\
         /// Files that several templates include: name of the part, path in it, and length.\n\
         const PARTS: &[(&str, usize)] = &[\n{}];\n\
         /// The content of both, one after another, compressed by deflate.\n\
         const PACKED: &[u8] = include_bytes!({:?});\n",
        entries(templates),
        entries(parts),
        packed.display().to_string()
    );
    fs::write(out.join("templates.rs"), text)?;
    Ok(())
}

/// Writes the C bindings of the world `stage`, so that projects in C and Zig need no generator.
fn write_bindings(wit: &Path, directory: &Path) -> Result<(), Failure> {
    let mut resolve = wit_bindgen_core::wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir(wit)?;
    let world = resolve.packages[package].worlds.get("stage").copied().ok_or("the package has no world `stage`")?;
    let mut files = wit_bindgen_core::Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    fs::create_dir_all(directory)?;
    for (name, content) in files.iter() {
        fs::write(directory.join(name), content)?;
    }
    Ok(())
}

/// Adds the files of a directory and of those in it, name and content, in order of their names.
fn gather(directory: &Path, prefix: &str, files: &mut Vec<(String, Vec<u8>)>) -> Result<(), Failure> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            gather(&path, &format!("{name}/"), files)?;
        } else {
            files.push((name, fs::read(&path)?));
        }
    }
    Ok(())
}

fn variable(name: &str) -> Result<String, Failure> {
    env::var(name).map_err(|error| format!("cargo sets {name} for build scripts: {error}").into())
}
