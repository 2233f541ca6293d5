//! Reads the lists: each with one request, now and then, and soon after something has happened.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use mysimbdp_model::client::ClientId;
use mysimbdp_platform::clock;
use serde::Deserialize;
use ureq::http::{Method, StatusCode, header};

use super::api::{Answered, Page, Polled, Readiness};
use super::text::Text;
use crate::api_client::{ApiClient, ApiError};

/// How soon the lists are read again if something has happened.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The longest page. Of longer lists, what is shown is marked as incomplete.
const ITEMS_MAX: u32 = 1_000;
/// How far back measurements and discarded files go.
const MEASURED_SECONDS: i64 = 600;
const DISCARDED_SECONDS: i64 = 3_600;

/// Calls `poll` each `interval`, and about a second after a wake-up, until it returns false or there is nobody left to wake it.
pub fn repeat(interval: Duration, woken: &Receiver<()>, mut poll: impl FnMut() -> bool) {
    loop {
        let started = Instant::now();
        if !poll() {
            return;
        }
        let mut wait = interval;
        loop {
            match woken.recv_timeout(wait.saturating_sub(started.elapsed())) {
                Ok(()) => wait = AGAIN_AFTER.min(interval),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Reads all lists.
pub fn lists(api: &ApiClient, client: Option<&ClientId>) -> Polled {
    let mut reading = Reading { api, client, polled: Polled::default() };
    let mut now = clock::now();
    reading.ask("clients", "/api/clients", &[], |page: Page<_>, at| {
        now = at;
        Answered::Clients(page.items)
    });
    let before = |seconds| now.saturating_sub(SignedDuration::from_secs(seconds)).unwrap_or(now).to_string();
    let limit = ITEMS_MAX.to_string();
    let files = |state| vec![("state", state), ("limit", limit.as_str())];
    let page = |name, path, parameters: &[_], reading: &mut Reading<'_>, of: fn(Page<_>) -> Answered| {
        reading.ask(name, path, &reading.only(parameters), |page, _| of(page));
    };
    page("waiting files", "/api/files", &files("waiting"), &mut reading, Answered::Waiting);
    page("held files", "/api/files", &files("held"), &mut reading, Answered::Held);
    let hour_ago = before(DISCARDED_SECONDS);
    let discarded = [files("discarded"), vec![("since", hour_ago.as_str())]].concat();
    page("discarded files", "/api/files", &discarded, &mut reading, Answered::Discarded);
    let only = reading.only(&[]);
    reading.ask("queues", "/api/queues", &only, |page: Page<_>, _| Answered::Queues(page.items));
    reading.ask("streams", "/api/streams", &only, |page: Page<_>, _| Answered::Streams(page.items));
    let arrivals = reading.only(&[("limit", limit.as_str())]);
    reading.ask("arrivals", "/api/arrivals", &arrivals, |page: Page<_>, _| Answered::Arrivals(page.items));
    let from = before(MEASURED_SECONDS);
    let measured = reading.only(&[("from", from.as_str()), ("points", "60")]);
    reading.ask("measurements", "/api/measurements", &measured, |found, _| Answered::Measurements(found));
    reading.polled.or_outage()
}

/// Asks whether everything runs; with each part if the caller may know them.
pub fn readiness(api: &ApiClient) -> Result<Readiness, ApiError> {
    let ask = |path| {
        let request = api.request(Method::GET, path)?.body(());
        api.run_accepting(request, |status| status == StatusCode::SERVICE_UNAVAILABLE)?.json()
    };
    match ask("/readyz?verbose") {
        Err(refused) if refused.was_answered => ask("/readyz"),
        answer => answer,
    }
}

struct Reading<'a> {
    api: &'a ApiClient,
    client: Option<&'a ClientId>,
    polled: Polled,
}

impl Reading<'_> {
    /// The parameters, and the client if there is only one.
    fn only(&self, parameters: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        let client = self.client.map(|client| ("client", client.to_string()));
        parameters.iter().map(|(name, value)| (*name, (*value).to_owned())).chain(client).collect()
    }

    /// Asks one question, unless the server does not answer. `answered` gets the time of the server too.
    fn ask<T: for<'de> Deserialize<'de>>(
        &mut self,
        name: &'static str,
        path: &str,
        parameters: &[(&'static str, String)],
        answered: impl FnOnce(T, Timestamp) -> Answered,
    ) {
        if self.polled.outage.is_some() {
            return;
        }
        match get(self.api, &with(path, parameters)) {
            Ok((answer, at)) => self.polled.answers.push(answered(answer, at)),
            Err(ApiError { was_answered, error }) => {
                let reason = Text::from(error.to_string());
                match was_answered {
                    true => drop(self.polled.unavailable.insert(name, reason)),
                    false => self.polled.outage = Some(reason),
                }
            }
        }
    }
}

fn with(path: &str, parameters: &[(&'static str, String)]) -> String {
    let parameters: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let separator = if parameters.is_empty() { "" } else { "?" };
    format!("{path}{separator}{}", parameters.join("&"))
}

/// Returns the answer, and the time of the server, whose clock may differ from that of this machine.
fn get<T: for<'de> Deserialize<'de>>(api: &ApiClient, path: &str) -> Result<(T, Timestamp), ApiError> {
    let answer = api.run(api.request(Method::GET, path)?.body(()))?;
    let date = answer.header(header::DATE).and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let at = date.map_or_else(clock::now, |date| date.timestamp());
    Ok((answer.json()?, at))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn what_is_woken_often_is_read_about_once_a_second_and_ends_at_once() {
        let (wake, woken) = sync_channel(1);
        let started = Instant::now();
        let mut polls = 0;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while started.elapsed() < Duration::from_millis(2_500) {
                    let _ = wake.try_send(());
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            repeat(Duration::from_secs(60), &woken, || {
                polls += 1;
                true
            });
        });
        let seconds = started.elapsed().as_secs();
        assert!((2..=seconds + 1).contains(&polls), "{polls} in {seconds} s");
        assert!(seconds < 30);
    }

    #[test]
    fn parameters_are_appended_to_the_path() {
        assert_eq!(with("/api/clients", &[]), "/api/clients");
        let parameters = [("state", "held".to_owned()), ("client", "client1".to_owned())];
        assert_eq!(with("/api/files", &parameters), "/api/files?state=held&client=client1");
    }
}
