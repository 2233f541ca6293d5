//! The dashboard: files of a page that asks the API like any other client, so it holds no data and needs no token.
//!
//! The files are in the executable. A browser asks each time whether they have changed ([`ETAG`](header::ETAG)), so that a page and
//! the server it is from always fit.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::problem::{Problem, Result};

/// Nothing but the server's own files runs, and nothing but the server is asked, whatever is in a name or a record.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

struct Asset {
    path: &'static str,
    content: &'static [u8],
}

macro_rules! assets {
    ($($path:literal,)*) => {
        [$(Asset { path: $path, content: include_bytes!(concat!("../dashboard/", $path)) },)*]
    };
}

static ASSETS: &[Asset] = &assets![
    "access.js",
    "api.js",
    "arrivals.js",
    "attention.js",
    "chart.js",
    "css/base.css",
    "css/parts.css",
    "css/shell.css",
    "css/tokens.css",
    "css/views.css",
    "data.js",
    "dom.js",
    "download.js",
    "drops.js",
    "event_log.js",
    "export_links.js",
    "file_detail.js",
    "file_identity.js",
    "files.js",
    "flow.js",
    "flow_ways.js",
    "format.js",
    "glob.js",
    "groups.js",
    "icon.svg",
    "icons.js",
    "index.html",
    "latest.js",
    "live.js",
    "main.js",
    "micro_batches.js",
    "overview.js",
    "parts.js",
    "plots.js",
    "present_files.js",
    "query_form.js",
    "record_text.js",
    "records.js",
    "rejected.js",
    "resource.js",
    "router.js",
    "settings.js",
    "shell.js",
    "sparkline.js",
    "sse.js",
    "stream_load.js",
    "streams.js",
    "trends.js",
    "upload.js",
    "vendor/uPlot.esm.js",
    "vendor/uPlot.min.css",
    "virtual_list.js",
    "visible.js",
    "windows.js",
];

/// The ETags of [`ASSETS`].
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |asset: &Asset| {
        let hash = Sha256::digest(asset.content);
        let digits: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("\"{digits}\"")
    };
    ASSETS.iter().map(tag).collect()
});

pub(crate) async fn page(headers: HeaderMap) -> Result<Response> {
    answer("index.html", &headers)
}

pub(crate) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Result<Response> {
    answer(&path, &headers)
}

fn answer(path: &str, headers: &HeaderMap) -> Result<Response> {
    let index = ASSETS
        .iter()
        .position(|asset| asset.path == path)
        .ok_or_else(|| Problem::not_found(format!("the dashboard has no file {path:?}")))?;
    let tag = TAGS[index].as_str();
    let described: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, content_type(path)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::ETAG, tag),
    ];
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    if known.flat_map(|value| value.split(',')).any(|known| is_same(known.trim(), tag)) {
        return Ok((StatusCode::NOT_MODIFIED, described).into_response());
    }
    Ok((described, ASSETS[index].content).into_response())
}

/// Whether a browser has this version; a proxy that compresses it makes the tag a weak one.
fn is_same(known: &str, tag: &str) -> bool {
    known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use mysimbdp_platform::files;

    use super::*;

    /// The files of a directory and those below it, relative to `root`.
    fn files_below(root: &Path, directory: &Path, found: &mut BTreeSet<String>) {
        for name in files::names(directory).expect("a directory") {
            let path = directory.join(name);
            if files::metadata(&path).expect("an entry").is_dir() {
                files_below(root, &path, found);
            } else {
                let relative = path.strip_prefix(root).expect("it is below");
                found.insert(relative.to_str().expect("UTF-8").to_owned());
            }
        }
    }

    #[test]
    fn all_files_of_the_dashboard_are_served_with_a_type() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard");
        let mut found = BTreeSet::new();
        files_below(&root, &root, &mut found);
        found.remove("vendor/LICENSE");
        found.retain(|path| !path.starts_with("tests/"));
        let served: BTreeSet<String> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
        assert_eq!(served, found);
        for asset in ASSETS {
            assert_ne!(content_type(asset.path), "application/octet-stream", "{}", asset.path);
        }
    }

    #[test]
    fn a_browser_that_has_a_file_does_not_get_it_again() {
        let status = |known: &str| {
            let headers =
                HeaderMap::from_iter([(header::IF_NONE_MATCH, known.parse().expect("a header value"))]);
            answer("main.js", &headers).expect("it is there").status()
        };
        let index = ASSETS.iter().position(|asset| asset.path == "main.js").expect("it is there");
        let tag = &TAGS[index];
        for (known, expected) in [
            (tag.clone(), 304),
            (format!("\"x\", W/{tag}"), 304),
            ("*".to_owned(), 304),
            ("\"x\"".to_owned(), 200),
            (String::new(), 200),
        ] {
            assert_eq!(status(&known).as_u16(), expected, "{known}");
        }
        assert!(answer("../Cargo.toml", &HeaderMap::new()).is_err());
    }
}
