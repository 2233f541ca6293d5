//! The JSON Schema of `config.json`, generated from the types in [`settings`](super::settings).

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use super::settings::Settings;

/// The JSON Schema of `config.json`, as committed in `docs/config.schema.json`.
pub fn schema_json() -> String {
    format!("{:#}\n", schema())
}

pub(super) fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(simplify));
    settings.into_generator().into_root_schema_for::<Settings>().to_value()
}

/// Removes `null` from the schema. An optional setting is left out, not set to `null`: there is one way to write it, and
/// one message if it is written wrongly.
fn simplify(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [single] = types.as_slice() {
            let single = single.clone();
            object.insert("type".to_owned(), single);
        }
    }
    if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
        branches.retain(|branch| branch.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(single)] = branches.as_slice() {
            let single = single.clone();
            object.remove("anyOf");
            object.extend(single);
        }
    }
    // The default of a whole section only repeats those of its settings.
    if object.get("default").is_some_and(|default| default.is_null() || default.is_object()) {
        object.remove("default");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The committed copy is for editors and readers. To update it: `UPDATE_SCHEMA=1 cargo test -p mysimbdp-config`.
    #[test]
    #[allow(clippy::disallowed_methods)]
    fn the_committed_schema_is_that_of_the_types() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.schema.json");
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(file, schema_json()).expect("docs/ can be written");
        }
        let committed = std::fs::read_to_string(file).expect("docs/config.schema.json is there");
        assert!(
            committed == schema_json(),
            "docs/config.schema.json is out of date: run UPDATE_SCHEMA=1 cargo test -p mysimbdp-config schema"
        );
    }

    #[test]
    fn no_setting_may_be_null() {
        assert!(!schema_json().contains("null"), "{}", schema_json());
    }

    #[test]
    fn every_text_with_a_pattern_says_what_is_allowed() {
        fn check(part: &Value, found: &mut usize) {
            match part {
                Value::Object(object) => {
                    if object.get("pattern").is_some_and(Value::is_string) {
                        *found += 1;
                        assert!(object.contains_key(super::super::explain::ALLOWED_TEXT), "{part}");
                    }
                    object.values().for_each(|part| check(part, found));
                }
                Value::Array(parts) => parts.iter().for_each(|part| check(part, found)),
                _ => {}
            }
        }
        let mut found = 0;
        check(&schema(), &mut found);
        assert!(found >= 8, "only {found} patterns");
    }
}
