//! Arbitrary bytes as a netlink datagram: nothing panics, columns stay consistent, and a rejected message leaves no
//! trace.

use flowgate_model::check;
use flowgate_model::{Counts, Expectations, Flows, field};
use flowgate_netlink::decode::{Arrival, ExpectationDecoder, FlowDecoder, push_counts};
use flowgate_netlink::encode::{expectations, flows as encode};
use flowgate_netlink::{ExpectationEntry, FlowEntry, Messages};

/// Decodes the input, and encodes the result.
///
/// # Panics
/// If one of these properties does not hold.
pub(crate) fn run(input: &[u8]) {
    // The first byte selects the kind of message, the next eight the wanted fields.
    let Some((how, rest)) = input.split_first() else { return };
    let Some((wanted, datagram)) = rest.split_first_chunk::<8>() else { return };
    let wanted = if how & 2 == 0 { field::ALL } else { u64::from_le_bytes(*wanted) };
    let arrival = match how & 1 {
        0 => Arrival::Entry,
        _ => Arrival::Event { received: 1, namespace: (how & 4 != 0).then_some(7) },
    };
    let (mut decoder, mut flows) = (FlowDecoder::new(wanted), Flows::default());
    let (mut expectation_decoder, mut batch) = (ExpectationDecoder::new(), Expectations::default());
    let mut counts = Counts::default();
    for message in Messages::new(datagram).map_while(Result::ok) {
        let _ = message.content();
        let before = flows.clone();
        if decoder.push(&mut flows, &message, arrival).is_err() {
            assert_eq!(flows, before);
        }
        let before = batch.clone();
        if expectation_decoder.push(&mut batch, &message, arrival).is_err() {
            assert_eq!(batch, before);
        }
        let _ = push_counts(&mut counts, &message);
    }
    check::flows(&flows).expect("consistent columns of flows");
    assert!(flows.has.iter().all(|has| has & !decoder.wanted() == 0));
    check::expectations(&batch).expect("consistent columns of expectations");
    // A decoded row is either encoded or refused, and a deletion has a tuple.
    for row in 0..flows.length as usize {
        let entry = FlowEntry::new(&flows, row).expect("a row of the batch");
        let _ = encode::create(entry, encode::IfExists::Update);
        if let Ok(request) = encode::delete(entry) {
            assert!(request.len() > 20 + 8);
        }
    }
    for row in 0..batch.length as usize {
        let entry = ExpectationEntry::new(&batch, row).expect("a row of the batch");
        let _ = expectations::create(entry, true);
        let _ = expectations::delete(entry);
    }
    decoder.clear(&mut flows);
    assert_eq!(flows, Flows::default());
}
