//! Tests of the requested updates, flow by flow.

use flowgate_sdk::{
    AddressRange, Flow, FlowStage, FlowTemplate, Flows, Outcome, Plugin, Setup, action, event, field, protocol, status,
    testing::{Row, batch},
};

use super::Update;

fn update(template: Row, flows: impl IntoIterator<Item = Row>) -> Outcome {
    let mut stage = Update::configure(&Setup::default()).unwrap();
    stage.template(batch([template])).unwrap();
    stage.process(&batch(flows))
}

/// Returns the values requested for the only flow, `None` without a request.
fn values(template: Row, flow: Row) -> Option<Flows> {
    let outcome = update(template, [flow]);
    match (&outcome.verdicts[..], outcome.actions) {
        ([0], None) => None,
        ([], Some(actions)) => {
            assert_eq!(
                (&actions.kinds[..], &actions.rows[..], &actions.values[..]),
                (&[action::UPDATE][..], &[0][..], &[0][..])
            );
            Some(outcome.values.unwrap())
        }
        other => panic!("verdicts and actions {other:?}"),
    }
}

fn row(flows: &Flows) -> Flow<'_> {
    flows.flow(0).unwrap()
}

fn nothing() -> Row {
    Row::ipv4(0).without(field::ALL)
}

fn mark(value: u32, mask: Option<u32>) -> Row {
    nothing().set(field::MARK | if mask.is_some() { field::MARK_MASK } else { 0 }, |row| {
        (row.mark, row.mark_mask) = (value, mask.unwrap_or(0));
    })
}

fn timeout(seconds: u32) -> Row {
    nothing().set(field::TIMEOUT, |row| row.timeout = seconds)
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
    let set = values(mark(5, Some(u32::MAX)), tcp()).unwrap();
    assert_eq!((row(&set).mark(), row(&set).mark_mask()), (Some(5), Some(u32::MAX)));
    assert_eq!(row(&set).fields(), field::PROTOCOL | field::MARK | field::MARK_MASK);
    assert!(values(mark(0x10, Some(u32::MAX)), tcp()).is_none());
    assert!(values(mark(0x10, Some(0xf0)), tcp()).is_none());
    // The kernel gets the mask, and leaves the other bits as they are then, not as they were read.
    let set = values(mark(0x20, Some(0xf0)), tcp()).unwrap();
    assert_eq!((row(&set).mark(), row(&set).mark_mask()), (Some(0x20), Some(0xf0)));
    // A value outside the mask is XORed in.
    let set = values(mark(0x1, Some(0)), tcp()).unwrap();
    assert_eq!((row(&set).mark(), row(&set).mark_mask()), (Some(0x1), Some(0)));
    assert!(values(mark(0, Some(0)), tcp()).is_none());
    // Without a mask all bits are set.
    assert!(values(mark(0x10, None), tcp()).is_none());
    assert_eq!(row(&values(mark(0x11, None), tcp()).unwrap()).mark_mask(), Some(u32::MAX));
    // No mark counts as the mark 0.
    assert!(values(mark(0, None), tcp().without(field::MARK)).is_none());
    assert!(values(mark(1, None), tcp().without(field::MARK)).is_some());
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
fn timeouts() {
    assert!(values(timeout(100), tcp()).is_none());
    assert_eq!(row(&values(timeout(0), tcp()).unwrap()).timeout(), Some(0));
    // An offloaded flow has no timeout.
    assert_eq!(row(&values(timeout(0), tcp().without(field::TIMEOUT)).unwrap()).timeout(), Some(0));
}

#[test]
fn states_go_with_what_belongs_to_them() {
    let state = |number| {
        nothing()
            .set(field::PROTOCOL | field::STATE, |row| (row.protocol, row.state) = (protocol::TCP, number))
            .set(field::ORIGINAL_TCP_FLAGS | field::REPLY_TCP_FLAGS, |row| row.tcp_flags = (0x0a0a, 0x0e0e))
    };
    assert!(values(state(3), tcp()).is_none());
    let set = values(state(7), tcp()).unwrap();
    assert_eq!((row(&set).protocol(), row(&set).state()), (protocol::TCP, Some(7)));
    assert_eq!(row(&set).tcp_flags(), (Some((0x0a, 0x0a)), Some((0x0e, 0x0e))));
    assert!(values(state(3), tcp().without(field::STATE)).is_some(), "the state is not known");
    // Protocols without states have none to change.
    assert!(values(state(7), Row::ipv4(protocol::UDP)).is_none());

    // Flags alone change nothing, and are left out if there is no state.
    let flags = || state(0).without(field::STATE);
    assert!(values(flags(), tcp()).is_none());
    let set = values(flags().set(field::TIMEOUT, |row| row.timeout = 1), tcp()).unwrap();
    assert_eq!(row(&set).fields(), field::PROTOCOL | field::TIMEOUT);

    let sctp = |number| Row::ipv4(protocol::SCTP).set(field::STATE, |row| row.state = number);
    let tags = |number| {
        sctp(number)
            .set(field::ORIGINAL_VTAG | field::REPLY_VTAG, |row| row.vtags = (5, 6))
            .without(field::REPLY_PROTOCOL)
    };
    let set = values(tags(4), sctp(3)).unwrap();
    assert_eq!((row(&set).state(), row(&set).vtags()), (Some(4), (Some(5), Some(6))));
    assert!(values(tags(4), sctp(4)).is_none(), "tags decide nothing");
    assert!(values(tags(4).without(field::STATE), sctp(4)).is_none());

    let dccp = |number| Row::ipv6(protocol::DCCP).set(field::STATE, |row| row.state = number);
    let set = values(dccp(4), dccp(3)).unwrap();
    assert_eq!((row(&set).state(), row(&set).family()), (Some(4), 10));
    assert!(values(dccp(3), dccp(3)).is_none());
}

#[test]
fn labels() {
    let template = |bits: &[u8], mask: &[u8]| {
        nothing().set(field::LABELS | field::LABELS_MASK, |row| {
            row.labels = bits.to_vec();
            row.labels_mask = mask.to_vec();
        })
    };
    let labelled = |length: usize| tcp().set(field::LABELS, |row| row.labels = vec![3; length]);
    let first = |length: usize, byte: u8| {
        let mut bytes = vec![0; length];
        bytes[0] = byte;
        bytes
    };
    let sent = |template: Row, flow: Row| {
        values(template, flow).map(|set| {
            let set = row(&set);
            (set.labels().unwrap().to_vec(), set.labels_mask().unwrap().to_vec())
        })
    };
    for length in [16, 24] {
        // Added even if it is already set; the mask is as long as the labels of the flow.
        let add = sent(template(&first(16, 1), &first(16, 1)), labelled(length));
        assert_eq!(add, Some((first(length, 1), first(length, 1))));
        // Removed: by name, even if it is not set, or all of them.
        for name in [2, 4] {
            let remove = sent(template(&[0; 16], &first(16, name)), labelled(length));
            assert_eq!(remove, Some((vec![0; length], first(length, name))));
        }
        let clear = sent(template(&[0; 16], &[0xff; 16]), labelled(length));
        assert_eq!(clear, Some((vec![0; length], vec![0xff; length])));
    }
    // A flow without labels gets those that are added; there is nothing to remove from it.
    assert_eq!(sent(template(&[1], &[1]), tcp()), Some((first(16, 1), first(16, 1))));
    assert_eq!(sent(template(&[0], &[2]), tcp()), None);
    assert_eq!(sent(template(&[0; 16], &[0xff; 16]), tcp()), None);
    // Labels are not sent to it along with other values either.
    let both = template(&[0; 16], &[0xff; 16]).set(field::TIMEOUT, |row| row.timeout = 7);
    let set = values(both, tcp()).unwrap();
    assert_eq!(row(&set).fields(), field::PROTOCOL | field::TIMEOUT);
    // The first eight labels are not all of them.
    assert_eq!(sent(template(&[0], &[0xff]), labelled(16)), Some((vec![0; 16], first(16, 0xff))));
    // A label beyond those that the kernel keeps is sent, so that the kernel rejects it.
    let mut beyond = vec![0; 28];
    beyond[25] = 1;
    assert_eq!(sent(template(&beyond, &beyond), labelled(16)), Some((beyond.clone(), beyond)));
}

#[test]
fn translations_are_always_asked_for() {
    let address = AddressRange::address("192.0.2.1".parse().unwrap()).ports(7, 7);
    let given = (address.first, address.last, 7, 7);
    let set = values(nothing().set(field::SOURCE_NAT, |row| row.source_nat = given), tcp()).unwrap();
    assert_eq!((row(&set).source_nat(), row(&set).destination_nat()), (Some(address), None));
    let set = values(nothing().set(field::DESTINATION_NAT, |row| row.destination_nat = given), tcp()).unwrap();
    assert_eq!((row(&set).source_nat(), row(&set).destination_nat()), (None, Some(address)));
}

#[test]
fn all_of_the_template_is_sent_where_part_of_it_changes() {
    let template = timeout(100).set(field::MARK | field::MARK_MASK | field::STATUS, |row| {
        (row.mark, row.mark_mask, row.status) = (0x10, u32::MAX, status::ASSURED);
    });
    let set = values(template, tcp()).unwrap();
    assert_eq!((row(&set).timeout(), row(&set).mark()), (Some(100), Some(0x10)));
    assert_eq!(row(&set).status(), Some(status::CONFIRMED | status::SEEN_REPLY | status::ASSURED));
}

#[test]
fn only_the_flows_that_change_are_kept() {
    let outcome = update(mark(0x10, None), [tcp(), Row::ipv4(protocol::UDP), tcp(), Row::ipv6(protocol::UDP)]);
    assert_eq!(outcome.verdicts, [0, 1, 0, 1]);
    let (actions, set) = (outcome.actions.unwrap(), outcome.values.unwrap());
    assert_eq!((&actions.rows[..], &actions.values[..]), (&[1, 3][..], &[0, 1][..]));
    assert_eq!((set.length, &set.family[..], &set.mark[..]), (2, &[2, 10][..], &[0x10, 0x10][..]));
}

#[test]
fn gaps_pass_and_are_not_asked_about() {
    let gap = Row::default().event(event::GAP);
    let outcome = update(timeout(5), [gap, tcp().event(event::UPDATE), tcp().event(event::NEW)]);
    assert!(outcome.verdicts.is_empty());
    assert_eq!(outcome.actions.unwrap().rows, [1, 2]);
}

#[test]
fn a_template_has_one_row() {
    let mut stage = Update::configure(&Setup::default()).unwrap();
    assert!(stage.template(batch([tcp(), tcp()])).is_err());
    assert!(stage.template(Flows::default()).is_err());
    // Without a template, and with an empty one, there is nothing to change.
    let flows = batch([tcp()]);
    assert_eq!(stage.process(&flows).verdicts, [0]);
    assert!(values(nothing(), tcp()).is_none());
}
