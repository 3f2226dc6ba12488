//! The query language of `--where`, `--by` and `--columns`: an expression becomes a typed program, which a plugin
//! evaluates, and a filter for the kernel. `docs/QUERY.md` describes the language.
//!
//! ```
//! use flowgate_query::{Context, Query};
//!
//! let query = Query::parse("proto == tcp and dport in {80, 443} and bytes > 1M", &Context::NAMES)?;
//! assert_eq!(query.implied.protocol, Some(6));
//! assert_eq!(
//!     query.to_string(),
//!     "protocol == tcp and original.destination_port in {80, 443} and bytes > 1048576",
//! );
//!
//! let error = Query::parse("dport == 65536", &Context::NAMES).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "65536 is not a port; the largest is 65535\n  dport == 65536\n           ^^^^^",
//! );
//! # Ok::<(), flowgate_query::QueryError>(())
//! ```
//!
//! # Absent values
//!
//! Truth has two values. A comparison or test of a field that the flow does not carry is false, and `not` of it is
//! true: `not dport == 80` is true of ICMP. The comparisons with a negation of their own are comparisons too, and true
//! only where the field is carried: `dport != 80` and `dport not in {80, 443}` are false of ICMP. They are therefore
//! compiled as such, and not as `not` of their opposites.
//!
//! # Limits
//!
//! A text has at most 1 MiB and is nested at most 200 levels deep; parsing takes time and memory in proportion to its
//! length. A program needs at most 256 columns at a time, however long its chains of `and` and `or` are.

pub mod aggregation;
mod canonical;
pub mod columns;
mod condition;
mod context;
mod error;
mod implied;
mod lexer;
mod lower;
mod parser;
pub mod protocols;
pub mod services;

use std::fmt;

use flowgate_base::text::line;
use flowgate_model::{Program, Selection};
use flowgate_names::operation::COLUMNS;

pub use canonical::canonical;
pub use context::Context;
pub use error::QueryError;

use error::Diagnostic;
use lower::Lowering;
use parser::Tree;

/// The grammar, in the notation of ISO 14977, for manuals.
pub const GRAMMAR: &str = include_str!("grammar.ebnf");

/// A condition on flows.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The expression, as it was written.
    pub text: String,
    /// What a plugin evaluates.
    pub program: Program,
    /// What all entries of the kernel's table have in common that satisfy the condition, as far as the kernel's filter
    /// can compare it: addresses, ports and other words of the tuples, family, protocol, mark, status and zones. Each
    /// entry of the table has its tuples and a status; of flows from elsewhere that have none, `not assured` is true
    /// although its selection does not hold.
    pub implied: Selection,
}

impl Query {
    /// Parses a condition.
    ///
    /// # Errors
    /// If the text is not one: with the place, and what would be right.
    pub fn parse(text: &str, context: &Context<'_>) -> Result<Query, QueryError> {
        let parsed = || {
            let tree = Tree::expression(text)?;
            let lowering = Lowering::new(&tree, context);
            let root = tree.root();
            let condition = lowering.condition(root)?;
            // States by name, for example, stand for more than they are.
            if canonical::nesting(&condition) > parser::DEEPEST {
                return Err(parser::too_deep(tree.node(root).at.clone()));
            }
            let implied = implied::selection(&condition);
            let mut operations = Vec::new();
            condition.emit(&mut operations);
            Ok((checked_program(operations, &tree.node(root).at)?, implied))
        };
        let (program, implied) = parsed().map_err(|wrong| in_text(text, wrong))?;
        Ok(Query { text: text.to_owned(), program, implied })
    }
}

impl Query {
    /// Returns a selection that all entries of the kernel's table satisfy that satisfy the condition and this
    /// selection: what the kernel's filter is made of.
    #[must_use]
    pub fn narrowed(&self, selection: &Selection) -> Selection {
        implied::both(selection.clone(), self.implied.clone())
    }
}

impl fmt::Display for Query {
    /// Writes the canonical text of the program.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&canonical(&self.program))
    }
}

/// Returns the program, if it needs no more columns than a plugin has.
fn checked_program(
    operations: Vec<flowgate_model::Operation>,
    at: &std::ops::Range<usize>,
) -> Result<Program, Diagnostic> {
    let depth = lower::depth(&operations);
    if depth > COLUMNS {
        return Err(Diagnostic::new(
            at.clone(),
            format!("the expression needs {depth} intermediate results at a time; at most {COLUMNS} are possible"),
        ));
    }
    Ok(lower::program(operations))
}

/// Returns the error, with its text. Messages and hints have parts of the text, which are cleaned here.
fn in_text(text: &str, wrong: Diagnostic) -> QueryError {
    let Diagnostic { at, message, hint } = wrong;
    let cleaned = |text: String| line(text.as_bytes()).into_owned();
    QueryError { text: text.to_owned(), at, message: cleaned(message), hint: hint.map(cleaned) }
}
