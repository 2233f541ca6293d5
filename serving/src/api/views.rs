//! The views of a client.

use axum::response::Response;
use mysimbdp_config::settings::{SourceType, TimeType};
use mysimbdp_config::{View, ViewKind};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::clients::NoParameters;
use crate::extract::{Query, Read, Tenant};
use crate::page::Page;
use crate::problem::{Problem, Result};
use crate::representation::{Item, Representation};

/// A view: the records of one or both layers in the order of their time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ViewItem {
    name: String,
    kind: ViewKindItem,
    /// The collection of the batch layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<String>,
    /// The collection of the speed layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    /// The field by which records are ordered.
    time: String,
    /// How it is stored: date, text, seconds or milliseconds.
    #[schema(value_type = String)]
    time_type: TimeType,
    /// The field that the parameter `source` compares; absent if the view has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// What its values are: text or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    source_type: Option<SourceType>,
    /// The fields that identify a record in both layers.
    key: Vec<String>,
}

/// What a view does with the records of both layers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ViewKindItem {
    /// Records of the batch layer override those of the speed layer with the same key.
    Override,
    /// All records are in the view.
    Union,
}

impl Item for ViewItem {
    const COLUMNS: &'static [&'static str] =
        &["name", "kind", "batch", "stream", "time", "time_type", "source", "source_type", "key"];
}

/// The views of a client
///
/// Each is a list of records, which `/api/clients/{client}/records` reads.
#[utoipa::path(
    get,
    path = "/api/clients/{client}/views",
    operation_id = "list_views",
    tag = "records",
    params(("client" = String, Path)),
    responses(
        (status = 200, description = "The views", content(
            (Page<ViewItem> = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        Problem,
    )
)]
pub(crate) async fn list(
    tenant: Tenant<Read>,
    Query(NoParameters {}): Query<NoParameters>,
    representation: Representation,
) -> Result<Response> {
    let views = tenant.client().views.values();
    representation.page(Page { items: views.map(item).collect(), next: None })
}

fn item(view: &View) -> ViewItem {
    ViewItem {
        name: view.name.clone(),
        kind: match view.kind() {
            ViewKind::Override => ViewKindItem::Override,
            ViewKind::Union => ViewKindItem::Union,
        },
        batch: view.batch.as_ref().map(|layer| layer.collection.clone()),
        stream: view.stream.as_ref().map(|layer| layer.collection.clone()),
        time: view.time.clone(),
        time_type: view.time_type,
        source: view.source.clone(),
        source_type: view.source.as_ref().map(|_| view.source_type),
        key: view.key.clone(),
    }
}
