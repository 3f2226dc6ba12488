//! Actions on a bus in the process: signed plans, plans for agents that are absent, and the audit as it is shipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

mod made;

use std::{collections::BTreeMap, path::Path, sync::atomic::Ordering, time::Instant};

use flowgate_fleet::{
    audit::{self, Chain, Flaw, Line, Stage},
    bus::{Bus, Stored, Streams as _},
    keys::SigningKey,
    later,
    message::{self, Answer, Ask, Question, State},
    names::{self, AgentId},
    plan::{self, Action, Plan, SignedPlan, Terms},
};
use made::{Fleet, Made, SOON, fates};

/// Returns the lines of an audit.
fn lines(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until something holds, or the test fails.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < SOON, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

/// Has a plan applied by one agent, and returns its answer.
async fn apply(fleet: &Fleet, id: &AgentId, plan: SignedPlan) -> message::Head {
    let question = message::write(&Question::new(Ask::Apply { plan }));
    Answer::read(&fleet.bus.request(names::command(id), question, SOON).await.unwrap()).unwrap().head
}

#[tokio::test]
async fn a_plan_is_done_once_and_only_as_it_was_signed() {
    let mut fleet = Fleet::new(2).await;
    let table = Made { rows: 10, width: 1, ..Made::default() };
    let (deletions, more) = (table.deletions.clone(), table.more.clone());
    fleet.start("a", &[], table.clone()).await;
    let deleted = || deletions.load(Ordering::SeqCst);
    let plan = fleet.plan().await;
    let subject = names::command(&fleet.agents["a"].0);
    let apply = |plan: SignedPlan| {
        let (bus, subject) = (fleet.bus.clone(), subject.clone());
        async move {
            let question = message::write(&Question::new(Ask::Apply { plan }));
            Answer::read(&bus.request(subject, question, SOON).await.unwrap()).unwrap().head
        }
    };
    let refused = |head: message::Head, why: &str| {
        assert_eq!(head.state, State::Refused, "{head:?}");
        assert!(head.reason.as_deref().unwrap_or_default().contains(why), "{head:?} lacks {why:?}");
    };

    refused(apply(fleet.signed(&plan, &[])).await, "0 valid signatures");
    refused(apply(fleet.signed(&plan, &[0])).await, "1 valid signatures");
    let mut forged = fleet.signed(&plan, &[0, 1]);
    forged.plan = forged.plan.replace("udp", "tcp");
    refused(apply(forged).await, "0 valid signatures");
    let mut foreign = fleet.signed(&plan, &[0]);
    foreign.sign(&SigningKey::generate());
    refused(apply(foreign).await, "1 valid signatures");
    let expired = Plan { made: plan::now() - 100, expires: plan::now() - 1, ..plan.clone() };
    refused(apply(fleet.signed(&expired, &[0, 1])).await, "expired");
    let others = Plan { agents: Vec::new(), ..plan.clone() };
    refused(apply(fleet.signed(&others, &[0, 1])).await, "does not name this agent");
    more.store(2, Ordering::SeqCst);
    refused(apply(fleet.signed(&plan, &[0, 1])).await, "there are 12 such flows now, the plan has 10, and 11");
    assert_eq!(deleted(), 0);

    more.store(1, Ordering::SeqCst);
    let head = apply(fleet.signed(&plan, &[1, 2])).await;
    assert_eq!((head.state, head.flows, deleted()), (State::Answered, Some(10), 1));
    refused(apply(fleet.signed(&plan, &[0, 1, 2])).await, "was done already (10 flows deleted)");
    // A command is taken at its subject only, which others may publish to than to that of questions.
    let question = message::write(&Question::new(Ask::Apply { plan: fleet.signed(&fleet.plan().await, &[0, 1]) }));
    let as_question = fleet.bus.request(names::question(&fleet.agents["a"].0), question, SOON).await.unwrap();
    refused(Answer::read(&as_question).unwrap().head, "commands are not taken as questions");
    assert_eq!(deleted(), 1);

    // Killed and started again, it still knows.
    let id = fleet.agents["a"].0.clone();
    let signed = fleet.signed(&plan, &[0, 1]);
    fleet.kill("a").await;
    fleet.bus.remove(names::REGISTRY, id.as_str()).await.unwrap();
    fleet.start_as("a", &[], table, id).await;
    let question = message::write(&Question::new(Ask::Apply { plan: signed }));
    let again = fleet.bus.request(subject, question, SOON).await.unwrap();
    refused(Answer::read(&again).unwrap().head, "was done already");
    assert_eq!(deleted(), 1);
    let path = fleet.path("a", "audit");
    assert_eq!(audit::verify(&path).unwrap(), (7 + 2 + 2, Vec::new()));
    let found = lines(&path);
    let codes: Vec<&str> = found.iter().map(|line| line.record.code.as_str()).collect();
    let refused = ["signatures", "signatures", "signatures", "signatures", "expired", "not-named", "too-many"];
    assert_eq!((&codes[..7], &codes[9..]), (&refused[..], &["replayed", "replayed"][..]));
    assert_eq!((found[7].record.stage, found[8].record.stage), (Stage::Intent, Stage::Result));
    assert_eq!((found[7].record.count, found[8].record.count), (Some(11), Some(10)));
    assert_eq!((found[8].record.result.as_str(), found[8].record.signers.len()), ("done", 2));
    assert_eq!(found[8].record.plan, plan.id);
}

#[tokio::test]
async fn whoever_floods_it_with_refused_plans_does_not_fill_the_disk() {
    let mut fleet = Fleet::new(1).await;
    fleet.start("a", &[], Made::default()).await;
    let subject = names::command(&fleet.agents["a"].0);
    let signed = SignedPlan { plan: "{}".into(), signatures: Vec::new() };
    let question = message::write(&Question::new(Ask::Apply { plan: signed }));
    for _ in 0..200 {
        fleet.bus.request(subject.clone(), question.clone(), SOON).await.unwrap();
    }
    let (lines, flaws) = audit::verify(&fleet.path("a", "audit")).unwrap();
    assert!((60..=63).contains(&lines) && flaws.is_empty(), "{lines} {flaws:?}");
}

#[tokio::test]
async fn an_update_is_planned_signed_and_done_like_a_deletion() {
    let mut fleet = Fleet::new(1).await;
    let table = Made { rows: 10, width: 1, ..Made::default() };
    let counts = [table.updates.clone(), table.deletions.clone()];
    fleet.start("a", &[], table).await;
    let id = fleet.agents["a"].0.clone();
    let plan = fleet.plan_of(Action::Update, Terms { life: 600, allowance: 0, absent_later: false }).await;
    let head = apply(&fleet, &id, fleet.signed(&plan, &[0])).await;
    assert_eq!((head.state, head.flows), (State::Answered, Some(10)));
    assert_eq!(counts.each_ref().map(|count| count.load(Ordering::SeqCst)), [1, 0]);
    // A plan to update cannot be made one to delete.
    let other = fleet.plan_of(Action::Update, Terms { life: 600, allowance: 0, absent_later: false }).await;
    let mut forged = fleet.signed(&other, &[0]);
    forged.plan = forged.plan.replace("\"update\"", "\"delete\"");
    assert_eq!(apply(&fleet, &id, forged).await.state, State::Refused);
    assert_eq!(counts.each_ref().map(|count| count.load(Ordering::SeqCst)), [1, 0]);
    let found = lines(&fleet.path("a", "audit"));
    assert_eq!(found.iter().map(|line| line.record.action.as_str()).collect::<Vec<_>>(), ["update", "update", ""]);
}

const LATER: Terms = Terms { life: 600, allowance: 10, absent_later: true };

/// Starts an agent that was killed again.
async fn restart(fleet: &mut Fleet, name: &str, id: &AgentId, table: &Made) {
    fleet.bus.remove(names::REGISTRY, id.as_str()).await.unwrap();
    fleet.start_as(name, &[], table.clone(), id.clone()).await;
}

#[tokio::test]
async fn an_absent_agent_does_a_plan_later_exactly_once() {
    let mut fleet = Fleet::new(1).await;
    let table = Made { rows: 10, width: 1, ..Made::default() };
    let deletions = table.deletions.clone();
    let deleted = || deletions.load(Ordering::SeqCst);
    fleet.start("a", &[], table.clone()).await;
    fleet.start("b", &[], Made::default()).await;
    let (id, other) = (fleet.agents["a"].0.clone(), fleet.agents["b"].0.clone());
    let plan = fleet.plan_of(Action::Delete, LATER).await;
    let signed = fleet.signed(&plan, &[0]);
    fleet.kill("a").await;
    let (roll, _) = fleet.ask(Ask::Apply { plan: signed.clone() }, SOON).await;
    assert_eq!(fates(&roll)[0].1, "absent");
    let left = later::leave(&fleet.bus, &plan, &signed, std::slice::from_ref(&id)).await.unwrap();
    assert_eq!(left, [Ok(())]);
    assert_eq!(deleted(), 0);

    restart(&mut fleet, "a", &id, &table).await;
    until("the plan is done", async || deleted() == 1).await;
    let path = fleet.path("a", "audit");
    until("it is on record", async || lines(&path).len() == 2).await;
    let found = lines(&path);
    assert!(found.iter().all(|line| line.record.later && line.record.plan == plan.id), "{found:?}");
    // Told again, connected again, left again, killed and started again, asked for it: it was done.
    later::leave(&fleet.bus, &plan, &signed, std::slice::from_ref(&id)).await.unwrap();
    fleet.bus.reconnect();
    let head = apply(&fleet, &id, signed.clone()).await;
    assert!(head.reason.unwrap().contains("was done already (10 flows deleted)"));
    fleet.kill("a").await;
    restart(&mut fleet, "a", &id, &table).await;
    // What it does next shows that it has looked: a second plan, left beside the first.
    let second = fleet.plan_of(Action::Delete, LATER).await;
    later::leave(&fleet.bus, &second, &fleet.signed(&second, &[0]), &[id.clone(), other]).await.unwrap();
    until("the second plan is done", async || deleted() == 2).await;
    let stages = |path: &Path| lines(path).iter().map(|line| line.record.stage).collect::<Vec<_>>();
    until("it is on record", async || stages(&path).len() == 5).await;
    let expected = [Stage::Intent, Stage::Result, Stage::Refused, Stage::Intent, Stage::Result];
    assert_eq!(stages(&path), expected);
}

#[tokio::test]
async fn what_is_left_for_an_agent_is_checked_as_any_other_command() {
    let mut fleet = Fleet::new(2).await;
    let table = Made { rows: 10, width: 1, ..Made::default() };
    let (deletions, more) = (table.deletions.clone(), table.more.clone());
    fleet.start("a", &[], table.clone()).await;
    let id = fleet.agents["a"].0.clone();
    let path = fleet.path("a", "audit");
    let good = fleet.plan_of(Action::Delete, LATER).await;
    let renewed = |change: &dyn Fn(&mut Plan)| {
        let mut plan = Plan { id: flowgate_fleet::random::id(), ..good.clone() };
        change(&mut plan);
        plan
    };
    let codes = |path: &Path| lines(path).iter().map(|line| line.record.code.clone()).collect::<Vec<_>>();
    let mut expected: Vec<&str> = Vec::new();
    // One signature of two; a changed plan; another agent's; only for those who are connected.
    let few = renewed(&|_| {});
    let forged = renewed(&|_| {});
    let mut changed = fleet.signed(&forged, &[0, 1]);
    changed.plan = changed.plan.replace("udp", "tcp");
    let others = renewed(&|plan| plan.agents.clear());
    let at_once = renewed(&|plan| plan.absent_later = false);
    for (plan, signed, code) in [
        (&few, fleet.signed(&few, &[0]), "signatures"),
        (&forged, changed, "signatures"),
        (&others, fleet.signed(&others, &[0, 1]), "not-named"),
        (&at_once, fleet.signed(&at_once, &[0, 1]), "absent"),
    ] {
        later::leave(&fleet.bus, plan, &signed, std::slice::from_ref(&id)).await.unwrap();
        expected.push(code);
        until(code, async || codes(&path).len() == expected.len()).await;
        assert_eq!(codes(&path), expected);
    }
    // Another signature makes it worth another look.
    assert_eq!(deletions.load(Ordering::SeqCst), 0);
    later::leave(&fleet.bus, &few, &fleet.signed(&few, &[0, 2]), std::slice::from_ref(&id)).await.unwrap();
    until("it is done", async || deletions.load(Ordering::SeqCst) == 1).await;
    until("it is on record", async || codes(&path).len() == expected.len() + 2).await;
    // One whose time is over by its own word, although its note says another.
    let expired = renewed(&|plan| (plan.made, plan.expires) = (plan::now() - 100, plan::now() - 1));
    let note = Plan { expires: plan::now() + 600, ..expired.clone() };
    later::leave(&fleet.bus, &note, &fleet.signed(&expired, &[0, 1]), std::slice::from_ref(&id)).await.unwrap();
    until("expired", async || codes(&path).last().is_some_and(|code| code == "expired")).await;
    // There are too many flows when it connects: that is decided once, although there are fewer later.
    more.store(5, Ordering::SeqCst);
    let many = renewed(&|_| {});
    later::leave(&fleet.bus, &many, &fleet.signed(&many, &[0, 1]), std::slice::from_ref(&id)).await.unwrap();
    until("too many", async || codes(&path).last().is_some_and(|code| code == "too-many")).await;
    more.store(0, Ordering::SeqCst);
    let count = codes(&path).len();
    fleet.kill("a").await;
    restart(&mut fleet, "a", &id, &table).await;
    // What cannot be read, and then one that is right: the list is looked at in order, so that the others have been.
    let broken = renewed(&|_| {});
    later::leave(&fleet.bus, &broken, &fleet.signed(&broken, &[0, 1]), std::slice::from_ref(&id)).await.unwrap();
    let subject = names::left(&id, &broken.id.parse().unwrap());
    fleet.bus.tamper(names::COMMANDS, |messages: &mut BTreeMap<u64, Stored>| {
        let message = messages.values_mut().find(|stored| stored.subject == subject);
        message.unwrap().payload = b"{".to_vec();
    });
    later::leave(&fleet.bus, &good, &fleet.signed(&good, &[0, 1]), std::slice::from_ref(&id)).await.unwrap();
    until("the good one is done", async || deletions.load(Ordering::SeqCst) == 2).await;
    until("it is on record", async || lines(&path).last().unwrap().record.stage == Stage::Result).await;
    // After its start it has refused anew what nobody has signed, and nothing that it had decided.
    let after: Vec<String> = codes(&path).split_off(count).into_iter().filter(|code| !code.is_empty()).collect();
    assert!(after.iter().all(|code| ["signatures", "not-named", "expired"].contains(&code.as_str())), "{after:?}");
    assert_eq!(lines(&path).iter().filter(|line| line.record.stage == Stage::Intent).count(), 2);
    // Whoever is asked again decides again.
    let head = apply(&fleet, &id, fleet.signed(&many, &[0, 1])).await;
    assert_eq!((head.state, deletions.load(Ordering::SeqCst)), (State::Answered, 3));
}

/// Returns what the stream has of an agent's audit, and what is wrong with it.
async fn shipped(fleet: &Fleet, id: &AgentId) -> (Vec<u8>, Vec<(u64, Flaw)>) {
    let (mut text, mut chain, mut flaws) = (Vec::new(), Chain::default(), Vec::new());
    let missing = audit::read_all(&fleet.bus, |agent, line| {
        if agent == id {
            text.extend_from_slice(line);
            text.push(b'\n');
            let (number, flaw) = chain.follow(line);
            flaws.extend(flaw.map(|flaw| (number, flaw)));
        }
        true
    });
    missing.await.unwrap();
    (text, flaws)
}

/// Has an agent refuse something, so that its audit gets a line.
async fn refuse(fleet: &Fleet, id: &AgentId) {
    let signed = SignedPlan { plan: "{}".into(), signatures: Vec::new() };
    assert_eq!(apply(fleet, id, signed).await.state, State::Refused);
}

/// Waits until the stream has the whole audit, and each line once.
async fn same(fleet: &Fleet, name: &str, id: &AgentId) {
    let path = fleet.path(name, "audit");
    until("all is shipped", async || {
        let (there, flaws) = shipped(fleet, id).await;
        assert_eq!(flaws, [], "{}", String::from_utf8_lossy(&there));
        there == std::fs::read(&path).unwrap()
    })
    .await;
}

#[tokio::test]
async fn the_audit_is_shipped_in_order_each_line_once_whoever_is_killed() {
    let mut fleet = Fleet::new(1).await;
    fleet.start("a", &[], Made::default()).await;
    fleet.start("b", &[], Made::default()).await;
    let ids = ["a", "b"].map(|name| fleet.agents[name].0.clone());
    for _ in 0..3 {
        refuse(&fleet, &ids[0]).await;
        refuse(&fleet, &ids[1]).await;
    }
    same(&fleet, "a", &ids[0]).await;
    same(&fleet, "b", &ids[1]).await;
    // The server stores a message, and is killed before it says so.
    fleet.bus.lose_acknowledgements(names::AUDIT, 2);
    for _ in 0..4 {
        refuse(&fleet, &ids[0]).await;
    }
    same(&fleet, "a", &ids[0]).await;
    // The agent is killed; meanwhile nothing is shipped, and after its start all of it.
    fleet.bus.lose_acknowledgements(names::AUDIT, 1);
    refuse(&fleet, &ids[0]).await;
    fleet.kill("a").await;
    restart(&mut fleet, "a", &ids[0], &Made::default()).await;
    refuse(&fleet, &ids[0]).await;
    same(&fleet, "a", &ids[0]).await;
    // A server that has lost what it had acknowledged gets it again.
    fleet.bus.tamper(names::AUDIT, |messages| {
        let of = |stored: &Stored| names::audited(&stored.subject).as_ref() == Some(&ids[0]);
        while messages.values().next_back().is_some_and(of) {
            messages.pop_last();
        }
    });
    fleet.bus.reconnect();
    same(&fleet, "a", &ids[0]).await;
    same(&fleet, "b", &ids[1]).await;
}

#[tokio::test]
async fn a_line_that_is_removed_changed_or_forged_in_the_stream_is_found() {
    let mut fleet = Fleet::new(1).await;
    fleet.start("a", &[], Made::default()).await;
    let id = fleet.agents["a"].0.clone();
    for _ in 0..6 {
        refuse(&fleet, &id).await;
        same(&fleet, "a", &id).await;
    }
    let whole = fleet.bus.extent(names::AUDIT).await.unwrap();
    assert_eq!(whole, (1, 6), "a message for each line, since each was shipped before the next");
    let mut kept = BTreeMap::new();
    fleet.bus.tamper(names::AUDIT, |messages| kept = messages.clone());
    let flaws = async |change: &dyn Fn(&mut BTreeMap<u64, Stored>)| {
        fleet.bus.tamper(names::AUDIT, |messages| {
            *messages = kept.clone();
            change(messages);
        });
        let missing = audit::read_all(&fleet.bus, |_, _| true).await.unwrap();
        (shipped(&fleet, &id).await.1, missing)
    };
    let removed = flaws(&|messages| drop(messages.remove(&3))).await;
    assert_eq!(removed, (vec![(4, Flaw::Missing { first: 3, last: 3 })], vec![3]));
    let first = flaws(&|messages| drop(messages.remove(&1))).await;
    assert_eq!(first, (vec![(2, Flaw::Missing { first: 1, last: 1 })], vec![1]));
    let changed = flaws(&|messages| {
        let payload = &mut messages.get_mut(&2).unwrap().payload;
        let text = String::from_utf8(payload.clone()).unwrap();
        *payload = text.replace("signatures", "signaturez").into_bytes();
    });
    assert_eq!(changed.await, (vec![(3, Flaw::Forged(2))], Vec::new()));
    let twice = flaws(&|messages| {
        let copy = messages[&5].clone();
        messages.insert(7, Stored { sequence: 7, ..copy });
    });
    assert_eq!(twice.await, (vec![(5, Flaw::Order(7))], Vec::new()));
    assert_eq!(flaws(&|_| {}).await, (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn an_audit_that_was_replaced_on_the_host_is_shipped_anew_and_found() {
    let mut fleet = Fleet::new(1).await;
    fleet.start("a", &[], Made::default()).await;
    let id = fleet.agents["a"].0.clone();
    for _ in 0..3 {
        refuse(&fleet, &id).await;
    }
    same(&fleet, "a", &id).await;
    fleet.kill("a").await;
    let path = fleet.path("a", "audit");
    std::fs::remove_file(&path).unwrap();
    restart(&mut fleet, "a", &id, &Made::default()).await;
    refuse(&fleet, &id).await;
    until("it is shipped", async || shipped(&fleet, &id).await.1 == [(1, Flaw::Restarted(3))]).await;
    // It goes on from there, once.
    refuse(&fleet, &id).await;
    let ends = async || shipped(&fleet, &id).await.0.ends_with(&std::fs::read(&path).unwrap());
    until("it is shipped", async || ends().await && lines(&path).len() == 2).await;
    assert_eq!(shipped(&fleet, &id).await.1, [(1, Flaw::Restarted(3))]);
}
