//! `mysimbdp top`: the platform at a glance in a terminal. A client of the HTTP API, and nothing else.
//!
//! 1. [`poll`] reads the lists, [`crate::events`] listens, [`keys`] reads what is typed: a thread each, which send messages;
//! 2. [`update`] changes the [`model`] accordingly: pure, as what is derived from it ([`attention`], [`clients`], [`streams`]);
//! 3. [`view`] draws the model; [`terminal`] has the screen.
//!
//! Events wake and a tick guarantees: an event is shown at once, and makes the lists be read again within about a second; they are
//! read now and then in any case. All text from outside is [`text::Text`].

mod api;
mod attention;
mod clients;
mod filter;
mod keys;
mod layout;
mod model;
mod poll;
mod streams;
mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod update;
mod view;

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use mysimbdp_model::exit;
use mysimbdp_platform::clock;
use ratatui::crossterm::event::Event as Input;
use tokio::sync::watch;

use crate::api_client::{ApiClient, ApiError};
use crate::args::Top;
use crate::error::CommandError;
use crate::events::connection::{ConnectionEvent, Next, listen};
use api::{Polled, Readiness};
use model::Model;
use terminal::Screen;
use view::theme::Theme;

/// The screen changes at most this often.
const FRAME: Duration = Duration::from_millis(100);
/// How often it is checked whether a signal has come.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// How long the threads may take to end.
const END_WITHIN: Duration = Duration::from_secs(1);
/// Messages that are not taken yet; further ones wait.
const MESSAGES_MAX: usize = 256;
/// The platform may take four seconds to find out whether it is ready.
const READINESS_EVERY: Duration = Duration::from_secs(5);

/// What the threads tell.
#[derive(Debug)]
enum Message {
    Polled(Polled),
    Readiness(Result<Readiness, ApiError>),
    Connection(ConnectionEvent),
    Typed(Input),
}

/// Shows the platform until a person or a signal ends it. Blocks.
pub fn run(api: &ApiClient, args: Top, shutdown: &watch::Receiver<bool>) -> Result<(), CommandError> {
    check_terminal()?;
    check_access(api, &args)?;
    let failure =
        |error: std::io::Error| CommandError::new(exit::IO, format!("cannot use the terminal: {error}"));
    let theme = Theme::of_environment();
    let mut screen = Screen::enter().map_err(failure)?;
    let size = screen.size().map_err(failure)?;
    let mut model = Model::new(args.client.clone(), args.interval, size);
    let threads = Threads::start(api, Arc::new(args));
    let shown = show(&mut model, &mut screen, theme, &threads, shutdown);
    drop(screen);
    threads.end(api);
    shown.map_err(failure)
}

fn check_terminal() -> Result<(), CommandError> {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() && !is_dumb {
        return Ok(());
    }
    let advice =
        "`mysimbdp status` prints the state of the platform once, `mysimbdp tail` prints what happens";
    Err(CommandError::new(exit::USAGE, format!("top needs a terminal: {advice}")))
}

/// What cannot be shown at all is an error and not an empty screen.
fn check_access(api: &ApiClient, args: &Top) -> Result<(), CommandError> {
    let client = args.client.as_ref().map_or_else(String::new, |client| format!("&client={client}"));
    let path = format!("/api/files?state=waiting&limit=1{client}");
    api.get::<api::Page<api::File>>(&path).map(drop).map_err(CommandError::from)
}

fn show(
    model: &mut Model,
    screen: &mut Screen,
    theme: Theme,
    threads: &Threads,
    shutdown: &watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut drawn_at: Option<Instant> = None;
    let mut has_changed = true;
    while !model.has_ended && !*shutdown.borrow() {
        if has_changed && drawn_at.is_none_or(|at| at.elapsed() >= FRAME) {
            let now = clock::now();
            model.size = screen.size()?;
            model.limit_offsets(now);
            screen.draw(|frame| view::draw(frame.buffer_mut(), model, theme, now))?;
            (drawn_at, has_changed) = (Some(Instant::now()), false);
        }
        let wait = if has_changed { FRAME } else { CHECK_EVERY };
        match threads.messages.recv_timeout(wait) {
            Ok(message) => {
                has_changed = true;
                threads.take(model, message);
            }
            Err(RecvTimeoutError::Timeout) => {
                // How old something is changes too.
                has_changed |= drawn_at.is_none_or(|at| at.elapsed() >= Duration::from_secs(1));
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
    Ok(())
}

/// What a thread does.
type Work = Box<dyn FnOnce(&ApiClient, &Top, &SyncSender<Message>) + Send>;

/// The threads that read and listen.
struct Threads {
    messages: Receiver<Message>,
    /// Makes the lists be read soon. There is at most one wake-up that is not taken yet.
    wake: SyncSender<()>,
    /// Dropped at the end: then nobody listens or waits any more.
    stop: [Sender<()>; 3],
    /// Disconnected when all of them have ended.
    ended: Receiver<()>,
}

impl Threads {
    fn start(api: &ApiClient, args: Arc<Top>) -> Self {
        let (messages, received) = sync_channel(MESSAGES_MAX);
        let (wake, woken) = sync_channel(1);
        let (end, ended) = sync_channel::<()>(0);
        let [(stop_listening, no_listening), (stop_readiness, no_readiness), (stop_keys, no_keys)] =
            [channel(), channel(), channel()];
        let start = |work: Work| {
            let (api, args, messages, end) = (api.clone(), Arc::clone(&args), messages.clone(), end.clone());
            thread::spawn(move || {
                work(&api, &args, &messages);
                drop(end);
            });
        };
        start(Box::new(move |api, args, messages| {
            poll::repeat(args.interval, &woken, || {
                messages.send(Message::Polled(poll::lists(api, args.client.as_ref()))).is_ok()
            });
        }));
        start(Box::new(move |api, args, messages| {
            let every = args.interval.max(READINESS_EVERY);
            poll::repeat(every, &no_readiness, || {
                messages.send(Message::Readiness(poll::readiness(api))).is_ok()
            });
        }));
        start(Box::new(move |api, args, messages| {
            listen(api, args.client.as_ref(), &no_listening, |event| {
                if messages.send(Message::Connection(event)).is_ok() { Next::Listen } else { Next::Stop }
            });
        }));
        start(Box::new(move |_, _, messages| {
            keys::read(&no_keys, |input| messages.send(Message::Typed(input)).is_ok());
        }));
        Self { messages: received, wake, stop: [stop_listening, stop_readiness, stop_keys], ended }
    }

    /// Changes the model as a message says.
    fn take(&self, model: &mut Model, message: Message) {
        let now = clock::now();
        match message {
            Message::Polled(polled) => model.polled(polled, now),
            Message::Readiness(Ok(readiness)) => model.readiness(Some(readiness)),
            Message::Readiness(Err(_)) => model.readiness(None),
            Message::Connection(ConnectionEvent::Connected) => {
                model.connected();
                self.wake();
            }
            Message::Connection(ConnectionEvent::Event(event)) => {
                model.happened(&event, now);
                self.wake();
            }
            Message::Connection(ConnectionEvent::Lost(outage)) => {
                model.lost(&outage.error.to_string());
                self.wake();
            }
            Message::Typed(Input::Key(key)) => model.key(key, now),
            Message::Typed(_) => {}
        }
    }

    fn wake(&self) {
        // If there is one already, the lists are read soon.
        let _ = self.wake.try_send(());
    }

    /// Ends them. One that waits for an address to be looked up ends with the process.
    fn end(self, api: &ApiClient) {
        let Self { messages, wake, stop, ended } = self;
        drop((messages, wake, stop));
        api.shutdown();
        let _ = ended.recv_timeout(END_WITHIN);
    }
}
