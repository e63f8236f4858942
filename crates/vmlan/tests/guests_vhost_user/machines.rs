//! Machines of QEMU.

use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use testbed::{Interface, Iperf, Netns, Nic, Process, Vm, VmBuilder, ping, require, wait_until};
use vmlan_api::{PortKind, PortState};

use crate::lab::{LIMIT, Listens, config, socket, v4, without_runtime_directory};
use crate::support::{self, Daemon, assert_balanced, mac};

/// Number of the namespace on the TAP.
pub const HOST: u8 = 9;
const RESTARTS: usize = 3;

/// Machine `number` before it boots.
pub fn machine(number: u8, nic: impl FnOnce(&str) -> Nic) -> VmBuilder {
    let name = format!("machine{number}");
    Vm::builder(&name).nic(nic(&mac(number).to_string())).address(&format!("{}/24", v4(number)))
}

pub fn with_tap(netns: &Netns, ports: &str) -> String {
    format!(
        "{ports}[network.lab.port.tap]\ntap = {{ name = \"t0\", netns = \"{}\" }}\n",
        netns.path().display()
    )
}

pub fn configure(daemon: &Daemon, netns: &Netns) {
    daemon.wait_up(&["tap"]);
    let interface = Interface::new().mac(&mac(HOST).to_string()).address(&format!("{}/24", v4(HOST)));
    netns.configure("t0", &interface);
}

#[test]
fn machines_reach_each_other_and_move_segments() {
    require!(namespaces(), qemu(), tool("iperf3"));
    let netns = Netns::new("tap");
    let daemon = Daemon::start(&with_tap(&netns, &config(Listens::Port, "")));
    configure(&daemon, &netns);
    let (a, b) = (socket(&daemon, "a"), socket(&daemon, "b"));
    let mut split = machine(1, |mac| Nic::vhost_user(&a, mac)).program("iperf3").start();
    let mut packed = machine(2, |mac| Nic::vhost_user(&b, mac).option("packed=on")).program("iperf3").start();
    let mut other = machine(3, |mac| Nic::stream(&daemon.path("raw.sock"), mac)).start();

    daemon.wait_up(&["a", "b"]);
    for (from, to) in [(&mut split, [2, 3, HOST]), (&mut packed, [1, 3, HOST]), (&mut other, [1, 2, HOST])] {
        for to in to {
            assert!(
                from.reaches(v4(to), LIMIT),
                "no answer from {to}: {}\n{:#?}",
                from.console(),
                daemon.ports()
            );
            let report = from.ping(v4(to), 3);
            assert!(report.all(), "to {to}: {report:?}");
        }
    }
    for (number, guest) in [(1, &mut split), (2, &mut packed)] {
        for wanted in [Iperf::tcp(1), Iperf::tcp(1).reversed()] {
            let report = guest.iperf3(&netns, v4(number), wanted);
            assert!(report.received_octets > 1_000_000, "machine{number}: {report:?}");
        }
    }
    // Segments of TCP go whole, either way.
    for port in ["a", "b"] {
        let counters = daemon.port(port).counters;
        assert!(counters.rx_large > 0 && counters.tx_large > 0, "{port}: {counters:?}");
    }
    assert_balanced(&daemon);

    drop((split, packed, other));
    daemon.wait_state("a", PortState::Waiting);
    daemon.wait_state("b", PortState::Waiting);
    daemon.stop();
}

/// The number of answers that the ping that runs in a machine has had.
#[track_caller]
pub fn answers(machine: &mut Vm) -> u32 {
    let output = machine.run("grep -c ' bytes from ' /tmp/ping").output;
    output.trim().parse().unwrap_or_else(|_| panic!("ping has written nothing: {output}"))
}

/// Kills the daemon several times while a machine pings. Each time the answers come again.
#[track_caller]
fn outlives(listens: Listens, nic: impl Fn(&Daemon, &str) -> Nic) {
    let netns = Netns::new("tap");
    let config = with_tap(&netns, &config(listens, ""));
    let mut daemon = Daemon::start_in(support::directory_in_memory(), &config);
    configure(&daemon, &netns);
    let mut guest = machine(1, |mac| nic(&daemon, mac)).start();
    assert!(guest.reaches(v4(HOST), LIMIT), "{}\n{:#?}", guest.console(), daemon.ports());
    guest.run(&format!("ping -i 0.1 {} > /tmp/ping 2>&1 &", v4(HOST)));

    for _ in 0..RESTARTS {
        let before = answers(&mut guest);
        wait_until("answers", LIMIT, || answers(&mut guest) > before);
        daemon = Daemon::start_in(daemon.kill(), &config);
        configure(&daemon, &netns);
        daemon.wait_up(&["a"]);
        let before = answers(&mut guest);
        wait_until("answers after a restart", LIMIT, || answers(&mut guest) > before + 5);
        let report = ping(&netns, v4(1), 5);
        assert!(report.all(), "{report:?}");
        assert_balanced(&daemon);
    }

    drop(guest);
    daemon.wait_state("a", PortState::Waiting);
    if listens == Listens::Guest {
        // The killed machine's own.
        std::fs::remove_file(socket(&daemon, "a")).expect("what a killed machine leaves behind");
    }
    daemon.stop();
}

#[test]
fn a_machine_that_connects_outlives_the_daemon() {
    require!(namespaces(), qemu());
    outlives(Listens::Port, |daemon, mac| Nic::vhost_user(&socket(daemon, "a"), mac));
}

#[test]
fn a_machine_that_listens_outlives_the_daemon() {
    require!(namespaces(), qemu());
    outlives(Listens::Guest, |daemon, mac| Nic::vhost_user_listen(&socket(daemon, "a"), mac));
}

/// The place in a packed ring is in no memory of the guest's, and QEMU does not know it.
#[test]
fn a_machine_with_packed_rings_outlives_the_daemon() {
    require!(namespaces(), qemu());
    outlives(Listens::Port, |daemon, mac| Nic::vhost_user(&socket(daemon, "a"), mac).option("packed=on"));
}

#[test]
fn a_machine_with_packed_rings_that_listens_outlives_the_daemon() {
    require!(namespaces(), qemu());
    outlives(Listens::Guest, |daemon, mac| {
        Nic::vhost_user_listen(&socket(daemon, "a"), mac).option("packed=on")
    });
}

#[test]
fn a_machine_with_packed_rings_that_are_not_kept_loads_its_driver_again_after_a_restart() {
    require!(namespaces(), qemu());
    let netns = Netns::new("tap");
    let config = with_tap(&netns, &config(Listens::Port, ""));
    let mut daemon = Daemon::start_in(without_runtime_directory(), &config);
    configure(&daemon, &netns);
    let nic = |mac: &str| Nic::vhost_user(&socket(&daemon, "a"), mac).option("packed=on");
    let mut guest = machine(1, nic).start();
    assert!(guest.reaches(v4(HOST), LIMIT), "{}\n{:#?}", guest.console(), daemon.ports());

    for end in [Daemon::kill, Daemon::stop] {
        daemon = Daemon::start_in(end(daemon), &config);
        configure(&daemon, &netns);
        let driver = "/sys/bus/virtio/drivers/virtio_net";
        let again = guest.run(&format!(
            "cd {driver} && device=$(basename virtio*) && echo $device > unbind && echo $device > bind && \
             ip link set eth0 up && ip address add {}/24 dev eth0",
            v4(1)
        ));
        assert_eq!(again.status, 0, "{}", again.output);
        assert!(guest.reaches(v4(HOST), LIMIT), "{}\n{:#?}", guest.console(), daemon.ports());
        assert!(ping(&netns, v4(1), 5).all());
        assert_balanced(&daemon);
    }

    drop(guest);
    daemon.wait_state("a", PortState::Waiting);
    daemon.stop();
}

/// iPXE's driver has no mergeable buffers and sends at once.
#[test]
fn a_machine_without_a_system_asks_for_its_address() {
    require!(namespaces(), qemu(), file("/usr/lib/ipxe/qemu/efi-virtio.rom"));
    let host = Netns::new("host");
    let config = format!("[network.lab.uplink]\nsubnet = \"10.77.0.0/24\"\n{}", config(Listens::Port, ""));
    let daemon = Daemon::start_within(&host, support::directory(), &config);
    daemon.wait_up(&["uplink"]);
    let machine = machine(1, |mac| Nic::vhost_user(&socket(&daemon, "a"), mac)).boot_from_network().start();

    wait_until("a lease", LIMIT, || {
        let leases: Vec<vmlan_api::Lease> = daemon.get("/v1/leases");
        leases.iter().any(|lease| lease.mac == mac(1).to_string())
    });

    let counters = daemon.port("a").counters;
    assert!(counters.rx_frames > 0 && counters.tx_frames > 0, "{counters:?}");
    assert_balanced(&daemon);
    drop(machine);
    daemon.wait_state("a", PortState::Waiting);
    daemon.stop();
}

/// `vmlan vm` shares the memory of a machine itself, or finds that it is shared.
#[test]
fn a_machine_of_vmlan_vm_asks_for_its_address() {
    const SHARED: &str = "-object memory-backend-memfd,id=m,size=256M -machine memory-backend=m";
    require!(namespaces(), qemu(), file("/usr/lib/ipxe/qemu/efi-virtio.rom"));
    let host = Netns::new("host");
    let config = format!("[network.lab.uplink]\nsubnet = \"10.77.0.0/24\"\n{}", config(Listens::Port, ""));
    for (name, way, memory) in [("added", "vhost-user", ""), ("found", "auto", SHARED)] {
        let daemon = Daemon::start_within(&host, support::directory(), &config);
        daemon.wait_up(&["uplink"]);
        // QEMU ends with the command that runs it, also when that is killed.
        let qemu = daemon.path("qemu-system-x86_64");
        fs::write(&qemu, "#!/bin/sh\nexec setpriv --pdeathsig KILL qemu-system-x86_64 \"$@\"\n")
            .expect("a file");
        fs::set_permissions(&qemu, Permissions::from_mode(0o755)).expect("a mode");
        let mut command = Command::new(support::VMLAN);
        command.args(["vm", "lab", "--attach", way, "--control"]).arg(daemon.control()).arg("--").arg(&qemu);
        command.args(["-name", name, "-m", "256", "-display", "none"]).args(memory.split_whitespace());
        let mut machine = Process::spawn(command);

        machine.wait_for_log("by vhost-user", LIMIT);
        machine.wait_while_running("a lease", LIMIT, || {
            let leases: Vec<vmlan_api::Lease> = daemon.get("/v1/leases");
            leases.into_iter().find(|lease| lease.port.as_deref() == Some(name))
        });

        let port = daemon.port(name);
        assert_eq!(port.kind, PortKind::VhostUser);
        let rings = port.rings.expect("counters of rings");
        assert!(rings.kicks > 0 && rings.calls > 0 && rings.broken_rings == 0, "{rings:?}");
        assert_balanced(&daemon);
        machine.terminate(LIMIT);
        wait_until("the port to go", LIMIT, || daemon.find_port(name).is_none());
        daemon.stop();
    }
}

#[test]
fn a_machine_that_is_killed_boots_on_the_same_port() {
    require!(namespaces(), qemu());
    let netns = Netns::new("tap");
    let daemon = Daemon::start(&with_tap(&netns, &config(Listens::Port, "")));
    configure(&daemon, &netns);
    for _ in 0..2 {
        let mut guest = machine(1, |mac| Nic::vhost_user(&socket(&daemon, "a"), mac)).start();
        let host: IpAddr = v4(HOST).into();
        assert!(guest.reaches(host, LIMIT), "{}\n{:#?}", guest.console(), daemon.ports());
        assert!(guest.ping(host, 3).all());
        // Kills it.
        drop(guest);
        wait_until("the port to wait", LIMIT, || daemon.port("a").state == PortState::Waiting);
    }
    assert_balanced(&daemon);
    daemon.stop();
}

/// The answer to GET_QUEUE_NUM is twice the pairs and two, which QEMU takes for pairs.
#[test]
fn case_44_a_machine_may_have_as_many_queues_as_it_believes_to_be_offered() {
    require!(namespaces(), qemu());
    let netns = Netns::new("tap");
    let daemon = Daemon::start(&with_tap(&netns, &config(Listens::Port, ", queues = 8")));
    configure(&daemon, &netns);
    let machine = |number, port, queues| {
        machine(number, |mac| Nic::vhost_user(&socket(&daemon, port), mac).queues(queues)).start()
    };

    let refused = machine(2, "b", 19);
    wait_until("QEMU to refuse", LIMIT, || refused.log().contains("more queues than supported: 18"));
    let mut served = machine(1, "a", 18);

    assert!(served.reaches(v4(HOST), LIMIT), "{}\n{:#?}", served.console(), daemon.ports());
    let report = ping(&netns, v4(1), 5);
    assert!(report.all(), "{report:?}");
    let mechanism = daemon.port("a").mechanism.expect("how frames are moved");
    assert!(mechanism.starts_with("1 of 8 pairs"), "{mechanism}");
    assert_eq!(daemon.port("b").state, PortState::Waiting);
    assert_balanced(&daemon);
    drop((served, refused));
    daemon.wait_state("a", PortState::Waiting);
    daemon.stop();
}
