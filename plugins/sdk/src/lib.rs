extern crate self as flowgate_sdk;
pub mod bindings;
#[doc(hidden)]
pub use wit_bindgen;

include!(concat!(env!("OUT_DIR"), "/worlds.rs"));
