//! The picture of the model: a line about all ports, the ports that fit, a line or two about the one that is selected,
//! and the keys. Only what fits is drawn, so a frame costs the lines of the terminal and not the number of ports.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use vmlan_api::PortState;

use super::model::{Model, Name, Row};
use super::rate::short;
use crate::table::{cut, padded};

/// Columns of the terminal that a history takes at least and at most; a minute has 60 seconds.
const NARROWEST_MINUTE: usize = 10;
const WIDEST_MINUTE: usize = 60;
/// Columns that it has more than the fewest before frames are shown as well.
const WIDER_MINUTE: usize = 20;
/// Columns of the terminal that a name takes at least.
const NARROWEST_NAME: usize = 12;
/// Columns of a number.
const NUMBER: usize = 8;

const KEYS: &str = "q quit  / filter  r rate  d drops  n name  ? help";

const HELP: [&str; 15] = [
    "r  d  n         sort by rate, drops, name",
    "/               show ports whose name has a text",
    "Up  Down        select a port, to see its drops",
    "PgUp  PgDn      move by a page",
    "Home  End       to the first port, to the last",
    "+  -            ask the daemon less often, more often",
    "q  Esc  Ctrl-C  quit",
    "",
    "RX came from the guest, TX went to it.",
    "RX, TX          bits a second",
    "RX FR, TX FR    frames a second",
    "DROPS/S, DROPS  drops a second, and all of them",
    "LAST MINUTE     bits a second; each port has its own scale",
    "",
    "Any other key goes back.",
];

/// Colours, or the lack of them.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    is_coloured: bool,
}

impl Theme {
    /// With colours, or with bold and reversed text alone.
    pub fn new(is_coloured: bool) -> Self {
        Self { is_coloured }
    }

    fn coloured(self, colour: Color, otherwise: Modifier) -> Style {
        match self.is_coloured {
            true => Style::new().fg(colour),
            false => Style::new().add_modifier(otherwise),
        }
    }

    fn bad(self) -> Style {
        self.coloured(Color::Red, Modifier::BOLD)
    }

    fn state(self, state: PortState) -> Style {
        match state {
            PortState::Up => self.coloured(Color::Green, Modifier::empty()),
            PortState::Waiting => self.coloured(Color::Yellow, Modifier::empty()),
            PortState::Down | PortState::Failed => self.bad(),
        }
    }
}

/// A column of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Name,
    State,
    RxBits,
    TxBits,
    RxFrames,
    TxFrames,
    DropRate,
    Drops,
    Minute,
}

impl Column {
    /// In the order in which they stand.
    const ALL: [Self; 9] = [
        Self::Name,
        Self::State,
        Self::RxBits,
        Self::TxBits,
        Self::RxFrames,
        Self::TxFrames,
        Self::DropRate,
        Self::Drops,
        Self::Minute,
    ];
    /// In the order in which a terminal that grows gets them.
    const WANTED: [Self; 9] = [
        Self::Name,
        Self::RxBits,
        Self::TxBits,
        Self::DropRate,
        Self::State,
        Self::Minute,
        Self::Drops,
        Self::RxFrames,
        Self::TxFrames,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Name => "PORT",
            Self::State => "STATE",
            Self::RxBits => "RX",
            Self::TxBits => "TX",
            Self::RxFrames => "RX FR",
            Self::TxFrames => "TX FR",
            Self::DropRate => "DROPS/S",
            Self::Drops => "DROPS",
            Self::Minute => "LAST MINUTE",
        }
    }

    fn narrowest(self) -> usize {
        match self {
            Self::Name => NARROWEST_NAME,
            Self::Minute => NARROWEST_MINUTE,
            _ => NUMBER,
        }
    }
}

/// The columns that fit, with their widths.
fn columns(width: usize, longest_name: usize) -> Vec<(Column, usize)> {
    let mut left = width;
    let mut chosen = Vec::new();
    for column in Column::WANTED {
        let needed = match column {
            Column::Name => column.narrowest(),
            // Frames are there both ways or not at all, and only where the minute has more room already.
            Column::RxFrames => 2 * (NUMBER + 1) + WIDER_MINUTE,
            _ => column.narrowest() + 1,
        };
        // The name is always there, as wide as there is room.
        if column != Column::Name && needed > left {
            break;
        }
        left = left.saturating_sub(column.narrowest() + usize::from(column != Column::Name));
        chosen.push(column);
    }
    let wider_name = longest_name.saturating_sub(NARROWEST_NAME).min(left);
    left -= wider_name;
    let wider_minute = left.min(WIDEST_MINUTE - NARROWEST_MINUTE);
    let width_of = |column| match column {
        Column::Name => (NARROWEST_NAME + wider_name).min(width),
        Column::Minute => NARROWEST_MINUTE + wider_minute,
        other => other.narrowest(),
    };
    Column::ALL
        .into_iter()
        .filter(|column| chosen.contains(column))
        .map(|column| (column, width_of(column)))
        .collect()
}

/// Draws the model as it is at `now`.
pub fn draw(frame: &mut Frame<'_>, model: &mut Model, now: Duration, theme: Theme) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    if model.help() {
        let lines = HELP.iter().map(|line| Line::raw(cut(line, width)));
        return put(frame, 0, lines.take(height));
    }
    // Two lines on top, one below; of the one that is selected two more, where there is room for some ports as well.
    let detail = if model.selected().is_some() && height >= 8 { 2 } else { 0 };
    let page = height.saturating_sub(3 + detail);
    let shown = model.shown();
    let count = shown.len();
    let selected = shown.iter().position(|(name, _)| Some(*name) == model.selected());
    let head = summary(model, now, count, width, theme);
    let foot = foot(model, width);
    let first = model.scroll(page, count, selected);
    let shown = model.shown();
    let seen = &shown[first.min(count)..(first + page).min(count)];
    let longest = seen.iter().map(|(name, _)| Span::raw(title(name)).width()).max().unwrap_or(0);
    let columns = columns(width, longest);
    let titles: String =
        columns.iter().map(|(column, width)| cell(*column, column.title(), *width)).collect();
    let titles = Line::styled(cut(&titles, width).into_owned(), Style::new().add_modifier(Modifier::BOLD));
    let rows = seen.iter().map(|(name, row)| {
        let line = line(name, row, &columns, model.answered(), theme);
        let is_selected = Some(*name) == model.selected();
        if is_selected { line.patch_style(Style::new().add_modifier(Modifier::REVERSED)) } else { line }
    });
    let lines: Vec<_> = [head, titles].into_iter().chain(rows).take(height).collect();
    put(frame, 0, lines.into_iter());
    if let Some((_, row)) = selected.and_then(|place| shown.get(place)).filter(|_| detail > 0) {
        let drops = if row.reasons.is_empty() { "-" } else { &row.reasons };
        let texts = [row.about.clone(), format!("drops: {drops}")];
        put(frame, height - 3, texts.into_iter().map(|text| Line::raw(cut(&text, width).into_owned())));
    }
    if height > 2 {
        put(frame, height - 1, std::iter::once(Line::raw(foot)));
    }
}

/// Writes lines one below the other; what is outside the terminal is left out.
fn put<'l>(frame: &mut Frame<'_>, top: usize, lines: impl Iterator<Item = Line<'l>>) {
    let area = frame.area();
    for (place, line) in lines.enumerate() {
        let y = u16::try_from(top + place).unwrap_or(u16::MAX);
        if y < area.height {
            frame.render_widget(line, Rect::new(area.x, area.y + y, area.width, 1));
        }
    }
}

/// A line about all ports, or about the daemon that is away.
fn summary(model: &Model, now: Duration, count: usize, width: usize, theme: Theme) -> Line<'static> {
    if let Some(trouble) = model.trouble(now) {
        return Line::styled(cut(&trouble, width).into_owned(), theme.bad());
    }
    let (mut ports, mut up, mut rx, mut tx, mut drops) = (0, 0, 0.0, 0.0, 0.0);
    for row in model.rows() {
        ports += 1;
        up += usize::from(row.state == PortState::Up);
        rx += row.rates.rx_bits;
        tx += row.rates.tx_bits;
        drops += row.rates.drops;
    }
    let shown = if count == ports { String::new() } else { format!(", {count} shown") };
    let text = format!(
        "{ports} ports, {up} up{shown}  RX {}  TX {}  drops {}/s  by {}, every {} s",
        short(rx),
        short(tx),
        short(drops),
        model.order().as_str(),
        model.interval().as_secs_f64(),
    );
    Line::raw(cut(&text, width).into_owned())
}

/// The keys, or the filter.
fn foot(model: &Model, width: usize) -> String {
    let text = match model.filter() {
        // Its end is where one types.
        (filter, true) => {
            let mut tail = filter;
            while Span::raw(tail).width() + 10 > width.max(11) {
                let mut characters = tail.chars();
                characters.next();
                tail = characters.as_str();
            }
            format!("filter: {tail}_")
        }
        ("", false) => KEYS.to_owned(),
        (filter, false) => format!("filter: {filter}  (/ changes it)  {KEYS}"),
    };
    cut(&text, width).into_owned()
}

fn title((network, port): &Name) -> String {
    format!("{network}/{port}")
}

fn line(name: &Name, row: &Row, columns: &[(Column, usize)], end: Duration, theme: Theme) -> Line<'static> {
    let spans = columns.iter().map(|(column, width)| {
        let rates = &row.rates;
        let (text, style) = match column {
            Column::Name => (title(name), Style::new()),
            Column::State => (row.state.as_str().to_owned(), theme.state(row.state)),
            Column::RxBits => (short(rates.rx_bits), Style::new()),
            Column::TxBits => (short(rates.tx_bits), Style::new()),
            Column::RxFrames => (short(rates.rx_frames), Style::new()),
            Column::TxFrames => (short(rates.tx_frames), Style::new()),
            Column::DropRate if rates.drops > 0.0 => (short(rates.drops), theme.bad()),
            Column::DropRate => (short(rates.drops), Style::new()),
            Column::Drops if row.totals.drops < 1_000 => (row.totals.drops.to_string(), Style::new()),
            Column::Drops => (short(row.totals.drops as f64), Style::new()),
            Column::Minute => (row.history.bars(end, *width), theme.coloured(Color::Cyan, Modifier::empty())),
        };
        Span::styled(cell(*column, &text, *width), style)
    });
    Line::from(spans.collect::<Vec<_>>())
}

/// A cell in its columns, with a blank in front of all but the first: numbers to the right, texts to the left.
fn cell(column: Column, text: &str, width: usize) -> String {
    match column {
        Column::Name => padded(text, width),
        Column::State | Column::Minute => format!(" {}", padded(text, width)),
        _ => format!(" {:>width$}", cut(text, width)),
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
