//! Says why the server refused a document, in words that the client's programmer can act on.
//!
//! "Document failed validation" says nothing; the reply's `errInfo` names each rule that was broken, as a tree.

use std::fmt::Write;

use bson::{Bson, Document};

use super::reply::Fault;

/// A document may break hundreds of rules; this many keep the reason readable.
const RULES_MAX: usize = 5;

/// How much of a value a reason shows.
const VALUE_CHARS_MAX: usize = 60;

pub(super) fn reason(fault: &Fault) -> String {
    let rules = fault.info.as_ref().and_then(|info| info.get_document("details").ok());
    let mut broken = Vec::new();
    if let Some(rules) = rules {
        collect(rules, "", &mut broken);
    }
    if broken.is_empty() {
        return if fault.message.is_empty() {
            format!("server error {}", fault.code)
        } else {
            fault.message.clone()
        };
    }
    let more = broken.len().saturating_sub(RULES_MAX);
    broken.truncate(RULES_MAX);
    let mut reason = broken.join("; ");
    if more > 0 {
        // Writing to a string cannot fail.
        let _ = write!(reason, "; and {more} more");
    }
    reason
}

/// Walks down to the rules that have no rules below them.
fn collect(rule: &Document, path: &str, broken: &mut Vec<String>) {
    let before = broken.len();
    for (key, value) in rule {
        match (key.as_str(), value) {
            ("schemaRulesNotSatisfied" | "details" | "schemasNotSatisfied", Bson::Array(rules)) => {
                documents(rules).for_each(|rule| collect(rule, path, broken));
            }
            ("details", Bson::Document(rule)) => collect(rule, path, broken),
            ("propertiesNotSatisfied", Bson::Array(properties)) => {
                for property in documents(properties) {
                    let name = property.get_str("propertyName").unwrap_or("?");
                    let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                    collect(property, &path, broken);
                }
            }
            ("missingProperties", Bson::Array(names)) => {
                broken.push(format!("{}is missing {}", subject(path), list(names)));
            }
            ("additionalProperties", Bson::Array(names)) => {
                broken.push(format!("{}has {}, which is not allowed", subject(path), list(names)));
            }
            _ => {}
        }
    }
    if broken.len() == before
        && let Ok(operator) = rule.get_str("operatorName")
    {
        broken.push(describe_rule(rule, operator, path));
    }
}

fn describe_rule(rule: &Document, operator: &str, path: &str) -> String {
    let mut text = format!("{}breaks {operator}", subject(path));
    if let Some(specified) = rule.get_document("specifiedAs").ok().and_then(|rule| rule.get(operator)) {
        let _ = write!(text, " {}", abbreviated(specified));
    }
    if let Some(value) = rule.get("consideredValue") {
        let _ = write!(text, ": it is {}", abbreviated(value));
    }
    if let Ok(kind) = rule.get_str("consideredType") {
        let _ = write!(text, " ({kind})");
    }
    text
}

fn subject(path: &str) -> String {
    if path.is_empty() { "document ".to_owned() } else { format!("{path} ") }
}

fn documents(array: &[Bson]) -> impl Iterator<Item = &Document> {
    array.iter().filter_map(Bson::as_document)
}

fn list(names: &[Bson]) -> String {
    names.iter().map(|name| name.as_str().unwrap_or("?")).collect::<Vec<_>>().join(", ")
}

fn abbreviated(value: &Bson) -> String {
    let text = value.clone().into_relaxed_extjson().to_string();
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn reason_of(details: Document) -> String {
        let info = doc! { "failingDocumentId": 1, "details": details };
        reason(&Fault {
            index: 3,
            code: 121,
            message: "Document failed validation".to_owned(),
            info: Some(info),
        })
    }

    #[test]
    fn the_reason_names_fields_values_and_rules() {
        let wrong_type = doc! { "operatorName": "bsonType", "specifiedAs": { "bsonType": "double" },
        "reason": "type did not match", "consideredValue": "strong", "consideredType": "string" };
        let inner = doc! { "operatorName": "properties", "propertiesNotSatisfied": [
            { "propertyName": "gust", "details": [wrong_type] },
        ] };
        let rules = doc! { "operatorName": "$jsonSchema", "schemaRulesNotSatisfied": [
            { "operatorName": "properties", "propertiesNotSatisfied": [{ "propertyName": "wind", "details": [inner] }] },
            { "operatorName": "required", "specifiedAs": { "required": ["t"] }, "missingProperties": ["t", "u"] },
            { "operatorName": "additionalProperties", "additionalProperties": ["x"] },
        ] };
        assert_eq!(
            reason_of(rules),
            "wind.gust breaks bsonType \"double\": it is \"strong\" (string); document is missing t, u; \
             document has x, which is not allowed"
        );
    }

    #[test]
    fn a_long_reason_is_cut_and_without_rules_it_is_the_message() {
        let rule = |number: i32| doc! { "operatorName": "minimum", "consideredValue": number };
        let rules = (0..12).map(rule).collect::<Vec<_>>();
        let reason = reason_of(doc! { "operatorName": "$jsonSchema", "schemaRulesNotSatisfied": rules });
        assert!(reason.ends_with("it is 4; and 7 more"), "{reason}");
        assert_eq!(reason_of(doc! {}), "Document failed validation");
    }
}
