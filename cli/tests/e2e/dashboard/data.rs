//! Stored data: latest values, windows, records, exports, arrivals, plots.

use std::path::Path;

use mysimbdp_testbed::until;
use serde_json::{Value, json};

use super::{Page, publish, streaming};
use crate::serving::Served;
use crate::support::SOON;

/// The hours of some days at two stations.
const ROWS: u32 = 240;

fn rows() -> String {
    let row = |n: u32| {
        let (day, hour) = (n / 2 / 24 + 1, n / 2 % 24);
        format!(
            "{},2026,{}.5,2026-03-{day:02}T{hour:02}:00:00Z\n",
            ["north", "south"][n as usize % 2],
            n % 40
        )
    };
    std::iter::once("station,year,temp,at\n".to_owned()).chain((0..ROWS).map(row)).collect()
}

/// A client with files of which one is due each day.
fn filing() -> Value {
    json!({
        "id": "client1",
        "apps": [{
            "name": "hours", "command": ["document-app", "--type", "at=date"],
            "expect": [{"name": "daily", "files": "hours*.csv", "by": "06:00", "records_min": 100}],
        }],
        "views": {"hours": {"batch": "hours", "time": "at", "source": "station"}},
    })
}

/// Waits until a file is saved, and returns it.
fn saved(path: &Path) -> String {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    until(SOON, &format!("{} is saved", path.display()), || !read().is_empty());
    read()
}

#[test]
fn what_is_stored_is_seen_as_latest_values_windows_and_records_and_saved_as_it_is_shown() {
    let served = Served::start(&json!({}), json!([filing(), streaming("client2")]));
    let page = Page::open(served, "#/arrivals");
    let (served, browser) = (&page.served, &page.browser);
    browser.until_text(".contract h2", "daily");
    browser.until_text(".contract .badge", "expected");
    browser
        .until_text(".contract-rule", "hours*.csv for hours, every 1d by 06:00 (UTC), at least 100 records");
    // What is counted is compared with what was counted before.
    until(SOON, "something is measured", || {
        let measured = served.http.get("/api/measurements").expect(200);
        measured["series"].as_array().is_some_and(|series| !series.is_empty())
    });
    served.root.drop_file("client1", "hours.csv", rows().as_bytes());
    browser.until("it is on time", "$('.contract .badge').dataset.state === 'on_time'");
    browser
        .until("the mark leads to the file", "$('.strip-mark[data-state=on_time]').hash.includes('file=')");

    page.go("#/data/client1/hours");
    browser.until("both sources are there", "$$('.latest-list .vl-body [role=row]').length === 2");
    browser.until("a measurement is the trend", "$('#latest-trend').value === 'temp' && $$('.sparkline-line').every((line) => line.getAttribute('d').length > 100)");
    browser.until_text(".latest-list .record-value", "39.5");
    browser.type_into("#latest-filter", "nor");
    browser.until(
        "one source is left",
        "$$('.latest-list .row-link bdi').map((one) => one.textContent).join() === 'north'",
    );

    page.go("#/data/client1/hours/windows");
    browser.until(
        "windows are there",
        "$$('.window-list .vl-body [role=row]').length > 3 && $('#query-fields').value === 'temp'",
    );
    browser.until("they are plotted", "$('.window-plot canvas') !== null && $$('.legend-item').length === 2");
    page.go("#/data/client1/hours/windows?size=1d&fields=temp&source=north");
    browser.until(
        "a day is a window",
        "$('.vl-foot').textContent === '5 windows.' && $$('.legend-item').length === 3",
    );
    browser.click(".export:first-child button");
    let table = saved(&browser.downloads().join("client1-hours-windows.csv"));
    assert_eq!(table.lines().count(), 6, "{table}");
    let shown = browser
        .value("[...$$('.window-list .vl-body [role=row]').at(-1).children].map((cell) => cell.textContent)");
    let first: Vec<&str> = table.lines().nth(1).expect("a row").split(',').collect();
    for text in ["2026-03-01 00:00:00", "north", "temp", "24"] {
        assert!(shown.as_array().expect("cells").contains(&json!(text)), "{shown}");
    }
    assert!(
        first.contains(&"north") && first.contains(&"24") && first[0].starts_with("2026-03-01T00:00:00"),
        "{first:?}"
    );

    page.go("#/data/client1/hours/records?order=asc");
    browser.until("records are there", "$$('.record-list .vl-body [role=row]').length > 5");
    browser.click(".export:last-child button");
    let lines = saved(&browser.downloads().join("client1-hours.ndjson"));
    assert_eq!(lines.lines().count(), ROWS as usize);
    let first: Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["station"], &first["temp"]), (&json!("north"), &json!(0.5)));
    browser.until(
        "the first one is shown first",
        "$('.record-list .vl-body [role=row]').textContent.includes('0.5')",
    );
    browser.click(".record-list .row-link");
    browser.until_text(".record-json", "\"temp\": 0.5");
    browser.press("Escape");

    // Windows that are closed while one looks.
    page.go("#/data/client2/live/windows?size=1s&fields=temp");
    browser.until_text("#view", "No windows");
    let message = |second: u32| {
        format!("{{\"at\":\"2026-04-01T00:00:{second:02}Z\",\"station\":\"s\",\"temp\":{second}.5}}\n")
    };
    publish(served, "client2", &(0..30).map(message).collect::<String>());
    browser.until("closed windows appear", "$$('.window-list .badge[data-state=closed]').length > 3");
    browser.until_text("#view", "live: closed windows appear as they are published");

    // What was measured is there when the page is opened.
    page.go("#/plots?range=15m");
    let has_lines = "['Records of files', 'Instances of streams', 'Files that ended'].every((title) => $$('.chart').some((chart) => $('h2', chart).textContent === title && $$('.legend-most', chart).some((most) => /max .*[1-9]/.test(most.textContent))))";
    browser.until("what was measured is plotted", has_lines);
    browser.reload();
    browser.until("it is there at once", has_lines);
    browser.click(".chart-table summary");
    browser.until("the same is a table", "$$('.chart-table[open] tbody tr').length > 3");
    page.finish();
}
