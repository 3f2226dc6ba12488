//! Values of options: numbers, addresses, networks, marks, NAT.
//!
//! Numbers are parsed as strtol(3) and the like parse them, because scripts rely on octal and hexadecimal numbers.

mod address;
mod list;
mod number;

pub(crate) use address::{
    AddressFlaw, address_flaw, erases, family, full_mask, has_text_around_brackets, netmask, network, split_port,
    to_model_address, to_model_mask,
};
pub(crate) use list::{IgnoredName, abbreviates, bad_parameter, elements};
pub use number::MAX_RECEIVE_BUFFER;
pub(crate) use number::{NumberFormat, mark, number, protocol_number};

/// Returns a text of nothing but decimal digits; `None` for any other.
pub(crate) fn digits(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
}
