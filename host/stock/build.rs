//! Builds the stock plugins, turns them into components, and compiles these ahead of time, so that the program carries
//! them ready to run: nothing is read from disk or copied, and no memory is made executable.
//!
//! A published package does not have the plugins beside it, but contains the components (`make components`).

use std::{
    env, fs,
    hash::Hasher as _,
    path::{Path, PathBuf},
    process::Command,
};

#[path = "build/symbols.rs"]
mod symbols;

#[path = "src/config.rs"]
#[allow(unreachable_pub, reason = "public in the library")]
mod config;

/// The stock plugins: packages `flowgate-plugin-NAME` in `plugins/NAME`.
const STOCK: &[&str] =
    &["match", "aggregate", "delete", "update", "create", "text", "xml", "save", "json", "counters", "table"];

/// Built beside them: tests and benchmarks load it from its file.
const BESIDE: &str = "pass";

const TARGET: &str = "wasm32-unknown-unknown";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(variable("OUT_DIR")?);
    for input in ["build.rs", "build", "src/config.rs"] {
        println!("cargo::rerun-if-changed={input}");
    }
    // Every package contains the manifest as it was written.
    let (components, lock) = if here.join("Cargo.toml.orig").exists() {
        println!("cargo::rerun-if-changed=components");
        (packed(&here.join("components"))?, here.join("Cargo.lock"))
    } else {
        let root = here.join("../..");
        for input in ["plugins", "wit", "Cargo.lock"] {
            println!("cargo::rerun-if-changed={}", root.join(input).display());
        }
        // Next to the outer build's directory, so that the plugins are reused for another profile or after a change of
        // the host.
        let target = out.ancestors().nth(4).unwrap_or(&out).join("stock-plugins");
        build(&root, &target)?;
        (made(&target)?, root.join("Cargo.lock"))
    };
    let images = compile(&components, &out)?;
    fs::write(out.join("stock.rs"), table(&images)?)?;
    println!("cargo::rustc-env=FLOWGATE_BUILD={:016x}", fingerprint(&lock, &images)?);
    Ok(())
}

/// Returns the components of a published package.
fn packed(directory: &Path) -> Result<Vec<(&'static str, Vec<u8>)>, Failure> {
    STOCK
        .iter()
        .map(|name| {
            let file = directory.join(format!("{name}.wasm"));
            let component = fs::read(&file)
                .map_err(|error| format!("{}: {error}; a package is made after `make components`", file.display()))?;
            Ok((*name, component))
        })
        .collect()
}

/// Turns the modules of the stock plugins into components.
fn made(target: &Path) -> Result<Vec<(&'static str, Vec<u8>)>, Failure> {
    STOCK
        .iter()
        .map(|name| {
            let module = target.join(TARGET).join("plugin").join(format!("flowgate_plugin_{name}.wasm"));
            let stripped = nameless(&fs::read(&module)?).ok_or("a module with sections of another form")?;
            let component = wit_component::ComponentEncoder::default()
                .module(&stripped)
                .and_then(|encoder| encoder.validate(true).encode())
                .map_err(|error| format!("making a component of {}: {error:#}", module.display()))?;
            Ok((*name, component))
        })
        .collect()
}

/// Returns a module without the names of its functions, which compiled code would carry. Cargo has them removed
/// (`strip`), except from packages with settings of their own in the profile.
fn nameless(module: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 8;
    const CUSTOM: u8 = 0;
    let mut kept = module.get(..HEADER)?.to_vec();
    let mut rest = module.get(HEADER..)?;
    while let [id, after @ ..] = rest {
        let (length, bytes) = number(after)?;
        let content = bytes.get(..length)?;
        let (section, next) = rest.split_at_checked(rest.len() - bytes.len() + length)?;
        let name = number(content).and_then(|(length, bytes)| bytes.get(..length));
        if *id != CUSTOM || name != Some(b"name") {
            kept.extend_from_slice(section);
        }
        rest = next;
    }
    Some(kept)
}

/// Reads a number of WebAssembly (LEB128), and returns what follows it.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        number |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(index + 1..)?));
        }
    }
    None
}

/// Compiles the components; returns names and paths of the compiled code.
fn compile(components: &[(&'static str, Vec<u8>)], out: &Path) -> Result<Vec<(&'static str, PathBuf)>, Failure> {
    let target = variable("TARGET")?;
    let engine = |grows: bool| {
        let mut settings = config::stock(grows);
        // Naming the target excludes the CPU features of the building machine: the code runs on any machine of the
        // architecture.
        settings.target(&target)?;
        // Stock plugins are the project's own code and have no access to secrets, so that mitigations of speculative
        // reads across a bounds check are not needed.
        // SAFETY: the flag chooses between two correct forms of a bounds check.
        #[allow(unsafe_code)]
        unsafe {
            settings.cranelift_flag_set("enable_heap_access_spectre_mitigation", "false");
        }
        wasmtime::Engine::new(&settings)
    };
    let (fixed, growing) = (engine(false)?, engine(true)?);
    components
        .iter()
        .map(|(name, component)| {
            let compiled = out.join(format!("{name}.cwasm"));
            let engine = if config::grows(name) { &growing } else { &fixed };
            let code = engine.precompile_component(component)?;
            let code =
                symbols::removed(&code).ok_or("wasmtime lays compiled code out in another way than is known here")?;
            fs::write(&compiled, code)?;
            Ok((*name, compiled))
        })
        .collect()
}

/// Generates the file that `src/lib.rs` includes: an image for each stock plugin, and their table.
fn table(images: &[(&str, PathBuf)]) -> Result<String, Failure> {
    // The alignment that wasmtime uses for compiled code: the largest page size of the architecture.
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

/// Distinguishes builds whose compilers may differ, by the compiled stock plugins and the versions of libraries.
fn fingerprint(lock: &Path, images: &[(&str, PathBuf)]) -> Result<u64, Failure> {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(&fs::read(lock)?);
    for (_, file) in images {
        hasher.write(&fs::read(file)?);
    }
    Ok(hasher.finish())
}

/// Compiles the stock plugins to core modules.
fn build(root: &Path, target: &Path) -> Result<(), Failure> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.current_dir(root).args(["build", "--profile", "plugin", "--target", TARGET, "--target-dir"]).arg(target);
    for name in STOCK.iter().chain([&BESIDE]) {
        cargo.arg("-p").arg(format!("flowgate-plugin-{name}"));
    }
    // Settings of the outer cargo (flags for the host's target, clippy as compiler, coverage) do not apply here.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let inherited =
            ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTDOCFLAGS"];
        if inherited.contains(&text.as_ref()) || text.starts_with("CARGO_PROFILE_") {
            cargo.env_remove(&name);
        }
    }
    // Functions of more than a small size are called, and not repeated at each call: 5 % less code than with LLVM's
    // threshold of 225. Those marked `#[inline]` have a threshold of their own.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Cllvm-args=-inline-threshold=60");
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
