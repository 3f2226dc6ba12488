//! The fleet on real servers, the present one and Debian's: what `fleet init` writes is taken, agents answer, and
//! nobody may do what is not theirs. `make setup` installs the servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

mod site;

use std::time::{Duration, Instant};

use flowgate_fleet::{
    bus::{Bus, BusError, ConnectError, Nats, Subscription as _},
    collector::{self, Taken},
    keys::ConnectKey,
    message::{self, Ask, Question},
    names,
    table::Form,
};
use site::{SERVERS, SOON, Site, registered, soon};

#[tokio::test]
async fn agents_answer_over_real_servers_and_the_missing_are_named() {
    for program in SERVERS {
        let site = Site::new(program, &["a", "b", "c"]);
        let (bus, _) = site.operator("admin").await;
        bus.prepare(names::REGISTRY).await.unwrap();
        bus.prepare(names::REGISTRY).await.unwrap();
        let mut tasks = Vec::new();
        for (index, flows) in [(0, 3), (1, 20_000), (2, 1)] {
            tasks.push(site.run(index, flows).await);
        }
        let members = registered(&bus, 3).await;
        let ask = async |within| {
            let mut rows = vec![0; 3];
            let take = |index: usize, answer: &message::Answer| {
                rows[index] += answer.rows.iter().filter(|&&byte| byte == b'\n').count();
                Taken::Used
            };
            let list = Ask::List { words: Vec::new(), form: Form::Text, first: collector::first(3) };
            let roll = collector::ask(&bus, &members, list, within, take).await.unwrap();
            let words: Vec<&str> = roll.agents().iter().map(|called| called.fate.word()).collect();
            (words, rows)
        };
        assert_eq!(ask(SOON).await, (vec!["answered"; 3], vec![3, 20_000, 1]), "{program}");
        let gone = tasks.remove(1);
        gone.abort();
        let _ = gone.await;
        // The server says at once that nobody is there, long before the time is over; but it learns of it from another
        // task, a moment later.
        let began = Instant::now();
        loop {
            let asked = Instant::now();
            let (words, rows) = ask(Duration::from_secs(2)).await;
            assert_eq!((words, rows), (vec!["answered", "absent", "answered"], vec![3, 0, 1]), "{program}");
            if asked.elapsed() < Duration::from_secs(1) {
                break;
            }
            assert!(began.elapsed() < SOON, "{program}: {:?}", began.elapsed());
        }
    }
}

#[tokio::test]
async fn nobody_may_do_what_is_not_theirs() {
    for program in SERVERS {
        let site = Site::new(program, &["a", "b"]);
        let (admin, admin_id) = site.operator("admin").await;
        let (second, _) = site.operator("second").await;
        admin.prepare(names::REGISTRY).await.unwrap();
        let (bad, bad_id) = site.agent(0).await;
        let (good, good_id) = site.agent(1).await;
        good.put(names::REGISTRY, good_id.as_str(), b"entry".to_vec()).await.unwrap();
        assert_eq!(good.get(names::REGISTRY, good_id.as_str()).await.unwrap().unwrap(), b"entry");
        let mut commands = good.subscribe(names::command(&good_id)).await.unwrap();
        let mut questions = good.subscribe(names::question(&good_id)).await.unwrap();
        let mut answers = admin.subscribe(format!("{}.*", names::inbox(admin_id.as_str()))).await.unwrap();
        // The server handles a connection's messages in order: when it answers, it has the subscriptions.
        let settled = async |bus: &Nats| drop(bus.get(names::REGISTRY, good_id.as_str()).await);
        settled(&good).await;
        settled(&admin).await;

        // Subscriptions of a bad agent: to answers, questions, commands, beats, and everything.
        let mut heard = Vec::new();
        for subject in [
            format!("{}.>", names::inbox(admin_id.as_str())),
            names::question(&good_id),
            names::command(&good_id),
            names::beat(&good_id),
            "fg.1.>".to_owned(),
            "_INBOX.>".to_owned(),
            "$KV.>".to_owned(),
            ">".to_owned(),
        ] {
            heard.push((bad.subscribe(subject.clone()).await.unwrap(), subject));
        }
        bad.flush().await.unwrap();
        // What it publishes: commands, questions, answers to others, entries and beats of others, and to JetStream.
        let ping = message::write(&Question::new(Ask::Ping));
        for subject in [
            names::command(&good_id),
            names::question(&good_id),
            format!("{}.x", names::inbox(admin_id.as_str())),
            format!("$KV.{}.{good_id}", names::REGISTRY),
            names::beat(&good_id),
            format!("$JS.API.STREAM.DELETE.KV_{}", names::REGISTRY),
        ] {
            bad.publish(subject, None, ping.clone()).await.unwrap();
        }
        settled(&bad).await;
        let denied = |result: Result<(), BusError>| {
            assert!(
                matches!(&result, Err(BusError::Denied(text)) if text.contains("ermissions")),
                "{program}: {result:?}"
            );
        };
        denied(bad.put(names::REGISTRY, good_id.as_str(), b"forged".to_vec()).await);
        denied(bad.get(names::REGISTRY, good_id.as_str()).await.map(drop));
        denied(bad.keys(names::REGISTRY).await.map(drop));
        denied(bad.remove(names::REGISTRY, good_id.as_str()).await);
        denied(second.put(names::REGISTRY, bad_id.as_str(), b"forged".to_vec()).await);

        // A question of the operator arrives, and is the first that the good agent hears; its answer arrives, too.
        let reply = format!("{}.q", names::inbox(admin_id.as_str()));
        let asked = message::write(&Question::new(Ask::Status));
        admin.publish(names::question(&good_id), Some(reply.clone()), asked.clone()).await.unwrap();
        let question = soon(questions.next()).await.unwrap();
        assert_eq!(question.payload, asked, "{program}");
        // Nor may it answer a question that it was not asked.
        bad.publish(reply.clone(), None, b"forged".to_vec()).await.unwrap();
        settled(&bad).await;
        good.publish(question.reply.clone().unwrap(), None, b"true".to_vec()).await.unwrap();
        let answer = soon(answers.next()).await.unwrap();
        assert_eq!((answer.subject, answer.payload), (reply.clone(), b"true".to_vec()), "{program}");
        // One question, one answer.
        good.publish(reply, None, b"again".to_vec()).await.unwrap();
        settled(&good).await;
        admin.publish(names::command(&good_id), None, b"command".to_vec()).await.unwrap();
        assert_eq!(soon(commands.next()).await.unwrap().payload, b"command", "{program}");
        assert_eq!(admin.get(names::REGISTRY, good_id.as_str()).await.unwrap().unwrap(), b"entry", "{program}");
        let quiet = Duration::from_millis(100);
        assert!(tokio::time::timeout(quiet, answers.next()).await.is_err(), "{program}");
        assert!(tokio::time::timeout(quiet, questions.next()).await.is_err(), "{program}");
        for (mut subscription, subject) in heard {
            let message = tokio::time::timeout(quiet, subscription.next()).await;
            assert!(!matches!(message, Ok(Some(_))), "{program}: {subject}: {message:?}");
        }
    }
}

#[tokio::test]
async fn strangers_are_not_let_in() {
    for program in SERVERS {
        let site = Site::new(program, &["a"]);
        let stranger = site.directory.path().join("stranger.nk");
        std::fs::write(&stranger, ConnectKey::generate().seed()).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&stranger, std::fs::Permissions::from_mode(0o600)).unwrap();
        let ca = site.fleet().join("ca.pem");
        let error = site.connect(&ca, &stranger).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unknown { .. }), "{program}: {error}");
        // Another fleet's certificate: that server is not this one.
        let other = Site::new(program, &[]);
        let key = site.fleet().join("operators/admin/connect.nk");
        let error = site.connect(&other.fleet().join("ca.pem"), &key).await.unwrap_err();
        assert!(matches!(error, ConnectError::Tls { .. }), "{program}: {error}");
    }
}

#[tokio::test]
async fn an_agent_comes_back_when_the_server_does() {
    let program = SERVERS[0];
    let mut site = Site::new(program, &["a"]);
    let (bus, _) = site.operator("admin").await;
    bus.prepare(names::REGISTRY).await.unwrap();
    let _task = site.run(0, 7).await;
    registered(&bus, 1).await;
    // As kill -9: what the server has stored is there again, and so is the agent.
    site.start(program);
    let (bus, _) = site.operator("admin").await;
    let members = registered(&bus, 1).await;
    let began = Instant::now();
    loop {
        let roll = collector::ask(&bus, &members, Ask::Ping, Duration::from_secs(1), |_, _| Taken::Used).await.unwrap();
        if roll.missing() == 0 {
            break;
        }
        assert!(began.elapsed() < 2 * SOON, "{roll}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn of_a_thousand_agents_the_thirty_seven_that_were_killed_are_named() {
    const AGENTS: usize = 1000;
    const KILLED: usize = 37;
    let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    assert!(hard >= 8192, "the limit of open files is {soft}, and cannot be raised above {hard}");
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let agents: Vec<String> = (0..AGENTS).map(|number| format!("agent-{number:04}")).collect();
    let site = Site::new(SERVERS[0], &agents.iter().map(String::as_str).collect::<Vec<_>>());
    let (bus, _) = site.operator("admin").await;
    bus.prepare(names::REGISTRY).await.unwrap();
    let mut tasks = Vec::new();
    for index in 0..AGENTS {
        tasks.push(Some(site.run(index, 2).await));
    }
    let members = registered(&bus, AGENTS).await;
    let ask = async |within: Duration| {
        let mut rows = 0;
        let take = |_: usize, answer: &message::Answer| {
            rows += answer.rows.iter().filter(|&&byte| byte == b'\n').count();
            Taken::Used
        };
        let list = Ask::List { words: Vec::new(), form: Form::Text, first: collector::first(AGENTS) };
        let began = Instant::now();
        let roll = collector::ask(&bus, &members, list, within, take).await.unwrap();
        (roll, rows, began.elapsed())
    };
    let mut times = Vec::new();
    for _ in 0..20 {
        let (roll, rows, time) = ask(SOON).await;
        assert_eq!((roll.missing(), rows), (0, 2 * AGENTS), "{roll}");
        times.push(time);
    }
    times.sort();
    println!("{AGENTS} answers of 200 bytes: median {:?}, longest {:?}", times[10], times[19]);
    // Every 27th.
    let killed: Vec<String> = (0..KILLED).map(|number| agents[number * 27].clone()).collect();
    for number in 0..KILLED {
        let task = tasks[number * 27].take().unwrap();
        task.abort();
        let _ = task.await;
    }
    let began = Instant::now();
    loop {
        let (roll, rows, time) = ask(Duration::from_secs(5)).await;
        let absent = roll.agents().iter().filter(|called| called.fate.word() == "absent");
        let absent: Vec<String> = absent.map(|called| called.name.to_string()).collect();
        assert_eq!((absent, rows, roll.missing()), (killed.clone(), 2 * (AGENTS - KILLED), KILLED));
        if time < Duration::from_secs(2) {
            println!("{KILLED} of them named after {time:?}");
            break;
        }
        assert!(began.elapsed() < 2 * SOON);
    }
}

#[tokio::test]
async fn what_agents_run_is_written_by_operators_and_replaced_only_as_it_was() {
    for program in SERVERS {
        let site = Site::new(program, &["a", "b"]);
        let (admin, _) = site.operator("admin").await;
        for bucket in [names::REGISTRY, names::DESIRED, names::BUNDLES, names::ROLLOUTS] {
            admin.prepare(bucket).await.unwrap();
        }
        let (bad, bad_id) = site.agent(0).await;
        let (_, good_id) = site.agent(1).await;
        let digest = names::Digest::of(b"bundle");
        let part = flowgate_fleet::rollout::part(&digest, 0);
        let large = vec![7; flowgate_fleet::rollout::PART];
        admin.put(names::BUNDLES, &part, large.clone()).await.unwrap();
        admin.put(names::DESIRED, bad_id.as_str(), b"yours".to_vec()).await.unwrap();
        admin.put(names::DESIRED, good_id.as_str(), b"theirs".to_vec()).await.unwrap();
        assert_eq!(bad.get(names::DESIRED, bad_id.as_str()).await.unwrap().unwrap(), b"yours", "{program}");
        assert_eq!(bad.get(names::BUNDLES, &part).await.unwrap().unwrap(), large, "{program}");
        let denied = |result: Result<(), BusError>| {
            assert!(matches!(&result, Err(BusError::Denied(_))), "{program}: {result:?}");
        };
        denied(bad.get(names::DESIRED, good_id.as_str()).await.map(drop));
        denied(bad.put(names::DESIRED, bad_id.as_str(), b"mine".to_vec()).await);
        denied(bad.put(names::BUNDLES, &part, b"forged".to_vec()).await);
        denied(bad.get(names::ROLLOUTS, "current").await.map(drop));
        denied(bad.replace(names::ROLLOUTS, "current", b"forged".to_vec(), 0).await.map(drop));

        assert_eq!(admin.get_revision(names::ROLLOUTS, "current").await.unwrap(), None, "{program}");
        let first = admin.replace(names::ROLLOUTS, "current", b"1".to_vec(), 0).await.unwrap();
        let late = admin.replace(names::ROLLOUTS, "current", b"x".to_vec(), 0).await;
        assert!(matches!(late, Err(BusError::Conflict(_))), "{program}: {late:?}");
        let found = admin.get_revision(names::ROLLOUTS, "current").await.unwrap();
        assert_eq!(found, Some((b"1".to_vec(), first)), "{program}");
        let second = admin.replace(names::ROLLOUTS, "current", b"2".to_vec(), first).await.unwrap();
        assert!(second > first, "{program}");
        let late = admin.replace(names::ROLLOUTS, "current", b"x".to_vec(), first).await;
        assert!(matches!(late, Err(BusError::Conflict(_))), "{program}: {late:?}");
        assert_eq!(admin.get(names::ROLLOUTS, "current").await.unwrap().unwrap(), b"2", "{program}");
    }
}
