//! Reads the settings and the unit header of a batch app from its environment.

use jiff::Timestamp;
use mysimbdp_model::app::{Ids, Phase, Protocol, UnitHeader, env};
use mysimbdp_model::manifest::Format;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::identity::{Identity, Provenance};

/// What is the same for all units of a process.
#[derive(Clone, Debug)]
pub struct BatchAppSettings {
    /// How units arrive: one per process, or one after the other.
    pub protocol: Protocol,
    /// Address of the store: `mongodb://…` or `sqlite:<directory>`.
    pub coredms: String,
    /// The client's database.
    pub database: String,
    /// The collection for records; for objects, the bucket.
    pub collection: String,
    /// What the `_id` of a record is made of.
    pub ids: Ids,
    /// With `ids: "key"`: the fields that identify a record.
    pub record_key: Vec<String>,
}

impl BatchAppSettings {
    /// Reads the settings from an environment, given as a function from name to value.
    ///
    /// # Errors
    ///
    /// [`Failure::Config`] with everything that is missing or wrong.
    pub fn from_environment(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let mut read = Environment::new(get);
        let (ids, record_key) = read.ids(env::IDS, env::RECORD_KEY);
        let settings = Self {
            protocol: read.variant(env::PROTOCOL),
            coredms: read.text(env::COREDMS),
            database: read.text(env::DATABASE),
            collection: read.text(env::COLLECTION),
            ids,
            record_key,
        };
        read.finish(settings)
    }

    /// Returns what the `_id` of the records of `unit` is made of.
    ///
    /// # Errors
    ///
    /// [`Failure::Config`] for `ids: "object"`, which has no records, and if the header's ingestion is invalid.
    pub fn identity(&self, unit: &UnitHeader) -> Result<Identity, Failure> {
        let ingestion = || {
            unit.ingestion.parse().map_err(|error| Failure::Config(format!("{}: {error}", env::INGESTION)))
        };
        match self.ids {
            Ids::Platform => Ok(Identity::Platform(ingestion()?)),
            Ids::Key => Ok(Identity::Key {
                fields: self.record_key.clone(),
                provenance: Provenance::Batch {
                    received_at: unit.received_at,
                    ingestion: ingestion()?,
                    run: unit.replace,
                },
            }),
            Ids::None if unit.replace.is_some() => Err(Failure::Config(format!(
                "invalid {} \"none\": a run that replaces needs ids that identify the documents",
                env::IDS
            ))),
            Ids::None => Ok(Identity::Own),
            Ids::Object => Err(Failure::Config(format!(
                "invalid {} \"object\": it is for apps that store whole files; for records expected platform, key or none",
                env::IDS
            ))),
        }
    }
}

/// Reads the header of the unit of the `stdin` protocol.
pub(crate) fn header_from_environment(get: &dyn Fn(&str) -> Option<String>) -> Result<UnitHeader, Failure> {
    let mut read = Environment::new(get);
    let format = read.text(env::FORMAT);
    let header = UnitHeader {
        client_id: read.text(env::CLIENT_ID),
        ingestion: read.text(env::INGESTION),
        file: read.text(env::FILE),
        format: serde_json::from_value(format.into()).unwrap_or_else(|error| {
            read.problem(format!("{}: {error}", env::FORMAT));
            Format::Binary
        }),
        encoding: read.optional(env::ENCODING).unwrap_or_else(|| "utf-8".to_owned()),
        batch_index: read.parsed(env::BATCH_INDEX, 0),
        batch_count: read.parsed(env::BATCH_COUNT, 1),
        first_record: read.required(env::FIRST_RECORD).unwrap_or_default(),
        records: read.required(env::RECORDS).unwrap_or_default(),
        offset: read.required(env::OFFSET).unwrap_or_default(),
        length: read.required(env::LENGTH).unwrap_or_default(),
        file_bytes: read.required(env::FILE_BYTES).unwrap_or_default(),
        received_at: read.required(env::RECEIVED_AT).unwrap_or(Timestamp::UNIX_EPOCH),
        attempt: read.parsed(env::ATTEMPT, 1),
        phase: read.variant::<Phase>(env::PHASE),
        columns: read.json(env::COLUMNS),
        replace: match read.optional(env::REPLACE) {
            Some(_) => read.required(env::REPLACE),
            None => None,
        },
    };
    read.finish(header)
}

#[cfg(test)]
mod tests {
    use mysimbdp_model::column::{ColumnType, ColumnValues};

    use super::*;

    #[test]
    fn all_problems_are_reported_at_once() {
        let get = |name: &str| match name {
            env::IDS => Some("key".to_owned()),
            env::PROTOCOL => Some("pipe".to_owned()),
            env::DATABASE => Some("db".to_owned()),
            _ => None,
        };
        let error = BatchAppSettings::from_environment(&get).expect_err("several problems").to_string();
        for name in [env::COREDMS, env::COLLECTION, env::RECORD_KEY, env::PROTOCOL] {
            assert!(error.contains(name), "{error:?} does not name {name}");
        }
        assert!(!error.contains(env::DATABASE));
    }

    #[test]
    fn a_header_is_read_from_the_environment_as_it_was_written() {
        let header = UnitHeader {
            client_id: "client1".to_owned(),
            ingestion: "0".repeat(32),
            file: "a b.csv".to_owned(),
            format: Format::Csv,
            encoding: "iso-8859-1".to_owned(),
            batch_index: 3,
            batch_count: 5,
            first_record: 100,
            records: 50,
            offset: 4_000,
            length: 2_000,
            file_bytes: 10_000,
            received_at: "2026-11-21T03:22:11.5Z".parse().expect("a time"),
            attempt: 2,
            phase: Phase::Join,
            columns: vec![ColumnValues { kind: ColumnType::Double, except: vec!["N/A".to_owned()] }],
            replace: Some("2026-11-22T00:00:00.001Z".parse().expect("a time")),
        };
        let pairs = header.to_env();
        let get = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
        assert_eq!(header_from_environment(&get).expect("complete"), header);
    }
}
