//! Conditions made to take long, or much memory.

use flowgate_test_support::{Namespace, entries, flowgate};

/// Runs a listing with a condition in a file, since an argument has at most 128 KiB. Returns status and messages.
fn listed(namespace: &Namespace, condition: &str) -> (i32, String, usize) {
    let file = namespace.directory().join("query.toml");
    let text = format!("[source]\nkind = \"dump\"\nwhere = '''{condition}'''\n[[sink]]\nkind = \"stdout\"\n");
    std::fs::write(&file, text).unwrap();
    let outcome = flowgate().run(&["run", file.to_str().unwrap()]);
    (outcome.status, outcome.errors(), outcome.text().lines().count())
}

#[test]
fn hostile_conditions_are_refused_or_answered() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(5000));
        let deep =
            |open: &str, close: &str, count: usize| format!("{}mark == 0{}", open.repeat(count), close.repeat(count));
        for (condition, words) in [
            (deep("(", ")", 500_000), "nested"),
            (deep("not ", "", 200_000), "nested"),
            (deep("!(", ")", 100_000), "nested"),
            (deep("(", "", 1_000_000), "nested"),
            ("x".repeat(2_000_000), "1048576"),
            ("mark == 1 / 0".to_owned(), "division by 0"),
            ("mark == 0xffffffffffffffff * 0xffffffffffffffff * 0xffffffffffffffff".to_owned(), "128 bits"),
            (format!("helper matches \"{}\"", "(a{1000}){1000}"), "regular expression"),
            (format!("mark == {}", "9".repeat(100_000)), "128 bits"),
            (format!("helper == \"{}\" x", "\\x41".repeat(100_000)), ""),
        ] {
            let (status, errors, _) = listed(namespace, &condition);
            assert!(status != 0, "{}...", &condition[..40]);
            assert!(errors.contains(words) && errors.len() < 4000, "{words}: {}", &errors[..errors.len().min(500)]);
        }
        // What is long but right is answered.
        let numbers: Vec<String> = (0..100_000).map(|number| (number * 2).to_string()).collect();
        let all = flowgate().must(&["-L"]).lines().count();
        let in_set = format!("id in {{{}}}", numbers.join(", "));
        let (status, errors, _) = listed(namespace, &in_set);
        assert_eq!(status, 0, "{errors}");
        let ports: Vec<String> = (0..40_000).map(|port| format!("sport == {port}")).collect();
        let (status, errors, below) = listed(namespace, &ports.join(" or "));
        assert_eq!(status, 0, "{errors}");
        let (_, _, expected) = listed(namespace, "sport < 40000");
        assert_eq!(below, expected);
        assert!(below > 0 && below < all);
        let regex = format!("protocol_name matches \"{}\"", "(t|c|p|u|d)*".repeat(50));
        let (status, errors, matching) = listed(namespace, &regex);
        assert_eq!((status, matching > 0), (0, true), "{errors}");
    });
}
