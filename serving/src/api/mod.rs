//! The handlers, one module for each kind of resource.

pub(crate) mod access;
pub(crate) mod arrivals;
pub(crate) mod clients;
pub(crate) mod drops;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod ingestions;
pub(crate) mod latest;
pub(crate) mod measurements;
pub(crate) mod metrics;
pub(crate) mod objects;
pub(crate) mod queues;
pub(crate) mod records;
pub(crate) mod rejected;
pub(crate) mod streams;
pub(crate) mod views;
pub(crate) mod windows;

use std::borrow::Cow;

use mysimbdp_query::file_list::FileState;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Describes [`FileState`] in the OpenAPI document.
pub(crate) struct FileStateSchema;

impl PartialSchema for FileStateSchema {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(file_state_names())).into()
    }
}

impl ToSchema for FileStateSchema {
    fn name() -> Cow<'static, str> {
        "FileState".into()
    }
}

pub(crate) fn file_state_names() -> [&'static str; FileState::ALL.len()] {
    FileState::ALL.map(FileState::as_str)
}

/// Describes any bytes in the OpenAPI document.
pub(crate) struct Binary;

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

impl ToSchema for Binary {}
