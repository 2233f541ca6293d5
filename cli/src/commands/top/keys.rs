//! What is typed, and changes of the terminal's size.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};

/// How often it is checked whether anybody still wants to know.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// Tells each key until `tell` returns false, the sender of `stop` is dropped, or the terminal is gone.
pub fn read(stop: &Receiver<()>, mut tell: impl FnMut(Event) -> bool) {
    while stop.try_recv() == Err(TryRecvError::Empty) {
        let goes_on = match event::poll(CHECK_EVERY) {
            Ok(true) => event::read().is_ok_and(&mut tell),
            Ok(false) => true,
            Err(_) => false,
        };
        if !goes_on {
            return;
        }
    }
}
