//! `plugin test`: runs the cases of directories and reports differences from the expected output.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::{
    super::{CommandError, Exit},
    error::ToolError,
    report::{CaseReport, Reporter, Verdict},
    suite::{Case, Expected, Suite},
    trial::TriedPlugin,
};
use crate::args::Report;
use flowgate_base::files;
use flowgate_pipeline::sink::Sink;

/// Options of the subcommand.
pub(super) struct TestOptions<'a> {
    /// Directories with a test.toml.
    pub directories: &'a [PathBuf],
    /// The plugin, which takes precedence over test.toml.
    pub plugin: Option<&'a Path>,
    /// Text that the names of the cases must contain.
    pub case: Option<&'a str>,
    /// True if the actual output becomes the expected output.
    pub bless: bool,
}

/// Runs the subcommand.
pub(super) fn run(options: &TestOptions<'_>, output: Report, sink: &mut dyn Sink) -> Result<Exit, CommandError> {
    let here = [PathBuf::from(".")];
    let directories = if options.directories.is_empty() { &here[..] } else { options.directories };
    let mut reporter = Reporter::new(output, sink);
    for directory in directories {
        match suite(options, directory, &mut reporter) {
            Ok(()) => {}
            Err(CommandError::BrokenPipe) => return Err(CommandError::BrokenPipe),
            Err(error) => reporter.broken(directory, &error.to_string())?,
        }
    }
    reporter.summary()
}

/// Runs the cases of a directory.
fn suite(options: &TestOptions<'_>, directory: &Path, reporter: &mut Reporter<'_>) -> Result<(), CommandError> {
    let suite = Suite::read(directory)?;
    let file = match (options.plugin, &suite.plugin) {
        (Some(file), _) => file.to_path_buf(),
        (None, Some(file)) => file.clone(),
        (None, None) => found(directory)?,
    };
    let plugin = TriedPlugin::compile(&file)?;
    reporter.suite(&suite.directory, &file)?;
    let cases = suite.cases.iter().filter(|case| options.case.is_none_or(|text| case.name.contains(text)));
    for case in cases {
        let verdict = match case_of(&plugin, &suite, case, options.bless) {
            Ok(verdict) => verdict,
            Err(error) => Verdict::Failed { message: error.to_string(), expected: None },
        };
        reporter.case(&CaseReport { directory, plugin: &file, name: &case.name, verdict })?;
    }
    Ok(())
}

/// Runs a case and compares its output.
fn case_of(plugin: &TriedPlugin, suite: &Suite, case: &Case, bless: bool) -> Result<Verdict, ToolError> {
    let result = plugin.run(&suite.labels, case);
    let failed = |message: String| Ok(Verdict::Failed { message, expected: None });
    let transcript = match (&case.expected, result) {
        (Expected::Error(expected), Err(said)) if said.contains(expected.as_str()) => return Ok(Verdict::Passed),
        (Expected::Error(expected), Err(said)) => {
            return failed(format!("it failed otherwise than expected: {said}\nexpected was: {expected}"));
        }
        (Expected::Error(expected), Ok(_)) => {
            return failed(format!("it was expected to fail, and did not; expected was: {expected}"));
        }
        (_, Err(said)) => return failed(said),
        (_, Ok(transcript)) => transcript,
    };
    let expected = match &case.expected {
        Expected::Inline(text) => text.clone(),
        Expected::File(path) => match files::read(path, files::MAX_FIXTURE_FILE) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) if bless => String::new(),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Verdict::Failed {
                    message: format!(
                        "{} does not exist; --bless writes it, if this is right:",
                        flowgate_base::text::path_text(path)
                    ),
                    expected: Some((String::new(), transcript)),
                });
            }
            Err(source) => return Err(ToolError::Read { path: path.clone(), source }),
        },
        Expected::Error(_) => String::new(),
    };
    let (expected, transcript) = (ended(expected), ended(transcript));
    match &case.expected {
        _ if expected == transcript => Ok(Verdict::Passed),
        Expected::File(path) if bless => {
            write(path, &transcript)?;
            Ok(Verdict::Blessed)
        }
        Expected::Inline(_) if bless => Ok(Verdict::Failed {
            message: "--bless writes files only; change expect = in test.toml by hand:".into(),
            expected: Some((expected, transcript)),
        }),
        Expected::File(path) => Ok(Verdict::Failed {
            message: format!("{} (-) and what came out (+):", flowgate_base::text::path_text(path)),
            expected: Some((expected, transcript)),
        }),
        _ => Ok(Verdict::Failed {
            message: "what is expected (-) and what came out (+):".into(),
            expected: Some((expected, transcript)),
        }),
    }
}

/// Returns a text with exactly one newline at its end, and none at its beginning.
fn ended(text: String) -> String {
    let trimmed = text.trim_matches('\n');
    if trimmed.is_empty() { String::new() } else { format!("{trimmed}\n") }
}

fn write(path: &Path, text: &str) -> Result<(), ToolError> {
    let failed = |source| ToolError::Write { path: path.into(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

/// Returns the plugin in the usual output directories of a build; the newest one if there are several.
fn found(directory: &Path) -> Result<PathBuf, ToolError> {
    let whole = fs::canonicalize(directory).map_err(|source| ToolError::Read { path: directory.into(), source })?;
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let names = [format!("{}.wasm", name.replace('-', "_")), format!("{name}.wasm"), "plugin.wasm".into()];
    let mut places: Vec<PathBuf> =
        vec![whole.clone(), whole.join("build"), whole.join("dist"), whole.join("zig-out/bin")];
    // A package of a workspace is built into the workspace's target directory.
    let own = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let targets = own.into_iter().chain(whole.ancestors().take(4).map(|parent| parent.join("target")));
    for target in targets {
        for triple in ["wasm32-unknown-unknown", "wasm32-wasip2", "wasm32-wasip1"] {
            for profile in ["plugin", "release", "debug"] {
                places.push(target.join(triple).join(profile));
            }
        }
    }
    let candidates = places.iter().flat_map(|place| names.iter().map(|name| place.join(name)));
    let changed = |path: &PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    candidates.filter_map(|path| Some((changed(&path)?, path))).max().map(|(_, path)| path).ok_or_else(|| {
        let [first, second, third] = &names;
        ToolError::NoPlugin {
            directory: directory.into(),
            looked: vec![format!("{first}, {second} or {third} there, in build/, dist/ and target/wasm32-*/*/, and in the target/ of the directories above")],
        }
    })
}
