//! Tables of text: columns as wide as what is in them; those of rare things hidden while there are none.

use std::fmt;

/// How a column is set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Text, from the left.
    Text(&'static str),
    /// A figure, from the right.
    Figure(&'static str),
    /// A figure that is of interest only where it isn't zero.
    Rare(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::Text(title) | Column::Figure(title) | Column::Rare(title) => title,
        }
    }
}

/// A table. It prints with two spaces in front of each line, and one line feed after each.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    all: bool,
}

impl Table {
    /// With `all`, nothing is hidden.
    pub(crate) fn new(columns: &[Column], all: bool) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new(), all }
    }

    /// Adds a row: a cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    fn shown(&self) -> impl Iterator<Item = (usize, Column, usize)> {
        self.columns.iter().enumerate().filter_map(|(i, &column)| {
            let cells = || self.rows.iter().map(move |row| row[i].as_str());
            let hidden =
                matches!(column, Column::Rare(_)) && !self.all && cells().all(|cell| matches!(cell, "0" | "0 B"));
            let width = cells().chain([column.title()]).map(|cell| cell.chars().count()).max().unwrap_or(0);
            (!hidden).then_some((i, column, width))
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.shown().collect();
        let titles = self.columns.iter().map(|column| column.title().to_owned()).collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            for &(i, column, width) in &shown {
                line += "  ";
                line += &match column {
                    Column::Text(_) => format!("{:<width$}", row[i]),
                    _ => format!("{:>width$}", row[i]),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be_and_rare_ones_hidden() {
        let table = |all, rare: &str| {
            let mut table = Table::new(&[Column::Text("name"), Column::Figure("bytes"), Column::Rare("lost")], all);
            table.row(vec!["a".to_owned(), "12".to_owned(), "0".to_owned()]);
            table.row(vec!["größer".to_owned(), "-".to_owned(), rare.to_owned()]);
            table.to_string()
        };
        assert_eq!(table(false, "0"), "  name    bytes\n  a          12\n  größer      -\n");
        assert_eq!(table(true, "0"), "  name    bytes  lost\n  a          12     0\n  größer      -     0\n");
        assert_eq!(table(false, "1"), table(true, "0").replace("-     0", "-     1"));
    }
}
