//! What an update asks for, flow by flow.

use flowgate_sdk::{
    Flow, FlowStage, FlowTemplate, Flows, Outcome, Plugin, Setup, action, field, protocol, status,
    testing::{Row, batch},
};

use super::Update;

fn update(template: Row, flows: impl IntoIterator<Item = Row>) -> Outcome {
    let mut stage = Update::configure(&Setup::default()).unwrap();
    stage.template(batch([template])).unwrap();
    stage.process(&batch(flows))
}

/// The values asked for the only flow; none if nothing is asked.
fn values(template: Row, flow: Row) -> Option<Flows> {
    let outcome = update(template, [flow]);
    let actions = outcome.actions.unwrap();
    match outcome.verdicts[..] {
        [0] => {
            assert!(actions.kinds.is_empty());
            None
        }
        [1] => {
            assert_eq!(
                (&actions.kinds[..], &actions.rows[..], &actions.values[..]),
                (&[action::UPDATE][..], &[0][..], &[0][..])
            );
            outcome.values
        }
        ref other => panic!("verdicts {other:?}"),
    }
}

fn row(flows: &Flows) -> Flow<'_> {
    flows.flow(0).unwrap()
}

fn nothing() -> Row {
    Row::ipv4(0).without(field::ALL)
}

fn mark(value: u32, mask: u32) -> Row {
    nothing().set(field::MARK | field::MARK_MASK, |row| {
        row.mark = value;
        row.mark_mask = mask;
    })
}

fn tcp() -> Row {
    Row::ipv4(protocol::TCP)
        .set(field::MARK, |row| row.mark = 0x10)
        .set(field::TIMEOUT, |row| row.timeout = 100)
        .set(field::STATUS, |row| row.status = status::CONFIRMED | status::SEEN_REPLY)
        .set(field::STATE, |row| row.state = 3)
}

#[test]
fn a_mark_is_set_under_its_mask_unless_it_is_there_already() {
    let set = values(mark(5, u32::MAX), tcp()).unwrap();
    assert_eq!((row(&set).mark(), row(&set).mark_mask()), (Some(5), Some(u32::MAX)));
    assert!(values(mark(0x10, u32::MAX), tcp()).is_none());
    assert!(values(mark(0x10, 0xf0), tcp()).is_none());
    assert!(values(mark(0x20, 0xf0), tcp()).is_some());
    // A value outside the mask is XORed in.
    assert!(values(mark(0x1, 0), tcp()).is_some());
}

#[test]
fn status_bits_are_added_and_never_taken_away() {
    let bits = |bits| nothing().set(field::STATUS, |row| row.status = bits);
    let set = values(bits(status::ASSURED), tcp()).unwrap();
    assert_eq!(row(&set).status(), Some(status::CONFIRMED | status::SEEN_REPLY | status::ASSURED));
    assert!(values(bits(status::SEEN_REPLY), tcp()).is_none());
    assert!(values(bits(0), tcp()).is_none());
}

#[test]
fn timeout_and_state() {
    let timeout = |seconds| nothing().set(field::TIMEOUT, |row| row.timeout = seconds);
    assert!(values(timeout(100), tcp()).is_none());
    assert_eq!(row(&values(timeout(0), tcp()).unwrap()).timeout(), Some(0));

    let state = |number| {
        nothing()
            .set(field::PROTOCOL, |row| row.protocol = protocol::TCP)
            .set(field::STATE, |row| row.state = number)
            .set(field::ORIGINAL_TCP_FLAGS, |row| row.tcp_flags.0 = 0x0a0a)
    };
    assert!(values(state(3), tcp()).is_none());
    let set = values(state(7), tcp()).unwrap();
    assert_eq!((row(&set).state(), row(&set).tcp_flags().1), (Some(7), Some((0x0a, 0x0a))));
}

#[test]
fn labels() {
    let template = |bits: &[u8], mask: &[u8]| {
        nothing().set(field::LABELS | field::LABELS_MASK, |row| {
            row.labels = bits.to_vec();
            row.labels_mask = mask.to_vec();
        })
    };
    let labelled = |bits: &[u8]| tcp().set(field::LABELS, |row| row.labels = bits.to_vec());
    let old = labelled(&[3; 16]);

    // Added, even if it is set already; the mask is as long as what the flow has.
    let set = values(template(&[1], &[1]), old.clone()).unwrap();
    let mut expected = [0; 16];
    expected[0] = 1;
    assert_eq!((row(&set).labels().unwrap(), row(&set).labels_mask().unwrap()), (&expected[..], &expected[..]));
    assert!(values(template(&[1], &[1]), tcp()).is_some(), "a flow without labels gets some");

    // Removed: by name, or all of them; from a flow that has none there is nothing to remove.
    let set = values(template(&[0], &[2]), old.clone()).unwrap();
    assert_eq!(row(&set).labels_mask().unwrap()[0], 2);
    let set = values(template(&[0; 16], &[0xff; 16]), old).unwrap();
    assert_eq!(row(&set).labels_mask().unwrap(), [0xff; 16]);
    assert!(values(template(&[0], &[2]), tcp()).is_none());
}

#[test]
fn only_the_flows_that_change_are_kept() {
    let outcome = update(mark(0x10, u32::MAX), [tcp(), Row::ipv4(protocol::UDP), tcp()]);
    assert_eq!(outcome.verdicts, [0, 1, 0]);
    assert_eq!(outcome.actions.unwrap().rows, [1]);
}

#[test]
fn a_template_has_one_row() {
    let mut stage = Update::configure(&Setup::default()).unwrap();
    assert!(stage.template(batch([tcp(), tcp()])).is_err());
    assert!(stage.template(Flows::default()).is_err());
}
