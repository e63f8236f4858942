use std::sync::MutexGuard;

use vmlan_frame::{MacAddr, Mutex};

use super::super::fake::{Fake, name};
use super::super::mark::Mark;
use super::super::pair::left_over;
use super::*;

/// The pairs of a process are counted, so one test at a time makes them.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock()
}

fn on_bridge(system: &Fake) -> Trunk<Fake> {
    Trunk::new(system.clone(), Target::Bridge(name("bridge100")))
}

fn there(interface: &str, rejoined: bool) -> Look {
    Look::There { interface: name(interface), rejoined }
}

fn members(system: &Fake) -> Vec<InterfaceName> {
    system.state().bridges[&name("bridge100")].iter().copied().collect()
}

#[test]
fn a_pair_is_made_joined_and_removed() {
    let _alone = alone();
    let system = Fake::default();
    system.add_bridge("bridge100", 1400);
    let mut trunk = on_bridge(&system);
    assert_eq!(trunk.look(true), there("feth0", false));
    assert_eq!(members(&system), [name("feth1")]);
    {
        let state = system.state();
        let ends = [&state.interfaces[&name("feth0")], &state.interfaces[&name("feth1")]];
        assert!(ends.iter().all(|end| end.is_up && end.mtu == 1400));
        assert_eq!(ends.map(|end| end.peer), [Some(name("feth1")), Some(name("feth0"))]);
        let marks = ends.map(|end| Mark::of(end.mac.unwrap()).unwrap());
        assert!(marks.iter().all(|mark| mark.process == std::process::id()));
        assert_eq!(marks.map(|mark| mark.is_outer), [false, true]);
    }
    // Nothing happened, so nothing is done.
    let calls = system.calls();
    assert_eq!(trunk.look(true), there("feth0", false));
    assert_eq!(system.calls(), calls + 1);
    drop(trunk);
    assert_eq!((system.feths(), members(&system)), (vec![], vec![]));
}

/// Host filter case 12: a bridge drops our port.
#[test]
fn case_12_a_bridge_that_drops_our_port_is_joined_again() {
    let _alone = alone();
    let system = Fake::default();
    system.add_bridge("bridge100", 1500);
    let mut trunk = on_bridge(&system);
    trunk.look(true);
    for _ in 0..100 {
        system.state().bridges.get_mut(&name("bridge100")).unwrap().clear();
        assert_eq!(trunk.look(true), there("feth0", true));
        assert_eq!(members(&system), [name("feth1")]);
    }
}

/// Host filter case 5: the interface is deleted and recreated 100 times.
#[test]
fn case_5_a_bridge_that_goes_is_waited_for_and_joined_when_it_is_back() {
    let _alone = alone();
    let system = Fake::default();
    let mut trunk = on_bridge(&system);
    for _ in 0..100 {
        assert!(matches!(trunk.look(true), Look::Missing(_)));
        assert_eq!(system.feths(), []);
        system.add_bridge("bridge100", 1500);
        assert_eq!(trunk.look(true), there("feth0", false));
        assert_eq!(members(&system), [name("feth1")]);
        system.remove("bridge100");
    }
}

#[test]
fn a_pair_whose_end_was_removed_is_made_anew() {
    let _alone = alone();
    let system = Fake::default();
    system.add_bridge("bridge100", 1500);
    let mut trunk = on_bridge(&system);
    trunk.look(true);
    system.remove("feth1");
    // Its other end was there still when the new pair was named, or is reused: either way there is one pair.
    assert_eq!(trunk.look(true), there("feth0", false));
    assert_eq!((system.feths().len(), members(&system).len()), (2, 1));
}

/// Host filter case 11: the MTU changes.
#[test]
fn case_11_a_bridge_with_another_mtu_gets_another_pair() {
    let _alone = alone();
    let system = Fake::default();
    system.add_bridge("bridge100", 1500);
    let mut trunk = on_bridge(&system);
    trunk.look(true);
    system.remove("bridge100");
    system.add_bridge("bridge100", 2000);
    assert_eq!(trunk.look(true), there("feth0", false));
    assert_eq!(system.state().interfaces[&name("feth1")].mtu, 2000);
    system.remove("bridge100");
    system.add_bridge("bridge100", 9000);
    assert!(
        matches!(trunk.look(true), Look::Failed(reason) if reason.contains("9000") && reason.contains("2048"))
    );
    assert_eq!(system.feths(), []);
}

/// Whatever call fails first, nothing is left behind, and the next look succeeds.
#[test]
fn a_failure_at_any_call_leaves_nothing_behind() {
    let _alone = alone();
    let system = Fake::default();
    system.add_bridge("bridge100", 1500);
    on_bridge(&system).look(true);
    let calls = system.calls();
    for failing in 0..calls {
        let system = Fake::default();
        system.add_bridge("bridge100", 1500);
        system.state().failing = Some((failing, Errno::PERM));
        let mut trunk = on_bridge(&system);
        let looked = trunk.look(true);
        assert!(matches!(&looked, Look::Failed(reason) if !reason.is_empty()), "{failing}: {looked:?}");
        assert_eq!(system.feths(), [], "after call {failing}");
        assert_eq!(trunk.look(true), there("feth0", false), "after call {failing}");
    }
}

/// Host filter case 14: an unknown interface; the error names the ones that exist.
#[test]
fn case_14_an_unknown_interface_is_answered_with_those_that_exist() {
    let _alone = alone();
    let system = Fake::default();
    system.add_interface("en0", Some(MacAddr([2, 0, 0, 0, 0, 1])));
    system.add_interface("lo0", None);
    let mut trunk = Trunk::new(system.clone(), Target::Interface(name("en7")));
    assert_eq!(trunk.look(true), Look::Missing("there is no interface en7; there are: en0".into()));
    system.add_interface("en7", Some(MacAddr([2, 0, 0, 0, 0, 7])));
    // Not brought up before a guest is there.
    assert_eq!(trunk.look(false), there("en7", false));
    assert!(!system.state().interfaces[&name("en7")].is_up);
    assert_eq!(trunk.look(true), there("en7", false));
    assert!(system.state().interfaces[&name("en7")].is_up);
    assert_eq!(
        on_bridge(&system).look(true),
        Look::Missing("there is no bridge bridge100; there is no bridge at all".into())
    );
    system.add_bridge("bridge0", 1500);
    assert_eq!(
        on_bridge(&system).look(true),
        Look::Missing("there is no bridge bridge100; there are: bridge0".into())
    );
}

#[test]
fn an_interface_is_no_bridge() {
    let _alone = alone();
    let system = Fake::default();
    system.add_interface("bridge100", None);
    assert!(matches!(on_bridge(&system).look(true), Look::Failed(reason) if reason.contains("`interface`")));
}

#[test]
fn events_of_the_bridge_and_the_pair_are_worth_a_look() {
    let _alone = alone();
    let system = Fake::default();
    system.add_bridge("bridge100", 1500);
    let mut trunk = on_bridge(&system);
    assert!(trunk.concerns(name("bridge100")) && !trunk.concerns(name("feth0")));
    trunk.look(true);
    let concerned = ["bridge100", "feth0", "feth1", "en0"].map(|text| trunk.concerns(name(text)));
    assert_eq!(concerned, [true, true, true, false]);
}

/// Host filter case 7: what a killed process left is known, and nothing else taken for it.
#[test]
fn case_7_what_a_killed_process_left_is_known_from_what_others_have() {
    let _alone = alone();
    let system = Fake::default();
    system.add_bridge("bridge100", 1500);
    let mut trunk = on_bridge(&system);
    trunk.look(true);
    let marked = |process, pair| Mark { process, pair, is_outer: true }.mac();
    system.add_interface("feth10", marked(4242, 0));
    system.add_interface("feth11", marked(4343, 0));
    system.add_interface("feth12", Some(MacAddr([0x66, 0x65, 0x74, 0x68, 0, 12])));
    system.add_interface("feth13", None);
    // Ours by its address, but of no pair that this process has: it had the same number as a process that was killed.
    system.add_interface("feth14", marked(std::process::id(), 63));
    // Somebody gave another kind of interface such an address: it is not ours.
    system.add_interface("en5", marked(4242, 0));
    let found = left_over(&system, |process| process == 4343).unwrap();
    assert_eq!(found, [name("feth10"), name("feth14")]);
}

#[test]
fn there_are_so_many_pairs_and_no_more() {
    let _alone = alone();
    let system = Fake::default();
    system.add_bridge("bridge100", 1500);
    let mut trunks: Vec<_> = (0..Mark::PAIRS).map(|_| on_bridge(&system)).collect();
    assert!(trunks.iter_mut().all(|trunk| matches!(trunk.look(true), Look::There { .. })));
    let mut another = on_bridge(&system);
    assert!(matches!(another.look(true), Look::Failed(reason) if reason.contains("64 trunks")));
    trunks.pop();
    assert!(matches!(another.look(true), Look::There { .. }));
}
