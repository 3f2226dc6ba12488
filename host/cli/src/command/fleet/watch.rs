//! `fleet watch`: the events of all agents, as they happen.

use std::{ffi::OsString, time::Duration};

use flowgate_fleet::{
    table::Form,
    watch::{self, Following, Seen, WatchOptions},
};
use flowgate_netlink::Stop;
use flowgate_syntax::Command;
use serde_json::json;

use super::{
    FleetError, Session,
    ask::{form, name_width, parsed},
    chosen, conclude,
    rows::{Rows, gap_row, row},
};
use crate::{
    args::fleet_command::AskArgs,
    command::{
        context::Context,
        report::{self, CommandError, Exit},
    },
};

/// How often the stop signal is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Prints the events of all agents until a signal or the end of a time.
pub(super) fn run(
    context: &mut Context<'_>,
    args: &AskArgs,
    time: Option<Duration>,
    given: &[OsString],
) -> Result<Exit, CommandError> {
    let json = form(args) == Form::Json;
    let (words, settings) = parsed(given, Command::Events, json)?;
    let session = Session::open(&args.operator)?;
    let members = session.members(&chosen(args))?;
    let mut rows = Rows::of_objects(row(Command::Events)?, &settings, json, name_width(&members))?;
    let mut failed: Option<CommandError> = None;
    let sink = &mut *context.sink;
    let say = |text: String, object: serde_json::Value| match json {
        true => report::text(format!("{object}\n").as_bytes()),
        false => report::line(&text),
    };
    let mut joined = 0;
    let take = |index: usize, seen: Seen<'_>| {
        let Some(member) = members.get(index) else { return Following::On };
        let name = member.name.as_str();
        let gap;
        let text = match seen {
            Seen::Rows(rows) => rows,
            Seen::Lost(lost) => {
                gap = gap_row(lost);
                gap.as_bytes()
            }
            Seen::Joined => {
                joined += 1;
                if joined == members.len() {
                    say(
                        format!("NOTICE: The events of all {joined} agents are watched."),
                        json!({ "watched": joined }),
                    );
                }
                return Following::On;
            }
            Seen::Away(reason) => {
                let reason = flowgate_base::text::clean(reason);
                say(
                    format!("WARNING: {name} went away: {reason}."),
                    json!({ "agent": name, "watch": "away", "reason": reason }),
                );
                return Following::On;
            }
            Seen::Back => {
                say(format!("NOTICE: {name} is there again."), json!({ "agent": name, "watch": "back" }));
                return Following::On;
            }
        };
        match rows.write(sink, name, text) {
            Ok(Ok(())) => Following::On,
            Ok(Err(reason)) => Following::Without(reason),
            Err(error) => {
                failed = Some(error);
                Following::End
            }
        }
    };
    let options = WatchOptions { within: args.timeout, ..WatchOptions::default() };
    let stop = context.stop.clone();
    let ended = async {
        tokio::select! {
            () = stopped(&stop) => {}
            () = over(time) => {}
        }
    };
    let watched = watch::watch(&session.bus, &members, &words, options, ended, take);
    let roll = session.runtime.block_on(watched).map_err(FleetError::Bus)?;
    if let Some(error) = failed {
        return Err(error);
    }
    rows.end(context.sink)?;
    match conclude(&roll, json, args.allow_missing) {
        Exit::Success => Ok(Exit::Stopped),
        other => Ok(other),
    }
}

/// Waits for the end of a time; for ever without one.
async fn over(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Waits for the stop signal. Looking at it makes no system call, and a thread that waits for it would outlive this.
async fn stopped(stop: &Stop) {
    while !stop.is_stopped() {
        tokio::time::sleep(LOOK).await;
    }
}
