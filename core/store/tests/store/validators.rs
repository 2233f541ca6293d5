//! Validators: the embedded store reads `$jsonSchema` as MongoDB does, and MongoDB is the reference.

use bson::{Bson, doc};

use crate::fixture::{TestDatabase, raw};

pub(crate) async fn each_keyword_accepts_valid_values_and_rejects_others(database: &TestDatabase) {
    let cases = [
        (doc! { "bsonType": "double" }, vec![1.5.into()], vec![1.into(), "1".into(), Bson::Null]),
        (doc! { "bsonType": ["int", "null"] }, vec![1.into(), Bson::Null], vec![1_i64.into(), 1.0.into()]),
        (doc! { "bsonType": "number" }, vec![1.into(), 1_i64.into(), 1.5.into()], vec!["1".into()]),
        (doc! { "type": "boolean" }, vec![true.into()], vec![0.into()]),
        (
            doc! { "enum": ["a", 5, null] },
            vec!["a".into(), 5.0.into(), Bson::Null],
            vec!["b".into(), 6.into()],
        ),
        (doc! { "minimum": 1 }, vec![1.into(), "a".into()], vec![0.9.into(), f64::NAN.into()]),
        (doc! { "minimum": 1, "exclusiveMinimum": true }, vec![2.into()], vec![1.into()]),
        (doc! { "maximum": 1, "exclusiveMaximum": true }, vec![0.into()], vec![1.into()]),
        (doc! { "multipleOf": 2.5 }, vec![5.into()], vec![4.into()]),
        (doc! { "minLength": 1, "maxLength": 2 }, vec!["üü".into(), 5.into()], vec!["".into(), "abc".into()]),
        (doc! { "pattern": "^a" }, vec!["ab".into()], vec!["ba".into()]),
        (
            doc! { "items": { "bsonType": "int" }, "uniqueItems": true, "maxItems": 2 },
            vec![Bson::Array(vec![1.into(), 2.into()])],
            vec![
                Bson::Array(vec!["a".into()]),
                Bson::Array(vec![1.into(), 1.into()]),
                Bson::Array(vec![1.into(), 2.into(), 3.into()]),
            ],
        ),
        (
            doc! { "items": [{ "bsonType": "int" }], "additionalItems": false },
            vec![Bson::Array(vec![1.into()])],
            vec![Bson::Array(vec![1.into(), 2.into()])],
        ),
        (
            doc! { "properties": { "a": { "bsonType": "int" } }, "patternProperties": { "^x": {} },
            "additionalProperties": false, "required": ["a"], "maxProperties": 2 },
            vec![doc! { "a": 1 }.into(), doc! { "a": 1, "xy": "z" }.into(), 5.into()],
            vec![doc! {}.into(), doc! { "a": "1" }.into(), doc! { "a": 1, "b": 1 }.into()],
        ),
        (
            doc! { "dependencies": { "a": ["b"], "c": { "required": ["d"] } } },
            vec![doc! {}.into(), doc! { "a": 1, "b": 1 }.into()],
            vec![doc! { "a": 1 }.into(), doc! { "c": 1 }.into()],
        ),
        (
            doc! { "anyOf": [{ "bsonType": "int" }, { "minimum": 5 }] },
            vec![1.into(), 5.5.into()],
            vec![1.5.into()],
        ),
        (
            doc! { "oneOf": [{ "bsonType": "int" }, { "minimum": 5 }] },
            vec![1.into(), 5.5.into()],
            vec![6.into()],
        ),
        (doc! { "not": { "bsonType": "null" } }, vec![1.into()], vec![Bson::Null]),
        (doc! { "allOf": [{ "minimum": 1 }, { "maximum": 2 }] }, vec![1.into()], vec![3.into()]),
    ];
    let store = database.open().await;
    for (number, (schema, fitting, breaking)) in cases.into_iter().enumerate() {
        let collection = format!("case{number}");
        let validator = doc! { "properties": { "v": schema } };
        store.ensure_collection(&collection, Some(&validator)).await.expect("collection");
        let values = fitting.iter().chain(&breaking).enumerate();
        let documents = values.map(|(id, value)| raw(doc! { "_id": id as i64, "v": value }));
        let written = store.insert_many(&collection, documents.collect()).await.expect("insert");
        let rejected = written.rejected.iter().map(|(position, _)| *position);
        assert!(rejected.eq(fitting.len()..fitting.len() + breaking.len()), "{validator} {written:?}");
    }
}

pub(crate) async fn schemas_that_mongodb_refuses_are_refused(database: &TestDatabase) {
    let store = database.open().await;
    for bad in [
        doc! { "$ref": "#/a" },
        doc! { "format": "date-time" },
        doc! { "default": 1 },
        doc! { "propertys": {} },
        doc! { "type": "integer" },
        doc! { "type": "string", "bsonType": "string" },
        doc! { "bsonType": "text" },
        doc! { "bsonType": [] },
        doc! { "required": [] },
        doc! { "required": "a" },
        doc! { "minimum": "1" },
        doc! { "exclusiveMinimum": 3 },
        doc! { "minLength": -1 },
        doc! { "multipleOf": 0 },
        doc! { "properties": { "a": 1 } },
        doc! { "properties": { "a": { "bsonTypo": "int" } } },
        doc! { "anyOf": [] },
        doc! { "items": true },
    ] {
        let error = store.ensure_collection("refused", Some(&bad)).await.expect_err("bad validator");
        assert!(!error.is_retryable(), "{bad}: {error}");
    }
}
