//! The profile of a command line, which determines the privileges that it keeps. It covers everything that will run:
//! the lines of a load file, the command line after a subcommand, a pipeline file.

use std::ffi::OsString;

use super::policy;
use crate::args::{Invocation, PluginCommand, PolicyCommand, Subcommand};
use flowgate_config::Config;
use flowgate_policy::WorkerUids;
use flowgate_privileges::PrivilegeProfile;
use flowgate_syntax::{Command, ProgramName, Settings, Table};

/// Returns the profile of an invocation and the users of workers that it names; `file` is the content of the file that
/// it names, if it can be read.
pub(super) fn of(name: &ProgramName, invocation: &Invocation, file: Option<&[u8]>) -> (PrivilegeProfile, WorkerUids) {
    if let (Invocation::Subcommand(subcommand), Some(content)) = (invocation, file)
        && let Subcommand::Run(options) = subcommand.as_ref()
        && let Some(outline) = policy::outline(&options.file, content)
    {
        return (PrivilegeProfile::Service { namespaces: outline.namespaces }, outline.worker_uids);
    }
    (of_command(name, invocation, file), WorkerUids::Shared)
}

/// Returns the profile of an invocation that does not run a policy.
fn of_command(name: &ProgramName, invocation: &Invocation, file: Option<&[u8]>) -> PrivilegeProfile {
    const NEITHER: PrivilegeProfile = PrivilegeProfile::Command { namespaces: false, plugins: false };
    const PLUGINS: PrivilegeProfile = PrivilegeProfile::Command { namespaces: false, plugins: true };
    match invocation {
        Invocation::Run(settings) => of_all([settings.as_ref()]),
        Invocation::Load(file) => of_all(file.commands.iter().map(|command| command.settings.as_ref())),
        Invocation::Text(_) => NEITHER,
        Invocation::Subcommand(subcommand) => match subcommand.as_ref() {
            Subcommand::Doctor { .. } => PrivilegeProfile::Inspect,
            Subcommand::Run(_) => {
                let (plugins, namespaces) = file.map(Config::outline).unwrap_or_default();
                PrivilegeProfile::Command { namespaces, plugins }
            }
            Subcommand::Record { command, .. }
            | Subcommand::Replay { command, .. }
            | Subcommand::Top { command, .. } => of_words(name, command),
            Subcommand::Plugin { command: PluginCommand::New { .. } } => NEITHER,
            Subcommand::Plugin { .. } | Subcommand::Policy { command: PolicyCommand::Check { .. } } => PLUGINS,
            // An agent needs CAP_NET_ADMIN, which is kept; it runs no plugin.
            #[cfg(feature = "fleet")]
            Subcommand::Fleet { .. } => NEITHER,
            Subcommand::Policy { .. } | Subcommand::Audit(_) | Subcommand::Completions { .. } | Subcommand::Man => {
                NEITHER
            }
        },
    }
}

/// Returns the profile of several commands.
fn of_all<'a>(commands: impl IntoIterator<Item = &'a Settings>) -> PrivilegeProfile {
    let (mut namespaces, mut plugins) = (false, false);
    for settings in commands {
        namespaces |= settings.netns.is_some() || settings.all_netns;
        plugins |= !settings.plugins.is_empty();
    }
    PrivilegeProfile::Command { namespaces, plugins }
}

/// Returns the profile of the classic command line after a subcommand. A recording may decide between -L and -E, so the
/// words are parsed for both. An invalid command line needs no privileges.
fn of_words(name: &ProgramName, words: &[OsString]) -> PrivilegeProfile {
    let read = |command| {
        let mut warnings = Vec::new();
        flowgate_syntax::parse_classic(
            name,
            words,
            (command, Table::Conntrack),
            &flowgate_syntax::SystemEnvironment,
            &mut warnings,
        )
        .ok()
    };
    let both: Vec<Box<Settings>> = [Command::List, Command::Events].into_iter().filter_map(read).collect();
    of_all(both.iter().map(Box::as_ref))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    /// Returns the use of namespaces and of plugins by a command line with this file; `None` for duties of other kinds.
    fn of_line(line: &str, file: Option<&str>) -> Option<(bool, bool)> {
        let name = ProgramName::of(OsStr::new("flowgate"));
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let invocation = crate::args::parse(&name, &words, &flowgate_syntax::SystemEnvironment).result.unwrap();
        match of(&name, &invocation, file.map(str::as_bytes)).0 {
            PrivilegeProfile::Command { namespaces, plugins } => Some((namespaces, plugins)),
            _ => None,
        }
    }

    #[test]
    fn it_is_worked_out_from_what_will_run() {
        for (line, namespaces, plugins) in [
            ("-L", false, false),
            ("-L --plugin x.wasm", false, true),
            ("-L --netns blue", true, false),
            ("-E --all-netns", true, false),
            ("record f", false, false),
            ("record f -- -E --plugin=x.wasm", false, true),
            ("record f -- -L --netns blue", true, false),
            ("replay f -- --plugin x.wasm", false, true),
            ("replay f -- -e NEW --plugin x.wasm", false, true),
            ("replay f -- -p tcp", false, false),
            ("top -- --plugin x.wasm --netns 1", true, true),
            ("top", false, false),
            ("plugin test", false, true),
            ("plugin inspect x.wasm", false, true),
            ("plugin new x", false, false),
            ("policy check x.toml", false, true),
            ("policy status", false, false),
            ("man", false, false),
            ("audit", false, false),
        ] {
            assert_eq!(of_line(line, None), Some((namespaces, plugins)), "{line}");
        }
        assert_eq!(of_line("doctor", None), None);
    }

    #[test]
    fn lines_of_a_file_count() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        for (text, namespaces, plugins) in
            [("-D -s 192.0.2.1\n", false, false), ("-D -s 192.0.2.1\n-D -p tcp --plugin x.wasm\n", false, true)]
        {
            std::fs::write(&file, text).unwrap();
            assert_eq!(of_line(&format!("-R {}", file.display()), None), Some((namespaces, plugins)), "{text}");
        }
        std::fs::write(&file, "-F\n").unwrap();
        assert_eq!(of_line(&format!("-R {} --netns blue", file.display()), None), Some((true, false)));
    }

    #[test]
    fn pipeline_files_count() {
        for (text, namespaces, plugins) in [
            ("[source]\nkind = 'dump'\n", false, false),
            ("[source]\nkind = 'dump'\nnetns = 'blue'\n", true, false),
            ("source.kind = 'dump'\nsource.netns = 'blue'\n", true, false),
            ("[source]\nkind = 'dump'\n[[stage]]\nmatch = '-p tcp'\n", false, false),
            ("[source]\nkind = 'dump'\n[[stage]]\nplugin = 'x.wasm'\n", false, true),
            ("stage = [{ match = '-p tcp' }, { plugin = 'x.wasm' }]\n", false, true),
            ("[source]\nkind = 'dump'\n[format]\nplugin = 'x.wasm'\n", false, true),
        ] {
            assert_eq!(of_line("run file", Some(text)), Some((namespaces, plugins)), "{text}");
        }
        let service = "[service]\nworker-uids = '7-9'\n[[tenant]]\nname = 'x'\n";
        assert_eq!(of_line("run file", Some(service)), None);
        assert_eq!(policy::outline("file".as_ref(), service.as_bytes()).unwrap().worker_uids, WorkerUids::Range(7, 9));
        assert_eq!(of_line("run file", None), Some((false, false)));
    }
}
