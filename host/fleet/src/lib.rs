//! Many hosts with flowgate as one: questions to all of them, of which none is forgotten, and actions that are planned
//! and signed before they are done.
//!
//! Messages travel over NATS, behind one trait ([`bus::Bus`]). An [`agent`] answers on each host, by a
//! [`table::Table`], so that nothing that reads or changes the kernel's table knows of NATS. A [`collector`] asks, pulls what
//! does not fit into one answer, and ends with a [`roll_call`]: every agent in exactly one state. [`groups`] of flows are
//! merged, and events are followed ([`watch`], by an [`event_queue`]).
//!
//! The bus may read and withhold, but not forge: a [`plan`] is signed by operators' [`keys`], which each agent has in a
//! file of its own, and done once ([`journal`]), on record ([`audit`]), by agents that are absent also [`later`].
//!
//! [`events`] delivers what pipelines show, batch by batch, into a stream.
//! What agents run comes as [`bundle`]s, which a signed [`release`] names, and a [`rollout`] brings to them in stages;
//! each goes back by itself from what does not pass its trial.
//!
//! [`config`] has the files of agents and operators, [`server_config`] what `fleet init` writes for the server.

pub mod agent;
pub mod audit;
pub mod bundle;
pub mod bus;
pub mod collector;
pub mod config;
pub mod event_queue;
pub mod events;
pub mod groups;
pub mod journal;
pub mod keys;
pub mod later;
pub mod lines;
pub mod message;
pub mod names;
pub mod plan;
pub mod random;
pub mod release;
pub mod roll_call;
pub mod rollout;
pub mod running;
pub mod server_config;
pub mod table;
pub mod watch;
