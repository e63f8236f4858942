//! Tests of the model: keys, rates, filters and what a hostile daemon says.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use vmlan_api::{Counters, Port};

use super::{Action, INTERVALS, LONGEST_FILTER, Model};

const SECOND: Duration = Duration::from_secs(1);

fn port(name: &str, octets: u64, drops: u64) -> Port {
    let drops = [("storm".to_owned(), drops)].into();
    let counters = Counters { rx_octets: octets, drops, ..Counters::default() };
    Port { network: "lab".into(), port: name.into(), counters, ..Port::default() }
}

fn press(model: &mut Model, code: KeyCode) -> Action {
    model.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn write(model: &mut Model, text: &str) {
    for character in text.chars() {
        assert_eq!(press(model, KeyCode::Char(character)), Action::Draw);
    }
}

fn names(model: &Model) -> Vec<String> {
    model.shown().into_iter().map(|((_, port), _)| port.clone()).collect()
}

/// Three ports after two answers: `a` is the busiest, `b` drops the most now, `c` dropped the most.
fn busy() -> Model {
    let mut model = Model::new();
    model.take(&[port("a", 0, 0), port("b", 0, 0), port("c", 0, 9)], SECOND);
    model.take(&[port("a", 300, 0), port("b", 200, 5), port("c", 100, 9)], 2 * SECOND);
    model
}

#[test]
fn ports_are_in_the_order_that_a_key_chose() {
    let mut model = busy();
    for (key, order) in [('d', ["b", "c", "a"]), ('n', ["a", "b", "c"]), ('r', ["a", "b", "c"])] {
        press(&mut model, KeyCode::Char(key));
        assert_eq!(names(&model), order, "{key}");
    }
    model.take(&[port("a", 300, 0), port("b", 200, 5), port("c", 900, 9)], 3 * SECOND);
    assert_eq!(names(&model), ["c", "a", "b"]);
}

#[test]
fn a_port_that_was_made_anew_has_no_rate_until_the_next_answer() {
    let mut model = busy();
    let rate = |model: &Model| model.shown().iter().map(|(_, row)| row.rates.rx_bits).sum::<f64>();
    model.take(&[port("a", 10, 0)], 3 * SECOND);
    assert_eq!(rate(&model), 0.0);
    model.take(&[port("a", 20, 0)], 4 * SECOND);
    assert_eq!(rate(&model), 80.0);
}

#[test]
fn nothing_is_compared_over_a_time_without_the_daemon() {
    let mut model = busy();
    model.lose("cannot reach vmlan\nat all\u{1b}");
    assert_eq!(model.trouble(2 * SECOND).as_deref(), Some("trying again: cannot reach vmlan"));
    assert_eq!(names(&model).len(), 3);
    assert!(model.rows().all(|row| row.rates.bits() == 0.0));
    model.take(&[port("a", 1 << 40, 0)], 60 * SECOND);
    assert_eq!(model.trouble(60 * SECOND), None);
    assert!(model.rows().all(|row| row.rates.bits() == 0.0));
    model.take(&[port("a", (1 << 40) + 1, 0)], 61 * SECOND);
    assert_eq!(model.shown()[0].1.rates.rx_bits, 8.0);
}

#[test]
fn a_daemon_that_is_silent_is_named() {
    let model = busy();
    assert_eq!(model.trouble(3 * SECOND), None);
    assert_eq!(model.trouble(12 * SECOND).as_deref(), Some("no answer of the daemon for 10 s"));
}

#[test]
fn a_filter_is_typed_kept_and_taken_back() {
    let mut model = Model::new();
    model.take(&[port("web", 0, 0), port("db", 0, 0), port("webmail", 0, 0)], SECOND);
    write(&mut model, "/WEBx");
    press(&mut model, KeyCode::Backspace);
    assert_eq!(model.filter(), ("WEB", true));
    assert_eq!(names(&model), ["web", "webmail"]);
    press(&mut model, KeyCode::Enter);
    assert_eq!(model.filter(), ("WEB", false));
    write(&mut model, "/less");
    assert!(names(&model).is_empty());
    assert_eq!(press(&mut model, KeyCode::Esc), Action::Draw);
    assert_eq!(names(&model), ["web", "webmail"]);
    write(&mut model, "/");
    model.press(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
    assert_eq!(names(&model), ["db", "web", "webmail"]);
    write(&mut model, &"q".repeat(1_000));
    press(&mut model, KeyCode::Char('\u{9b}'));
    assert_eq!(model.filter().0, "q".repeat(LONGEST_FILTER));
}

#[test]
fn keys_end_it() {
    for code in [KeyCode::Char('q'), KeyCode::Esc] {
        assert_eq!(press(&mut busy(), code), Action::End);
    }
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    for before in ["", "?", "/web"] {
        let mut model = busy();
        write(&mut model, before);
        assert_eq!(model.press(interrupt), Action::End, "{before}");
    }
    let mut model = busy();
    write(&mut model, "?");
    assert!(model.help());
    assert_eq!(press(&mut model, KeyCode::Esc), Action::Draw);
    assert!(!model.help());
}

#[test]
fn the_interval_has_bounds() {
    let mut model = busy();
    assert_eq!(model.interval(), SECOND);
    for _ in 0..10 {
        press(&mut model, KeyCode::Char('+'));
    }
    assert_eq!(model.interval(), INTERVALS[4]);
    for _ in 0..10 {
        press(&mut model, KeyCode::Char('-'));
    }
    assert_eq!(press(&mut model, KeyCode::Char('-')), Action::Interval(INTERVALS[0]));
}

#[test]
fn a_selection_follows_its_port_and_the_page_follows_the_selection() {
    let mut model = busy();
    let selected = |model: &Model| model.selected().map(|(_, port)| port.clone());
    press(&mut model, KeyCode::Down);
    assert_eq!(selected(&model).as_deref(), Some("a"));
    press(&mut model, KeyCode::Down);
    model.take(&[port("a", 300, 0), port("b", 900, 5), port("c", 100, 9)], 3 * SECOND);
    assert_eq!((names(&model)[0].as_str(), selected(&model).as_deref()), ("b", Some("b")));
    press(&mut model, KeyCode::End);
    assert_eq!(selected(&model).as_deref(), Some("c"));
    assert_eq!(model.scroll(2, 3, Some(2)), 1);
    press(&mut model, KeyCode::PageUp);
    assert_eq!(selected(&model).as_deref(), Some("b"));
    assert_eq!(model.scroll(2, 3, Some(0)), 0);
    press(&mut model, KeyCode::Home);
    assert_eq!(selected(&model), None);
    press(&mut model, KeyCode::Up);
    model.take(&[], 4 * SECOND);
    assert_eq!(selected(&model), None);
    press(&mut model, KeyCode::Down);
    assert_eq!(model.scroll(0, 0, None), 0);
}

#[test]
fn texts_of_the_daemon_are_escaped() {
    let mut model = Model::new();
    let hostile = Port {
        peer: Some("\u{1b}[31m".into()),
        reason: Some("a\nb".into()),
        counters: Counters { drops: [("\u{9b}x".to_owned(), 1)].into(), ..Counters::default() },
        ..port("w\u{1b}[2J", 0, 0)
    };
    model.take(&[hostile], SECOND);
    let ((_, name), row) = model.shown()[0];
    assert_eq!(name, r"w\u{1b}[2J");
    assert_eq!(row.about, r"tap, waiting, \u{1b}[31m, a\nb");
    assert_eq!(row.reasons, r"\u{9b}x=1");
}
