//! Who watches events: follows all agents at once, gives out their events as they come, says who goes away and who is
//! back, and ends with the roll call.
//!
//! Events are pulled, one answer of each agent at a time, so that an agent sends no more than is read: what does not
//! fit into its queue meanwhile is a gap, with the number of events that are missing. Answers are numbered, and one that
//! was lost on its way is asked for again.

use std::{future::Future, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::{
    bus::{Bus, BusError},
    collector::{self, Member},
    message::{self, Answer, Ask, Question, State},
    names, random,
    roll_call::{Called, Fate, RollCall},
};

/// Agents that are told the end at a time.
const AT_A_TIME: usize = 64;
/// How long it may take to tell all of them: whoever ends by a signal has half a second for everything. An agent that
/// does not hear it ends by itself.
const CLOSE: Duration = Duration::from_millis(200);

/// How late the next events may be until they are asked for again.
const SOON: Duration = Duration::from_secs(1);

/// What a row has that is a gap of the kernel.
const GAP: &[u8] = b"\"event\":\"gap\"";

/// How events are followed.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// How long an agent has to answer.
    pub within: Duration,
    /// How long an answer without any events may take in addition.
    pub wait: Duration,
    /// The least time until an agent that is away is asked again; the most is twice that.
    pub again: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        WatchOptions { within: Duration::from_secs(10), wait: Duration::from_secs(5), again: Duration::from_secs(2) }
    }
}

/// What is seen of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// Its events are followed from now on.
    Joined,
    /// Events were lost; how many, if that is known.
    Lost(Option<u64>),
    /// Events, as whole lines.
    Rows(&'a [u8]),
    /// It went away.
    Away(&'a str),
    /// It is there again.
    Back,
}

/// What follows from what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Following {
    /// It goes on.
    On,
    /// What the agent sent is not what was asked for: it is not followed any more.
    Without(String),
    /// Nothing more is wanted of anybody.
    End,
}

/// An agent that is followed.
#[derive(Debug, Default)]
struct Follower {
    cursor: Option<String>,
    /// The answers that have arrived since it was joined.
    count: u64,
    joined: bool,
    /// Why it is away.
    away: Option<String>,
    /// True if it began anew, with events lost in between.
    gap: bool,
    /// Events that are known to be lost.
    lost: u64,
    /// True if its kernel has told of a gap.
    kernel: bool,
    /// Why there was no answer the last time that there was none.
    missed: Option<BusError>,
    fate: Option<Fate>,
}

/// What is done next.
enum Next {
    /// It is asked at once.
    Now,
    /// It is asked after a while.
    Later,
    /// It is not asked any more.
    Over,
    /// Nobody is.
    End,
}

/// Follows the events that the words select, of all of these agents, until `stop` is ready or nobody is left. `take`
/// gets the number of the agent and what is seen of it.
///
/// # Errors
/// [`BusError`] if the question is too long.
pub async fn watch<B: Bus>(
    bus: &B,
    members: &[Member],
    words: &[String],
    options: WatchOptions,
    stop: impl Future<Output = ()>,
    mut take: impl FnMut(usize, Seen<'_>) -> Following,
) -> Result<RollCall, BusError> {
    let wait = u64::try_from(options.wait.as_millis()).unwrap_or(u64::MAX);
    let open = Ask::Watch { words: words.to_vec(), most: collector::first(members.len()), wait };
    let open = message::write(&Question::new(open));
    if open.len() > bus.max_payload() {
        let (length, most) = (open.len(), bus.max_payload());
        return Err(BusError::Other(format!("the question has {length} bytes, and the server takes {most}")));
    }
    let ask = |index: usize, follower: &Follower, later: bool| {
        let pull = follower.cursor.clone().map(|cursor| Ask::Pull { cursor, chunk: follower.count });
        let again = pull.is_some();
        let question = pull.map_or_else(|| open.clone(), |pull| message::write(&Question::new(pull)));
        let subject = members.get(index).map(|member| names::question(&member.id)).unwrap_or_default();
        async move {
            if later {
                tokio::time::sleep(random::jitter(options.again)).await;
            }
            let WatchOptions { within, wait, .. } = options;
            if !again {
                return (index, bus.request(subject, question, within).await);
            }
            // An agent that was killed never answers what it was asked before; asked again, the server says so at once.
            let answer = match bus.request(subject.clone(), question.clone(), wait + SOON.min(within)).await {
                Err(BusError::TimedOut(_)) => bus.request(subject, question, within).await,
                answer => answer,
            };
            (index, answer)
        }
    };
    let mut followers: Vec<Follower> = members.iter().map(|_| Follower::default()).collect();
    let mut running = FuturesUnordered::new();
    running.extend(followers.iter().enumerate().map(|(index, follower)| ask(index, follower, false)));
    tokio::pin!(stop);
    loop {
        let (index, answer) = tokio::select! {
            biased;
            () = &mut stop => break,
            answered = running.next() => match answered {
                Some(answered) => answered,
                None => break,
            },
        };
        let Some(follower) = followers.get_mut(index) else { continue };
        match follower.hear(answer, |seen| take(index, seen)) {
            Next::Now => running.push(ask(index, follower, false)),
            Next::Later => running.push(ask(index, follower, true)),
            Next::Over => {}
            Next::End => break,
        }
    }
    drop(running);
    let open = followers.iter().zip(members).filter_map(|(follower, member)| {
        let close = Ask::Close { cursor: follower.cursor.clone().filter(|_| follower.away.is_none())? };
        Some((names::question(&member.id), message::write(&Question::new(close))))
    });
    let open: Vec<_> = open.collect();
    let closing = futures_util::stream::iter(open).map(|(subject, close)| bus.request(subject, close, CLOSE));
    let closing = closing.buffer_unordered(AT_A_TIME).for_each(|_| std::future::ready(()));
    let _ = tokio::time::timeout(CLOSE, closing).await;
    let called = members.iter().zip(followers).map(|(member, follower)| Called {
        id: member.id.clone(),
        name: member.name.clone(),
        fate: follower.fate(),
    });
    Ok(RollCall::new(called.collect()))
}

impl Follower {
    /// Takes an answer, or what came in place of one.
    fn hear(&mut self, answer: Result<Vec<u8>, BusError>, mut take: impl FnMut(Seen<'_>) -> Following) -> Next {
        let answer = match answer {
            Ok(payload) => payload,
            Err(error) => {
                let next = self.miss(&error.to_string(), take);
                self.missed = Some(error);
                return next;
            }
        };
        let Answer { head, rows } = match Answer::read(&answer) {
            Ok(answer) => answer,
            Err(error) => return self.without(format!("its answer: {error}")),
        };
        let reason = head.reason.clone().unwrap_or_else(|| "it does not say why".into());
        let opening = self.cursor.is_none();
        match head.state {
            State::Answered => {}
            // It has begun anew, or has given up who did not pull.
            _ if !opening => {
                self.cursor = None;
                return match head.state {
                    State::Partial => Next::Now,
                    _ => self.miss(&reason, take),
                };
            }
            _ if self.joined => return self.miss(&reason, take),
            State::Refused => return self.over(Fate::Refused(reason)),
            State::Failed | State::Partial => return self.over(Fate::Failed(reason)),
        }
        if opening {
            let Some(cursor) = head.cursor else { return self.without("an answer without a cursor".into()) };
            (self.cursor, self.count) = (Some(cursor), 0);
        } else {
            self.count += 1;
        }
        let mut all = Vec::new();
        if !self.joined {
            all.push(Seen::Joined);
        } else if opening {
            self.gap = true;
            all.push(Seen::Lost(None));
        }
        self.joined = true;
        if self.away.take().is_some() {
            all.push(Seen::Back);
        }
        if head.lost > 0 {
            self.lost = self.lost.saturating_add(head.lost);
            all.push(Seen::Lost(Some(head.lost)));
        }
        if !rows.is_empty() {
            self.kernel |= rows.windows(GAP.len()).any(|part| part == GAP);
            all.push(Seen::Rows(&rows));
        }
        for seen in all {
            match take(seen) {
                Following::On => {}
                Following::Without(reason) => return self.without(reason),
                Following::End => return Next::End,
            }
        }
        Next::Now
    }

    /// There was no answer. The watch is kept: the agent may only be disconnected.
    fn miss(&mut self, reason: &str, mut take: impl FnMut(Seen<'_>) -> Following) -> Next {
        if self.joined && self.away.is_none() {
            self.away = Some(reason.to_owned());
            if take(Seen::Away(reason)) == Following::End {
                return Next::End;
            }
        }
        Next::Later
    }

    fn over(&mut self, fate: Fate) -> Next {
        self.fate = Some(fate);
        Next::Over
    }

    fn without(&mut self, reason: String) -> Next {
        let fate = if self.joined { Fate::Partial(reason) } else { Fate::Failed(reason) };
        self.over(fate)
    }

    /// Returns how it ended.
    fn fate(self) -> Fate {
        let Follower { joined, away, gap, lost, kernel, missed, fate, .. } = self;
        let away = away.map(|reason| format!("it went away: {reason}"));
        let gap = gap.then(|| "events of it were lost while it was away".to_owned());
        let lost = (lost > 0).then(|| format!("{lost} events of it were lost, since they were not fetched in time"));
        let kernel = kernel.then(|| "its kernel could not deliver all events".to_owned());
        let reasons: Vec<String> = away.into_iter().chain(gap).chain(lost).chain(kernel).collect();
        match (fate, missed) {
            (Some(fate), _) => fate,
            _ if joined && reasons.is_empty() => Fate::Answered,
            _ if joined => Fate::Partial(reasons.join("; ")),
            (None, Some(BusError::Nobody)) => Fate::Absent("nobody is connected with its key".into()),
            (None, Some(error)) => Fate::Late(error.to_string()),
            (None, None) => Fate::Late("it had not answered when the end came".into()),
        }
    }
}
