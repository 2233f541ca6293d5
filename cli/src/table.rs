//! Renders tables for people.

use comfy_table::{CellAlignment, Table, presets};

use crate::output::Foreign;

/// Renders a table, with columns of numbers aligned to the right.
pub fn render(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header.iter().copied());
    let mut numeric = vec![true; header.len()];
    for row in rows {
        for (column, cell) in row.iter().enumerate().take(header.len()) {
            numeric[column] &= cell.parse::<f64>().is_ok() || cell == "-";
        }
        table.add_row(row.iter().map(|cell| Foreign(cell).to_string()));
    }
    for (column, _) in numeric.iter().enumerate().filter(|(_, numeric)| **numeric) {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}
