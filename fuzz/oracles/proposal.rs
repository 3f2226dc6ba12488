//! Any bytes as a request that an untrusted process proposes: nothing panics, the work is bounded, and what is accepted
//! is encoded as the same bytes again. What the encoder makes is accepted.

use std::sync::atomic::{AtomicU64, Ordering};

use flowgate_model::{action, batch};
use flowgate_netlink::{
    FlowEntry, encode,
    proposal::{MAX_LENGTH, ProposeError, propose, read, read_lookup},
};
use flowgate_netlink_testing::rows::Rows;

use super::{allocation, input::Input};

/// Bytes that reading a request may allocate in all: columns of one element, and texts that are shorter than the
/// request.
const MOST: usize = 8 << 10;

/// Requests that were accepted, and ones that were refused.
static ACCEPTED: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Returns how many requests were accepted, and how many were refused.
#[allow(dead_code, reason = "an engine has no use for it")]
pub(crate) fn read_so_far() -> (u64, u64) {
    (ACCEPTED.load(Ordering::Relaxed), REFUSED.load(Ordering::Relaxed))
}

/// Reads the input as a request, or a request that is made and edited as the input says.
///
/// # Panics
/// If one of the properties does not hold.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    if input.one_in(8) {
        try_bytes(input.0);
        return;
    }
    let kind = input.pick(&[action::DELETE, action::UPDATE, action::CREATE, action::CREATE_OR_UPDATE]);
    let lookup = input.one_in(8);
    let edits = input.up_to(3);
    // The edits are behind the row, of which some numbers are needed; the rest of them are a function of the last ones.
    let (row, mut rest) = (input.0.split_at(input.0.len() * 3 / 4).0, Input(input.0.split_at(input.0.len() * 3 / 4).1));
    let mut row = Input(row);
    let mut state = 0u64;
    let mut next = || {
        state = (state.rotate_left(7) ^ u64::from(row.byte())).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        state >> 16
    };
    let mut rows = Rows(&mut next);
    let (family, number) = rows.kind();
    let flows = rows.row(family, number, true);
    let entry = FlowEntry::new(&flows, 0).expect("a row of the table");
    let request = if lookup {
        let Ok(request) = encode::flows::get(entry) else { return };
        if encode::flows::delete(entry).is_ok() {
            let found = read_lookup(request.as_bytes()).expect("a look-up of the encoder");
            let found = FlowEntry::new(&found, 0).expect("a row");
            assert_eq!(encode::flows::get(found), Ok(request.clone()));
        }
        request
    } else {
        match propose(kind, None, Some(entry)) {
            Ok(request) => request,
            Err(ProposeError::Encode(_)) => return,
            // The row says what cannot be said in one request: a state of another protocol, an end translated twice.
            Err(error) => {
                assert!(!error.to_string().contains(char::is_control), "{error}");
                return;
            }
        }
    };
    let mut bytes = request.as_bytes().to_vec();
    try_bytes(&bytes);
    for _ in 0..edits {
        edit(&mut bytes, &mut rest);
    }
    try_bytes(&bytes);
}

/// Changes, inserts or removes bytes; mostly at places where attributes are, and with a length that is right.
fn edit(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    let at = input.up_to(bytes.len().saturating_sub(1));
    let aligned = at & !3;
    match input.up_to(7) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = input.byte();
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << input.up_to(7);
            }
        }
        3 => bytes.truncate(aligned),
        4 => {
            let end = (aligned + 4 * (1 + input.up_to(10))).min(bytes.len());
            bytes.drain(aligned.min(end)..end);
        }
        5 => {
            let end = (aligned + 4 * (1 + input.up_to(10))).min(bytes.len());
            let again = bytes.get(aligned..end).unwrap_or_default().to_vec();
            bytes.splice(aligned..aligned, again);
        }
        6 => {
            let attribute = [4 + input.byte() % 9, 0, input.byte() % 28, input.byte() & 0xc0, 0, 0, 0, 8];
            bytes.splice(aligned..aligned, attribute);
        }
        _ => bytes.extend((0..input.up_to(1100)).map(|_| 0)),
    }
    let length = bytes.len() as u32;
    if let (false, Some(place)) = (input.one_in(8), bytes.first_chunk_mut::<4>()) {
        *place = length.to_ne_bytes();
    }
}

/// Reads the bytes as both kinds of request.
fn try_bytes(bytes: &[u8]) {
    allocation::begin();
    let (proposal, lookup) = (read(bytes), read_lookup(bytes));
    let (_, allocated) = allocation::counted();
    assert!(allocated <= MOST, "{allocated} bytes are allocated");
    assert!(bytes.len() <= MAX_LENGTH || proposal.is_err() && lookup.is_err());
    match &proposal {
        Ok(proposal) => {
            batch::check(&proposal.flows).expect("a table");
            let again = proposal.encode().expect("a row that can be encoded");
            assert_eq!(again.as_bytes(), bytes, "{proposal:?}");
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
    if let Ok(flows) = &lookup {
        assert!(proposal.is_err());
        batch::check(flows).expect("a table");
        let again = FlowEntry::new(flows, 0).and_then(encode::flows::get).expect("a row that can be encoded");
        assert_eq!(again.as_bytes(), bytes, "{flows:?}");
    }
    let counter = if proposal.is_ok() || lookup.is_ok() { &ACCEPTED } else { &REFUSED };
    counter.fetch_add(1, Ordering::Relaxed);
}
