//! The plugins that the binary carries, compiled by the build script.

include!(concat!(env!("OUT_DIR"), "/stock.rs"));

/// The compiled code of a stock plugin.
pub(super) fn compiled(name: &str) -> Option<&'static [u8]> {
    STOCK.iter().find(|(stock, _)| *stock == name).map(|(_, code)| *code)
}
