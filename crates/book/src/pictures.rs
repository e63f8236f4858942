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
        290.0,
        "VLANs",
        "Ports web and db are access ports of VLAN 10, port test is one of VLAN 20: their guests see no tags. The \
         port router has VLANs 10 and 20 with tags and VLAN 1, its native one, without. Frames stay in their VLAN.",
    );
    picture.boxed(Area, (280.0, 20.0, 210.0, 250.0), &["network lab"]);
    for (y, height, name) in [(56.0, 90.0, "VLAN 10"), (160.0, 40.0, "VLAN 20"), (214.0, 40.0, "VLAN 1")] {
        picture.boxed(Own, (310.0, y, 150.0, height), &[name]);
    }
    for (y, name, access) in
        [(60.0, "web", "access = 10"), (106.0, "db", "access = 10"), (162.0, "test", "access = 20")]
    {
        picture.boxed(Guest, (20.0, y, 90.0, 36.0), &[name]);
        picture.both(&[(110.0, y + 18.0), (310.0, y + 18.0)]);
        picture.centred(195.0, y + 11.0, access);
    }
    picture.boxed(Guest, (612.0, 56.0, 132.0, 198.0), &["router", "tagged = [10, 20]", "native = 1"]);
    for (y, frames) in [(101.0, "with tag 10"), (180.0, "with tag 20"), (234.0, "no tag")] {
        picture.both(&[(460.0, y), (612.0, y)]);
        picture.centred(551.0, y - 7.0, frames);
    }
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
    picture.arrow(&[(530.0, 164.0), (620.0, 164.0)]);
    picture.centred(585.0, 158.0, "flows");
    picture.arrow(&[(620.0, 200.0), (530.0, 200.0)]);
    picture.centred(585.0, 194.0, "forwards");
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
    picture.label(570.0, 96.0, "slow: sent by a worker");
    picture
}

fn rings() -> Picture {
    let mut picture = Picture::new(
        760.0,
        376.0,
        "vhost-user rings",
        "Rings and buffers are in the guest's memory. A worker reads what the guest sends from one ring and writes \
         what it gets into the other. A kick by the guest tells the worker that there is something, a call by the \
         worker tells the guest. The monitor hands memory, kicks and calls over a socket to the connection, which \
         maps the memory and starts the rings at the worker.",
    );
    picture.boxed(Guest, (20.0, 160.0, 100.0, 60.0), &["guest", "virtio-net"]);
    picture.boxed(Area, (150.0, 100.0, 250.0, 180.0), &["memory of the guest, shared"]);
    picture.boxed(Table, (170.0, 132.0, 210.0, 56.0), &["transmit ring", "buffers that it sends"]);
    picture.boxed(Table, (170.0, 208.0, 210.0, 56.0), &["receive ring", "buffers that it gave"]);
    picture.boxed(Own, (560.0, 160.0, 150.0, 60.0), &["worker", "copies a batch"]);
    picture.arrow(&[(120.0, 178.0), (170.0, 162.0)]);
    picture.arrow(&[(170.0, 230.0), (120.0, 204.0)]);
    picture.arrow(&[(380.0, 160.0), (560.0, 178.0)]);
    picture.arrow(&[(560.0, 202.0), (380.0, 232.0)]);
    picture.arrow(&[(50.0, 160.0), (50.0, 30.0), (670.0, 30.0), (670.0, 160.0)]);
    picture.centred(360.0, 46.0, "kick: there is something");
    picture.arrow(&[(600.0, 160.0), (600.0, 66.0), (90.0, 66.0), (90.0, 160.0)]);
    picture.centred(360.0, 82.0, "call: it is done");
    picture.boxed(Guest, (20.0, 312.0, 130.0, 48.0), &["monitor", "QEMU and others"]);
    picture.boxed(Own, (430.0, 312.0, 180.0, 48.0), &["connection", "one for each port"]);
    picture.arrow(&[(150.0, 336.0), (430.0, 336.0)]);
    picture.centred(288.0, 328.0, "memory, kicks and calls");
    picture.arrow(&[(460.0, 312.0), (460.0, 258.0), (400.0, 258.0)]);
    picture.label(468.0, 290.0, "maps");
    picture.arrow(&[(584.0, 312.0), (584.0, 220.0)]);
    picture.label(592.0, 270.0, "starts rings");
    picture
}

fn workers() -> Picture {
    let mut picture = Picture::new(
        760.0,
        286.0,
        "Control and workers",
        "The control thread has the configuration, the control socket and a task for each port. It sends commands to \
         every worker and hears of faults from each. Workers move all frames of their ports, each with its own \
         buffers and counters. They share the table of ports and the FDB, and read them without a lock.",
    );
    picture.boxed(
        Own,
        (20.0, 44.0, 200.0, 98.0),
        &["control", "configuration, interface,", "a task for each port"],
    );
    picture.boxed(Area, (354.0, 14.0, 202.0, 142.0), &["workers"]);
    for (index, y) in [44.0, 100.0].into_iter().enumerate() {
        picture.boxed(Own, (370.0, y, 170.0, 42.0), &[&format!("worker {index}"), "buffers, queues"]);
        picture.boxed(Guest, (620.0, y, 120.0, 42.0), &["its ports", "take turns"]);
        picture.both(&[(540.0, y + 21.0), (620.0, y + 21.0)]);
        picture.both(&[(220.0, y + 21.0), (370.0, y + 21.0)]);
    }
    picture.centred(286.0, 89.0, "commands to each,");
    picture.centred(286.0, 106.0, "faults from each");
    picture.boxed(Table, (250.0, 212.0, 290.0, 54.0), &["ports and FDB", "read without a lock"]);
    picture.arrow(&[(120.0, 142.0), (120.0, 239.0), (250.0, 239.0)]);
    picture.label(132.0, 196.0, "replaces");
    picture.arrow(&[(455.0, 212.0), (455.0, 156.0)]);
    picture.label(467.0, 188.0, "every worker reads");
    picture
}

fn restart() -> Picture {
    let mut picture = Picture::new(
        760.0,
        334.0,
        "A restart",
        "What the daemon finds again when it starts: the configuration file, leases and names of an uplink, \
         positions of packed rings, persistent TAPs, and after a kill the kernel's fast way with its addresses and \
         counters. What it makes anew: sockets, other TAPs, learnt addresses, the flows of an uplink and other \
         counters.",
    );
    picture.boxed(Own, (14.0, 130.0, 126.0, 54.0), &["daemon", "ends or is killed"]);
    picture.boxed(Own, (620.0, 130.0, 120.0, 54.0), &["daemon", "starts"]);
    picture.boxed(Area, (180.0, 16.0, 400.0, 172.0), &["kept"]);
    picture.boxed(Table, (196.0, 44.0, 180.0, 40.0), &["configuration file"]);
    picture.boxed(Table, (384.0, 44.0, 180.0, 40.0), &["leases, names", "of an uplink"]);
    picture.boxed(Table, (196.0, 91.0, 180.0, 40.0), &["packed rings", "their positions"]);
    picture.boxed(Table, (384.0, 91.0, 180.0, 40.0), &["persistent TAPs"]);
    picture.boxed(
        Table,
        (196.0, 138.0, 368.0, 40.0),
        &["the kernel's fast way, after a kill", "with its addresses and counters"],
    );
    picture.boxed(Area, (180.0, 202.0, 400.0, 116.0), &["made anew"]);
    picture.boxed(Host, (196.0, 230.0, 180.0, 36.0), &["sockets, other TAPs"]);
    picture.boxed(Host, (196.0, 274.0, 180.0, 36.0), &["learnt addresses"]);
    picture.boxed(Host, (384.0, 230.0, 180.0, 36.0), &["uplink's flows"]);
    picture.boxed(Host, (384.0, 274.0, 180.0, 36.0), &["other counters"]);
    picture.arrow(&[(140.0, 142.0), (180.0, 104.0)]);
    picture.arrow(&[(580.0, 104.0), (620.0, 142.0)]);
    picture.arrow(&[(660.0, 184.0), (660.0, 260.0), (580.0, 260.0)]);
    picture
}
