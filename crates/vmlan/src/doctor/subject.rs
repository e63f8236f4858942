//! The things that doctor looks at, each with what it is good for and what helps where it is not well.

use serde::{Serialize, Serializer};

/// Declares them once, with their names and explanations, of which docs/findings.md and `vmlan explain` are made.
macro_rules! subjects {
    ($($variant:ident, $name:literal, $meaning:literal, $remedy:literal;)+) => {
        /// A thing that doctor looks at.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Subject { $(#[doc = $meaning] $variant,)+ }

        impl Subject {
            /// All of them, of every system.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The thing that is looked at, and what depends on it.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }

            /// The remedy where it is not well.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)+ }
            }
        }
    };
}

subjects! {
    User, "user",
        "The user that runs this, as whom the other findings hold.",
        "Nothing: run it as the user that runs the daemon.";
    NetAdmin, "net_admin",
        "The right CAP_NET_ADMIN, by which TAP devices and trunks are made (Linux).",
        "Run vmlan as root, or have root make a persistent TAP that your user owns.";
    Tun, "dev_net_tun",
        "The device `/dev/net/tun`, by which TAP devices and tunnels with a device are made (Linux).",
        "Load it with `modprobe tun`; pass it to a container with `--device /dev/net/tun`.";
    Tap, "tap",
        "TAP ports, which macOS does not have.",
        "Attach guests by `stream`, `datagram` or `vde`.";
    Namespaces, "namespaces",
        "Network namespaces can be made, which tests and the demo's TAP guest need (Linux).",
        "Run it as root, or raise `user.max_user_namespaces`; vmlan itself goes without.";
    Trunk, "trunk",
        "The modes of trunks that this process may use on this machine; docs/trunk.md has each.",
        "Give the daemon the rights that the hint names, or run it as root.";
    MaxDgramQlen, "max_dgram_qlen",
        "Datagrams that a Unix socket queues (Linux): with few, datagram guests lose bursts.",
        "Raise it with the `sysctl -w` line of the hint.";
    RmemMax, "rmem_max",
        "Largest receive buffer that a socket may ask for (Linux): datagram ports and trunks in mode `packet` ask for more.",
        "Raise it with the `sysctl -w` line of the hint.";
    WmemMax, "wmem_max",
        "Largest send buffer that a socket may ask for (Linux): datagram ports ask for more.",
        "Raise it with the `sysctl -w` line of the hint.";
    InterfacePorts, "interface_ports",
        "The kernel takes the tables and programs of interface ports (Linux).",
        "They need CAP_NET_ADMIN and CAP_BPF, and Linux 5.15; use `tap`, `stream` or `datagram` else.";
    VhostUser, "vhost_user",
        "Limits that vhost-user ports come up against: descriptors, mappings and asynchronous requests (Linux).",
        "Raise those that the hint names, with its lines.";
    PingSockets, "ping_sockets",
        "Sockets by which an uplink sends guests' echo requests (Linux).",
        "Put vmlan's group into `net.ipv4.ping_group_range`, by the line of the hint; all but ping works without.";
    Nft, "nft",
        "The program nft, which `mode = \"kernel\"` of an uplink loads its rules with (Linux).",
        "Install nftables, or use `mode = \"user\"`.";
    Kinds, "kinds",
        "The kinds of ports that work here for this user.",
        "Nothing: what a kind that is not listed lacks is another finding.";
    Leftovers, "leftovers",
        "What a killed vmlan left on interfaces of this host.",
        "Start vmlan, which takes it over, or remove it with `vmlan doctor --clean`; docs/restart.md#trunks says what is what.";
    Sockets, "sockets",
        "Sockets beside the control socket that no process holds any more.",
        "Start vmlan, whose ports replace theirs; remove the rest with `rm`.";
    Descriptors, "descriptors",
        "Descriptors that a process of this user may have open: a port takes a few.",
        "Raise the hard limit (`LimitNOFILE=` of a service), or run `ulimit -n` before.";
    Resolver, "resolver",
        "Servers in `/etc/resolv.conf`, which an uplink asks for guests' names.",
        "Name a server there, or set `dns.servers` of the uplink.";
    ControlSocket, "control_socket",
        "A daemon answers at the control socket, or can be started there.",
        "Run this as the daemon's user or as root, name its socket with `--control`, or start it with `vmlan run`.";
    Metrics, "metrics",
        "The TCP address for metrics that the running daemon was told to serve.",
        "Free the address, or choose another in `[daemon] metrics`; it is tried again by itself.";
    WebPage, "web_page",
        "The TCP address of the web page that the running daemon was told to serve.",
        "Free the address, or choose another in `[daemon] ui`; it is tried again by itself.";
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
