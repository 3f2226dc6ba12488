//! The executor: the only place with authority over the kernel's table.
//!
//! Stages ask, the executor decides. What was not granted is refused, counted, and told once.

use std::{collections::BTreeMap, io::Write};

use super::stage::Requests;
use crate::model::action;

/// Performs, or refuses, what stages ask for.
pub trait Executor<T> {
    /// Deals with the requests of a stage for a batch.
    fn perform(&mut self, plugin: &str, batch: &T, requests: Requests<T>);
}

/// Grants nothing: the executor of every pipeline whose stages have only been asked to look.
#[derive(Default)]
pub struct Refusal {
    /// Plugin and kind of action, and how many were refused.
    refused: BTreeMap<(String, u8), u64>,
}

impl Refusal {
    /// How many actions were refused.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.refused.values().sum()
    }
}

impl<T> Executor<T> for Refusal {
    fn perform(&mut self, plugin: &str, _batch: &T, requests: Requests<T>) {
        for kind in requests.actions.kinds {
            let count = self.refused.entry((plugin.to_string(), kind)).or_insert(0);
            *count += 1;
            if *count == 1 {
                // Nobody to tell is no reason to stop.
                let _ = writeln!(
                    std::io::stderr().lock(),
                    "WARNING: plugin {plugin} asked to {} flows, which it was not granted; refused.",
                    name(kind)
                );
            }
        }
    }
}

/// The name of a kind of action.
#[must_use]
pub fn name(kind: u8) -> String {
    match kind {
        action::DELETE => "delete".into(),
        action::UPDATE => "update".into(),
        action::CREATE => "create".into(),
        action::CREATE_OR_UPDATE => "create or update".into(),
        other => format!("do the unknown action {other} to"),
    }
}
