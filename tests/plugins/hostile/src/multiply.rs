//! Outcomes with repeated references to the same data, which the host would have to copy as often.

use flowgate_sdk::{
    ExpectationOutcome, Expectations, Flows, Outcome, action,
    bindings::flowgate::conntrack::{
        action::{Actions, Changes},
        columns::{Annotations, Column, RawAttributes, SparseTexts, Texts},
        flow::Rare,
    },
    field,
};

/// The multiplied data: a column, and the number of bytes of text.
pub(crate) struct Multiplied {
    pub column: String,
    pub bytes: u32,
}

impl Multiplied {
    /// Returns an outcome for a batch of `rows` rows, if `what` multiplies something.
    pub(crate) fn outcome(&self, what: &str, rows: u32) -> Option<Outcome> {
        // Without a batch there is no row to refer to.
        let row = if rows == 0 { action::NO_ROW } else { 0 };
        let rows = rows.max(1);
        let good = Outcome::default;
        let outcome = match what {
            // One text for every row: the host makes a copy for each.
            "amplify-change" => Outcome {
                changes: Some(changes((0..rows).collect())),
                values: Some(self.values(self.or(20 << 20))),
                ..good()
            },
            // The same row repeatedly: the host copies the whole column each time.
            "slow-change" => Outcome {
                changes: Some(changes(vec![0; 300_000])),
                values: Some(self.values(self.or(8 << 20))),
                ..good()
            },
            // One more than the maximum number of changes, all of the same row.
            "one-change-too-many" => Outcome {
                changes: Some(changes(vec![0; 4 * rows as usize + 1])),
                values: Some(self.values(self.or(15))),
                ..good()
            },
            // Annotations of this size on every row.
            "amplify-notes" => Outcome { annotations: Some(notes(0..rows, self.or(4000))), ..good() },
            // An excessive number of annotations without text, not in order of rows.
            "empty-notes" => {
                let count = 2_000_000;
                let empty = || Texts { ends: vec![0; count as usize], bytes: Vec::new() };
                let rows = (0..count).map(|number| (number * 7919) % rows).collect();
                Outcome { annotations: Some(Annotations { rows, keys: empty(), values: empty() }), ..good() }
            }
            // Each byte becomes six when it is escaped for a terminal.
            "escaped-notes" => {
                let mut notes = notes(0..rows, self.or(1000));
                notes.values.bytes.fill(0x1b);
                Outcome { annotations: Some(notes), ..good() }
            }
            // Actions that all refer to the same row of values.
            "amplify-actions" => Outcome {
                actions: Some(Actions {
                    kinds: vec![action::UPDATE; 60_000],
                    rows: vec![row; 60_000],
                    values: vec![0; 60_000],
                }),
                values: Some(self.values(self.or(20 << 20))),
                ..good()
            },
            "raw-attributes" => Outcome { values: Some(raw(self.or(20 << 20))), ..good() },
            "more-columns" => {
                Outcome { values: Some(Flows { more: vec![Column::default(); 100_000], ..one(0) }), ..good() }
            }
            "duplicate-rows" => {
                let mut values = self.values(15);
                let helper = &mut values.rare.get_or_insert_with(Rare::default).helper;
                *helper = SparseTexts { rows: vec![0; 1000], texts: many(1000, 15) };
                Outcome { changes: Some(changes((0..rows).collect())), values: Some(values), ..good() }
            }
            "huge-ends" | "overlapping-ends" => {
                let ends = if what == "huge-ends" { vec![u32::MAX] } else { vec![9, 3] };
                let mut values = self.values(15);
                let named = (0..ends.len() as u32).collect();
                let helper = SparseTexts { rows: named, texts: Texts { ends, bytes: vec![b'x'; 9] } };
                values.rare = Some(Rare { helper, ..Rare::default() });
                (values.length, values.has, values.family) = (2, vec![field::HELPER; 2], vec![2; 2]);
                Outcome { changes: Some(changes((0..rows).collect())), values: Some(values), ..good() }
            }
            _ => return None,
        };
        Some(outcome)
    }

    /// Returns the same for a batch of expectations.
    pub(crate) fn expectations(&self, what: &str, rows: u32) -> Option<ExpectationOutcome> {
        let outcome = match what {
            "amplify-notes" => {
                ExpectationOutcome { annotations: Some(notes(0..rows, self.or(4000))), ..ExpectationOutcome::default() }
            }
            "amplify" => ExpectationOutcome {
                annotations: Some(Annotations {
                    rows: vec![0; 1 << 20],
                    keys: many(1 << 20, 1),
                    values: Texts { ends: vec![1 << 20; 1 << 20], bytes: vec![b'x'; 1 << 20] },
                }),
                ..ExpectationOutcome::default()
            },
            "amplify-actions" => ExpectationOutcome {
                actions: Some(Actions {
                    kinds: vec![action::CREATE; 60_000],
                    rows: vec![action::NO_ROW; 60_000],
                    values: vec![0; 60_000],
                }),
                values: Some(Expectations {
                    length: 1,
                    has: vec![0],
                    family: vec![2],
                    unknown: raw(self.or(20 << 20)).rare.map(|rare| rare.unknown),
                    ..Expectations::default()
                }),
                ..ExpectationOutcome::default()
            },
            _ => return None,
        };
        Some(outcome)
    }

    fn or(&self, bytes: u32) -> u32 {
        if self.bytes == 0 { bytes } else { self.bytes }
    }

    /// Returns a row of values with a text of this size in the column.
    fn values(&self, bytes: u32) -> Flows {
        let mut rare = Rare::default();
        let (column, bit) = match self.column.as_str() {
            "helper-info" => (&mut rare.helper_info, field::HELPER_INFO),
            "labels" => (&mut rare.labels, field::LABELS),
            "labels-mask" => (&mut rare.labels_mask, field::LABELS_MASK),
            "security-context" => (&mut rare.security_context, field::SECURITY_CONTEXT),
            _ => (&mut rare.helper, field::HELPER),
        };
        *column = SparseTexts { rows: vec![0], texts: many(1, bytes) };
        Flows { rare: Some(rare), ..one(bit) }
    }
}

fn one(has: u64) -> Flows {
    Flows { length: 1, has: vec![has], family: vec![2], ..Flows::default() }
}

fn changes(rows: Vec<u32>) -> Changes {
    Changes { values: vec![0; rows.len()], clear: vec![0; rows.len()], rows }
}

/// Returns `count` texts of `bytes` bytes each.
fn many(count: u32, bytes: u32) -> Texts {
    Texts { ends: (1..=count).map(|number| number * bytes).collect(), bytes: vec![b'x'; (count * bytes) as usize] }
}

fn notes(rows: std::ops::Range<u32>, bytes: u32) -> Annotations {
    let count = rows.len() as u32;
    Annotations { rows: rows.collect(), keys: many(count, 1), values: many(count, bytes) }
}

/// Returns a row with an unknown attribute of this size.
fn raw(bytes: u32) -> Flows {
    let unknown = RawAttributes { rows: vec![0], paths: vec![99], payloads: many(1, bytes) };
    Flows { rare: Some(Rare { unknown, ..Rare::default() }), ..one(field::UNKNOWN) }
}
