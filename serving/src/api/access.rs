//! What the caller may do.

use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::clients::NoParameters;
use crate::extract::Query;
use crate::tokens::{Caller, Right};

/// What the caller may do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Access {
    /// `read`: see everything; `drop`: drop files; `operate`: retry files, start, stop and scale streams.
    #[schema(value_type = Vec<String>)]
    rights: Vec<Right>,
    /// The clients for which it may do so; null: for all of them.
    clients: Option<Vec<String>>,
    /// The name of its token; absent if the server requires none.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// What the caller may do
///
/// With the token of this request; without tokens everything is allowed.
#[utoipa::path(
    get,
    path = "/api/access",
    operation_id = "get_access",
    tag = "access",
    responses(
        (status = 200, description = "The rights of the caller", body = Access),
        crate::problem::Problem,
    )
)]
pub(crate) async fn get(
    Extension(caller): Extension<Caller>,
    Query(NoParameters {}): Query<NoParameters>,
) -> Json<Access> {
    Json(Access {
        rights: caller.rights().to_vec(),
        clients: caller.only_client().map(|client| vec![client.to_string()]),
        name: caller.token_name().map(str::to_owned),
    })
}
