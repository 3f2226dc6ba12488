//! Groups of flows of all agents: each agent groups its own, and the groups are merged and printed here, by the stock
//! format, as those of one host.

use std::io::{self, Write};

use flowgate_fleet::{
    collector::{self, Taken},
    groups::{GroupsError, Merger},
    message::{Answer, Ask},
    table::Form,
};
use flowgate_model::{
    Aggregation, Groups,
    query::kind,
    table_column::AGENT_KEY,
    wit::query::{Key, Sort},
};
use flowgate_pipeline::{
    RunError,
    aggregate::GroupsWriter,
    loader::Role,
    sink::{Sink, SinkError},
};
use flowgate_syntax::{Command, Output, Settings};

use super::{
    FleetError, Session, chosen, conclude,
    rows::{failed as of_run, format, row},
    table::parse,
};
use crate::{
    args::fleet_command::AskArgs,
    command::{
        context::Context,
        report::{self, CommandError, Exit},
    },
};

/// What is asked for, besides what agents know of.
#[derive(Debug, Default, PartialEq, Eq)]
struct ByAgent {
    /// The place of the agent among the keys.
    key: Option<usize>,
    /// The place of the agent in the order, and whether it is descending.
    sort: Option<(usize, bool)>,
    /// True if nothing else is in the order.
    alone: bool,
}

/// A question for groups.
#[derive(Debug)]
pub(super) struct Question {
    /// The words for the agents.
    words: Vec<String>,
    settings: Settings,
    merger: Merger,
}

/// Takes the item `agent` out of the list of an option. Returns its place and its sign.
fn take_agent(words: &mut Vec<String>, option: &str) -> Option<(usize, char, bool)> {
    let joined = format!("{option}=");
    let at = words.iter().position(|word| word == option || word.starts_with(&joined))?;
    let (at, prefix) = if words.get(at)? == option { (at + 1, "") } else { (at, joined.as_str()) };
    let list = words.get(at)?.strip_prefix(prefix)?;
    // Items with parentheses have commas of their own, which does not move what stands before them.
    let items: Vec<&str> = list.split(',').collect();
    let place = items.iter().position(|item| item.trim().trim_start_matches(['+', '-']) == AGENT_KEY)?;
    let sign = items.get(place)?.trim().chars().next().unwrap_or_default();
    let before = items.get(..place)?.join(",");
    let open = before.matches('(').count();
    let separators = before.match_indices(',').filter(|(comma, _)| {
        let depth = |sign: char| before.get(..*comma).unwrap_or_default().matches(sign).count();
        depth('(') == depth(')')
    });
    if open != before.matches(')').count() {
        return None;
    }
    let index = if place == 0 { 0 } else { separators.count() + 1 };
    let rest: Vec<&str> = items.iter().enumerate().filter(|(item, _)| *item != place).map(|(_, item)| *item).collect();
    let alone = rest.is_empty();
    if alone {
        let first = if prefix.is_empty() { at - 1 } else { at };
        words.drain(first..=at);
    } else {
        let list = format!("{prefix}{}", rest.join(","));
        *words.get_mut(at)? = list;
    }
    Some((index, sign, alone))
}

impl ByAgent {
    /// Takes `agent` out of `--by` and `--sort`.
    fn take(words: &mut Vec<String>) -> Self {
        let key = take_agent(words, "--by").map(|(index, ..)| index);
        let sort = key.and_then(|_| take_agent(words, "--sort"));
        let alone = sort.is_some_and(|(.., alone)| alone);
        ByAgent { key, sort: sort.map(|(index, sign, _)| (index, sign == '-')), alone }
    }

    /// Adds the agent to what agents compute.
    fn add_to(&self, aggregation: Aggregation) -> Aggregation {
        let Some(key) = self.key else { return aggregation };
        let mut aggregation = aggregation;
        let key = key.min(aggregation.keys.len());
        for sort in &mut aggregation.sorts {
            sort.column += u32::from(sort.column as usize >= key);
        }
        if self.alone {
            aggregation.sorts.clear();
        }
        if let Some((place, descending)) = self.sort {
            let place = place.min(aggregation.sorts.len());
            aggregation.sorts.insert(place, Sort { column: key as u32, descending });
        }
        let agent =
            Key { name: AGENT_KEY.into(), kind: kind::TEXT, ipv4_prefix: 32, ipv6_prefix: 128, ..Key::default() };
        aggregation.keys.insert(key, agent);
        aggregation
    }
}

impl Question {
    /// Returns the question that words ask, if it is one for groups.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn of(words: &[String], json: bool) -> Result<Option<Self>, String> {
        let mut words = words.to_vec();
        let by_agent = ByAgent::take(&mut words);
        let mut settings = parse(&words, Command::List, Form::Text)?;
        if settings.aggregate.is_none() && by_agent.key.is_some() {
            words.push("--count".into());
            settings = parse(&words, Command::List, Form::Text)?;
        }
        let Some(aggregate) = &settings.aggregate else { return Ok(None) };
        if aggregate.every.is_some() {
            return Err("--every has no use here: a listing has no windows".into());
        }
        if json {
            // Another form after the -- is a contradiction.
            let both: Vec<String> = words.iter().cloned().chain(["-o".into(), "json".into()]).collect();
            parse(&both, Command::List, Form::Json)?;
            settings.output.insert(Output::JSON);
        }
        let all = by_agent.add_to(aggregate.aggregation.clone());
        let merger = Merger::new(all, by_agent.key).map_err(|error| error.to_string())?;
        Ok(Some(Question { words, settings, merger }))
    }
}

/// Prints the groups of all agents.
pub(super) fn list(context: &mut Context<'_>, args: &AskArgs, question: Question) -> Result<Exit, CommandError> {
    let Question { words, settings, mut merger } = question;
    let session = Session::open(&args.operator)?;
    let members = session.members(&chosen(args))?;
    let mut format = format(row(Command::List)?, &settings, Role::GroupsFormat, &[])?;
    let (mut flows, mut failed) = (0_u64, None);
    let take = |index: usize, answer: &Answer| {
        let Some(member) = members.get(index) else { return Taken::Used };
        flows = flows.saturating_add(answer.head.flows.unwrap_or_default());
        match merger.add(member.name.as_str(), &answer.rows) {
            Ok(()) => Taken::Used,
            Err(GroupsError::Bad(reason)) => Taken::Bad(reason),
            Err(error) => {
                failed = Some(error);
                Taken::Enough
            }
        }
    };
    let ask = Ask::Group { words, first: collector::first(members.len()) };
    let asked = collector::ask(&session.bus, &members, ask, args.timeout, take);
    let roll = session.runtime.block_on(asked).map_err(FleetError::Bus)?;
    if let Some(error) = failed {
        return Err(FleetError::Groups(error).into());
    }
    let groups = merger.take(flows);
    format.write_groups(&groups, context.sink).map_err(of_run)?;
    if !session.json {
        let answered = roll.agents().len() - roll.missing();
        report::banner(&format!("{flows} flow entries of {answered} agents have been grouped."));
    }
    Ok(conclude(&roll, session.json, args.allow_missing))
}

/// Writes groups as lines that are merged with those of other agents.
pub(super) struct PartialGroups;

/// Writes into a sink, and keeps its error.
struct IntoSink<'a>(&'a mut dyn Sink, Option<SinkError>);

impl Write for IntoSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.1 = Some(error);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl GroupsWriter for PartialGroups {
    fn write_groups(&mut self, groups: &Groups, sink: &mut dyn Sink) -> Result<(), RunError> {
        let mut sink = IntoSink(sink, None);
        let written = flowgate_fleet::groups::write(groups, &mut sink);
        match (written, sink.1) {
            (_, Some(error)) => Err(error.into()),
            (Err(error), None) => Err(SinkError::Stdout(error).into()),
            (Ok(()), None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(line: &str) -> Result<Option<Question>, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Question::of(&words, false)
    }

    fn taken(line: &str) -> (String, ByAgent) {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let by_agent = ByAgent::take(&mut words);
        (words.join(" "), by_agent)
    }

    #[test]
    fn the_agent_is_taken_out_of_what_agents_are_asked() {
        let none = ByAgent::default;
        assert_eq!(taken("--by src/24,dport --sort count"), ("--by src/24,dport --sort count".into(), none()));
        assert_eq!(taken("--by agent"), (String::new(), ByAgent { key: Some(0), ..none() }));
        assert_eq!(taken("-p udp --by=dport,agent"), ("-p udp --by=dport".into(), ByAgent { key: Some(1), ..none() }));
        let sorted = ByAgent { key: Some(1), sort: Some((1, true)), alone: false };
        assert_eq!(taken("--by src,agent,dport --sort count,-agent"), ("--by src,dport --sort count".into(), sorted));
        let alone = ByAgent { key: Some(0), sort: Some((0, false)), alone: true };
        assert_eq!(taken("--by agent --sort +agent --count"), ("--count".into(), alone));
        // A flow has no field of that name, which agents say.
        assert!(question("--by dport --sort agent").is_err());
    }

    #[test]
    fn the_order_is_that_of_all_keys() {
        let all = |line: &str| {
            let (words, by_agent) = taken(line);
            let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            let settings = parse(&words, Command::List, Form::Text).unwrap();
            by_agent.add_to(settings.aggregate.unwrap().aggregation)
        };
        let of = all("--by dport,agent --sum bytes --count --sort bytes,dport,agent --top 5");
        let names: Vec<&str> = of.keys.iter().map(|key| key.name.as_str()).collect();
        assert_eq!((names, of.top), (vec!["dport", "agent"], Some(5)));
        let sorts: Vec<(u32, bool)> = of.sorts.iter().map(|sort| (sort.column, sort.descending)).collect();
        assert_eq!(sorts, [(3, true), (0, false), (1, false)]);
        let of = all("--by agent,dport");
        assert_eq!(of.sorts, [Sort { column: 2, descending: true }]);
        let of = all("--by agent,dport --sort -agent");
        assert_eq!(of.sorts, [Sort { column: 0, descending: true }]);
    }

    #[test]
    fn a_question_for_groups_is_told_from_one_for_flows() {
        assert!(question("-p udp --dport 53").unwrap().is_none());
        assert!(question("--by agent").unwrap().is_some());
        assert!(question("--sum bytes").unwrap().is_some());
        assert_eq!(question("--by agent").unwrap().unwrap().words, ["--count"]);
        let error = question("--by dport --distinct src").unwrap_err();
        assert!(error.contains("distinct(src)") && error.contains("--by src"), "{error}");
        for bad in ["--by dport --columns src", "--by dport --every 1s"] {
            assert!(question(bad).is_err(), "{bad}");
        }
        let words = ["--by", "dport", "-o", "csv"].map(str::to_owned);
        assert!(Question::of(&words, false).is_ok() && Question::of(&words, true).is_err());
    }
}
