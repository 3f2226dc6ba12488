//! The table of simulated agents: a recording, of which each question is worked out once, since it does not change.

use std::{
    collections::VecDeque,
    io::Write,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::table::KernelTable;
use flowgate_fleet::{
    plan::Action,
    table::{Facts, Form, Table, TableError, Touched},
};

/// The most answers that are known at a time.
const KNOWN: usize = 4;
/// The most flows of a table whose listings are kept: some 25 MiB of text.
const KEPT: u64 = 100_000;
/// Bytes of rows that are written at a time, so that no agent has a copy of all.
const PIECE: usize = 16 << 10;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Query {
    Count,
    List(Form),
    Group,
    Plan(Action),
}

/// What is answered.
#[derive(Clone, Debug, Default)]
struct Known {
    rows: Vec<u8>,
    touched: Touched,
}

type Answer = Arc<OnceLock<Result<Known, TableError>>>;
/// A question with its words, and its answer.
type Asked = ((Query, Vec<String>), Answer);

/// A table that many agents share.
#[derive(Clone, Debug)]
pub(super) struct SimulatedTable(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: KernelTable,
    facts: Facts,
    known: Mutex<VecDeque<Asked>>,
}

impl SimulatedTable {
    /// Returns the table of a recording.
    ///
    /// # Errors
    /// [`TableError`] if it cannot be read, or is none of a dump of flows.
    pub(super) fn new(table: KernelTable) -> Result<Self, TableError> {
        let flows = table.count(&[])?;
        let facts = Facts { flows, flows_max: flows.next_power_of_two().max(1 << 18), ..table.facts() };
        Ok(SimulatedTable(Arc::new(Shared { table, facts, known: Mutex::default() })))
    }

    /// Returns the answer to a question; who asks it first works it out, and the others wait.
    fn answer(
        &self,
        query: Query,
        words: &[String],
        work: impl FnOnce(&KernelTable) -> Result<Known, TableError>,
    ) -> Answer {
        let answer = {
            let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
            let found = known.iter().find(|((asked, of), _)| *asked == query && of == words);
            let found = found.map(|(_, answer)| answer.clone());
            found.unwrap_or_else(|| {
                known.truncate(KNOWN - 1);
                let answer = Answer::default();
                known.push_front(((query, words.to_vec()), answer.clone()));
                answer
            })
        };
        answer.get_or_init(|| work(&self.0.table));
        answer
    }

    fn touched(&self, action: Action, words: &[String]) -> Result<Touched, TableError> {
        let plan = |table: &KernelTable| table.plan(action, words).map(|touched| Known { rows: Vec::new(), touched });
        known(&self.answer(Query::Plan(action), words, plan)).map(|known| known.touched.clone())
    }
}

fn known(answer: &Answer) -> Result<&Known, TableError> {
    match answer.get() {
        Some(Ok(known)) => Ok(known),
        Some(Err(error)) => Err(error.clone()),
        None => Err(TableError::Failed("the simulated table failed at this question".into())),
    }
}

impl Table for SimulatedTable {
    fn facts(&self) -> Facts {
        self.0.facts.clone()
    }

    fn count(&self, words: &[String]) -> Result<u64, TableError> {
        let count = |table: &KernelTable| {
            let count = table.count(words)?;
            Ok(Known { rows: Vec::new(), touched: Touched { count, hash: String::new() } })
        };
        known(&self.answer(Query::Count, words, count)).map(|known| known.touched.count)
    }

    fn list(&self, words: &[String], form: Form, out: &mut dyn Write) -> Result<u64, TableError> {
        if self.0.facts.flows > KEPT {
            return self.0.table.list(words, form, out);
        }
        let list = |table: &KernelTable| {
            let mut rows = Vec::new();
            let count = table.list(words, form, &mut rows)?;
            Ok(Known { rows, touched: Touched { count, hash: String::new() } })
        };
        let answer = self.answer(Query::List(form), words, list);
        let known = known(&answer)?;
        for piece in known.rows.chunks(PIECE) {
            out.write_all(piece).map_err(|_| TableError::Gone)?;
        }
        Ok(known.touched.count)
    }

    fn group(&self, words: &[String], out: &mut dyn Write) -> Result<u64, TableError> {
        let group = |table: &KernelTable| {
            let mut rows = Vec::new();
            let count = table.group(words, &mut rows)?;
            Ok(Known { rows, touched: Touched { count, hash: String::new() } })
        };
        let answer = self.answer(Query::Group, words, group);
        let known = known(&answer)?;
        out.write_all(&known.rows).map_err(|_| TableError::Gone)?;
        Ok(known.touched.count)
    }

    fn stats(&self, form: Form, out: &mut dyn Write) -> Result<u64, TableError> {
        self.0.table.stats(form, out)
    }

    fn plan(&self, action: Action, words: &[String]) -> Result<Touched, TableError> {
        self.touched(action, words)
    }

    fn act(&self, action: Action, words: &[String]) -> Result<u64, TableError> {
        // Nothing is taken away from a recording, so that the next plan finds the same.
        self.touched(action, words).map(|touched| touched.count)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{made_flows, table::OwnServer},
        *,
    };
    use flowgate_netlink::Stop;
    use std::os::fd::AsRawFd as _;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn made_flows_are_listed_counted_and_planned_as_a_kernels_are() {
        let file = made_flows::file(1000).unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let kernel = KernelTable { server: OwnServer::default(), recording: Some(path.into()), stop: Stop::default() };
        let table = SimulatedTable::new(kernel).unwrap();
        assert_eq!((table.facts().flows, table.count(&[]).unwrap()), (1000, 1000));
        let list = |line: &str, form| {
            let mut rows = Vec::new();
            let count = table.list(&words(line), form, &mut rows).unwrap();
            (count, String::from_utf8(rows).unwrap())
        };
        let (count, rows) = list("", Form::Text);
        assert_eq!((count, rows.lines().count()), (1000, 1000));
        assert!((150..250).contains(&(rows.len() / 1000)), "{rows:.400}");
        let first = "tcp      6 432000 ESTABLISHED src=10.0.0.0 dst=192.0.2.1 sport=32768 dport=443 packets=2 bytes=240 \
                     src=192.0.2.1 dst=10.0.0.0 sport=443 dport=32768 packets=2 bytes=1800 [ASSURED] mark=0 use=1";
        assert_eq!(rows.lines().next(), Some(first));
        let different: std::collections::BTreeSet<&str> = rows.lines().collect();
        assert_eq!(different.len(), 1000);
        // Selectors, --where and the form are those of a listing.
        let (count, rows) = list("-p udp --where packets>500", Form::Json);
        assert_eq!(count, rows.lines().count() as u64);
        let each = rows.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        assert!(count > 0 && each.into_iter().all(|flow| flow["original"]["destination_port"] == 53), "{rows:.400}");
        assert_eq!(table.count(&words("-p udp --where packets>500")).unwrap(), count);
        assert!(matches!(table.count(&words("-D")), Err(TableError::Refused(_))));
        // A deletion is counted, and nothing of the kernel's is touched.
        let plan = table.plan(Action::Delete, &words("-p udp")).unwrap();
        assert_eq!((plan.count, plan.hash.len()), (200, 32));
        assert_eq!(table.act(Action::Delete, &words("-p udp")).unwrap(), 200);
        assert_eq!(table.count(&words("-p udp")).unwrap(), 200);
        assert!(matches!(table.stats(Form::Text, &mut Vec::new()), Err(TableError::Refused(_))));
    }
}
