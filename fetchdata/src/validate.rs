//! Inspects a file by kind, name and size, before a byte of it is read.
//!
//! Pure. First the generic rules apply, then the client's; every broken rule becomes a reason. The content is
//! inspected while it is split.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use mysimbdp_config::{App, Client, Rules};
use mysimbdp_model::reason::{Objection, ReasonCode};
use mysimbdp_spool::drop_directory::FileKind;

/// The reasons against the file; none if it may be read.
pub(crate) fn objections(
    rules: &Rules,
    client: &Client,
    name: &OsStr,
    kind: FileKind,
    bytes: u64,
) -> Vec<Objection> {
    let mut reasons = Vec::new();
    if kind != FileKind::File {
        reasons.push(ReasonCode::NotAFile.because(format!("is a {kind}, only regular files are allowed")));
    }
    let Some(text) = name.to_str() else {
        reasons.push(ReasonCode::NameNotUtf8.because("name is not UTF-8"));
        return reasons;
    };
    reasons.extend(generic(rules, text, bytes));
    reasons.extend(of_client(client, text, bytes));
    reasons
}

/// The reasons against a file that belongs to no client; it is never read.
pub(crate) fn objections_unrouted(
    rules: &Rules,
    name: &OsStr,
    kind: FileKind,
    bytes: u64,
    why: Objection,
) -> Vec<Objection> {
    let mut reasons = Vec::new();
    if kind != FileKind::File {
        reasons.push(ReasonCode::NotAFile.because(format!("is a {kind}, only regular files are allowed")));
    }
    match name.to_str() {
        Some(text) => reasons.extend(generic(rules, text, bytes)),
        None => reasons.push(ReasonCode::NameNotUtf8.because("name is not UTF-8")),
    }
    reasons.push(why);
    reasons
}

fn generic(rules: &Rules, name: &str, bytes: u64) -> Vec<Objection> {
    let mut reasons = Vec::new();
    if bytes > rules.file_bytes_max {
        reasons.push(
            ReasonCode::FileTooLarge
                .because(format!("has {bytes} bytes, the limit is {}", rules.file_bytes_max)),
        );
    }
    if name.len() > rules.file_name_bytes_max {
        reasons.push(ReasonCode::NameTooLong.because(format!(
            "name has {} bytes, the limit is {}",
            name.len(),
            rules.file_name_bytes_max
        )));
    }
    if !rules.file_name_pattern.is_match(name) {
        reasons.push(
            ReasonCode::NameNotAllowed.because(format!("name does not match {}", rules.file_name_pattern)),
        );
    }
    reasons
}

fn of_client(client: &Client, name: &str, bytes: u64) -> Vec<Objection> {
    let files = &client.settings.files;
    let mut reasons = Vec::new();
    if let Some(max) = files.file_bytes_max.map(|max| max.as_u64()).filter(|max| bytes > *max) {
        reasons
            .push(ReasonCode::FileTooLarge.because(format!("has {bytes} bytes, {} allows {max}", client.id)));
    }
    if let Some(max) = files.file_name_bytes_max.filter(|max| name.len() > *max as usize) {
        reasons.push(ReasonCode::NameTooLong.because(format!(
            "name has {} bytes, {} allows {max}",
            name.len(),
            client.id
        )));
    }
    if !client.globs.is_match(name) {
        reasons.push(ReasonCode::NameNotAllowed.because(format!(
            "name matches none of the globs of {}: {}",
            client.id,
            files.globs.join(", ")
        )));
    }
    if let Some(pattern) = client.pattern.as_ref().filter(|pattern| !pattern.is_match(name)) {
        reasons.push(
            ReasonCode::NameNotAllowed
                .because(format!("name does not match the pattern of {}: {pattern}", client.id)),
        );
    }
    if let Some(allowed) = &client.extensions
        && !extension(name).is_some_and(|extension| allowed.contains(&extension))
    {
        let found =
            extension(name).map_or_else(|| "no extension".to_owned(), |found| format!("extension {found}"));
        reasons.push(ReasonCode::UnknownExtension.because(format!(
            "has {found}, {} allows {}",
            client.id,
            allowed.join(", ")
        )));
    }
    if client.app_for(name).is_none() {
        reasons.push(no_app(client));
    }
    reasons
}

pub(crate) fn no_app(client: &Client) -> Objection {
    if client.apps.is_empty() {
        return ReasonCode::NoApp.because(format!("{} has no batch app", client.id));
    }
    let of = |app: &App| format!("{} for {}", app.settings.files.join(", "), app.name);
    let apps: Vec<String> = client.apps.iter().map(of).collect();
    ReasonCode::NoApp.because(format!(
        "no app of {} accepts the name; expected {}",
        client.id,
        apps.join("; ")
    ))
}

fn extension(name: &str) -> Option<String> {
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then(|| extension.to_lowercase())
}

/// Names that a file cannot have beside its manifest, because they are reserved there.
pub(crate) fn is_reserved(name: &OsStr) -> bool {
    use mysimbdp_model::layout::Layout;
    use mysimbdp_model::reason::ReasonFile;
    let reserved = [Layout::MANIFEST, Layout::OUTCOMES, Layout::PARTS, ReasonFile::FILE];
    reserved.iter().any(|reserved| name.as_bytes() == reserved.as_bytes())
}
