//! The way out of a tunnel.

use std::sync::Arc;

use vmlan_frame::{Backlog, Batch, Counters, DropReason, ETHERNET_HEADER, Entry, Tally};

use super::medium::Medium;
use super::record::HEADER;
use crate::queue::chunk;
use crate::{Fault, Settings};

/// Octets by which a frame is longer than the record with the same packet.
const LONGER: usize = ETHERNET_HEADER - HEADER;

/// Where records go: to the medium, or to a bounded backlog until it takes them. Counts on the port and on the link.
pub(super) struct Outlet {
    medium: Medium,
    backlog: Backlog,
    link: Arc<Counters>,
    port: Arc<Counters>,
    worker: usize,
    /// Records that may wait now.
    limit: usize,
    fault: Option<Fault>,
}

impl Outlet {
    pub(super) fn new(medium: Medium, link: Arc<Counters>, settings: &Settings) -> Outlet {
        Outlet {
            medium,
            backlog: settings.backlog(),
            link,
            port: settings.account.counters().clone(),
            worker: settings.worker,
            limit: 1,
            fault: None,
        }
    }

    pub(super) fn medium(&self) -> &Medium {
        &self.medium
    }

    /// Records that wait.
    pub(super) fn waiting(&self) -> usize {
        self.backlog.len()
    }

    /// Why the medium is of no more use, told once.
    pub(super) fn result(&mut self) -> Result<(), Fault> {
        match self.fault.take() {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    /// Sends what waited, as far as the medium takes it, a batch of it at most. From now on at most `limit` records may
    /// wait.
    pub(super) fn flush(&mut self, limit: usize) {
        self.limit = limit.max(1);
        let mut most = Batch::LIMIT;
        while self.fault.is_none() && most > 0 && !self.backlog.is_empty() {
            let through = {
                let (chunk, count) = chunk(self.backlog.iter().take(most));
                self.send_chunk(&chunk[..count])
            };
            match through {
                Ok((through, full)) => {
                    self.backlog.pop(through);
                    most -= through;
                    if full {
                        return;
                    }
                }
                Err(fault) => self.fail(fault),
            }
        }
    }

    /// Sends `batch` behind what waits, and leaves it empty.
    pub(super) fn send(&mut self, batch: &mut Batch) {
        while self.fault.is_none() && self.backlog.is_empty() && !batch.is_empty() {
            let through = {
                let entries = batch.iter().map(|frame| Entry { octets: frame.octets(), meta: frame.meta });
                let (chunk, count) = chunk(entries);
                self.send_chunk(&chunk[..count])
            };
            match through {
                Ok((through, full)) => {
                    batch.drain_front(through);
                    if full {
                        break;
                    }
                }
                Err(fault) => self.fail(fault),
            }
        }
        if self.fault.is_some() {
            self.dropped(DropReason::NoPeer, batch.len());
        } else {
            let (backlog, limit) = (&mut self.backlog, self.limit);
            let refused = batch.iter().filter(|frame| !backlog.push_within(frame, limit)).count();
            self.dropped(DropReason::QueueFull, refused);
        }
        batch.clear();
    }

    /// How many records are done with, and whether the medium is full.
    fn send_chunk(&self, chunk: &[Entry<'_>]) -> Result<(usize, bool), Fault> {
        let sent = self.medium.send(chunk)?;
        let mut tally = Tally::default();
        chunk[..sent.taken].iter().for_each(|entry| tally.add_parts(entry.octets, &entry.meta));
        // The first octet of a record is no address.
        tally.multicasts = 0;
        self.link.sent(self.worker, &tally);
        // The port counts frames.
        tally.octets += tally.frames * LONGER as u64;
        tally.classes.iter_mut().for_each(|[frames, octets]| *octets += *frames * LONGER as u64);
        self.port.sent(self.worker, &tally);
        if let Some(reason) = sent.refused {
            self.link.tx_errors(self.worker, 1);
            self.dropped(reason, 1);
        }
        Ok((sent.taken + usize::from(sent.refused.is_some()), sent.full))
    }

    /// There is nobody to send to any more.
    fn fail(&mut self, fault: Fault) {
        let waiting = self.backlog.clear();
        self.dropped(DropReason::NoPeer, waiting);
        self.fault = Some(fault);
    }

    /// Counts records: they are no frames of the port's, to be shown there.
    fn dropped(&self, reason: DropReason, count: usize) {
        self.link.dropped_unseen(self.worker, reason, count as u64);
        self.port.dropped_unseen(self.worker, reason, count as u64);
    }
}

impl Drop for Outlet {
    /// Counts the records that still wait as dropped: a tunnel that ends has no peer for them.
    fn drop(&mut self) {
        let waiting = self.backlog.clear();
        self.dropped(DropReason::NoPeer, waiting);
    }
}
