//! What was left for the agent while it was absent: found when it connects, and done as any other command is.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{AGAIN, CHECK, Inner, action::Way};
use crate::{
    bus::{Bus, BusError, Subscription as _},
    later::{self, Note},
    message::{self, MAX_COMMAND, State},
    names,
    plan::{self, SignedPlan},
    table::Table,
};

/// How soon the agent looks after it was told that there is something.
const SOON: Duration = Duration::from_millis(50);
/// How soon it looks after it has connected.
const CONNECTED: Duration = Duration::from_millis(200);
/// The most plans that are remembered as refused before anything of them was read.
const TRIED: usize = 1024;

impl<B: Bus, T: Table> Inner<B, T> {
    /// Looks for plans for as long as the agent runs. An agent that obeys nobody does not look.
    pub(super) async fn do_later(self: Arc<Self>) {
        if self.identity.ring.is_empty() {
            return;
        }
        let mut connections = self.bus.connections();
        let mut told = loop {
            match self.bus.subscribe(names::notes(&self.identity.id)).await {
                Ok(told) => break told,
                Err(_) => tokio::time::sleep(crate::random::jitter(AGAIN)).await,
            }
        };
        let mut check = Instant::now();
        let mut tried = BTreeSet::new();
        loop {
            let soon = |least: Duration| Instant::now() + crate::random::jitter(least);
            tokio::select! {
                // What it says is read from the stream, which has all of it.
                message = told.next() => match message {
                    Some(_) => check = check.min(soon(SOON)),
                    None => return,
                },
                changed = connections.changed() => match changed {
                    Ok(()) => check = check.min(soon(CONNECTED)),
                    Err(_) => connections = super::never(),
                },
                () = tokio::time::sleep_until(check) => {
                    let looked = self.clone().look(&mut tried).await;
                    check = soon(match looked {
                        // Without an operator's connection there is no stream yet, and permissions change seldom.
                        Ok(()) | Err(BusError::Nobody | BusError::Denied(_)) => CHECK,
                        Err(_) => AGAIN,
                    });
                }
            }
        }
    }

    /// Does what has been left and has not expired, each plan once.
    async fn look(self: Arc<Self>, tried: &mut BTreeSet<Note>) -> Result<(), BusError> {
        let Some(list) = self.bus.last(names::COMMANDS, &names::notes(&self.identity.id)).await? else {
            return Ok(());
        };
        let notes = match later::read(&list.payload) {
            Ok(notes) => notes,
            Err(error) => {
                self.warnings.line(&format!("the list of plans for this agent: {error}"));
                return Ok(());
            }
        };
        let now = plan::now();
        let notes: Vec<Note> = notes.into_iter().filter(|note| note.expires > now && !tried.contains(note)).collect();
        if notes.is_empty() {
            return Ok(());
        }
        let inner = self.clone();
        // The journal is locked for as long as an action takes.
        let unknown = tokio::task::spawn_blocking(move || {
            let records = inner.records.lock().unwrap_or_else(PoisonError::into_inner);
            notes.into_iter().filter(|note| !records.0.journal.knows(note.plan.as_str())).collect::<Vec<Note>>()
        });
        for note in unknown.await.unwrap_or_default() {
            let Some(stored) = self.bus.last(names::COMMANDS, &names::left(&self.identity.id, &note.plan)).await?
            else {
                continue;
            };
            if tried.len() >= TRIED {
                tried.clear();
            }
            let signed: SignedPlan = match message::read(&stored.payload, MAX_COMMAND) {
                Ok(signed) => signed,
                Err(error) => {
                    self.warnings.line(&format!("plan {}, which was left for this agent: {error}", note.plan));
                    tried.insert(note);
                    continue;
                }
            };
            let inner = self.clone();
            let done = tokio::task::spawn_blocking(move || inner.apply(&signed, Way::Later)).await;
            match done.map(|answer| (answer.head.state, answer.head.reason)) {
                // Nothing was decided: the kernel or the disk failed.
                Ok((State::Failed, reason)) => {
                    let reason = reason.unwrap_or_default();
                    self.warnings.line(&format!("plan {}, which was left for this agent: {reason}", note.plan));
                }
                Ok(_) => drop(tried.insert(note)),
                Err(_) => self.warnings.line(&format!("the agent failed at plan {}", note.plan)),
            }
        }
        Ok(())
    }
}
