//! HCL2 by the crate `hcl-edit`, which keeps where everything stands and ends on nesting without
//! end.

use hcl_edit::Span;
use hcl_edit::expr::{BinaryOperator, Expression, ObjectKey, TraversalOperator, UnaryOperator};
use hcl_edit::parser::{parse_body, parse_template};
use hcl_edit::structure::{Body, Structure};
use hcl_edit::template::{Element, Template};

use super::node::{Block, Entry, Kind, Lines, Node, Piece};
use crate::convert::fault::Fault;

/// Reads a template.
///
/// # Errors
/// The first mistake, with its line.
pub(super) fn read(lines: &Lines<'_>) -> Result<Block, Fault> {
    let body = parse_body(lines.text).map_err(|error| {
        let line = u32::try_from(error.location().line()).unwrap_or(1);
        Fault::new(line, error.message().replace('\n', "; "))
    })?;
    let mut root = Block { line: 1, ..Block::default() };
    fill(&mut root, &body, lines);
    Ok(root)
}

/// Reads a string of a template in JSON, in which expressions are written as in HCL2.
pub(super) fn text(text: &str, line: u32) -> Node {
    if !text.contains("${") && !text.contains("%{") {
        return Node::plain(line, text);
    }
    match parse_template(text) {
        // All of it stands in one line.
        Ok(template) => pieces(&template, &Place { lines: None, line }),
        Err(_) => Node::plain(line, text),
    }
}

/// Where expressions stand: in the lines of a file, or all in one line.
struct Place<'l, 't> {
    lines: Option<&'l Lines<'t>>,
    line: u32,
}

impl Place<'_, '_> {
    fn of(&self, what: &impl Span) -> u32 {
        match (self.lines, what.span()) {
            (Some(lines), Some(span)) => lines.of(span.start),
            _ => self.line,
        }
    }

    fn written(&self, what: &impl Span) -> String {
        let (Some(lines), Some(span)) = (self.lines, what.span()) else {
            return "an expression".to_owned();
        };
        lines.text.get(span).unwrap_or("an expression").trim().to_owned()
    }
}

fn fill(block: &mut Block, body: &Body, lines: &Lines<'_>) {
    for one in body {
        let span = one.span().unwrap_or_default();
        let line = lines.of(span.start);
        match one {
            Structure::Attribute(attribute) => {
                let place = Place { lines: Some(lines), line };
                let value = node(&attribute.value, &place);
                let name = attribute.key.as_str().to_owned();
                block.entries.push(Entry { line, name, value });
            }
            Structure::Block(inner) => {
                let labels = inner.labels.iter().map(|label| label.as_str().to_owned()).collect();
                let mut made = Block {
                    line,
                    comments: lines.above(line),
                    kind: inner.ident.as_str().to_owned(),
                    labels,
                    ..Block::default()
                };
                fill(&mut made, &inner.body, lines);
                block.blocks.push(made);
            }
        }
    }
}

fn node(expression: &Expression, place: &Place<'_, '_>) -> Node {
    let line = place.of(expression);
    let all = |nodes: &mut dyn Iterator<Item = &Expression>| {
        nodes.map(|one| node(one, place)).collect::<Vec<_>>()
    };
    let kind = match expression {
        Expression::Null(_) => Kind::Null,
        Expression::Bool(value) => Kind::Bool(*value.value()),
        Expression::Number(number) => Kind::Number(number.value().to_string()),
        Expression::String(text) => Kind::Text(vec![Piece::Plain(text.value().clone())]),
        Expression::Array(array) => Kind::List(all(&mut array.iter())),
        Expression::Object(object) => {
            let entry = |(key, value): (&ObjectKey, &hcl_edit::expr::ObjectValue)| {
                let name = match key {
                    ObjectKey::Ident(name) => name.as_str().to_owned(),
                    ObjectKey::Expression(key) => match node(key, place) {
                        Node { kind: Kind::Path(words), .. } => words.join("."),
                        other => other.as_plain().unwrap_or_else(|| place.written(key)),
                    },
                };
                (name, node(value.expr(), place))
            };
            Kind::Object(object.iter().map(entry).collect())
        }
        Expression::StringTemplate(template) => pieces(template, place).kind,
        Expression::HeredocTemplate(heredoc) => pieces(&heredoc.template, place).kind,
        Expression::Parenthesis(inner) => node(inner.inner(), place).kind,
        Expression::Variable(name) => Kind::Path(vec![name.as_str().to_owned()]),
        Expression::Conditional(one) => Kind::If(Box::new([
            node(&one.cond_expr, place),
            node(&one.true_expr, place),
            node(&one.false_expr, place),
        ])),
        Expression::FuncCall(call) if !call.args.expand_final() => {
            Kind::Call(call.name.name.as_str().to_owned(), all(&mut call.args.iter()))
        }
        Expression::Traversal(traversal) => {
            let mut found = node(&traversal.expr, place);
            for operator in &traversal.operators {
                let (what, name) = match operator.value() {
                    TraversalOperator::GetAttr(name) => {
                        (Node::plain(line, name.as_str()), Some(name.as_str().to_owned()))
                    }
                    TraversalOperator::Index(index) => (node(index, place), None),
                    _ => return Node::new(line, Kind::Other(place.written(expression))),
                };
                found = match (found.kind, name) {
                    (Kind::Path(mut words), Some(name)) => {
                        words.push(name);
                        Node::new(line, Kind::Path(words))
                    }
                    (kind, _) => {
                        Node::new(line, Kind::Element(Box::new([Node::new(line, kind), what])))
                    }
                };
            }
            return found;
        }
        Expression::UnaryOp(one) if *one.operator.value() == UnaryOperator::Not => {
            Kind::Not(Box::new(node(&one.expr, place)))
        }
        Expression::BinaryOp(one) => {
            let same = match one.operator.value() {
                BinaryOperator::Eq => Some(true),
                BinaryOperator::NotEq => Some(false),
                _ => None,
            };
            match same {
                Some(same) => Kind::Same(
                    Box::new([node(&one.lhs_expr, place), node(&one.rhs_expr, place)]),
                    same,
                ),
                None => Kind::Other(place.written(expression)),
            }
        }
        _ => Kind::Other(place.written(expression)),
    };
    Node::new(line, kind)
}

fn pieces(template: &Template, place: &Place<'_, '_>) -> Node {
    let one = |element: &Element| match element {
        Element::Literal(text) => Piece::Plain(text.value().clone()),
        Element::Interpolation(inner) => Piece::Expression(node(&inner.expr, place)),
        Element::Directive(_) => {
            let text = place.written(element);
            Piece::Expression(Node::new(place.of(element), Kind::Other(text)))
        }
    };
    Node::new(place.line, Kind::Text(template.iter().map(one).collect()))
}
