//! Pictures of the page at work, for the documentation. `MYSIMBDP_UPDATE_SCREENSHOTS=docs/images` writes them there.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mysimbdp_testbed::{Browser, Mosquitto, Screen, until};
use serde_json::{Value, json};

use super::{Page, until_files};
use crate::serving::Served;
use crate::support::SOON;

const WEATHER: &str = include_str!("../../../../samples/weather.csv");

/// The clients of the shipped configuration, with an app that refuses what it cannot read, and with files that are expected.
fn clients() -> Value {
    let shipped: Value = serde_json::from_str(include_str!("../../../../config.json")).expect("JSON");
    let mut clients = shipped["clients"].clone();
    clients[1]["files"]["globs"] = json!(["weather*", "station-*", "archive-*"]);
    clients[1]["micro_batching"]["block_size"] = json!("200kB");
    clients[1]["apps"] = json!([
        {"name": "stations", "files": ["station-*"], "command": ["document-app", "--type", "time_hour=date"], "rejects_max": "50%"},
        {"name": "documents", "files": ["*"], "command": ["document-app", "--null", "NA", "--type", "time_hour=date"],
            "expect": [{"name": "hourly-weather", "files": "weather*.csv", "by": "06:00", "records_min": 1000}]},
    ]);
    clients
}

/// The rows as messages, one per line.
fn messages() -> Vec<String> {
    let mut lines = WEATHER.lines();
    let names: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let message = |line: &str| {
        let fields = names.iter().zip(line.split(',')).map(|(name, text)| {
            let number = text.parse::<f64>().ok().filter(|_| *name != "origin");
            let integer = text.parse::<i64>().ok().filter(|_| *name != "origin");
            let value = match (integer, number) {
                (Some(integer), _) => json!(integer),
                (None, Some(number)) => json!(number),
                _ if text == "NA" => Value::Null,
                _ => json!(text),
            };
            ((*name).to_owned(), value)
        });
        format!("{}\n", Value::Object(fields.collect()))
    };
    lines.map(message).collect()
}

/// Publishes messages in bursts until it is stopped.
fn publish(url: &str, is_stopped: &AtomicBool) {
    for burst in messages().chunks(120) {
        if is_stopped.load(Ordering::Relaxed) {
            return;
        }
        Mosquitto::publish(url, "mysimbdp/ingest/client3/weather", &burst.concat());
        std::thread::sleep(Duration::from_millis(400));
    }
}

#[test]
fn the_page_at_work_is_worth_a_picture() {
    let served = Served::configured(json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "1s", "backoff_first": "100ms", "units_in_parallel": 1},
        "stream_manager": {"report_every": "1s"},
        "clients": clients(),
    }));
    let page = Page::open(served, "");
    let state = std::fs::read(page.served.root.path().join("state/broker.json")).expect("a broker");
    let broker: Value = serde_json::from_slice(&state).expect("JSON");
    let url = broker["url"].as_str().expect("an address");
    until(SOON, "the stream runs", || {
        let streams = page.served.http.get("/api/streams").expect(200);
        let items = streams["items"].as_array().cloned().unwrap_or_default();
        items.len() == 2 && items.iter().all(|stream| stream["instances"][0]["state"] == "running")
    });
    let is_stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| publish(url, &is_stopped));
        // A failure stops the publisher too.
        let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| take_all(&page)));
        is_stopped.store(true, Ordering::Relaxed);
        taken.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    page.finish();
}

fn take_all(page: &Page) {
    let (browser, root) = (&page.browser, &page.served.root);
    root.drop_file("client1", "weather-2013.csv", WEATHER.as_bytes());
    root.drop_file("client2", "weather-2013.csv", WEATHER.as_bytes());
    root.drop_file("client2", "weather.pdf", b"%PDF-1.4");
    let station = "station,time_hour,temp\nEWR,2013-01-01T00:00:00Z,39\nEWR,yesterday,40\nEWR,today,41\n";
    root.drop_file("client2", "station-7.csv", station.as_bytes());
    until_files(&page.served, "ingested", 2);
    until_files(&page.served, "held", 1);
    until_files(&page.served, "discarded", 1);
    let (header, rows) = WEATHER.split_once('\n').expect("a header");
    let lines: Vec<&str> = rows.lines().collect();
    for (number, part) in lines.chunks(1000).enumerate() {
        root.drop_file(
            "client2",
            &format!("archive-{number}.csv"),
            format!("{header}\n{}\n", part.join("\n")).as_bytes(),
        );
        if messages_measured(page) > 6 {
            break;
        }
        until_files(&page.served, "ingested", number + 3);
        std::thread::sleep(Duration::from_secs(1));
    }
    until(SOON, "there is something to plot", || messages_measured(page) > 6);
    root.drop_file("client2", "archive-2012.csv", format!("{header}\n{}", rows.repeat(6)).as_bytes());
    root.drop_file("client2", "archive-2011.csv", format!("{header}\n{}", rows.repeat(2)).as_bytes());
    browser.until("a file is being ingested", "$$('.flow-progress li').length > 0");
    browser.until(
        "messages are plotted",
        "$$('#throughput .legend-value').some((value) => /[1-9]/.test(value.textContent)) && $$('#throughput canvas').length === 2",
    );
    take(browser, "overview-light", Screen { height: 1000, ..Screen::DESK });
    take(browser, "overview-dark", Screen { height: 1000, ..Screen::DESK }.dark());
    take(browser, "overview-phone", Screen::PHONE);
}

/// How many numbers of messages per second the server has.
fn messages_measured(page: &Page) -> usize {
    let measured = page.served.http.get("/api/measurements?client=client3&points=1000").expect(200);
    let series = measured["series"].as_array().cloned().unwrap_or_default();
    let messages = series.iter().filter(|one| one["metric"] == "stream_messages");
    messages
        .flat_map(|one| one["mean"].as_array().cloned().unwrap_or_default())
        .filter(Value::is_number)
        .count()
}

/// Takes a picture, which must show something.
fn take(browser: &Browser, name: &str, screen: Screen) {
    browser.hide_scroll_bars();
    browser.look_with(screen);
    let picture = browser.picture();
    let size = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().expect("four bytes"));
    assert_eq!((size(16), size(20)), (screen.width, screen.height), "{name}");
    let encoded = STANDARD.encode(&picture);
    let colours = browser.value(&format!(
        "(async () => {{
            const bytes = Uint8Array.from(atob('{encoded}'), (one) => one.charCodeAt(0));
            const image = await createImageBitmap(new Blob([bytes], {{type: 'image/png'}}));
            const canvas = new OffscreenCanvas(image.width, image.height).getContext('2d');
            canvas.drawImage(image, 0, 0);
            return new Set(new Uint32Array(canvas.getImageData(0, 0, image.width, image.height).data.buffer)).size;
        }})()"
    ));
    assert!(colours.as_u64().is_some_and(|colours| colours > 50), "{name} has {colours} colours");
    for directory in directories() {
        std::fs::create_dir_all(&directory).expect("create the directory of the pictures");
        std::fs::write(directory.join(format!("{name}.png")), &picture).expect("write the picture");
    }
}

/// Below `target`, and where the environment says.
fn directories() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let own = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    let asked = std::env::var_os("MYSIMBDP_UPDATE_SCREENSHOTS").filter(|value| !value.is_empty());
    std::iter::once(own).chain(asked.map(|directory| root.join(directory))).collect()
}
