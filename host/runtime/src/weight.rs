//! Estimates the work that a compiler has with the code of a plugin: one byte of code can be an addition, or a call
//! that takes and returns a thousand values. Before anything is compiled, it counts the values, and those that are
//! alive where control flow merges.

use wasmparser::{
    BlockType, BrTable, ContType, FrameKind, FuncType, FunctionBody, ModuleArity, Operator, Parser, Payload, RefType,
    SubType, TypeRef,
};

use super::outline::{Rejection, too_many};

/// Maximum of the number of places in a function where control flow merges, times the values that are alive there
/// (local variables, parameters, the stack). The compiler's data about them grows with this product.
const MAX_MERGES: u64 = 16 << 20;
/// Maximum number of destinations of all `br_table` instructions of a function.
const MAX_DESTINATIONS: u64 = 256 << 10;
/// Maximum weight of a function, in units of a third of a KiB of the compiler's memory. The heaviest function of
/// Python's interpreter weighs 451,000, that of JavaScript's 82,000. Up to four functions are compiled at a time.
const MAX_FUNCTION_WEIGHT: u64 = 600_000;
/// Maximum weight of all functions; those of a plugin in Python weigh 10,300,000, of one in JavaScript 2,400,000.
const MAX_WEIGHT: u64 = 32_000_000;
/// Fixed weight of a function: its entry, its exit and a name.
const BASE_WEIGHT: u64 = 24;

/// Returns the measured weight of an operator, without that of its values. Operators of 30 and more also take time that
/// grows faster than their number in a function: 10,000 take seconds.
fn operator_weight(operator: &Operator<'_>) -> u64 {
    match operator {
        // Checks the time: a loop is where a plugin may never end.
        Operator::Loop { .. } => 150,
        // Checks the table, its element, and the element's type.
        Operator::CallIndirect { .. } | Operator::ReturnCallIndirect { .. } => 60,
        Operator::TableGet { .. } | Operator::TableGrow { .. } | Operator::TableFill { .. } => 45,
        Operator::TableSet { .. }
        | Operator::TableInit { .. }
        | Operator::TableCopy { .. }
        | Operator::ElemDrop { .. } => 12,
        Operator::MemoryGrow { .. }
        | Operator::MemoryCopy { .. }
        | Operator::MemoryFill { .. }
        | Operator::MemoryInit { .. }
        | Operator::DataDrop { .. } => 9,
        Operator::Call { .. } | Operator::ReturnCall { .. } | Operator::RefFunc { .. } => 6,
        Operator::Block { .. }
        | Operator::If { .. }
        | Operator::Else
        | Operator::BrIf { .. }
        | Operator::BrTable { .. } => 3,
        _ => 1,
    }
}

/// Weighs the code of all modules, however deeply they are nested.
///
/// # Errors
/// It is damaged, or takes a compiler far more than its size suggests.
pub(super) fn weigh(bytes: &[u8]) -> Result<(), Rejection> {
    let mut total = 0u64;
    // A module cannot contain modules, so that the module that began last is the current one.
    let mut module = Module::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::Version { .. } => module = Module::default(),
            Payload::TypeSection(section) => {
                for group in section {
                    module.types.extend(group?.into_types());
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if let TypeRef::Func(index) | TypeRef::FuncExact(index) = import?.ty {
                        module.functions.push(index);
                        // The host creates a trampoline for each.
                        total = total.saturating_add(module.arity(index).map_or(0, sum));
                    }
                }
            }
            Payload::FunctionSection(section) => {
                for index in section {
                    module.bodies.push(index?);
                }
                module.functions.extend_from_slice(&module.bodies);
                module.bodies.reverse();
            }
            Payload::CodeSectionEntry(body) => {
                let index = module.bodies.pop().ok_or_else(|| strange("more bodies than functions"))?;
                total = total.saturating_add(function(&module, index, &body)?);
                if total > MAX_WEIGHT {
                    return Err(too_many(total, "units of weight in its code", MAX_WEIGHT));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Types and functions of a module.
#[derive(Default)]
struct Module {
    types: Vec<SubType>,
    /// The type of each function, imported ones first.
    functions: Vec<u32>,
    /// The types of the functions whose bodies follow, the last one first.
    bodies: Vec<u32>,
}

impl Module {
    /// Returns the numbers of parameters and results of functions of a type.
    fn arity(&self, index: u32) -> Option<(u32, u32)> {
        match &self.types.get(index as usize)?.composite_type.inner {
            wasmparser::CompositeInnerType::Func(ty) => {
                Some((u32::try_from(ty.params().len()).ok()?, u32::try_from(ty.results().len()).ok()?))
            }
            _ => None,
        }
    }
}

fn sum((one, other): (u32, u32)) -> u64 {
    u64::from(one) + u64::from(other)
}

fn strange(what: &str) -> Rejection {
    Rejection::Malformed(format!("a module has {what}"))
}

/// An open block.
struct Frame {
    block: BlockType,
    kind: FrameKind,
    /// Height of the stack below the block.
    base: u64,
}

/// A function that is being weighed.
struct FunctionReader<'a> {
    module: &'a Module,
    frames: Vec<Frame>,
    locals: u64,
    /// Number of values on the stack.
    height: u64,
    weight: u64,
    meetings: u64,
    blocks: u64,
    destinations: u64,
}

/// Returns the weight of a function.
fn function(module: &Module, index: u32, body: &FunctionBody<'_>) -> Result<u64, Rejection> {
    let arity = module.arity(index).ok_or_else(|| strange("a function of a type that is none"))?;
    let mut locals = u64::from(arity.0);
    for group in body.get_locals_reader()? {
        locals = locals.saturating_add(u64::from(group?.0));
    }
    let whole = Frame { block: BlockType::FuncType(index), kind: FrameKind::Block, base: 0 };
    let mut reading = FunctionReader {
        module,
        frames: vec![whole],
        locals,
        height: 0,
        weight: BASE_WEIGHT + locals + sum(arity),
        meetings: locals,
        blocks: 1,
        destinations: 0,
    };
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        reading.operator(&operators.read()?)?;
    }
    Ok(reading.weight)
}

impl FunctionReader<'_> {
    fn operator(&mut self, operator: &Operator<'_>) -> Result<(), Rejection> {
        let (takes, gives) =
            operator.operator_arity(self).ok_or_else(|| strange("an operator that names what it does not have"))?;
        self.height = self.height.saturating_sub(takes.into()).saturating_add(gives.into());
        self.weight = self.weight.saturating_add(operator_weight(operator) + sum((takes, gives)));
        match operator {
            Operator::Block { blockty } => self.begin(*blockty, FrameKind::Block, gives),
            Operator::Loop { blockty } => self.begin(*blockty, FrameKind::Loop, gives),
            Operator::If { blockty } => self.begin(*blockty, FrameKind::If, gives),
            Operator::Else => {
                let base = self.frames.last().map_or(0, |frame| frame.base);
                self.height = base + u64::from(gives);
                self.count_merge();
            }
            Operator::End => {
                let base = self.frames.pop().map_or(0, |frame| frame.base);
                self.height = base + u64::from(gives);
            }
            Operator::BrIf { .. } => self.count_merge(),
            Operator::BrTable { targets } => {
                self.count_merge();
                self.destinations += u64::from(targets.len()) + 1;
                self.weight = self.weight.saturating_add(self.passed(targets)?);
            }
            _ => {}
        }
        if self.destinations > MAX_DESTINATIONS {
            return Err(too_many(self.destinations, "destinations of br_table in a function", MAX_DESTINATIONS));
        }
        if self.meetings > MAX_MERGES {
            return Err(Rejection::Excessive(format!(
                "has a function of {} blocks and {} local variables with {} values kept between blocks or more, and {MAX_MERGES} are the \
                 most that it may keep",
                self.blocks, self.locals, self.meetings
            )));
        }
        if self.weight > MAX_FUNCTION_WEIGHT {
            return Err(too_many(self.weight, "units of weight in a function", MAX_FUNCTION_WEIGHT));
        }
        Ok(())
    }

    fn begin(&mut self, block: BlockType, kind: FrameKind, parameters: u32) {
        let base = self.height.saturating_sub(parameters.into());
        self.frames.push(Frame { block, kind, base });
        self.count_merge();
    }

    /// Counts a place where control flow merges.
    fn count_merge(&mut self) {
        self.blocks += 1;
        self.meetings = self.meetings.saturating_add(self.locals.max(1) + self.height);
    }

    /// Returns the number of values that a `br_table` passes on, over all its destinations.
    fn passed(&self, targets: &BrTable<'_>) -> Result<u64, Rejection> {
        let mut values = 0u64;
        for depth in targets.targets() {
            let of = |depth| {
                let (block, kind) = self.label_block(depth)?;
                let (parameters, results) = self.block_type_arity(block)?;
                Some(if kind == FrameKind::Loop { parameters } else { results })
            };
            let passed = of(depth?).ok_or_else(|| strange("a br_table to a block that there is not"))?;
            values = values.saturating_add(1 + u64::from(passed));
        }
        Ok(values)
    }
}

impl ModuleArity for FunctionReader<'_> {
    fn sub_type_at(&self, index: u32) -> Option<&SubType> {
        self.module.types.get(index as usize)
    }

    fn tag_type_arity(&self, _at: u32) -> Option<(u32, u32)> {
        None
    }

    fn type_index_of_function(&self, index: u32) -> Option<u32> {
        self.module.functions.get(index as usize).copied()
    }

    fn func_type_of_cont_type(&self, _ty: &ContType) -> Option<&FuncType> {
        None
    }

    fn sub_type_of_ref_type(&self, _ty: &RefType) -> Option<&SubType> {
        None
    }

    fn control_stack_height(&self) -> u32 {
        u32::try_from(self.frames.len()).unwrap_or(u32::MAX)
    }

    fn label_block(&self, depth: u32) -> Option<(BlockType, FrameKind)> {
        let index = self.frames.len().checked_sub(1)?.checked_sub(depth as usize)?;
        self.frames.get(index).map(|frame| (frame.block, frame.kind))
    }
}

#[cfg(test)]
mod tests {
    use flowgate_test_support::wasm::{self, NOTHING, component, function_type, id, items, name, number, section};

    use super::*;

    /// Returns a component with a table and these functions of type 1; functions of type 0 have parameters and results.
    fn of(arity: (usize, usize), bodies: &[&[u8]]) -> Vec<u8> {
        let types = section(id::TYPES, &[number(2), function_type(arity.0, arity.1), NOTHING.to_vec()].concat());
        let table = items(id::TABLES, 1, &[0x70, 0, 1]);
        component(&[types, items(id::FUNCTIONS, bodies.len(), &[1]), table, wasm::code(bodies.iter().copied())])
    }

    /// Returns code with a local variable.
    fn body(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let code: Vec<u8> = parts.iter().flat_map(|(times, part)| part.repeat(*times)).collect();
        [&[1, 1, 0x7f][..], &code, &[0x0b]].concat()
    }

    fn excess(bytes: &[u8]) -> String {
        match weigh(bytes) {
            Err(Rejection::Excessive(excess)) => excess,
            other => panic!("{other:?}"),
        }
    }

    const GET: &[u8] = &[0x20, 0];

    #[test]
    fn what_operators_take_and_give_counts() {
        let heavy = "units of weight in a function";
        // Each takes and returns a thousand values, and has two to five bytes.
        for (what, operator) in [
            ("call_indirect", &[0x20, 0, 0x11, 0, 0][..]),
            ("block", &[0x02, 0, 0x0b]),
            ("loop", &[0x03, 0, 0x0b]),
            ("if", &[0x20, 0, 0x04, 0, 0x0b]),
        ] {
            let code = |times| of((1000, 1000), &[&body(&[(1000, GET), (times, operator), (1000, &[0x1a])])]);
            assert_eq!(weigh(&code(50)), Ok(()), "{what}");
            assert!(excess(&code(300)).contains(heavy), "{what}");
        }
        for (what, operator, few, many) in [
            ("call_indirect", &[0x20, 0, 0x11, 1, 0][..], 5000, 20_000),
            ("loop", &[0x03, 0x40, 0x0b], 3000, 5000),
            ("table.get", &[0x20, 0, 0x25, 0, 0x1a], 5000, 20_000),
            ("table.grow", &[0xd0, 0x70, 0x20, 0, 0xfc, 15, 0, 0x1a], 11_000, 12_000),
            ("table.fill", &[0x20, 0, 0xd0, 0x70, 0x20, 0, 0xfc, 17, 0], 10_000, 12_000),
            ("table.set", &[0x20, 0, 0xd0, 0x70, 0x26, 0], 31_000, 36_000),
            ("table.init", &[0x20, 0, 0x20, 0, 0x20, 0, 0xfc, 12, 0, 0], 27_000, 31_000),
            ("table.copy", &[0x20, 0, 0x20, 0, 0x20, 0, 0xfc, 14, 0, 0], 27_000, 31_000),
            ("elem.drop", &[0xfc, 13, 0], 45_000, 52_000),
            ("memory.grow", &[0x20, 0, 0x40, 0, 0x1a], 35_000, 44_000),
            ("memory.copy", &[0x20, 0, 0x20, 0, 0x20, 0, 0xfc, 10, 0, 0], 31_000, 36_000),
            ("memory.fill", &[0x20, 0, 0x20, 0, 0x20, 0, 0xfc, 11, 0], 31_000, 36_000),
            ("memory.init", &[0x20, 0, 0x20, 0, 0x20, 0, 0xfc, 8, 0, 0], 31_000, 36_000),
            ("data.drop", &[0xfc, 9, 0], 60_000, 68_000),
            ("call", &[0x10, 0], 95_000, 105_000),
            ("ref.func", &[0xd2, 0, 0x1a], 60_000, 70_000),
            ("block", &[0x02, 0x40, 0x0b], 140_000, 160_000),
            ("if", &[0x20, 0, 0x04, 0x40, 0x0b], 80_000, 90_000),
            ("else", &[0x20, 0, 0x04, 0x40, 0x05, 0x0b], 55_000, 65_000),
            ("br_if", &[0x20, 0, 0x0d, 0], 95_000, 105_000),
        ] {
            assert_eq!(weigh(&of((0, 0), &[&body(&[(few, operator)])])), Ok(()), "{what}");
            assert!(excess(&of((0, 0), &[&body(&[(many, operator)])])).contains(heavy), "{what}");
        }
    }

    #[test]
    fn destinations_count_with_what_is_passed_to_them() {
        let table = |count: usize| [&[0x20, 0, 0x0e][..], &number(count), &vec![0; count + 1]].concat();
        assert!(excess(&of((0, 0), &[&body(&[(1, &table(300_000))])])).contains("300001 destinations of br_table"));
        // A block with a thousand results.
        let code = |count| body(&[(1, &[0x02, 0]), (1000, GET), (1, &table(count)), (1, &[0x0b]), (1000, &[0x1a])]);
        assert_eq!(weigh(&of((0, 1000), &[&code(100)])), Ok(()));
        assert!(excess(&of((0, 1000), &[&code(1000)])).contains("units of weight in a function"));
    }

    #[test]
    fn what_is_kept_where_paths_meet_counts() {
        let blocks = [&[1][..], &number(10_000), &[0x7e], &[0x02, 0x40, 0x0b].repeat(2000), &[0x0b]].concat();
        assert!(excess(&of((0, 0), &[&blocks])).contains("blocks and 10000 local variables"));
        // On the stack instead of in variables.
        let code = body(&[(10_000, GET), (2000, &[0x02, 0x40, 0x0b]), (10_000, &[0x1a])]);
        assert!(excess(&of((0, 0), &[&code])).contains("1 local variables"));
    }

    #[test]
    fn parameters_of_many_functions_count() {
        let types = |count| items(id::TYPES, 1, &function_type(count, 0));
        let functions = |parameters, count| {
            let bodies = wasm::code(std::iter::repeat_n(&[0, 0x0b][..], count));
            component(&[types(parameters), items(id::FUNCTIONS, count, &[0]), bodies])
        };
        assert_eq!(weigh(&functions(1000, 1000)), Ok(()));
        assert_eq!(weigh(&functions(10, 50_000)), Ok(()));
        assert!(excess(&functions(1000, 50_000)).contains("units of weight in its code"));
        // Once as parameters and once as variables, and what every function takes.
        assert_eq!(weigh(&functions(300, 50_000)), Ok(()));
        assert!(excess(&functions(300, 52_000)).contains("units of weight in its code"));
        // Those of the host have no code here.
        let import = [name("a"), name("b"), vec![0, 0]].concat();
        let imports = |count| component(&[types(1000), items(2, count, &import)]);
        assert_eq!(weigh(&imports(31_000)), Ok(()));
        assert!(
            excess(&component(&[
                types(1000),
                items(2, 33_000, &import),
                items(id::FUNCTIONS, 1, &[0]),
                wasm::code([&[0, 0x0b][..]])
            ]))
            .contains("units of weight in its code")
        );
    }

    #[test]
    fn names_of_what_there_is_not_are_an_error() {
        for code in [&[0x10, 9][..], &[0x20, 0, 0x11, 9, 0], &[0x02, 9, 0x0b], &[0x0c, 9], &[0x20, 0, 0x0e, 1, 0, 9]] {
            let result = weigh(&of((0, 0), &[&body(&[(1, code)])]));
            assert!(matches!(result, Err(Rejection::Malformed(_))), "{code:?}: {result:?}");
        }
        // Dead code has no height, and blocks still end.
        assert_eq!(weigh(&of((0, 0), &[&body(&[(1, &[0x02, 0x40, 0x00, 0x1a, 0x1a, 0x0b])])])), Ok(()));
    }
}
