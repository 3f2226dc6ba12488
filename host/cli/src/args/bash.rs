//! Additions to the generated completion script for bash: files for arguments of subcommands, and the options of `-L`
//! and `-E` after the `--` of the subcommands that take them.

use clap::{Arg, Command, ValueHint};

/// Code that offers files and directories, as the generated script does for values of options.
const FILES: &str = r#"            local oldifs
            if [ -n "${IFS+x}" ]; then
                oldifs="$IFS"
            fi
            IFS=$'\n'
            COMPREPLY=($(compgen KIND -- "${cur}"))
            if [ -n "${oldifs+x}" ]; then
                IFS="$oldifs"
            else
                unset IFS
            fi
            if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                compopt -o filenames
            fi
            return 0
"#;

/// Adds a listing after the `--` of each subcommand that takes a classic command line there. For the generator it is a
/// subcommand of this name.
pub(super) fn with_listings(command: Command, listing: &Command) -> Command {
    let takes_words = |command: &Command| command.get_positionals().any(Arg::is_last_set);
    let names: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    let command =
        names.iter().fold(command, |command, name| command.mut_subcommand(name, |below| with_listings(below, listing)));
    if takes_words(&command) { command.disable_help_subcommand(true).subcommand(listing.clone()) } else { command }
}

/// Makes the script offer files for arguments that are files.
pub(super) fn with_files(script: &str, command: &Command) -> String {
    let mut blocks = Vec::new();
    file_blocks(command, &function(command.get_name()), &mut blocks);
    let mut text = String::with_capacity(script.len());
    let mut kind: Option<&str> = None;
    let words = "            COMPREPLY=( $(compgen -W \"${opts}\" -- \"${cur}\") )";
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        let header = line.strip_prefix("        ").and_then(|line| line.strip_suffix(')'));
        if let Some(name) = header.filter(|name| !name.starts_with(' ')) {
            kind = blocks.iter().find(|(block, _)| block == name).map(|(_, kind)| *kind);
        }
        match kind {
            Some(_) if line.starts_with("            if [[ ${cur} == -* || ${COMP_CWORD} -eq ") => {
                text.push_str("            if [[ ${cur} == -* ]] ; then\n");
            }
            Some(kind) if line == words => {
                text.push_str(&FILES.replace("KIND", kind));
                // The return that follows is already part of the code.
                lines.next();
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

/// Collects the blocks of the script for commands with a file among their arguments, each with the option of compgen.
fn file_blocks(command: &Command, block: &str, blocks: &mut Vec<(String, &'static str)>) {
    let kind = command.get_positionals().find_map(|argument| match argument.get_value_hint() {
        ValueHint::FilePath | ValueHint::AnyPath => Some("-f"),
        ValueHint::DirPath => Some("-d"),
        _ => None,
    });
    blocks.extend(kind.map(|kind| (block.to_owned(), kind)));
    for below in command.get_subcommands() {
        file_blocks(below, &format!("{block}__subcmd__{}", function(below.get_name())), blocks);
    }
}

/// Returns a name in the form that the generator uses for the names of blocks.
fn function(name: &str) -> String {
    name.replace('-', "__")
}
