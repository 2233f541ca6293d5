//! Where the records of a query begin and end.

use std::ops::Range;
use std::sync::Arc;

use mysimbdp_store::{Coredms, Order};

use super::WindowsQuery;
use crate::error::QueryError;
use crate::records::Records;
use crate::records::time::RecordTime;

/// Returns the beginning of the first window of a range that has a record.
pub(super) async fn first_window(
    store: &Arc<dyn Coredms>,
    query: &WindowsQuery,
    range: &Range<i64>,
) -> Result<Option<i64>, QueryError> {
    find(store, query, range, Order::Ascending, |time| query.window_of(time)).await
}

/// Returns the newest time in a view, whatever its source, in milliseconds since 1970.
pub(super) async fn newest(
    store: &Arc<dyn Coredms>,
    query: &WindowsQuery,
) -> Result<Option<i64>, QueryError> {
    let all = WindowsQuery { source: None, fields: Vec::new(), ..query.clone() };
    let ends = i64::MIN..i64::MAX;
    find(store, &all, &ends, Order::Descending, |time| time.millis(query.view.time_type)).await
}

/// Returns what the first record has for which there is something.
async fn find(
    store: &Arc<dyn Coredms>,
    query: &WindowsQuery,
    range: &Range<i64>,
    order: Order,
    of: impl Fn(&RecordTime) -> Option<i64>,
) -> Result<Option<i64>, QueryError> {
    let mut query = WindowsQuery { fields: Vec::new(), ..query.clone() }.records(range, order);
    query.expected = 1;
    let mut records = Records::open(Arc::clone(store), query, Arc::default()).await?;
    while let Some((time, _)) = records.next().await? {
        if let Some(found) = of(time) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
