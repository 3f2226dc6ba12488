//! An outcome of a plugin, whatever is in it: checked, carried out on a batch and judged by the guard of a tenant, it makes the host
//! work and allocate no more than in proportion to what crossed, and leaves a batch that is one.
//!
//! Inputs are structured: sizes and repetitions are numbers in the input, so that a few bytes stand for an outcome of megabytes.
#![no_main]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use flowgate::{
    cli::LabelMap,
    config::Text,
    model::{
        Actions, Annotations, Changes, Expectations, Flows, Rare, RawAttributes, SparseTexts, Texts, Translations,
        action, expectation_field, field,
    },
    netlink::decode::{FlowDecoder, check},
    pipeline::{
        executor::{Asker, Executor, Guard, Shows},
        format::Format,
        grants::Grants,
        sink::{Sink, SinkError},
        stage::{Requests, Said, Staged},
    },
    policy::{
        Policy,
        audit::Audit,
        guard::{TenantGuard, recorder::Recorder},
    },
    wasm::{
        Instance, Limits, PluginComponent, PluginEngine,
        deadline::{Watch, thread_time},
    },
};
use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};

/// Counts what is allocated.
struct Counting;

/// Bytes that are allocated, and all that have been since it was set to 0.
static NOW: AtomicUsize = AtomicUsize::new(0);
static TOTAL: AtomicUsize = AtomicUsize::new(0);
/// What may be allocated at a time, and in all; beyond it the process ends, before the machine does.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
static LIMIT_IN_ALL: AtomicUsize = AtomicUsize::new(usize::MAX);

fn counted(size: usize) {
    let now = NOW.fetch_add(size, Relaxed) + size;
    let total = TOTAL.fetch_add(size, Relaxed) + size;
    let (limit, in_all) = (LIMIT.load(Relaxed), LIMIT_IN_ALL.load(Relaxed));
    if now > limit || total > in_all {
        unlimited();
        panic!("{now} bytes are allocated of {limit} that may be, and {total} have been of {in_all}");
    }
}

fn unlimited() {
    LIMIT.store(usize::MAX, Relaxed);
    LIMIT_IN_ALL.store(usize::MAX, Relaxed);
}

// SAFETY: everything is left to the system's allocator; sizes are counted beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        counted(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        counted(size);
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the host may allocate for each byte that crossed, for each row and each action, and in any case.
const EACH_BYTE: usize = 24;
const EACH_ROW: usize = 4096;
const EACH_ACTION: usize = 4096;
/// Of these the guard looks at no more than so many, and records them as JSON.
const IN_FLIGHT: usize = 256;
const EACH_RECORD: usize = 256 << 10;
const ANYHOW: usize = 8 << 20;
/// How often as much may be allocated in all, one after the other.
const TIMES: usize = 8;
/// The same in time: nanoseconds of this build, which counts coverage.
const BYTE_TIME: u64 = 60;
const ROW_TIME: u64 = 20_000;
const ACTION_TIME: u64 = 100_000;
const ANY_TIME: u64 = 500_000_000;

/// Rows, bytes and repetitions: small mostly, and large now and then.
fn size(input: &mut Unstructured<'_>, most: usize) -> Result<usize> {
    let most = most.max(1);
    Ok(match input.int_in_range(0..=7u8)? {
        0..=2 => input.int_in_range(0..=most.min(8))?,
        3..=4 => input.int_in_range(0..=most.min(300))?,
        5..=6 => input.int_in_range(0..=most)?,
        _ => most,
    })
}

/// Row numbers of a table of `length` rows: all of them, one again and again, or any.
fn rows(input: &mut Unstructured<'_>, length: usize, most: usize) -> Result<Vec<u32>> {
    let (how, count) = (input.int_in_range(0..=5u8)?, size(input, most)?);
    let length = length.max(1) as u32;
    let (start, step) = (input.int_in_range(0..=length)?, input.int_in_range(1..=7u32)?);
    Ok(match how {
        0 => (0..length).take(count).collect(),
        1 => vec![start % length; count],
        2 => (0..count as u32).map(|number| number.wrapping_mul(step).wrapping_add(start) % length).collect(),
        3 => (0..count as u32).map(|number| number.wrapping_mul(length) / (count as u32).max(1)).collect(),
        4 => vec![start; count],
        _ => (0..length).rev().take(count).collect(),
    })
}

/// Byte strings, most of the time as many as there are rows, sometimes with ends that make no sense.
fn texts(input: &mut Unstructured<'_>, count: usize) -> Result<Texts> {
    let each = size(input, (16 << 20) / count.max(1))?;
    let byte = *input.choose(&[b'x', 0x1b, 0xff, b'"', 0, b'\n'])?;
    let mut ends: Vec<u32> = (1..=count as u32).map(|number| number.wrapping_mul(each as u32)).collect();
    let bytes = vec![byte; each * count];
    match input.int_in_range(0..=15u8)? {
        0 => ends.iter_mut().for_each(|end| *end = u32::MAX),
        1 => ends.reverse(),
        2 => ends.iter_mut().for_each(|end| *end = bytes.len() as u32),
        3 => {
            ends.pop();
        }
        _ => {}
    }
    Ok(Texts { ends, bytes })
}

fn sparse(input: &mut Unstructured<'_>, length: usize) -> Result<SparseTexts> {
    if input.ratio(1, 2)? {
        return Ok(SparseTexts::default());
    }
    let rows = rows(input, length, length * 2)?;
    let texts = texts(input, rows.len())?;
    Ok(SparseTexts { rows, texts })
}

fn annotations(input: &mut Unstructured<'_>, length: usize) -> Result<Annotations> {
    let rows = rows(input, length, 300_000)?;
    let keys = texts(input, rows.len())?;
    let values = texts(input, rows.len())?;
    Ok(Annotations { rows, keys, values })
}

fn raw(input: &mut Unstructured<'_>, length: usize) -> Result<RawAttributes> {
    let rows = rows(input, length, length * 4)?;
    let payloads = texts(input, rows.len())?;
    Ok(RawAttributes { paths: vec![99; rows.len()], rows, payloads })
}

/// A flow of the scope, of which each row has some fields.
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

/// Values of an outcome, with texts.
fn values(input: &mut Unstructured<'_>) -> Result<Flows> {
    let length = size(input, 2000)?;
    let texts = field::HELPER | field::HELPER_INFO | field::LABELS | field::LABELS_MASK | field::SECURITY_CONTEXT;
    let has = if input.ratio(3, 4)? {
        field::TUPLES | field::TIMEOUT | field::MARK | texts
    } else {
        input.arbitrary::<u64>()?
    };
    let has = if input.ratio(1, 4)? { has & !texts } else { has };
    let mut made = flows(length, has);
    let mut rare = Rare::default();
    for column in
        [&mut rare.helper, &mut rare.helper_info, &mut rare.labels, &mut rare.labels_mask, &mut rare.security_context]
    {
        *column = sparse(input, length)?;
    }
    if input.ratio(1, 4)? {
        rare.unknown = raw(input, length)?;
    }
    if input.ratio(1, 8)? {
        let rows = rows(input, length, 100_000)?;
        let count = rows.len();
        rare.nat = Translations { rows, destination: vec![1; count], ..Translations::default() };
        for addresses in [&mut rare.nat.first, &mut rare.nat.last] {
            (addresses.hi, addresses.lo) = (vec![0; count], vec![0xffff_0a01_0001; count]);
        }
        (rare.nat.first_port, rare.nat.last_port) = (vec![1; count], vec![1; count]);
    }
    made.rare = Some(rare);
    if input.ratio(1, 16)? {
        made.mark = vec![7; size(input, length)?];
    }
    if input.ratio(1, 16)? {
        made.length = input.arbitrary()?;
    }
    Ok(made)
}

fn actions(input: &mut Unstructured<'_>, batch: usize, values: usize) -> Result<Actions> {
    let count = size(input, 70_000)?;
    let kind = input.int_in_range(0..=5u8)?;
    let mut named = |length: usize| -> Result<Vec<u32>> {
        if input.ratio(1, 3)? {
            return Ok(vec![action::NO_ROW; count]);
        }
        let mut rows = rows(input, length, count)?;
        rows.resize(count, 0);
        Ok(rows)
    };
    Ok(Actions { kinds: vec![kind; count], rows: named(batch)?, values: named(values)? })
}

/// Bytes of an outcome, as far as they matter.
fn crossed<T>(said: &Said<T>, values: usize) -> usize {
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

/// Where the audit goes: how long its longest line was, and how many lines lacked the flow.
#[derive(Clone, Default)]
struct Lines(Arc<(AtomicUsize, AtomicUsize)>);

impl Sink for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::result::Result<(), SinkError> {
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            self.0.0.fetch_max(line.len(), Relaxed);
            let has = |word: &[u8]| line.windows(word.len()).any(|window| window == word);
            // A line that sums refusals up has no flow.
            if has(b"\"code\":\"gone\"") && !has(b"\"after\":{") && !has(b"\"count\":") {
                self.0.1.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> std::result::Result<(), SinkError> {
        Ok(())
    }
}

/// The guard of a tenant whose flows the kernel does not have: this runs in a network namespace of its own, see README.md.
struct Judge {
    guard: TenantGuard,
    grants: Grants,
    lines: Lines,
}

fn judge() -> Judge {
    let text = format!(
        "[[tenant]]\nname = \"blue\"\nmark-mask = \"0xff00\"\ntimeouts = \"10..600\"\nlabels = [3, 127]\n\
         limits = {{ actions-per-second = 16777216, actions-in-flight = 256 }}\n\
         [[tenant.scope]]\nsource = \"10.1.0.0/16\"\n\
         [[tenant.plugin]]\nfile = \"a.wasm\"\nsha256 = \"{}\"\ngrants = [\"delete\"]\n",
        "0".repeat(64)
    );
    let (policy, mistakes, _) = Policy::parse(Text { path: "p.toml".into(), text }, LabelMap::default());
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let tenant = policy.tenants.first().expect("a tenant");
    let engine = PluginEngine::new(None).expect("an engine");
    let component = PluginComponent::stock(&engine, "json").expect("a format");
    let json = move || {
        let mut json = Instance::new(&component, Limits::default()).ok()?;
        let reads = json.describe().ok()?.reads;
        json.configure(&Default::default()).ok()?;
        json.started();
        Some(Format::new(json, reads & field::ALL))
    };
    let lines = Lines::default();
    let audit = Arc::new(Audit::to(Box::new(lines.clone()), |_| {}));
    let recorder = Recorder::new(json().expect("it starts"), Box::new(json));
    let guard = TenantGuard::new(tenant, 1, None, audit, recorder, Arc::new(|| false));
    Judge { guard, grants: "delete,create".parse().expect("grants"), lines }
}

thread_local! {
    static JUDGE: RefCell<Judge> = RefCell::new(judge());
}

/// Carries an outcome out on a batch, within its limits.
fn digest<T: Staged>(said: Said<T>, batch: &mut T, held: usize, values: usize, act: impl FnOnce(&T, &Requests<T>)) {
    let (rows, asked) = (batch.rows(), said.requests.actions.kinds.len().min(1 << 16));
    // What the batch holds has crossed as well, in the other direction or from stages before.
    let crossed = crossed(&said, values) + held;
    let may = EACH_BYTE * crossed + EACH_ROW * rows + EACH_ACTION * asked + EACH_RECORD * asked.min(IN_FLIGHT) + ANYHOW;
    TOTAL.store(0, Relaxed);
    LIMIT_IN_ALL.store(TIMES * may, Relaxed);
    LIMIT.store(NOW.load(Relaxed) + may, Relaxed);
    let started = thread_time();
    if let Ok(checked) = said.checked(batch, 1 << 16, 0, &mut Watch::unlimited()) {
        act(batch, &checked.requests);
        checked.apply(batch, Default::default());
    }
    let used = thread_time().saturating_sub(started);
    unlimited();
    let most = BYTE_TIME * crossed as u64 + ROW_TIME * rows as u64 + ACTION_TIME * asked as u64 + ANY_TIME;
    assert!(used < Duration::from_nanos(most), "{used:?} for {crossed} bytes, {rows} rows and {asked} actions");
}

fn of_flows(input: &mut Unstructured<'_>) -> Result<()> {
    let length = size(input, 65_536)?;
    let mut batch = flows(length, field::TUPLES | field::MARK | field::TIMEOUT | field::STATUS);
    // What several stages say adds up.
    for _ in 0..input.int_in_range(1..=3u8)? {
        let rows_now = batch.length as usize;
        let values = values(input)?;
        let said = Said {
            verdicts: if input.ratio(1, 4)? { vec![1; size(input, rows_now)?] } else { Vec::new() },
            changes: if input.ratio(1, 2)? {
                let rows_of = rows(input, rows_now, 300_000)?;
                let mut values_of = rows(input, values.length.min(4000) as usize, rows_of.len())?;
                values_of.resize(rows_of.len(), 0);
                Some(Changes { clear: vec![input.arbitrary()?; rows_of.len()], rows: rows_of, values: values_of })
            } else {
                None
            },
            annotations: if input.ratio(1, 3)? { Some(annotations(input, rows_now)?) } else { None },
            requests: Requests {
                actions: if input.ratio(1, 3)? {
                    actions(input, rows_now, values.length.min(4000) as usize)?
                } else {
                    Actions::default()
                },
                values,
            },
        };
        let (held, size) = (size_of_values(&batch), size_of_values(&said.requests.values));
        digest(said, &mut batch, held, size, |batch, requests| {
            JUDGE.with_borrow_mut(|judge| {
                if requests.actions.kinds.is_empty() {
                    return;
                }
                let asker = Asker { plugin: "blue:a", grants: &judge.grants, strict: false };
                let judgements = judge.guard.review(asker, batch, requests);
                assert_eq!(judgements.len(), requests.actions.kinds.len());
                judge.guard.settled(&vec![(0, 0); judgements.len()]);
                let Lines(lines) = &judge.lines;
                let (longest, blind) = (lines.0.swap(0, Relaxed), lines.1.swap(0, Relaxed));
                assert!(longest <= 64 << 10, "a line of the audit has {longest} bytes");
                assert_eq!(blind, 0, "lines of the audit lack what was asked for");
            });
            // And without a guard: nothing is sent, all is put into words.
            let mut executor = Executor::<Flows>::new(Shows::Entries, FlowDecoder::new(field::ALL), |_| {}).detached();
            let grants: Grants = "delete,create,update".parse().expect("grants");
            executor.perform(Asker { plugin: "p", grants: &grants, strict: false }, batch, requests);
        });
        check::flows(&batch).expect("a batch that is one");
    }
    Ok(())
}

fn of_expectations(input: &mut Unstructured<'_>) -> Result<()> {
    let length = size(input, 4096)?;
    let has = expectation_field::EXPECTED | expectation_field::TIMEOUT;
    let mut batch = Expectations {
        length: length as u32,
        has: vec![has; length],
        family: vec![2; length],
        timeout: vec![5; length],
        ..Expectations::default()
    };
    for _ in 0..input.int_in_range(1..=3u8)? {
        let rows_now = batch.length as usize;
        let count = size(input, 1000)?;
        let values = Expectations {
            length: count as u32,
            has: vec![input.arbitrary()?; count],
            family: vec![2; count],
            helper: sparse(input, count)?,
            function: sparse(input, count)?,
            unknown: if input.ratio(1, 3)? { Some(raw(input, count)?) } else { None },
            timeout: vec![1; size(input, count)?],
            ..Expectations::default()
        };
        let size = 100 * count
            + values.helper.texts.bytes.len()
            + values.function.texts.bytes.len()
            + values.unknown.as_ref().map_or(0, |unknown| unknown.payloads.bytes.len() + 16 * unknown.rows.len());
        let said = Said {
            verdicts: Vec::new(),
            changes: None,
            annotations: if input.ratio(1, 2)? { Some(annotations(input, rows_now)?) } else { None },
            requests: Requests {
                actions: if input.ratio(1, 2)? { actions(input, rows_now, count)? } else { Actions::default() },
                values,
            },
        };
        let held = batch.annotations.as_ref().map_or(0, |notes| notes.keys.bytes.len() + notes.values.bytes.len());
        digest(said, &mut batch, held, size, |batch, requests| {
            use flowgate::pipeline::executor::Planned as _;
            // What a dry run prints, of a few.
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
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    JUDGE.with_borrow(|_| ());
    let mut input = Unstructured::new(input);
    let result = if input.ratio(1, 4).unwrap_or(false) { of_expectations(&mut input) } else { of_flows(&mut input) };
    // An input that is too short says too little.
    let _ = result;
});
