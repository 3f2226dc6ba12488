//! flowgate beside the installed `conntrack`, on one and the same table: output, error text and exit status must agree.
//!
//! Lines are compared sorted, because nothing promises the order of a dump. Times that pass between the two calls
//! (the remaining timeout, the age) may differ by the time that did pass and no more. Everything else is compared byte
//! for byte, apart from what `differences.rs` lists by command line, with a reason.
//!
//! A failure shows the first disagreements; `FLOWGATE_SHOWN=N` shows more.
//!
//! Needs root, and `conntrack`, `nft`, `ip` and `ping`: `make setup` installs them.

mod acts;
mod batches;
mod command_lines;
mod commands;
mod compare;
mod differences;
mod events;
mod helpers;
mod histories;
mod legality;
mod line;
mod link;
mod loose;
mod options;
mod pipe;
mod round_trips;
mod selectors;
mod sequences;
mod tables;
mod together;
