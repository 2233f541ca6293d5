//! Decides which client a dropped file belongs to, and which lane it takes.
//!
//! Pure: the file's location decides, or else its name.

use std::ffi::OsStr;

use mysimbdp_config::{Client, Config};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::manifest::Lane;
use mysimbdp_model::reason::{Objection, ReasonCode};

/// Where in the drop directory a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In a client's folder, or in a directory that was moved into it.
    Client(ClientId),
    /// The same, in its `backfill/`.
    Backfill(ClientId),
    /// Directly in the drop directory, beside the clients' folders. Files in other folders there have no origin: they
    /// wait until the folder is a client's.
    Shared,
}

/// A part of the drop directory that is scanned on its own, so that no area waits for another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Area {
    /// The drop directory itself, without the folders of clients.
    Shared,
    /// A client's folder and all that is in it.
    Folder(ClientId),
}

impl Area {
    pub(crate) fn client(&self) -> Option<&ClientId> {
        match self {
            Self::Shared => None,
            Self::Folder(client) => Some(client),
        }
    }
}

impl Origin {
    pub(crate) fn area(&self) -> Area {
        self.client().map_or(Area::Shared, |client| Area::Folder(client.clone()))
    }

    /// The client in whose folder it is, if in any.
    pub(crate) fn client(&self) -> Option<&ClientId> {
        match self {
            Self::Client(id) | Self::Backfill(id) => Some(id),
            Self::Shared => None,
        }
    }
}

/// The client that a file belongs to, or why it belongs to none.
pub(crate) fn client<'a>(config: &'a Config, origin: &Origin, name: &OsStr) -> Result<&'a Client, Objection> {
    match origin {
        Origin::Client(id) | Origin::Backfill(id) => config
            .client(id)
            .ok_or_else(|| ReasonCode::UnknownClient.because(format!("{id} is not a configured client"))),
        Origin::Shared => by_name(config, name),
    }
}

pub(crate) fn lane(origin: &Origin) -> Lane {
    match origin {
        Origin::Backfill(_) => Lane::Backfill,
        Origin::Client(_) | Origin::Shared => Lane::Live,
    }
}

fn by_name<'a>(config: &'a Config, name: &OsStr) -> Result<&'a Client, Objection> {
    let matching: Vec<&Client> =
        clients_with_apps(config).filter(|client| client.globs.is_match(name)).collect();
    match matching.as_slice() {
        [client] => Ok(client),
        [] => {
            let text = format!("no client's globs match the name; expected {}", all_globs(config));
            Err(ReasonCode::NoClient.because(text))
        }
        several => {
            let ids: Vec<&str> = several.iter().map(|client| client.id.as_str()).collect();
            let text = format!(
                "the globs of {} match the name; expected those of exactly one client",
                ids.join(" and ")
            );
            Err(ReasonCode::SeveralClients.because(text))
        }
    }
}

fn all_globs(config: &Config) -> String {
    let of = |client: &Client| format!("{} for {}", client.settings.files.globs.join(", "), client.id);
    clients_with_apps(config).map(of).collect::<Vec<_>>().join("; ")
}

/// Clients that could ingest a file: the globs of others do not count.
fn clients_with_apps(config: &Config) -> impl Iterator<Item = &Client> {
    config.clients.values().filter(|client| !client.apps.is_empty())
}
