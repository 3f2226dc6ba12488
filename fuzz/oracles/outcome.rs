//! Arbitrary outcomes of a plugin: checking one, applying it to a batch and judging it by the guard of a tenant takes
//! memory and time proportional to the data that crossed, leaves a consistent batch, and leaves an audit of the
//! requests that would be sent.
//!
//! Inputs are structured: sizes and repetitions are numbers in the input, so that a few bytes stand for an outcome of
//! megabytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "whatever is not as it should be is what is looked for"
)]

use std::{
    cell::{Cell, RefCell},
    sync::{Arc, Mutex},
    time::Duration,
};

use flowgate_base::clock::thread_time;
use flowgate_config::SourceText;
use flowgate_model::{
    Actions, Annotations, Changes, Expectations, Flows, Rare, RawAttributes, SparseTexts, Texts, Translations, action,
    bounds, check, expectation_field, field, grants::Grants, result,
};
use flowgate_netlink::{
    Messages, Request,
    decode::{Arrival, FlowDecoder},
};
use flowgate_pipeline::{
    entries::Entries,
    executor::{Executor, Guard, Judgement, Requester, Shows},
    outcome::{Requests, StageOutcome},
    sink::{Sink, SinkError},
};
use flowgate_policy::{Policy, audit::Audit, guard::TenantGuard};
use flowgate_runtime::deadline::Watch;
use flowgate_syntax::LabelMap;
use serde_json::Value;

use super::{allocation, input::Input};

/// Memory of the host per byte that crossed: the bytes as written and as cleaned (an escape is six bytes), and growing
/// vectors for them, which have twice that capacity and exist twice while they grow.
const EACH_BYTE: usize = 24;
/// Memory per row: columns filled by changes ([`bounds::ROW_BYTES`]), before and after, and bookkeeping.
const EACH_ROW: usize = 3 * bounds::ROW_BYTES;
/// Memory per action: a judgement and a result. Few requests are encoded at a time ([`bounds::ACTIONS_PER_CHUNK`]).
const EACH_ACTION: usize = 128;
/// Number of actions that the guard handles at a time, and the memory of their records as JSON.
const IN_FLIGHT: usize = 256;
const EACH_RECORD: usize = 128 << 10;
/// Constant memory; texts of a batch ([`bounds::MAX_TEXT`]) are part of the bytes.
const ANYHOW: usize = 4 << 20;
/// Factor for the total of all allocations; and the memory of a request, which is allocated and freed for each
/// action.
const TIMES: usize = 8;
const EACH_REQUEST: usize = 2 * bounds::REQUEST_BYTES;
/// Time limits in nanoseconds for a build with coverage instrumentation.
const BYTE_TIME: u64 = 60;
const ROW_TIME: u64 = 20_000;
const ACTION_TIME: u64 = 100_000;
const ANY_TIME: u64 = 500_000_000;

/// Returns a number of rows, bytes or repetitions: mostly small, sometimes large.
fn size(input: &mut Input<'_>, most: usize) -> usize {
    let most = most.max(1);
    match input.up_to(7) {
        0..=2 => input.up_to(most.min(8)),
        3..=4 => input.up_to(most.min(300)),
        5..=6 => input.up_to(most),
        _ => most,
    }
}

/// Returns row numbers of a table of `length` rows: all of them, one repeatedly, or any.
fn rows(input: &mut Input<'_>, length: usize, most: usize) -> Vec<u32> {
    let (how, count) = (input.up_to(5), size(input, most));
    let length = length.max(1) as u32;
    let (start, step) = (input.up_to(length as usize) as u32, 1 + input.up_to(6) as u32);
    match how {
        0 => (0..length).take(count).collect(),
        1 => vec![start % length; count],
        2 => (0..count as u32).map(|number| number.wrapping_mul(step).wrapping_add(start) % length).collect(),
        3 => (0..count as u32).map(|number| number.wrapping_mul(length) / (count as u32).max(1)).collect(),
        4 => vec![start; count],
        _ => (0..length).rev().take(count).collect(),
    }
}

/// Returns byte strings, usually as many as there are rows, sometimes with invalid ends.
fn texts(input: &mut Input<'_>, count: usize) -> Texts {
    let each = size(input, (16 << 20) / count.max(1));
    let byte = input.pick(&[b'x', 0x1b, 0xff, b'"', 0, b'\n', 1]);
    let mut ends: Vec<u32> = (1..=count as u32).map(|number| number.wrapping_mul(each as u32)).collect();
    let bytes = vec![byte; each * count];
    match input.up_to(15) {
        0 => ends.iter_mut().for_each(|end| *end = u32::MAX),
        1 => ends.reverse(),
        2 => ends.iter_mut().for_each(|end| *end = bytes.len() as u32),
        3 => {
            ends.pop();
        }
        _ => {}
    }
    Texts { ends, bytes }
}

fn sparse(input: &mut Input<'_>, length: usize) -> SparseTexts {
    if input.one_in(2) {
        return SparseTexts::default();
    }
    // Usually in order, as required.
    let rows = if input.one_in(4) {
        rows(input, length, length * 2)
    } else {
        let start = input.up_to(length) as u32;
        (start..length as u32).take(size(input, length)).collect()
    };
    let texts = texts(input, rows.len());
    SparseTexts { rows, texts }
}

fn annotations(input: &mut Input<'_>, length: usize) -> Annotations {
    let rows = rows(input, length, 300_000);
    let keys = texts(input, rows.len());
    let values = texts(input, rows.len());
    Annotations { rows, keys, values }
}

fn raw(input: &mut Input<'_>, length: usize) -> RawAttributes {
    let rows = rows(input, length, length * 4);
    let payloads = texts(input, rows.len());
    RawAttributes { paths: vec![99; rows.len()], rows, payloads }
}

/// Returns flows in the scope; each row has some of its fields.
fn flows(length: usize, has: u64) -> Flows {
    let mut flows =
        Flows { length: length as u32, has: vec![has; length], family: vec![2; length], ..Flows::default() };
    flows.protocol = vec![17; length];
    let addresses = |last: u64| (0..length as u64).map(|row| 0xffff_0a01_0000 + row % 250 + last).collect::<Vec<u64>>();
    for (tuples, (source, destination)) in [(&mut flows.original, (1, 2)), (&mut flows.reply, (2, 1))] {
        (tuples.source.hi, tuples.source.lo) = (vec![0; length], addresses(source));
        (tuples.destination.hi, tuples.destination.lo) = (vec![0; length], addresses(destination));
        (tuples.source_l4, tuples.destination_l4) = (vec![53; length], vec![53; length]);
    }
    for column in [&mut flows.status, &mut flows.timeout, &mut flows.mark, &mut flows.id] {
        *column = vec![60; length];
    }
    flows
}

/// Returns the values of an outcome, with texts.
fn values(input: &mut Input<'_>) -> Flows {
    let length = size(input, 2000);
    let texts = field::HELPER | field::HELPER_INFO | field::LABELS | field::LABELS_MASK | field::SECURITY_CONTEXT;
    // The fields of a plain creation, with and without those that may be refused, or arbitrary ones. A text may be
    // present although no row has the field.
    let plain = field::TUPLES | field::TIMEOUT;
    let has = match input.up_to(4) {
        0 => plain,
        1 => plain | field::HELPER,
        2 => plain | field::LABELS,
        3 => plain | field::MARK | texts,
        _ => input.bits(),
    };
    let mut made = flows(length, has);
    let mut rare = Rare::default();
    for column in
        [&mut rare.helper, &mut rare.helper_info, &mut rare.labels, &mut rare.labels_mask, &mut rare.security_context]
    {
        *column = sparse(input, length);
    }
    if input.one_in(4) {
        rare.unknown = raw(input, length);
    }
    if input.one_in(8) {
        let rows = rows(input, length, 100_000);
        let count = rows.len();
        rare.nat = Translations { rows, destination: vec![1; count], ..Translations::default() };
        for addresses in [&mut rare.nat.first, &mut rare.nat.last] {
            (addresses.hi, addresses.lo) = (vec![0; count], vec![0xffff_0a01_0001; count]);
        }
        (rare.nat.first_port, rare.nat.last_port) = (vec![1; count], vec![1; count]);
    }
    made.rare = Some(rare);
    if input.one_in(16) {
        made.mark = vec![7; size(input, length)];
    }
    if input.one_in(16) {
        made.length = input.bits() as u32;
    }
    made
}

fn actions(input: &mut Input<'_>, batch: usize, values: usize) -> Actions {
    let count = size(input, 70_000);
    let kind = if input.one_in(8) {
        input.byte()
    } else {
        input.pick(&[action::DELETE, action::UPDATE, action::CREATE, action::CREATE_OR_UPDATE])
    };
    let mut named = |length: usize| -> Vec<u32> {
        if input.one_in(2) {
            return vec![action::NO_ROW; count];
        }
        let mut rows = rows(input, length, count);
        rows.resize(count, 0);
        rows
    };
    Actions { kinds: vec![kind; count], rows: named(batch), values: named(values) }
}

/// Returns the relevant size of an outcome in bytes.
fn crossed<T>(said: &StageOutcome<T>, values: usize) -> usize {
    let texts = |texts: &Texts| texts.bytes.len() + 4 * texts.ends.len();
    said.verdicts.len()
        + said.changes.as_ref().map_or(0, |changes| 16 * changes.rows.len())
        + said.annotations.as_ref().map_or(0, |notes| 4 * notes.rows.len() + texts(&notes.keys) + texts(&notes.values))
        + 9 * said.requests.actions.kinds.len()
        + values
}

fn size_of_values(values: &Flows) -> usize {
    let mut size = values.has.len() * 100;
    if let Some(rare) = &values.rare {
        let notes = &rare.annotations;
        size += 12 * notes.rows.len() + notes.keys.bytes.len() + notes.values.bytes.len();
        for column in [&rare.helper, &rare.helper_info, &rare.labels, &rare.labels_mask, &rare.security_context] {
            size += 8 * column.rows.len() + column.texts.bytes.len();
        }
        size += 16 * rare.unknown.rows.len() + rare.unknown.payloads.bytes.len() + 45 * rare.nat.rows.len();
    }
    size
}

/// The sink of the audit.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn take(&self) -> Vec<Value> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| {
                assert!(line.len() <= LONGEST, "a line of the audit has {} bytes", line.len());
                serde_json::from_slice(line).expect("a line of the audit is JSON")
            })
            .collect()
    }
}

impl Sink for Lines {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// `EEXIST` of Linux: the kernel's error for a flow that exists already, so that it does not stay counted.
const EEXIST: u32 = 17;
/// Maximum length of a line of the audit.
const LONGEST: usize = 64 << 10;

/// Returns the guard of a tenant whose flows the kernel does not have: this runs in its own network namespace.
struct Judge {
    guard: TenantGuard,
    grants: Grants,
    lines: Lines,
}

fn judge() -> Judge {
    let text = format!(
        "[[tenant]]\nname = \"blue\"\nmark-mask = \"0xff00\"\ntimeouts = \"10..600\"\nlabels = [3, 127]\n\
         limits = {{ actions-per-second = 16777216, actions-in-flight = {IN_FLIGHT} }}\n\
         [[tenant.scope]]\nsource = \"10.1.0.0/16\"\n\
         [[tenant.plugin]]\nfile = \"a.wasm\"\nsha256 = \"{}\"\ngrants = [\"delete\"]\n",
        "0".repeat(64)
    );
    let (policy, diagnostics, _) = Policy::parse(SourceText { path: "p.toml".into(), text }, LabelMap::default());
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let tenant = policy.tenants.first().expect("a tenant");
    let lines = Lines::default();
    let audit = Arc::new(Audit::to(Box::new(lines.clone()), flowgate_base::Warnings::ignored()));
    let guard = TenantGuard::new(tenant, 1, None, audit, &[], Arc::new(|| false));
    Judge { guard, grants: "delete,create".parse().expect("grants"), lines }
}

impl Judge {
    /// Lets the guard judge a call. Nothing is sent.
    fn review(&mut self, batch: &Flows, requests: &Requests<Flows>) -> Vec<Judgement> {
        let requester = Requester { plugin: "blue:a", grants: &self.grants, strict: false };
        let judgements = self.guard.review(&mut Watch::unlimited(), requester, batch, requests);
        self.guard.settled(&vec![(result::REFUSED, EEXIST); judgements.len()]);
        judgements
    }

    /// Checks that the audit contains each action that would be sent, and the reason for each refusal. Afterwards a
    /// valid flow is allowed, and is recorded completely.
    fn recorded(&mut self, requests: &Requests<Flows>, judgements: &[Judgement]) {
        let lines = self.lines.take();
        let lists = &requests.actions;
        assert_eq!(judgements.len(), lists.kinds.len());
        let allowed = judgements.iter().filter(|judgement| matches!(judgement, Judgement::Send(_))).count();
        JUDGED.set((JUDGED.get().0 + allowed, JUDGED.get().1 + judgements.len() - allowed));
        let named = |index: usize| lists.rows[index] != action::NO_ROW || lists.values[index] != action::NO_ROW;
        written(&lines, judgements, (0..lists.kinds.len().min(IN_FLIGHT)).all(named));
        let plain = Requests {
            actions: Actions { kinds: vec![action::CREATE], rows: vec![action::NO_ROW], values: vec![0] },
            values: flows(1, field::TUPLES | field::TIMEOUT),
        };
        let judgements = self.review(&Flows::default(), &plain);
        let lines = self.lines.take();
        assert!(matches!(judgements[..], [Judgement::Send(_)]), "a plain flow is refused after that: {lines:?}");
        written(&lines, &judgements, true);
    }
}

/// Fails unless these lines are the record of these judgements. `named` is true for actions that name a flow.
fn written(lines: &[Value], judgements: &[Judgement], named: bool) {
    let of = |stage: &str| lines.iter().filter(|line| line["stage"] == stage).collect::<Vec<_>>();
    let sent: Vec<&Request> = judgements
        .iter()
        .filter_map(|judgement| match judgement {
            Judgement::Send(request) => Some(request),
            Judgement::Refuse(..) => None,
        })
        .collect();
    let intents = of("intent");
    assert_eq!(intents.len(), sent.len(), "intents of what would be sent");
    for (intent, request) in intents.into_iter().zip(sent) {
        let bytes = request.as_bytes();
        let hex: String = bytes[20..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(intent["request"], Value::from(hex), "{intent}");
        // The recorded flow is the one that a reader of the request decodes.
        let mut flow = Flows::default();
        let message = Messages::new(bytes).next().expect("a request").expect("a message");
        FlowDecoder::new(field::ALL).push(&mut flow, &message, Arrival::Entry).expect("a flow");
        let port = |column: &[u16]| Value::from(column[0]);
        assert!(intent["after"].is_object(), "something would be sent without a record of its flow: {intent}");
        let after = &intent["after"]["original"];
        let tuple = &flow.original;
        assert!(after["source_port"] == port(&tuple.source_l4), "{intent}");
        assert!(after["destination_port"] == port(&tuple.destination_l4), "{intent}");
        let source = std::net::Ipv4Addr::from_bits(tuple.source.lo[0] as u32).to_string();
        assert!(after["source"] == source, "{intent}");
    }
    // A line that summarizes refusals has no flow, and neither have refusals because of the rate limit or while the
    // tenant is paused.
    for refused in of("refused").into_iter().filter(|line| line["count"].is_null()) {
        assert!(refused["code"].is_string() && refused["reason"].is_string(), "{refused}");
        let shown = refused["after"].is_object() || refused["before"].is_object();
        assert!(shown || !named || refused["code"] == "rate", "a refusal without the flow: {refused}");
    }
}

thread_local! {
    static JUDGE: RefCell<Judge> = RefCell::new(judge());
    /// Numbers of actions that the guard has allowed and refused.
    static JUDGED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Returns the numbers of actions that the guard has allowed and refused on this thread: if they are zero, little was
/// tested.
#[allow(dead_code, reason = "a fuzzing engine has no end at which to ask")]
pub(crate) fn judged() -> (usize, usize) {
    JUDGED.get()
}

/// Applies an outcome to a batch, within its limits; returns the result of `act` for its actions.
fn digest<T: Entries, R>(
    said: StageOutcome<T>,
    batch: &mut T,
    held: usize,
    values: usize,
    act: impl FnOnce(&T, &Requests<T>) -> R,
) -> Option<R> {
    let (rows, asked) = (batch.rows(), said.requests.actions.kinds.len().min(1 << 16));
    // The contents of the batch have crossed as well, in the other direction or from earlier stages.
    let crossed = crossed(&said, values) + held;
    let may = EACH_BYTE * crossed + EACH_ROW * rows + EACH_ACTION * asked + EACH_RECORD * asked.min(IN_FLIGHT) + ANYHOW;
    let in_all = TIMES * may + EACH_REQUEST * asked;
    allocation::begin();
    let started = thread_time();
    let mut acted = None;
    if let Ok(checked) = said.checked(batch, 1 << 16, 0, &mut Watch::unlimited()) {
        acted = Some(act(batch, &checked.requests));
        checked.apply(batch, Default::default());
    }
    let used = thread_time().saturating_sub(started);
    let allocated = allocation::counted();
    assert!(
        allocated.0 <= may && allocated.1 <= in_all,
        "{allocated:?} bytes at a time and in all for {crossed} bytes, {rows} rows and {asked} actions; {may} and {in_all} may be"
    );
    let most = BYTE_TIME * crossed as u64 + ROW_TIME * rows as u64 + ACTION_TIME * asked as u64 + ANY_TIME;
    assert!(used < Duration::from_nanos(most), "{used:?} for {crossed} bytes, {rows} rows and {asked} actions");
    acted
}

fn of_flows(input: &mut Input<'_>) {
    let length = size(input, 65_536);
    let mut batch = flows(length, field::TUPLES | field::MARK | field::TIMEOUT | field::STATUS);
    // Annotations of several stages accumulate.
    for _ in 0..=input.up_to(2) {
        let rows_now = batch.length as usize;
        let values = values(input);
        let said = StageOutcome {
            verdicts: if input.one_in(4) { vec![1; size(input, rows_now)] } else { Vec::new() },
            changes: if input.one_in(2) {
                let rows_of = rows(input, rows_now, 300_000);
                let mut values_of = rows(input, values.length.min(4000) as usize, rows_of.len());
                values_of.resize(rows_of.len(), 0);
                Some(Changes { clear: vec![input.bits(); rows_of.len()], rows: rows_of, values: values_of })
            } else {
                None
            },
            annotations: if input.one_in(3) { Some(annotations(input, rows_now)) } else { None },
            requests: Requests {
                actions: if input.one_in(3) {
                    actions(input, rows_now, values.length.min(4000) as usize)
                } else {
                    Actions::default()
                },
                values,
            },
        };
        let (held, size) = (size_of_values(&batch), size_of_values(&said.requests.values));
        let asked = said.requests.clone();
        let judgements = digest(said, &mut batch, held, size, |batch, requests| {
            if requests.actions.kinds.is_empty() {
                return None;
            }
            let judgements = JUDGE.with_borrow_mut(|judge| judge.review(batch, requests));
            // Without a guard: everything is encoded, and nothing is sent.
            let mut executor = Executor::<Flows>::new(Shows::Entries, FlowDecoder::new(field::ALL));
            executor.detach();
            let grants: Grants = "delete,create,update".parse().expect("grants");
            executor.perform(Requester { plugin: "p", grants: &grants, strict: false }, batch, requests);
            Some(judgements)
        });
        if let Some(judgements) = judgements.flatten() {
            JUDGE.with_borrow_mut(|judge| judge.recorded(&asked, &judgements));
        }
        check::flows(&batch).expect("a batch that is one");
    }
}

fn of_expectations(input: &mut Input<'_>) {
    let length = size(input, 4096);
    let has = expectation_field::EXPECTED | expectation_field::TIMEOUT;
    let mut batch = Expectations {
        length: length as u32,
        has: vec![has; length],
        family: vec![2; length],
        timeout: vec![5; length],
        ..Expectations::default()
    };
    for _ in 0..=input.up_to(2) {
        let rows_now = batch.length as usize;
        let count = size(input, 1000);
        let values = Expectations {
            length: count as u32,
            has: vec![input.bits(); count],
            family: vec![2; count],
            helper: sparse(input, count),
            function: sparse(input, count),
            unknown: if input.one_in(3) { Some(raw(input, count)) } else { None },
            timeout: vec![1; size(input, count)],
            ..Expectations::default()
        };
        let size = 100 * count
            + values.helper.texts.bytes.len()
            + values.function.texts.bytes.len()
            + values.unknown.as_ref().map_or(0, |unknown| unknown.payloads.bytes.len() + 16 * unknown.rows.len());
        let said = StageOutcome {
            verdicts: Vec::new(),
            changes: None,
            annotations: if input.one_in(2) { Some(annotations(input, rows_now)) } else { None },
            requests: Requests {
                actions: if input.one_in(2) { actions(input, rows_now, count) } else { Actions::default() },
                values,
            },
        };
        let held = batch.annotations.as_ref().map_or(0, |notes| notes.keys.bytes.len() + notes.values.bytes.len());
        digest(said, &mut batch, held, size, |batch, requests| {
            // A dry run prints the first few.
            let lists = &requests.actions;
            for ((&kind, &row), &value) in lists.kinds.iter().zip(&lists.rows).zip(&lists.values).take(2000) {
                let named = |row: u32| (row != action::NO_ROW).then_some(row as usize);
                let target = named(row).map(|row| (batch, row));
                let values = named(value).map(|row| (&requests.values, row));
                let _ = Expectations::planned(kind, target, values);
            }
        });
        check::expectations(&batch).expect("a batch that is one");
    }
}

/// Handles an outcome derived from the input as the host does.
///
/// # Panics
/// If that exceeds the limits, or an action is not recorded.
pub(crate) fn run(input: &[u8]) {
    JUDGE.with_borrow(|_| ());
    let mut input = Input(input);
    if input.one_in(4) {
        of_expectations(&mut input);
    } else {
        of_flows(&mut input);
    }
}
