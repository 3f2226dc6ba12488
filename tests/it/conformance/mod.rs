//! flowgate compared with the installed `conntrack` on the same table: output, error text and exit status must agree.
//!
//! Lines are compared sorted, because the order of a dump is not defined. Times that change between the two calls (the
//! remaining timeout, the age) may differ by no more than the time that has passed. Everything else is compared byte
//! for byte, except for what `differences.rs` lists by command line, with a reason.
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
