//! The columns of a table of flows: a list of expressions.

use flowgate_base::text::line;
use flowgate_model::Program;

use crate::{
    Context, QueryError, canonical, checked_program,
    error::Diagnostic,
    in_text,
    lower::{Lowering, Value},
    parser::{self, Id, Tree},
};

/// Greatest number of columns.
const MOST: usize = 256;

/// Parses expressions, which commas separate. Returns each as it was written, with invisible characters escaped, with
/// its program and the kind of its values ([`flowgate_names::query::kind`]).
///
/// # Errors
/// If the text is no such list.
pub fn parse(text: &str, context: &Context<'_>) -> Result<Vec<(String, Program, u8)>, QueryError> {
    let parsed = || {
        let tree = Tree::list(text)?;
        let lowering = Lowering::new(&tree, context);
        if let Some(root) = tree.roots.get(MOST) {
            return Err(Diagnostic::new(tree.node(*root).at.clone(), format!("there are more than {MOST} columns")));
        }
        let column = |root: &Id| {
            let (program, kind) = value(&lowering, *root)?;
            Ok((line(tree.part(&tree.node(*root).at).as_bytes()).into_owned(), program, kind))
        };
        tree.roots.iter().map(column).collect::<Result<Vec<_>, Diagnostic>>()
    };
    parsed().map_err(|wrong| in_text(text, wrong))
}

/// Returns the program of a value, and its kind.
pub(crate) fn value(lowering: &Lowering<'_>, id: Id) -> Result<(Program, u8), Diagnostic> {
    let mut operations = Vec::new();
    let at = lowering.tree.node(id).at.clone();
    match lowering.value(id, lowering.hint(id), &mut operations)? {
        Value::Computed(_) if canonical::value_nesting(&operations) > parser::DEEPEST => Err(parser::too_deep(at)),
        Value::Computed(shape) => Ok((checked_program(operations, &at)?, shape.kind)),
        Value::Constant(_) => Err(Diagnostic::new(at, "a constant is the same for all flows").hint("name a field")),
    }
}
