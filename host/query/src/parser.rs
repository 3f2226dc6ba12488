//! The syntax tree of an expression.
//!
//! Nodes are in one vector and refer to each other by position; a chain of operators of equal precedence is one node.
//! The tree is therefore no deeper than [`DEEPEST`], whatever its size, and so is the recursion of what walks it.

use std::{net::IpAddr, ops::Range};

use flowgate_names::operation::Comparison;

use crate::{
    error::{Diagnostic, quoted},
    lexer::{self, Token, Unit},
};

/// Greatest number of levels of nesting.
pub(crate) const DEEPEST: usize = 200;
/// Longest text in bytes.
pub(crate) const LONGEST: usize = 1 << 20;

/// Position of a node.
pub(crate) type Id = usize;

/// A node, with its place in the text: with parentheses around it, and without.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) at: Range<usize>,
    pub(crate) inner: Range<usize>,
    /// Levels of nodes in it.
    height: usize,
    /// In parentheses.
    closed: bool,
}

/// A test of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
    Matches,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum NodeKind {
    Number(u128, Unit),
    Address(IpAddr),
    Network(IpAddr, u8),
    /// A string: its place.
    Text,
    /// A word: its place.
    Name,
    /// `annotations["key"]`: the place of the string.
    Annotation(Range<usize>),
    /// `has(x)`
    Has(Id),
    /// `label(x)`
    Label(Id),
    Not(Id),
    Negate(Id),
    Complement(Id),
    /// Operands of `and`.
    All(Vec<Id>),
    /// Operands of `or`.
    Any(Vec<Id>),
    /// Arithmetic, from left to right: the first operand, then operators by their number in programs and operands.
    Arithmetic(Id, Vec<(u8, Id)>),
    Compare(Comparison, Id, Id),
    /// A value, the members of a set, and whether it is `not in`.
    In(Id, Vec<(Id, Option<Id>)>, bool),
    Test(TextTest, Id, Id),
}

/// Precedence, from loose to tight: `or`, `and`, `not`, comparisons and tests, then arithmetic.
mod level {
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 2;
    pub(super) const TEST: u8 = 4;
    pub(super) const BIT_OR: u8 = 5;
    pub(super) const BIT_XOR: u8 = 6;
    pub(super) const BIT_AND: u8 = 7;
    pub(super) const SHIFT: u8 = 8;
    pub(super) const SUM: u8 = 9;
    pub(super) const PRODUCT: u8 = 10;
    pub(super) const UNARY: u8 = 11;
}

/// Arithmetic operators, by their number in programs, with their precedence.
pub(crate) const ARITHMETIC: [(&str, u8); 10] = [
    ("+", level::SUM),
    ("-", level::SUM),
    ("*", level::PRODUCT),
    ("/", level::PRODUCT),
    ("%", level::PRODUCT),
    ("&", level::BIT_AND),
    ("|", level::BIT_OR),
    ("^", level::BIT_XOR),
    ("<<", level::SHIFT),
    (">>", level::SHIFT),
];

/// An operator between two operands.
#[derive(Clone, Copy)]
enum Infix {
    Or,
    And,
    Compare(Comparison),
    In,
    NotIn,
    Test(TextTest),
    Arithmetic(u8),
}

impl Infix {
    fn level(self) -> u8 {
        match self {
            Infix::Or => level::OR,
            Infix::And => level::AND,
            Infix::Compare(_) | Infix::In | Infix::NotIn | Infix::Test(_) => level::TEST,
            Infix::Arithmetic(number) => ARITHMETIC.get(usize::from(number)).map_or(level::UNARY, |(_, level)| *level),
        }
    }
}

/// A parsed text.
#[derive(Debug)]
pub(crate) struct Tree<'t> {
    pub(crate) text: &'t str,
    nodes: Vec<Node>,
    /// The expressions, which commas separate.
    pub(crate) roots: Vec<Id>,
}

impl<'t> Tree<'t> {
    /// Parses a single expression.
    pub(crate) fn expression(text: &'t str) -> Result<Tree<'t>, Diagnostic> {
        Self::parse(text, false)
    }

    /// Parses a list of expressions.
    pub(crate) fn list(text: &'t str) -> Result<Tree<'t>, Diagnostic> {
        Self::parse(text, true)
    }

    fn parse(text: &'t str, list: bool) -> Result<Tree<'t>, Diagnostic> {
        if text.len() > LONGEST {
            return Err(Diagnostic::new(
                0..0,
                format!("the expression has {} bytes; at most {LONGEST} are accepted", text.len()),
            ));
        }
        let (token, at) = lexer::token(text, 0)?;
        let tree = Tree { text, nodes: Vec::new(), roots: Vec::new() };
        let mut parser = Parser { tree, token, at, end: 0, open: 0, pending: 0 };
        loop {
            let root = parser.infix(0)?;
            parser.tree.roots.push(root);
            if !(list && parser.accept(",")?) {
                break;
            }
        }
        match parser.token {
            Token::End => Ok(parser.tree),
            _ => Err(parser.after_expression()),
        }
    }

    /// Returns the first expression.
    pub(crate) fn root(&self) -> Id {
        self.roots.first().copied().unwrap_or_default()
    }

    /// Returns a node.
    pub(crate) fn node(&self, id: Id) -> &Node {
        // Positions are those of nodes, since only the parser makes them.
        &self.nodes[id]
    }

    /// Returns this part of the text.
    pub(crate) fn part(&self, at: &Range<usize>) -> &'t str {
        self.text.get(at.clone()).unwrap_or_default()
    }
}

struct Parser<'t> {
    tree: Tree<'t>,
    /// The next token, and its place.
    token: Token,
    at: Range<usize>,
    /// End of the token before.
    end: usize,
    /// Parentheses and prefixes that are open.
    open: usize,
    /// Operators that wait for their right operand.
    pending: usize,
}

impl Parser<'_> {
    fn advance(&mut self) -> Result<(), Diagnostic> {
        let next = lexer::token(self.tree.text, self.at.end)?;
        self.end = self.at.end;
        (self.token, self.at) = next;
        Ok(())
    }

    fn word(&self) -> Option<&str> {
        (self.token == Token::Word).then(|| self.tree.part(&self.at))
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.token, Token::Sign(found) if found == sign)
    }

    fn accept(&mut self, sign: &str) -> Result<bool, Diagnostic> {
        let found = self.is(sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Returns the next token for a message.
    fn found(&self) -> String {
        match self.token {
            Token::End => "the end".to_owned(),
            _ => quoted(self.tree.part(&self.at)),
        }
    }

    fn push(&mut self, kind: NodeKind, at: Range<usize>, below: &[Id]) -> Result<Id, Diagnostic> {
        let height = 1 + below.iter().map(|id| self.tree.node(*id).height).max().unwrap_or(0);
        if height > DEEPEST {
            return Err(too_deep(at.start..at.start));
        }
        self.tree.nodes.push(Node { kind, inner: at.clone(), at, height, closed: false });
        Ok(self.tree.nodes.len() - 1)
    }

    fn operator(&self) -> Option<Infix> {
        let compare = |comparison| Some(Infix::Compare(comparison));
        match self.token {
            Token::Sign("||") => Some(Infix::Or),
            Token::Sign("&&") => Some(Infix::And),
            Token::Sign(sign) => {
                if let Some((comparison, _)) = Comparison::ALL.iter().find(|(_, name)| *name == sign) {
                    return compare(*comparison);
                }
                let number = ARITHMETIC.iter().position(|(name, _)| *name == sign)?;
                Some(Infix::Arithmetic(number as u8))
            }
            Token::Word => match self.tree.part(&self.at) {
                "or" => Some(Infix::Or),
                "and" => Some(Infix::And),
                "in" => Some(Infix::In),
                "not" => Some(Infix::NotIn),
                "eq" => compare(Comparison::Equal),
                "ne" => compare(Comparison::NotEqual),
                "lt" => compare(Comparison::Less),
                "le" => compare(Comparison::LessOrEqual),
                "gt" => compare(Comparison::Greater),
                "ge" => compare(Comparison::GreaterOrEqual),
                "contains" => Some(Infix::Test(TextTest::Contains)),
                "starts_with" => Some(Infix::Test(TextTest::StartsWith)),
                "ends_with" => Some(Infix::Test(TextTest::EndsWith)),
                "matches" => Some(Infix::Test(TextTest::Matches)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Parses operands with operators of at least this precedence between them.
    fn infix(&mut self, least: u8) -> Result<Id, Diagnostic> {
        let mut left = self.prefix(least)?;
        while let Some(operator) = self.operator() {
            let level = operator.level();
            if level < least {
                break;
            }
            let operator_at = self.at.clone();
            self.advance()?;
            if let Infix::NotIn = operator {
                if self.word() != Some("in") {
                    return Err(Diagnostic::new(operator_at, "unexpected `not`")
                        .hint("`x not in {...}`, or `and not` between conditions"));
                }
                self.advance()?;
            }
            if let Infix::In | Infix::NotIn = operator {
                left = self.set(left, matches!(operator, Infix::NotIn))?;
            } else {
                self.pending += 1;
                if self.pending > DEEPEST {
                    return Err(too_deep(operator_at));
                }
                let right = self.infix(level + 1)?;
                self.pending -= 1;
                left = self.join(operator, left, right)?;
            }
            if level == level::TEST {
                self.refuse_second_test(left)?;
            }
        }
        Ok(left)
    }

    fn join(&mut self, operator: Infix, left: Id, right: Id) -> Result<Id, Diagnostic> {
        let at = self.tree.node(left).at.start..self.tree.node(right).at.end;
        // A chain grows; its height is that of its highest operand.
        let high = 1 + self.tree.node(right).height;
        let chained = self.tree.nodes.get_mut(left).is_some_and(|node| {
            match (&mut node.kind, operator) {
                (NodeKind::All(operands), Infix::And) | (NodeKind::Any(operands), Infix::Or) => operands.push(right),
                (NodeKind::Arithmetic(_, operands), Infix::Arithmetic(number)) if !node.closed => {
                    let level = |number: u8| Infix::Arithmetic(number).level();
                    if operands.first().is_none_or(|(first, _)| level(*first) != level(number)) {
                        return false;
                    }
                    operands.push((number, right));
                }
                _ => return false,
            }
            node.height = node.height.max(high);
            node.at = at.clone();
            true
        });
        if chained {
            return if high > DEEPEST { Err(too_deep(at.start..at.start)) } else { Ok(left) };
        }
        let kind = match operator {
            Infix::Or => NodeKind::Any(vec![left, right]),
            Infix::And => NodeKind::All(vec![left, right]),
            Infix::Compare(comparison) => NodeKind::Compare(comparison, left, right),
            Infix::Test(test) => NodeKind::Test(test, left, right),
            Infix::Arithmetic(number) => NodeKind::Arithmetic(left, vec![(number, right)]),
            Infix::In | Infix::NotIn => NodeKind::In(left, vec![(right, None)], false),
        };
        self.push(kind, at, &[left, right])
    }

    /// Parses what follows `in`.
    fn set(&mut self, value: Id, negated: bool) -> Result<Id, Diagnostic> {
        let mut members = Vec::new();
        let mut highest = value;
        let open = self.at.clone();
        let braces = self.accept("{")?;
        if braces && self.is("}") {
            return Err(Diagnostic::new(open.start..self.at.end, "the set is empty")
                .hint("write its members between the braces: {80, 443, 8000..8999}"));
        }
        if self.is("(") || self.is("[") {
            return Err(Diagnostic::new(open, "a set is in braces").hint("{80, 443, 8000..8999}"));
        }
        loop {
            let first = self.infix(level::BIT_OR)?;
            let last = if self.accept("..")? { Some(self.infix(level::BIT_OR)?) } else { None };
            for id in [Some(first), last].into_iter().flatten() {
                if self.tree.node(id).height > self.tree.node(highest).height {
                    highest = id;
                }
            }
            members.push((first, last));
            if !braces {
                break;
            }
            if !self.accept(",")? {
                if !self.is("}") {
                    return Err(match self.token {
                        Token::End => Diagnostic::new(open, "the set is not closed").hint("a `}` is missing"),
                        _ => Diagnostic::new(self.at.clone(), format!("unexpected {} in a set", self.found()))
                            .hint("a comma between members, `}` after the last"),
                    });
                }
                break;
            }
            // A comma behind the last member.
            if self.is("}") {
                break;
            }
        }
        if braces {
            self.advance()?;
        }
        let at = self.tree.node(value).at.start..self.end;
        self.push(NodeKind::In(value, members, negated), at, &[highest])
    }

    /// Refuses `1 < x < 5`.
    fn refuse_second_test(&mut self, left: Id) -> Result<(), Diagnostic> {
        let Some(operator) = self.operator().filter(|operator| operator.level() == level::TEST) else {
            return Ok(());
        };
        let sign = self.at.clone();
        let wrong = Diagnostic::new(sign.clone(), format!("{} follows a comparison", self.found()));
        let (Infix::Compare(second), NodeKind::Compare(first, low, middle)) = (operator, &self.tree.node(left).kind)
        else {
            return Err(wrong.hint("join conditions by `and` or `or`"));
        };
        if let NodeKind::Arithmetic(_, rest) = &self.tree.node(*middle).kind
            && let Some((bits @ (5 | 6), _)) = rest.last()
        {
            let (bits, word) = if *bits == 5 { ("&", "and") } else { ("|", "or") };
            return Err(wrong.hint(format!("`{bits}` computes with bits; `{word}` joins conditions")));
        }
        let (first, second) = (*first, second);
        let (low, middle) = (self.tree.node(*low), self.tree.node(*middle).at.clone());
        let constant = matches!(low.kind, NodeKind::Number(..) | NodeKind::Address(_) | NodeKind::Text);
        let (low, middle) = (self.tree.part(&low.at), self.tree.part(&middle));
        let first = if constant {
            format!("{middle} {} {low}", first.mirrored().sign())
        } else {
            format!("{low} {} {middle}", first.sign())
        };
        let middle = middle.to_owned();
        self.advance()?;
        let high = self.infix(level::BIT_OR)?;
        let high = self.tree.part(&self.tree.node(high).at);
        let hint = format!("{first} and {middle} {} {high}", second.sign());
        Err(if hint.len() <= 200 { wrong.hint(hint) } else { wrong.hint("join comparisons by `and`") })
    }

    /// Parses prefixes and what they stand before.
    fn prefix(&mut self, least: u8) -> Result<Id, Diagnostic> {
        let at = self.at.clone();
        let kind: fn(Id) -> NodeKind = match self.token {
            Token::Sign("!") => NodeKind::Not,
            Token::Sign("-") => NodeKind::Negate,
            Token::Sign("~") => NodeKind::Complement,
            Token::Word if self.word() == Some("not") => NodeKind::Not,
            _ => return self.primary(),
        };
        self.open_one(&at)?;
        let not = matches!(kind(0), NodeKind::Not(_));
        if not && least > level::TEST {
            return Err(Diagnostic::new(at, format!("unexpected {}", self.found()))
                .hint("`not` stands before a condition; bits are inverted by `~`"));
        }
        self.advance()?;
        let operand = self.infix(if not { level::TEST } else { level::UNARY })?;
        self.open -= 1;
        let at = at.start..self.tree.node(operand).at.end;
        self.push(kind(operand), at, &[operand])
    }

    fn open_one(&mut self, at: &Range<usize>) -> Result<(), Diagnostic> {
        self.open += 1;
        if self.open > DEEPEST { Err(too_deep(at.clone())) } else { Ok(()) }
    }

    fn primary(&mut self) -> Result<Id, Diagnostic> {
        let at = self.at.clone();
        let kind = match self.token {
            Token::Number(number, unit) => NodeKind::Number(number, unit),
            Token::Address(address) => NodeKind::Address(address),
            Token::Network(address, length) => NodeKind::Network(address, length),
            Token::Text => NodeKind::Text,
            Token::Word => return self.name(),
            Token::Sign("(") => return self.parenthesis(),
            _ => return Err(self.no_operand()),
        };
        self.advance()?;
        self.push(kind, at, &[])
    }

    fn no_operand(&self) -> Diagnostic {
        let wrong = Diagnostic::new(self.at.clone(), format!("a value is missing before {}", self.found()));
        match self.token {
            Token::End if self.end == 0 => Diagnostic::new(self.at.clone(), "the expression is empty")
                .hint("for example: proto == tcp and dport in {80, 443}"),
            Token::End => Diagnostic::new(self.at.clone(), "the expression ends where a value is missing"),
            Token::Sign("=" | "=~") => {
                Diagnostic::new(self.at.clone(), format!("unexpected {}", self.found())).hint("`==`")
            }
            Token::Sign("{") => wrong.hint("a set follows `in`: dport in {80, 443}"),
            _ => wrong,
        }
    }

    fn parenthesis(&mut self) -> Result<Id, Diagnostic> {
        let open = self.at.clone();
        self.open_one(&open)?;
        self.advance()?;
        let inner = self.infix(0)?;
        self.close(&open)?;
        self.open -= 1;
        let at = open.start..self.end;
        if let Some(node) = self.tree.nodes.get_mut(inner) {
            node.at = at;
            node.closed = true;
        }
        Ok(inner)
    }

    fn close(&mut self, open: &Range<usize>) -> Result<(), Diagnostic> {
        if self.accept(")")? {
            return Ok(());
        }
        Err(match self.token {
            Token::End => Diagnostic::new(open.clone(), "the parenthesis is not closed").hint("a `)` is missing"),
            _ => self.after_expression(),
        })
    }

    /// Returns what is wrong with a token that follows an expression.
    fn after_expression(&self) -> Diagnostic {
        let wrong = Diagnostic::new(self.at.clone(), format!("unexpected {}", self.found()));
        match self.token {
            Token::Sign("=") => wrong.hint("`==` compares"),
            Token::Sign("=~") => wrong.hint("`matches` tests by a regular expression: helper matches \"^s\""),
            Token::Sign("~") => wrong.hint("`matches` tests by a regular expression; `!=` compares"),
            Token::Sign("!") => wrong.hint("`!=`, or `not in`"),
            Token::Sign(")") => wrong.hint("no parenthesis is open"),
            Token::Sign("..") => wrong.hint("a range follows `in`: dport in 1..1023"),
            Token::Word => {
                let word = self.tree.part(&self.at);
                let lower = word.to_ascii_lowercase();
                let known = ["and", "or", "not", "in", "contains", "starts_with", "ends_with", "matches"];
                match known.into_iter().find(|known| *known == lower) {
                    Some(known) => wrong.hint(format!("`{known}`, in small letters")),
                    None => match crate::error::nearest(word, known.into_iter()) {
                        Some(near) => wrong.hint(format!("did you mean `{near}`?")),
                        None => wrong.hint("`and` or `or` joins two conditions"),
                    },
                }
            }
            Token::Sign(_) => wrong,
            _ => wrong.hint("`and` or `or` joins two conditions"),
        }
    }

    fn name(&mut self) -> Result<Id, Diagnostic> {
        let at = self.at.clone();
        let word = self.tree.part(&at);
        if matches!(word, "and" | "or" | "in" | "eq" | "ne" | "lt" | "le" | "gt" | "ge")
            || matches!(word, "contains" | "starts_with" | "ends_with" | "matches")
        {
            return Err(self.no_operand());
        }
        let (function, annotation) = (matches!(word, "has" | "label"), word == "annotations");
        let is_label = word == "label";
        self.advance()?;
        if annotation && self.is("[") {
            self.advance()?;
            let key = self.at.clone();
            if self.token != Token::Text {
                return Err(Diagnostic::new(key, format!("unexpected {}", self.found())).hint("annotations[\"key\"]"));
            }
            self.advance()?;
            if !self.accept("]")? {
                return Err(Diagnostic::new(self.at.clone(), format!("unexpected {}", self.found()))
                    .hint("a `]` is missing after the key"));
            }
            return self.push(NodeKind::Annotation(key), at.start..self.end, &[]);
        }
        if !self.is("(") {
            if function {
                let hint = if is_label { "label(\"name\")" } else { "has(helper)" };
                let name = if is_label { "label" } else { "has" };
                return Err(Diagnostic::new(at, format!("`{name}` takes something in parentheses")).hint(hint));
            }
            return self.push(NodeKind::Name, at, &[]);
        }
        if !function {
            let name = quoted(self.tree.part(&at));
            return Err(
                Diagnostic::new(at, format!("there is no function {name}")).hint("there are has(...) and label(...)")
            );
        }
        let open = self.at.clone();
        self.open_one(&open)?;
        self.advance()?;
        let operand = self.infix(0)?;
        self.close(&open)?;
        self.open -= 1;
        let kind = if is_label { NodeKind::Label(operand) } else { NodeKind::Has(operand) };
        self.push(kind, at.start..self.end, &[operand])
    }
}

pub(crate) fn too_deep(at: Range<usize>) -> Diagnostic {
    Diagnostic::new(at, format!("the expression is nested more than {DEEPEST} levels deep"))
}
