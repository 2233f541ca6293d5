//! The clients, and what their settings say.

use axum::response::Response;
use mysimbdp_config::Client;
use mysimbdp_model::app::Ids;
use serde::Serialize;
use utoipa::ToSchema;

use crate::extract::{Allowed, Query, Read};
use crate::page::Page;
use crate::problem::{Problem, Result};
use crate::representation::{Item, Representation};

/// A client of the platform.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClientItem {
    id: String,
    /// Globs that the names of its files must match.
    files: Vec<String>,
    /// Names of its batch apps.
    apps: Vec<String>,
    /// Of these, the ones that store files as objects.
    object_apps: Vec<String>,
    /// Names of its streams.
    streams: Vec<String>,
    /// The collections of its documents.
    collections: Vec<String>,
}

impl Item for ClientItem {
    const COLUMNS: &'static [&'static str] =
        &["id", "files", "apps", "object_apps", "streams", "collections"];
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParameters {}

/// All clients
///
/// Those of the configuration, in the order of their ids; with a token for one client only that one.
#[utoipa::path(
    get,
    path = "/api/clients",
    operation_id = "list_clients",
    tag = "clients",
    responses(
        (status = 200, description = "The clients", content(
            (Page<ClientItem> = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        Problem,
    )
)]
pub(crate) async fn list(
    allowed: Allowed<Read>,
    Query(NoParameters {}): Query<NoParameters>,
    representation: Representation,
) -> Result<Response> {
    let clients = allowed.config.clients.values().filter(|client| allowed.may_see(client.id.as_str()));
    representation.page(Page { items: clients.map(item).collect(), next: None })
}

fn item(client: &Client) -> ClientItem {
    let apps = client.apps.iter().map(|app| app.collection.clone());
    let mut collections: Vec<String> =
        apps.chain(client.streams.iter().map(|stream| stream.collection.clone())).collect();
    collections.sort_unstable();
    collections.dedup();
    ClientItem {
        id: client.id.to_string(),
        files: client.settings.files.globs.clone(),
        apps: client.apps.iter().map(|app| app.name.clone()).collect(),
        object_apps: client
            .apps
            .iter()
            .filter(|app| app.settings.ids == Ids::Object)
            .map(|app| app.name.clone())
            .collect(),
        streams: client.streams.iter().map(|stream| stream.name.clone()).collect(),
        collections,
    }
}
