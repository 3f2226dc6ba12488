//! `flowgate top`: flows by rate, bytes, packets, age or remaining time, on a screen or as a single frame of text.
//!
//! * [`model`] consumes the batches of a pipeline and keeps what a screen can show: [`row`]s in the order of [`sort`]
//!   that pass a [`filter`], and sums; a [`snapshot`] is what it shows.
//! * [`groups`] groups the flows of each dump by a stock plugin.
//! * [`source`] is the kernel: a dump at every interval, and events in between.
//! * [`ui`] handles keys, [`view`] draws, [`screen`] is the terminal; [`frame`] is the output for scripts,
//!   [`group_frame`] that of groups.
//! * [`messages`] keeps warnings that would otherwise be written over the screen.

pub mod cells;
pub mod filter;
pub mod frame;
pub mod group_frame;
pub mod groups;
pub mod messages;
pub mod model;
pub mod row;
pub mod screen;
pub mod snapshot;
pub mod sort;
pub mod source;
pub mod ui;
pub mod view;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use frame::FrameFormat;
pub use model::{Model, Origin};
pub use screen::Screen;
pub use snapshot::Snapshot;
pub use sort::{Sort, SortKey};
