//! What changes when something is read, heard or typed. Pure.

use jiff::Timestamp;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::api::{Answered, Polled, Readiness};
use super::filter::Filter;
use super::layout;
use super::model::{Connection, LoggedEvent, Mode, Model, Panel};
use super::text::Text;
use crate::events::Event;
use crate::events::sentence::Sentence;

/// Older events are forgotten.
const EVENTS_KEPT: usize = 1_000;
const FILTER_CHARS_MAX: usize = 100;

impl Model {
    pub fn polled(&mut self, polled: Polled, now: Timestamp) {
        let data = &mut self.data;
        let Polled { answers, unavailable, outage } = polled;
        if outage.is_none() {
            data.read_at = Some(now);
            data.unavailable = unavailable;
        }
        data.outage = outage;
        for answer in answers {
            match answer {
                Answered::Clients(clients) => data.clients = clients,
                Answered::Waiting(files) => data.waiting = files,
                Answered::Held(files) => data.held = files,
                Answered::Discarded(files) => data.discarded = files,
                Answered::Queues(queues) => data.queues = queues,
                Answered::Streams(streams) => data.streams = streams,
                Answered::Arrivals(arrivals) => data.arrivals = arrivals,
                Answered::Measurements(measurements) => data.measurements = measurements,
            }
        }
    }

    /// Takes the state of the platform; `None` if it is not known.
    pub fn readiness(&mut self, readiness: Option<Readiness>) {
        self.data.readiness = readiness;
    }

    pub fn connected(&mut self) {
        self.data.connection = Connection::Live;
    }

    pub fn lost(&mut self, reason: &str) {
        self.data.connection = Connection::Lost { reason: Text::from(reason) };
    }

    pub fn happened(&mut self, event: &Event, now: Timestamp) {
        let sentence = Sentence::of(event);
        let logged = LoggedEvent {
            at: now,
            kind: Text::from(event.kind.as_str()),
            text: Text::from(sentence.with_subject()),
            client: sentence.client.map(Text::from),
            subject: Text::from(sentence.subject),
        };
        let events = &mut self.data.events;
        // A large file has thousands of them.
        let is_same = |last: &LoggedEvent| (&last.client, &last.subject) == (&logged.client, &logged.subject);
        if &*logged.kind == "progress"
            && events.front().is_some_and(|last| last.kind == logged.kind && is_same(last))
        {
            events.pop_front();
        } else if self.paused.is_none() && self.is_shown(&logged) {
            // Who has scrolled keeps seeing the same ones.
            let offset = &mut self.offsets[Panel::Events as usize];
            *offset += usize::from(*offset > 0);
        }
        self.data.events.push_front(logged);
        self.data.events.truncate(EVENTS_KEPT);
    }

    pub fn key(&mut self, key: KeyEvent, now: Timestamp) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            self.has_ended |= key.code == KeyCode::Char('c');
            return;
        }
        match std::mem::take(&mut self.mode) {
            Mode::Browse => self.browse(key.code, now),
            Mode::TypeFilter(text) => self.type_filter(text, key.code),
            Mode::Help => self.has_ended = key.code == KeyCode::Char('q'),
        }
        self.limit_offsets(now);
    }

    fn browse(&mut self, key: KeyCode, now: Timestamp) {
        let page = usize::from(self.lines(now)[self.focus as usize].saturating_sub(1).max(1));
        let offset = &mut self.offsets[self.focus as usize];
        match key {
            KeyCode::Char('q') => self.has_ended = true,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::TypeFilter(self.filter.text().to_owned()),
            KeyCode::Char('p' | ' ') => {
                self.paused = self.paused.is_none().then(|| Box::new(self.data.clone()));
            }
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Esc => self.filter = Filter::default(),
            KeyCode::Tab => self.focus = neighbour(self.focus, 1),
            KeyCode::BackTab => self.focus = neighbour(self.focus, Panel::ALL.len() - 1),
            KeyCode::Up | KeyCode::Char('k') => *offset = offset.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => *offset += 1,
            KeyCode::PageUp => *offset = offset.saturating_sub(page),
            KeyCode::PageDown => *offset += page,
            KeyCode::Home | KeyCode::Char('g') => *offset = 0,
            KeyCode::End | KeyCode::Char('G') => *offset = usize::MAX,
            _ => {}
        }
    }

    fn type_filter(&mut self, mut text: String, key: KeyCode) {
        match key {
            KeyCode::Enter => return,
            KeyCode::Esc => text.clear(),
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Char(letter) if text.chars().count() < FILTER_CHARS_MAX => text.push(letter),
            _ => {}
        }
        self.filter = Filter::new(&text);
        if key != KeyCode::Esc {
            self.mode = Mode::TypeFilter(text);
        }
    }

    /// The lines of each panel.
    pub fn lines(&self, now: Timestamp) -> layout::Lines {
        let rows = Panel::ALL.map(|panel| self.rows(panel, now));
        layout::lines(self.size.1, rows, self.focus)
    }

    /// A panel is scrolled as far as its last row at most.
    pub fn limit_offsets(&mut self, now: Timestamp) {
        let lines = self.lines(now);
        for panel in Panel::ALL {
            let shown = usize::from(lines[panel as usize].saturating_sub(1));
            let most = self.rows(panel, now).saturating_sub(shown.max(1));
            let offset = &mut self.offsets[panel as usize];
            *offset = (*offset).min(most);
        }
    }
}

fn neighbour(panel: Panel, steps: usize) -> Panel {
    Panel::ALL[(panel as usize + steps) % Panel::ALL.len()]
}
