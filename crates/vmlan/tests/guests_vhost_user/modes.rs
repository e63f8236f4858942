//! Each mode of DPDK's driver: frames circulate between two guests, then numbered ones come back from one of them.

use testbed::testpmd::{Device, Forward, HugePages, Testpmd};
use testbed::{Interface, Netns, ping, require};
use vmlan_api::PortState;

use crate::lab::{LIMIT, Listens, assert_counted, assert_echoed, circulate, config, pair, socket, v4};
use crate::support::{Daemon, assert_balanced, mac};

/// A guest has memory for rings of the most places that there can be.
const MEMORY: u32 = 512;
const BUFFERS: u32 = 100_000;

#[track_caller]
fn try_mode(keys: &str, mechanism: &str, shape: impl Fn(Device) -> Device) {
    let daemon = Daemon::start(&config(Listens::Port, keys));

    let mut guests = pair(&daemon, Listens::Port, &shape).memory(MEMORY, BUFFERS).start();
    daemon.wait_up(&["a", "b"]);
    let counted = circulate(&mut guests);
    assert_counted(&daemon, &counted);
    let told = daemon.port("b").mechanism.expect("how frames are moved");
    assert!(told.contains(mechanism), "{told:?} instead of {mechanism:?}");
    guests.quit();
    daemon.wait_state("a", PortState::Waiting);
    daemon.wait_state("b", PortState::Waiting);

    // Another guest on the same port.
    let echo = shape(Device::virtio(&socket(&daemon, "a"), &mac(3).to_string()));
    let mut echo = Testpmd::builder().device(echo).forward(Forward::MacSwap).memory(MEMORY, BUFFERS).start();
    daemon.wait_up(&["a"]);
    echo.start();
    assert_echoed(&daemon, 3);
    echo.stop();
    echo.quit();

    daemon.wait_state("a", PortState::Waiting);
    daemon.stop();
}

/// A test for each mode: further keys of the ports, what the daemon says of a port, and what makes the device.
macro_rules! modes {
    ($($name:ident: $keys:literal, $told:literal, $device:expr;)+) => {
        $(
            #[test]
            fn $name() {
                require!(testpmd());
                try_mode($keys, $told, $device);
            }
        )+
    };
}

modes! {
    split_rings: "", " pairs, split 256,", |device| device.in_order(false);
    split_rings_in_order: "", "split 256 in order,", |device| device.in_order(true);
    a_buffer_for_each_frame: "", "split 256,", |device| device.in_order(false).without_mergeable_buffers();
    a_buffer_for_each_frame_in_order: "", "split 256 in order,", |device| device.in_order(true).without_mergeable_buffers();
    packed_rings: "", " pairs, packed 256,", |device| device.packed().in_order(false);
    packed_rings_in_order: "", "packed 256 in order,", |device| device.packed().in_order(true);
    packed_rings_where_the_port_has_none: ", packed = false", "split 256", |device| device.packed();
    two_pairs_of_queues: "", "2 of ", |device| device.queues(2);
    two_pairs_of_packed_queues: "", "packed", |device| device.queues(2).packed();
    rings_of_256_places: "", "split 256", |device| device.queue_size(256);
    rings_of_32768_places: "", "split 32768", |device| device.queue_size(32_768);
    without_offloads: ", offloads = false", "offloads: none", |device| device;
}

#[track_caller]
fn share_between_two_workers(queues: u16) {
    let daemon = Daemon::start(&format!("workers = 2\n{}", config(Listens::Port, "")));
    let mut guests = pair(&daemon, Listens::Port, |device| device.queues(queues)).start();
    daemon.wait_up(&["a", "b"]);

    let counted = circulate(&mut guests);

    assert_counted(&daemon, &counted);
    guests.quit();
    daemon.wait_state("a", PortState::Waiting);

    // Order is kept as well.
    let echo = Device::virtio(&socket(&daemon, "a"), &mac(3).to_string()).queues(queues);
    let mut echo = Testpmd::builder().device(echo).forward(Forward::MacSwap).start();
    daemon.wait_up(&["a"]);
    echo.start();
    assert_echoed(&daemon, 3);
    echo.stop();
    echo.quit();
    daemon.stop();
}

#[test]
fn two_workers_share_two_pairs_of_queues() {
    require!(testpmd());
    share_between_two_workers(2);
}

#[test]
fn case_48_two_workers_share_one_pair_of_queues() {
    require!(testpmd());
    share_between_two_workers(1);
}

/// More of a guest's memory is known with each message, while its rings run.
#[test]
fn memory_of_huge_pages_grows() {
    require!(root(), testpmd());
    let pages = HugePages::reserve(128).expect("huge pages");
    let daemon = Daemon::start(&config(Listens::Port, ""));
    let mut guests = pair(&daemon, Listens::Port, |device| device).huge_pages(&pages).start();
    daemon.wait_up(&["a", "b"]);

    let counted = circulate(&mut guests);

    assert_counted(&daemon, &counted);
    guests.quit();
    daemon.stop();
}

#[test]
fn guests_that_listen_are_connected_to() {
    require!(testpmd());
    let daemon = Daemon::start(&config(Listens::Guest, ""));
    daemon.wait_state("a", PortState::Waiting);
    for _ in 0..2 {
        let mut guests = pair(&daemon, Listens::Guest, |device| device).start();
        daemon.wait_up(&["a", "b"]);
        let before = daemon.ports();

        circulate(&mut guests);

        guests.quit();
        daemon.wait_state("a", PortState::Waiting);
        daemon.wait_state("b", PortState::Waiting);
        let (rx, tx) = ["a", "b"].iter().fold((0, 0), |(rx, tx), name| {
            let earlier = &before.iter().find(|port| port.port == *name).expect("a port").counters;
            let now = daemon.port(name).counters;
            (rx + now.rx_frames - earlier.rx_frames, tx + now.tx_frames - earlier.tx_frames)
        });
        assert_eq!(rx, tx, "{:#?}", daemon.ports());
        assert_balanced(&daemon);
    }
    daemon.stop();
}

#[test]
fn a_namespace_pings_a_guest() {
    require!(namespaces(), testpmd());
    let netns = Netns::new("tap");
    let daemon = Daemon::start(&format!(
        "{}[network.lab.port.tap]\ntap = {{ name = \"t0\", netns = \"{}\" }}\n",
        config(Listens::Port, ""),
        netns.path().display()
    ));
    daemon.wait_up(&["tap"]);
    netns.configure("t0", &Interface::new().mac(&mac(1).to_string()).address("10.9.0.1/24"));
    let guest = Device::virtio(&socket(&daemon, "a"), &mac(2).to_string());
    let mut guest = Testpmd::builder().device(guest).forward(Forward::IcmpEcho).start();
    daemon.wait_up(&["a"]);
    guest.start();

    // It answers for every address.
    assert!(netns.reaches(v4(2), LIMIT), "{:#?}", daemon.ports());
    let report = ping(&netns, v4(2), 20);

    assert!(report.all(), "{report:?}");
    assert_balanced(&daemon);
    guest.stop();
    guest.quit();
    daemon.stop();
}
