//! Agents and who asks them on a bus in the process: the roll call, and answers in many parts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

mod made;

use std::{
    sync::{Arc, Mutex, atomic::Ordering, mpsc},
    time::Duration,
};

use flowgate_fleet::{
    bus::{Bus, Subscription as _},
    collector::{self, Chosen},
    keys::ConnectKey,
    lines,
    message::{self, Answer, Ask, Entry, Question, State},
    names,
    table::{Facts, Form},
};
use made::{Fleet, Made, SOON, fates};

#[tokio::test]
async fn every_agent_ends_in_exactly_one_state() {
    let mut fleet = Fleet::new(1).await;
    let (release, held) = mpsc::channel();
    let ten = Made { rows: 10, width: 4, ..Made::default() };
    fleet.start("answers", &[], ten.clone()).await;
    fleet.start("slow", &[], Made { held: Some(Arc::new(Mutex::new(held))), ..ten.clone() }).await;
    fleet.start("killed", &[], ten.clone()).await;
    fleet.start("frozen", &[], ten.clone()).await;
    fleet.kill("killed").await;
    fleet.bus.freeze(&names::question(&fleet.agents["frozen"].0), true);
    // One that answers what is no answer.
    let broken = ConnectKey::generate().id();
    let entry = Entry {
        version: 1,
        name: "broken".parse().unwrap(),
        labels: vec![],
        boot: "b".into(),
        facts: Facts::default(),
        running: None,
    };
    fleet.bus.put(names::REGISTRY, broken.as_str(), message::write(&entry)).await.unwrap();
    let mut questions = fleet.bus.subscribe(names::question(&broken)).await.unwrap();
    let bus = fleet.bus.clone();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            bus.publish(question.reply.unwrap(), None, b"{\"state\":".to_vec()).await.unwrap();
        }
    });

    let (roll, answers) = fleet.ask(Ask::Count { words: Vec::new() }, Duration::from_millis(300)).await;
    let found = fates(&roll);
    let words: Vec<(&str, &str)> = found.iter().map(|(name, word, _)| (name.as_str(), *word)).collect();
    let expected =
        [("answers", "answered"), ("broken", "failed"), ("frozen", "absent"), ("killed", "absent"), ("slow", "late")];
    assert_eq!(words, expected, "{found:#?}");
    assert!(found[2].2.contains("nor to a ping") && found[3].2.contains("nobody is connected"), "{found:#?}");
    assert_eq!((roll.missing(), answers["answers"][0].head.flows), (4, Some(10)));
    drop(release);

    let (roll, _) = fleet.ask(Ask::Count { words: vec!["nonsense".into()] }, Duration::from_millis(300)).await;
    assert_eq!(fates(&roll)[0], ("answers".into(), "refused", "nonsense is no option".into()));
}

#[tokio::test]
async fn what_does_not_fit_is_pulled_and_nothing_is_lost_or_held() {
    let mut fleet = Fleet::new(1).await;
    for (name, rows) in [("a", 50_000_u64), ("b", 3), ("c", 20_000), ("d", 0)] {
        fleet.start(name, &[], Made { rows, width: 50, ..Made::default() }).await;
    }
    let fails = Made { rows: 50_000, width: 50, fails_after: Some(30_000), ..Made::default() };
    fleet.start("e", &[], fails).await;
    fleet.start("f", &[], Made { rows: 5, width: 5, fails_after: Some(0), ..Made::default() }).await;
    let list = Ask::List { words: Vec::new(), form: Form::Json, first: collector::first(6) };
    let (roll, answers) = fleet.ask(list, SOON).await;
    let words: Vec<&str> = fates(&roll).iter().map(|(_, word, _)| *word).collect();
    assert_eq!(words, ["answered", "answered", "answered", "answered", "partial", "failed"], "{roll}");
    for (name, rows, last) in [
        ("a", 50_000, Some(50_000)),
        ("b", 3, Some(3)),
        ("c", 20_000, Some(20_000)),
        ("d", 0, Some(0)),
        ("e", 30_000, None),
    ] {
        let parts = &answers[name];
        let mut all = Vec::new();
        for part in parts {
            assert!(part.rows.len() <= message::CHUNK, "{}", part.rows.len());
            lines::append(&mut all, name, 1, Form::Json, &part.rows).unwrap();
        }
        let text = String::from_utf8(all).unwrap();
        assert_eq!(text.lines().count(), rows, "{name}");
        for (index, line) in text.lines().enumerate() {
            assert_eq!(line, format!("{{\"agent\":\"{name}\",\"row\":\"{index:050}\"}}"));
        }
        assert_eq!(parts.last().unwrap().head.flows, last, "{name}");
    }
}

#[tokio::test]
async fn an_agent_holds_no_more_than_a_few_parts_and_only_so_many() {
    let mut fleet = Fleet::new(1).await;
    let table = Made { rows: 1_000_000, width: 100, ..Made::default() };
    let written = table.written.clone();
    fleet.start("a", &[], table).await;
    let subject = names::question(&fleet.agents["a"].0);
    let list = message::write(&Question::new(Ask::List { words: Vec::new(), form: Form::Text, first: 1 << 30 }));
    let first = Answer::read(&fleet.bus.request(subject.clone(), list.clone(), SOON).await.unwrap()).unwrap();
    assert!(first.rows.len() <= message::MAX_FIRST, "whoever asks for more");
    let cursor = first.head.cursor.clone().unwrap();
    // The first part is here, one waits in the channel, one to be sent, and one line.
    let limit = (message::MAX_FIRST + 3 * message::CHUNK) as u64;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(written.load(Ordering::SeqCst) <= limit, "{}", written.load(Ordering::SeqCst));
    }
    // Others get rows only in order, and only with the cursor.
    for (cursor, chunk) in [("0".repeat(32), 1), (cursor.clone(), 2)] {
        let pull = message::write(&Question::new(Ask::Pull { cursor, chunk }));
        let answer = Answer::read(&fleet.bus.request(subject.clone(), pull, SOON).await.unwrap()).unwrap();
        assert_eq!((answer.head.state, answer.rows.len()), (State::Partial, 0));
    }
    let mut open = Vec::new();
    let refused = loop {
        let answer = Answer::read(&fleet.bus.request(subject.clone(), list.clone(), SOON).await.unwrap()).unwrap();
        match answer.head.cursor {
            Some(cursor) => open.push(cursor),
            None => break answer,
        }
        assert!(open.len() < 100);
    };
    assert_eq!(refused.head.state, State::Refused);
    let close = message::write(&Question::new(Ask::Close { cursor: open.pop().unwrap() }));
    fleet.bus.request(subject.clone(), close, SOON).await.unwrap();
    let answer = Answer::read(&fleet.bus.request(subject, list, SOON).await.unwrap()).unwrap();
    assert!(answer.head.cursor.is_some(), "there is room again");
}

#[tokio::test]
async fn agents_are_chosen_by_labels_and_names() {
    let mut fleet = Fleet::new(1).await;
    fleet.start("web-1", &["role=web", "site=fra"], Made::default()).await;
    fleet.start("web-2", &["role=web"], Made::default()).await;
    fleet.start("db", &["role=db", "site=fra"], Made::default()).await;
    let chosen = |labels: &[&str], names: &[&str]| Chosen {
        labels: labels.iter().map(|label| label.parse().unwrap()).collect(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
    };
    let all = fleet.members().await;
    let of = |labels: &[&str], names: &[&str]| {
        let members = chosen(labels, names).of(all.clone());
        members.map(|members| members.into_iter().map(|member| member.name.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(of(&[], &[]).unwrap(), ["db", "web-1", "web-2"]);
    assert_eq!(of(&["role=web"], &[]).unwrap(), ["web-1", "web-2"]);
    assert_eq!(of(&["role=web", "site=fra"], &[]).unwrap(), ["web-1"]);
    assert_eq!(of(&[], &["db", "web-2"]).unwrap(), ["db", "web-2"]);
    assert_eq!(of(&[], &[all[0].id.as_str()]).unwrap(), ["db"]);
    assert_eq!(of(&[], &["db", "nobody"]).unwrap_err(), ["nobody"]);
    // Another agent with a name that is taken is told apart, and so is the one that had it.
    fleet.start("db", &[], Made::default()).await;
    let names: Vec<String> = fleet.members().await.iter().map(|member| member.name.to_string()).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("db.U")).count(), 2, "{names:?}");
}

#[tokio::test]
async fn garbage_is_refused_and_the_agent_goes_on() {
    let mut fleet = Fleet::new(1).await;
    fleet.start("a", &[], Made { rows: 3, ..Made::default() }).await;
    let (question, command) = (names::question(&fleet.agents["a"].0), names::command(&fleet.agents["a"].0));
    for bad in [&b""[..], b"{", b"\xff\xff", b"{\"version\":1}", b"{\"version\":7,\"ask\":\"count\"}", &[b'['; 100_000]]
    {
        for subject in [&question, &command] {
            let answer = fleet.bus.request(subject.clone(), bad.to_vec(), SOON).await.unwrap();
            assert_eq!(Answer::read(&answer).unwrap().head.state, State::Refused);
        }
    }
    // Nobody awaits an answer to this, and there is none.
    fleet.bus.publish(question.clone(), None, message::write(&Question::new(Ask::Ping))).await.unwrap();
    let (roll, _) = fleet.ask(Ask::Count { words: Vec::new() }, SOON).await;
    assert_eq!(roll.missing(), 0);
}
