//! Which lines of the screen belong to which panel. Pure.

use super::model::Panel;

/// Lines of the head and the foot.
const FRAME_LINES: u16 = 2;
/// With fewer lines, only one panel besides what needs a person is shown.
const ALL_PANELS_FROM: u16 = 16;
/// A panel with its title and one row.
const PANEL_LINES_MIN: u16 = 2;
/// What happens has at least these lines.
const EVENT_LINES_MIN: u16 = 5;

/// The lines of each panel with its title, in the order of [`Panel::ALL`]; 0 for one that is not shown.
pub type Lines = [u16; Panel::ALL.len()];

/// Divides the lines between the head and the foot among panels that have so many rows.
pub fn lines(height: u16, rows: [usize; Panel::ALL.len()], focus: Panel) -> Lines {
    let available = height.saturating_sub(FRAME_LINES);
    let wanted = rows.map(|rows| u16::try_from(rows.max(1) + 1).unwrap_or(u16::MAX));
    let [attention, clients, streams, _] = wanted;
    if height < ALL_PANELS_FROM {
        return alone(available, focus);
    }
    // What happens gets what is left over.
    let share = if focus == Panel::Attention { available / 2 } else { available / 5 };
    let attention = attention.min(share.max(PANEL_LINES_MIN));
    let tables = available - attention - EVENT_LINES_MIN;
    let (clients, streams) = halves(tables, clients, streams);
    [attention, clients, streams, available - attention - clients - streams]
}

fn alone(available: u16, focus: Panel) -> Lines {
    let attention = if focus == Panel::Attention { available } else { available.min(PANEL_LINES_MIN) };
    let rest = available - attention;
    Panel::ALL.map(|panel| match panel {
        Panel::Attention => attention,
        panel if panel == focus => rest,
        _ => 0,
    })
}

/// Gives each what it wants, or half and what the other does not want.
fn halves(available: u16, one: u16, other: u16) -> (u16, u16) {
    let half = available / 2;
    let one_gets = one.min(available.saturating_sub(other.min(available - half)));
    (one_gets, other.min(available - one_gets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_panel_gets_what_it_wants_or_its_share() {
        use Panel::{Attention, Clients, Events};
        for (height, rows, focus, expected) in [
            // Nothing needs attention, three clients, two streams: the rest is for events.
            (24, [0, 3, 2, 100], Clients, [2, 4, 3, 13]),
            // Many of each.
            (24, [9, 50, 50, 100], Clients, [4, 6, 7, 5]),
            (24, [9, 50, 50, 100], Attention, [10, 3, 4, 5]),
            (24, [9, 50, 1, 100], Clients, [4, 11, 2, 5]),
            (24, [9, 1, 50, 100], Clients, [4, 2, 11, 5]),
            (60, [9, 50, 50, 100], Clients, [10, 21, 22, 5]),
            (16, [9, 50, 50, 100], Attention, [7, 1, 1, 5]),
            // Small: what needs attention and one more.
            (10, [9, 50, 50, 100], Clients, [2, 6, 0, 0]),
            (10, [9, 50, 50, 100], Events, [2, 0, 0, 6]),
            (10, [9, 50, 50, 100], Attention, [8, 0, 0, 0]),
            (3, [9, 50, 50, 100], Clients, [1, 0, 0, 0]),
            (1, [9, 50, 50, 100], Clients, [0, 0, 0, 0]),
        ] {
            assert_eq!(lines(height, rows, focus), expected, "{height} {rows:?} {focus:?}");
        }
        for height in 0..200 {
            for focus in Panel::ALL {
                for rows in [[0; 4], [1_000_000; 4], [0, 1, 1_000, 0]] {
                    let sum: u16 = lines(height, rows, focus).iter().sum();
                    assert_eq!(sum, height.saturating_sub(FRAME_LINES), "{height} {rows:?} {focus:?}");
                }
            }
        }
    }
}
