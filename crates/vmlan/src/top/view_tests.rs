//! Tests of the picture, on a terminal that is memory.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;
use vmlan_api::{Counters, Port, PortState};

use super::super::model::Model;
use super::{Theme, draw};

const SECOND: Duration = Duration::from_secs(1);

fn port(name: &str, octets: u64, drops: u64) -> Port {
    let drops = [("storm".to_owned(), drops)].into();
    let counters = Counters { rx_octets: octets, tx_octets: octets / 2, drops, ..Counters::default() };
    let state = PortState::Up;
    Port { network: "lab".into(), port: name.into(), state, counters, ..Port::default() }
}

fn model() -> Model {
    let mut model = Model::new();
    model.take(&[port("db", 0, 0), port("web", 0, 0)], 59 * SECOND);
    model.take(&[port("db", 1_000, 0), port("web", 250_000, 7)], 60 * SECOND);
    model
}

fn press(model: &mut Model, keys: &[KeyCode]) {
    for key in keys {
        model.press(KeyEvent::new(*key, KeyModifiers::NONE));
    }
}

fn terminal(model: &mut Model, width: u16, height: u16, theme: Theme) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory");
    terminal.draw(|frame| draw(frame, model, 60 * SECOND, theme)).expect("memory");
    terminal
}

/// The lines of the picture, without blanks at their ends.
fn lines(model: &mut Model, width: u16, height: u16) -> Vec<String> {
    let terminal = terminal(model, width, height, Theme::new(false));
    let buffer = terminal.backend().buffer();
    let cells: Vec<&str> = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
    let lines = cells.chunks(usize::from(width).max(1));
    lines.map(|line| line.concat().trim_end().to_owned()).collect()
}

#[test]
fn the_busiest_port_is_on_top_with_its_rates() {
    let expected = [
        "2 ports, 2 up  RX 2.0M  TX 1.0M  drops 7.0/s  by rate, every 1 s",
        "PORT         STATE          RX       TX  DROPS/S    DROPS LAST MINUTE",
        "lab/web      up           2.0M     1.0M      7.0        7                      █",
        "lab/db       up           8.0k     4.0k        0        0                      █",
        "",
        "q quit  / filter  r rate  d drops  n name  ? help",
    ];
    assert_eq!(lines(&mut model(), 80, 6), expected);
}

#[test]
fn a_small_terminal_has_the_rates() {
    let lines = lines(&mut model(), 40, 10);
    assert_eq!(lines[1], "PORT               RX       TX  DROPS/S");
    assert_eq!(lines[2], "lab/web          2.0M     1.0M      7.0");
    assert_eq!(lines[9], "q quit  / filter  r rate  d drops  n na…");
}

#[test]
fn a_large_terminal_has_all_columns() {
    let titles = |width| {
        let lines = lines(&mut model(), width, 10);
        lines[1].split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for width in [106, 120, 1_000] {
        assert_eq!(titles(width), "PORT STATE RX TX RX FR TX FR DROPS/S DROPS LAST MINUTE", "{width}");
    }
    assert_eq!(titles(105), "PORT STATE RX TX DROPS/S DROPS LAST MINUTE");
}

#[test]
fn a_selected_port_tells_its_drops() {
    let mut model = model();
    press(&mut model, &[KeyCode::Down]);
    let lines = lines(&mut model, 60, 10);
    assert_eq!(lines[7..9], ["tap, up", "drops: storm=7"]);
}

#[test]
fn the_filter_is_seen_while_it_is_typed_and_afterwards() {
    let mut model = model();
    press(&mut model, &['/', 'd', 'b'].map(KeyCode::Char));
    let typed = lines(&mut model, 80, 6);
    assert_eq!((typed[5].as_str(), typed[3].as_str()), ("filter: db_", ""));
    assert!(typed[0].starts_with("2 ports, 2 up, 1 shown"), "{typed:?}");
    assert!(typed[2].starts_with("lab/db"), "{typed:?}");
    press(&mut model, &[KeyCode::Enter]);
    assert!(lines(&mut model, 80, 6)[5].starts_with("filter: db  (/ changes it)"));
}

#[test]
fn a_daemon_that_is_away_is_on_top() {
    let mut model = model();
    model.lose("cannot reach vmlan at /x");
    let lines = lines(&mut model, 80, 6);
    assert_eq!(lines[0], "trying again: cannot reach vmlan at /x");
    assert!(lines[2].starts_with("lab/db"), "{lines:?}");
}

#[test]
fn of_many_ports_the_page_with_the_selected_one_is_drawn() {
    let ports: Vec<_> = (0..512).map(|number| port(&format!("p{number:03}"), 0, 0)).collect();
    let mut model = Model::new();
    model.take(&ports, SECOND);
    assert!(lines(&mut model, 80, 24)[22].starts_with("lab/p020"));
    press(&mut model, &[KeyCode::End]);
    let end = lines(&mut model, 80, 24);
    assert!(end[20].starts_with("lab/p511"), "{end:?}");
    press(&mut model, &[KeyCode::PageUp]);
    let before = lines(&mut model, 80, 24);
    assert!(before[2].starts_with("lab/p492") && end[2].starts_with("lab/p493"), "{before:?} {end:?}");
}

#[test]
fn no_size_and_no_name_is_too_much() {
    let wide = "世".repeat(60);
    let hostile = ["", "\u{1b}[2J\n", &wide, &"x".repeat(10_000)].map(|name| port(name, u64::MAX, u64::MAX));
    for keys in [&[][..], &[KeyCode::Down], &[KeyCode::Char('?')], &['/', '世', 'x'].map(KeyCode::Char)] {
        let mut model = Model::new();
        model.take(&hostile.clone().map(|port| Port { counters: Counters::default(), ..port }), SECOND);
        model.take(&hostile, 2 * SECOND);
        press(&mut model, keys);
        for width in 0..90 {
            for height in 0..14 {
                let lines = lines(&mut model, width, height);
                assert!(lines.iter().all(|line| line.chars().all(vmlan_api::is_plain)), "{lines:?}");
            }
        }
    }
}

#[test]
fn colours_are_there_only_when_they_are_wanted() {
    let mut model = model();
    let mut colours = |is_coloured| {
        let terminal = terminal(&mut model, 80, 6, Theme::new(is_coloured));
        let cells = &terminal.backend().buffer().content;
        cells.iter().filter(|cell| (cell.fg, cell.bg) != (Color::Reset, Color::Reset)).count()
    };
    assert_eq!(colours(false), 0);
    assert!(colours(true) > 0);
}
