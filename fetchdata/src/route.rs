//! Decides whose file a dropped file is, and which lane it takes.
//!
//! Pure: where it lies, or else its name, says so.

use std::ffi::OsStr;

use mysimbdp_config::{Client, Config};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::manifest::Lane;
use mysimbdp_model::reason::{Objection, ReasonCode};

/// Where in the drop point a file lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a client's folder, or in a directory that was moved into it.
    Client(ClientId),
    /// The same, in its `backfill/`.
    Backfill(ClientId),
    /// Directly in the drop directory, beside the clients' folders. What lies in a folder there that is not a client's
    /// has no place at all: it waits until it is.
    Shared,
}

/// A part of the drop directory that is looked at on its own, so that none waits for what lies in another.
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

impl Place {
    pub(crate) fn area(&self) -> Area {
        self.client().map_or(Area::Shared, |client| Area::Folder(client.clone()))
    }

    /// Whose folder it is in, if in any client's.
    pub(crate) fn client(&self) -> Option<&ClientId> {
        match self {
            Self::Client(id) | Self::Backfill(id) => Some(id),
            Self::Shared => None,
        }
    }
}

/// The client that a file belongs to, or why it belongs to none.
pub(crate) fn client<'a>(config: &'a Config, place: &Place, name: &OsStr) -> Result<&'a Client, Objection> {
    match place {
        Place::Client(id) | Place::Backfill(id) => config
            .client(id)
            .ok_or_else(|| ReasonCode::UnknownClient.because(format!("{id} is no configured client"))),
        Place::Shared => by_name(config, name),
    }
}

pub(crate) fn lane(place: &Place) -> Lane {
    match place {
        Place::Backfill(_) => Lane::Backfill,
        Place::Client(_) | Place::Shared => Lane::Live,
    }
}

fn by_name<'a>(config: &'a Config, name: &OsStr) -> Result<&'a Client, Objection> {
    let matching: Vec<&Client> =
        clients_with_apps(config).filter(|client| client.globs.is_match(name)).collect();
    match matching.as_slice() {
        [client] => Ok(client),
        [] => {
            let text = format!("no client's globs match the name; allowed are {}", all_globs(config));
            Err(ReasonCode::NoClient.because(text))
        }
        several => {
            let ids: Vec<&str> = several.iter().map(|client| client.id.as_str()).collect();
            let text =
                format!("the globs of {} match the name, exactly one client's must", ids.join(" and "));
            Err(ReasonCode::SeveralClients.because(text))
        }
    }
}

fn all_globs(config: &Config) -> String {
    let of = |client: &Client| format!("{} for {}", client.settings.files.globs.join(", "), client.id);
    clients_with_apps(config).map(of).collect::<Vec<_>>().join("; ")
}

/// Those who could ingest a file: the globs of others claim nothing.
fn clients_with_apps(config: &Config) -> impl Iterator<Item = &Client> {
    config.clients.values().filter(|client| !client.apps.is_empty())
}
