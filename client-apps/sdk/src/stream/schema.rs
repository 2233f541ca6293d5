//! Checks messages against the JSON Schema in the client's config.

use serde_json::Value;

use crate::Rejection;
use crate::failure::Failure;

/// A compiled schema.
#[derive(Debug)]
pub(super) struct MessageSchema {
    #[cfg(feature = "schema")]
    validator: jsonschema::Validator,
}

#[cfg(feature = "schema")]
impl MessageSchema {
    /// The most violations of one message that are listed.
    const VIOLATIONS_MAX: usize = 5;

    /// # Errors
    ///
    /// [`Failure::Config`] if it is not a JSON Schema.
    pub(super) fn compile(schema: &Value) -> Result<Self, Failure> {
        let validator = jsonschema::validator_for(schema).map_err(|error| {
            Failure::Config(format!("message schema is not a valid JSON Schema: {error}"))
        })?;
        Ok(Self { validator })
    }

    /// # Errors
    ///
    /// The reasons why this content does not fit the schema.
    pub(super) fn check(&self, content: &[u8]) -> Result<(), Rejection> {
        let value = serde_json::from_slice(content).map_err(|error| format!("not JSON: {error}"))?;
        let violations: Vec<String> = self
            .validator
            .iter_errors(&value)
            .take(Self::VIOLATIONS_MAX)
            .map(|violation| match violation.instance_path().as_str() {
                "" => violation.to_string(),
                path => format!("{path}: {violation}"),
            })
            .collect();
        if violations.is_empty() { Ok(()) } else { Err(violations.join("; ").into()) }
    }
}

/// Without the feature, every schema is refused.
#[cfg(not(feature = "schema"))]
impl MessageSchema {
    /// # Errors
    ///
    /// Always: if the config requires a check, messages must not be stored unchecked.
    pub(super) fn compile(_: &Value) -> Result<Self, Failure> {
        let text =
            "this app was built without message schemas: expected the cargo feature `schema` of mysimbdp-sdk";
        Err(Failure::Config(text.to_owned()))
    }

    pub(super) fn check(&self, _: &[u8]) -> Result<(), Rejection> {
        Ok(())
    }
}
