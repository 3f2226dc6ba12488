//! Runs one command line through both programs and reports how they differ.

use crate::conformance::line::Line;
use flowgate_test_support::{Namespace, Outcome, Program, flowgate};
use std::time::Instant;

/// How a command line is run. By default as root, with both programs invoked as `conntrack`.
#[derive(Clone, Debug, Default)]
pub(super) struct Setting {
    /// `argv[0]` of both programs.
    pub called: Option<&'static str>,
    /// Environment variables of both programs.
    pub environment: Vec<(&'static str, &'static str)>,
    /// Words passed to flowgate only, before the others.
    pub ours_only: Vec<&'static str>,
}

/// Both programs.
#[derive(Clone, Debug)]
pub(super) struct Both {
    /// The installed `conntrack`.
    pub theirs: Program,
    /// The program under test.
    pub ours: Program,
}

impl Both {
    /// Returns the installed `conntrack`, and the `flowgate` that this test was built with, invoked as `conntrack`.
    ///
    /// `FLOWGATE_UNDER_TEST` names another program to test, in order to check the tests themselves.
    pub(super) fn new() -> Self {
        Self { theirs: Program::new("conntrack"), ours: flowgate().called("conntrack") }
    }

    /// Returns the `flowgate` that this test was built with, under its own name.
    pub(super) fn own() -> Program {
        Program { called: Some("flowgate".into()), ..Self::new().ours }
    }

    /// Returns both programs with a setting applied.
    pub(super) fn under(setting: &Setting) -> Self {
        let mut both = Self::new();
        for program in [&mut both.theirs, &mut both.ours] {
            program.called = Some(setting.called.unwrap_or("conntrack").into());
            program.environment =
                setting.environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        }
        both
    }

    /// Returns the version of the installed `conntrack`, for example `1.4.7`.
    pub(super) fn version() -> String {
        let text = Program::new("conntrack").must(&["-V"]);
        let version = text.strip_prefix("conntrack v").and_then(|rest| rest.split(' ').next());
        version.unwrap_or_else(|| panic!("conntrack -V printed {text:?}")).to_owned()
    }
}

/// The version of `conntrack` that flowgate is compatible with. Its banner names this version because programs parse
/// it.
const COMPATIBLE: &str = "1.4.9";

/// The banners in the error lines of each program; flowgate's depends on the name by which it is invoked.
fn banners() -> [Vec<String>; 2] {
    let theirs = vec![format!("conntrack v{} (conntrack-tools): ", Both::version())];
    // `FLOWGATE_UNDER_TEST` may name conntrack itself, in order to check the tests.
    let ours = match flowgate().must(&["-V"]).contains("flowgate") {
        false => theirs.clone(),
        true => vec![format!("conntrack v{COMPATIBLE} (conntrack-tools): "), "flowgate: ".to_owned()],
    };
    [theirs, ours]
}

/// Returns standard error without the banner of the respective program.
pub(super) fn without_banner(outcome: &Outcome, ours: bool) -> String {
    static BANNERS: std::sync::OnceLock<[Vec<String>; 2]> = std::sync::OnceLock::new();
    let banners = &BANNERS.get_or_init(banners)[usize::from(ours)];
    let rest = |line: &str| banners.iter().find_map(|banner| Some(format!("BANNER {}", line.strip_prefix(banner)?)));
    let text = outcome.errors();
    text.split_inclusive('\n').map(|line| rest(line).unwrap_or_else(|| line.to_owned())).collect()
}

/// Collects disagreements, so that one run reports them all.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// What was compared, for the first line of the failure message.
    about: String,
    /// How many command lines were compared.
    compared: usize,
    failures: Vec<String>,
}

impl Report {
    /// Creates an empty report about `about`.
    pub(super) fn new(about: impl Into<String>) -> Self {
        Self { about: about.into(), ..Self::default() }
    }

    /// Compares one command line.
    pub(super) fn check(&mut self, namespace: &Namespace, setting: &Setting, arguments: &[&str]) {
        self.compared += 1;
        self.failures.extend(compare(namespace, setting, arguments));
    }

    /// Compares a command line written as words separated by spaces; `''` is an empty word.
    pub(super) fn words(&mut self, namespace: &Namespace, setting: &Setting, line: &str) {
        self.check(namespace, setting, &words(line));
    }

    /// Compares the outcomes of both programs, where no single command line works for both.
    pub(super) fn outcomes(&mut self, what: &str, theirs: &Outcome, ours: &Outcome) {
        /// Seconds by which timeouts and ages may differ, because the programs did not run at the same time.
        const APART: u64 = 5;
        self.compared += 1;
        self.failures.extend(disagreement(theirs, ours, APART).map(|found| format!("$ {what}\n{found}")));
    }

    /// Panics with all disagreements, or prints how much was compared.
    pub(super) fn finish(self) {
        let shown_at_most = std::env::var("FLOWGATE_SHOWN").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
        let Self { about, compared, failures } = self;
        assert!(compared > 0, "{about}: nothing was compared");
        if failures.is_empty() {
            println!("{about}: {compared} command lines agree");
            return;
        }
        let shown = failures.iter().take(shown_at_most).cloned().collect::<Vec<_>>().join("\n");
        panic!(
            "{about}: {} disagreements in {compared} command lines; the first {shown_at_most}:\n{shown}",
            failures.len()
        );
    }
}

pub(super) use flowgate_test_support::words;

/// Runs one command line through both programs. Returns `None` if they agree, or a description of the difference.
pub(super) fn compare(_: &Namespace, setting: &Setting, arguments: &[&str]) -> Option<String> {
    let both = Both::under(setting);
    let mut ours_words = setting.ours_only.clone();
    ours_words.extend(arguments);
    // The table may change between the two calls. This is not guessed from the difference: conntrack is run again.
    for _ in 0..3 {
        let start = Instant::now();
        let theirs = both.theirs.run(arguments);
        let ours = both.ours.run(&ours_words);
        let allowed = start.elapsed().as_secs() + 1;
        let found = disagreement(&theirs, &ours, allowed)?;
        let again = both.theirs.run(arguments);
        if disagreement_of_lines(&theirs, &again, start.elapsed().as_secs() + 1).is_none() {
            return Some(format!("$ {}\n{found}", show(arguments)));
        }
    }
    panic!("$ conntrack {}: the table does not stand still", show(arguments));
}

/// Returns the command line as a user would type it.
pub(super) fn show(arguments: &[&str]) -> String {
    let quoted = arguments.iter().map(|word| {
        match word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c)) {
            true if !word.is_empty() => (*word).to_owned(),
            _ => format!("'{word}'"),
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Returns the difference between two outcomes; `allowed` seconds may have passed between them.
fn disagreement(theirs: &Outcome, ours: &Outcome, allowed: u64) -> Option<String> {
    let mut found = String::new();
    if theirs.status != ours.status {
        found += &format!("  status: conntrack {}, flowgate {}\n", theirs.status, ours.status);
    }
    let errors = [without_banner(theirs, false), without_banner(ours, true)];
    if errors[0] != errors[1] {
        found += &format!("  stderr: conntrack {:?}\n          flowgate  {:?}\n", errors[0], errors[1]);
    }
    found += &disagreement_of_lines(theirs, ours, allowed).unwrap_or_default();
    (!found.is_empty()).then_some(found)
}

/// Returns the difference between two standard outputs.
fn disagreement_of_lines(theirs: &Outcome, ours: &Outcome, allowed: u64) -> Option<String> {
    const SHOWN: usize = 3;
    if theirs.stdout.last() != ours.stdout.last() && (theirs.stdout.is_empty() == ours.stdout.is_empty()) {
        return Some("  stdout: one ends with a new line, the other does not\n".into());
    }
    let [mut left, mut right] = [theirs, ours].map(|outcome| outcome.text().lines().map(Line::new).collect::<Vec<_>>());
    let frames = |lines: &[Line]| {
        let flows = |line: &Line| !line.frames();
        let (first, last) = (lines.iter().position(flows), lines.iter().rposition(flows));
        let place = |at: usize| (first.is_some_and(|first| at > first), last.is_some_and(|last| at > last));
        lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.frames())
            .map(|(at, line)| (line.clone(), place(at)))
            .collect::<Vec<_>>()
    };
    if frames(&left) != frames(&right) {
        return Some(format!(
            "  lines around the flows: conntrack {:?}\n    flowgate {:?}\n",
            frames(&left),
            frames(&right)
        ));
    }
    left.sort();
    right.sort();
    let near = |a: &Line, b: &Line| {
        a.times.len() == b.times.len() && a.times.iter().zip(&b.times).all(|(a, b)| a.abs_diff(*b) <= allowed)
    };
    // Both are sorted by the part that must be equal, so one pass pairs them.
    let (mut only_left, mut only_right, mut far, mut i, mut j) = (Vec::new(), Vec::new(), Vec::new(), 0, 0);
    while i < left.len() || j < right.len() {
        match (left.get(i), right.get(j)) {
            (Some(a), Some(b)) if a.rest == b.rest => {
                if !near(a, b) {
                    far.push((a.clone(), b.clone()));
                }
                (i, j) = (i + 1, j + 1);
            }
            (Some(a), b) if b.is_none_or(|b| a.rest < b.rest) => {
                only_left.push(a);
                i += 1;
            }
            (_, b) => {
                only_right.extend(b);
                j += 1;
            }
        }
    }
    let mut found = String::new();
    for (whose, lines) in [("conntrack", only_left), ("flowgate ", only_right)] {
        for line in lines.iter().take(SHOWN) {
            found += &format!("  only {whose}: {} {:?}\n", line.rest, line.times);
        }
        if lines.len() > SHOWN {
            found += &format!("  only {whose}: ... {} lines in all\n", lines.len());
        }
    }
    for (a, b) in far.iter().take(SHOWN) {
        found += &format!(
            "  times: conntrack {:?}, flowgate {:?}, at most {allowed} s apart allowed: {}\n",
            a.times, b.times, a.rest
        );
    }
    (!found.is_empty()).then_some(found)
}
