//! Every attack that needs namespaces or attackers of another user, for a moment: honest guests lose and repeat
//! nothing, and all is as before. `cargo xtask attack` runs them for longer, and judges latencies too.

use std::path::Path;

use testbed::require;

/// A test for each of these attacks, and one that there is no other.
macro_rules! attacks {
    ($($(#[$attribute:meta])* $test:ident $name:literal,)+) => {
        $(
            #[test]
            $(#[$attribute])*
            fn $test() {
                require!(namespaces());
                attack::try_briefly(Path::new(env!("CARGO_BIN_EXE_vmlan")), $name);
            }
        )+

        #[test]
        fn every_attack_has_a_test() {
            assert_eq!(attack::names(true), [$($name),+]);
        }
    };
}

attacks! {
    gso_tcp "gso-tcp",
    gso_udp "gso-udp",
    many_plugs "many-plugs",
    many_tunnels "many-tunnels",
    vde_mode_race "vde-mode-race",
    vde_send_race "vde-send-race",
    vde_removal "vde-removal",
    trunk_claims "trunk-claims",
    trunk_forged_lease "trunk-forged-lease",
    vhost_full "vhost-full",
}
