//! Hardened units, containers and tight limits: what a classic command can do without.

mod engine;
