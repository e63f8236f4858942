//! Every attack that needs no privileges, for a moment: honest guests lose and repeat nothing,
//! and all is as before. `cargo xtask attack` runs them for longer, and judges latencies too.

use std::path::Path;

/// A test for each of these attacks, and one that there is no other.
macro_rules! attacks {
    ($($(#[$attribute:meta])* $test:ident $name:literal,)+) => {
        $(
            #[test]
            $(#[$attribute])*
            fn $test() {
                attack::try_briefly(Path::new(env!("CARGO_BIN_EXE_vmlan")), $name);
            }
        )+

        #[test]
        fn every_attack_has_a_test() {
            assert_eq!(attack::names(false), [$($name),+]);
        }
    };
}

attacks! {
    broadcasts "broadcasts",
    mac_flood "mac-flood",
    unknown_unicast "unknown-unicast",
    runts "runts",
    victim "victim",
    tiny_writes "tiny-writes",
    half_frames "half-frames",
    anonymous_datagrams "anonymous-datagrams",
    longest_path_stream "longest-path-stream",
    longest_path_datagram "longest-path-datagram",
    longest_path_vde "longest-path-vde",
    longest_path_tunnel "longest-path-tunnel",
    longest_path_control "longest-path-control",
    descriptors_stream "descriptors-stream",
    descriptors_connect "descriptors-connect",
    descriptors_datagram "descriptors-datagram",
    descriptors_vde "descriptors-vde",
    descriptors_vde_data "descriptors-vde-data",
    descriptors_tunnel "descriptors-tunnel",
    descriptors_tunnel_data "descriptors-tunnel-data",
    descriptors_control "descriptors-control",
    umask_0 "umask-0",
    log_dead_sockets "log-dead-sockets",
    log_joins "log-joins",
    log_violations "log-violations",
    log_moves "log-moves",
    log_claims "log-claims",
    log_line_feed "log-line-feed",
    log_stopped_reader "log-stopped-reader",
    control_unread "control-unread",
    control_connections "control-connections",
    control_events "control-events",
    capture_filters "capture-filters",
    slow_thief "slow-thief",
    udp_stranger "udp-stranger",
    uplink_connections "uplink-connections",
    uplink_datagrams "uplink-datagrams",
    uplink_fragments "uplink-fragments",
    uplink_names "uplink-names",
    uplink_leases "uplink-leases",
    vhost_truncate "vhost-truncate",
    vhost_files "vhost-files",
    vhost_replace "vhost-replace",
    vhost_log "vhost-log",
    vhost_dying "vhost-dying",
    vhost_holes "vhost-holes",
    vhost_sparse "vhost-sparse",
    vhost_last "vhost-last",
    vhost_regions "vhost-regions",
    vhost_descriptors "vhost-descriptors",
    vhost_wrong "vhost-wrong",
    vhost_slow "vhost-slow",
    vhost_messages "vhost-messages",
    vhost_connections "vhost-connections",
    vhost_announcements "vhost-announcements",
    vhost_calls "vhost-calls",
    vhost_kicks "vhost-kicks",
    vhost_rings "vhost-rings",
    vhost_chains "vhost-chains",
    vhost_buffers "vhost-buffers",
    vhost_headers "vhost-headers",
}
