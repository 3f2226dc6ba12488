//! Who asks: sends a question to each agent, gives out the answers as they come, pulls what did not fit into one, and
//! ends with the roll call.
//!
//! Each agent is asked at its own subject, and answers at one that no other agent knows or may use, so that none can
//! answer for another; and the server says at once of whom nobody is connected. Memory is bounded by the first answers,
//! which are smaller the more agents there are, and by the few that are pulled at a time.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use flowgate_base::units::show_time;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use crate::{
    bus::{Bus, BusError, Delivery, Subscription as _},
    message::{self, Answer, Ask, Entry, MAX_FIRST, MIN_FIRST, Question, State},
    names::{self, AgentId, AgentName, Label},
    roll_call::{Called, Fate, RollCall},
};

/// Requests to the server or to agents at a time.
const AT_A_TIME: usize = 64;
/// Answers that are pulled at a time.
const PULLS: usize = 8;
/// How long an agent that did not answer has to answer a ping.
const PING: Duration = Duration::from_secs(1);
/// The most bytes of rows in all first answers together, unless there are very many agents.
const FIRST: usize = 32 << 20;

/// An agent, as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: AgentId,
    /// Its name; with the beginning of its id where another has the same.
    pub name: AgentName,
    /// What it says about itself; `None` if that cannot be read.
    pub entry: Option<Entry>,
}

/// Which agents are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Labels, which an agent must have all of.
    pub labels: Vec<Label>,
    /// Names or ids, of which an agent must have one, unless there are none.
    pub names: Vec<String>,
}

/// What is done with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was used.
    Used,
    /// It is not what was asked for.
    Bad(String),
    /// No further answers are wanted.
    Enough,
}

/// Returns all agents of the registry, in the order of names.
///
/// # Errors
/// [`BusError`] if the registry cannot be read.
pub async fn members<B: Bus>(bus: &B) -> Result<Vec<Member>, BusError> {
    let keys = bus.keys(names::REGISTRY).await?;
    // Only an agent itself may write at its key, and a key that is none is nobody's.
    let ids = keys.into_iter().filter_map(|key| AgentId::try_from(key).ok());
    let entries = futures_util::stream::iter(ids).map(|id| async move {
        let value = bus.get(names::REGISTRY, id.as_str()).await?;
        Ok::<_, BusError>((id, value))
    });
    let mut entries = entries.buffer_unordered(AT_A_TIME);
    let mut members = Vec::new();
    while let Some(entry) = entries.next().await {
        let (id, value) = entry?;
        // One that was removed meanwhile.
        let Some(value) = value else { continue };
        let entry = Entry::read(&value).ok();
        let name = entry.as_ref().map_or_else(|| short(&id), |entry| entry.name.clone());
        members.push(Member { id, name, entry });
    }
    let mut uses: BTreeMap<AgentName, usize> = BTreeMap::new();
    members.iter().for_each(|member| *uses.entry(member.name.clone()).or_default() += 1);
    for member in &mut members {
        if uses.get(&member.name).is_some_and(|&count| count > 1) {
            let name = member.name.as_str().get(..names::MAX_NAME - 10).unwrap_or(member.name.as_str());
            member.name = format!("{name}.{}", short(&member.id)).parse().unwrap_or_else(|_| short(&member.id));
        }
    }
    members.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
    Ok(members)
}

/// Returns the beginning of an id, as a name.
#[allow(clippy::expect_used, reason = "an id is 56 letters and digits")]
fn short(id: &AgentId) -> AgentName {
    id.as_str().get(..9).unwrap_or_default().parse().expect("letters and digits")
}

impl Chosen {
    /// Returns those of the agents that are chosen.
    ///
    /// # Errors
    /// The names that nobody has.
    pub fn of(&self, members: Vec<Member>) -> Result<Vec<Member>, Vec<String>> {
        let known =
            |name: &str| members.iter().any(|member| member.name.as_str() == name || member.id.as_str() == name);
        let unknown: Vec<String> = self.names.iter().filter(|name| !known(name)).cloned().collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let chosen = |member: &Member| {
            let labels = member.entry.as_ref().map(|entry| entry.labels.as_slice()).unwrap_or_default();
            let named = |name: &String| name == member.name.as_str() || name == member.id.as_str();
            self.labels.iter().all(|label| labels.contains(label))
                && (self.names.is_empty() || self.names.iter().any(named))
        };
        Ok(members.into_iter().filter(chosen).collect())
    }
}

/// Returns the most bytes of rows in a first answer, where so many are asked.
#[must_use]
pub fn first(members: usize) -> usize {
    (FIRST / members.max(1)).clamp(MIN_FIRST, MAX_FIRST)
}

/// An answer that is being pulled.
struct Pull {
    index: usize,
    cursor: String,
    chunk: u64,
}

/// Asks all of these agents, each of which has `within` for its first answer and for each further one. `take` gets the
/// number of the agent and its answer, as they come.
///
/// # Errors
/// [`BusError`] if nothing can be sent at all; who does not answer is in the roll call.
pub async fn ask<B: Bus>(
    bus: &B,
    members: &[Member],
    ask: Ask,
    within: Duration,
    mut take: impl FnMut(usize, &Answer) -> Taken,
) -> Result<RollCall, BusError> {
    let inbox = bus.inbox();
    let mut answers = bus.subscribe(format!("{inbox}.*")).await?;
    let command = matches!(ask, Ask::Apply { .. });
    let question = message::write(&Question::new(ask));
    if question.len() > bus.max_payload() {
        let (length, most) = (question.len(), bus.max_payload());
        return Err(BusError::Other(format!("the question has {length} bytes, and the server takes {most}")));
    }
    let mut fates: Vec<Option<Fate>> = vec![None; members.len()];
    let deadline = Instant::now() + within;
    for (index, member) in members.iter().enumerate() {
        let subject = if command { names::command(&member.id) } else { names::question(&member.id) };
        bus.publish(subject, Some(format!("{inbox}.{index}")), question.clone()).await?;
    }
    bus.flush().await?;

    let mut pulls: VecDeque<Pull> = VecDeque::new();
    let mut missing = members.len();
    let mut enough = false;
    while missing > 0 && !enough {
        let Ok(delivery) = tokio::time::timeout_at(deadline, answers.next()).await else { break };
        let Some(delivery) = delivery else { return Err(BusError::Other("the connection is closed".into())) };
        let Some(index) = index_of(&delivery, members.len()) else { continue };
        let pulled = pulls.iter().any(|pull| pull.index == index);
        let Some(fate) = fates.get_mut(index).filter(|fate| fate.is_none() && !pulled) else { continue };
        missing -= 1;
        let (ended, cursor) = judge(delivery, index, false, &mut take, &mut enough);
        *fate = ended;
        pulls.extend(cursor.map(|cursor| Pull { index, cursor, chunk: 1 }));
    }
    if !enough {
        pull_all(bus, members, &mut fates, pulls, within, &mut take).await;
    }
    let late = match command {
        true => "it may still do it, and its audit will say so",
        false => "--timeout gives it longer",
    };
    if !enough {
        find_late(bus, members, &mut fates, (within, late)).await;
    }
    let called = members.iter().zip(fates).map(|(member, fate)| Called {
        id: member.id.clone(),
        name: member.name.clone(),
        fate: fate.unwrap_or_else(|| Fate::Partial("no more was wanted".into())),
    });
    Ok(RollCall::new(called.collect()))
}

/// Returns the number of the agent that an answer is from.
fn index_of(delivery: &Delivery, count: usize) -> Option<usize> {
    let index: usize = delivery.subject.rsplit('.').next()?.parse().ok()?;
    (index < count).then_some(index)
}

/// Judges an answer: returns how it ended with the agent, or where more is to be pulled.
fn judge(
    delivery: Delivery,
    index: usize,
    more: bool,
    take: &mut impl FnMut(usize, &Answer) -> Taken,
    enough: &mut bool,
) -> (Option<Fate>, Option<String>) {
    if delivery.nobody {
        return (Some(Fate::Absent("nobody is connected with its key".into())), None);
    }
    let answer = match Answer::read(&delivery.payload) {
        Ok(answer) => answer,
        Err(error) => return (Some(Fate::Failed(format!("its answer: {error}"))), None),
    };
    match take(index, &answer) {
        Taken::Used => {}
        Taken::Bad(reason) => return (Some(Fate::Failed(reason)), None),
        Taken::Enough => *enough = true,
    }
    let reason = || answer.head.reason.clone().unwrap_or_else(|| "it does not say why".into());
    match answer.head.state {
        State::Answered if answer.head.cursor.is_some() => (None, answer.head.cursor),
        State::Answered => (Some(Fate::Answered), None),
        State::Partial => (Some(Fate::Partial(reason())), None),
        State::Failed if more => (Some(Fate::Partial(reason())), None),
        State::Failed => (Some(Fate::Failed(reason())), None),
        State::Refused => (Some(Fate::Refused(reason())), None),
    }
}

/// Pulls all further answers, a few at a time, and of each agent in turn, so that none gives up.
async fn pull_all<B: Bus>(
    bus: &B,
    members: &[Member],
    fates: &mut [Option<Fate>],
    mut queue: VecDeque<Pull>,
    within: Duration,
    take: &mut impl FnMut(usize, &Answer) -> Taken,
) {
    let mut running = FuturesUnordered::new();
    let mut enough = false;
    loop {
        while running.len() < PULLS
            && let Some(pull) = queue.pop_front()
            && let Some(member) = members.get(pull.index)
        {
            let question = Question::new(Ask::Pull { cursor: pull.cursor.clone(), chunk: pull.chunk });
            let subject = names::question(&member.id);
            running.push(async move { (bus.request(subject, message::write(&question), within).await, pull) });
        }
        let Some((answer, pull)) = running.next().await else { return };
        let Pull { index, cursor, chunk } = pull;
        let fate = match answer {
            Err(error) => {
                // Where the server is gone, the others would each wait as long for nothing.
                if matches!(error, BusError::TimedOut(_)) && !queue.is_empty() {
                    give_up_without_server(bus, members, fates, &mut queue).await;
                }
                Some(Fate::Partial(format!("after {chunk} parts of its answer: {error}")))
            }
            Ok(payload) => {
                let delivery = Delivery { subject: String::new(), reply: None, payload, nobody: false };
                let (fate, more) = judge(delivery, index, true, take, &mut enough);
                if more.is_some() {
                    queue.push_back(Pull { index, cursor, chunk: chunk + 1 });
                }
                fate
            }
        };
        if let Some(place) = fates.get_mut(index) {
            *place = fate;
        }
        if enough {
            return;
        }
    }
}

/// Ends all answers that are still to be pulled, if the server does not answer either.
async fn give_up_without_server<B: Bus>(
    bus: &B,
    members: &[Member],
    fates: &mut [Option<Fate>],
    queue: &mut VecDeque<Pull>,
) {
    let Some(member) = queue.front().and_then(|pull| members.get(pull.index)) else { return };
    let Err(error) = bus.get(names::REGISTRY, member.id.as_str()).await else { return };
    for Pull { index, chunk, .. } in queue.drain(..) {
        if let Some(place) = fates.get_mut(index) {
            *place = Some(Fate::Partial(format!("after {chunk} parts of its answer the server was gone: {error}")));
        }
    }
}

/// Finds out of those who did not answer who is there.
async fn find_late<B: Bus>(bus: &B, members: &[Member], fates: &mut [Option<Fate>], (within, late): (Duration, &str)) {
    let waited = show_time(within);
    let missing: Vec<usize> = fates.iter().enumerate().filter(|(_, fate)| fate.is_none()).map(|(at, _)| at).collect();
    let pings = futures_util::stream::iter(missing).map(|index| async move {
        let Some(member) = members.get(index) else { return (index, Err(BusError::Nobody)) };
        let ping = message::write(&Question::new(Ask::Ping));
        (index, bus.request(names::question(&member.id), ping, PING).await)
    });
    let mut pings = pings.buffer_unordered(AT_A_TIME);
    while let Some((index, pong)) = pings.next().await {
        let fate = match pong {
            Ok(_) => Fate::Late(format!("no answer within {waited}, though it answers a ping; {late}")),
            Err(BusError::Nobody) => Fate::Absent("it went away before it answered".into()),
            Err(_) => Fate::Absent(format!("connected, but no answer within {waited}, nor to a ping")),
        };
        if let Some(place) = fates.get_mut(index) {
            *place = Some(fate);
        }
    }
}
