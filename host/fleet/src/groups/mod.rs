//! Groups of flows of many agents, merged as if one host had all of their flows.
//!
//! Each agent groups its own flows ([`partial`]), with all groups and in no order, and sends a line for each
//! ([`write()`]). Who asks adds them up by their keys ([`Merger`]), and only then sorts them and leaves out what was not
//! asked for. A mean is the sum of all values by the number of all values, which agents send in its place. Numbers of
//! distinct values cannot be added up: which values two agents have in common is not known.

mod merge;
mod wire;

use flowgate_base::text::clean;
use flowgate_model::{
    Aggregation,
    query::kind,
    wit::query::{Measure, Number, Operation, Program},
};

pub use merge::Merger;
pub use wire::write;

/// Functions of measures, by their number in `measure.function`.
pub(crate) mod function {
    pub(crate) const COUNT: u8 = 0;
    pub(crate) const SUM: u8 = 1;
    pub(crate) const MIN: u8 = 2;
    pub(crate) const MAX: u8 = 3;
    pub(crate) const AVG: u8 = 4;
}

/// The operations `+` and `*`, by their number in `operation.arithmetic`.
const PLUS: u8 = 0;
const TIMES: u8 = 2;

/// Why groups cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupsError {
    /// A measure cannot be computed of those of the agents.
    #[error(
        "{} of all agents is not the sum of theirs, since some values may be the same; group by it and count the groups: \
         --by {}, or ask one agent after another",
        clean(name),
        clean(of)
    )]
    Unmergeable {
        /// The measure.
        name: String,
        /// What it is of.
        of: String,
    },
    /// There are too many groups.
    #[error("the agents have more than {0} groups together; raise --max-groups, or group by less")]
    TooMany(u32),
    /// The texts of the groups are too long.
    #[error("the texts of the groups have more than {0} bytes together; raise --max-groups, or group by less")]
    TooLong(usize),
    /// A line of an agent is no group.
    #[error("a line is no group: {}", clean(.0))]
    Bad(String),
}

/// Returns what an agent computes, so that an aggregation can be computed of the results of all of them: all groups,
/// exactly, in no order; in place of a mean, the sum and the number of its values.
///
/// # Errors
/// [`GroupsError::Unmergeable`]
pub fn partial(aggregation: &Aggregation) -> Result<Aggregation, GroupsError> {
    let mut measures = Vec::new();
    for measure in &aggregation.measures {
        match (measure.function, &measure.program) {
            (function::COUNT | function::SUM | function::MIN | function::MAX, _) => measures.push(measure.clone()),
            (function::AVG, Some(program)) => {
                let sum = |program| Measure {
                    function: function::SUM,
                    kind: kind::PLAIN,
                    program: Some(program),
                    ..measure.clone()
                };
                measures.push(sum(program.clone()));
                measures.push(sum(ones(program)));
            }
            _ => {
                let name = measure.name.clone();
                let of = name.split_once('(').and_then(|(_, of)| of.strip_suffix(')')).unwrap_or(&name).to_owned();
                return Err(GroupsError::Unmergeable { name, of });
            }
        }
    }
    let Aggregation { keys, max_groups, .. } = aggregation.clone();
    Ok(Aggregation { keys, measures, sorts: Vec::new(), top: None, max_groups, approximate: false })
}

/// Returns a program that is 1 where another one has a value, and has none elsewhere: 0 times the value, plus 1.
fn ones(program: &Program) -> Program {
    let mut ones = program.clone();
    for (number, operation) in [(0, TIMES), (1, PLUS)] {
        ones.operations.extend([Operation::Number(Number { hi: 0, lo: number }), Operation::Arithmetic(operation)]);
    }
    ones
}
