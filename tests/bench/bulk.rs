//! Changes to many entries: each run has a table of its own, since it changes the table.

use crate::{
    measure::{self, Figures, Sink},
    report::Row,
    settings::Settings,
};
use flowgate_test_support::{Namespace, Program, entries};

/// Number of flows that a load file creates.
const LOADED: u32 = 60_000;
/// Placeholder for that file in a command line.
const CREATES: &str = "CREATES";
/// Placeholder for a file in which each line deletes the flows of one address.
const DELETES: &str = "DELETES";
/// Number of its lines. conntrack reads the whole table for each.
const DELETED: u32 = 20;

/// A case of the comparison.
pub(crate) struct Case {
    pub name: &'static str,
    words: &'static [&'static str],
    /// Additional words for flowgate, which `conntrack` does not know.
    more: &'static [&'static str],
    /// True if flowgate is invoked as `conntrack`.
    called: bool,
    /// Goal for the wall clock, as a share of that of `conntrack`.
    wall: f64,
}

// conntrack 1.4.7 updates no flow unless a family is given (EOPNOTSUPP), and no more than about 250: it reads only one
// of the two replies to each of its requests, and fails when the others have filled its buffer (ENOBUFS).
pub(crate) const CASES: [Case; 7] = [
    Case { name: "-D -p udp", words: &["-D", "-p", "udp"], more: &[], called: false, wall: 0.45 },
    Case { name: "-D -p udp --quiet", words: &["-D", "-p", "udp"], more: &["--quiet"], called: false, wall: 0.45 },
    Case {
        name: "-U of some 20",
        words: &["-U", "-f", "ipv4", "-p", "udp", "-s", "10.0.0.0/26", "-m", "7"],
        more: &[],
        called: false,
        wall: 0.45,
    },
    Case {
        name: "-U -f ipv4 -p udp -m 7",
        words: &["-U", "-f", "ipv4", "-p", "udp", "-m", "7"],
        more: &[],
        called: false,
        wall: 0.45,
    },
    Case { name: "-R, 60,000 creates", words: &["-R", CREATES], more: &[], called: false, wall: 0.6 },
    // Invoked as conntrack, flowgate stops where conntrack stops, and sends one request at a time.
    Case { name: "-R, 60,000 creates, called conntrack", words: &["-R", CREATES], more: &[], called: true, wall: 0.65 },
    Case { name: "-R, 20 deletes", words: &["-R", DELETES], more: &[], called: false, wall: 0.15 },
];

/// Runs the selected cases for both programs in turn.
pub(crate) fn run(settings: &Settings) -> Vec<Row> {
    if !CASES.iter().any(|case| settings.chooses(case.name)) {
        return Vec::new();
    }
    let Settings { flows, rounds, program: ours, .. } = settings;
    let (flows, rounds) = (*flows, (*rounds).min(3));
    let table = entries::busy(flows);
    let file = |word: &str| std::env::temp_dir().join(format!("flowgate-bench-{}-{word}", std::process::id()));
    let deletes: String = (1..=DELETED).map(|number| format!("-D -s 10.0.0.{number}\n")).collect();
    std::fs::write(file(CREATES), entries::busy(LOADED).join("\n")).expect("a file of creates");
    std::fs::write(file(DELETES), deletes).expect("a file of deletes");
    let mut rows = Vec::new();
    let directory = std::env::temp_dir().join(format!("flowgate-bench-{}", std::process::id()));
    std::fs::create_dir(&directory).expect("a directory of this run");
    // Both are invoked as `conntrack` if the case requires it.
    let links = [Some(ours), settings.before.as_ref()].map(|program| {
        let Some(program) = program else { return "conntrack".to_owned() };
        let link = directory.join(if program == ours { "ours" } else { "before" }).join("conntrack");
        std::fs::create_dir_all(link.parent().expect("a directory")).expect("a directory of this run");
        std::os::unix::fs::symlink(std::path::absolute(program).expect("a path"), &link).expect("a link");
        link.display().to_string()
    });
    for Case { name, words, more, called, wall } in CASES.into_iter().filter(|case| settings.chooses(case.name)) {
        let load = words.contains(&CREATES);
        let word = |word: &&str| match *word {
            CREATES | DELETES => file(word).display().to_string(),
            _ => (*word).to_owned(),
        };
        let words: Vec<String> = words.iter().map(word).collect();
        let mut figures = [Vec::new(), Vec::new()];
        let mut failure = None;
        let mut changed = [0; 2];
        for _ in 0..rounds {
            let programs = if called { [&links[1], &links[0]].map(String::as_str) } else { [settings.other(), ours] };
            for (at, program) in programs.into_iter().enumerate() {
                if at == 0 && failure.is_some() {
                    continue;
                }
                let run = Namespace::run(|namespace| {
                    if !load {
                        entries::load(namespace, &table);
                    }
                    let before = entries::count(namespace);
                    let more = if at == 0 && settings.before.is_none() { &[][..] } else { more };
                    let words: Vec<String> =
                        words.iter().cloned().chain(more.iter().map(|word| (*word).to_owned())).collect();
                    let run = measure::attempt(program, &words, Sink::Null);
                    let marked = || Program::new("conntrack").run(&["-L", "-f", "ipv4", "-p", "udp", "-m", "7"]);
                    changed[at] = if words[0] == "-U" {
                        marked().text().lines().count()
                    } else {
                        before.abs_diff(entries::count(namespace))
                    };
                    run
                });
                match run {
                    Ok(run) => figures[at].push(run),
                    Err(error) if at == 0 => failure = Some(error),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        if let Some(failure) = failure {
            println!("{name}: {} cannot do this: {}", settings.other(), failure.trim());
            figures[0] = vec![Figures { wall: f64::NAN, cpu: f64::NAN, memory: f64::NAN }];
        }
        let [theirs, ours] = figures.map(|figures| Figures::median(&figures));
        rows.push(Row {
            name,
            lines: changed,
            theirs,
            ours,
            wall: settings.goal(Some(wall)),
            cpu: None,
            wall_ms: None,
        });
    }
    std::fs::remove_dir_all(directory).expect("the directory of this run");
    for word in [CREATES, DELETES] {
        std::fs::remove_file(file(word)).expect("a file of this run");
    }
    rows
}
