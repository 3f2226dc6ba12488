//! Groups of flows and their sums: the arguments of `--by`, `--sum`, `--sort` and the like become an aggregation.

use std::ops::Range;

use flowgate_base::text::line;
use flowgate_model::{
    Aggregation, Program,
    wit::query::{Key, Measure, Sort},
};
use flowgate_names::query::{self, kind};

use crate::{
    Context, QueryError, columns,
    error::{Diagnostic, nearest, quoted},
    in_text,
    lexer::Unit,
    lower::{Lowering, Type},
    parser::{Id, NodeKind, Tree},
};

/// Functions of measures, by their number.
pub mod function {
    /// Number of flows.
    pub const COUNT: u8 = 0;
    /// Sum.
    pub const SUM: u8 = 1;
    /// Minimum.
    pub const MIN: u8 = 2;
    /// Maximum.
    pub const MAX: u8 = 3;
    /// Mean.
    pub const AVG: u8 = 4;
    /// Number of distinct values.
    pub const DISTINCT: u8 = 5;

    /// Names, by number.
    pub const NAMES: [&str; 6] = ["count", "sum", "min", "max", "avg", "distinct"];
}

/// The arguments of an aggregation. Each text is a list that commas separate.
#[derive(Clone, Copy, Debug, Default)]
pub struct AggregationArguments<'a> {
    /// Keys: expressions, addresses with a prefix length (`src/24`) or one of each family (`src/24/64`).
    pub by: Option<&'a str>,
    /// The number of flows.
    pub count: bool,
    /// Sums of these expressions.
    pub sum: &'a [&'a str],
    /// Minima of these expressions.
    pub min: &'a [&'a str],
    /// Maxima of these expressions.
    pub max: &'a [&'a str],
    /// Means of these expressions.
    pub avg: &'a [&'a str],
    /// Numbers of distinct values of these expressions.
    pub distinct: &'a [&'a str],
    /// Keys and measures, the first one being most significant: by their expression, or as `sum(bytes)`. Measures are
    /// in descending order and keys in ascending order; `-` in front is descending, `+` ascending.
    pub sort: Option<&'a str>,
    /// The number of groups that are returned at most.
    pub top: Option<u32>,
    /// The number of groups that are kept at most.
    pub max_groups: u32,
    /// Beyond that number the heaviest groups are found approximately.
    pub approximate: bool,
}

impl AggregationArguments<'_> {
    /// Returns the aggregation.
    ///
    /// # Errors
    /// If one of the texts is wrong; the error has that text.
    pub fn parse(&self, context: &Context<'_>) -> Result<Aggregation, QueryError> {
        let keys = self.by.map_or(Ok(Vec::new()), |by| parse_by(by, context))?;
        let measures = parse_measures(self, context)?;
        let no_text = |wrong| in_text("", wrong);
        if self.top == Some(0) {
            return Err(no_text(Diagnostic::new(0..0, "the number of groups that are shown is at least 1, and not 0")));
        }
        if self.max_groups == 0 {
            return Err(no_text(Diagnostic::new(0..0, "the number of groups that are kept is at least 1, and not 0")));
        }
        let sorts = match self.sort {
            Some(sort) => parse_sorts(sort, &keys, &measures, context)?,
            None => vec![Sort { column: keys.len() as u32, descending: true }],
        };
        // What is approximated is the first measure of the order.
        let first = sorts.iter().find(|sort| sort.column as usize >= keys.len());
        if self.approximate && !first.is_some_and(|sort| sort.descending && weighs(sort, &keys, &measures)) {
            return Err(in_text(
                self.sort.unwrap_or_default(),
                Diagnostic::new(
                    0..0,
                    "an approximation finds the groups with the largest number of flows or the largest sum",
                )
                .hint("sort by count or by a sum, descending"),
            ));
        }
        Ok(Aggregation {
            keys,
            measures,
            sorts,
            top: self.top,
            max_groups: self.max_groups,
            approximate: self.approximate,
        })
    }
}

/// Greatest number of keys, and of measures.
const MOST: usize = 64;

/// Returns true if a column grows with each flow.
fn weighs(sort: &Sort, keys: &[Key], measures: &[Measure]) -> bool {
    let measure = (sort.column as usize).checked_sub(keys.len()).and_then(|position| measures.get(position));
    measure.is_some_and(|measure| matches!(measure.function, function::COUNT | function::SUM))
}

/// Parses the keys of groups.
///
/// # Errors
/// If the text is no list of keys.
pub fn parse_by(text: &str, context: &Context<'_>) -> Result<Vec<Key>, QueryError> {
    let parsed = || {
        let tree = Tree::list(text)?;
        let lowering = Lowering::new(&tree, context);
        let mut keys: Vec<Key> = Vec::new();
        for root in &tree.roots {
            let at = tree.node(*root).at.clone();
            let name = squeezed(tree.part(&at));
            if keys.len() == MOST {
                return Err(Diagnostic::new(at, format!("there are more than {MOST} keys")));
            }
            if keys.iter().any(|key| key.name == name) {
                return Err(Diagnostic::new(at, format!("{} is a key already", quoted(&name))));
            }
            keys.push(key(&lowering, *root, name)?);
        }
        Ok(keys)
    };
    parsed().map_err(|wrong| in_text(text, wrong))
}

fn key(lowering: &Lowering<'_>, root: Id, name: String) -> Result<Key, Diagnostic> {
    let (mut ipv4_prefix, mut ipv6_prefix) = (32, 128);
    let mut value = root;
    // An address that is divided by numbers: prefix lengths.
    if let NodeKind::Arithmetic(first, rest) = &lowering.tree.node(root).kind
        && let NodeKind::Name = lowering.tree.node(*first).kind
        && lowering.hint(*first).is_some_and(|field| field.kind == kind::ADDRESS)
    {
        let mut lengths: Vec<(u8, Range<usize>)> = Vec::new();
        for (operator, operand) in rest {
            let node = lowering.tree.node(*operand);
            let length = match node.kind {
                NodeKind::Number(number, Unit::Plain) if *operator == 3 => u8::try_from(number).ok(),
                _ => None,
            };
            match length.filter(|length| *length <= 128) {
                Some(length) => lengths.push((length, node.at.clone())),
                None => {
                    return Err(Diagnostic::new(
                        node.at.clone(),
                        format!("{} is not a prefix length", quoted(lowering.tree.part(&node.at))),
                    )
                    .hint("src/24 for IPv4, src/64 for IPv6, src/24/64 for both"));
                }
            }
        }
        match lengths.as_slice() {
            [(length @ ..=32, _)] => ipv4_prefix = *length,
            [(length, _)] => ipv6_prefix = *length,
            [(four @ ..=32, _), (six, _)] => (ipv4_prefix, ipv6_prefix) = (*four, *six),
            [(_, at), _] => {
                return Err(Diagnostic::new(at.clone(), "the prefix length of IPv4 is at most 32")
                    .hint("the first one is of IPv4, the second one of IPv6: src/24/64"));
            }
            [_, _, (_, at), ..] => {
                return Err(Diagnostic::new(at.clone(), "there are prefix lengths of IPv4 and of IPv6 only"));
            }
            [] => {}
        }
        value = *first;
    }
    let (program, kind) = columns::value(lowering, value)?;
    let kind = if (ipv4_prefix, ipv6_prefix) == (32, 128) { kind } else { kind::NETWORK };
    Ok(Key { name, kind, program, ipv4_prefix, ipv6_prefix })
}

/// Parses the measures: the number of flows comes first, then sums, minima, maxima, means and numbers of distinct
/// values. Without any, there is the number of flows.
///
/// # Errors
/// If one of the texts is no list of expressions that the function can be computed of.
pub fn parse_measures(arguments: &AggregationArguments<'_>, context: &Context<'_>) -> Result<Vec<Measure>, QueryError> {
    let mut measures = Vec::new();
    let count = || Measure { name: "count".to_owned(), function: function::COUNT, kind: kind::PLAIN, program: None };
    if arguments.count {
        measures.push(count());
    }
    for (function, texts) in [
        (function::SUM, arguments.sum),
        (function::MIN, arguments.min),
        (function::MAX, arguments.max),
        (function::AVG, arguments.avg),
        (function::DISTINCT, arguments.distinct),
    ] {
        for text in texts {
            of_function(function, text, context, &mut measures).map_err(|wrong| in_text(text, wrong))?;
        }
    }
    if measures.is_empty() {
        measures.push(count());
    }
    Ok(measures)
}

fn of_function(function: u8, text: &str, context: &Context<'_>, measures: &mut Vec<Measure>) -> Result<(), Diagnostic> {
    let tree = Tree::list(text)?;
    let lowering = Lowering::new(&tree, context);
    let word = function::NAMES.get(usize::from(function)).copied().unwrap_or_default();
    for root in &tree.roots {
        let at = tree.node(*root).at.clone();
        if measures.len() == MOST {
            return Err(Diagnostic::new(at, format!("there are more than {MOST} measures")));
        }
        let (program, of) = columns::value(&lowering, *root)?;
        let name = format!("{word}({})", squeezed(tree.part(&at)));
        if measures.iter().any(|measure| measure.name == name) {
            return Err(Diagnostic::new(at, format!("{} is a measure already", quoted(&name))));
        }
        let numbers = matches!(of, kind::PLAIN | kind::BYTES | kind::SECONDS | kind::NANOSECONDS);
        if function != function::DISTINCT && Type::of_kind(of) != Type::Number {
            let what = if of == kind::ADDRESS { "an address" } else { "a text" };
            return Err(Diagnostic::new(
                at.clone(),
                format!("{} is {what}; {word} is of numbers", quoted(tree.part(&at))),
            )
            .hint(format!("--distinct {}, or --by {}", tree.part(&at), tree.part(&at))));
        }
        if matches!(function, function::SUM | function::AVG) && !numbers && query::by_name(tree.part(&at)).is_some() {
            return Err(Diagnostic::new(at.clone(), format!("a {word} of {} has no meaning", quoted(tree.part(&at))))
                .hint(format!("--distinct {}, or --by {}", tree.part(&at), tree.part(&at))));
        }
        let kind = match function {
            function::SUM => {
                if numbers {
                    of
                } else {
                    kind::PLAIN
                }
            }
            function::MIN | function::MAX => of,
            function::AVG if of == kind::BYTES => kind::MEAN_BYTES,
            function::AVG => kind::MEAN,
            _ => kind::PLAIN,
        };
        measures.push(Measure { name, function, kind, program: Some(program) });
    }
    Ok(())
}

fn parse_sorts(text: &str, keys: &[Key], measures: &[Measure], context: &Context<'_>) -> Result<Vec<Sort>, QueryError> {
    let parsed = || {
        let mut sorts: Vec<Sort> = Vec::new();
        for at in split(text) {
            let item = text.get(at.clone()).unwrap_or_default();
            let (name, direction) = match item.as_bytes().first() {
                Some(b'-') => (item.get(1..), Some(true)),
                Some(b'+') => (item.get(1..), Some(false)),
                _ => (Some(item), None),
            };
            let name = squeezed(name.unwrap_or_default());
            if name.is_empty() {
                return Err(Diagnostic::new(at, "the name of a key or of a measure is missing").hint("bytes, or -src"));
            }
            let column = column(&name, &at, keys, measures, context)?;
            if sorts.iter().any(|sort| sort.column as usize == column) {
                return Err(Diagnostic::new(at, format!("{} is in the order already", quoted(&name))));
            }
            let descending = direction.unwrap_or(column >= keys.len());
            sorts.push(Sort { column: column as u32, descending });
        }
        Ok(sorts)
    };
    parsed().map_err(|wrong| in_text(text, wrong))
}

/// Returns the parts that commas outside of parentheses separate, without spaces around them.
fn split(text: &str) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut open) = (0, 0usize);
    for (position, byte) in text.bytes().chain([b',']).enumerate() {
        match byte {
            b'(' => open += 1,
            b')' => open = open.saturating_sub(1),
            b',' if open == 0 || position == text.len() => {
                let part = text.get(start..position).unwrap_or_default();
                let begin = start + part.len() - part.trim_start().len();
                parts.push(begin..begin + part.trim().len());
                start = position + 1;
            }
            _ => {}
        }
    }
    parts
}

/// Returns the column that a name of the order is.
fn column(
    name: &str,
    at: &Range<usize>,
    keys: &[Key],
    measures: &[Measure],
    context: &Context<'_>,
) -> Result<usize, Diagnostic> {
    let all: Vec<&str> =
        keys.iter().map(|key| key.name.as_str()).chain(measures.iter().map(|measure| measure.name.as_str())).collect();
    if let Some(column) = all.iter().position(|known| *known == name) {
        return Ok(column);
    }
    // By the expression: `bytes` is `sum(bytes)` if nothing else is computed of it.
    let program = columns::parse(name, context).ok().and_then(|mut columns| match columns.len() {
        1 => columns.pop().map(|(_, program, _)| program),
        _ => None,
    });
    let same = |other: &Program| program.as_ref() == Some(other);
    let of_keys = keys.iter().map(|key| key.kind != kind::NETWORK && same(&key.program));
    let of_measures =
        measures.iter().map(|measure| inner(&measure.name) == Some(name) || measure.program.as_ref().is_some_and(same));
    let found: Vec<usize> =
        of_keys.chain(of_measures).enumerate().filter(|(_, is)| *is).map(|(column, _)| column).collect();
    match found.as_slice() {
        [column] => Ok(*column),
        [] => {
            let wrong = Diagnostic::new(at.clone(), format!("{} is neither a key nor a measure", quoted(name)));
            Err(match nearest(name, all.iter().copied()) {
                Some(near) => wrong.hint(format!("did you mean `{near}`?")),
                None if program.is_some() => {
                    wrong.hint(format!("add it as a measure: --sum {name}; there are {}", all.join(", ")))
                }
                None => wrong.hint(format!("there are {}", all.join(", "))),
            })
        }
        several => {
            let names: Vec<&str> = several.iter().filter_map(|column| all.get(*column).copied()).collect();
            Err(Diagnostic::new(at.clone(), format!("{} may be {}", quoted(name), names.join(" or ")))
                .hint("write it as it is called there"))
        }
    }
}

/// Returns `bytes` of `sum(bytes)`.
fn inner(name: &str) -> Option<&str> {
    name.split_once('(')?.1.strip_suffix(')')
}

/// Returns the text with a single space for each run of them, none at its ends, and invisible characters escaped.
fn squeezed(text: &str) -> String {
    line(text.split_ascii_whitespace().collect::<Vec<_>>().join(" ").as_bytes()).into_owned()
}
