//! Columns that line up.

use std::fmt;

/// A table of text: the first column stands left, the others right.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these titles.
    pub fn new<'a>(titles: impl Iterator<Item = &'a str>) -> Table {
        Table { rows: vec![titles.map(str::to_owned).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl Iterator<Item = String>) {
        self.rows.push(cells.collect());
    }
}

impl fmt::Display for Table {
    /// Nothing without rows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.len() < 2 {
            return Ok(());
        }
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max()
        };
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                let width = width(column).unwrap_or(0);
                if column == 0 {
                    write!(f, "{cell:<width$}")?;
                } else {
                    write!(f, "  {cell:>width$}")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_characters() {
        let mut table = Table::new(["name", "µs"].into_iter());
        table.row(["a".to_owned(), "100".to_owned()].into_iter());
        table.row(["longer".to_owned(), "1".to_owned()].into_iter());

        assert_eq!(table.to_string(), "name     µs\na       100\nlonger    1\n");
    }

    #[test]
    fn a_table_without_rows_is_nothing() {
        assert_eq!(Table::new(["name"].into_iter()).to_string(), "");
    }
}
