//! Faults as they are told, and texts that would be a burden.

use super::*;

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_text() {
    let text =
        "[network.lab]\nmtu = 9\n[network.lab.port.web]\ntapp = {}\nmac = \"x\"\n[network.lab.port.db]\n";
    let lines: Vec<_> = read(text)
        .expect_err("several faults")
        .faults()
        .iter()
        .map(|fault| (fault.error.code, fault.place.as_ref().map(|place| place.line)))
        .collect();
    assert_eq!(
        lines,
        [(OutOfRange, Some(2)), (UnknownKey, Some(4)), (BadMac, Some(5)), (NoAttachment, Some(6))]
    );
}

#[test]
fn a_fault_is_shown_at_its_place_with_a_suggestion() {
    let text = "[network.lab]\n\n[network.lab.port.web]\n\ttapp = { name = \"vm-web\" }\n";
    let shown = read(text).expect_err("an unknown key").to_string();
    let expected = "error: unknown key `tapp`, did you mean `tap`?
 --> vmlan.toml:4:2
  |
4 |  tapp = { name = \"vm-web\" }
  |  ^^^^
";
    assert_eq!(shown, expected);
}

#[test]
fn a_syntax_error_is_shown_at_its_place() {
    let errors = read("[network.lab\nmtu = 1500\n").expect_err("no closing bracket");
    assert_eq!(errors.faults()[0].error.code, Syntax);
    assert_eq!(errors.faults()[0].place.as_ref().map(|place| place.line), Some(1));
}

#[test]
fn a_fault_of_posted_text_has_its_line() {
    let config = read_posted("[network.lab]\nmtu = 9000\n").expect("a configuration");
    assert_eq!(config.network["lab"].mtu, Some(9000));

    let error = read_posted("[network.lab]\nmtuu = 9000\n").expect_err("no such key");

    assert!(error.message.starts_with("line 2: unknown key"), "{}", error.message);
}

#[test]
fn a_port_without_attachment_lists_the_kinds() {
    let shown = read(&web("queue = 5")).expect_err("no attachment").to_string();
    assert!(shown.contains("`tap`, `stream`, `datagram`, `vde`"), "{shown}");
}

#[test]
fn long_lines_and_control_characters_are_shown_safely() {
    let text = format!("{} = \"\u{1b}[31m\"\nx = 5 # {}", "k".repeat(300), "\u{7f}".repeat(300));
    let shown = read(&text).map(|_| ()).expect_err("unknown keys").to_string();
    assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{7f}']), "{shown:?}");
}

#[test]
fn thousands_of_faults_are_cut_short() {
    let text: String = (0..20_000).map(|n| format!("k{n} = 1\n")).collect();
    let count = read(&text).expect_err("unknown keys").faults().len();
    assert!((1..=50).contains(&count), "{count}");
}

#[test]
fn deep_nesting_is_a_fault_and_no_crash() {
    for text in [format!("network = {}", "[".repeat(100_000)), format!("{}b = 1", "a.".repeat(100_000))] {
        assert!(read(&text).is_err());
    }
}

#[test]
fn too_long_a_text_is_refused_unread() {
    assert_eq!(faults(&" ".repeat(LARGEST + 1)), [(TooLarge, String::new())]);
}
