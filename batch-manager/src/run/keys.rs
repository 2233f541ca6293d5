//! Looks up whether each key that a program with ids "key" lists is in coredms, while the program works.

use std::sync::Arc;

use bson::Bson;
use mysimbdp_store::{Coredms, CoredmsError, EarlierRuns};
use serde_json::Value;

/// Keys that are looked up at a time. At most this many and those of one line wait.
const KEYS_AT_A_TIME: usize = 1000;

/// Characters of a key that become part of a reason.
const KEY_CHARS_MAX: usize = 100;

/// The keys that a program has listed as stored or found to exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// How many, including repeated ones.
    pub listed: u64,
    /// The first that is not in coredms.
    pub missing: Option<String>,
    /// Documents that the run should have replaced, but that an earlier run of its content was the last to write.
    pub not_replaced: u64,
}

/// Checks the keys of a unit against coredms.
#[derive(Debug)]
pub struct KeyCheck {
    store: Arc<dyn Coredms>,
    collection: String,
    /// If more keys are listed than this, the report is not believed in any case.
    records: u64,
    /// The runs that this one replaces.
    earlier: Option<EarlierRuns>,
    keys: Keys,
    /// Not yet looked up. They stay here during the look-up, which may be cancelled and repeated.
    waiting: Vec<Bson>,
    failure: Option<CoredmsError>,
}

impl KeyCheck {
    pub fn new(
        store: Arc<dyn Coredms>,
        collection: String,
        records: u64,
        earlier: Option<EarlierRuns>,
    ) -> Self {
        let (keys, waiting) = (Keys::default(), Vec::new());
        Self { store, collection, records, earlier, keys, waiting, failure: None }
    }

    /// Adds the keys of a line; once there are enough, the program has to wait until they are looked up.
    pub(super) async fn add(&mut self, keys: Vec<Value>) {
        self.keys.listed += keys.len() as u64;
        for key in keys {
            if self.is_decided() {
                return;
            }
            match Bson::try_from(key.clone()) {
                Ok(key) => self.waiting.push(key),
                Err(_) => self.keys.missing = Some(abbreviated(&key)),
            }
        }
        if self.waiting.len() >= KEYS_AT_A_TIME {
            self.look_up().await;
        }
    }

    /// Looks up the remaining keys.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub(super) async fn finish(mut self) -> Result<Keys, CoredmsError> {
        self.look_up().await;
        match self.failure {
            // Otherwise the report is wrong already, whatever the store would have answered.
            Some(error) if self.keys.missing.is_none() && self.keys.listed <= self.records => Err(error),
            _ => Ok(self.keys),
        }
    }

    /// Whether the result is certain, whatever keys follow.
    fn is_decided(&self) -> bool {
        self.failure.is_some() || self.keys.missing.is_some() || self.keys.listed > self.records
    }

    async fn look_up(&mut self) {
        for asked in self.waiting.chunks(KEYS_AT_A_TIME) {
            if self.failure.is_some() || self.keys.missing.is_some() {
                break;
            }
            match self.store.missing_ids(&self.collection, asked.to_vec()).await {
                Ok(missing) => {
                    let first = missing.first().and_then(|position| asked.get(*position));
                    self.keys.missing = first.map(|key| abbreviated(&key.clone().into_relaxed_extjson()));
                }
                Err(error) => self.failure = Some(error),
            }
            if let Some(runs) = self.earlier {
                match self.store.count_written_by(&self.collection, asked.to_vec(), runs).await {
                    Ok(documents) => self.keys.not_replaced += documents,
                    Err(error) => self.failure = Some(error),
                }
            }
        }
        self.waiting.clear();
    }
}

fn abbreviated(key: &Value) -> String {
    let text = key.to_string();
    if text.chars().count() <= KEY_CHARS_MAX {
        text
    } else {
        text.chars().take(KEY_CHARS_MAX).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use serde_json::json;

    use super::*;

    async fn check_keys(lines: &[Value], records: u64) -> Keys {
        let directory = tempfile::tempdir().expect("temporary directory");
        let url = format!("sqlite:{}", directory.path().display());
        let store = mysimbdp_store::open(&url, "keys").await.expect("open");
        for id in [
            Bson::from(1),
            "a".into(),
            Bson::DateTime(bson::DateTime::from_millis(5)),
            doc! { "x": 1, "y": 2 }.into(),
        ] {
            store.put("app", doc! { "_id": id }).await.expect("put");
        }
        let mut check = KeyCheck::new(store, "app".to_owned(), records, None);
        for line in lines {
            check.add(line.as_array().expect("a list").clone()).await;
        }
        check.finish().await.expect("the store is available")
    }

    #[tokio::test]
    async fn keys_equal_those_in_the_store_and_repeats_count() {
        let keys = check_keys(
            &[json!([1, "a", 1.0]), json!([{ "$date": { "$numberLong": "5" } }, { "x": 1, "y": 2 }])],
            5,
        )
        .await;
        assert_eq!(keys, Keys { listed: 5, ..Keys::default() });
    }

    #[tokio::test]
    async fn the_first_missing_key_is_named() {
        for (key, missing) in [
            (json!(2), "2"),
            (json!({ "y": 2, "x": 1 }), r#"{"y":2,"x":1}"#),
            (json!({ "$oid": "none" }), r#"{"$oid":"none"}"#),
            (json!({ "$gt": 0 }), r#"{"$gt":0}"#),
            (json!([1]), "[1]"),
        ] {
            let keys = check_keys(&[json!([1]), json!([key, "z"])], 3).await;
            assert_eq!(keys, Keys { listed: 3, missing: Some(missing.to_owned()), not_replaced: 0 });
        }
    }

    #[tokio::test]
    async fn a_flood_is_counted_and_not_looked_up() {
        let line = json!(vec![1; 5_000]);
        let keys = check_keys(&[line.clone(), json!(["not there"]), line], 1).await;
        assert_eq!(keys, Keys { listed: 10_001, ..Keys::default() });
    }
}
