//! Colours: the sixteen of the terminal itself, so that they fit light and dark ones; none with `NO_COLOR`.
//!
//! A colour never says something alone: there is always a word or a shape that says the same.

use ratatui::style::{Color, Modifier, Style};

/// How text looks.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    has_colours: bool,
}

impl Theme {
    pub fn new(has_colours: bool) -> Self {
        Self { has_colours }
    }

    pub fn of_environment() -> Self {
        Self::new(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    /// Text without a meaning of its own.
    pub fn plain(self) -> Style {
        Style::new()
    }

    /// What is there and seldom read.
    pub fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The name of the program, and what is typed.
    pub fn reversed(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A person is needed.
    pub fn alert(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// It may pass.
    pub fn notice(self) -> Style {
        self.coloured(Color::Yellow)
    }

    pub fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    /// Something moves.
    pub fn active(self) -> Style {
        self.coloured(Color::Cyan)
    }

    pub fn title(self, has_focus: bool) -> Style {
        if has_focus { self.coloured(Color::Cyan).add_modifier(Modifier::BOLD) } else { self.strong() }
    }

    /// The style of an event or a matter of this kind.
    pub fn of_kind(self, kind: &str) -> Style {
        match kind {
            "held" | "missing" => self.alert(),
            "discarded" | "late" | "too small" | "purged" | "resync" => self.notice(),
            "ingested" => self.good(),
            "staged" | "progress" => self.active(),
            _ => self.plain(),
        }
    }

    fn coloured(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }
}
