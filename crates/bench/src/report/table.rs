//! Columns that line up.

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// With spaces, for a terminal.
    Plain,
    /// As Markdown has it.
    Markdown,
}

/// A table of text.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these titles.
    pub fn new<const N: usize>(titles: [&str; N]) -> Table {
        Table { rows: vec![titles.map(str::to_owned).to_vec()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// True if it has titles only.
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// A line for each row. What is said in the line above already is left out of the first column.
    pub fn to_text(&self, style: Style) -> String {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let mut text = String::new();
        let mut before: Option<&String> = None;
        for (number, row) in self.rows.iter().enumerate() {
            let repeated = before.replace(&row[0]) == Some(&row[0]);
            let mut cells = Vec::with_capacity(row.len());
            for (column, cell) in row.iter().enumerate() {
                let cell = if column == 0 && repeated { "" } else { cell };
                let width = if style == Style::Plain { width(column).unwrap_or(0) } else { 0 };
                cells.push(format!("{cell:<width$}"));
            }
            match style {
                Style::Plain => text += &format!("  {}\n", cells.join("  ").trim_end()),
                Style::Markdown => text += &format!("| {} |\n", cells.join(" | ")),
            }
            if number == 0 && style == Style::Markdown {
                text += &format!("|{}\n", "---|".repeat(row.len()));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["figure", "who"]);
        table.row(["µs".into(), "x".into()]);
        table.row(["µs".into(), "vmlan".into()]);
        table
    }

    #[test]
    fn columns_line_up_and_nothing_is_said_twice() {
        assert_eq!(table().to_text(Style::Plain), "  figure  who\n  µs      x\n          vmlan\n");
    }

    #[test]
    fn markdown_has_a_line_below_the_titles() {
        assert_eq!(
            table().to_text(Style::Markdown),
            "| figure | who |\n|---|---|\n| µs | x |\n|  | vmlan |\n"
        );
        assert!(Table::new(["a"]).is_empty());
    }
}
