//! Streams on real servers: the audit while the server and the agent are killed, plans for absent agents, and who may do
//! what with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

mod site;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use flowgate_fleet::{
    audit::{self, Audit, Chain, Record, Stage},
    bus::{Bus as _, BusError, Nats, Streams as _},
    config::OperatorFile,
    keys::SigningKey,
    later,
    names::{self, AgentId},
    plan::{Action, Plan, Share, Terms},
    table::Touched,
};
use site::{SERVERS, SOON, Site, registered};

/// Waits until something holds, or the test fails.
async fn until(what: &str, within: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < within, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Appends lines to an audit, as an agent does that is not connected.
fn fill(path: &Path, count: usize, length: usize) {
    let mut audit = Audit::open(path).unwrap();
    for _ in 0..count {
        let reason = "x".repeat(length);
        audit.append(Record { stage: Stage::Refused, code: "test".into(), reason, ..Record::default() }).unwrap();
    }
}

/// Returns what the stream has of an agent's audit; `None` if the server does not answer. Lines that do not follow from the
/// one before fail the test.
async fn shipped(bus: &Nats, id: &AgentId) -> Option<Vec<u8>> {
    let (mut text, mut chain) = (Vec::new(), Chain::default());
    let read = audit::read_all(bus, |agent, line| {
        if agent == id {
            text.extend_from_slice(line);
            text.push(b'\n');
            assert_eq!(chain.follow(line).1, None);
        }
        true
    });
    assert_eq!(read.await.ok()?, Vec::<u64>::new());
    Some(text)
}

#[tokio::test]
async fn nothing_of_the_audit_is_lost_or_twice_when_server_and_agent_are_killed() {
    let program = SERVERS[0];
    let mut site = Site::new(program, &["a"]);
    let path = site.audit(0);
    // Some hundred messages of up to 128 KiB.
    fill(&path, 8000, 4000);
    let whole = std::fs::read(&path).unwrap();
    let (bus, _) = site.operator("admin").await;
    bus.prepare(names::REGISTRY).await.unwrap();
    bus.prepare_stream(&audit::STREAM).await.unwrap();
    let mut agent = site.run(0, 1).await;
    let mut places = Vec::new();
    for kill in 0..4 {
        let before = places.last().copied().unwrap_or(0);
        let (bus, _) = site.operator("admin").await;
        until("it goes on", 3 * SOON, async || {
            bus.extent(names::AUDIT).await.is_ok_and(|(_, last)| last > before + 10)
        })
        .await;
        let (_, last) = bus.extent(names::AUDIT).await.unwrap();
        places.push(last);
        // Both as by kill -9: the server while it stores, the agent while it waits for the acknowledgement.
        if kill % 2 == 1 {
            agent.abort();
            let _ = agent.await;
            site.start(program);
            agent = site.run(0, 1).await;
        } else {
            site.start(program);
        }
    }
    let (bus, id) = (site.operator("admin").await.0, site.agent(0).await.1);
    // No message has more.
    let most = u64::try_from(whole.len() / audit::MAX_BATCH).unwrap();
    assert!(places.iter().all(|&place| place < most), "it was killed in the middle: {places:?} of {most}");
    until("all is shipped", 6 * SOON, async || {
        bus.extent(names::AUDIT).await.is_ok_and(|(_, last)| last >= most)
            && shipped(&bus, &id).await.is_some_and(|text| text == whole)
    })
    .await;
}

#[tokio::test]
async fn an_absent_agent_finds_its_plan_on_real_servers() {
    for program in SERVERS {
        let site = Site::new(program, &["a", "b"]);
        let (bus, _) = site.operator("admin").await;
        bus.prepare(names::REGISTRY).await.unwrap();
        bus.prepare_stream(&audit::STREAM).await.unwrap();
        let tasks = [site.run(0, 3).await, site.run(1, 3).await];
        let members = registered(&bus, 2).await;
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        let touched = Touched { count: 3, hash: String::new() };
        let shares = members.iter().map(|member| Share {
            id: member.id.clone(),
            name: member.name.clone(),
            touched: touched.clone(),
        });
        let terms = Terms { life: 600, allowance: 10, absent_later: true };
        let plan = Plan::new(Action::Update, vec!["-m".into(), "1".into()], shares.collect(), terms);
        let file = OperatorFile::read(&site.fleet().join("operators/admin/operator.toml")).unwrap();
        let mut signed = plan.unsigned().unwrap();
        signed.sign(&SigningKey::read(&file.sign.unwrap()).unwrap());
        let ids: Vec<AgentId> = members.iter().map(|member| member.id.clone()).collect();
        let left = later::leave(&bus, &plan, &signed, &ids).await.unwrap();
        assert_eq!(left, [Ok(()), Ok(())], "{program}");
        let _tasks = [site.run(0, 3).await, site.run(1, 3).await];
        // Both do it, and their audits arrive.
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        for id in &ids {
            until("its result is shipped", 2 * SOON, async || {
                let lines = shipped(&bus, id).await.map(text).unwrap_or_default();
                lines.lines().count() == 2 && lines.contains("\"result\":\"done\"") && lines.contains(&plan.id)
            })
            .await;
        }
    }
}

#[tokio::test]
async fn an_agent_writes_its_own_audit_only_and_reads_what_was_left_for_it_only() {
    for program in SERVERS {
        let site = Site::new(program, &["a", "b"]);
        let (admin, _) = site.operator("admin").await;
        admin.prepare_stream(&audit::STREAM).await.unwrap();
        admin.prepare_stream(&later::STREAM).await.unwrap();
        let (bad, bad_id) = site.agent(0).await;
        let (good, good_id) = site.agent(1).await;
        let id: names::PlanId = "0".repeat(32).parse().unwrap();
        let line = b"{}\n".to_vec();
        assert_eq!(good.append(names::audit(&good_id), line.clone(), 0).await, Ok(1), "{program}");
        for (subject, sequence) in [(names::left(&good_id, &id), 1), (names::notes(&good_id), 2)] {
            assert_eq!(admin.append(subject, b"[]".to_vec(), 0).await, Ok(sequence), "{program}");
        }
        assert_eq!(good.last(names::AUDIT, &names::audit(&good_id)).await.unwrap().unwrap().payload, line);
        for subject in [names::left(&good_id, &id), names::notes(&good_id)] {
            assert_eq!(good.last(names::COMMANDS, &subject).await.unwrap().unwrap().payload, b"[]", "{program}");
        }
        assert_eq!(bad.last(names::COMMANDS, &names::notes(&bad_id)).await, Ok(None), "{program}");
        // The second of two that write behind the same message is refused.
        let conflict = good.append(names::audit(&good_id), line.clone(), 0).await;
        assert!(matches!(conflict, Err(BusError::Conflict(_))), "{program}: {conflict:?}");

        let denied = |what: &str, result: Result<(), BusError>| {
            assert!(
                matches!(&result, Err(BusError::Denied(text)) if text.contains("ermissions")),
                "{program}: {what}: {result:?}"
            );
        };
        denied("another's audit", bad.append(names::audit(&good_id), line.clone(), 1).await.map(drop));
        denied("its own notes", bad.append(names::notes(&bad_id), b"[]".to_vec(), 0).await.map(drop));
        denied("another's notes", bad.append(names::notes(&good_id), b"[]".to_vec(), 2).await.map(drop));
        denied("reading another's audit", bad.last(names::AUDIT, &names::audit(&good_id)).await.map(drop));
        denied("reading any audit", bad.last(names::AUDIT, names::AUDITS).await.map(drop));
        denied("reading by number", bad.at(names::AUDIT, 1).await.map(drop));
        denied("reading how many there are", bad.extent(names::AUDIT).await.map(drop));
        denied("reading commands by number", bad.at(names::COMMANDS, 1).await.map(drop));
        denied("reading another's notes", bad.last(names::COMMANDS, &names::notes(&good_id)).await.map(drop));
        denied("reading another's plan", bad.last(names::COMMANDS, &names::left(&good_id, &id)).await.map(drop));
        denied("reading any notes", bad.last(names::COMMANDS, "fg.1.later.*").await.map(drop));
        denied("reading all that was left", bad.last(names::COMMANDS, names::LEFT).await.map(drop));
        denied("making a stream", bad.prepare_stream(&audit::STREAM).await);
        // An operator reads the audit, and neither writes nor removes it.
        assert_eq!(admin.at(names::AUDIT, 1).await.unwrap().unwrap().payload, line, "{program}");
        denied("an operator's line", admin.append(names::audit(&good_id), line.clone(), 1).await.map(drop));
        for verb in ["DELETE", "PURGE", "UPDATE", "MSG.DELETE"] {
            let subject = format!("$JS.API.STREAM.{verb}.{}", names::AUDIT);
            denied(verb, admin.request(subject, b"{\"seq\":1}".to_vec(), SOON).await.map(drop));
        }
        assert_eq!(admin.extent(names::AUDIT).await, Ok((1, 1)), "{program}");
    }
}
