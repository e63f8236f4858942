//! The other side of a port: what to write there so that a guest connects.

use vmlan_api::{PortKind, PortState};

use super::Failure;
use super::list::{macs, vlan};
use crate::args::Output;
use crate::client::Client;
use crate::output::{Answer, line, or_dash, print};

/// A port, and the lines for each program that fits.
pub fn show(client: &Client, path: &str, output: Output) -> Result<Answer, Failure> {
    let port: vmlan_api::Port = client.get(path)?;
    if output.json {
        return Answer::json(&port, output);
    }
    let counters = &port.counters;
    let state = match &port.reason {
        Some(reason) if port.state == PortState::Waiting => reason.clone(),
        Some(reason) => format!("{}: {reason}", port.state.as_str()),
        None => port.state.as_str().to_owned(),
    };
    let drops: Vec<_> = counters.drops.iter().map(|(reason, count)| format!("{reason}={count}")).collect();
    let rows = [
        ("port", format!("{}/{}", port.network, port.port)),
        ("kind", port.kind.as_str().to_owned()),
        ("state", state),
        ("address", or_dash(port.address.as_deref())),
        ("peer", or_dash(port.peer.as_deref())),
        ("MAC", macs(port.mac.as_ref())),
        ("VLAN", vlan(port.vlan.as_ref(), false)),
        ("MTU", port.mtu.to_string()),
        ("by", or_dash(port.mechanism.as_deref())),
        ("received", format!("{} frames, {} octets", counters.rx_frames, counters.rx_octets)),
        ("sent", format!("{} frames, {} octets", counters.tx_frames, counters.tx_octets)),
        ("unheard", format!("{} frames to all, with nobody else there", counters.no_receiver)),
        ("drops", or_dash(Some(&drops.join(" ")))),
    ];
    let mut text: String = rows.map(|(name, value)| line(name, 8, &value)).concat();
    if let Some(rings) = &port.rings {
        text.push_str(&line("rings", 8, &signals(rings)));
    }
    let own = match port.kind {
        PortKind::Interface => interface(&client.get("/v1/config")?, &port),
        PortKind::VhostUser => vhost_user(&client.get("/v1/config")?, &port),
        _ => lines(&port),
    };
    for (program, what) in own {
        text.push_str(&format!("\n{program}:\n"));
        what.lines().for_each(|one| text.push_str(&format!("  {}\n", vmlan_api::escaped(one))));
    }
    Ok(Answer::text(&text))
}

/// Says how a vhost-user port and its guest woke each other.
pub(super) fn signals(rings: &vmlan_api::RingCounters) -> String {
    let vmlan_api::RingCounters { kicks, calls, empty_wakeups, broken_rings, quiesces } = rings;
    format!(
        "kicks={kicks} calls={calls} empty_wakeups={empty_wakeups} broken_rings={broken_rings} quiesces={quiesces}"
    )
}

/// Says where guests of a port that was just added connect.
pub fn hint(client: &Client, network: &str, name: &str) -> Result<(), Failure> {
    let port: vmlan_api::Port = client.get(&super::port::path(network, name))?;
    match &port.address {
        Some(address) if port.state != PortState::Failed => print(&format!(
            "guests connect to {}; `vmlan port show {network}/{name}` has the lines to paste\n",
            vmlan_api::escaped(address)
        )),
        _ => Ok(()),
    }
}

/// The MAC address that the guest should have: the port's, else one of this port's name, so that two guests do not
/// both have their program's default.
fn guests_mac(port: &vmlan_api::Port) -> String {
    if let Some(mac) = port.mac.as_ref().and_then(|macs| macs.as_slice().first()) {
        return mac.clone();
    }
    stable_mac(&port.network, &port.port)
}

/// The address for a guest that is known by the names of its port alone.
pub fn stable_mac(network: &str, port: &str) -> String {
    // FNV-1a, of which 24 bits are enough to tell the ports of a host apart.
    let name = format!("{network}/{port}");
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193));
    let [_, a, b, c] = hash.to_be_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

/// The port's table in the configuration that runs.
fn settings<'c>(config: &'c vmlan_api::Config, port: &vmlan_api::Port) -> Option<&'c vmlan_api::PortConfig> {
    config.network.get(&port.network)?.port.get(&port.port)
}

/// Each program that shares its guest's memory, and what to write there.
fn vhost_user(config: &vmlan_api::Config, port: &vmlan_api::Port) -> Vec<(&'static str, String)> {
    let Some(table) = settings(config, port).and_then(|settings| settings.vhost_user.as_ref()) else {
        return Vec::new();
    };
    let mac = guests_mac(port);
    let memory = "-m 1G -object memory-backend-memfd,id=m,size=1G,share=on -machine memory-backend=m";
    let qemu = |chardev: String| {
        format!(
            "{memory} -chardev socket,id=c,{chardev} -netdev vhost-user,id=n,chardev=c -device virtio-net-pci,netdev=n,mac={mac}"
        )
    };
    let libvirt = |path: &str, mode: &str, reconnect: &str| {
        format!(
            "<memoryBacking>\n  <source type='memfd'/>\n  <access mode='shared'/>\n</memoryBacking>\n\
             <interface type='vhostuser'>\n  <mac address='{mac}'/>\n  <source type='unix' path='{}' \
             mode='{mode}'{reconnect}\n  <model type='virtio'/>\n</interface>",
            xml(path)
        )
    };
    let hypervisor =
        |path: &str| format!("--memory size=1G,shared=on --net vhost_user=true,socket={path},mac={mac}");
    match (&table.listen, &table.connect) {
        (Some(path), _) => vec![
            ("QEMU 9.2 or later", qemu(format!("path={path},reconnect-ms=1000"))),
            ("QEMU before 9.2", qemu(format!("path={path},reconnect=1"))),
            (
                "libvirt",
                libvirt(path, "client", ">\n    <reconnect enabled='yes' timeout='1'/>\n  </source>"),
            ),
            ("Cloud Hypervisor", hypervisor(path)),
            ("crosvm (`config` must not be off)", format!("--vhost-user type=net,socket={path}")),
            ("DPDK", format!("--vdev net_virtio_user0,path={path},mac={mac}")),
        ],
        (None, Some(path)) => vec![
            ("QEMU", qemu(format!("path={path},server=on"))),
            ("libvirt", libvirt(path, "server", "/>")),
            ("Cloud Hypervisor", format!("{},vhost_mode=server", hypervisor(path))),
            ("DPDK", format!("--vdev net_virtio_user0,path={path},server=1,mac={mac}")),
        ],
        (None, None) => Vec::new(),
    }
}

/// The same for a port whose guest is behind an interface of this host's.
fn interface(config: &vmlan_api::Config, port: &vmlan_api::Port) -> Vec<(&'static str, String)> {
    let settings = settings(config, port);
    let Some(config) = settings.and_then(|settings| settings.interface.as_ref()) else { return Vec::new() };
    let Some(name) = &config.name else { return Vec::new() };
    if config.create == Some(vmlan_api::InterfaceKind::Veth) {
        let peer = config.peer.clone().unwrap_or_default();
        let (end, place) = (peer.name.unwrap_or_default(), peer.netns);
        let what = place.map_or(format!("ip address show {end}"), |netns| match netns.starts_with('/') {
            true => format!("nsenter --net={netns} ip address show {end}"),
            false => format!("ip netns exec {netns} ip address show {end}"),
        });
        return vec![("the guest's end, which is there already", what)];
    }
    taps_lines(name, &guests_mac(port), config.queues.unwrap_or(1))
}

/// The lines to write for a TAP that a machine monitor opens. A TAP that was made for several queues takes nobody who
/// opens it for one.
fn taps_lines(name: &str, mac: &str, queues: u64) -> Vec<(&'static str, String)> {
    let several = |text: String| if queues > 1 { text } else { String::new() };
    let (netdev, device) =
        (several(format!(",queues={queues}")), several(format!(",mq=on,vectors={}", 2 * queues + 2)));
    let driver = several(format!("\n  <driver queues='{queues}'/>"));
    let firecracker = match queues {
        1 => format!(
            "\"network-interfaces\": [{{\"iface_id\": \"eth0\", \"guest_mac\": \"{mac}\", \"host_dev_name\": \"{name}\"}}]"
        ),
        _ => "it opens no TAP that has several queues: leave out `queues`".to_owned(),
    };
    vec![
        (
            "QEMU (vhost=on where it may open /dev/vhost-net)",
            format!(
                "-netdev tap,id=n,ifname={name},script=no,downscript=no{netdev},vhost=off -device virtio-net-pci,netdev=n,mac={mac}{device}"
            ),
        ),
        (
            "libvirt",
            format!(
                "<interface type='ethernet'>\n  <mac address='{mac}'/>\n  <target dev='{name}' managed='no'/>\n  <model type='virtio'/>{driver}\n</interface>"
            ),
        ),
        ("Firecracker", firecracker),
        (
            "Cloud Hypervisor",
            format!("--net tap={name},mac={mac}{}", several(format!(",num_queues={}", 2 * queues))),
        ),
        ("crosvm", format!("--net tap-name={name},mac={mac}{}", several(format!(",vq-pairs={queues}")))),
    ]
}

/// The lines for some `programs` by the beginnings of their names, for a port of this kind whose guests connect to a
/// path.
pub fn lines_for(
    network: &str,
    port: &str,
    kind: PortKind,
    path: &std::path::Path,
    programs: &[&str],
) -> Vec<(&'static str, String)> {
    let address = Some(path.display().to_string());
    let port =
        vmlan_api::Port { network: network.into(), port: port.into(), kind, address, ..Default::default() };
    let fits = |(name, _): &(&str, String)| programs.iter().any(|program| name.starts_with(program));
    lines(&port).into_iter().filter(fits).collect()
}

/// Each program that fits, and what to write there.
fn lines(port: &vmlan_api::Port) -> Vec<(&'static str, String)> {
    let mac = guests_mac(port);
    let device = format!("-device virtio-net-pci,netdev=n,mac={mac}");
    let Some(address) = &port.address else {
        return match (port.kind, &port.peer) {
            (PortKind::Tap, Some(name)) => {
                vec![(
                    "this host",
                    format!(
                        "ip address add 10.0.0.1/24 dev {name}\n# the kernel has the other end: no virtual machine attaches here"
                    ),
                )]
            }
            (PortKind::Stream, _) => {
                vec![("passt", "passt --foreground --socket PATH   # PATH: `connect` of the port".to_owned())]
            }
            _ => Vec::new(),
        };
    };
    let inet = address.rsplit_once(':').filter(|_| !address.starts_with('/'));
    let host = |host: &str| host.trim_matches(['[', ']']).to_owned();
    match (port.kind, inet) {
        (PortKind::Stream, None) => {
            let netdev = format!("-netdev stream,id=n,server=off,addr.type=unix,addr.path={address}");
            vec![
                ("QEMU 9.2 or later", format!("{netdev},reconnect-ms=1000 {device}")),
                ("QEMU 8.0 to 9.1", format!("{netdev},reconnect=1 {device}")),
                ("QEMU 7.2", format!("{netdev} {device}")),
                (
                    "libvirt (in <domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>)",
                    libvirt(&netdev, &device),
                ),
                ("krunkit, libkrun", format!("--device virtio-net,type=unixstream,path={address},mac={mac}")),
            ]
        }
        (PortKind::Stream, Some((name, number))) => vec![
            (
                "QEMU 7.2 or later",
                format!(
                    "-netdev stream,id=n,server=off,addr.type=inet,addr.host={},addr.port={number} {device}",
                    host(name)
                ),
            ),
            (
                "libvirt",
                format!(
                    "<interface type='client'>\n  <mac address='{mac}'/>\n  <source address='{}' port='{number}'/>\n  <model type='virtio'/>\n</interface>",
                    host(name)
                ),
            ),
        ],
        (PortKind::Datagram, None) => {
            let netdev = format!(
                "-netdev dgram,id=n,local.type=unix,local.path={address}.guest,remote.type=unix,remote.path={address}"
            );
            vec![
                ("QEMU 7.2 or later", format!("{netdev} {device}")),
                (
                    "libvirt (in <domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>)",
                    libvirt(&netdev, &device),
                ),
                ("vfkit", format!("--device virtio-net,unixSocketPath={address},mac={mac}")),
                ("krunkit, libkrun", format!("--device virtio-net,type=unixgram,path={address},mac={mac}")),
            ]
        }
        (PortKind::Datagram, Some((name, number))) => vec![(
            "QEMU 7.2 or later (FREE: any free port of the guest's host)",
            format!(
                "-netdev dgram,id=n,local.type=inet,local.host={0},local.port=FREE,remote.type=inet,remote.host={0},remote.port={number} {device}",
                host(name)
            ),
        )],
        (PortKind::Vde, _) => vec![
            ("QEMU with VDE", format!("-netdev vde,id=n,sock={address} {device}")),
            ("VDE", format!("vde_plug vde://{address}\nvde_plug2tap -s {address} tap0")),
            (
                "the internet for all guests, without root (package vde2)",
                format!("slirpvde --dhcp -s {address}"),
            ),
        ],
        (PortKind::Tunnel, _) => {
            vec![("a TUN of this host, or a program", format!("vmlan tunnel connect {address}"))]
        }
        _ => Vec::new(),
    }
}

/// QEMU's words in a domain of libvirt's. They come in front of its own devices, so a card without a place would take
/// the one of the first of these.
fn libvirt(netdev: &str, device: &str) -> String {
    let device = format!("{device},addr=0x10");
    let words = netdev.split(' ').chain(device.split(' '));
    let arguments = words.map(|word| format!("  <qemu:arg value='{}'/>", xml(word)));
    format!("<qemu:commandline>\n{}\n</qemu:commandline>", arguments.collect::<Vec<_>>().join("\n"))
}

/// The text as the value of an attribute.
fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('\'', "&apos;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(kind: PortKind, address: &str) -> vmlan_api::Port {
        let (network, port) = ("lab".into(), "web".into());
        vmlan_api::Port { network, port, kind, address: Some(address.into()), ..Default::default() }
    }

    fn for_program(port: &vmlan_api::Port, program: &str) -> String {
        lines(port).into_iter().find(|(name, _)| name.starts_with(program)).expect(program).1
    }

    #[test]
    fn lines_have_the_real_path_and_an_address_of_the_ports_own() {
        let web = port(PortKind::Stream, "/run/vmlan/web.sock");
        let line = for_program(&web, "QEMU 9.2");
        assert!(line.contains("addr.path=/run/vmlan/web.sock,reconnect-ms=1000 -device"), "{line}");
        let mac = guests_mac(&web);
        assert!(mac.starts_with("52:54:00:") && line.ends_with(&mac), "{line}");
        let db = vmlan_api::Port { port: "db".into(), ..web.clone() };
        assert_ne!(guests_mac(&db), mac);
        let set = vmlan_api::Port {
            mac: vmlan_api::OneOrMany::from_items(vec!["52:54:00:00:00:01".into()]),
            ..web
        };
        assert!(for_program(&set, "krunkit").ends_with("mac=52:54:00:00:00:01"));
    }

    #[test]
    fn several_queues_are_asked_for_of_whoever_opens_the_tap() {
        let line = |queues, program: &str| {
            let lines = taps_lines("t", "52:54:00:00:00:01", queues);
            lines.into_iter().find(|(name, _)| name.starts_with(program)).expect(program).1
        };
        let one = "-netdev tap,id=n,ifname=t,script=no,downscript=no,vhost=off -device virtio-net-pci,netdev=n,mac=";
        assert_eq!(line(1, "QEMU"), format!("{one}52:54:00:00:00:01"));
        let two = line(2, "QEMU");
        assert!(
            two.contains("downscript=no,queues=2,vhost=off") && two.ends_with(",mq=on,vectors=6"),
            "{two}"
        );
        assert!(line(2, "libvirt").contains("<driver queues='2'/>"));
        assert!(line(2, "Cloud").ends_with(",num_queues=4") && line(2, "crosvm").ends_with(",vq-pairs=2"));
        assert!(!line(2, "Firecracker").contains("host_dev_name"));
    }

    #[test]
    fn who_shares_memory_connects_or_listens_as_the_port_does_not() {
        let lines = |table: serde_json::Value| {
            let text = serde_json::json!({"network": {"lab": {"port": {"web": {"vhost_user": table}}}}});
            let config = serde_json::from_value(text).expect("a configuration");
            vhost_user(&config, &port(PortKind::VhostUser, "/a&b"))
        };
        let listening = lines(serde_json::json!({"listen": "/a&b"}));
        let line =
            |program: &str| &listening.iter().find(|(name, _)| name.starts_with(program)).expect(program).1;
        assert!(
            line("QEMU 9.2").contains("share=on") && line("QEMU 9.2").contains("path=/a&b,reconnect-ms=")
        );
        assert!(line("libvirt").contains("path='/a&amp;b' mode='client'>"), "{}", line("libvirt"));
        assert!(line("Cloud").contains("shared=on") && line("crosvm").ends_with("socket=/a&b"));
        let connecting = lines(serde_json::json!({"connect": "/c"}));
        let all = |word: &str| connecting.iter().all(|(_, line)| line.contains(word));
        assert!(all("server") && all("/c"), "{connecting:?}");
        assert_eq!(lines(serde_json::json!({"fd": 5})), []);
    }

    #[test]
    fn addresses_of_ip_are_taken_apart() {
        let line = for_program(&port(PortKind::Stream, "[::1]:7000"), "QEMU");
        assert!(line.contains("addr.host=::1,addr.port=7000"), "{line}");
        let text = for_program(&port(PortKind::Stream, "127.0.0.1:7000"), "libvirt");
        assert!(text.contains("<source address='127.0.0.1' port='7000'/>"), "{text}");
    }

    #[test]
    fn what_libvirt_gets_is_xml() {
        let text = for_program(&port(PortKind::Datagram, "/tmp/a'b&c<d.sock"), "libvirt");
        assert!(text.contains("remote.path=/tmp/a&apos;b&amp;c&lt;d.sock'/>"), "{text}");
        assert!(text.ends_with(",addr=0x10'/>\n</qemu:commandline>"), "{text}");
    }
}
