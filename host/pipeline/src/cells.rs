//! Values of the groups that an aggregation returns, as numbers and as text.

use std::net::Ipv6Addr;

use flowgate_base::text::clean;
use flowgate_model::{Cells, batch, event, family, protocol, query::kind};

/// Returns the bits of the number or address in a row; `None` without a value.
#[must_use]
pub fn bits(cells: &Cells, row: usize) -> Option<u128> {
    if !cells.has.is_empty() && cells.has.get(row) != Some(&1) {
        return None;
    }
    let half = |halves: &[u64]| u128::from(halves.get(row).copied().unwrap_or_default());
    Some(half(&cells.hi) << 64 | half(&cells.lo))
}

/// Returns the whole number in a row; `None` without a value.
#[must_use]
pub fn number(cells: &Cells, row: usize) -> Option<i128> {
    bits(cells, row).map(u128::cast_signed)
}

/// Returns a key in a row as text; `None` without a value.
#[must_use]
pub fn text(cells: &Cells, row: usize) -> Option<String> {
    let bits = bits(cells, row)?;
    let name = u8::try_from(bits).ok().and_then(|number| match cells.kind {
        kind::PROTOCOL => protocol::name(number),
        kind::FAMILY => family::name(number),
        kind::EVENT => event::name(number),
        _ => None,
    });
    let address = || Ipv6Addr::from_bits(bits).to_canonical().to_string();
    Some(match cells.kind {
        kind::TEXT => clean(&String::from_utf8_lossy(batch::text(&cells.texts, row))),
        kind::ADDRESS => address(),
        kind::NETWORK => format!("{}/{}", address(), cells.reals.get(row).copied().unwrap_or_default()),
        _ => name.map_or_else(|| bits.cast_signed().to_string(), str::to_owned),
    })
}
