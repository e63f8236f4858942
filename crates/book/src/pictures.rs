//! The pictures of docs/concepts.md.

use crate::drawing::Kind::{Area, Guest, Host, Own, Table};
use crate::drawing::Picture;

/// All of them, with their names below docs/pictures.
pub fn all() -> Vec<(&'static str, Picture)> {
    vec![
        ("networks", networks()),
        ("frame", frame()),
        ("learning", learning()),
        ("vlans", vlans()),
        ("trunk", trunk()),
        ("uplink", uplink()),
        ("fast", fast()),
        ("rings", rings()),
        ("workers", workers()),
        ("restart", restart()),
    ]
}

fn networks() -> Picture {
    let mut picture = Picture::new(
        760.0,
        360.0,
        "Networks, ports and links",
        "A daemon with a network lab. Guests are at its ports web, db and guests by sockets; on the other side are a \
         TAP of the host's own stack, a tunnel to a program, an uplink to the internet and a trunk to the interface \
         eth0. A second network shares nothing with it.",
    );
    picture.boxed(Area, (190.0, 16.0, 380.0, 328.0), &["the daemon: vmlan run"]);
    picture.boxed(Own, (330.0, 58.0, 100.0, 178.0), &["network", "lab", "a switch"]);
    for (index, (guest, port)) in
        [(["guest", "stream socket"], "web"), (["guest", "vhost-user"], "db"), (["guests", "VDE"], "guests")]
            .into_iter()
            .enumerate()
    {
        let y = 58.0 + 62.0 * index as f32;
        picture.boxed(Guest, (20.0, y, 120.0, 54.0), &guest);
        picture.boxed(Own, (210.0, y + 9.0, 84.0, 36.0), &[port]);
        picture.both(&[(140.0, y + 27.0), (210.0, y + 27.0)]);
        picture.both(&[(294.0, y + 27.0), (330.0, y + 27.0)]);
    }
    for (index, (port, other)) in [
        ("host", ["this host", "a TAP"]),
        ("vpn", ["a program", "a tunnel"]),
        ("uplink", ["the internet", "by sockets"]),
        ("trunk", ["the LAN", "eth0"]),
    ]
    .into_iter()
    .enumerate()
    {
        let y = 52.0 + 48.0 * index as f32;
        picture.boxed(Own, (466.0, y + 3.0, 84.0, 34.0), &[port]);
        picture.boxed(Host, (620.0, y, 120.0, 40.0), &other);
        picture.both(&[(430.0, y + 20.0), (466.0, y + 20.0)]);
        picture.both(&[(550.0, y + 20.0), (620.0, y + 20.0)]);
    }
    picture.boxed(Own, (330.0, 270.0, 100.0, 54.0), &["network", "test"]);
    picture.boxed(Own, (210.0, 279.0, 84.0, 36.0), &["a"]);
    picture.boxed(Guest, (20.0, 270.0, 120.0, 54.0), &["guest", "datagram socket"]);
    picture.both(&[(140.0, 297.0), (210.0, 297.0)]);
    picture.both(&[(294.0, 297.0), (330.0, 297.0)]);
    picture.label(446.0, 294.0, "shares nothing");
    picture.label(446.0, 311.0, "with lab");
    picture
}

fn frame() -> Picture {
    let mut picture = Picture::new(
        760.0,
        250.0,
        "The way of a frame",
        "From guest A through its driver and link into the network, which admits, learns and looks up; then through \
         the link and driver of the receiving port to guest B. Each station drops with a counted reason.",
    );
    let stations: [(_, [&str; 3]); 5] = [
        (Own, ["driver", "reads a batch", "of up to 64"]),
        (Own, ["link A", "counts, taps,", "input filters"]),
        (Own, ["network", "admits, learns,", "finds receivers"]),
        (Own, ["link B", "output filters,", "taps, counts"]),
        (Own, ["driver", "writes all with", "one call"]),
    ];
    picture.boxed(Guest, (16.0, 16.0, 112.0, 40.0), &["guest A"]);
    picture.boxed(Guest, (632.0, 16.0, 112.0, 40.0), &["guest B"]);
    for (index, (kind, lines)) in stations.into_iter().enumerate() {
        let x = 16.0 + 154.0 * index as f32;
        picture.boxed(kind, (x, 96.0, 112.0, 66.0), &lines);
        if index < 4 {
            picture.arrow(&[(x + 112.0, 129.0), (x + 154.0, 129.0)]);
        }
        picture.arrow(&[(x + 56.0, 162.0), (x + 56.0, 196.0)]);
    }
    picture.arrow(&[(72.0, 56.0), (72.0, 96.0)]);
    picture.arrow(&[(688.0, 96.0), (688.0, 56.0)]);
    picture.boxed(
        Table,
        (16.0, 196.0, 728.0, 36.0),
        &["a frame that does not go on is counted here, under its drop reason"],
    );
    picture
}

fn learning() -> Picture {
    let mut picture = Picture::new(
        760.0,
        300.0,
        "Learning and flooding",
        "Left: a frame from web to an address that the table does not have goes to all other ports, and the table \
         learns that web's address is behind the port web. Right: the answer from db goes to the port web alone.",
    );
    for (left, title, entries) in [
        (0.0, "1. to an address not known: flooded", ["…:01 is behind web", "learnt from this frame"]),
        (380.0, "2. the answer: to one port", ["…:01 is behind web", "…:02 is behind db"]),
    ] {
        picture.label(left + 20.0, 30.0, title);
        picture.boxed(Own, (left + 130.0, 56.0, 90.0, 150.0), &["network"]);
        picture.boxed(Guest, (left + 20.0, 111.0, 70.0, 40.0), &["web", "…:01"]);
        for (index, name) in ["db", "c", "d"].into_iter().enumerate() {
            let y = 56.0 + 55.0 * index as f32;
            let address = if name == "db" { "…:02" } else { "" };
            let lines: &[&str] = if address.is_empty() { &[name] } else { &[name, address] };
            picture.boxed(Guest, (left + 280.0, y, 70.0, 40.0), lines);
        }
        picture.boxed(Table, (left + 90.0, 226.0, 170.0, 58.0), &["FDB", entries[0], entries[1]]);
        picture.arrow(&[(left + 175.0, 206.0), (left + 175.0, 226.0)]);
    }
    picture.arrow(&[(90.0, 131.0), (130.0, 131.0)]);
    for y in [76.0, 131.0, 186.0] {
        picture.arrow(&[(220.0, y), (280.0, y)]);
    }
    picture.arrow(&[(660.0, 76.0), (600.0, 76.0)]);
    picture.arrow(&[(510.0, 131.0), (470.0, 131.0)]);
    picture
}

fn vlans() -> Picture {
    let mut picture = Picture::new(
        760.0,
        260.0,
        "VLANs",
        "Ports web and db are access ports of VLAN 10, port test is one of VLAN 20: their guests see no tags. The \
         port router has VLANs 10 and 20 with tags and VLAN 1 without. Frames stay in their VLAN.",
    );
    picture.boxed(Own, (300.0, 30.0, 170.0, 200.0), &[]);
    picture.centred(385.0, 52.0, "network lab");
    picture.boxed(Area, (312.0, 64.0, 146.0, 96.0), &["VLAN 10"]);
    picture.boxed(Area, (312.0, 168.0, 146.0, 50.0), &["VLAN 20"]);
    for (y, name, access) in
        [(64.0, "web", "access = 10"), (122.0, "db", "access = 10"), (176.0, "test", "access = 20")]
    {
        picture.boxed(Guest, (20.0, y, 90.0, 36.0), &[name]);
        picture.both(&[(110.0, y + 18.0), (300.0, y + 18.0)]);
        picture.centred(205.0, y + 11.0, access);
    }
    picture.boxed(Guest, (630.0, 100.0, 110.0, 54.0), &["router", "sees tags"]);
    picture.both(&[(470.0, 127.0), (630.0, 127.0)]);
    picture.centred(550.0, 114.0, "tagged = [10, 20]");
    picture.centred(550.0, 148.0, "native = 1");
    picture
}

fn trunk() -> Picture {
    let mut picture = Picture::new(
        760.0,
        330.0,
        "Modes of a trunk",
        "In mode filter programs on eth0 hand what is for guests to two TAPs, one for the host's side and one for \
         the wire's. Mode packet copies from and to the wire by a packet socket. Mode xdp takes frames in the \
         interface's driver. In the last two the host is not reached.",
    );
    let modes: [(f32, &str, [&str; 3], bool); 3] = [
        (20.0, "filter", ["programs", "on eth0's hooks,", "two TAPs"], true),
        (270.0, "packet", ["packet socket", "copies frames", "from the wire"], false),
        (520.0, "xdp", ["program", "in eth0's driver,", "AF_XDP sockets"], false),
    ];
    for (x, mode, lines, reaches_host) in modes {
        picture.boxed(Area, (x, 16.0, 220.0, 298.0), &[&format!("mode {mode}")]);
        picture.boxed(Own, (x + 60.0, 52.0, 100.0, 40.0), &["network"]);
        picture.boxed(Own, (x + 45.0, 126.0, 130.0, 66.0), &lines);
        picture.both(&[(x + 110.0, 92.0), (x + 110.0, 126.0)]);
        picture.boxed(Host, (x + 16.0, 250.0, 90.0, 44.0), &["the wire", "the LAN"]);
        picture.boxed(Host, (x + 118.0, 250.0, 90.0, 44.0), &["the host", "own stack"]);
        picture.both(&[(x + 80.0, 192.0), (x + 80.0, 250.0)]);
        if reaches_host {
            picture.both(&[(x + 150.0, 192.0), (x + 150.0, 250.0)]);
        } else {
            picture.centred(x + 155.0, 228.0, "not reached");
        }
    }
    picture
}

fn uplink() -> Picture {
    let mut picture = Picture::new(
        760.0,
        250.0,
        "The uplink",
        "A guest's frames come to the port uplink. Its services answer DHCP, router solicitations and DNS. Its \
         engine maps each TCP or UDP flow to a socket of this host, by which it reaches the internet; forwards come \
         in the other way.",
    );
    picture.boxed(Guest, (20.0, 90.0, 90.0, 54.0), &["guest", "asks, sends"]);
    picture.boxed(Own, (150.0, 90.0, 90.0, 54.0), &["network"]);
    picture.boxed(Area, (280.0, 20.0, 270.0, 210.0), &["port uplink"]);
    picture.boxed(Own, (300.0, 56.0, 230.0, 60.0), &["services", "addresses, names: DHCP, RA, DNS"]);
    picture.boxed(
        Own,
        (300.0, 146.0, 230.0, 64.0),
        &["engine", "each flow is a socket of ours;", "asks what the guest may reach"],
    );
    picture.both(&[(110.0, 117.0), (150.0, 117.0)]);
    picture.both(&[(240.0, 100.0), (300.0, 86.0)]);
    picture.both(&[(240.0, 130.0), (300.0, 170.0)]);
    picture.boxed(Host, (620.0, 56.0, 120.0, 44.0), &["resolvers", "of this host"]);
    picture.boxed(Host, (620.0, 150.0, 120.0, 56.0), &["the internet", "out and in"]);
    picture.both(&[(530.0, 80.0), (620.0, 80.0)]);
    picture.arrow(&[(530.0, 168.0), (620.0, 168.0)]);
    picture.arrow(&[(620.0, 194.0), (530.0, 194.0)]);
    picture.centred(585.0, 186.0, "forward");
    picture
}

fn fast() -> Picture {
    let mut picture = Picture::new(
        760.0,
        290.0,
        "The kernel's fast way",
        "Between two interface ports a program at the interface asks the kernel's tables. What the network has \
         decided goes straight to the other interface. Everything else goes to a worker of the daemon, which decides \
         and writes the decision into the tables.",
    );
    picture.boxed(
        Own,
        (250.0, 20.0, 260.0, 50.0),
        &["the daemon's workers", "decide: learn, guard, filter, flood"],
    );
    picture.boxed(Area, (20.0, 110.0, 720.0, 164.0), &["the kernel"]);
    picture.boxed(Own, (180.0, 150.0, 120.0, 50.0), &["program", "looks up"]);
    picture.boxed(Table, (330.0, 146.0, 130.0, 58.0), &["tables", "address and port,", "pinned"]);
    picture.boxed(Host, (40.0, 150.0, 100.0, 50.0), &["veth or TAP", "guest A"]);
    picture.boxed(Host, (620.0, 150.0, 100.0, 50.0), &["veth or TAP", "guest B"]);
    picture.arrow(&[(140.0, 175.0), (180.0, 175.0)]);
    picture.both(&[(300.0, 175.0), (330.0, 175.0)]);
    picture.arrow(&[(240.0, 200.0), (240.0, 236.0), (670.0, 236.0), (670.0, 200.0)]);
    picture.centred(440.0, 256.0, "fast: decided already, no daemon on the way");
    picture.arrow(&[(240.0, 150.0), (240.0, 90.0), (290.0, 90.0), (290.0, 70.0)]);
    picture.label(130.0, 86.0, "slow: the rest");
    picture.arrow(&[(395.0, 70.0), (395.0, 146.0)]);
    picture.label(405.0, 94.0, "decisions");
    picture.arrow(&[(480.0, 70.0), (480.0, 90.0), (560.0, 90.0), (560.0, 175.0), (620.0, 175.0)]);
    picture
}

fn rings() -> Picture {
    let mut picture = Picture::new(
        760.0,
        280.0,
        "vhost-user rings",
        "The monitor hands the guest's memory to vmlan over a socket. Rings and buffers are in that memory. A worker \
         reads what the guest sends from one ring and writes what it gets into the other; kicks and calls tell that \
         there is something.",
    );
    picture.boxed(Area, (20.0, 20.0, 420.0, 244.0), &["memory of the guest, shared"]);
    picture.boxed(Guest, (40.0, 110.0, 110.0, 60.0), &["guest", "virtio-net"]);
    picture.boxed(Table, (220.0, 66.0, 180.0, 60.0), &["transmit ring", "buffers that it sends"]);
    picture.boxed(Table, (220.0, 166.0, 180.0, 60.0), &["receive ring", "buffers that it gave"]);
    picture.boxed(Own, (600.0, 110.0, 140.0, 60.0), &["worker", "copies a batch"]);
    picture.arrow(&[(150.0, 126.0), (220.0, 100.0)]);
    picture.arrow(&[(220.0, 190.0), (150.0, 156.0)]);
    picture.arrow(&[(400.0, 96.0), (600.0, 126.0)]);
    picture.arrow(&[(600.0, 154.0), (400.0, 196.0)]);
    picture.label(520.0, 92.0, "kick: there is something");
    picture.label(520.0, 200.0, "call: it is done");
    picture.boxed(Own, (560.0, 222.0, 180.0, 42.0), &["connection", "maps, starts rings"]);
    picture.boxed(Guest, (600.0, 20.0, 140.0, 42.0), &["monitor", "QEMU and others"]);
    picture.arrow(&[(740.0, 41.0), (750.0, 41.0), (750.0, 243.0), (740.0, 243.0)]);
    picture
}

fn workers() -> Picture {
    let mut picture = Picture::new(
        760.0,
        270.0,
        "Control and workers",
        "The control thread has the configuration, the control socket and a task for each port. It sends commands to \
         workers, which move all frames of their ports, each with its own buffers and counters. Workers share the \
         table of ports and the FDB, and read them without a lock.",
    );
    picture.boxed(
        Own,
        (20.0, 30.0, 200.0, 96.0),
        &["control", "configuration, interface,", "a task for each port"],
    );
    for (index, y) in [30.0, 84.0].into_iter().enumerate() {
        picture.boxed(Own, (370.0, y, 170.0, 42.0), &[&format!("worker {index}"), "buffers, queues"]);
        picture.boxed(Guest, (620.0, y, 120.0, 42.0), &["its ports", "take turns"]);
        picture.both(&[(540.0, y + 21.0), (620.0, y + 21.0)]);
    }
    picture.arrow(&[(220.0, 51.0), (370.0, 51.0)]);
    picture.centred(295.0, 42.0, "commands");
    picture.arrow(&[(370.0, 105.0), (220.0, 105.0)]);
    picture.centred(295.0, 96.0, "faults");
    picture.boxed(Table, (250.0, 196.0, 290.0, 54.0), &["ports and FDB", "read without a lock"]);
    picture.arrow(&[(120.0, 126.0), (120.0, 223.0), (250.0, 223.0)]);
    picture.label(132.0, 180.0, "replaces");
    picture.arrow(&[(455.0, 196.0), (455.0, 126.0)]);
    picture.label(467.0, 166.0, "every worker reads");
    picture
}

fn restart() -> Picture {
    let mut picture = Picture::new(
        760.0,
        270.0,
        "A restart",
        "What the daemon finds again when it starts: the configuration file, leases and names of an uplink, \
         positions of packed rings, tables of the kernel's fast way after a kill. What it makes anew: sockets, TAPs, \
         the forwarding database and the flows of an uplink.",
    );
    picture.boxed(Own, (14.0, 100.0, 126.0, 54.0), &["daemon", "ends or is killed"]);
    picture.boxed(Own, (620.0, 100.0, 120.0, 54.0), &["daemon", "starts"]);
    picture.boxed(Area, (180.0, 16.0, 400.0, 112.0), &["kept"]);
    picture.boxed(Table, (196.0, 46.0, 180.0, 34.0), &["configuration file"]);
    picture.boxed(Table, (196.0, 88.0, 180.0, 34.0), &["leases and names"]);
    picture.boxed(Table, (386.0, 46.0, 180.0, 34.0), &["packed rings"]);
    picture.boxed(Table, (386.0, 88.0, 180.0, 34.0), &["fast way, if killed"]);
    picture.boxed(Area, (180.0, 142.0, 400.0, 112.0), &["made anew"]);
    picture.boxed(Host, (196.0, 172.0, 180.0, 34.0), &["sockets, TAPs"]);
    picture.boxed(Host, (196.0, 214.0, 180.0, 34.0), &["learnt addresses"]);
    picture.boxed(Host, (386.0, 172.0, 180.0, 34.0), &["uplink's flows"]);
    picture.boxed(Host, (386.0, 214.0, 180.0, 34.0), &["counters"]);
    picture.arrow(&[(140.0, 120.0), (180.0, 90.0)]);
    picture.arrow(&[(580.0, 90.0), (620.0, 120.0)]);
    picture.arrow(&[(580.0, 176.0), (620.0, 144.0)]);
    picture
}
