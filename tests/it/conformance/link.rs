//! In place of `conntrack`: invoked through a link of that name, flowgate accepts the classic command line and nothing
//! else.

use crate::conformance::compare::Both;
use flowgate_test_support::{Namespace, Program, entries};
use std::os::unix::fs::symlink;

#[test]
fn the_link_is_conntrack() {
    Namespace::run(|namespace| {
        let path = namespace.directory().join("conntrack");
        symlink(&Both::new().ours.path, &path).expect("a link");
        let link = Program::new(&path);
        entries::load(namespace, &entries::marks());
        let count = entries::marks().len();

        // The name of a subcommand is ignored like any other word.
        for words in [&["completions", "bash", "-L"][..], &["man", "-L"], &["-L"]] {
            let outcome = link.run(words);
            assert_eq!((outcome.status, outcome.text().lines().count()), (0, count), "{words:?}: {}", outcome.errors());
        }
        // flowgate's own options are unknown.
        for (words, option) in [(&["-L", "--plugin", "x.wasm"][..], "--plugin"), (&["-L", "--batch", "5"], "--batch")] {
            let outcome = link.run(words);
            assert_eq!(outcome.status, 2, "{words:?}");
            assert!(outcome.errors().contains(&format!("unknown option `{option}'")), "{}", outcome.errors());
        }
        assert_eq!(link.run(&["-L", "-o", "json"]).status, 2);
        // Under its own name they are available.
        let ours = Both::own();
        assert!(ours.must(&["completions", "bash"]).contains("flowgate"));
        assert_eq!(ours.must(&["-L", "-o", "json"]).lines().count(), count);
    });
}
