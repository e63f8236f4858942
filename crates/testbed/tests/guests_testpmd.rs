//! DPDK's two ends of a vhost-user socket on each other: shows that both work, and which modes a test can ask for.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use testbed::testpmd::{Device, Forward, HugePages, PortStats, Testpmd};
use testbed::{Nic, Vm, require, wait_until};

const MACS: [&str; 2] = ["52:54:00:00:00:01", "52:54:00:00:00:02"];
const LIMIT: Duration = Duration::from_secs(30);

/// Two guests between which frames circulate.
fn guests(devices: [Device; 2]) -> testbed::testpmd::Builder {
    let [first, second] = devices;
    Testpmd::builder().device(first).device(second).peer(0, MACS[1]).peer(1, MACS[0])
}

/// Lets frames circulate until many have come through, and checks that none was lost.
#[track_caller]
fn circulate(guests: &mut Testpmd) -> Vec<PortStats> {
    guests.start_with(4, 32);
    wait_until("frames that circulate", LIMIT, || {
        guests.stats().iter().all(|port| port.rx_packets > 100_000)
    });
    guests.stop();
    let ports = guests.drain();
    let sent: u64 = ports.iter().map(|port| port.tx_packets).sum();
    let received: u64 = ports.iter().map(|port| port.rx_packets).sum();
    assert_eq!(sent, received, "{ports:?}");
    ports
}

/// Runs two guests of this kind on a relay of DPDK's.
#[track_caller]
fn try_mode(queues: u16, device: impl Fn(Device) -> Device) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sockets = [directory.path().join("a"), directory.path().join("b")];
    let back_end = |socket: &Path| Device::vhost(socket).queues(queues);
    let mut relay = Testpmd::builder().device(back_end(&sockets[0])).device(back_end(&sockets[1])).start();
    relay.start();
    let guest = |number: usize| device(Device::virtio(&sockets[number], MACS[number])).queues(queues);
    let mut guests = guests([guest(0), guest(1)]).memory(512, 100_000).start();

    circulate(&mut guests);

    guests.quit();
    relay.stop();
    relay.quit();
}

/// A test for each mode: the number of queue pairs, and what makes the device.
macro_rules! modes {
    ($($name:ident: $queues:literal, $device:expr;)+) => {
        $(
            #[test]
            fn $name() {
                require!(testpmd());
                try_mode($queues, $device);
            }
        )+
    };
}

modes! {
    split_rings: 1, |device| device.in_order(false);
    split_rings_in_order: 1, |device| device.in_order(true);
    a_buffer_for_each_frame: 1, |device| device.in_order(false).without_mergeable_buffers();
    a_buffer_for_each_frame_in_order: 1, |device| device.in_order(true).without_mergeable_buffers();
    packed_rings: 1, |device| device.packed().in_order(false);
    packed_rings_in_order: 1, |device| device.packed().in_order(true);
    two_pairs_of_queues: 2, |device| device;
    rings_of_1024_places: 1, |device| device.queue_size(1024);
    rings_of_32768_places: 1, |device| device.queue_size(32_768);
}

#[test]
fn a_guest_that_listens_waits_for_its_back_end() {
    require!(testpmd());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sockets = [directory.path().join("a"), directory.path().join("b")];
    let guest = |number: usize| Device::virtio_listening(&sockets[number], MACS[number]);
    std::thread::scope(|scope| {
        // It takes no commands until both back ends are there.
        let guests = scope.spawn(|| guests([guest(0), guest(1)]).start());
        wait_until("the first socket", LIMIT, || sockets[0].exists());
        let back_end = |socket| Device::vhost_connecting(socket);
        let mut relay =
            Testpmd::builder().device(back_end(&sockets[0])).device(back_end(&sockets[1])).start();
        relay.start();
        let mut guests = guests.join().expect("guests that start");

        circulate(&mut guests);

        guests.quit();
        relay.stop();
        relay.quit();
    });
}

#[test]
fn memory_of_huge_pages_comes_and_goes() {
    require!(root(), testpmd());
    let pages = HugePages::reserve(64).expect("huge pages");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("a");
    let mut echo = Testpmd::builder().device(Device::vhost(&socket)).forward(Forward::MacSwap).start();
    echo.start();
    let guest = Device::virtio(&socket, MACS[0]);
    let mut guest = Testpmd::builder().device(guest).peer(0, MACS[1]).huge_pages(&pages).start();

    circulate(&mut guest);

    guest.quit();
    echo.quit();
}

#[test]
fn a_machine_pings_what_is_behind_its_device() {
    require!(qemu(), testpmd());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sockets = [directory.path().join("a"), directory.path().join("b")];
    let mut echo = Testpmd::builder()
        .device(Device::vhost(&sockets[0]))
        .device(Device::vhost_connecting(&sockets[1]))
        .forward(Forward::IcmpEcho)
        .start();
    echo.start();
    let boot = |name: &str, nic: Nic| Vm::builder(name).nic(nic).address("10.9.0.2/24").start();
    let connecting = boot("connecting", Nic::vhost_user(&sockets[0], MACS[0]));
    let listening = boot("listening", Nic::vhost_user_listen(&sockets[1], MACS[1]).option("packed=on"));

    for mut machine in [connecting, listening] {
        assert!(machine.reaches(Ipv4Addr::new(10, 9, 0, 1), LIMIT), "{}", machine.console());
        assert!(machine.ping(Ipv4Addr::new(10, 9, 0, 1), 3).all());
    }

    echo.stop();
    echo.quit();
}
