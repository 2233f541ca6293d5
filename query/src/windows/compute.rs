//! Computes the windows of a range of time.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use mysimbdp_store::{Coredms, Order};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::WindowsQuery;
use super::accumulate::Accumulator;
use super::kept::Computation;
use super::segment::{Segment, Window};
use crate::error::QueryError;
use crate::records::Records;

/// A segment ends after the window with which it has this many sources and fields, some 256 KiB, or was computed from this many
/// records, which takes some 50 ms: it is what has to be computed again when one record comes.
const SEGMENT_SERIES: usize = 4_096;
const SEGMENT_RECORDS: u64 = 20_000;

/// Sources and fields that one task computes in advance. A single window may exceed it.
pub(super) const SERIES_AHEAD: usize = 8 * SEGMENT_SERIES;

/// A segment, until it is taken.
pub(super) struct Computed {
    pub(super) segment: Arc<Segment>,
    /// A part of what the task may compute in advance.
    _permit: OwnedSemaphorePermit,
}

/// What computes the windows of a range, and sends them in segments. The last one ends where the range ends.
pub(super) struct Task {
    pub(super) store: Arc<dyn Coredms>,
    pub(super) query: Arc<WindowsQuery>,
    pub(super) range: Range<i64>,
    /// Taken while records are read: bounds how many tasks of all queries do so.
    pub(super) turns: Arc<Semaphore>,
    /// Present if what is computed may be kept.
    pub(super) computation: Option<Computation>,
    pub(super) segments: mpsc::Sender<Result<Computed, QueryError>>,
    pub(super) ahead: Arc<Semaphore>,
}

impl Task {
    pub(super) async fn run(self) {
        if let Err(error) = self.compute().await {
            // Fails only if nobody waits for it.
            let _ = self.segments.send(Err(error)).await;
        }
    }

    async fn compute(&self) -> Result<(), QueryError> {
        let mut turn = self.turn().await;
        let began = Instant::now();
        let query = &*self.query;
        let records_query = query.records(&self.range, Order::Ascending);
        let mut records = Records::open(Arc::clone(&self.store), records_query, Arc::default()).await?;
        let mut accumulator = Accumulator::new(query);
        let mut segment = Segment::empty(self.range.start..self.range.start, began);
        let (mut window, mut series) = (self.range.start, 0);
        while let Some((time, record)) = records.next().await? {
            let Some(start) = query.window_of(time) else { continue };
            // It has a time that is not in the order of the values that the store compares.
            if start < window || start >= self.range.end {
                continue;
            }
            if start > window {
                series += push(&mut segment, accumulator.finish(window));
                window = start;
                if series >= SEGMENT_SERIES || segment.records >= SEGMENT_RECORDS {
                    segment.range.end = start;
                    let next = Segment::empty(start..start, began);
                    drop(turn);
                    if !self.send(std::mem::replace(&mut segment, next)).await {
                        return Ok(());
                    }
                    turn = self.turn().await;
                    series = 0;
                }
            }
            segment.records += 1;
            accumulator.add(query, record)?;
        }
        drop(turn);
        push(&mut segment, accumulator.finish(window));
        segment.range.end = self.range.end;
        self.send(segment).await;
        Ok(())
    }

    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// Returns whether somebody waits for it.
    async fn send(&self, segment: Segment) -> bool {
        let segment = Arc::new(segment);
        if let Some(computation) = &self.computation {
            computation.keep(&segment);
        }
        let size = segment.series().clamp(1, SERIES_AHEAD) as u32;
        let Ok(permit) = Arc::clone(&self.ahead).acquire_many_owned(size).await else { return false };
        self.segments.send(Ok(Computed { segment, _permit: permit })).await.is_ok()
    }
}

fn push(segment: &mut Segment, window: Option<Window>) -> usize {
    let Some(window) = window else { return 0 };
    let series = window.stats.len();
    segment.windows.push(Arc::new(window));
    series
}
