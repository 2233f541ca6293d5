//! (being written)

/// The JSON Schema of `config.json`.
pub fn schema_json() -> String {
    String::new()
}
