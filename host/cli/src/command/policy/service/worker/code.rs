//! The compiled code of a tenant's plugins, in files in memory. Nothing of it is loaded in this process.

use std::fs::File;

use flowgate_config::{Diagnostic, SourceText};
use flowgate_pipeline::loader::LoadPluginError;
use flowgate_policy::Tenant;
use flowgate_runtime::{PluginEngine, PluginFile};

/// Returns the compiled code of each plugin of a tenant, in order: from the store, or from a process that compiles it.
/// Stored code is not used unless it is `trusted`.
///
/// # Errors
/// All problems, with their places in the policy.
pub(in crate::command) fn compile(
    text: &SourceText,
    tenant: &Tenant,
    engine: &PluginEngine,
    trusted: bool,
) -> Result<Vec<File>, Vec<Diagnostic>> {
    let mut code = Vec::new();
    let mut problems = Vec::new();
    for plugin in &tenant.plugins {
        let spec = tenant.plugin(plugin);
        let compiled = (|| -> Result<File, LoadPluginError> {
            // The hashed bytes are the compiled ones, even if the file changes meanwhile.
            let file = PluginFile::open(&spec.file)?;
            let found = file.digest();
            if spec.digest.as_ref().is_some_and(|expected| *expected != found) {
                return Err(LoadPluginError::Digest { path: spec.file.clone(), found });
            }
            // Kept for workers that are started later.
            Ok(engine.code(&file, spec.limits.compile, trusted)?)
        })();
        match compiled {
            Ok(compiled) => code.push(compiled),
            Err(error) => {
                problems.push(plugin.plugin.diagnostic(text, &plugin.options, Some(plugin.digest.offset), &error));
            }
        }
    }
    if problems.is_empty() { Ok(code) } else { Err(problems) }
}
