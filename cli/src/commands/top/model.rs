//! What the screen shows: what was read, and what a person has chosen.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use mysimbdp_model::client::ClientId;

use super::api::{Arrival, Client, File, Measurements, Page, Queue, Readiness, Stream};
use super::attention::{self, Matter};
use super::clients::{self, ClientRow};
use super::filter::Filter;
use super::streams;
use super::text::Text;

/// What was read of the server.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pub clients: Vec<Client>,
    pub waiting: Page<File>,
    pub held: Page<File>,
    /// Those of the last hour.
    pub discarded: Page<File>,
    pub queues: Vec<Queue>,
    pub streams: Vec<Stream>,
    pub arrivals: Vec<Arrival>,
    pub measurements: Measurements,
    pub readiness: Option<Readiness>,
    /// The lists that the server cannot give; what is shown of them is old.
    pub unavailable: BTreeMap<&'static str, Text>,
    /// When the lists were read.
    pub read_at: Option<Timestamp>,
    /// Why they could not be read since.
    pub outage: Option<Text>,
    pub connection: Connection,
    /// The latest events, the newest first.
    pub events: VecDeque<LoggedEvent>,
}

/// The connection on which events arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    #[default]
    Connecting,
    Live,
    Lost {
        reason: Text,
    },
}

/// An event in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    pub at: Timestamp,
    pub kind: Text,
    pub client: Option<Text>,
    pub subject: Text,
    pub text: Text,
}

/// A part of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panel {
    Attention,
    Clients,
    Streams,
    Events,
}

impl Panel {
    pub const ALL: [Self; 4] = [Self::Attention, Self::Clients, Self::Streams, Self::Events];
}

/// The order of clients and streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Name,
    Rate,
    Queue,
    Trouble,
}

impl Sort {
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Rate => "rate",
            Self::Queue => "queue",
            Self::Trouble => "trouble",
        }
    }

    pub fn next(self) -> Self {
        match self {
            Self::Name => Self::Rate,
            Self::Rate => Self::Queue,
            Self::Queue => Self::Trouble,
            Self::Trouble => Self::Name,
        }
    }
}

/// What keys mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Browse,
    /// A person types this filter.
    TypeFilter(String),
    Help,
}

/// All that the screen depends on, but its size.
#[derive(Clone, Debug)]
pub struct Model {
    pub data: Data,
    /// What is shown while a person has stopped the screen.
    pub paused: Option<Box<Data>>,
    pub only_client: Option<ClientId>,
    /// How often lists are read.
    pub interval: Duration,
    pub mode: Mode,
    pub filter: Filter,
    pub sort: Sort,
    pub focus: Panel,
    /// The first row that is shown of each panel.
    pub offsets: [usize; Panel::ALL.len()],
    /// Columns and lines.
    pub size: (u16, u16),
    pub has_ended: bool,
}

impl Model {
    pub fn new(only_client: Option<ClientId>, interval: Duration, size: (u16, u16)) -> Self {
        Self {
            data: Data::default(),
            paused: None,
            only_client,
            interval,
            mode: Mode::default(),
            filter: Filter::default(),
            sort: Sort::default(),
            focus: Panel::Clients,
            offsets: [0; Panel::ALL.len()],
            size,
            has_ended: false,
        }
    }

    /// What is shown.
    pub fn shown(&self) -> &Data {
        self.paused.as_deref().unwrap_or(&self.data)
    }

    fn is_of_client(&self, client: Option<&str>) -> bool {
        self.only_client.as_ref().is_none_or(|only| client.is_none_or(|client| client == only.as_str()))
    }

    pub fn matters(&self, now: Timestamp) -> Vec<Matter> {
        let mut matters = attention::matters(self.shown(), &self.filter, now);
        matters.retain(|matter| {
            let client = matter.client.as_deref();
            // What concerns all is shown with every filter.
            self.is_of_client(client)
                && client.is_none_or(|client| self.filter.matches([client, &*matter.subject]))
        });
        matters
    }

    pub fn client_rows(&self) -> Vec<ClientRow> {
        let mut rows = clients::rows(self.shown(), self.sort);
        rows.retain(|row| self.is_of_client(Some(&row.client)) && self.filter.matches([&*row.client]));
        rows
    }

    pub fn stream_rows(&self) -> Vec<&Stream> {
        let mut rows = streams::sorted(&self.shown().streams, self.sort);
        rows.retain(|stream| {
            self.filter.matches([&*stream.client, &*stream.stream, streams::name(stream).as_str()])
        });
        rows
    }

    pub fn events(&self) -> impl Iterator<Item = &LoggedEvent> {
        self.shown().events.iter().filter(|event| self.is_shown(event))
    }

    pub fn is_shown(&self, event: &LoggedEvent) -> bool {
        let client = event.client.as_deref();
        self.filter.matches([client.unwrap_or_default(), &*event.subject])
    }

    /// How many rows a panel has.
    pub fn rows(&self, panel: Panel, now: Timestamp) -> usize {
        match panel {
            Panel::Attention => self.matters(now).len(),
            Panel::Clients => self.client_rows().len(),
            Panel::Streams => self.stream_rows().len(),
            Panel::Events => self.events().count(),
        }
    }
}
