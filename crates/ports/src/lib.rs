#![forbid(unsafe_code)]
//! The ports of networks: what they are attached to, of each kind, and how they are kept attached.
//!
//! A [`Kind`] checks its table of a configuration and says who keeps a port attached ([`Keeper`]); nothing outside its
//! own module asks which kind it is. A keeper works with a [`Seat`], which is the port in every layer, or for ports
//! whose clients become ports of their own with [`Clients`]. Both come from the [`Fabric`], which has the data plane
//! and the [`Directory`] of all ports. Trunks are kept by modes of their own, behind one trait as well.

mod accept;
mod belongings;
mod check;
mod clients;
pub mod connection;
mod datagram;
mod directory;
mod emitter;
mod fabric;
mod filter;
mod guests;
#[cfg(any(not(target_os = "linux"), feature = "netlink", test))]
mod hold;
mod interface;
mod kind;
mod links;
pub mod lock;
pub mod panics;
mod peers;
mod seat;
mod settings;
mod stable;
mod state;
mod stream;
pub mod swept;
mod tap;
mod task;
pub mod throttle;
mod trunk;
mod trunks;
mod tunnel;
pub mod uplink;
mod uplinks;
pub mod users;
mod vde;
mod vhost_user;
mod wire;

#[cfg(target_os = "linux")]
#[path = "linux/addresses.rs"]
mod addresses;
#[cfg(all(target_os = "linux", feature = "netlink"))]
#[path = "linux/apart.rs"]
mod apart;
#[cfg(all(target_os = "linux", feature = "netlink"))]
#[path = "linux/device.rs"]
mod device;
#[cfg(target_os = "linux")]
#[path = "linux/follow.rs"]
mod follow;
#[cfg(target_os = "linux")]
#[path = "linux/home.rs"]
mod home;
#[cfg(all(target_os = "linux", feature = "netlink"))]
#[path = "linux/hooks.rs"]
mod hooks;
#[cfg(all(target_os = "linux", feature = "netlink"))]
#[path = "linux/interface_lock.rs"]
mod interface_lock;
#[cfg(all(target_os = "linux", feature = "netlink"))]
#[path = "linux/kernel/mod.rs"]
mod kernel;
#[cfg(all(target_os = "linux", feature = "netlink"))]
#[path = "linux/leftovers.rs"]
pub mod leftovers;
#[cfg(all(target_os = "linux", feature = "netlink"))]
#[path = "linux/move.rs"]
mod move_in;
#[cfg(all(target_os = "linux", not(feature = "netlink")))]
mod without;
#[cfg(all(target_os = "linux", not(feature = "netlink")))]
pub use without::leftovers;
#[cfg(all(target_os = "linux", not(feature = "netlink")))]
use without::move_in;
#[cfg(any(target_os = "macos", test))]
mod macos;
#[cfg(target_os = "macos")]
pub use macos::leftovers;

pub use belongings::Belonging;
pub use check::{Address, Allow, Validator, as_usize, join, misunderstood, resolve_port, shown};
pub use clients::Clients;
pub use directory::{Directory, Member, Place, PortLink, Row, Unrest};
pub use emitter::{EVENT_QUEUE, Emitter};
pub use fabric::{Fabric, JoinError, Joining, port_policy, vlan_role};
pub use filter::Rules;
pub use kind::{Attachment, HandOver, Hindrance, KeepClients, KeepGuest, Keeper, Kind, Surroundings, Work};
pub use links::follow as follow_links;
pub use seat::{Ready, Seat, Strangers};
pub use settings::{
    FilterRule, FilterSource, Mtu, PortSettings, TRUNK, Trunk, TrunkInterface, UPLINK, UserLimits, Vlan,
};
pub use state::StateDirectory;
pub use task::{Ends, run, run_clients};
pub use trunk::{run as run_trunk, too_long};
pub use trunks::{TrunkRow, TrunkWish, Trunks};
pub use uplinks::{Later, Running, UplinkControl, UplinkPort, Uplinks};
pub use vmlan_dataplane::Effort;
pub use wire::on_wire;

pub use datagram::Datagram;
pub use interface::{Interface, Peer, Source as InterfaceSource, controlled};
pub use stream::Stream;
pub use tap::{Tap, TapSource};
pub use tunnel::{Tunnel, TunnelAddresses, TunnelSource};
pub use vde::Vde;
pub use vhost_user::{VhostUser, VhostUserSource};

use kind::Entry;
use task::{Look, Pause, describe, is_absent, recover, report_end, reserved_name};

/// The kinds that there are.
pub(crate) const KINDS: [Entry; 7] = [
    tap::ENTRY,
    stream::ENTRY,
    datagram::ENTRY,
    vde::ENTRY,
    tunnel::ENTRY,
    interface::ENTRY,
    vhost_user::ENTRY,
];
