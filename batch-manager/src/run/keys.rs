//! The keys that a program with ids "key" lists: whether each of them is in coredms, looked up while it works.

use std::sync::Arc;

use bson::Bson;
use mysimbdp_store::{Coredms, CoredmsError, EarlierRuns};
use serde_json::Value;

/// Keys that are looked up at a time. What waits for it is at most this and one line.
const KEYS_AT_A_TIME: usize = 1000;

/// Characters of a key that become part of a reason.
const SHOWN_MAX: usize = 100;

/// What a program has listed as stored or found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// With repeats.
    pub listed: u64,
    /// The first that is not in coredms.
    pub missing: Option<String>,
    /// Documents that are not replaced, although the run replaces: earlier runs of its content were the last to write them.
    pub not_replaced: u64,
}

/// Where the keys of a unit must be found.
#[derive(Debug)]
pub struct KeyCheck {
    store: Arc<dyn Coredms>,
    collection: String,
    /// One more key than the unit has records, and the report is not believed whatever comes.
    records: u64,
    /// Those that the run replaces.
    earlier: Option<EarlierRuns>,
    keys: Keys,
    /// Not yet looked up. It stays here while that is done, as it may be cut off and done again.
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

    /// Takes the keys of a line; where enough are together, the program has to wait until they are looked up.
    pub(super) async fn take(&mut self, keys: Vec<Value>) {
        self.keys.listed += keys.len() as u64;
        for key in keys {
            if self.is_decided() {
                return;
            }
            match Bson::try_from(key.clone()) {
                Ok(key) => self.waiting.push(key),
                Err(_) => self.keys.missing = Some(shown(&key)),
            }
        }
        if self.waiting.len() >= KEYS_AT_A_TIME {
            self.look_up().await;
        }
    }

    /// Looks up what is left.
    ///
    /// # Errors
    ///
    /// The store could not be asked.
    pub(super) async fn finish(mut self) -> Result<Keys, CoredmsError> {
        self.look_up().await;
        match self.failure {
            // Nothing that the store could say would make the report true.
            Some(error) if self.keys.missing.is_none() && self.keys.listed <= self.records => Err(error),
            _ => Ok(self.keys),
        }
    }

    /// Whether no key that comes can change anything any more.
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
                    self.keys.missing = first.map(|key| shown(&key.clone().into_relaxed_extjson()));
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

fn shown(key: &Value) -> String {
    let text = key.to_string();
    if text.chars().count() <= SHOWN_MAX {
        text
    } else {
        text.chars().take(SHOWN_MAX).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use serde_json::json;

    use super::*;

    async fn heard(lines: &[Value], records: u64) -> Keys {
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
            check.take(line.as_array().expect("a list").clone()).await;
        }
        check.finish().await.expect("the store is there")
    }

    #[tokio::test]
    async fn keys_are_what_they_are_in_the_store_and_repeats_count() {
        let keys = heard(
            &[json!([1, "a", 1.0]), json!([{ "$date": { "$numberLong": "5" } }, { "x": 1, "y": 2 }])],
            5,
        )
        .await;
        assert_eq!(keys, Keys { listed: 5, ..Keys::default() });
    }

    #[tokio::test]
    async fn the_first_that_is_not_there_is_named() {
        for (key, missing) in [
            (json!(2), "2"),
            (json!({ "y": 2, "x": 1 }), r#"{"y":2,"x":1}"#),
            (json!({ "$oid": "none" }), r#"{"$oid":"none"}"#),
            (json!({ "$gt": 0 }), r#"{"$gt":0}"#),
            (json!([1]), "[1]"),
        ] {
            let keys = heard(&[json!([1]), json!([key, "z"])], 3).await;
            assert_eq!(keys, Keys { listed: 3, missing: Some(missing.to_owned()), not_replaced: 0 });
        }
    }

    #[tokio::test]
    async fn a_flood_is_counted_and_not_looked_up() {
        let line = json!(vec![1; 5_000]);
        let keys = heard(&[line.clone(), json!(["not there"]), line], 1).await;
        assert_eq!(keys, Keys { listed: 10_001, ..Keys::default() });
    }
}
