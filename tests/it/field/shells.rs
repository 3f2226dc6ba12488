//! Completions, the manual page, and the help text.

use std::process::{Command, Stdio};

use flowgate_test_support::Namespace;

use crate::field::flowgate;

/// Starts a bash with the program's completions, in a directory with these files; returns the candidates for the last
/// word of each line.
fn offered(namespace: &Namespace, lines: &[&str]) -> Vec<Vec<String>> {
    let directory = namespace.directory();
    let completions = directory.join("completions.sh");
    std::fs::write(&completions, flowgate().must(&["completions", "bash"])).unwrap();
    let place = directory.join("place");
    std::fs::create_dir_all(place.join("folder")).unwrap();
    for name in ["pipeline.toml", "a b.pcap"] {
        std::fs::write(place.join(name), "").unwrap();
    }
    // `complete -p` prints the completion function; its candidates are in COMPREPLY.
    let script = r#"
        source "$1"
        compopt() { :; }
        function=$(complete -p flowgate | sed 's/.*-F \([^ ]*\) .*/\1/')
        while IFS= read -r line; do
            read -r -a COMP_WORDS <<< "$line"
            case "$line" in *' ') COMP_WORDS+=('') ;; esac
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$line COMP_POINT=${#line} COMPREPLY=()
            "$function" flowgate "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\t' "${COMPREPLY[@]}"
            echo
        done
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash"]).arg(&completions).current_dir(&place);
    let mut child = bash.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bash");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), (lines.join("\n") + "\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let words = |line: &str| line.split('\t').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let offered: Vec<Vec<String>> = text.lines().map(words).collect();
    assert_eq!(offered.len(), lines.len(), "{text}");
    offered
}

#[test]
fn case_38_bash_offers_files_and_behind_two_hyphens_options_of_listings() {
    Namespace::run(|namespace| {
        let files = [
            "flowgate run ",
            "flowgate run --check ",
            "flowgate record ",
            "flowgate replay ",
            "flowgate top ",
            "flowgate -R ",
        ];
        for (line, mut offered) in files.iter().zip(offered(namespace, &files)) {
            offered.sort();
            assert_eq!(offered, ["a b.pcap", "folder", "pipeline.toml"], "{line}");
        }
        let begun =
            ["flowgate run p", "flowgate policy check p", "flowgate plugin inspect p", "flowgate -L --plugin p"];
        for (line, offered) in begun.iter().zip(offered(namespace, &begun)) {
            assert_eq!(offered, ["pipeline.toml"], "{line}");
        }
        let behind = [
            "flowgate record x.pcap -- --",
            "flowgate replay x.pcap -- --",
            "flowgate top -- --",
            "flowgate plugin run x.wasm x.pcap -- --",
        ];
        for (line, offered) in behind.iter().zip(offered(namespace, &behind)) {
            for option in ["--src", "--protonum", "--state", "--plugin"] {
                assert!(offered.iter().any(|word| word == option), "{line}{option}: {offered:?}");
            }
            for option in ["--delete", "--flush", "--check"] {
                assert!(!offered.iter().any(|word| word == option), "{line}{option}: {offered:?}");
            }
        }
    });
}

#[test]
fn case_41_the_manual_page_and_the_help_say_what_people_ask() {
    // Roff without requests and escapes, and with spaces collapsed: approximately what a reader sees.
    let page = flowgate().must(&["man"]);
    let lines = page.lines().map(|line| line.trim_start_matches(".TP").trim_start_matches(".PP"));
    let page = lines.collect::<Vec<_>>().join(" ").replace("\\fB", "").replace("\\fI", "").replace("\\fR", "");
    let page = page.replace("\\-", "-").split_whitespace().collect::<Vec<_>>().join(" ");
    let help = flowgate().must(&["help", "all"]);
    for (name, text) in [("man", &page), ("help all", &help)] {
        // How to install the program in place of conntrack, and that -n alone means "translated".
        assert!(text.contains("ln -s"), "{name} does not mention the link");
        assert!(text.contains("without a value any") || text.contains("translated at all"), "{name}: -n");
        // Every option specific to flowgate.
        for option in [
            "--plugin",
            "--batch",
            "--grant",
            "--on-error",
            "--dry-run",
            "--plugin-stats",
            "--buffer-max",
            "--reliable",
            "--resync",
            "--metrics",
            "--netns",
            "--all-netns",
            "--explain",
            "--quiet",
            "--all",
            "--labels",
            "--helper",
            "--orig-seqadj",
            "--reply-seqadj",
            "--orig-tcp-flags",
            "--reply-tcp-flags",
            "--orig-wscale",
            "--reply-wscale",
            "--synproxy",
            "--master",
            "--keep-going",
            "--set-zone",
            "--columns",
            "--no-header",
            "--color",
        ] {
            assert!(text.contains(option), "{name} leaves out {option}");
        }
    }
    assert!(page.contains("FLOWGATE_AS"), "man");
    // Invoked as conntrack, it mentions none of these.
    let classic = flowgate().called("conntrack").must(&["-h"]);
    assert!(!classic.contains("--plugin") && !classic.contains("ln -s"), "{classic}");
}

/// Errors in the command line of a subcommand are reported after the program's name, like all others.
#[test]
fn case_30_subcommands_say_what_is_wrong_behind_the_name() {
    for (line, expected) in [
        ("policy relaod", "a similar subcommand exists: 'reload'"),
        ("plugin inpsect x", "a similar subcommand exists: 'inspect'"),
        ("help polcy", "'polcy'"),
        ("run", "<FILE>"),
        ("run --chekc x", "'--check'"),
        ("completions tcsh", "bash, zsh, fish"),
        ("top --interval 5x", "it takes a time such as \"10s\""),
        ("record --duration -5 x", "record"),
        ("man -L", "'-L'"),
    ] {
        let outcome = flowgate().run(&line.split(' ').collect::<Vec<_>>());
        let errors = outcome.errors();
        assert_eq!((outcome.status, outcome.stdout.len()), (2, 0), "{line}: {errors}");
        assert!(errors.starts_with("flowgate: ") && errors.contains(expected), "{line}: {errors}");
    }
}

/// An unknown option is reported as it was typed, whereas `conntrack` reports the word before the one at which it
/// stopped.
#[test]
fn case_04_an_unknown_option_is_reported_as_it_was_typed() {
    for word in ["-D-p", "-X", "--no-such", "-LX", "-DX"] {
        let own = flowgate().run(&[word, "udp"]);
        assert_eq!((own.status, own.stdout.len()), (2, 0), "{word}: {own:?}");
        assert!(own.errors().starts_with(&format!("flowgate: unknown option `{word}'\n")), "{word}: {own:?}");
        let classic = flowgate().called("/sbin/conntrack").run(&[word, "udp"]);
        let reported = if word.len() > 2 && !word.starts_with("--") { "/sbin/conntrack" } else { word };
        // For an unknown last letter of a word, the word is reported.
        let reported = if matches!(word, "-LX" | "-DX") { word } else { reported };
        assert_eq!(classic.status, 2);
        assert!(classic.errors().contains(&format!(": unknown option `{reported}'\n")), "{word}: {classic:?}");
    }
}
