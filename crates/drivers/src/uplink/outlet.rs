//! The way out by a device, and the frames that are on their way to it.

use std::io;
use std::os::fd::BorrowedFd;

use vmlan_frame::{Batch, Context, Frame, Takes};

use crate::{Endpoint, Fault, Queue, Settings};

/// The number of the device's descriptor in an uplink's queue.
pub(super) const NUMBER: usize = 1;

/// A device's queue, beside the engine.
pub(super) struct Outlet {
    queue: Box<dyn Queue>,
    /// Frames for the device; empty between calls.
    batch: Batch,
    /// The device has something.
    is_ready: bool,
}

impl Outlet {
    pub(super) fn new(device: &dyn Endpoint, settings: &Settings) -> io::Result<Outlet> {
        let queue = device.queue(settings.clone())?;
        Ok(Outlet { queue, batch: Batch::new(), is_ready: true })
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.queue.descriptor(0)
    }

    pub(super) fn is_ready(&mut self) {
        self.is_ready = true;
    }

    /// Takes frames for the network. The device counts what it refuses.
    pub(super) fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        if self.is_ready && batch.room() > 0 {
            self.is_ready = false;
            self.queue.receive(cx, batch)?;
        }
        Ok(())
    }

    /// Takes a frame for the device, which counts it when it is sent.
    pub(super) fn push(&mut self, cx: &Context<'_>, frame: Frame) -> Result<(), Fault> {
        self.batch.push(frame);
        if self.batch.room() == 0 { self.flush(cx) } else { Ok(()) }
    }

    /// Sends what was pushed.
    pub(super) fn flush(&mut self, cx: &Context<'_>) -> Result<(), Fault> {
        if self.batch.is_empty() { Ok(()) } else { self.queue.transmit(cx, &mut self.batch) }
    }

    /// The offloads of frames for the device.
    pub(super) fn takes(&self) -> Takes {
        self.queue.takes()
    }
}

/// The offloads that an uplink takes: all that its sockets do not mind, and with a device what that takes.
pub(super) fn takes(device: Option<&dyn Endpoint>, settings: &Settings) -> io::Result<Takes> {
    match device {
        // What a flow gets in a batch goes to its socket in one call anyway.
        None => Ok(Takes::ALL | Takes::APART),
        Some(device) => Ok(device.queue(settings.clone())?.takes()),
    }
}
