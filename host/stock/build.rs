//! Builds the stock plugins, makes components of them, and compiles these ahead of time, so that the program carries them
//! ready to run: nothing is read from disk or copied, and no memory is made executable.

use std::{
    env, fs,
    hash::Hasher as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use flate2::{Compression, write::DeflateEncoder};

#[path = "build/symbols.rs"]
mod symbols;

#[path = "src/wasm/config.rs"]
mod config;

/// The stock plugins: packages `flowgate-plugin-NAME` in `plugins/NAME`.
const STOCK: &[&str] = &["match", "delete", "update", "create", "text", "xml", "save", "json", "counters", "pass"];

/// What projects in other languages than Rust have in common with the examples: name of the part, and file.
const VIEWS: &[(&str, &str)] = &[
    ("c-view", "examples/c/flowgate.h"),
    ("javascript-view", "examples/javascript/flowgate.js"),
    ("python-view", "examples/python/flowgate.py"),
    ("zig-view", "examples/zig/flowgate.zig"),
    ("python-tools", "examples/python/requirements.txt"),
    ("zig-tools", "examples/zig/requirements.txt"),
];

const TARGET: &str = "wasm32-unknown-unknown";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let views = VIEWS.iter().map(|(_, path)| *path);
    for input in ["plugins", "wit", "Cargo.lock"].into_iter().chain(views) {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    for input in ["build.rs", "build", "src/wasm/config.rs", "templates"] {
        println!("cargo::rerun-if-changed={input}");
    }

    // Beside the outer build's directory, so that a second profile or a changed host finds the plugins built.
    let target = out.ancestors().nth(4).unwrap_or(&out).join("stock-plugins");
    build(&root, &target)?;

    let images = compile(&target, &out)?;
    fs::write(out.join("stock.rs"), table(&images)?)?;
    println!("cargo::rustc-env=FLOWGATE_BUILD={:016x}", fingerprint(&root, &images)?);
    templates(&root, &out)
}

/// Makes components of the stock plugins and compiles them; names, and where the compiled code is.
fn compile(target: &Path, out: &Path) -> Result<Vec<(&'static str, PathBuf)>, Failure> {
    let mut settings = config::stock();
    // Naming the target keeps the features of the building machine's CPU out of the code: it runs on any of the family.
    settings.target(&variable("TARGET")?)?;
    // The stock plugins are this project's own code and see nothing that is kept from them: they need not be hindered from
    // reading ahead of a check of their own memory.
    // SAFETY: the flag only chooses between two correct forms of a bounds check.
    #[allow(unsafe_code)]
    unsafe {
        settings.cranelift_flag_set("enable_heap_access_spectre_mitigation", "false");
    }
    let engine = wasmtime::Engine::new(&settings)?;
    STOCK
        .iter()
        .map(|name| {
            let module = target.join(TARGET).join("plugin").join(format!("flowgate_plugin_{name}.wasm"));
            let component = wit_component::ComponentEncoder::default()
                .module(&fs::read(&module)?)
                .and_then(|encoder| encoder.validate(true).encode())
                .map_err(|error| format!("making a component of {}: {error:#}", module.display()))?;
            let compiled = out.join(format!("{name}.cwasm"));
            let code = engine.precompile_component(&component)?;
            let code =
                symbols::removed(&code).ok_or("wasmtime lays compiled code out in another way than is known here")?;
            fs::write(&compiled, code)?;
            Ok((*name, compiled))
        })
        .collect()
}

/// What `wasm/stock.rs` includes: an image for each stock plugin, and the table of them.
fn table(images: &[(&str, PathBuf)]) -> Result<String, Failure> {
    // As wasmtime aligns code in what it compiles: to the largest page that the machine may have.
    let alignment = if variable("CARGO_CFG_TARGET_ARCH")? == "aarch64" { 65_536 } else { 4096 };
    let mut text = format!(
        "/// Alignment of compiled code in its image, and so of the image.\nconst ALIGNMENT: usize = {alignment};\n"
    );
    let mut rows = String::new();
    for (name, file) in images {
        let file = file.to_str().ok_or("the build directory's name is not UTF-8")?;
        let symbol = format!("flowgate_stock_{name}");
        text.push_str(&format!("image!({symbol}, {symbol}_end, {file:?}, \"{alignment}\");\n"));
        rows.push_str(&format!(
            "        Image {{ name: {name:?}, start: &raw const {symbol}, end: &raw const {symbol}_end }},\n"
        ));
    }
    text.push_str(&format!("/// All images.\nfn images() -> [Image; {}] {{\n    [\n{rows}    ]\n}}\n", images.len()));
    Ok(text)
}

/// Tells builds apart whose compilers may differ: what they make of the stock plugins, and which libraries they have.
fn fingerprint(root: &Path, images: &[(&str, PathBuf)]) -> Result<u64, Failure> {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(&fs::read(root.join("Cargo.lock"))?);
    for (_, file) in images {
        hasher.write(&fs::read(file)?);
    }
    Ok(hasher.finish())
}

/// Writes the files that new plugin projects are made of: tables of their names and lengths, and their content, compressed
/// (0.1 MB instead of 0.6, of a program that is seldom asked for them).
fn templates(root: &Path, out: &Path) -> Result<(), Failure> {
    let mut files = Vec::new();
    gather(&root.join("host/templates"), "", &mut files)?;
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
        "/// Files of the templates: path below `host/templates`, and length.\n\
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

/// Compiles the stock plugins to core modules.
fn build(root: &Path, target: &Path) -> Result<(), Failure> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.current_dir(root).args(["build", "--profile", "plugin", "--target", TARGET, "--target-dir"]).arg(target);
    for name in STOCK {
        cargo.arg("-p").arg(format!("flowgate-plugin-{name}"));
    }
    // What the outer cargo says about itself (flags for the host's target, clippy as compiler, coverage) is not meant here.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let inherited =
            ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTDOCFLAGS"];
        if inherited.contains(&text.as_ref()) || text.starts_with("CARGO_PROFILE_") {
            cargo.env_remove(&name);
        }
    }
    let output = cargo.output().map_err(|error| format!("running cargo for the stock plugins: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let hint = if said.contains("target may not be installed") || said.contains("can't find crate for `core`") {
        format!("\n\nThe stock plugins need Rust's WebAssembly target. Install it with:  rustup target add {TARGET}\n")
    } else {
        String::new()
    };
    Err(format!("building the stock plugins failed:\n{said}{hint}").into())
}

fn variable(name: &str) -> Result<String, Failure> {
    env::var(name).map_err(|error| format!("cargo sets {name} for build scripts: {error}").into())
}
