//! Checks a document against a schema, and reports the first rule that it breaks.

use std::collections::HashSet;
use std::fmt;

use bson::{Bson, Document};

use super::keyword::{Kind, as_number};
use super::schema::{Bounds, Dependency, Items, Others, Properties, Rule, Schema};
use crate::key;

/// How much of a value a message shows.
const VALUE_CHARS_MAX: usize = 60;

/// Which rule a document breaks, and where.
#[derive(Debug, PartialEq)]
pub(super) struct Violation {
    /// Field names and positions, innermost first.
    path: Vec<String>,
    problem: String,
}

type Verdict = Result<(), Violation>;

impl Schema {
    pub(super) fn check(&self, value: &Bson) -> Verdict {
        self.rules.iter().try_for_each(|rule| check_value(rule, value))
    }
}

/// A rule about fields applies to documents, one about length to strings, and so on: other values satisfy it.
fn check_value(rule: &Rule, value: &Bson) -> Verdict {
    match (rule, value) {
        (Rule::Required(names), Bson::Document(document)) => check_required(names, document),
        (Rule::PropertyCount(bounds), Bson::Document(document)) => {
            check_bounds(bounds, document.len(), "fields")
        }
        (Rule::Properties(properties), Bson::Document(document)) => check_properties(properties, document),
        (Rule::Dependencies(dependencies), Bson::Document(document)) => {
            let applicable = dependencies.iter().filter(|(field, _)| document.contains_key(field));
            applicable.map(|(_, dependency)| dependency).try_for_each(|dependency| match dependency {
                Dependency::Fields(names) => check_required(names, document),
                Dependency::Schema(schema) => schema.check(value),
            })
        }
        (Rule::Items(items), Bson::Array(values)) => check_items(items, values),
        (Rule::ItemCount(bounds), Bson::Array(values)) => check_bounds(bounds, values.len(), "items"),
        (Rule::UniqueItems, Bson::Array(values)) => {
            let mut seen = HashSet::new();
            require(values.iter().all(|value| seen.insert(key::encode(value))), || {
                "has equal items".to_owned()
            })
        }
        (Rule::Length(bounds), Bson::String(text)) => {
            check_bounds(bounds, text.chars().count(), "characters")
        }
        (Rule::Pattern(pattern), Bson::String(text)) => require(pattern.is_match(text), || {
            format!("is {}, which does not match {pattern}", abbreviated(value))
        }),
        _ => match as_number(value) {
            Some(number) => check_number(rule, number, value),
            None => check_any(rule, value),
        },
    }
}

fn check_number(rule: &Rule, number: f64, value: &Bson) -> Verdict {
    let is = |holds, limit: &str, bound: &f64| {
        require(holds, || format!("is {}, expected {limit} {bound}", abbreviated(value)))
    };
    match rule {
        Rule::Minimum { bound, exclusive: true } => is(number > *bound, "more than", bound),
        Rule::Minimum { bound, exclusive: false } => is(number >= *bound, "at least", bound),
        Rule::Maximum { bound, exclusive: true } => is(number < *bound, "less than", bound),
        Rule::Maximum { bound, exclusive: false } => is(number <= *bound, "at most", bound),
        Rule::MultipleOf(divisor) => is(number % divisor == 0.0, "a multiple of", divisor),
        _ => check_any(rule, value),
    }
}

/// Checks the rules that apply to values of every type.
fn check_any(rule: &Rule, value: &Bson) -> Verdict {
    match rule {
        Rule::Types(kinds) => require(kinds.iter().any(|kind| kind.is_of(value)), || {
            let allowed = kinds.iter().map(|kind| kind.0).collect::<Vec<_>>().join(", ");
            format!("is {} ({}), expected {allowed}", abbreviated(value), kind_of(value))
        }),
        Rule::Enumeration(keys, allowed) => require(keys.contains(&key::encode(value)), || {
            format!("is {}, expected one of {allowed}", abbreviated(value))
        }),
        Rule::AllOf(schemas) => schemas.iter().try_for_each(|schema| schema.check(value)),
        Rule::AnyOf(schemas) => require(schemas.iter().any(|schema| schema.check(value).is_ok()), || {
            format!("matches none of the {} schemas of anyOf", schemas.len())
        }),
        Rule::OneOf(schemas) => match schemas.iter().filter(|schema| schema.check(value).is_ok()).count() {
            1 => Ok(()),
            fitting => violated(format!(
                "matches {fitting} of the {} schemas of oneOf, expected exactly one",
                schemas.len()
            )),
        },
        Rule::Not(schema) => require(schema.check(value).is_err(), || "matches the schema of not".to_owned()),
        _ => Ok(()),
    }
}

fn check_required(names: &[String], document: &Document) -> Verdict {
    let missing = names
        .iter()
        .filter(|name| !document.contains_key(name.as_str()))
        .map(String::as_str)
        .collect::<Vec<_>>();
    require(missing.is_empty(), || format!("is missing {}", missing.join(", ")))
}

fn check_properties(properties: &Properties, document: &Document) -> Verdict {
    for (name, value) in document {
        let mut is_named = false;
        let named = properties.named.iter().filter(|(other, _)| other == name).map(|(_, schema)| schema);
        let matching = properties
            .patterns
            .iter()
            .filter(|(pattern, _)| pattern.is_match(name))
            .map(|(_, schema)| schema);
        for schema in named.chain(matching) {
            is_named = true;
            schema.check(value).map_err(within(name))?;
        }
        if !is_named {
            check_others(&properties.others, value).map_err(within(name))?;
        }
    }
    Ok(())
}

fn check_items(items: &Items, values: &[Bson]) -> Verdict {
    values.iter().enumerate().try_for_each(|(position, value)| {
        let verdict = match items.first.get(position) {
            Some(schema) => schema.check(value),
            None => check_others(&items.others, value),
        };
        verdict.map_err(within(&position.to_string()))
    })
}

fn check_others(others: &Others, value: &Bson) -> Verdict {
    match others {
        Others::Anything => Ok(()),
        Others::Nothing => violated("is not allowed".to_owned()),
        Others::Matching(schema) => schema.check(value),
    }
}

fn check_bounds(bounds: &Bounds, count: usize, of: &str) -> Verdict {
    let count = count as u64;
    match (bounds.min, bounds.max) {
        (Some(min), _) if count < min => violated(format!("has {count} {of}, expected at least {min}")),
        (_, Some(max)) if count > max => violated(format!("has {count} {of}, expected at most {max}")),
        _ => Ok(()),
    }
}

fn require(holds: bool, problem: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { violated(problem()) }
}

fn violated(problem: String) -> Verdict {
    Err(Violation { path: Vec::new(), problem })
}

fn within(name: &str) -> impl FnOnce(Violation) -> Violation + '_ {
    |mut violation| {
        violation.path.push(name.to_owned());
        violation
    }
}

impl Kind {
    fn is_of(self, value: &Bson) -> bool {
        match self.0 {
            "number" => as_number(value).is_some(),
            name => name == kind_of(value),
        }
    }
}

fn kind_of(value: &Bson) -> &'static str {
    match value {
        Bson::Double(_) => "double",
        Bson::String(_) => "string",
        Bson::Array(_) => "array",
        Bson::Document(_) => "object",
        Bson::Boolean(_) => "bool",
        Bson::Null => "null",
        Bson::RegularExpression(_) => "regex",
        Bson::JavaScriptCode(_) => "javascript",
        Bson::JavaScriptCodeWithScope(_) => "javascriptWithScope",
        Bson::Int32(_) => "int",
        Bson::Int64(_) => "long",
        Bson::Timestamp(_) => "timestamp",
        Bson::Binary(_) => "binData",
        Bson::ObjectId(_) => "objectId",
        Bson::DateTime(_) => "date",
        Bson::Symbol(_) => "symbol",
        Bson::Decimal128(_) => "decimal",
        Bson::Undefined => "undefined",
        Bson::MaxKey => "maxKey",
        Bson::MinKey => "minKey",
        Bson::DbPointer(_) => "dbPointer",
    }
}

fn abbreviated(value: &Bson) -> String {
    let text = value.clone().into_relaxed_extjson().to_string();
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return write!(f, "document {}", self.problem);
        }
        let path = self.path.iter().rev().map(String::as_str).collect::<Vec<_>>().join(".");
        write!(f, "{path} {}", self.problem)
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn verdict(schema: &Document, document: &Document) -> Option<String> {
        let schema = Schema::compile(schema).expect("schema");
        schema.check(&Bson::Document(document.clone())).err().map(|violation| violation.to_string())
    }

    #[test]
    fn a_violation_names_the_field_its_value_and_what_is_allowed() {
        let schema = doc! { "bsonType": "object", "required": ["_id", "t"], "properties": {
        "w": { "properties": { "gust": { "bsonType": ["double", "null"] } } } } };
        let wrong = doc! { "_id": 1, "t": 1, "w": { "gust": "strong" } };
        assert_eq!(
            verdict(&schema, &wrong).as_deref(),
            Some("w.gust is \"strong\" (string), expected double, null")
        );
        assert_eq!(verdict(&schema, &doc! { "_id": 1 }).as_deref(), Some("document is missing t"));
        assert_eq!(verdict(&schema, &doc! { "_id": 1, "t": 1, "w": { "gust": null } }), None);
    }
}
