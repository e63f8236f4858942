use std::sync::Arc;

use frame::{Direction, Frame};
use link::{Context, Tap};

use super::queue::{Queue, Record};

/// Octets of the two addresses, after which the tag stands.
const ADDRESSES: usize = 12;

/// The tap of a capture on one port's link.
pub(super) struct PortTap {
    queue: Arc<Queue>,
    interface: u32,
    epoch: u64,
}

impl PortTap {
    /// `epoch`: nanoseconds from 1970 to the origin of the workers' clock.
    pub(super) fn new(queue: Arc<Queue>, interface: u32, epoch: u64) -> PortTap {
        PortTap { queue, interface, epoch }
    }
}

impl Tap for PortTap {
    fn frame(&self, cx: &Context<'_>, direction: Direction, frame: &Frame) {
        let record = Record {
            interface: self.interface,
            inbound: direction == Direction::Ingress,
            time: self.epoch.saturating_add(cx.now.as_nanos()),
            // Frames are far shorter than 4 GiB.
            length: frame.wire_len() as u32,
        };
        let octets = frame.octets();
        match frame.meta.tag {
            None => self.queue.push(record, [octets, &[], &[]]),
            Some(tag) => {
                let (addresses, rest) = octets.split_at(octets.len().min(ADDRESSES));
                self.queue.push(record, [addresses, &tag.octets(), rest]);
            }
        }
    }
}
