//! The dashboard in a browser: how soon it shows something, what it loads, and how evenly long lists scroll.

use std::path::Path;

use async_trait::async_trait;
use bson::{DateTime, doc};
use futures::FutureExt;
use mysimbdp_testbed::Browser;
use serde_json::Value;

use super::records::{CLIENT, FILES, client, fill};
use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::failure::{BenchError, Result};
use crate::platform::RunningPlatform;
use crate::servers::Servers;

const LOADED: &str = "KiB loaded";
const FRAME_OF_FILES: &str = "ms a frame, p95, files";
const FRAME_OF_SOURCES: &str = "ms a frame, p95, sources";
/// One of a browser that draws 60 a second, as fractions of milliseconds are rounded.
const FRAME: f64 = 17.0;

pub const DASHBOARD: Plan = Plan {
    name: "dashboard",
    title: "the dashboard, 10,000 files, 1,000 sources",
    unit: "ms",
    timed: "platform: from the address of the dashboard to the first text that Chromium paints (first contentful paint), in a browser \
            with an empty cache; all bytes that are loaded until the list of files is shown; the time between two frames while \
            each list is scrolled from its beginning to its end, a screen a frame. Yardstick: a plain table of 10,000 rows",
    goals: &[
        Goal::AtMost(500.0),
        Goal::FactAtMost(LOADED, 300.0),
        Goal::FactAtMost(FRAME_OF_FILES, FRAME),
        Goal::FactAtMost(FRAME_OF_SOURCES, FRAME),
    ],
    rounds_max: u32::MAX,
    start: |extent| Dashboard::start(extent).boxed_local(),
};

struct Dashboard {
    // Before the servers: fields are dropped in this order.
    platform: RunningPlatform,
    _servers: Servers,
    files: u64,
    sources: u64,
}

impl Dashboard {
    async fn start(extent: RunSize) -> Result<Box<dyn BenchCase>> {
        let (files, sources) = (extent.of(500, 10_000), extent.of(100, 1_000));
        let servers = Servers::start().await?;
        // Nothing takes the files, so all of them wait.
        let platform = RunningPlatform::serving(&servers, vec![client()].into());
        drop_files(&platform.root.path().join("client-input-directory").join(CLIENT), files)?;
        let records = (0..sources).map(|number| {
            let station = format!("source-{number:04}");
            doc! {"_id": &station, "n": number as i64, "at": DateTime::now(), "station": station, "temp": number as f64 / 10.0}
        });
        let stored = platform.client_database(CLIENT).collection(FILES);
        stored
            .insert_many(records)
            .await
            .map_err(BenchError::of("store the latest records of the sources"))?;
        fill(&platform, 1_000).await?;
        Ok(Box::new(Self { platform, _servers: servers, files, sources }))
    }

    async fn in_browser(&self, look: impl FnOnce(&Browser) -> Sample + Send + 'static) -> Result<Sample> {
        let looking = tokio::task::spawn_blocking(move || {
            let browser = Browser::start();
            look(&browser)
        });
        looking.await.map_err(BenchError::of("look at the page"))
    }

    async fn dashboard(&self) -> Result<Sample> {
        let url = format!("http://{}", self.platform.http_server()?.0);
        let (files, sources) = (self.files, self.sources);
        self.in_browser(move |browser| {
            browser.open(&format!("{url}/#/files?state=waiting"));
            browser.until("files are listed", "$$('.file-list .row-link').length > 0");
            let painted = first_paint(browser);
            let loaded = browser.value(LOADED_BYTES).as_f64().unwrap_or(f64::NAN) / 1024.0;
            let of_files = scroll(
                browser,
                "$('.file-list')",
                &format!("$('.file-list [aria-rowcount]').ariaRowCount > {files}"),
            );
            browser.open(&format!("{url}/#/data/{CLIENT}/{FILES}/latest"));
            browser.until(
                "all sources are listed",
                &format!("$('.latest-list [aria-rowcount]').ariaRowCount > {sources}"),
            );
            let of_sources = scroll(browser, "$('.latest-list')", "true");
            Sample::of(painted)
                .with(LOADED, loaded)
                .with(FRAME_OF_FILES, of_files.0)
                .with("ms the longest frame, files", of_files.1)
                .with(FRAME_OF_SOURCES, of_sources.0)
                .with("ms the longest frame, sources", of_sources.1)
        })
        .await
    }

    async fn plain(&self) -> Result<Sample> {
        let files = self.files;
        let path = self.platform.root.path().join("plain.html");
        let row = |number| format!("<tr><td>{number}.csv<td>waiting<td>client1<td>1 KiB");
        let rows: String = (0..files).map(row).collect();
        std::fs::write(&path, format!("<!doctype html><title>plain</title><table>{rows}</table>"))
            .map_err(BenchError::of("write a plain table"))?;
        self.in_browser(move |browser| {
            browser.open(&format!("file://{}", path.display()));
            let (frame, longest) = scroll(browser, "document.scrollingElement", "true");
            Sample::of(first_paint(browser))
                .with(FRAME_OF_FILES, frame)
                .with("ms the longest frame, files", longest)
        })
        .await
    }
}

#[async_trait(?Send)]
impl BenchCase for Dashboard {
    fn contenders(&self) -> Vec<Contender> {
        vec![
            Contender::new(ContenderKind::Platform, "dashboard"),
            Contender::new(ContenderKind::Yardstick, "a plain table"),
        ]
    }

    async fn run(&mut self, contender: usize, _round: u32) -> Result<Sample> {
        match contender {
            0 => self.dashboard().await,
            _ => self.plain().await,
        }
    }
}

fn drop_files(directory: &Path, count: u64) -> Result<()> {
    let written = std::fs::create_dir_all(directory).and_then(|()| {
        (0..count).try_for_each(|number| std::fs::write(directory.join(format!("{number:05}.csv")), "a\n1\n"))
    });
    written.map_err(BenchError::of("drop files"))
}

fn first_paint(browser: &Browser) -> f64 {
    let time = browser.value("performance.getEntriesByName('first-contentful-paint')[0].startTime");
    time.as_f64().unwrap_or(f64::NAN)
}

/// What came over the network, compressed as it came.
const LOADED_BYTES: &str =
    "performance.getEntries().reduce((sum, {encodedBodySize = 0}) => sum + encodedBodySize, 0)";

/// Scrolls to the end, where more is read until `is_complete`, a screen a frame. Returns the 95th percentile of the time between two
/// frames, and the longest, in ms.
fn scroll(browser: &Browser, element: &str, is_complete: &str) -> (f64, f64) {
    let times = browser.value(&format!(
        "(async () => {{
            const element = {element}, times = [], frame = () => new Promise(requestAnimationFrame);
            const isAtEnd = () => element.scrollTop + element.clientHeight >= element.scrollHeight - 1 && {is_complete};
            for (let before = await frame(), now; !isAtEnd(); before = now) {{
                element.scrollTop += element.clientHeight;
                now = await frame();
                times.push(now - before);
            }}
            return times;
        }})()"
    ));
    let mut times: Vec<f64> = times.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        times.get((times.len() * percent).div_ceil(100).max(1) - 1).copied().unwrap_or(f64::NAN)
    };
    (at(95), at(100))
}
