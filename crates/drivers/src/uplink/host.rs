//! The sockets that the engine works with.

use std::sync::Arc;

use vmlan_frame::Context;
use vmlan_nat::Io;
use vmlan_sys::Poller;

use super::datagrams::HostDatagrams;
use super::streams::{HostStreams, StreamTaker};

pub(super) struct Host {
    pub(super) streams: HostStreams,
    pub(super) datagrams: HostDatagrams,
}

impl Host {
    /// No sockets yet. There may be `sockets` for streams, and as many for datagrams as there are `slots`.
    pub(super) fn new(
        poller: &Arc<Poller>,
        (sockets, slots): (usize, usize),
        seed: u16,
        names: StreamTaker,
    ) -> Host {
        Host {
            streams: HostStreams::new(poller.clone(), sockets, names),
            datagrams: HostDatagrams::new(poller.clone(), slots, seed),
        }
    }

    /// Everything that a call of the engine needs.
    pub(super) fn io<'a>(&'a mut self, cx: &Context<'a>) -> Io<'a, HostStreams, HostDatagrams> {
        Io { streams: &mut self.streams, datagrams: &mut self.datagrams, now: cx.now, pool: cx.pool }
    }
}
