use testbed::Netns;

use crate::world::{INTERFACE, World};

/// The work that a kernel can leave to the other end: segmentation, reassembly, checksums.
const OFFLOADS: [&str; 5] = ["tso", "gso", "gro", "tx", "rx"];

/// Which of the namespaces' own offloads are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The offloads of the interfaces.
    AsTheyCome,
    /// A sends every packet by itself and complete; B takes what it is given.
    SenderPlain,
    /// Neither has any.
    Plain,
}

impl Ends {
    /// Sets the interfaces of `world` up so.
    ///
    /// # Panics
    /// When ethtool fails.
    pub fn prepare(self, world: &World) {
        let plain: &[&Netns] = match self {
            Ends::AsTheyCome => &[],
            Ends::SenderPlain => &[&world.a.netns],
            Ends::Plain => &[&world.a.netns, &world.b.netns],
        };
        for netns in plain {
            switch_off(netns, INTERFACE);
        }
    }
}

/// Switches all offloads of an interface off that it has.
///
/// # Panics
/// When ethtool fails.
pub fn switch_off(netns: &Netns, interface: &str) {
    for offload in OFFLOADS {
        // One that an interface does not have is off already, whatever ethtool says to it.
        netns.exec("ethtool", ["-K", interface, offload, "off"]);
    }
    let shown = netns.exec("ethtool", ["-k", interface]).expect_success().stdout;
    for feature in ["tcp-segmentation-offload: on", "tx-checksumming: on"] {
        assert!(!shown.contains(feature), "{interface}: ethtool cannot switch it off: {feature}");
    }
}
