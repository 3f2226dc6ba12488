//! Tests of the model with dumps and events, of the keys, and of screens of every size.

use std::sync::Arc;

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    filter::Filter,
    frame,
    model::{Model, Origin},
    snapshot::Snapshot,
    sort::{Sort, SortKey},
    testing::{EPOCH, Flow, SECOND, batch, entry, event_row},
    ui::{Mode, Ui, UiAction},
    view::{self, ScreenInfo},
};
use crate::model::SharedModel;
use flowgate_model::{event, field, protocol};
use flowgate_pipeline::{consumer::Consumer as _, stats::StageStats};

fn sort(key: SortKey) -> Sort {
    Sort { key, reverse: false }
}

/// Returns a model that has consumed these dumps.
fn model(key: SortKey, dumps: &[(f64, &[Flow])]) -> SharedModel {
    let mut shared = SharedModel::new(Model::new(Origin::Kernel, sort(key)));
    for (seconds, rows) in dumps {
        dump(&mut shared, *seconds, rows);
    }
    shared
}

fn dump(shared: &mut SharedModel, seconds: f64, rows: &[Flow]) {
    take(shared, seconds, rows);
    shared.pause().unwrap();
}

fn take(shared: &mut SharedModel, seconds: f64, rows: &[Flow]) {
    shared.take(&mut batch(seconds, rows), &mut Vec::new()).unwrap();
}

fn ids(snapshot: &Snapshot) -> Vec<u32> {
    snapshot.rows.iter().map(|row| row.name.id).collect()
}

#[test]
fn rates_are_differences_between_dumps() {
    let shared = model(
        SortKey::Rate,
        &[
            (0.0, &[entry(1, Some((1000, 10))), entry(2, Some((5000, 50)))]),
            (2.0, &[entry(1, Some((9000, 30))), entry(2, Some((5000, 50)))]),
        ],
    );
    let snapshot = shared.lock().snapshot();
    assert_eq!(ids(&snapshot), [1, 2]);
    let rate = snapshot.rows[0].rate.unwrap();
    assert_eq!((rate.bytes, rate.packets), (4000.0, 10.0));
    assert_eq!(snapshot.rows[1].rate.unwrap().bytes, 0.0);
    let total = snapshot.total();
    assert_eq!((total.flows, total.bytes, total.rate.bytes), (2, 14_000, 4000.0));
    assert_eq!((snapshot.accounting, snapshot.rounds), (Some(true), 2));
}

#[test]
fn the_total_rate_has_a_history() {
    let counted = |bytes: u64| [entry(1, Some((bytes, bytes / 100))), entry(2, Some((0, 0)))];
    let mut shared = model(SortKey::Rate, &[(0.0, &counted(0)), (1.0, &counted(1000))]);
    assert_eq!(frame::history(&shared.lock().snapshot(), 80), None);
    for (seconds, bytes) in [(2.0, 1500), (3.0, 1500), (4.0, 5500)] {
        dump(&mut shared, seconds, &counted(bytes));
    }
    let snapshot = shared.lock().snapshot();
    let rates: Vec<f64> = snapshot.history.iter().map(|rate| rate.bytes).collect();
    assert_eq!(rates, [1000.0, 500.0, 0.0, 4000.0]);
    assert_eq!(frame::history(&snapshot, 80).unwrap(), "history ▃▂▁█ 4.0 kB/s at most");
    // The latest ones fit a narrow screen.
    assert_eq!(frame::history(&snapshot, 36).unwrap(), "history ▂▁█ 4.0 kB/s at most");
    assert_eq!(frame::history(&snapshot, 0).unwrap(), "history ▁█ 4.0 kB/s at most");
    let by_packets = Snapshot { sort: sort(SortKey::PacketRate), ..snapshot };
    assert_eq!(frame::history(&by_packets, 80).unwrap(), "history ▃▂▁█ 40 packets/s at most");
    // No more than the last ones are kept, and none without accounting.
    for round in 5..500 {
        dump(&mut shared, f64::from(round), &counted(5500));
    }
    let history = shared.lock().snapshot().history;
    assert!(history.len() == crate::model::MAX_HISTORY && history.iter().all(|rate| rate.bytes == 0.0));
    let uncounted = model(SortKey::Age, &[(0.0, &[entry(1, None)]), (1.0, &[entry(1, None)])]);
    assert!(uncounted.lock().snapshot().history.is_empty());
}

#[test]
fn a_flow_that_began_between_dumps_has_a_rate_at_once() {
    let mut shared = model(SortKey::Rate, &[(0.0, &[])]);
    take(&mut shared, 0.5, &[event_row(event::NEW, 7, None)]);
    let snapshot = shared.lock().snapshot();
    assert_eq!((ids(&snapshot), snapshot.total().flows, snapshot.events.new), (vec![7], 1, 1));
    dump(&mut shared, 1.0, &[entry(7, Some((500, 5)))]);
    let snapshot = shared.lock().snapshot();
    assert_eq!(snapshot.rows[0].rate.unwrap().bytes, 1000.0);
    assert!(snapshot.rows[0].born && snapshot.rows[0].since == EPOCH + SECOND / 2);
}

#[test]
fn dumps_too_close_together_change_no_rate() {
    let mut shared = model(SortKey::Rate, &[(0.0, &[entry(1, Some((0, 0)))]), (1.0, &[entry(1, Some((100, 1)))])]);
    dump(&mut shared, 1.01, &[entry(1, Some((150, 1)))]);
    assert_eq!(shared.lock().snapshot().rows[0].rate.unwrap().bytes, 100.0);
    dump(&mut shared, 2.0, &[entry(1, Some((300, 2)))]);
    assert_eq!(shared.lock().snapshot().rows[0].rate.unwrap().bytes, 200.0);
}

#[test]
fn what_has_gone_is_not_shown() {
    let three = [entry(1, None), entry(2, None), entry(3, None)];
    let mut shared = model(SortKey::Age, &[(0.0, &three)]);
    take(&mut shared, 0.5, &[event_row(event::DESTROY, 2, None), event_row(event::DESTROY, 9, None)]);
    let snapshot = shared.lock().snapshot();
    assert_eq!((ids(&snapshot), snapshot.total().flows), (vec![1, 3], 2));
    dump(&mut shared, 1.0, &[entry(3, None)]);
    let snapshot = shared.lock().snapshot();
    assert_eq!((ids(&snapshot), snapshot.total().flows, snapshot.events.destroy), (vec![3], 1, 2));
}

#[test]
fn without_accounting_it_is_sorted_by_what_there_is() {
    let shared = model(SortKey::Rate, &[(0.0, &[entry(1, None), entry(2, None)])]);
    let snapshot = shared.lock().snapshot();
    assert_eq!((snapshot.sort.key, snapshot.accounting, ids(&snapshot)), (SortKey::Timeout, Some(false), vec![2, 1]));
    let dated = |id, start: u64| Flow { start: Some(EPOCH - start * SECOND), ..entry(id, None) };
    let shared = model(SortKey::Rate, &[(0.0, &[dated(1, 5), dated(2, 50), dated(3, 1)])]);
    let snapshot = shared.lock().snapshot();
    assert_eq!((snapshot.sort.key, ids(&snapshot)), (SortKey::Age, vec![2, 1, 3]));
    let text = frame::text(&snapshot, &[], 10);
    assert!(text.contains("nf_conntrack_acct=1") && text.contains("AGE▼"), "{text}");
}

#[test]
fn no_more_rows_are_kept_than_there_should_be() {
    let flows: Vec<Flow> = (1..=1000).map(|id| entry(id, Some((u64::from(id), 1)))).collect();
    let mut shared = SharedModel::new(Model::with_max_rows(Origin::Kernel, sort(SortKey::Bytes), 10));
    for chunk in flows.chunks(7) {
        take(&mut shared, 0.0, chunk);
    }
    shared.pause().unwrap();
    let snapshot = shared.lock().snapshot();
    assert_eq!(ids(&snapshot), (991..=1000).rev().collect::<Vec<u32>>());
    assert_eq!((snapshot.matching, snapshot.total().flows), (1000, 1000));
    // With the next dump, a filter finds flows that were not kept.
    shared.lock().set_filter(Filter::new("10.0.0.3:"));
    dump(&mut shared, 1.0, &flows);
    let snapshot = shared.lock().snapshot();
    assert_eq!((ids(&snapshot), snapshot.matching), (vec![3], 1));
    for id in 2000..2100 {
        take(&mut shared, 1.5, &[event_row(event::NEW, id, None)]);
    }
    shared.lock().set_filter(Filter::default());
    assert!(shared.lock().snapshot().rows.len() < 20);
}

#[test]
fn filters_are_words_that_must_all_occur() {
    let marked = Flow { mark: 77, ..entry(2, None) };
    let udp = Flow { protocol: protocol::UDP, ..entry(3, None) };
    let shared = model(SortKey::Timeout, &[(0.0, &[entry(1, None), marked, udp])]);
    for (typed, found) in [
        ("", vec![3, 2, 1]),
        ("UDP", vec![3]),
        ("established tcp", vec![2, 1]),
        ("10.0.0.2:40000", vec![2]),
        ("10.1.0.1:443 mark=77", vec![2]),
        ("nonsense", vec![]),
    ] {
        shared.lock().set_filter(Filter::new(typed));
        let snapshot = shared.lock().snapshot();
        assert_eq!((ids(&snapshot), snapshot.matching), (found.clone(), found.len() as u64), "{typed}");
    }
}

#[test]
fn a_recording_keeps_what_ended() {
    let mut shared = SharedModel::new(Model::new(Origin::Recording, sort(SortKey::Rate)));
    take(&mut shared, 0.0, &[event_row(event::NEW, 1, None), event_row(event::NEW, 2, None)]);
    let ended =
        Flow { start: Some(EPOCH), stop: Some(EPOCH + 4 * SECOND), ..event_row(event::DESTROY, 1, Some((400, 8))) };
    take(&mut shared, 5.0, &[ended]);
    shared.pause().unwrap();
    let snapshot = shared.lock().snapshot();
    assert_eq!((ids(&snapshot), snapshot.total().flows, snapshot.matching), (vec![1, 2], 2, 2));
    let first = &snapshot.rows[0];
    assert_eq!((first.rate.unwrap().bytes, first.state(), first.age(snapshot.now)), (100.0, "ended", 4 * SECOND));
}

#[test]
fn a_row_becomes_the_table_that_names_it() {
    let shared = model(SortKey::Rate, &[(0.0, &[entry(5, Some((1, 1)))])]);
    let table = shared.lock().snapshot().rows[0].table();
    let original = batch(0.0, &[entry(5, None)]);
    assert_eq!((table.length, table.has[0]), (1, field::TUPLES | field::ID));
    assert_eq!((table.original, table.reply, table.id), (original.original, original.reply, original.id));
    flowgate_netlink::encode::flows::delete(
        flowgate_netlink::FlowEntry::new(&shared.lock().snapshot().rows[0].table(), 0).unwrap(),
    )
    .unwrap();
}

/// Returns a screen of this size as text.
fn screen(width: u16, height: u16, snapshot: &Snapshot, ui: &mut Ui) -> String {
    let around = ScreenInfo {
        title: "x.pcap".into(),
        stages: vec![StageStats { plugin: "dir/p.wasm".into(), rows_in: 7, ..StageStats::default() }],
        message: Some("a warning".into()),
    };
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, snapshot, ui, &around)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned() + "\n").collect()
}

fn press(ui: &mut Ui, code: KeyCode, snapshot: &Arc<Snapshot>) -> UiAction {
    ui.key(KeyEvent::new(code, KeyModifiers::NONE), snapshot)
}

#[test]
fn everything_has_its_place() {
    let rows: Vec<Flow> = (1..=3).map(|id| entry(id, Some((u64::from(id) * 1000, 10)))).collect();
    let shared = model(SortKey::Bytes, &[(0.0, &rows)]);
    let snapshot = shared.lock().snapshot();
    let mut ui = Ui::new(Origin::Kernel, sort(SortKey::Bytes));
    let picture = screen(140, 12, &snapshot, &mut ui);
    let lines: Vec<&str> = picture.lines().collect();
    assert!(lines[0].starts_with("flowgate top x.pcap: 3 flows, 0 B/s"), "{picture}");
    assert_eq!(lines[1], "tcp 3");
    assert!(lines[2].starts_with("p.wasm running: 7 rows in"), "{picture}");
    assert_eq!(lines[3], "a warning");
    assert!(lines[4].starts_with("PROTO STATE") && lines[4].contains("BYTES▼"), "{picture}");
    assert!(lines[5].starts_with("tcp   ESTABLISHED 10.0.0.3:40000 10.1.0.1:443"), "{picture}");
    assert!(lines[11].starts_with("3 of 3 flows"), "{picture}");
}

#[test]
fn no_size_of_screen_is_too_small() {
    let rows: Vec<Flow> = (1..=50).map(|id| entry(id, Some((1, 1)))).collect();
    let shared = model(SortKey::Rate, &[(0.0, &rows)]);
    let snapshot = Arc::new(shared.lock().snapshot());
    let row = snapshot.rows[3].clone();
    for mode in [Mode::Table, Mode::Filter, Mode::Help, Mode::Confirm(Box::new(row))] {
        for width in [0, 1, 2, 5, 19, 40, 80, 300] {
            for height in [0, 1, 2, 3, 4, 5, 24, 100] {
                let mut ui = Ui::new(Origin::Kernel, sort(SortKey::Rate));
                press(&mut ui, KeyCode::End, &snapshot);
                ui.mode = mode.clone();
                screen(width, height, &snapshot, &mut ui);
            }
        }
    }
}

#[test]
fn columns_leave_a_narrow_screen_but_the_order_stays_visible() {
    let shared = model(SortKey::Timeout, &[(0.0, &[entry(1, Some((1, 1)))])]);
    let snapshot = shared.lock().snapshot();
    for width in 45..160 {
        let lines = frame::table(&snapshot.rows, snapshot.now, snapshot.sort, Some(width));
        assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:?}");
        assert!(lines[0].contains("TIMEOUT▼") && lines[1].contains("10.0.0.1"), "{width}: {lines:?}");
    }
}

#[test]
fn the_selection_follows_its_flow() {
    let mut shared =
        model(SortKey::Bytes, &[(0.0, &[entry(1, Some((30, 1))), entry(2, Some((20, 1))), entry(3, Some((10, 1)))])]);
    let mut ui = Ui::new(Origin::Kernel, sort(SortKey::Bytes));
    let snapshot = Arc::new(shared.lock().snapshot());
    ui.place(&snapshot, 10);
    assert!(ui.chosen(&snapshot).is_none(), "at the start none is selected");
    press(&mut ui, KeyCode::Down, &snapshot);
    press(&mut ui, KeyCode::Down, &snapshot);
    assert_eq!(ui.chosen(&snapshot).unwrap().name.id, 2);
    dump(&mut shared, 1.0, &[entry(1, Some((30, 1))), entry(2, Some((99, 1))), entry(3, Some((10, 1)))]);
    let snapshot = Arc::new(shared.lock().snapshot());
    ui.place(&snapshot, 10);
    assert_eq!((ui.selected.unwrap().0, ui.chosen(&snapshot).unwrap().name.id), (0, 2));
    dump(&mut shared, 2.0, &[entry(1, Some((30, 1)))]);
    let snapshot = Arc::new(shared.lock().snapshot());
    ui.place(&snapshot, 10);
    assert_eq!(ui.chosen(&snapshot).unwrap().name.id, 1);
    press(&mut ui, KeyCode::Esc, &snapshot);
    assert!(ui.selected.is_none());
}

#[test]
fn only_a_yes_deletes() {
    let shared = model(SortKey::Bytes, &[(0.0, &[entry(1, Some((30, 1))), entry(2, Some((20, 1)))])]);
    let snapshot = Arc::new(shared.lock().snapshot());
    let mut ui = Ui::new(Origin::Kernel, sort(SortKey::Bytes));
    assert_eq!(press(&mut ui, KeyCode::Char('d'), &snapshot), UiAction::Nothing);
    assert!(ui.note.as_ref().unwrap().contains("select a flow first") && ui.mode == Mode::Table);
    press(&mut ui, KeyCode::Down, &snapshot);
    for no in [KeyCode::Enter, KeyCode::Esc, KeyCode::Char('n'), KeyCode::Char('d'), KeyCode::Char('q')] {
        press(&mut ui, KeyCode::Char('d'), &snapshot);
        assert!(matches!(ui.mode, Mode::Confirm(_)));
        assert_eq!(press(&mut ui, no, &snapshot), UiAction::Nothing);
        assert_eq!(ui.mode, Mode::Table);
    }
    press(&mut ui, KeyCode::Delete, &snapshot);
    let UiAction::Delete(row) = press(&mut ui, KeyCode::Char('y'), &snapshot) else { panic!("y deletes") };
    assert_eq!(row.name.id, 1);
    let mut recording = Ui { selected: ui.selected, ..Ui::new(Origin::Recording, sort(SortKey::Bytes)) };
    press(&mut recording, KeyCode::Char('d'), &snapshot);
    assert!(recording.mode == Mode::Table && recording.note.is_some());
}

#[test]
fn keys_do_what_the_help_says() {
    let shared = model(SortKey::Bytes, &[(0.0, &[entry(1, Some((30, 1)))])]);
    let snapshot = Arc::new(shared.lock().snapshot());
    let mut ui = Ui::new(Origin::Kernel, sort(SortKey::Rate));
    for (key, expected) in [
        ('b', SortKey::Bytes),
        ('p', SortKey::Packets),
        ('s', SortKey::PacketRate),
        ('a', SortKey::Age),
        ('t', SortKey::Timeout),
        ('r', SortKey::Rate),
    ] {
        assert_eq!(press(&mut ui, KeyCode::Char(key), &snapshot), UiAction::Sort(sort(expected)));
    }
    assert_eq!(press(&mut ui, KeyCode::Left, &snapshot), UiAction::Sort(sort(SortKey::Timeout)));
    assert_eq!(press(&mut ui, KeyCode::Right, &snapshot), UiAction::Sort(sort(SortKey::Rate)));
    assert_eq!(
        press(&mut ui, KeyCode::Char('i'), &snapshot),
        UiAction::Sort(Sort { key: SortKey::Rate, reverse: true })
    );
    press(&mut ui, KeyCode::Char('/'), &snapshot);
    press(&mut ui, KeyCode::Char('q'), &snapshot);
    press(&mut ui, KeyCode::Char('x'), &snapshot);
    assert_eq!(press(&mut ui, KeyCode::Backspace, &snapshot), UiAction::Filter("q".into()));
    press(&mut ui, KeyCode::Enter, &snapshot);
    assert_eq!((ui.mode.clone(), ui.filter.as_str()), (Mode::Table, "q"));
    assert_eq!(press(&mut ui, KeyCode::Esc, &snapshot), UiAction::Filter(String::new()));
    assert_eq!(press(&mut ui, KeyCode::Char(' '), &snapshot), UiAction::Pause(true));
    assert!(ui.paused.is_some());
    assert_eq!(press(&mut ui, KeyCode::Char(' '), &snapshot), UiAction::Pause(false));
    press(&mut ui, KeyCode::Char('?'), &snapshot);
    assert!(screen(120, 30, &snapshot, &mut ui).contains("any key goes back"));
    assert_eq!(press(&mut ui, KeyCode::Char('q'), &snapshot), UiAction::Nothing);
    assert_eq!(press(&mut ui, KeyCode::Char('q'), &snapshot), UiAction::Quit);
    assert_eq!(ui.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), &snapshot), UiAction::Quit);
}

#[test]
fn a_frame_is_json_with_the_names_of_the_format() {
    let flow = Flow { start: Some(EPOCH - SECOND), ..entry(1, Some((3000, 30))) };
    let shared = model(SortKey::Rate, &[(0.0, &[flow])]);
    let snapshot = shared.lock().snapshot();
    let json = frame::json(&snapshot, &[StageStats::default()], 5);
    assert_eq!(json.matches('\n').count(), 1);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["flows"], 1);
    assert_eq!(value["protocols"][0]["protocol_name"], "tcp");
    let row = &value["rows"][0];
    assert_eq!((&row["original"]["source"], &row["original"]["source_port"]), (&"10.0.0.1".into(), &40_000.into()));
    assert_eq!(
        (&row["state_name"], &row["bytes"], &row["age_exact"]),
        (&"ESTABLISHED".into(), &3000.into(), &true.into())
    );
    assert!(row.get("bytes_per_second").is_none(), "one dump has no rate");
    assert_eq!(value["plugins"][0]["health"], "running");
}
