//! Each bound of what an outcome may cost, by itself: an outcome that is over this bound and within all others is
//! refused by it, and one that is just within it is not. What the host allocates is measured in both cases.

use flowgate_model::{
    Actions, Annotations, Changes, Column, Flows, Outcome, Rare, RawAttributes, SparseTexts, Texts, action, bounds,
    field,
};
use flowgate_pipeline::outcome::{ActionResults, StageOutcome};
use flowgate_runtime::{Failure, deadline::Watch};

use super::{allocation, batch};

/// Maximum number of actions of a call.
const ACTIONS: usize = 1000;

/// An outcome, and the failure that its bound is expected to cause.
struct Case {
    bound: &'static str,
    within: Outcome,
    over: Outcome,
    failure: Failure,
}

/// Returns `count` texts of `length` bytes each.
fn texts(count: usize, length: usize, byte: u8) -> Texts {
    Texts { ends: (1..=count).map(|end| (end * length) as u32).collect(), bytes: vec![byte; count * length] }
}

/// Returns one row of values with these fields.
fn one(has: u64, rare: Rare) -> Flows {
    Flows { length: 1, has: vec![has], family: vec![2], rare: Some(rare), ..Flows::default() }
}

/// Returns a row of values with a text of `length` bytes in a column.
fn values(column: u64, length: usize) -> Flows {
    let text = SparseTexts { rows: vec![0], texts: texts(1, length, b'x') };
    let rare = match column {
        field::HELPER => Rare { helper: text, ..Rare::default() },
        field::HELPER_INFO => Rare { helper_info: text, ..Rare::default() },
        field::LABELS => Rare { labels: text, ..Rare::default() },
        field::LABELS_MASK => Rare { labels_mask: text, ..Rare::default() },
        _ => Rare { security_context: text, ..Rare::default() },
    };
    one(column, rare)
}

/// Returns changes of these rows by the first row of values.
fn changes(rows: Vec<u32>) -> Option<Changes> {
    let count = rows.len();
    Some(Changes { rows, values: vec![0; count], clear: vec![0; count] })
}

/// Returns an outcome that gives a text of `length` bytes to the first `rows` rows.
fn text_for(rows: usize, column: u64, length: usize) -> Outcome {
    Outcome { changes: changes((0..rows as u32).collect()), values: Some(values(column, length)), ..Outcome::default() }
}

/// Returns an outcome with `each` annotations of `length` bytes for each of the first `rows` rows.
fn notes(rows: usize, each: usize, length: usize, byte: u8) -> Outcome {
    let rows: Vec<u32> = (0..rows as u32).flat_map(|row| std::iter::repeat_n(row, each)).collect();
    let (keys, values) = (texts(rows.len(), 0, 0), texts(rows.len(), length, byte));
    Outcome { annotations: Some(Annotations { rows, keys, values }), ..Outcome::default() }
}

fn of_row() -> Failure {
    let (many, bytes) = (bounds::ANNOTATIONS_PER_ROW, bounds::ANNOTATION_BYTES_PER_ROW);
    Failure::BadValue(format!(
        "more annotations for row 0 than the {many} of {bytes} bytes in all that a row has room for"
    ))
}

fn of_values(length: usize, name: &str, most: usize) -> Failure {
    Failure::BadValue(format!("`{name}` with a value of {length} bytes; such a value has at most {most}"))
}

/// Returns a case for each bound that an outcome for a batch of `rows` rows can exceed without exceeding another one.
fn cases(rows: usize) -> Vec<Case> {
    let of_values_only = |values: Flows| Outcome { values: Some(values), ..Outcome::default() };
    let mut cases = Vec::new();
    let mut add = |bound, within, over, failure| cases.push(Case { bound, within, over, failure });

    let most = bounds::CHANGES_PER_ROW * rows;
    let marked = |count: usize| Outcome {
        changes: changes(vec![0; count]),
        values: Some(Flows { mark: vec![7], ..one(field::MARK, Rare::default()) }),
        ..Outcome::default()
    };
    let words = format!("{} changes of a batch of {rows} rows; there can be 4 for each row", most + 1);
    add("changes", marked(most), marked(most + 1), Failure::BadValue(words));

    for (column, name, most) in
        [(field::HELPER, "helper", bounds::MAX_HELPER), (field::LABELS, "labels", bounds::MAX_LABELS)]
    {
        let words = format!("a change by a `{name}` of {} bytes; the kernel's have at most {most}", most + 1);
        add("texts of the kernel", text_for(1, column, most), text_for(1, column, most + 1), Failure::BadValue(words));
    }
    for (column, name, most) in [
        (field::HELPER, "rare.helper", bounds::MAX_NAME),
        (field::HELPER_INFO, "rare.helper_info", bounds::MAX_NAME),
        (field::LABELS, "rare.labels", bounds::MAX_NAME),
        (field::LABELS_MASK, "rare.labels_mask", bounds::MAX_NAME),
        (field::SECURITY_CONTEXT, "rare.security_context", bounds::MAX_SECURITY_CONTEXT),
    ] {
        let over = of_values_only(values(column, most + 1));
        add("texts of values", of_values_only(values(column, most)), over, of_values(most + 1, name, most));
    }

    // A mask of labels is for actions; changes ignore it.
    // What crosses is the presence of each row, 16 bytes for each change, and the text. With so many rows all of them
    // may not have as much.
    if rows > 1000 {
        let (changed, column) = (rows.min(4000), field::SECURITY_CONTEXT);
        let crossed = |length: usize| 8 * rows + 16 * changed + length;
        let room = |length: usize| changed * length <= bounds::TEXT_FACTOR * crossed(length);
        let length = (1..4096).find(|&length| !room(length)).expect("not all texts are in proportion");
        let (bytes, limit) = (changed * length, bounds::TEXT_FACTOR * crossed(length));
        assert!(limit < bounds::MAX_TEXT && bytes < bounds::MAX_TEXT, "that would be another bound");
        let failure = Failure::Amplified { returned: crossed(length), bytes, limit };
        add("proportion of texts", text_for(changed, column, length - 1), text_for(changed, column, length), failure);
    }
    if rows == 65_536 {
        let (length, returned) = (bounds::MAX_TEXT / rows, 24 * rows);
        assert!(bounds::TEXT_FACTOR * returned > bounds::MAX_TEXT + rows, "that would be another bound");
        let failure = Failure::Amplified {
            returned: returned + length + 1,
            bytes: bounds::MAX_TEXT + rows,
            limit: bounds::MAX_TEXT,
        };
        let column = field::SECURITY_CONTEXT;
        add("all texts", text_for(rows, column, length), text_for(rows, column, length + 1), failure);
    }

    let most = bounds::ANNOTATIONS_PER_ROW;
    add("annotations of a row", notes(1, most, 1, b'x'), notes(1, most + 1, 1, b'x'), of_row());
    // A text beyond 1,000 characters is cut, so that four make up the most.
    let each = bounds::ANNOTATION_BYTES_PER_ROW / 8;
    add("bytes of annotations of a row", notes(1, 8, each, b'x'), notes(1, 8, each + 1, b'x'), of_row());
    if rows > 1 {
        // Control characters become six times as long, those of a batch of a thousand rows likewise.
        let (byte, times) = if rows > 10_000 { (b'x', 1) } else { (0x1b, 6) };
        let each = if rows > 10_000 { 1 } else { 4 };
        let length = bounds::MAX_TEXT / rows / each / times;
        let failure = |returned, bytes| Failure::Amplified { returned, bytes, limit: bounds::MAX_TEXT };
        let over = notes(rows, each, length + 1, byte);
        let one = (length + 1) * times;
        let failure = failure(rows * each * (length + 1), (bounds::MAX_TEXT / one + 1) * one);
        add("all annotations", notes(rows, each, length, byte), over, failure);
    }

    let column = |length: usize| Column { texts: texts(1, length, b'x'), rows: vec![0], ..Column::default() };
    let more = |count: usize, length: usize| {
        of_values_only(Flows { more: vec![column(length); count], ..one(0, Rare::default()) })
    };
    let most = bounds::MAX_COLUMNS;
    let words = format!("a table with {} columns in `more`; at most {most} are taken", most + 1);
    add("columns", more(most, 1), more(most + 1, 1), Failure::BadValue(words));
    let most = bounds::MAX_ATTRIBUTE;
    add("columns of later versions", more(1, most), more(1, most + 1), of_values(most + 1, "more", most));
    let unknown = |length: usize| {
        let payloads = texts(1, length, b'x');
        let unknown = RawAttributes { rows: vec![0], paths: vec![1], payloads };
        of_values_only(one(0, Rare { unknown, ..Rare::default() }))
    };
    add("unknown attributes", unknown(most), unknown(most + 1), of_values(most + 1, "unknown", most));

    let actions = |count: usize| Outcome {
        actions: Some(Actions {
            kinds: vec![action::DELETE; count],
            rows: vec![0; count],
            values: vec![action::NO_ROW; count],
        }),
        ..Outcome::default()
    };
    let failure = Failure::Actions { asked: ACTIONS + 1, limit: ACTIONS };
    add("actions", actions(ACTIONS), actions(ACTIONS + 1), failure);
    cases
}

/// Returns the result of an outcome for a batch of `rows` rows, and the bytes that the host has allocated at a time.
fn carried_out(rows: usize, outcome: &Outcome) -> (Result<(), Failure>, usize) {
    let (mut flows, outcome) = (batch(rows as u32), StageOutcome::from(outcome.clone()));
    allocation::begin();
    let checked = outcome.checked(&flows, ACTIONS, 0, &mut Watch::unlimited());
    let result = checked.map(|checked| {
        checked.apply(&mut flows, ActionResults::default());
    });
    let (peak, _) = allocation::counted();
    (result, peak)
}

#[test]
fn each_bound_holds_by_itself() {
    for rows in [1, 1024, 65_536] {
        for Case { bound, within, over, failure } in cases(rows) {
            let (result, peak) = carried_out(rows, &within);
            assert_eq!(result, Ok(()), "{rows} rows, {bound}");
            // The texts as they were and as they become, and the columns of numbers.
            let most = 2 * bounds::MAX_TEXT + bounds::ROW_BYTES * rows + (64 << 10);
            assert!(peak < most, "{rows} rows, within {bound}: {peak} of {most} bytes");
            let (result, peak) = carried_out(rows, &over);
            assert_eq!(result, Err(failure), "{rows} rows, {bound}");
            assert!(peak < most, "{rows} rows, over {bound}: {peak} of {most} bytes");
        }
    }
}
