//! What was measured over time, as fine as it is drawn.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use mysimbdp_platform::clock;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::extract::{Allowed, Query, Read, number, time};
use crate::measurements::{Line, Metric, Range};
use crate::problem::{Problem, Result};
use crate::server::Server;

const POINTS_DEFAULT: u32 = 300;
const POINTS_MAX: u32 = 2_000;
/// What is kept.
const SECONDS_MAX: i64 = 86_400;
const SECONDS_DEFAULT: i64 = 3_600;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Parameters {
    /// Only the measurements of this client.
    client: Option<String>,
    /// The beginning; an hour before `until` by default.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// The end, exclusive; now by default, and at most a day after `from`.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// About how many points a line has at most, such as the pixels of a plot.
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1, maximum = 2000, default = 300)]
    points: Option<u32>,
}

/// Lines over the same steps of time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Measurements {
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
    step_seconds: i64,
    /// When the steps begin.
    #[schema(value_type = Vec<String>)]
    times: Vec<Timestamp>,
    series: Vec<SeriesItem>,
}

/// A line. What has been 0 since the server started is none.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MeasuredSeries)]
pub(crate) struct SeriesItem {
    metric: Metric,
    unit: &'static str,
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    /// Of files that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// The mean of each step; null if nothing was measured in it.
    mean: Vec<Option<f32>>,
    /// The greatest number of each step.
    max: Vec<Option<f32>>,
}

/// What was measured over time
///
/// Every five seconds for an hour, and as means and maxima of a minute for a day, since the server was started.
#[utoipa::path(
    get,
    path = "/api/measurements",
    operation_id = "get_measurements",
    tag = "health",
    params(Parameters),
    responses((status = 200, description = "The lines", body = Measurements), Problem)
)]
pub(crate) async fn get(
    State(server): State<Arc<Server>>,
    allowed: Allowed<Read>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<Measurements>> {
    let only = allowed.client(parameters.client.as_deref())?;
    let now = clock::now().as_second();
    let range = range(&parameters, now)?;
    let step_seconds = range.step_seconds(now);
    let times = range.steps(step_seconds).map(timestamp).collect();
    let lines = server.measurements.read(range, now, only.as_ref().map(|client| client.as_str()));
    Ok(Json(Measurements {
        from: timestamp(range.from),
        until: timestamp(range.until),
        step_seconds,
        times,
        series: lines.into_iter().map(item).collect(),
    }))
}

fn range(parameters: &Parameters, now: i64) -> Result<Range> {
    let until = parameters.until.map_or(now, Timestamp::as_second);
    let from = parameters.from.map_or(until - SECONDS_DEFAULT, Timestamp::as_second);
    if !(1..=SECONDS_MAX).contains(&(until - from)) {
        let expected = "expected an until that is later than from, and at most a day later";
        return Err(Problem::invalid(format!("invalid from and until: {expected}")));
    }
    match parameters.points.unwrap_or(POINTS_DEFAULT) {
        points_max @ 1..=POINTS_MAX => Ok(Range { from, until, points_max }),
        other => Err(Problem::invalid(format!("invalid points {other}: expected 1 to {POINTS_MAX}"))),
    }
}

fn timestamp(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or_default()
}

fn item((measured, line): Line) -> SeriesItem {
    SeriesItem {
        metric: measured.metric,
        unit: measured.metric.unit(),
        client: measured.client,
        stream: measured.stream,
        state: measured.state,
        mean: line.iter().map(|point| point.map(|(mean, _)| mean)).collect(),
        max: line.iter().map(|point| point.map(|(_, max)| max)).collect(),
    }
}
