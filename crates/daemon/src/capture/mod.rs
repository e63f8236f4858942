//! Captures: what passes the links of ports, as a pcapng file.
//!
//! Theory of operation. Every captured link has a `tap` that copies the first octets of each frame into a bounded
//! `queue`, which all workers share, unless a filter does not want the frame. A thread of the capture's own takes all
//! that is there at once and writes it (`pcapng`). A filter of more instructions than `LIGHT` would cost the workers
//! more than the copy: it is run by that thread, on frames that were copied whole. The queue's lock is held to copy one
//! frame or to exchange two buffers, never over a system call or an allocation, so the file can be as slow as it wants:
//! a frame that finds no room in the queue is counted as lost, and the traffic goes on. When the file cannot be written
//! at all, the rest is counted as lost too.
//!
//! A frame is in the file once, where it came in: it passes the links of two ports or more, and programs that read the
//! file would take the second copy for a retransmission. A port that is named shows both directions, for what comes to
//! it came in elsewhere; so does every port where `both` is asked for. What is dropped is in the file where it is
//! dropped.
//!
//! Links can join at any time: whoever wants the ports of a network that are still to come follows the events
//! (`follow`). A port that left and came back is the same interface in the file, so the file has no more interfaces
//! than there were names.
//!
//! A capture is over when it has as many frames as were wanted or is stopped. Then every link gets the count of its
//! frames, and the file is whole. A link without a capture pays nothing: whether it has taps is among the flags that it
//! reads once a batch.

mod follow;
mod pcapng;
mod queue;
mod selection;
mod tap;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use vmlan_bpf::ValidProgram;
use vmlan_link::{Link, TapId};

pub use self::follow::{attach_all, follow};
use self::pcapng::Seen;
use self::queue::{Chunk, Queue, Tally};
pub use self::selection::{BadSelection, Selection};
use self::tap::PortTap;
use crate::handle::PortLink;

/// Instructions of the longest filter that workers run. Each is run at most once for a frame, so that takes about as
/// long as copying one.
const LIGHT: usize = 64;

/// The settings of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Octets kept of each frame, from its destination address on, the tag included.
    pub snaplen: u32,
    /// The capture is over after so many frames; never without a number.
    pub frames: Option<u64>,
    /// Octets of frames that may wait for the file. Memory for twice as many is asked for.
    pub queue: usize,
    /// Only frames that were dropped, with the reason, instead of those that pass: what the link layer drops, and what
    /// the network does with received frames. Drivers and queues count what they drop and show it to nobody.
    pub drops: bool,
    /// Every port in both directions, so that a frame is there once for each port that it passes.
    pub both: bool,
    /// Only frames for which the program answers more than 0, which is also how many of their octets are kept.
    pub filter: Option<Arc<ValidProgram>>,
}

impl Options {
    /// The filter that workers run.
    fn early_filter(&self) -> Option<&Arc<ValidProgram>> {
        self.filter.as_ref().filter(|filter| filter.instructions().len() <= LIGHT)
    }

    /// The filter that the capture's thread runs.
    fn late_filter(&self) -> Option<&Arc<ValidProgram>> {
        self.filter.as_ref().filter(|filter| filter.instructions().len() > LIGHT)
    }
}

impl Default for Options {
    fn default() -> Self {
        Options { snaplen: 65_535, frames: None, queue: 4 << 20, drops: false, both: false, filter: None }
    }
}

/// The result of a capture.
#[derive(Debug, Default)]
pub struct Report {
    /// Frames written.
    pub frames: u64,
    /// Frames that should have been written and were not: no room in the queue, or an error of the file. With a long
    /// filter, what found no room is counted here although nobody knows whether the filter would have wanted it.
    pub lost: u64,
    /// Why the file could not be written to its end.
    pub error: Option<io::Error>,
}

/// A capture under way. Dropping it ends it as [`Capture::stop`] does.
#[derive(Debug)]
pub struct Capture {
    queue: Arc<Queue>,
    /// Nanoseconds from the epoch to the origin of the monotonic clock.
    epoch: u64,
    options: Options,
    /// By the name in the file.
    ports: BTreeMap<String, Captured>,
    writer: Option<JoinHandle<Report>>,
}

/// A port that is captured, or was.
#[derive(Debug)]
struct Captured {
    interface: u32,
    tap: Option<(Link, TapId)>,
}

impl Capture {
    /// Starts a capture of nothing yet, written to `output`.
    ///
    /// # Errors
    /// When no thread can be made, or the file's first block cannot be written.
    pub fn start(output: impl Write + Send + 'static, options: Options) -> io::Result<Capture> {
        let queue = Arc::new(Queue::new(&options));
        // The thread writes in large pieces, and whenever it has nothing else to do.
        let file = pcapng::Writer::new(BufWriter::with_capacity(64 << 10, output), options.snaplen)?;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let epoch = u64::try_from(wall).unwrap_or(u64::MAX).saturating_sub(vmlan_sys::monotonic_nanos());
        let source = queue.clone();
        let filter = options.late_filter().map(|filter| (filter.clone(), options.snaplen));
        let run = move || {
            // A filter that is too much work for a worker is too much to have the worker wait for this thread.
            if filter.is_some() {
                vmlan_sys::priority::idle()
            } else {
                vmlan_sys::priority::behind()
            }
            write(&source, file, filter.as_ref())
        };
        let writer = thread::Builder::new().name("capture".into()).spawn(run)?;
        Ok(Capture { queue, epoch, options, ports: BTreeMap::new(), writer: Some(writer) })
    }

    /// Captures what comes in at a port's link as well, or all that passes it where the options say so. The file calls
    /// it `network/port`, and knows it by that name when it left and came back. A link that is captured already stays
    /// as it is.
    ///
    /// # Errors
    /// When the port left its network, or its driver refuses.
    pub fn attach(&mut self, port: &PortLink) -> Result<(), vmlan_link::Error> {
        self.attach_ways(port, self.options.both)
    }

    /// As [`Capture::attach`], but for all that passes the link.
    ///
    /// # Errors
    /// Those of [`Capture::attach`].
    pub fn attach_both(&mut self, port: &PortLink) -> Result<(), vmlan_link::Error> {
        self.attach_ways(port, true)
    }

    fn attach_ways(&mut self, port: &PortLink, both: bool) -> Result<(), vmlan_link::Error> {
        let name = format!("{}/{}", port.network, port.port);
        let captured = self.ports.entry(name).or_insert_with_key(|name| Captured {
            interface: self.queue.add_interface(name.clone()),
            tap: None,
        });
        let is_same = |link: &Link| link.index() == port.link.index() && link.is_attached();
        if captured.tap.as_ref().is_some_and(|(link, _)| is_same(link)) {
            return Ok(());
        }
        let options = Options { both, ..self.options.clone() };
        let tap = PortTap::new(self.queue.clone(), captured.interface, self.epoch, &options);
        let tap = port.link.attach_tap(Arc::new(tap))?;
        // What had this name before has left, and took its tap along.
        captured.tap = Some((port.link.clone(), tap));
        Ok(())
    }

    /// Takes the taps away, writes what waits, and tells what became of it.
    pub fn stop(mut self) -> Report {
        self.end()
    }

    /// As [`Capture::stop`], for a file that nobody reads: what waits is neither filtered nor written.
    pub fn abandon(self) -> Report {
        self.queue.abandon();
        self.stop()
    }

    fn end(&mut self) -> Report {
        for (link, tap) in self.ports.values_mut().filter_map(|captured| captured.tap.take()) {
            // Fails when the link is detached, which takes its taps away.
            let _ = link.detach_tap(tap);
        }
        self.queue.end();
        let report = match self.writer.take() {
            Some(writer) => writer.join().unwrap_or_else(|payload| Report {
                error: Some(io::Error::other(vmlan_ports::panics::message(&*payload))),
                ..Report::default()
            }),
            None => Report::default(),
        };
        self.queue.free();
        report
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread of a capture. `filter` is what it runs itself, with how many octets are kept at most.
fn write<W: Write>(
    queue: &Queue,
    mut file: pcapng::Writer<W>,
    filter: Option<&(Arc<ValidProgram>, u32)>,
) -> Report {
    let mut chunk = Chunk::default();
    let filtered = queue.is_filtered();
    let mut frames = 0;
    let mut interfaces = 0;
    // Whoever reads along learns that it has begun.
    let mut result = file.flush();
    loop {
        let taken = queue.take(&mut chunk);
        let has_all = filter.is_some_and(|(filter, snaplen)| {
            queue.filter(&mut chunk, |octets| filter.run(octets).min(*snaplen) as usize)
        });
        let count = chunk.records().len() as u64;
        if queue.is_abandoned() {
            queue.count_lost(count);
            break;
        }
        if result.is_ok() {
            result = write_chunk(&mut file, &taken.new_interfaces, &chunk);
            interfaces += taken.new_interfaces.len();
        }
        // Nobody knows how much of a chunk is in the file when that fails; whatever comes later is not.
        match result {
            Ok(()) => frames += count,
            Err(_) => queue.count_lost(count),
        }
        if taken.is_last || has_all {
            break;
        }
    }
    let tallies = queue.tallies();
    if result.is_ok() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seen = |tally: &Tally| if filtered { Seen::Accepted(tally.seen) } else { Seen::All(tally.seen) };
        result = (0..interfaces as u32)
            .zip(&tallies.interfaces)
            .try_for_each(|(interface, tally)| file.statistics(interface, now, seen(tally), tally.lost))
            .and_then(|()| file.flush());
    }
    Report { frames, lost: tallies.lost, error: result.err() }
}

/// Writes what was taken.
fn write_chunk<W: Write>(
    file: &mut pcapng::Writer<W>,
    new_interfaces: &[String],
    chunk: &Chunk,
) -> io::Result<()> {
    for name in new_interfaces {
        file.interface(name)?;
    }
    for (record, octets) in chunk.records() {
        file.frame(record, octets)?;
    }
    // Whoever reads along sees it now.
    file.flush()
}
