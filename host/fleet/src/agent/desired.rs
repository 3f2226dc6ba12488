//! What an agent is to run: looks it up, checks it, fetches its bundle, and tells the keeper.
//!
//! There is no consumer and no watch: the agent looks when it has connected, when it is asked to, and every five to ten
//! minutes.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    AGAIN, CHECK, Inner,
    keeper::{Keeper, Note},
};
use crate::{
    audit::{Record, Stage},
    bundle::{BundleError, MAX_BUNDLE},
    bus::{Bus, BusError},
    message::{Answer, State},
    names::{self, Digest},
    plan::now,
    random,
    release::{BundleRef, Desired, Release, ReleaseError},
    rollout::{PART, part},
    running::Running,
    table::Table,
};

/// How often an agent tries to fetch a bundle before it waits for its next look.
const ATTEMPTS: usize = 30;
/// The longest random pause before a bundle is fetched, so that not all fetch at the same time.
const SPREAD: Duration = Duration::from_millis(500);

/// What an agent has to do with what it is to run.
#[derive(Debug)]
pub(super) struct Following {
    pub keeper: Keeper,
    /// Held by a look, so that there is one at a time: the digest of what was refused last, which is recorded once.
    looking: tokio::sync::Mutex<Option<Digest>>,
    /// The generation whose bundle is being fetched; 0 if none is.
    fetching: AtomicU64,
}

impl Following {
    pub(super) fn new(keeper: Keeper) -> Self {
        Following { keeper, looking: tokio::sync::Mutex::default(), fetching: AtomicU64::new(0) }
    }
}

/// Why a bundle is not there.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the bundle cannot be fetched: {0}")]
    Bus(#[from] BusError),
    #[error("the bundle cannot be fetched: the server does not have all of it")]
    Missing,
    #[error("the bundle: {0}")]
    Bundle(#[from] BundleError),
    #[error("the bundle could not be written")]
    Ended,
}

/// Returns a record about a release.
fn of_release(stage: Stage) -> Record {
    Record { action: "run".into(), stage, ..Record::default() }
}

impl<B: Bus, T: Table> Inner<B, T> {
    /// Follows what is to be run, until it is dropped.
    pub(super) async fn follow(self: Arc<Self>) {
        let Some(following) = &self.following else { return };
        let keeper = &following.keeper;
        let (mut running, mut connections) = (keeper.running(), self.bus.connections());
        let mut notes = keeper.notes();
        let ping = (keeper.trial() / 10).clamp(Duration::from_millis(5), Duration::from_secs(5));
        let mut next = Instant::now();
        let mut said = Running::default();
        let mut counted = true;
        loop {
            let on_trial = running.borrow().trial.is_some();
            let at = if on_trial { next.min(Instant::now() + ping) } else { next };
            let note = async {
                match &mut notes {
                    Some(notes) => notes.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(at) => {
                    // On trial, this is what finds out whether the server can be reached.
                    let looked = self.clone().look_at_desired().await;
                    let pause = if looked.head.state == State::Failed { AGAIN } else { CHECK };
                    next = Instant::now() + random::jitter(pause);
                }
                Some(note) = note => self.clone().record(note).await,
                changed = running.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = running.borrow().without_counters();
                    if now != said {
                        // The registry has it at the latest with the next check of the entry.
                        let _ = self.register().await;
                        said = now;
                    }
                }
                changed = connections.changed(), if counted => match changed {
                    Ok(()) => next = next.min(Instant::now() + random::jitter(Duration::from_millis(100))),
                    Err(_) => counted = false,
                }
            }
        }
    }

    /// Records what came of a release.
    async fn record(self: Arc<Self>, note: Note) {
        let written = tokio::task::spawn_blocking(move || {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) =
                records.0.audit.append(Record { plan: note.id, reason: note.text, ..of_release(Stage::Result) })
            {
                self.warnings.line(&error.to_string());
            }
        });
        let _ = written.await;
    }

    /// Looks at what is to be run, and begins with it if that is new.
    pub(super) async fn look_at_desired(self: Arc<Self>) -> Answer {
        let Some(following) = &self.following else {
            return Answer::without(State::Refused, "this agent runs nothing from elsewhere");
        };
        let mut refused = following.looking.lock().await;
        let began = std::time::Instant::now();
        let value = match self.bus.get(names::DESIRED, self.identity.id.as_str()).await {
            Ok(value) => value,
            // Nobody has rolled anything out yet: the server says that there is no bucket.
            Err(BusError::Nobody) => None,
            Err(error) => return Answer::without(State::Failed, error.to_string()),
        };
        following.keeper.reached(began);
        let Some(value) = value else { return Answer::new(State::Answered) };
        match self.judge(&value) {
            Ok(None) => Answer::new(State::Answered),
            Ok(Some((release, desired))) => {
                match desired.taken_back {
                    Some(reason) => following.keeper.take_back(release, reason),
                    None => {
                        let signers = desired.signed.signers(&self.identity.ring).into_iter().collect();
                        tokio::spawn(self.clone().begin(release, signers));
                    }
                }
                Answer::new(State::Answered)
            }
            Err((id, error)) => {
                // It stays in the bucket, and is recorded once.
                let digest = Digest::of(&value);
                if refused.as_ref() != Some(&digest) {
                    *refused = Some(digest);
                    let (inner, code, reason) = (self.clone(), error.code().to_owned(), error.to_string());
                    let written = tokio::task::spawn_blocking(move || {
                        let mut records = inner.records.lock().unwrap_or_else(PoisonError::into_inner);
                        let (records, refusals) = &mut *records;
                        if refusals.take(1) == 1
                            && let Err(error) =
                                records.audit.append(Record { plan: id, code, reason, ..of_release(Stage::Refused) })
                        {
                            inner.warnings.line(&error.to_string());
                        }
                    });
                    let _ = written.await;
                }
                Answer::without(State::Refused, error.to_string())
            }
        }
    }

    /// Judges a value of the bucket. Returns what is to be done; `None` if it has been done.
    fn judge(&self, value: &[u8]) -> Result<Option<(Release, Desired)>, (String, ReleaseError)> {
        let unknown = |error| (String::new(), error);
        let desired = Desired::read(value).map_err(unknown)?;
        let identity = &self.identity;
        let release = desired.signed.check(&identity.ring, &identity.id, &identity.labels).map_err(unknown)?;
        let wrong = |error| (release.id.clone(), error);
        let running = self.following.as_ref().map(|following| following.keeper.running().borrow().clone());
        let newest = running.as_ref().and_then(|running| running.desired.as_ref());
        let is = |version: Option<&crate::running::Version>| {
            version.is_some_and(|version| version.generation == release.generation)
        };
        if let Some(newest) = newest {
            if release.generation < newest.generation {
                let (generation, newest) = (release.generation, newest.generation);
                return Err(wrong(ReleaseError::Older { generation, newest }));
            }
            let digest = release.bundle.as_ref().map(|bundle| &bundle.digest);
            if release.generation == newest.generation && digest != newest.digest.as_ref() {
                return Err(wrong(ReleaseError::Twice(release.generation)));
            }
        }
        let done = match desired.taken_back {
            None => is(newest),
            Some(_) => {
                let running = running.as_ref();
                let runs = running.is_some_and(|running| is(running.trial.as_ref()) || is(running.applied.as_ref()));
                is(newest) && !runs
            }
        };
        if done {
            return Ok(None);
        }
        release.check_time(now()).map_err(wrong)?;
        Ok(Some((release, desired)))
    }

    /// Fetches the bundle of a release, and has it run.
    async fn begin(self: Arc<Self>, release: Release, signers: Vec<String>) {
        let Some(following) = &self.following else { return };
        // Another look finds the same release while this one is being fetched, or an older one.
        if following.fetching.fetch_max(release.generation, Ordering::SeqCst) >= release.generation {
            return;
        }
        self.clone().fetch_and_run(&following.keeper, &release, signers).await;
        // The next look may try again, unless it is a newer one that is being fetched now.
        let _ = following.fetching.compare_exchange(release.generation, 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    async fn fetch_and_run(self: Arc<Self>, keeper: &Keeper, release: &Release, signers: Vec<String>) {
        let newer = || {
            let fetching = self.following.as_ref().map(|following| following.fetching.load(Ordering::SeqCst));
            fetching.is_some_and(|fetching| fetching > release.generation)
        };
        if let Some(bundle) = &release.bundle {
            let mut attempt = 0;
            while let Err(error) = self.fetch(keeper, bundle).await {
                attempt += 1;
                keeper.wait(release.clone(), error.to_string());
                if attempt >= ATTEMPTS || newer() {
                    return;
                }
                tokio::time::sleep(random::jitter(AGAIN)).await;
            }
        }
        if newer() {
            return;
        }
        let what = release.bundle.as_ref().map_or_else(|| "nothing".to_owned(), |bundle| bundle.digest.to_string());
        let text = format!("run generation {}: {what}", release.generation);
        let (inner, id) = (self.clone(), release.id.clone());
        let recorded = tokio::task::spawn_blocking(move || {
            let mut records = inner.records.lock().unwrap_or_else(PoisonError::into_inner);
            records.0.audit.append(Record { plan: id, reason: text, signers, ..of_release(Stage::Intent) })
        });
        match recorded.await {
            Ok(Ok(())) => keeper.run(release.clone()),
            Ok(Err(error)) => keeper.wait(release.clone(), error.to_string()),
            Err(_) => keeper.wait(release.clone(), "it could not be recorded".into()),
        }
    }

    /// Fetches a bundle into the cache, unless it is there.
    async fn fetch(&self, keeper: &Keeper, bundle: &BundleRef) -> Result<(), FetchError> {
        let (cache, digest) = (keeper.cache().clone(), bundle.digest.clone());
        let known = tokio::task::spawn_blocking(move || cache.has(&digest));
        if known.await.unwrap_or_default() {
            return Ok(());
        }
        let spread = SPREAD.min(keeper.trial() / 4);
        tokio::time::sleep(random::jitter(spread).saturating_sub(spread)).await;
        let size = usize::try_from(bundle.size.min(MAX_BUNDLE)).unwrap_or_default();
        let mut bytes = Vec::new();
        for number in 0..size.div_ceil(PART) {
            let value = self.bus.get(names::BUNDLES, &part(&bundle.digest, number)).await?;
            let value = value.filter(|value| value.len() == PART.min(size - bytes.len()));
            bytes.extend(value.ok_or(FetchError::Missing)?);
        }
        let (cache, digest) = (keeper.cache().clone(), bundle.digest.clone());
        let put = tokio::task::spawn_blocking(move || cache.put(bytes, &digest));
        put.await.map_err(|_| FetchError::Ended)?.map_err(FetchError::Bundle)
    }
}
