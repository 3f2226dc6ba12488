//! `flowgate top`: flows by rate, bytes, packets, age or remaining time, on a screen or as one frame of text.
//!
//! * [`model`] takes the batches that come out of a pipeline and keeps what a screen can show: [`row`]s by [`sort`], those
//!   that a [`filter`] leaves, and sums.
//! * [`source`] is the kernel: a dump every interval, and events in between.
//! * [`ui`] is what is typed, [`view`] what is drawn, [`screen`] the terminal; [`frame`] is the text for scripts.
//! * [`messages`] holds the warnings that would otherwise be written over the screen.

pub mod cells;
pub mod filter;
pub mod frame;
pub mod messages;
pub mod model;
pub mod row;
pub mod screen;
pub mod sort;
pub mod source;
pub mod ui;
pub mod view;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use frame::Form;
pub use model::{Model, Origin, Snapshot};
pub use screen::Screen;
pub use sort::{Key, Sort};
