//! Conditions on NAT.

use flowgate_sdk::{Flows, Translated, bindings::flowgate::conntrack::selector::Translation};

/// The end of the flow that is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
    Either,
}

/// Clears the verdicts of rows without such a NAT.
pub(crate) fn apply(verdicts: &mut [u8], batch: &Flows, side: Side, translation: &Translation) {
    for (verdict, flow) in verdicts.iter_mut().zip(batch.flows()) {
        if *verdict != 0 {
            let holds = side != Side::Destination && one(flow.source_translation(), translation)
                || side != Side::Source && one(flow.destination_translation(), translation);
            *verdict = u8::from(holds);
        }
    }
}

/// Returns true if one end is translated, and to the wanted address and port.
fn one(translated: Option<Translated>, wanted: &Translation) -> bool {
    let Some(translated) = translated else { return false };
    let address = wanted.address.as_ref().map(|address| u128::from(address.hi) << 64 | u128::from(address.lo));
    (address.is_none() || translated.address == address) && (wanted.port.is_none() || translated.port == wanted.port)
}
