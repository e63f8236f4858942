use std::sync::Arc;

use vmlan_bpf::ValidProgram;
use vmlan_frame::{Context, Direction, DropReason, Frame};
use vmlan_link::Tap;

use super::Options;
use super::queue::{Queue, Record};
use vmlan_ports::on_wire;

/// The tap of a capture on one port's link.
pub(super) struct PortTap {
    queue: Arc<Queue>,
    interface: u32,
    epoch: u64,
    /// Octets to copy.
    snaplen: u32,
    drops: bool,
    /// True if frames to the guest are captured too.
    both: bool,
    filter: Option<Arc<ValidProgram>>,
}

impl PortTap {
    /// `epoch`: nanoseconds from 1970 to the origin of the workers' clock.
    pub(super) fn new(queue: Arc<Queue>, interface: u32, epoch: u64, options: &Options) -> PortTap {
        // A filter that comes later is to see the whole frame.
        let snaplen = if options.late_filter().is_some() { u32::MAX } else { options.snaplen };
        let (drops, both, filter) = (options.drops, options.both, options.early_filter().cloned());
        PortTap { queue, interface, epoch, snaplen, drops, both, filter }
    }

    fn record(&self, cx: &Context<'_>, direction: Direction, frame: &Frame, dropped: Option<DropReason>) {
        if self.queue.is_over() {
            return;
        }
        on_wire(frame, |head, rest| {
            let wanted = match &self.filter {
                None => self.snaplen,
                Some(filter) => filter.run_split(head, rest).min(self.snaplen),
            };
            if wanted == 0 {
                return;
            }
            let record = Record {
                interface: self.interface,
                inbound: direction == Direction::Ingress,
                time: self.epoch.saturating_add(cx.now.as_nanos()),
                // Frames are far shorter than 4 GiB.
                length: frame.wire_len() as u32,
                dropped,
            };
            self.queue.push(record, [head, rest], usize::try_from(wanted).unwrap_or(usize::MAX));
        });
    }
}

impl Tap for PortTap {
    fn frame(&self, cx: &Context<'_>, direction: Direction, frame: &Frame) {
        if !self.drops && (self.both || direction == Direction::Ingress) {
            self.record(cx, direction, frame, None);
        }
    }

    fn dropped(&self, cx: &Context<'_>, frame: &Frame, reason: DropReason) {
        // What nobody was there to hear is no drop for people.
        if self.drops && reason != DropReason::NoReceiver {
            self.record(cx, reason.direction(), frame, Some(reason));
        }
    }
}
