//! Random expressions and flows. `FLOWGATE_SEED=N` repeats a run, `INPUTS=N` makes it longer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

mod reference;

use flowgate_model::Selection;
use flowgate_query::{Context, Query, columns};
use flowgate_test_support::Random;

fn seeded() -> (Random, usize) {
    let seed = Random::seed("FLOWGATE_SEED");
    println!("FLOWGATE_SEED={seed}");
    let inputs = std::env::var("INPUTS").map_or(20_000, |text| text.parse().expect("INPUTS is a number"));
    (Random::new(seed), inputs)
}

#[test]
fn programs_mean_what_the_expressions_mean_and_imply_no_more() {
    let (mut random, inputs) = seeded();
    let (mut satisfied, mut refused, mut narrowed, mut deepest) = (0, 0, 0, 0);
    for input in 0..inputs {
        let depth = random.below(5);
        let expression = reference::expression(&mut random, depth);
        let text = reference::show(&expression, &mut random);
        let query =
            Query::parse(&text, &Context::NAMES).unwrap_or_else(|error| panic!("input {input}: {text}\n{error}"));
        let shown = query.to_string();
        let again =
            Query::parse(&shown, &Context::NAMES).unwrap_or_else(|error| panic!("input {input}: {text}\n{error}"));
        assert_eq!(again.program, query.program, "input {input}: {text} is shown as {shown}");
        assert_eq!(again.implied, query.implied, "input {input}: {text} is shown as {shown}");
        for _ in 0..8 {
            let row = reference::row(&mut random);
            let holds = reference::holds(&expression, &row);
            let (found, columns) = reference::run(&query.program, &row);
            assert_eq!(found, holds, "input {input}: {text}\n{shown}\n{row:?}");
            let selected = reference::selected(&query.implied, &row);
            // The kernel has a status for each entry.
            let of_kernel = row.fields.contains_key(&flowgate_names::query::STATUS);
            assert!(!holds || selected || !of_kernel, "input {input}: {text}\n{:?}\n{row:?}", query.implied);
            deepest = deepest.max(columns);
            if holds {
                satisfied += 1
            } else {
                refused += 1
            }
            narrowed += usize::from(query.implied != Selection::default() && !selected);
        }
    }
    println!("{satisfied} satisfied, {refused} not, {narrowed} of these not even selected; up to {deepest} columns");
    assert!(satisfied > inputs && refused > inputs && narrowed > inputs / 2);
}

#[test]
fn values_are_shown_as_what_is_parsed_again() {
    let (mut random, inputs) = seeded();
    for input in 0..inputs {
        let text = reference::computed_text(&mut random);
        let found = columns::parse(&text, &Context::NAMES).unwrap_or_else(|error| panic!("input {input}: {error}"));
        for (name, program, kind) in found {
            let shown = flowgate_query::canonical(&program);
            let again = columns::parse(&shown, &Context::NAMES).unwrap_or_else(|error| panic!("{text}\n{error}"));
            assert_eq!(again.len(), 1, "{shown}");
            assert_eq!((&again[0].1, again[0].2), (&program, kind), "input {input}: {name} is shown as {shown}");
        }
    }
}
