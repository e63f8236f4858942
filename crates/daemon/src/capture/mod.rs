//! Captures: what passes the links of ports, as a pcapng file.
//!
//! Theory of operation. Every captured link has a `tap` that copies the first octets of each frame into a bounded
//! `queue`, which all workers share. A thread of the capture's own takes all that is there at once and writes it
//! (`pcapng`). The queue's lock is held to copy one frame or to exchange two buffers, never over a system call or an
//! allocation, so the file can be as slow as it wants: a frame that finds no room in the queue is counted as lost, and
//! the traffic goes on. When the file cannot be written at all, the rest is counted as lost too.
//!
//! A capture is over when it has as many frames as were wanted or is stopped. Then every link gets the count of its
//! frames, and the file is whole. A link without a capture pays nothing: whether it has taps is among the flags that it
//! reads once a batch.

mod pcapng;
mod queue;
mod tap;

#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use link::{Link, TapId};

use self::queue::{Chunk, Queue};
use self::tap::PortTap;
use crate::handle::PortLink;

/// What is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Octets kept of each frame, from its destination address on, the tag included.
    pub snaplen: u32,
    /// The capture is over after so many frames; never without a number.
    pub frames: Option<u64>,
    /// Octets of frames that may wait for the file. Memory for twice as many is asked for.
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { snaplen: 65_535, frames: None, queue: 4 << 20 }
    }
}

/// What became of a capture.
#[derive(Debug, Default)]
pub struct Report {
    /// Frames written.
    pub frames: u64,
    /// Frames that should have been written and were not: no room in the queue, or an error of the file.
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
    taps: Vec<(Link, TapId)>,
    writer: Option<JoinHandle<Report>>,
}

impl Capture {
    /// Starts a capture of nothing yet, written to `output`.
    ///
    /// # Errors
    /// When no thread can be made, or the file's first block cannot be written.
    pub fn start(output: impl Write + Send + 'static, options: Options) -> io::Result<Capture> {
        let queue = Arc::new(Queue::new(options));
        // The thread writes in large pieces, and whenever it has nothing else to do.
        let file = pcapng::Writer::new(BufWriter::with_capacity(64 << 10, output), options.snaplen)?;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let epoch = u64::try_from(wall).unwrap_or(u64::MAX).saturating_sub(sys::monotonic_nanos());
        let source = queue.clone();
        let writer = thread::Builder::new().name("capture".into()).spawn(move || write(&source, file))?;
        Ok(Capture { queue, epoch, taps: Vec::new(), writer: Some(writer) })
    }

    /// Captures what passes a port's link as well. The file calls it `network/port`.
    ///
    /// # Errors
    /// When the port left its network, or its driver refuses.
    pub fn attach(&mut self, port: &PortLink) -> Result<(), link::Error> {
        let interface = self.queue.add_interface(format!("{}/{}", port.network, port.port));
        let tap = PortTap::new(self.queue.clone(), interface, self.epoch);
        let id = port.link.attach_tap(Arc::new(tap))?;
        self.taps.push((port.link.clone(), id));
        Ok(())
    }

    /// Takes the taps away, writes what waits, and tells what became of it.
    pub fn stop(mut self) -> Report {
        self.end()
    }

    fn end(&mut self) -> Report {
        for (link, id) in self.taps.drain(..) {
            // Fails when the link is detached, which takes its taps away.
            let _ = link.detach_tap(id);
        }
        self.queue.end();
        match self.writer.take() {
            Some(writer) => writer.join().expect("the writer does not panic"),
            None => Report::default(),
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread of a capture.
fn write<W: Write>(queue: &Queue, mut file: pcapng::Writer<W>) -> Report {
    let mut chunk = Chunk::default();
    let mut frames = 0;
    let mut interfaces = 0;
    let mut result = Ok(());
    loop {
        let taken = queue.take(&mut chunk);
        let count = chunk.records().len() as u64;
        if result.is_ok() {
            result = write_chunk(&mut file, &taken.new_interfaces, &chunk);
            interfaces += taken.new_interfaces.len();
        }
        // Nobody knows how much of a chunk is in the file when that fails; whatever comes later is not.
        match result {
            Ok(()) => frames += count,
            Err(_) => queue.count_lost(count),
        }
        if taken.is_last {
            break;
        }
    }
    let tallies = queue.tallies();
    if result.is_ok() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        result = (0..interfaces as u32)
            .zip(&tallies.interfaces)
            .try_for_each(|(interface, tally)| file.statistics(interface, now, tally.seen, tally.lost))
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
