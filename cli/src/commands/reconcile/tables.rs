//! Renders the report of `reconcile` for people.

use std::fmt::Write;

use mysimbdp_query::reconcile::ReconcileReport;

use crate::output::Foreign;
use crate::table;

/// Returns the report as text for people.
pub fn text(report: &ReconcileReport) -> String {
    let mut text = client_table(report);
    if !report.runs.is_empty() {
        let _ = write!(text, "\n{}", run_table(report));
    }
    if !report.sources.is_empty() {
        let _ = write!(text, "\n{}", source_table(report));
    }
    if !report.messages.is_empty() {
        let _ = write!(text, "\n{}", message_table(report));
        if report.messages.iter().any(|row| row.unnumbered != Some(0)) {
            text.push_str(
                "\nunnumbered messages are counted but not compared: it is unknown how many were sent",
            );
        }
    }
    if report.left_out > 0 {
        let _ = write!(text, "\nand {} more that balance", report.left_out);
    }
    for difference in &report.differences {
        let _ = write!(text, "\ndiffers: {}", Foreign(difference));
    }
    let more = report.differences_in_all - report.differences.len() as u64;
    if more > 0 {
        let _ = write!(text, "\nand {more} more differences");
    }
    text
}

fn client_table(report: &ReconcileReport) -> String {
    let header = [
        "client",
        "contents",
        "received",
        "stored",
        "duplicates",
        "rejected",
        "in coredms",
        "superseded",
        "expired",
        "staged",
        "held",
        "discarded",
        "lost",
    ];
    let rows = report.clients.iter().map(|(client, totals)| {
        vec![
            client.clone(),
            totals.contents.to_string(),
            totals.received.to_string(),
            totals.stored.to_string(),
            totals.duplicates.to_string(),
            totals.rejected.to_string(),
            totals.in_coredms.to_string(),
            totals.superseded.to_string(),
            totals.expired.to_string(),
            totals.staged.to_string(),
            totals.held.to_string(),
            totals.discarded.to_string(),
            totals.lost.to_string(),
        ]
    });
    table::render(&header, rows)
}

fn run_table(report: &ReconcileReport) -> String {
    let header = [
        "client",
        "file",
        "run",
        "received",
        "stored",
        "duplicates",
        "rejected",
        "in coredms",
        "superseded",
        "expired",
        "",
    ];
    let rows = report.runs.iter().map(|row| {
        vec![
            row.client.clone(),
            // File names come from outside.
            row.file.escape_debug().to_string(),
            row.run.clone(),
            row.received.to_string(),
            row.stored.to_string(),
            row.duplicates.to_string(),
            row.rejected.to_string(),
            or_dash(row.in_coredms),
            row.superseded.to_string(),
            row.expired.to_string(),
            row.verdict.to_owned(),
        ]
    });
    table::render(&header, rows)
}

fn source_table(report: &ReconcileReport) -> String {
    let header =
        ["client", "collection", "source", "epoch", "through", "beyond", "gaps", "accounted", "lost", ""];
    let rows = report.sources.iter().map(|row| {
        vec![
            row.client.clone(),
            row.collection.clone(),
            row.source.clone(),
            row.epoch.clone(),
            row.through.to_string(),
            row.beyond.to_string(),
            row.gaps.to_string(),
            or_dash(row.accounted),
            row.lost.to_string(),
            row.verdict.to_owned(),
        ]
    });
    table::render(&header, rows)
}

fn message_table(report: &ReconcileReport) -> String {
    let header = ["client", "stream", "collection", "documents", "numbered", "unnumbered"];
    let rows = report.messages.iter().map(|row| {
        vec![
            row.client.clone(),
            row.stream.clone(),
            row.collection.clone(),
            row.documents.to_string(),
            or_dash(row.numbered),
            or_dash(row.unnumbered),
        ]
    });
    table::render(&header, rows)
}

fn or_dash(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}
