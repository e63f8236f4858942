//! The picture that a terminal would show: the part of ECMA-48 that the program uses.

/// A screen after some output.
pub struct Screen {
    cells: Vec<Vec<char>>,
    at: (usize, usize),
    /// True while the alternate screen is shown, and if it ever was.
    pub is_alternate: bool,
    pub was_alternate: bool,
    pub has_cursor: bool,
}

impl Screen {
    /// The screen of so many columns and lines after `output`.
    pub fn of(output: &str, (columns, rows): (u16, u16)) -> Screen {
        let cells = vec![vec![' '; columns.into()]; rows.into()];
        let mut screen =
            Screen { cells, at: (0, 0), is_alternate: false, was_alternate: false, has_cursor: true };
        let mut rest = output.chars().peekable();
        while let Some(character) = rest.next() {
            match character {
                '\u{1b}' if rest.peek() == Some(&'[') => {
                    rest.next();
                    let mut parameters = String::new();
                    let mut last = '\0';
                    for character in rest.by_ref() {
                        if ('@'..='~').contains(&character) {
                            last = character;
                            break;
                        }
                        parameters.push(character);
                    }
                    screen.control(&parameters, last);
                }
                '\u{1b}' => drop(rest.next()),
                '\r' => screen.at.1 = 0,
                '\n' => screen.at.0 += 1,
                character => screen.put(character),
            }
        }
        screen
    }

    /// The lines, without blanks at their ends.
    pub fn text(&self) -> String {
        let lines = self.cells.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }

    fn put(&mut self, character: char) {
        let (row, column) = self.at;
        if let Some(cell) = self.cells.get_mut(row).and_then(|line| line.get_mut(column)) {
            *cell = character;
        }
        self.at.1 += 1;
    }

    fn control(&mut self, parameters: &str, last: char) {
        let numbers: Vec<usize> = parameters.split(';').map(|number| number.parse().unwrap_or(1)).collect();
        match (parameters, last) {
            (_, 'H') => {
                self.at = (numbers[0] - 1, numbers.get(1).map_or(0, |column| column - 1));
            }
            ("2", 'J') => self.cells.iter_mut().for_each(|line| line.fill(' ')),
            ("2", 'K') => self.cells.get_mut(self.at.0).into_iter().for_each(|line| line.fill(' ')),
            ("?1049", 'h') => (self.is_alternate, self.was_alternate) = (true, true),
            ("?1049", 'l') => self.is_alternate = false,
            ("?25", _) => self.has_cursor = last == 'h',
            _ => {}
        }
    }
}
