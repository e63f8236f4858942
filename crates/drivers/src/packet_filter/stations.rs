//! Whose frames pass the receive filter.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use vmlan_bpf::{Builder, ValidProgram, WHOLE_PACKET};
use vmlan_frame::{Batch, MacAddr, Mutex};
use vmlan_sys::darwin::number::BPF_MAXINSNS;

use super::SetFilter;

/// A set of addresses that fits a filter program of macOS, or everybody: what does not fit is not left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stations {
    /// Sorted, each once; of no meaning when `everybody`.
    macs: Vec<MacAddr>,
    everybody: bool,
}

impl Stations {
    /// The most addresses that are told apart. The program for fewer may be too long already: then it is everybody.
    pub const LIMIT: usize = 512;

    /// These stations; group addresses and zero are no station's and are left out.
    pub fn new(macs: impl IntoIterator<Item = MacAddr>) -> Stations {
        let mut macs: Vec<_> = macs.into_iter().filter(|mac| mac.is_station()).collect();
        macs.sort_unstable();
        macs.dedup();
        let everybody = macs.len() > Stations::LIMIT;
        Stations { macs: if everybody { Vec::new() } else { macs }, everybody }
    }

    /// Everybody.
    pub fn everybody() -> Stations {
        Stations { macs: Vec::new(), everybody: true }
    }

    /// True if frames to `mac`, a station's address, pass.
    pub fn contains(&self, mac: MacAddr) -> bool {
        self.everybody || self.macs.binary_search(&mac).is_ok()
    }

    /// The filter that lets pass frames to groups and to these stations.
    pub fn program(&self) -> ValidProgram {
        let fits = |program: &ValidProgram| program.instructions().len() <= BPF_MAXINSNS;
        let some = || vmlan_bpf::destinations(self.macs.iter().copied()).ok().filter(fits);
        if self.everybody { None } else { some() }.unwrap_or_else(everything)
    }

    /// These and `macs`.
    fn with(&self, macs: &[MacAddr]) -> Stations {
        if self.everybody {
            return self.clone();
        }
        Stations::new(self.macs.iter().chain(macs).copied())
    }
}

fn everything() -> ValidProgram {
    let mut builder = Builder::new();
    builder.answer(WHOLE_PACKET);
    builder.finish().expect("a return is a program")
}

/// The stations of a device, for all workers and control.
pub(super) struct Shared {
    stations: Mutex<Stations>,
    /// Counts the changes, so that a worker notices one with a load a batch.
    generation: AtomicU64,
    set_filter: SetFilter,
}

impl Shared {
    pub(super) fn new(stations: Stations, set_filter: SetFilter) -> Shared {
        // Not the generation of a worker that knows nothing yet.
        Shared { stations: Mutex::new(stations), generation: AtomicU64::new(1), set_filter }
    }

    pub(super) fn replace(&self, wanted: Stations) -> io::Result<()> {
        self.change(|_| wanted)
    }

    fn add(&self, macs: &[MacAddr]) -> io::Result<()> {
        self.change(|stations| stations.with(macs))
    }

    fn change(&self, wanted: impl FnOnce(&Stations) -> Stations) -> io::Result<()> {
        let mut stations = self.stations.lock();
        let wanted = wanted(&stations);
        if *stations != wanted {
            (self.set_filter)(&wanted.program())?;
            *stations = wanted;
            self.generation.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }
}

/// One worker's knowledge of the stations.
#[derive(Default)]
pub(super) struct Known {
    stations: Stations,
    generation: u64,
    /// The sender of the last frame, which is likely that of the next.
    last: MacAddr,
    /// Empty between calls; kept for its memory.
    new: Vec<MacAddr>,
}

impl Known {
    /// Adds the senders of `batch` to the stations; the filter is widened when this returns.
    ///
    /// At most once a batch, and no more after everybody passes: a sender of many addresses costs no more than that.
    pub(super) fn admit(&mut self, shared: &Shared, batch: &Batch) -> io::Result<()> {
        self.refresh(shared);
        for octets in batch.iter().map(|frame| frame.octets()) {
            let Some(source) = octets.get(6..12).map(MacAddr::from_slice) else { continue };
            if source == self.last {
                continue;
            }
            if source.is_station() && !self.stations.contains(source) {
                self.new.push(source);
            }
            self.last = source;
        }
        if self.new.is_empty() {
            return Ok(());
        }
        let result = shared.add(&self.new);
        self.new.clear();
        self.refresh(shared);
        result
    }

    fn refresh(&mut self, shared: &Shared) {
        let generation = shared.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.generation = generation;
            // It may be newer than the generation, which only makes for another look.
            self.stations = shared.stations.lock().clone();
            self.last = MacAddr::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(number: u64) -> MacAddr {
        MacAddr::from_u64(0x5254_0000_0000 | number << 8 | number & 0xff)
    }

    fn frame(destination: MacAddr) -> Vec<u8> {
        [&destination.0[..], &[2, 0, 0, 0, 0, 1, 8, 0]].concat()
    }

    #[test]
    fn groups_and_stations_pass() {
        let program = Stations::new([mac(1), mac(2)]).program();
        for good in [mac(1), mac(2), MacAddr::BROADCAST, MacAddr([0x33, 0x33, 0, 0, 0, 1])] {
            assert_eq!(program.run(&frame(good)), WHOLE_PACKET, "{good}");
        }
        // The address that the predecessor's filter took for broadcast.
        for other in [mac(3), MacAddr([0x52, 0x54, 0xff, 0xff, 0xff, 0xff]), MacAddr::ZERO] {
            assert_eq!(program.run(&frame(other)), 0, "{other}");
        }
        // And the one that lost it.
        let ends_in_ff = MacAddr([0x52, 0x54, 0xff, 0xff, 0xff, 0xff]);
        let program = Stations::new([ends_in_ff]).program();
        assert_eq!(program.run(&frame(MacAddr::BROADCAST)), WHOLE_PACKET);
        assert_eq!(program.run(&frame(ends_in_ff)), WHOLE_PACKET);
    }

    #[test]
    fn everybody_passes_and_nobody_is_added() {
        let everybody = Stations::everybody();
        assert_eq!(everybody.program().run(&frame(mac(1))), WHOLE_PACKET);
        assert_eq!(everybody.with(&[mac(1)]), everybody);
    }

    #[test]
    fn without_stations_groups_pass() {
        let program = Stations::default().program();
        assert_eq!(program.run(&frame(MacAddr::BROADCAST)), WHOLE_PACKET);
        assert_eq!(program.run(&frame(mac(1))), 0);
    }

    #[test]
    fn any_number_makes_a_program_that_the_kernel_takes() {
        for count in [0, 1, 64, 65, 100, 150, 200, 511, 512, 513, 5000] {
            let stations = Stations::new((0..count).map(mac));
            let program = stations.program();
            assert!(program.instructions().len() <= BPF_MAXINSNS, "{count}");
            (0..count).for_each(|i| assert_eq!(program.run(&frame(mac(i))), WHOLE_PACKET, "{i} of {count}"));
            (0..count).for_each(|i| assert!(stations.contains(mac(i))));
        }
        // A hundred are told from others still.
        assert_eq!(Stations::new((0..100).map(mac)).program().run(&frame(mac(100))), 0);
    }

    #[test]
    fn what_is_no_station_is_left_out() {
        assert_eq!(Stations::new([MacAddr::BROADCAST, MacAddr::ZERO]), Stations::default());
    }
}
