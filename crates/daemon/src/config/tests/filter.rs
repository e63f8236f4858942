use super::*;

#[test]
fn rules_are_checked_each() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("all");
    std::fs::write(&file, "1\n6 0 0 262144\n").expect("room");
    let good = format!("program = \"{}\"", file.display());
    let rule =
        |lines: &str| web(&format!("tap = {{ name = \"t0\" }}\n[[network.lab.port.web.filter]]\n{lines}"));
    let config = read(&rule(&format!("action = \"drop\"\n{good}"))).expect("a configuration");
    let [one] = &config.port("lab", "web").expect("the port").settings.filters[..] else {
        panic!("one rule")
    };
    assert_eq!(
        (one.direction, one.action),
        (vmlan_api::FilterDirection::Both, vmlan_api::FilterAction::Drop)
    );
    assert_eq!(one.program.run(&[0; 60]), 262_144);
    let at = "network.lab.port.web.filter[0]";
    for (lines, code, member) in [
        (good.clone(), MissingKey, ""),
        ("action = \"pass\"".into(), MissingKey, ""),
        (format!("action = \"pass\"\nexpression = \"icmp\"\n{good}"), Conflict, ""),
        (format!("action = \"stop\"\n{good}"), OutOfRange, ".action"),
        ("action = \"pass\"\nexpression = \"\"".into(), BadFilter, ".expression"),
        ("action = \"pass\"\nprogram = \"none\"".into(), BadFilter, ".program"),
        ("action = \"pass\"\nprogram = \"~/x\"".into(), BadPath, ".program"),
        (format!("action = \"pass\"\nway = \"in\"\n{good}"), UnknownKey, ".way"),
    ] {
        assert!(faults(&rule(&lines)).contains(&(code, format!("{at}{member}"))), "{lines}");
    }
}
