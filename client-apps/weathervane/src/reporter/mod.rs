//! Computes the report of each closed hour, once the hour is closed, and stores it in one document.
//!
//! Level-triggered: the message that an hour is closed only starts a cycle sooner. If anything goes wrong, the hour stays
//! without a report and the next cycle computes it again: a report is never incomplete.

mod report;

use mysimbdp_broker::consumer::Consumer;
use mysimbdp_sdk::Failure;
use mysimbdp_sdk::stream::StreamAppSettings;

use crate::batch::Reading;
use crate::instance::{self, Cycle};
use crate::stored::{ByHour, Closed, WeatherStore};
use report::HourReport;

#[derive(Debug)]
struct Reporter {
    store: WeatherStore,
    is_prepared: bool,
}

/// The closed hours of a day.
struct Day {
    name: String,
    closed: Vec<Closed>,
    batches: ByHour,
}

/// # Errors
///
/// The environment is wrong, or another process has taken over the session. An unavailable broker or store is not an error.
pub async fn run(settings: &StreamAppSettings) -> Result<(), Failure> {
    let store = WeatherStore::new(mysimbdp_store::open(&settings.coredms, &settings.database).await?);
    let ended = instance::serve(settings, Reporter { store: store.clone(), is_prepared: false }).await;
    store.close_connection().await;
    ended
}

impl Cycle for Reporter {
    async fn run(&mut self, _consumer: &Consumer) -> Result<(), Failure> {
        if !self.is_prepared {
            self.store.prepare().await?;
            self.is_prepared = true;
        }
        let mut day: Option<Day> = None;
        for closed in self.store.unreported().await? {
            if day.as_ref().is_none_or(|day| day.name != closed.day) {
                day = Some(Day {
                    name: closed.day.clone(),
                    closed: self.store.closed_of_day(&closed.day).await?,
                    batches: self.store.batches_of_day(&closed.day).await?,
                });
            }
            let Some(hours) = day.as_ref().map(|day| day.until(&closed)) else { continue };
            let report = HourReport::of(&closed.hour, &hours?);
            self.store.report(&closed, &report).await?;
            tracing::info!(hour = %closed.hour, stations = report.stations.len(), "reported");
        }
        Ok(())
    }
}

impl Day {
    /// Returns the readings of the day's hours up to this one. All are present: an hour is closed after those before it.
    fn until(&self, last: &Closed) -> Result<Vec<Vec<&Reading>>, Failure> {
        let hours = self.closed.iter().filter(|closed| closed.hour <= last.hour);
        hours.map(|closed| self.readings(closed)).collect()
    }

    /// # Errors
    ///
    /// A batch of the hour is missing: somebody has removed it.
    fn readings(&self, closed: &Closed) -> Result<Vec<&Reading>, Failure> {
        let mut readings = Vec::new();
        for number in 0..closed.batches {
            let batch = self.batches.get(&closed.hour).and_then(|batches| batches.get(&number));
            let Some((batch, _)) = batch else {
                return Err(Failure::Temporary(format!(
                    "batch {number} of the closed hour {} is missing",
                    closed.hour
                )));
            };
            readings.extend(&batch.readings);
        }
        Ok(readings)
    }
}
