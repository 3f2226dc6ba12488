//! The query language through the program: conditions and aggregates, compared with DuckDB.
//!
//! Needs root, and what `make setup` installs.

mod actions;
mod aggregates;
mod conditions;
mod duckdb;
mod generate;
mod hostile;
