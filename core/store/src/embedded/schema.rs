//! MongoDB's `$jsonSchema`, compiled into rules: the keywords of draft 4 that MongoDB documents, and `bsonType`.
//!
//! As in MongoDB, anything else is refused here, at the start: a rule that is not understood would not be enforced.

use bson::{Bson, Document};
use regex::Regex;

use super::keyword::{self, Kind, SchemaError};
use crate::key;

/// A compiled schema. A value is valid if it satisfies every rule.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug)]
pub(super) enum Rule {
    Types(Vec<Kind>),
    /// The keys of the allowed values, and the values as text for messages.
    Enumeration(Vec<Vec<u8>>, String),
    Minimum {
        bound: f64,
        exclusive: bool,
    },
    Maximum {
        bound: f64,
        exclusive: bool,
    },
    MultipleOf(f64),
    Length(Bounds),
    Pattern(Regex),
    Items(Items),
    ItemCount(Bounds),
    UniqueItems,
    Required(Vec<String>),
    PropertyCount(Bounds),
    Properties(Properties),
    /// What a document must satisfy if it has the field.
    Dependencies(Vec<(String, Dependency)>),
    AllOf(Vec<Schema>),
    AnyOf(Vec<Schema>),
    OneOf(Vec<Schema>),
    Not(Schema),
}

#[derive(Debug, Default)]
pub(super) struct Bounds {
    pub(super) min: Option<u64>,
    pub(super) max: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Items {
    /// Schemas by position.
    pub(super) first: Vec<Schema>,
    pub(super) others: Others,
}

#[derive(Debug)]
pub(super) struct Properties {
    pub(super) named: Vec<(String, Schema)>,
    pub(super) patterns: Vec<(Regex, Schema)>,
    pub(super) others: Others,
}

#[derive(Debug)]
pub(super) enum Dependency {
    Fields(Vec<String>),
    Schema(Schema),
}

/// What applies to items and fields that no other rule names.
#[derive(Debug)]
pub(super) enum Others {
    Anything,
    Nothing,
    Matching(Box<Schema>),
}

impl Schema {
    pub(super) fn compile(schema: &Document) -> Result<Self, SchemaError> {
        if schema.contains_key("type") && schema.contains_key("bsonType") {
            return Err(SchemaError::new("bsonType", "cannot be combined with type"));
        }
        let mut rules = Vec::new();
        for (keyword, value) in schema {
            rules.extend(rule(schema, keyword, value)?);
        }
        Ok(Self { rules })
    }
}

/// Returns the rule of a keyword; `None` if it belongs to another keyword's rule, or has no effect.
fn rule(schema: &Document, keyword: &str, value: &Bson) -> Result<Option<Rule>, SchemaError> {
    let has = |other| schema.contains_key(other);
    Ok(Some(match keyword {
        "title" | "description" => {
            keyword::text(keyword, value)?;
            return Ok(None);
        }
        "bsonType" => Rule::Types(keyword::kinds(keyword, value)?),
        "type" => Rule::Types(keyword::json_kinds(keyword, value)?),
        "enum" => {
            let values = keyword::array(keyword, value)?;
            let shown = Bson::Array(values.clone()).into_relaxed_extjson().to_string();
            Rule::Enumeration(values.iter().map(key::encode).collect(), shown)
        }
        "minimum" => Rule::Minimum {
            bound: keyword::number(keyword, value)?,
            exclusive: keyword::flag(schema, "exclusiveMinimum")?,
        },
        "maximum" => Rule::Maximum {
            bound: keyword::number(keyword, value)?,
            exclusive: keyword::flag(schema, "exclusiveMaximum")?,
        },
        "exclusiveMinimum" if has("minimum") => return Ok(None),
        "exclusiveMaximum" if has("maximum") => return Ok(None),
        "exclusiveMinimum" | "exclusiveMaximum" => {
            return Err(SchemaError::new(keyword, "requires minimum or maximum"));
        }
        "multipleOf" => match keyword::number(keyword, value)? {
            divisor if divisor > 0.0 => Rule::MultipleOf(divisor),
            _ => return Err(SchemaError::new(keyword, "must be greater than 0")),
        },
        "maxLength" if has("minLength") => return Ok(None),
        "minLength" | "maxLength" => Rule::Length(bounds(schema, "minLength", "maxLength")?),
        "pattern" => Rule::Pattern(keyword::pattern(keyword, keyword::text(keyword, value)?)?),
        "additionalItems" if has("items") => return Ok(None),
        "items" | "additionalItems" => Rule::Items(items(schema)?),
        "maxItems" if has("minItems") => return Ok(None),
        "minItems" | "maxItems" => Rule::ItemCount(bounds(schema, "minItems", "maxItems")?),
        "uniqueItems" if keyword::flag(schema, keyword)? => Rule::UniqueItems,
        "uniqueItems" => return Ok(None),
        "required" => Rule::Required(keyword::texts(keyword, value)?),
        "maxProperties" if has("minProperties") => return Ok(None),
        "minProperties" | "maxProperties" => {
            Rule::PropertyCount(bounds(schema, "minProperties", "maxProperties")?)
        }
        "patternProperties" if has("properties") => return Ok(None),
        "additionalProperties" if has("properties") || has("patternProperties") => return Ok(None),
        "properties" | "patternProperties" | "additionalProperties" => Rule::Properties(properties(schema)?),
        "dependencies" => Rule::Dependencies(dependencies(keyword::document(keyword, value)?)?),
        "allOf" => Rule::AllOf(schemas(keyword, value)?),
        "anyOf" => Rule::AnyOf(schemas(keyword, value)?),
        "oneOf" => Rule::OneOf(schemas(keyword, value)?),
        "not" => Rule::Not(Schema::compile(keyword::document(keyword, value)?)?),
        unknown => return Err(SchemaError::new(unknown, "is not a keyword of MongoDB's $jsonSchema")),
    }))
}

fn bounds(schema: &Document, min: &str, max: &str) -> Result<Bounds, SchemaError> {
    Ok(Bounds { min: keyword::whole(schema, min)?, max: keyword::whole(schema, max)? })
}

fn items(schema: &Document) -> Result<Items, SchemaError> {
    match schema.get("items") {
        Some(Bson::Array(_)) => {
            let first = schemas("items", schema.get("items").unwrap_or(&Bson::Null))?;
            Ok(Items { first, others: others(schema, "additionalItems")? })
        }
        // Only a list of items by position leaves others over.
        Some(Bson::Document(each)) => {
            others(schema, "additionalItems")?;
            Ok(Items { first: Vec::new(), others: Others::Matching(Box::new(Schema::compile(each)?)) })
        }
        Some(_) => Err(SchemaError::new("items", "must be a schema or an array of schemas")),
        None => {
            others(schema, "additionalItems")?;
            Ok(Items { first: Vec::new(), others: Others::Anything })
        }
    }
}

fn properties(schema: &Document) -> Result<Properties, SchemaError> {
    let listed = |keyword| match schema.get(keyword) {
        Some(value) => keyword::document(keyword, value).map(Some),
        None => Ok(None),
    };
    let mut named = Vec::new();
    for (name, value) in listed("properties")?.into_iter().flatten() {
        named.push((name.clone(), Schema::compile(keyword::document(name, value)?)?));
    }
    let mut patterns = Vec::new();
    for (pattern, value) in listed("patternProperties")?.into_iter().flatten() {
        let schema = Schema::compile(keyword::document(pattern, value)?)?;
        patterns.push((keyword::pattern("patternProperties", pattern)?, schema));
    }
    Ok(Properties { named, patterns, others: others(schema, "additionalProperties")? })
}

fn others(schema: &Document, keyword: &str) -> Result<Others, SchemaError> {
    match schema.get(keyword) {
        None | Some(Bson::Boolean(true)) => Ok(Others::Anything),
        Some(Bson::Boolean(false)) => Ok(Others::Nothing),
        Some(Bson::Document(schema)) => Ok(Others::Matching(Box::new(Schema::compile(schema)?))),
        Some(_) => Err(SchemaError::new(keyword, "must be true, false or a schema")),
    }
}

fn dependencies(of: &Document) -> Result<Vec<(String, Dependency)>, SchemaError> {
    of.iter()
        .map(|(field, needed)| {
            let dependency = match needed {
                Bson::Document(schema) => Dependency::Schema(Schema::compile(schema)?),
                names => Dependency::Fields(keyword::texts("dependencies", names)?),
            };
            Ok((field.clone(), dependency))
        })
        .collect()
}

fn schemas(keyword: &str, value: &Bson) -> Result<Vec<Schema>, SchemaError> {
    let schemas = keyword::array(keyword, value)?;
    schemas.iter().map(|schema| Schema::compile(keyword::document(keyword, schema)?)).collect()
}
